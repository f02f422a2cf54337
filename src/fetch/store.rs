//! The store of a site, if this program was built with it.

use std::path::{Path, PathBuf};

use crate::bundle::Address;

use super::site::Site;

/// Where the files for TLS are; `DFW_ETCD_TLS` names another folder.
const FOLDER: &str = "/etc/dfw/etcd";
/// The size of what the unit hands over in place of a file that is missing: `none`.
const NONE: u64 = 4;

/// Returns the folder with `ca.pem`, `cert.pem` and `key.pem`: what the environment names, what the service manager
/// hands over, or the default.
#[must_use]
pub fn folder() -> PathBuf {
    let given = std::env::var_os("DFW_ETCD_TLS").map(PathBuf::from);
    let handed = || {
        let folder = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
        let size = folder.join("key.pem").metadata().ok()?.len();
        (size > NONE).then_some(folder)
    };
    given.or_else(handed).unwrap_or_else(|| FOLDER.into())
}

/// Where the bundle of a site goes, and who is told of it.
#[cfg_attr(
    not(feature = "etcd"),
    expect(dead_code, reason = "nothing is followed")
)]
pub(super) struct Following<'a> {
    /// The cache.
    pub(super) cache: &'a Path,
    /// The file that says what is wanted.
    pub(super) wanted: &'a Path,
    /// Reports a new generation.
    pub(super) news: &'a dyn Fn(u64),
    /// Reports what is wrong.
    pub(super) warn: &'a dyn Fn(&str),
}

#[cfg(feature = "etcd")]
mod built {
    use crate::etcd::Identity;
    use crate::fetch::etcd::{Follower, fetch};

    use super::{Address, Following, Site, folder};

    /// What this host shows to a store. It is read before the rights are given up.
    #[derive(Debug)]
    pub struct Credentials(Result<Identity, String>);

    impl Credentials {
        /// Reads the files; what is wrong with them is said once they are needed.
        #[must_use]
        pub fn read() -> Self {
            Self(Identity::read(&folder()).map_err(|error| error.to_string()))
        }

        pub(in crate::fetch) fn follow(
            &self,
            following: &Following<'_>,
            address: &Address,
        ) -> Result<(), String> {
            let follower = Follower {
                cache: following.cache,
                wanted: following.wanted,
                identity: self.0.clone()?,
                news: following.news,
                warn: following.warn,
            };
            follower.follow(address)
        }

        /// Fetches a bundle once.
        ///
        /// # Errors
        /// Why it was not fetched.
        pub fn fetch(&self, site: &Site<'_>) -> Result<(u64, bool), String> {
            fetch(site, self.0.clone()?)
        }
    }
}

#[cfg(not(feature = "etcd"))]
mod built {
    use super::{Address, Following, Site};

    /// What this host shows to a store: nothing.
    #[derive(Debug)]
    pub struct Credentials(());

    const MISSING: &str = "this dfw was built without etcd (the feature `etcd`)";

    impl Credentials {
        /// Reads nothing.
        #[must_use]
        pub fn read() -> Self {
            Self(())
        }

        pub(in crate::fetch) fn follow(
            &self,
            _: &Following<'_>,
            _: &Address,
        ) -> Result<(), String> {
            let Self(()) = self;
            Err(MISSING.to_owned())
        }

        /// Returns that this program was built without stores.
        ///
        /// # Errors
        /// Always.
        pub fn fetch(&self, _: &Site<'_>) -> Result<(u64, bool), String> {
            let Self(()) = self;
            Err(MISSING.to_owned())
        }
    }
}

pub use built::Credentials;

/// Looks up where the members of a store are.
///
/// # Errors
/// If none has an address.
#[cfg(feature = "etcd")]
pub fn endpoints(address: &Address) -> Result<Vec<crate::etcd::Endpoint>, String> {
    super::etcd::endpoints(address)
}
