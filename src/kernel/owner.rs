//! Ownership of dfw's table.
//!
//! Since Linux 6.9 a table can be owned by the netlink socket that created it and persist when that socket is
//! closed: other processes can neither change nor flush it, and a new process can take over an orphaned table
//! as it is.

use crate::nftables::object::{self, Object, TableObject, is_inet};
use crate::nftables::request;
use crate::ruleset::TABLE;

use super::attempts::reads;
use super::{Batch, Error, Kernel, Outcome};

/// `NFT_TABLE_F_OWNER` and `NFT_TABLE_F_PERSIST` of `linux/netfilter/nf_tables.h`.
const OWNER: u32 = 2;
const PERSIST: u32 = 4;

/// The result of claiming ownership of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// This kernel has no persistent table ownership.
    Unknown,
    /// There is no table; one that this connection creates will be owned.
    Nothing,
    /// This connection owns the table and its contents.
    Ours,
    /// The table was created without an owner and cannot get one: it must be replaced. One that is created with
    /// `PERSIST` alone could get an owner, but nft before 1.1 lists it in a form that nft cannot read.
    Plain,
}

impl Kernel {
    /// Claims ownership of the table for this connection: it takes over an orphaned table, and tables
    /// that it creates are owned.
    ///
    /// # Errors
    /// [`Error::Owned`](enum@Error) if another process owns it; for for others see
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
        for _ in reads() {
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
