//! Finds the unchanged rules of two chains.

use std::ops::Range;

use crate::ruleset::Rule;

/// The most pairs of rules that are compared with each other. Beyond it, chains of more than a thousand rules
/// are treated as changed from the first difference to the last.
const PAIRS: usize = 1 << 20;

/// Finds rules of two chains with the same expressions, in the order of both: as many as possible, and among
/// those, as many with the same comment.
#[must_use]
pub fn align(old: &[Rule], new: &[Rule]) -> Vec<(usize, usize)> {
    let front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[front..], &new[front..]);
    let behind = old_rest
        .iter()
        .rev()
        .zip(new_rest.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (old_end, new_end) = (old.len() - behind, new.len() - behind);
    let mut pairs: Vec<_> = (0..front).map(|at| (at, at)).collect();
    pairs.extend(middle(old, front..old_end, new, front..new_end));
    pairs.extend((0..behind).map(|at| (old_end + at, new_end + at)));
    pairs
}

/// Returns the longest common subsequence of two parts.
fn middle(
    old: &[Rule],
    old_part: Range<usize>,
    new: &[Rule],
    new_part: Range<usize>,
) -> Vec<(usize, usize)> {
    let (rows, columns) = (old_part.len(), new_part.len());
    if rows == 0 || columns == 0 || rows.saturating_mul(columns) > PAIRS {
        return Vec::new();
    }
    let worth = |row: usize, column: usize| -> u32 {
        let (a, b) = (&old[old_part.start + row], &new[new_part.start + column]);
        match (a.expressions == b.expressions, a.comment == b.comment) {
            (true, true) => 4097,
            (true, false) => 4096,
            (false, _) => 0,
        }
    };
    // What the rest from here on is worth.
    let width = columns + 1;
    let mut best = vec![0_u32; (rows + 1) * width];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            let at = row * width + column;
            let skip = best[at + 1].max(best[at + width]);
            let take = match worth(row, column) {
                0 => 0,
                worth => worth + best[at + width + 1],
            };
            best[at] = skip.max(take);
        }
    }
    let mut pairs = Vec::new();
    let (mut row, mut column) = (0, 0);
    while row < rows && column < columns {
        let at = row * width + column;
        if best[at] == best[at + width] {
            row += 1;
        } else if best[at] == best[at + 1] {
            column += 1;
        } else {
            pairs.push((old_part.start + row, new_part.start + column));
            (row, column) = (row + 1, column + 1);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Expression, Statement};
    use proptest::prelude::*;

    fn rules(text: &str) -> Vec<Rule> {
        let prefix = |c: char| {
            Expression::Statement(Statement::Log {
                prefix: c.to_lowercase().to_string(),
                group: None,
            })
        };
        // A capital letter stands for the same rule with another comment.
        let rule = |c: char| Rule::new(vec![prefix(c)], c.is_uppercase().then(|| "a".to_owned()));
        text.chars().map(rule).collect()
    }

    #[test]
    fn what_stays_is_found_around_what_changes() {
        for (old, new, pairs) in [
            ("abc", "abc", vec![(0, 0), (1, 1), (2, 2)]),
            ("abc", "axbc", vec![(0, 0), (1, 2), (2, 3)]),
            ("abcd", "ad", vec![(0, 0), (3, 1)]),
            ("ab", "ba", vec![(1, 0)]),
            ("abc", "aBc", vec![(0, 0), (1, 1), (2, 2)]),
            ("Aa", "a", vec![(1, 0)]),
            ("", "abc", vec![]),
        ] {
            assert_eq!(align(&rules(old), &rules(new)), pairs, "{old} {new}");
        }
    }

    proptest! {
        #[test]
        fn pairs_ascend_and_are_equal(old in "[a-cA-C]{0,12}", new in "[a-cA-C]{0,12}") {
            let (old, new) = (rules(&old), rules(&new));
            let pairs = align(&old, &new);
            prop_assert!(pairs.iter().all(|(a, b)| old[*a].expressions == new[*b].expressions));
            prop_assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
        }
    }
}
