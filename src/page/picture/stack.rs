//! Where lanes are, one below the other, with a heading over those of each standing.

use crate::page::audit::Standing;

use super::canvas::{Canvas, HEADING};
use super::lane::Lane;

/// The height of a box, and from one to the next.
pub(super) const HEIGHT: i32 = 38;
pub(super) const PITCH: i32 = 44;
/// The height of a heading.
const HEADED: i32 = 34;

/// The places of lanes.
pub(super) struct Stack {
    /// The upper edge of each lane.
    pub(super) tops: Vec<i32>,
    /// Where the last one ends.
    pub(super) bottom: i32,
    headings: Vec<(Standing, i32)>,
}

impl Stack {
    /// Returns the places of lanes, whose heights are given by their number.
    pub(super) fn of(lanes: &[Lane], top: i32, height: impl Fn(usize) -> i32) -> Self {
        let mut stack = Self {
            tops: Vec::new(),
            bottom: top,
            headings: Vec::new(),
        };
        for (n, lane) in lanes.iter().enumerate() {
            if stack
                .headings
                .last()
                .is_none_or(|(last, _)| *last != lane.standing)
            {
                stack.headings.push((lane.standing, stack.bottom + 20));
                stack.bottom += HEADED;
            }
            stack.tops.push(stack.bottom);
            stack.bottom += height(n);
        }
        stack
    }

    /// Draws the headings.
    pub(super) fn head(&self, canvas: &mut Canvas, width: i32) {
        for (standing, y) in &self.headings {
            let (sign, title) = (standing.sign(), standing.title());
            let text = format!("{sign} {title}: {}", standing.meaning());
            canvas.text(HEADING, *standing, (0, *y), width, &text);
        }
    }
}

/// Returns groups of consecutive lanes that are alike, as the first and the number.
pub(super) fn runs(
    lanes: &[Lane],
    alike: impl Fn(&Lane, &Lane) -> bool,
) -> impl Iterator<Item = (usize, usize)> {
    lanes.chunk_by(alike).scan(0, |next, run| {
        let first = *next;
        *next += run.len();
        Some((first, run.len()))
    })
}
