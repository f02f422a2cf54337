//! Who owns dfw's table.
//!
//! Since Linux 6.9 a table can belong to the netlink socket that made it, and outlive it: others can
//! neither change nor flush it, and when the socket is gone, another may take it over as it is.

use crate::nftables::object::{self, Object, TableObject, is_inet};
use crate::nftables::request;
use crate::ruleset::TABLE;

use super::attempts::READS;
use super::{Batch, Error, Kernel, Outcome, attempts};

/// `NFT_TABLE_F_OWNER` and `NFT_TABLE_F_PERSIST` of `linux/netfilter/nf_tables.h`.
const OWNER: u32 = 2;
const PERSIST: u32 = 4;

/// What has become of a claim to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// This kernel knows no owners.
    Unknown,
    /// There is no table; whatever this connection makes will be its own.
    Nothing,
    /// The table is this connection's, with all that is in it.
    Ours,
    /// The table was made without an owner, and can have none: it must be replaced.
    Plain,
}

impl Kernel {
    /// Claims the table for this connection: from now on it makes tables that only it can change,
    /// and takes over one whose owner is gone.
    ///
    /// # Errors
    /// [`Error::Owned`](enum@Error) if it belongs to somebody else; others see
    /// [`Error`](enum@Error).
    pub fn claim(&self) -> Result<Claim, Error> {
        let flags = OWNER | PERSIST;
        let mut batch = Batch::new(None).with_flags(flags);
        batch.try_flags();
        match self.commit(&batch.finish()?) {
            Err(Error::Rejected(_)) => return Ok(Claim::Unknown),
            done => done?,
        };
        self.flags.set(flags);
        for _ in attempts(READS) {
            let generation = self.generation()?;
            let Some(table) = self.table()? else {
                return Ok(Claim::Nothing);
            };
            if table.flags & PERSIST == 0 {
                return Ok(Claim::Plain);
            }
            let mut batch = Batch::new(generation).with_flags(flags);
            batch.flag_table();
            if self.commit(&batch.finish()?)? == Outcome::Done {
                return Ok(Claim::Ours);
            }
        }
        Err(Error::Busy)
    }

    /// Returns the number of the socket that owns the table.
    pub(super) fn owner(&self) -> Option<u32> {
        self.table().ok()??.owner
    }

    /// Returns the table without what is in it.
    fn table(&self) -> Result<Option<TableObject>, Error> {
        let mut found = None;
        self.ask(&request::tables(), |message| {
            if let Some(Object::Table(table)) = object::decode(message)?
                && is_inet(table.family)
                && table.name == TABLE
            {
                found = Some(table);
            }
            Ok(())
        })?;
        Ok(found)
    }
}
