//! The layout of the picture: clients on the left, the host in the middle, containers on the right.
//!
//! Every port has a lane of its own, so that no two lines cross. Neighbouring lanes share the box of the clients
//! and that of the container. Many ports are drawn as far as there is room, and the others of the same clients as
//! one lane.

mod canvas;
mod lane;
mod narrow;
mod stack;
mod wide;

use super::audit::{Audit, Standing};

use lane::lanes;

/// How wide a picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In three columns, for a window, paper, or a file.
    Wide,
    /// In one column, for a telephone.
    Narrow,
}

/// Shapes at their places, in pixels from the upper left corner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The width.
    pub width: i32,
    /// The height.
    pub height: i32,
    /// From the back to the front.
    pub shapes: Vec<Shape>,
}

/// A shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What it is of: a class of the style.
    pub class: &'static str,
    /// The standing that gives it its colour.
    pub standing: Option<Standing>,
    /// Its form and place.
    pub outline: Outline,
}

/// The form and place of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outline {
    /// A rectangle.
    Box(Area),
    /// A line of text, from its start on the baseline, or around it.
    Text {
        /// Its start, or its middle.
        x: i32,
        /// The baseline.
        y: i32,
        /// Whether `x` is its middle.
        is_centered: bool,
        /// The text, cut to the room there is.
        text: String,
        /// The whole text, if it was cut.
        whole: Option<String>,
    },
    /// Straight lines from point to point.
    Line(Vec<(i32, i32)>),
    /// An area within straight lines.
    Area(Vec<(i32, i32)>),
}

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// The left edge.
    pub x: i32,
    /// The upper edge.
    pub y: i32,
    /// The width.
    pub width: i32,
    /// The height.
    pub height: i32,
}

impl Area {
    fn right(self) -> i32 {
        self.x + self.width
    }

    fn bottom(self) -> i32 {
        self.y + self.height
    }

    fn middle(self) -> i32 {
        self.y + self.height / 2
    }
}

/// Lays the ports of an audit out.
#[must_use]
pub fn picture(audit: &Audit, form: Form) -> Picture {
    let lanes = lanes(&audit.ports);
    match form {
        Form::Wide => wide::picture(audit, &lanes),
        Form::Narrow => narrow::picture(audit, &lanes),
    }
}

/// What is said of the host.
fn caption(audit: &Audit) -> &'static str {
    if audit.is_filtered {
        "filtered by dfw"
    } else {
        "no rules of dfw in force"
    }
}

/// What is said where there is no lane.
const NOTHING: &str = "no published ports";
