//! Requests about grants, and grants as they are listed and saved.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The schema of the answer to a request.
pub(super) const SCHEMA: &str = "dfw/grants/v1";

/// Returns the answer to a request.
pub(super) fn answer(grants: Result<Vec<Value>, String>) -> Value {
    match grants {
        Ok(grants) => json!({ "schema": SCHEMA, "grants": grants }),
        Err(why) => json!({ "schema": SCHEMA, "error": why }),
    }
}

/// A request about grants, from the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Gives a permission.
    Add {
        /// The sources: addresses, networks and ranges.
        from: Vec<String>,
        /// The ports, as a policy writes them.
        to: String,
        /// How long, in seconds.
        seconds: u64,
        /// Why, for the log and the list.
        #[serde(default)]
        reason: String,
    },
    /// Ends permissions: the one of a number, or all of an address or a network.
    Revoke(String),
    /// Lists permissions.
    List,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sender {
    /// The user.
    pub(super) uid: u32,
    /// The process.
    pub(super) pid: i32,
}

/// A grant, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Given {
    pub(super) id: u64,
    pub(super) from: String,
    pub(super) to: String,
    /// When it was given and when it ends, in milliseconds since 1970 (UTC).
    pub(super) made: i64,
    pub(super) until: i64,
    /// When it ends, in milliseconds since boot.
    pub(super) end: u64,
    /// The user that asked for it.
    pub(super) uid: u32,
    pub(super) reason: String,
}

/// The grants as they are saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// When, in milliseconds since 1970 (UTC).
    pub(super) at: i64,
    /// The boot, by the kernel's name for it.
    pub(super) boot: String,
    /// The number of the next grant.
    pub(super) next: u64,
    pub(super) grants: Vec<Given>,
}
