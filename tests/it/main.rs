//! Tests of dfw as a whole.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here is a failed test; clippy exempts the test functions only"
)]

#[path = "../support/arbitrary.rs"]
mod arbitrary;
mod architecture;
mod bundle;
mod changed;
mod cli;
mod codec;
mod diagnostics;
mod difference;
mod docs;
#[path = "../support/documented.rs"]
mod documented;
mod early;
#[path = "../support/encoded.rs"]
mod encoded;
mod engines;
mod explain;
mod fetched;
mod files;
mod fuzz;
#[path = "../support/fuzzed.rs"]
mod fuzzed;
mod generated;
mod golden;
mod import;
mod import_model;
#[path = "../support/iptables/mod.rs"]
mod iptables;
mod json;
mod loss;
mod meaning;
mod networks;
#[path = "../support/pages.rs"]
mod page_fixtures;
mod pages;
mod partition;
mod proofs;
#[path = "../support/property.rs"]
#[expect(dead_code, reason = "the tests with a kernel use the rest")]
mod property;
#[path = "../support/reference/mod.rs"]
mod reference;
mod refused;
mod review;
mod schema;
#[path = "../support/sign.rs"]
mod sign;
#[path = "../support/size.rs"]
mod size;
mod terminal_behaviour;
mod tidy;
mod untrusted_text;
mod words;
