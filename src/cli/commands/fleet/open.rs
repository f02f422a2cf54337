//! Opens a store for an administrator.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bundle::word::Word;
use crate::bundle::{Keys, Role};
use crate::cli::keys;
use crate::cli::report::failure::Failure;
use crate::etcd::Identity;
use crate::fetch::store;
use crate::file::{self, Accept, Limit};
use crate::fleet::Error;
use crate::fleet::keys::Signer;
use crate::fleet::push::Numbers;
use crate::fleet::site::Site;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::StoreArgs;

/// The most bytes of a record.
const SIZE: u64 = 64 << 10;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::plain(Diagnostic::error("fleet", error.to_string()))
    }
}

impl StoreArgs {
    /// Opens the store. What these signers sign is trusted, beside what the arguments say.
    pub(super) fn open(&self, signers: &[(&Signer, Role)]) -> Result<Site, Failure> {
        let failed = |slug, message: String| Failure::plain(Diagnostic::error(slug, message));
        if !self.store.is_etcd() {
            let message = "a fleet needs a store: `etcd://HOST,HOST,HOST/SITE`";
            return Err(failed("address", message.to_owned()));
        }
        let mut trusted = Keys::default();
        keys::add_or_default(&mut trusted, Role::Policy, &self.trusted_key)?;
        keys::add_or_default(&mut trusted, Role::Operations, &self.operations_key)?;
        for (signer, role) in signers {
            signer.trust(&mut trusted, *role)?;
        }
        let folder = self.tls.clone().unwrap_or_else(store::folder);
        let identity = Identity::read(&folder).map_err(Error::from)?;
        let endpoints = store::endpoints(&self.store).map_err(|error| failed("fleet", error))?;
        Ok(Site::new(&self.store, endpoints, identity, trusted)?)
    }
}

/// The last numbers that were pushed from this machine.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Own {
    generation: u64,
    serial: u64,
}

impl Own {
    /// Returns where the numbers are.
    pub(super) fn path(given: Option<&PathBuf>, site: &Word) -> PathBuf {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
        let usual = || {
            let folder = state.or_else(home).unwrap_or_else(|| "/var/lib".into());
            folder.join("dfw").join(format!("{site}.json"))
        };
        given.cloned().unwrap_or_else(usual)
    }

    /// Reads the numbers; zero if nothing was pushed from here.
    pub(super) fn read(path: &Path) -> Result<Numbers, Error> {
        let own: Self = match file::read(path, Accept::Regular, Limit::of(SIZE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| unusable(path, &error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(unusable(path, &error)),
        };
        let Self { generation, serial } = own;
        Ok(Numbers { generation, serial })
    }

    /// Writes the numbers, before they are used.
    pub(super) fn write(path: &Path, numbers: Numbers) -> Result<(), Error> {
        let Numbers { generation, serial } = numbers;
        let bytes = serde_json::to_vec(&Self { generation, serial }).unwrap_or_default();
        let folder = path.parent().unwrap_or(path);
        let written =
            std::fs::create_dir_all(folder).and_then(|()| file::replace(path, 0o600, &bytes));
        written.map_err(|error| unusable(path, &error))
    }
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::File(format!("cannot use {}: {error}", untrusted::path(path)))
}
