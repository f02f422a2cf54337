//! Tests of dfw as a whole.

mod diagnostics;
