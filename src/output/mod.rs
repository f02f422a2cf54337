//! What people and programs get to see: text, colour, JSON.

pub mod diagnostic;
pub mod github;
pub mod json;
pub mod progress;
pub mod table;
pub mod terminal;
