//! All that can happen to guard.

use crate::guard::granted::{self, Sender};
use crate::guard::site;
use crate::guard::state;
use crate::host::follow::Report;
use crate::kernel;
use crate::nftables::notice::Modifier;
use crate::site::HostFacts;
use crate::store::{LoadError, Policies};

use super::job::Outcome;

#[derive(Debug)]
pub(in crate::guard) enum Event {
    /// The policy files, or directories on their path, changed.
    Files,
    /// The fetcher said something of a source.
    Sources,
    /// What it said was read.
    SourcesRead,
    /// The fetcher wrote something of a site.
    SiteFiles,
    /// The bundle of a site was examined.
    Examined(Box<site::Examined>),
    /// The answer to a probe was read.
    Probed(Option<site::Answer>),
    /// The directory of an engine's socket changed.
    EngineSocket,
    /// Links or addresses changed; `new` if a link was added.
    Links { new: bool },
    /// Another program modified dfw's table.
    Table(Option<Modifier>),
    /// Notifications were lost (`ENOBUFS`).
    Lost,
    /// A new socket serves a published port, or the error of watching sockets.
    Serving(Result<(), kernel::Error>),
    /// A report of an engine.
    Engine { address: String, report: Report },
    /// The policies were read.
    Read(Outcome<Read>),
    /// The last good policies were read.
    LastGood(Outcome<Result<Policies, state::Error>>),
    /// The facts of the host were read.
    Host(Outcome<Result<HostFacts, kernel::Error>>),
    /// A grant has ended.
    GrantsEnd,
    /// A reload was requested.
    Reload,
    /// A signal requests the end.
    Stop,
    /// A client of the control socket sent a request; the number of the client.
    Question(usize, Question),
    /// A client requested metrics; the number of the client.
    Scrape(usize, Request),
}

/// What was read of the files.
#[derive(Debug)]
pub(in crate::guard) struct Read {
    pub(in crate::guard) policies: Result<Policies, LoadError>,
    /// Whether all files were watched before they were read.
    pub(in crate::guard) watched: bool,
    /// Why the fetcher cannot be given what to fetch.
    pub(in crate::guard) unasked: Option<String>,
}

/// A request of a client of the control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::guard) enum Question {
    /// `status`.
    Status,
    /// `grant` and what is to be done, with who asks.
    Grant(granted::Request, Sender),
    /// `reload`.
    Reload,
    /// A request that is denied or unknown, with the error.
    Rejected(&'static str),
}

/// A request of a metrics client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) enum Request {
    /// The figures.
    Figures,
    /// An invalid request, with the HTTP status of the error.
    Rejected(&'static str),
}
