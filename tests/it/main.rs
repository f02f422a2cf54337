//! Tests of dfw as a whole.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here is a failed test; clippy exempts the test functions only"
)]

mod cli;
mod diagnostics;
mod golden;
mod no_harm;
mod tidy;
