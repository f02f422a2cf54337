//! Whether the bundle in the cache passes all checks and tests of this host.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::analysis::eval::{Connection, Decision, Flow, Packet, evaluate};
use crate::bundle::{Error, Head};
use crate::fetch::site::{self, SiteStatus};
use crate::host::HostView;
use crate::host::docker::Unanswered;
use crate::host::engine::Engine;
use crate::policy::{DefaultAction, Fetched, SourceName};
use crate::ruleset::{Direction, Hook, L4Protocol, Ruleset};
use crate::site::{HostFacts, Sockets};
use crate::store::bundle::{Bundle, OpenError, Pick, now};
use crate::store::{self, Location, Policies};
use crate::text::SourceMap;

use crate::guard::log;

use super::state::{Next, Saved};

/// What is examined, and with what.
#[derive(Debug)]
pub(super) struct Examination {
    pub(super) location: Location,
    pub(super) saved: Saved,
    pub(super) cache: PathBuf,
    /// The folder of the lists that were accepted.
    pub(super) accepted: PathBuf,
    pub(super) engines: Vec<Engine>,
    pub(super) unanswered: Vec<Unanswered>,
}

/// A head, what is to be done with it, and its policies if they are to be tried, or why they are not.
type Passed = (Head, Next, Option<Result<Policies, String>>);

/// The result.
#[derive(Debug)]
pub(in crate::guard) struct Examined {
    pub(super) status: SiteStatus,
    /// What was known when it began.
    pub(super) saved: Saved,
    /// `None` if there is no bundle yet; the state and the reason if its head is not taken.
    pub(super) head: Option<Result<Passed, (&'static str, String)>>,
    /// What is to be fetched for policies that may be tried.
    pub(in crate::guard) requests: Vec<(SourceName, Fetched)>,
}

impl Examination {
    pub(super) fn run(self) -> Examined {
        let status = site::status(&self.cache);
        let has_head = self.location.path.join("head").symlink_metadata().is_ok();
        let (mut requests, saved) = (Vec::new(), self.saved.clone());
        let head = has_head.then(|| self.head(&status, &mut requests));
        Examined {
            status,
            saved,
            head,
            requests,
        }
    }

    fn head(
        self,
        status: &SiteStatus,
        requests: &mut Vec<(SourceName, Fetched)>,
    ) -> Result<Passed, (&'static str, String)> {
        let trust = &self.location.trust;
        let bundle = Bundle::open(&self.location.path, trust).map_err(|error| {
            let state = match &error {
                OpenError::Denied {
                    error: Error::Unsupported(_) | Error::Newer(_),
                    ..
                } => "unsupported",
                _ => "refused",
            };
            (state, error.to_string())
        })?;
        let keys = trust.keys.as_ref();
        let keys = keys.map(|keys| keys.names().clone()).unwrap_or_default();
        let next = self.saved.check(&bundle.head, &keys, now());
        let next = next.map_err(|denied| (denied.state(), denied.to_string()))?;
        let head = bundle.head;
        if next != Next::Try {
            return Ok((head, next, None));
        }
        // Before anything is accepted all files must be right.
        let groups = bundle.contents.groups(trust.host.as_ref());
        let files = groups.and_then(|groups| bundle.contents.files(&groups));
        files.map_err(|error| ("refused", error.to_string()))?;
        let mut location = self.location.clone();
        location.trust.pick = Pick::Accepted(Some(head.manifest));
        // Its lists, before they are needed; policies with errors need none.
        *requests = store::requests(SourceMap::strict(), &location).unwrap_or_default();
        let policies = self.policies(&location, status);
        Ok((head, next, Some(policies)))
    }

    /// Reads the policies and runs their tests, also on this host as it is.
    fn policies(self, location: &Location, status: &SiteStatus) -> Result<Policies, String> {
        let texts = SourceMap::strict().with_fetched(self.cache, Some(self.accepted));
        let tested = Policies::read_at(texts, location).and_then(Policies::test);
        let first = |wrong| {
            let mistakes = log::mistakes(&wrong);
            mistakes.lines().first().cloned().unwrap_or_default()
        };
        let (policies, _) = tested.map_err(first)?;
        let sockets = match policies.policy.default {
            DefaultAction::Allow if !policies.asks_for_services() => Sockets::None,
            _ => Sockets::All,
        };
        let facts = HostFacts::with(self.engines, self.unanswered, sockets, &[]);
        let host = facts.map_err(|error| error.to_string())?.host;
        let (policies, _) = policies.test_on(&host).map_err(first)?;
        check_way(&policies.compile(&host), &host, status)?;
        Ok(policies)
    }
}

/// Checks that rules do not deny the replies of the server, whatever port this host asks from.
fn check_way(ruleset: &Ruleset, host: &HostView, status: &SiteStatus) -> Result<(), String> {
    let ports = host.local_ports.range();
    let samples = ports.map(|(first, last)| [first, first.midpoint(last), last]);
    for endpoint in status.endpoints.iter().take(64) {
        for port in samples.iter().flatten() {
            if evaluate(ruleset, &reply(*endpoint, status.port, *port)).decision != Decision::Accept
            {
                return Err(format!(
                    "the rules would deny replies of the server {endpoint} to port {port} of this host"
                ));
            }
        }
    }
    Ok(())
}

/// Returns a reply of the server on a connection that this host opened from a port.
fn reply(server: IpAddr, server_port: u16, port: u16) -> Packet {
    let own: IpAddr = match server {
        IpAddr::V4(_) => std::net::Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    Packet {
        hook: Hook::Input,
        incoming: String::new(),
        outgoing: None,
        protocol: L4Protocol::Tcp,
        flow: Flow {
            source: server,
            destination: own,
            port: Some(port),
        },
        arrival: None,
        source_port: Some(server_port),
        connection: Some(Connection {
            direction: Direction::Reply,
            dnat: false,
            related: false,
            original: Flow {
                source: own,
                destination: server,
                port: Some(server_port),
            },
        }),
        returns: false,
        strays: false,
        resumes: false,
        opened: true,
    }
}
