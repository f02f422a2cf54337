//! The options of guard.

use std::path::{Path, PathBuf};

use crate::bundle::Address;
use crate::host::docker::Ask;
use crate::store::Location;
use crate::untrusted;

use super::metrics::scrapes::Listen;

/// The options of guard.
#[derive(Debug)]
pub struct Options {
    /// The policies.
    pub location: Location,
    /// The site whose bundle is at the location, if a server has it.
    pub site: Option<Address>,
    /// A web server that has the large files of the site, too.
    pub contents: Option<Address>,
    /// The engines that are followed.
    pub engines: Ask,
    /// The state directory, with the last good policies.
    pub state: PathBuf,
    /// The cache that `dfw fetch` writes to.
    pub cache: PathBuf,
    /// The file that tells `dfw fetch` what to fetch.
    pub requests: PathBuf,
    /// The path of the status socket.
    pub socket: PathBuf,
    /// The file for the textfile collector, if any.
    pub metrics: Option<PathBuf>,
    /// The address of the metrics socket, if any.
    pub listen: Option<Listen>,
    /// Whether to own the table, if the kernel supports that.
    pub own: bool,
}

impl Options {
    /// Returns where the policies are, for people.
    pub(super) fn shown(&self) -> String {
        match &self.site {
            Some(address) => address.to_string(),
            None => untrusted::path(&self.location.path),
        }
    }

    /// Returns the directories that guard writes to.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let listen = match &self.listen {
            Some(Listen::Unix(path)) => Some(path),
            _ => None,
        };
        let files = [
            Some(&self.requests),
            Some(&self.socket),
            self.metrics.as_ref(),
            listen,
        ];
        let files = files.into_iter().flatten();
        let files = files.filter_map(|file| std::path::absolute(file).ok());
        let folders = files.filter_map(|file| file.parent().map(Path::to_owned));
        folders.chain([self.state.clone()]).collect()
    }
}
