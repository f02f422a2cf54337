//! Published ports without a policy key, saved on disk: at boot, containers run before their engine answers.

use crate::net::HostPorts;
use std::path::Path;

use crate::compile;
use crate::ruleset::Ruleset;

use super::state::{self, Error};

/// The ports.
#[derive(Debug, Default)]
pub(super) struct LastKnownPorts {
    /// The ports saved before guard started; empty once engines have answered.
    former: Vec<HostPorts>,
    /// The ports saved last, or being written.
    kept: Option<Vec<HostPorts>>,
}

impl LastKnownPorts {
    /// Reads the saved ports of a directory.
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

    /// Returns the ports saved before guard started, until engines have answered.
    pub(super) fn former(&mut self, answered: bool) -> &[HostPorts] {
        if answered {
            self.former.clear();
        }
        &self.former
    }

    /// Returns the ports of a ruleset, if they differ from the saved ones.
    pub(super) fn others(&mut self, ruleset: &Ruleset) -> Option<Vec<HostPorts>> {
        let ports = compile::remembered(ruleset);
        if self.kept.as_ref() == Some(&ports) {
            return None;
        }
        self.kept = Some(ports.clone());
        Some(ports)
    }
}
