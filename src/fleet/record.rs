//! What is remembered of a roll-out and of the hosts, beside what they say.
//!
//! It is in the store, so that any `dfw fleet` goes on with a roll-out. It is not signed: who may write it may also
//! write the head, and it opens nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bundle::Digest;
use crate::bundle::word::Word;

/// The key below the prefix of the site.
pub const RECORD: &str = "record";
/// The most bytes: 10,000 hosts with the longest names fit.
const SIZE: usize = 1 << 20;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The generation that is rolled out.
    pub manifest: Option<Digest>,
    /// How many stages are open.
    pub open: u32,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// The hosts that were alive when the stage was opened: only they count.
    pub live: BTreeSet<Word>,
    /// When each host was seen last, in seconds since 1970.
    pub seen: BTreeMap<Word, u64>,
}

impl Record {
    /// Reads a record; an empty one if it cannot be read.
    #[must_use]
    pub fn read(bytes: Option<&[u8]>) -> Self {
        let bytes = bytes.filter(|bytes| bytes.len() <= SIZE);
        bytes
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
            .unwrap_or_default()
    }

    /// Returns the text. Hosts that were not seen for longest are forgotten if it gets too long.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut record = self.clone();
        loop {
            let bytes = serde_json::to_vec(&record).unwrap_or_default();
            if bytes.len() <= SIZE || record.seen.is_empty() {
                return bytes;
            }
            let mut times: Vec<u64> = record.seen.values().copied().collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or_default();
            record.seen.retain(|_, at| *at > middle);
        }
    }
}
