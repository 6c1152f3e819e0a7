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
        let header = self.header_line();
        header + &self.lines(&self.widths())
    }

    /// Without the line of headings.
    pub fn bare(&self) -> String {
        self.lines(&self.widths())
    }

    pub fn header_line(&self) -> String {
        padded(&self.header, &self.widths())
    }

    /// The rows in columns that are at least so wide, for tables that grow.
    pub fn lines(&self, widths: &[usize]) -> String {
        self.rows.iter().map(|row| padded(row, widths)).collect()
    }

    pub fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0usize; self.header.len()];
        for row in std::iter::once(&self.header).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

fn padded(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    format!("{}\n", cells.join(GAP).trim_end())
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
