//! Rulesets as transactions, and transactions read as if they came from the kernel.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "each user has a use for some of them, and what fails here is a finding"
)]

use std::time::Duration;

use dfw::kernel::{Batch, Builder, FinishedBatch};
use dfw::netlink::message::{Malformed, Messages};
use dfw::nftables::object;
use dfw::plan::{self, Installed};
use dfw::ruleset::Ruleset;

/// The transaction that puts a ruleset in the place of whatever is there.
pub(crate) fn replacing(
    ruleset: &Ruleset,
    stamp: &str,
    generation: impl Into<Option<u32>>,
) -> FinishedBatch {
    let mut batch = Batch::new(generation).at(Duration::ZERO);
    for operation in &plan::replace(ruleset, 0).main {
        batch.operation(operation, stamp);
    }
    batch.finish().unwrap()
}

/// What the messages of a transaction make.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Installed>, Malformed> {
    let mut builder = Builder::at(Duration::ZERO);
    for message in Messages::new(bytes) {
        if let Some(object) = object::decode(&message?)? {
            builder.add(object)?;
        }
    }
    builder.to_be_read(|_| true);
    Ok(builder.finish().0)
}
