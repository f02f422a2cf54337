//! The ports that engines publish and no policy names, kept on disk: when a host boots, containers run
//! before their engine says anything.

use std::path::{Path, PathBuf};

use crate::compile;
use crate::host::engine::PortRange;
use crate::ruleset::Ruleset;

use super::state::{self, Error};

/// The ports.
#[derive(Debug)]
pub(super) struct Published {
    folder: PathBuf,
    /// What was kept before guard started; none once engines have answered.
    former: Vec<PortRange>,
    /// What is kept now.
    kept: Option<Vec<PortRange>>,
}

impl Published {
    /// Takes what is kept in a folder.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let ports = match state::read_ports(folder) {
            Ok(ports) => Some(ports),
            Err(Error::Missing(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            former: ports.clone().unwrap_or_default(),
            kept: ports,
            ..Self::nothing(folder)
        })
    }

    /// Begins with nothing.
    pub(super) fn nothing(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            former: Vec::new(),
            kept: None,
        }
    }

    /// What was kept before guard started, until engines have answered.
    pub(super) fn former(&mut self, answered: bool) -> &[PortRange] {
        if answered {
            self.former.clear();
        }
        &self.former
    }

    /// Keeps those of a ruleset that engines have been asked for.
    pub(super) fn keep(&mut self, ruleset: &Ruleset) -> Result<(), Error> {
        let ports = compile::remembered(ruleset);
        if self.kept.as_ref() != Some(&ports) {
            // What cannot be written is not tried again for the same ports.
            let written = state::write_ports(&self.folder, &ports);
            self.kept = Some(ports);
            written?;
        }
        Ok(())
    }
}
