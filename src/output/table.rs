//! Aligned columns of text.

use std::fmt::Write;

/// The spaces between columns, and before the first.
const GAP: usize = 2;

/// The maximum height of a row in lines; taller rows show one cell below the other.
const TALLEST: usize = 3;

/// Aligns rows in columns two spaces apart. Ends in a line break unless there is no row.
///
/// Cells are folded between words if lines would be longer than `width`; if rows become too tall, or words
/// do not fit side by side, the other cells are printed below the first. Without a width, each row is one
/// line, for programs.
#[must_use]
pub fn align<const N: usize>(rows: &[[String; N]], width: Option<usize>) -> String {
    let column = |of: fn(&str) -> usize| -> [usize; N] {
        std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| of(&row[column]));
            cells.max().unwrap_or_default()
        })
    };
    let natural = column(columns);
    let Some(room) = width.map(|width| width.saturating_sub(GAP * N)) else {
        return beside(rows, natural);
    };
    let mut widths = natural;
    let longest_words = column(longest_word);
    while widths.iter().sum::<usize>() > room {
        let foldable = (0..N).filter(|&column| widths[column] > longest_words[column]);
        let Some(widest) = foldable.max_by_key(|&column| widths[column]) else {
            return below(rows, width.unwrap_or(usize::MAX));
        };
        widths[widest] -= 1;
    }
    let height = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        cells.map(|(cell, width)| fold(cell, width).len()).max()
    };
    if rows.iter().filter_map(height).max() > Some(TALLEST) {
        return below(rows, width.unwrap_or(usize::MAX));
    }
    beside(rows, widths)
}

/// Prints cells side by side, each folded to the width of its column.
fn beside<const N: usize>(rows: &[[String; N]], widths: [usize; N]) -> String {
    let mut text = String::new();
    for row in rows {
        let cells: [Vec<&str>; N] = std::array::from_fn(|n| fold(&row[n], widths[n]));
        let height = cells.iter().map(Vec::len).max().unwrap_or_default();
        for number in 0..height.max(1) {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                let part = cell.get(number).copied().unwrap_or_default();
                let fill = width.saturating_sub(columns(part));
                let _ = write!(line, "{:GAP$}{part}{:fill$}", "", "");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

/// Prints the first cell of each row on its own line, and the others indented below it.
fn below<const N: usize>(rows: &[[String; N]], width: usize) -> String {
    let mut text = String::new();
    for row in rows {
        let [first, others @ ..] = &row[..] else {
            continue;
        };
        let _ = writeln!(text, "{:GAP$}{first}", "");
        let others = others.iter().filter(|cell| !cell.is_empty());
        let others: Vec<&str> = others.map(String::as_str).collect();
        let indent = 2 * GAP;
        for part in fold(&others.join("  "), width.saturating_sub(indent)) {
            let _ = writeln!(text, "{:indent$}{part}", "");
        }
    }
    text
}

/// Splits a text between words into lines no wider than `width`; a longer word stays whole.
fn fold(text: &str, width: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut end) = (0, 0);
    for (at, _) in text.match_indices(' ').chain([(text.len(), "")]) {
        if columns(&text[start..at]) > width && end > start {
            pieces.push(text[start..end].trim_end());
            start = end + text[end..].len() - text[end..].trim_start().len();
        }
        end = at;
    }
    pieces.push(&text[start..]);
    pieces
}

fn longest_word(text: &str) -> usize {
    let indent = text.len() - text.trim_start().len();
    let words = text.split(' ').map(columns);
    // Leading spaces belong to the first word.
    let first = text.split_whitespace().next().map_or(0, columns);
    words.max().unwrap_or_default().max(indent + first)
}

/// Returns the width of a text in terminal columns.
fn columns(text: &str) -> usize {
    let visible = anstream::adapter::strip_str(text);
    visible.map(|piece| piece.chars().count()).sum()
}

/// Returns a number with its noun.
#[must_use]
pub fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {many}")
    }
}

/// Returns a number with commas.
#[must_use]
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const N: usize>(rows: &[[&str; N]]) -> Vec<[String; N]> {
        rows.iter().map(|row| row.map(str::to_owned)).collect()
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let rows = rows(&[["a", ""], ["long", "b"]]);
        assert_eq!(align(&rows, None), "  a\n  long  b\n");
        assert_eq!(align::<2>(&[], None), "");
    }

    #[test]
    fn colour_takes_no_room() {
        let rows = rows(&[["\u{1b}[1m+\u{1b}[0m 80", "b"], ["  …", "c"]]);
        let shown = align(&rows, None);
        assert_eq!(
            anstream::adapter::strip_str(&shown).to_string(),
            "  + 80  b\n    …   c\n"
        );
    }

    #[test]
    fn what_is_too_wide_is_folded_between_words() {
        let rows = rows(&[
            ["PORT", "WAY", "BY"],
            ["80/tcp", "DNAT (IPv4); docker-proxy (IPv6)", "no policy"],
        ]);
        let one_line = "  80/tcp  DNAT (IPv4); docker-proxy (IPv6)  no policy\n";
        assert!(align(&rows, None).ends_with(one_line));
        assert!(align(&rows, Some(53)).ends_with(one_line));
        let folded = "
  PORT    WAY                   BY
  80/tcp  DNAT (IPv4);          no policy
          docker-proxy (IPv6)
";
        assert_eq!(align(&rows, Some(41)), folded[1..]);
        let narrow = "
  PORT    WAY           BY
  80/tcp  DNAT (IPv4);  no
          docker-proxy  policy
          (IPv6)
";
        assert_eq!(align(&rows, Some(30)), narrow[1..]);
    }

    #[test]
    fn what_does_not_fit_side_by_side_stands_below() {
        let rows = rows(&[["172.17.0.2:80/tcp", "web", "", "no route at all"]]);
        assert_eq!(
            align(&rows, Some(20)),
            "  172.17.0.2:80/tcp\n    web  no route at\n    all\n"
        );
        for width in 0..60 {
            let words = |text: &str| -> Vec<String> {
                text.split_whitespace().map(str::to_owned).collect()
            };
            let shown = align(&rows, Some(width));
            assert_eq!(words(&shown), words(&align(&rows, None)), "{width}");
        }
    }
}
