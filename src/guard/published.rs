//! The ports that engines publish and no policy names, kept on disk: when a host boots, containers run
//! before their engine says anything.

use crate::net::HostPorts;
use std::path::Path;

use crate::compile;
use crate::ruleset::Ruleset;

use super::state::{self, Error};

/// The ports.
#[derive(Debug, Default)]
pub(super) struct LastKnownPorts {
    /// What was kept before guard started; none once engines have answered.
    former: Vec<HostPorts>,
    /// What is kept now, or is being written.
    kept: Option<Vec<HostPorts>>,
}

impl LastKnownPorts {
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
        })
    }

    /// Returns what was kept before guard started, until engines have answered.
    pub(super) fn former(&mut self, answered: bool) -> &[HostPorts] {
        if answered {
            self.former.clear();
        }
        &self.former
    }

    /// Returns those of a ruleset, if others are kept: engines have been asked for them.
    pub(super) fn others(&mut self, ruleset: &Ruleset) -> Option<Vec<HostPorts>> {
        let ports = compile::remembered(ruleset);
        if self.kept.as_ref() == Some(&ports) {
            return None;
        }
        self.kept = Some(ports.clone());
        Some(ports)
    }
}
