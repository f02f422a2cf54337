//! All that can happen to guard.

use crate::guard::state;
use crate::host::follow::Report;
use crate::kernel;
use crate::nftables::notice::Modifier;
use crate::site::HostFacts;
use crate::store::{LoadError, Policies};

use super::job::Outcome;

#[derive(Debug)]
pub(in crate::guard) enum Event {
    /// Something was done to the files of the policy, or to what leads to them.
    Files,
    /// Something was done where an engine's socket is, or would be.
    EngineSocket,
    /// Links or addresses have changed; whether there is a new link.
    Links { new: bool },
    /// Others have changed dfw's table.
    Table(Option<Modifier>),
    /// So much has happened that some of it was lost.
    Lost,
    /// Whether there is a new socket that serves a published port; why that is not known.
    Serving(Result<(), kernel::Error>),
    /// What an engine says.
    Engine { address: String, report: Report },
    /// The policies were read.
    Read(Outcome<Read>),
    /// The last good policies were read.
    LastGood(Outcome<Result<Policies, state::Error>>),
    /// The host was looked at.
    Host(Outcome<Result<HostFacts, kernel::Error>>),
    /// It was told to read everything again.
    Reload,
    /// It was told to end.
    Stop,
    /// Somebody asks over the socket; the number of the client.
    Question(usize, Question),
    /// Somebody asks for figures; the number of the client.
    Scrape(usize, Request),
}

/// What was read of the files.
#[derive(Debug)]
pub(in crate::guard) struct Read {
    pub(in crate::guard) policies: Result<Policies, LoadError>,
    /// Whether all of it was watched before it was read.
    pub(in crate::guard) watched: bool,
}

/// What a client of the socket wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) enum Question {
    /// `status`.
    Status,
    /// `reload`.
    Reload,
    /// What it may not have, or nobody understands.
    Rejected(&'static str),
}

/// What a client wants that asks for figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) enum Request {
    /// The figures.
    Figures,
    /// What it does not get: the status that says so.
    Rejected(&'static str),
}
