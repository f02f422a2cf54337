//! Tests of dfw as a whole.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here is a failed test; clippy exempts the test functions only"
)]

#[path = "../support/arbitrary.rs"]
mod arbitrary;
mod cli;
mod codec;
mod diagnostics;
mod docs;
mod engines;
mod fuzz;
#[path = "../support/fuzzed.rs"]
mod fuzzed;
mod generated;
mod golden;
mod import;
mod manners;
mod meaning;
mod no_harm;
#[path = "../support/reference/mod.rs"]
mod reference;
mod schema;
mod tidy;
