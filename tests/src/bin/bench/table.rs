//! One measured figure, and the table of all.

use serde_json::{Value, json};

pub struct Row {
    /// Of the goals; `-`: none was set.
    pub goal: &'static str,
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    /// NaN: none.
    pub target: f64,
    /// What others reach, from published figures or measured on a machine of this size.
    pub anchor: &'static str,
}

impl Row {
    pub fn new(goal: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { goal, what: what.into(), value, unit, target: f64::NAN, anchor: "-" }
    }

    pub fn target(mut self, target: f64) -> Self {
        self.target = target;
        self
    }

    pub fn anchor(mut self, anchor: &'static str) -> Self {
        self.anchor = anchor;
        self
    }
}

pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

pub fn print_json(rows: &[Row]) {
    let number = |value: f64| if value.is_finite() { json!(value) } else { Value::Null };
    let row = |row: &Row| {
        json!({
            "goal": row.goal, "what": row.what, "value": number(row.value), "unit": row.unit,
            "target": number(row.target), "anchor": row.anchor,
        })
    };
    println!("{}", json!({"rows": rows.iter().map(row).collect::<Vec<Value>>()}));
}

pub fn print(rows: &[Row]) {
    println!("{:<5} {:<58} {:>11} {:<5} {:>8} {:>6}  anchor", "goal", "what", "measured", "", "goal", "ratio");
    for row in rows {
        let (target, ratio) = match row.target.is_nan() {
            true => ("-".to_owned(), "-".to_owned()),
            false => (figure(row.target), format!("{:.2}", row.value / row.target)),
        };
        let value = figure(row.value);
        println!("{:<5} {:<58} {value:>11} {:<5} {target:>8} {ratio:>6}  {}", row.goal, row.what, row.unit, row.anchor);
    }
}

fn figure(value: f64) -> String {
    if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
