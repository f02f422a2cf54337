//! YAML to trees with places, and what every noun of the language needs to read one.

mod colon;
mod reader;
mod schema;
mod syntax;

pub(super) use reader::{Reader, is_missing};
pub(super) use schema::{members, one_or_many};
pub(super) use syntax::{Member, Node, Tree, Value, parse};
