//! What dfw prints: text for people, JSON for programs.

pub mod diagnostic;
