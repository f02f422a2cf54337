//! Aligned columns of text.

use std::fmt::Write;

/// Puts rows into columns two spaces apart; the last column is as wide as it is. Ends in a line
/// break unless there is no row.
#[must_use]
pub fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 == N { 0 } else { width(column) };
            let _ = write!(line, "  {cell:width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A number and its noun.
#[must_use]
pub fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {many}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let rows = [
            ["a".to_owned(), String::new()],
            ["long".to_owned(), "b".to_owned()],
        ];
        assert_eq!(align(&rows), "  a\n  long  b\n");
        assert_eq!(align::<2>(&[]), "");
    }
}
