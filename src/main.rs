//! The `dfw` program.

fn main() {}
