//! Shapes by what they are of.

use crate::page::audit::Standing;

use super::lane::Lane;
use super::{Area, Outline, Picture, Shape};

/// What is left free within a box, on either side.
pub(super) const INSET: i32 = 13;

/// Shapes as they are drawn, from the back to the front.
#[derive(Default)]
pub(super) struct Canvas {
    shapes: Vec<Shape>,
}

/// How text looks: a class of the style, and the size of its letters in pixels.
pub(super) type Look = (&'static str, i32);

pub(super) const CAPTION: Look = ("caption", 12);
pub(super) const HEADING: Look = ("heading", 13);
pub(super) const STRONG: Look = ("strong", 13);
pub(super) const NAME: Look = ("name", 13);
pub(super) const SMALL: Look = ("small", 12);

impl Canvas {
    /// Returns the picture.
    pub(super) fn finish(self, width: i32, height: i32) -> Picture {
        Picture {
            width,
            height,
            shapes: self.shapes,
        }
    }

    fn add(
        &mut self,
        class: &'static str,
        standing: impl Into<Option<Standing>>,
        outline: Outline,
    ) {
        self.shapes.push(Shape {
            class,
            standing: standing.into(),
            outline,
        });
    }

    pub(super) fn frame(
        &mut self,
        class: &'static str,
        standing: impl Into<Option<Standing>>,
        area: Area,
    ) {
        self.add(class, standing, Outline::Box(area));
    }

    pub(super) fn line(
        &mut self,
        class: &'static str,
        standing: impl Into<Option<Standing>>,
        points: &[(i32, i32)],
    ) {
        self.add(class, standing, Outline::Line(points.to_vec()));
    }

    /// Draws a line with a head at its last point, which is to the right of the one before.
    pub(super) fn arrow(&mut self, class: &'static str, standing: Standing, points: &[(i32, i32)]) {
        self.line(class, standing, points);
        if let Some((x, y)) = points.last() {
            let head = vec![(*x, *y), (x - 8, y - 5), (x - 8, y + 5)];
            self.add("head", standing, Outline::Area(head));
        }
    }

    /// Draws a text at a point, cut to a width.
    pub(super) fn text(
        &mut self,
        (class, size): Look,
        standing: impl Into<Option<Standing>>,
        (x, y): (i32, i32),
        width: i32,
        text: &str,
    ) {
        let (cut, whole) = fit(text, width, size);
        let outline = Outline::Text {
            x,
            y,
            is_centered: false,
            text: cut,
            whole,
        };
        self.add(class, standing, outline);
    }

    /// Draws a small text around a point, cut to a width.
    pub(super) fn label(&mut self, (x, y): (i32, i32), width: i32, text: &str) {
        let (class, size) = SMALL;
        let (text, whole) = fit(text, width, size);
        if !text.is_empty() {
            let outline = Outline::Text {
                x,
                y,
                is_centered: true,
                text,
                whole,
            };
            self.add(class, None, outline);
        }
    }

    /// Draws the box of the clients with access, and their number.
    pub(super) fn clients(&mut self, lane: &Lane, area: Area) {
        self.frame("box", lane.standing, area);
        let (x, width) = (area.x + INSET, area.width - 2 * INSET);
        let middle = area.middle();
        self.text(STRONG, lane.standing, (x, middle - 3), width, &lane.who);
        self.text(SMALL, None, (x, middle + 13), width, &lane.counts);
    }

    /// Draws the name within a box.
    pub(super) fn name(&mut self, area: Area, name: &str) {
        let (x, width) = (area.x + INSET, area.width - 2 * INSET);
        self.text(NAME, None, (x, area.middle() + 5), width, name);
    }

    /// Draws the end of a line that leads nowhere.
    pub(super) fn stop(&mut self, standing: Standing, (x, y): (i32, i32)) {
        self.line("stop", standing, &[(x, y - 9), (x, y + 9)]);
    }
}

/// Cuts a text to a width in pixels, as letters of that size take in every font that is likely; and the whole text
/// if it was cut.
pub(super) fn fit(text: &str, width: i32, size: i32) -> (String, Option<String>) {
    // In hundredths of the size. Letters of fixed width take 60, those of East Asia a square.
    let of = |character: char| match character {
        '\0'..='\u{10ff}' => 63,
        _ => 125,
    };
    let room = width * 100 / size;
    let mut end = 0;
    let mut taken = 0;
    for (at, character) in text.char_indices() {
        taken += of(character);
        if taken > room {
            let mut cut = text[..end].trim_end().to_owned();
            cut.push('…');
            return (cut, Some(text.to_owned()));
        }
        // Room for the ellipsis, which is as wide as a square.
        if taken + 100 <= room {
            end = at + character.len_utf8();
        }
    }
    (text.to_owned(), None)
}
