//! Finds who else uses the marks of connections.

use std::collections::BTreeSet;

use super::{Error, Kernel, ask};
use crate::netlink::socket::Socket;
use crate::nftables::foreign::{self, Foreign, Step};
use crate::nftables::object::family_name;
use crate::ruleset::TABLE;
use crate::untrusted::clean;

/// How many tables are named at most.
const TABLES: usize = 16;

impl Kernel {
    /// Returns the tables of other programs with a rule that changes the marks of connections (`ct mark set`,
    /// xtables' `CONNMARK`), as `FAMILY TABLE`, at most 16. Rules of iptables-legacy, whose tables are none of
    /// nf_tables', are not seen.
    ///
    /// # Errors
    /// `Error::Permission`, `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be
    /// read.
    pub fn marking_tables(&self) -> Result<Vec<String>, Error> {
        let mut tables = BTreeSet::new();
        let socket = Socket::netfilter()?;
        // An interrupted dump misses only what changed during it.
        let _ = ask(&socket, &foreign::all_rules(), |message| {
            // A rule that cannot be decoded has no mark that could be named.
            if let Ok(Some(Foreign::Rule((family, table, _), steps))) = foreign::decode(message)
                && !(family_name(family) == "inet" && table == TABLE)
                && tables.len() < TABLES
                && steps.iter().any(Step::uses_connection_mark)
            {
                tables.insert(format!("{} {}", family_name(family), clean(&table)));
            }
            Ok(())
        })?;
        Ok(tables.into_iter().collect())
    }
}
