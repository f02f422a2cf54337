//! What verbs tell people: changes, notices, failures, as text and as JSON.

pub(super) mod addresses;
pub(super) mod changes;
pub(super) mod difference;
pub(super) mod engines;
pub(super) mod failure;
pub(super) mod fetched;
pub(super) mod grants;
pub(super) mod limits;
pub(super) mod notice;
pub(super) mod preview;
pub(super) mod problems;
pub(super) mod site;
pub(super) mod stale;
pub(super) mod summary;
