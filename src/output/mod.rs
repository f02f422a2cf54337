//! Output: text, colour, tables, JSON.

pub mod diagnostic;
pub mod github;
pub mod json;
pub mod progress;
pub mod table;
pub mod terminal;
