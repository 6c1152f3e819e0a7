//! Tables: columns padded with spaces, no lines, no colour, so that people and `awk` read the same thing.

/// Header and rows; every row has as many cells as the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

const GAP: &str = "   ";
/// Shown where a cell has nothing to say.
pub const NOTHING: &str = "-";

impl Table {
    pub fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(|cell| (*cell).to_owned()).collect(), rows: Vec::new() }
    }

    /// Missing cells are shown as nothing, surplus ones not at all.
    pub fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.header.len(), String::new());
        for cell in &mut cells {
            if cell.is_empty() {
                NOTHING.clone_into(cell);
            }
        }
        self.rows.push(cells);
    }

    pub fn text(&self) -> String {
        let mut widths = vec![0usize; self.header.len()];
        for row in std::iter::once(&self.header).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            out.push_str(padded.join(GAP).trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_space() {
        let mut table = Table::new(&["NAME", "STATE", "AGE"]);
        table.row(vec!["a-long-name".to_owned(), "Online".to_owned(), "3m".to_owned()]);
        table.row(vec!["b".to_owned(), String::new()]);
        let expected = "NAME          STATE    AGE\na-long-name   Online   3m\nb             -        -\n";
        assert_eq!(table.text(), expected);
    }
}
