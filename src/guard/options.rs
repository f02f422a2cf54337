//! What guard is told to do.

use std::path::{Path, PathBuf};

use crate::host::docker::Ask;

use super::metrics::scrapes::Listen;

/// What guard is to do, and with what.
#[derive(Debug)]
pub struct Options {
    /// The policies.
    pub path: PathBuf,
    /// The engines that are followed.
    pub engines: Ask,
    /// Where the last good policy is kept.
    pub state: PathBuf,
    /// Where questions are answered.
    pub socket: PathBuf,
    /// Where to write figures for a textfile collector, if anywhere.
    pub metrics: Option<PathBuf>,
    /// Where figures may be asked for, if anywhere.
    pub listen: Option<Listen>,
    /// Whether the table is to be guard's own, where the kernel can do that.
    pub own: bool,
}

impl Options {
    /// Returns the folders of all that guard writes.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let listen = match &self.listen {
            Some(Listen::Unix(path)) => Some(path),
            _ => None,
        };
        let files = [Some(&self.socket), self.metrics.as_ref(), listen];
        let files = files.into_iter().flatten();
        let files = files.filter_map(|file| std::path::absolute(file).ok());
        let folders = files.filter_map(|file| file.parent().map(Path::to_owned));
        folders.chain([self.state.clone()]).collect()
    }
}
