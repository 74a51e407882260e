//! Aligned columns for people. Whatever comes from a record is escaped: a label must not move the cursor or colour the
//! terminal.

use std::fmt::Write as _;

pub(super) use crate::escape::escape;

/// Between two columns.
const GAP: &str = "  ";
/// A longer cell pushes its row out instead of widening the column for all.
const WIDTH_MAX: usize = 48;

/// A table that is printed page by page, so that a listing of millions needs no memory. Columns only grow.
pub(super) struct Table {
    widths: Vec<usize>,
    header: Option<Vec<String>>,
}

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        let header: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
        Self { widths: vec![0; header.len()], header: Some(header) }
    }

    /// The lines of these rows, the first time under the header.
    pub(super) fn lines(&mut self, rows: Vec<Vec<String>>) -> String {
        let rows: Vec<Vec<String>> = self.header.take().into_iter().chain(rows).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(escape(cell).chars().count().min(WIDTH_MAX));
            }
        }
        let mut lines = String::new();
        for row in &rows {
            let cells: Vec<String> = self
                .widths
                .iter()
                .zip(row)
                .map(|(width, cell)| format!("{:width$}", escape(cell), width = *width))
                .collect();
            lines.push_str(cells.join(GAP).trim_end());
            lines.push('\n');
        }
        lines
    }
}

/// One record: a name and a value a line.
pub(super) fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut lines = String::new();
    for (name, value) in rows {
        writeln!(lines, "{name:width$}{GAP}{}", escape(value)).expect("a String takes any text");
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_record_reaches_the_terminal_as_a_command() {
        for (text, shown) in [
            ("plain", "plain"),
            ("Zoë Ångström 日本", "Zoë Ångström 日本"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\0\u{7f}\u{9b}", "\\u{0}\\u{7f}\\u{9b}"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("\u{200b}\u{feff}\u{2028}", "\\u{200b}\\u{feff}\\u{2028}"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }

    #[test]
    fn columns_are_aligned_by_what_is_shown() {
        let mut table = Table::new(&["ID", "LABEL", "STATE"]);
        let first = table.lines(vec![row(&["1", "a\u{1b}", "enabled"]), row(&["200", "Zoë", "revoked"])]);
        assert_eq!(first, "ID   LABEL    STATE\n1    a\\u{1b}  enabled\n200  Zoë      revoked\n");
        assert_eq!(table.lines(vec![row(&["3", "", ""])]), "3\n");
    }

    #[test]
    fn one_endless_cell_does_not_widen_its_column_for_all() {
        let lines = Table::new(&["A", "B"]).lines(vec![row(&[&"x".repeat(500), "y"]), row(&["x", "y"])]);
        assert!(lines.lines().last().unwrap().len() < 60);
    }

    #[test]
    fn pairs_are_aligned_and_escaped() {
        assert_eq!(pairs(&[("id", "1".into()), ("label", "a\nb".into())]), "id     1\nlabel  a\\nb\n");
    }

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }
}
