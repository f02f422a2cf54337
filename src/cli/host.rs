//! Finding out what this host is like: its links, its engines, its sockets.

use std::fs;
use std::net::IpAddr;

use crate::compile;
use crate::diagnostic::Diagnostic;
use crate::doors::{Families, Surroundings};
use crate::host::docker::{self, Ask, Unanswered};
use crate::host::engine::Engine;
use crate::host::{HostView, Publication, listener};
use crate::kernel::{self, Kernel, Snapshot};
use crate::netlink::link::{Address, Link};
use crate::netlink::listener::Socket;
use crate::netlink::object::{family_name, shares_hook};
use crate::netlink::snapshot::Neighbour;
use crate::policy::Policy;
use crate::ruleset::Hook;

/// Which engines a verb asks.
#[derive(Debug, clap::Args)]
pub(super) struct EngineArgs {
    /// The container engine to ask: a socket's path, tcp://HOST:PORT, or `none`; Docker's and
    /// Podman's own sockets if not given
    #[arg(long, value_name = "ADDRESS", env = "DFW_DOCKER_HOST")]
    docker_host: Option<String>,
}

impl EngineArgs {
    fn ask(&self) -> Ask {
        match self.docker_host.as_deref() {
            None => Ask::System,
            Some("none" | "") => Ask::Nobody,
            Some(address) => Ask::At(address.to_owned()),
        }
    }
}

/// What was found, and who did not answer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) host: HostView,
    pub(super) unanswered: Vec<Unanswered>,
    /// The links and addresses behind it.
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
}

/// Which sockets are looked at. Finding out who holds one takes a look at every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sockets {
    /// Those at ports that an engine publishes.
    Published,
    /// All.
    All,
}

/// Looks at this host.
pub(super) fn find(args: &EngineArgs, sockets: Sockets) -> Result<Found, kernel::Error> {
    let (links, addresses) = (kernel::links()?, kernel::addresses()?);
    let (mut engines, mut unanswered): (Vec<Engine>, _) = (Vec::new(), Vec::new());
    for answer in docker::ask(&args.ask()) {
        match answer {
            Ok(engine) => engines.push(engine),
            Err(error) => unanswered.push(error),
        }
    }
    let mut host = HostView::new(&links, &addresses, engines);
    if host.engines.is_empty() || !unanswered.is_empty() {
        let kernel = Kernel::open()?;
        // An apply gets through while others never rest, and must not know less for it.
        let table = |read: Result<Snapshot, kernel::Error>| match read {
            Err(kernel::Error::Busy) => kernel.glimpse(),
            read => Ok(read?.installed),
        };
        let outline = table(kernel.outline())?;
        if outline.is_some_and(|table| compile::remembers(&table.ruleset)) {
            let installed = table(kernel.survey())?;
            host.remembered =
                installed.map_or_else(Vec::new, |table| compile::remembered(&table.ruleset));
        }
    }
    let published = !host.remembered.is_empty() || host.publications().next().is_some();
    if published || sockets == Sockets::All {
        let mut waiting = kernel::listeners()?;
        if sockets == Sockets::Published {
            waiting.retain(|socket| is_published(&host, socket));
        }
        host.listeners = listener::listeners(&waiting, &host.engines);
    }
    Ok(Found {
        host,
        unanswered,
        links,
        addresses,
    })
}

impl Found {
    /// What decides on doors beside engines.
    pub(super) fn surroundings(&self, neighbours: &[Neighbour]) -> Surroundings {
        let outside = |link: &&Link| {
            link.name != "lo"
                && link.kind.as_deref() != Some("veth")
                && !self.host.container_bridges.contains(&link.name)
        };
        let mut interfaces: Vec<String> = self
            .links
            .iter()
            .filter(outside)
            .map(|link| link.name.clone())
            .collect();
        if interfaces.is_empty() {
            // A host in a network namespace has nothing but the end of a veth.
            interfaces.extend(self.links.iter().map(|link| link.name.clone()));
            interfaces.retain(|name| name != "lo" && !self.host.container_bridges.contains(name));
        }
        let addresses = self.addresses.iter().map(|address| address.address);
        let of = |v4: &str, v6: &str, is: &dyn Fn(&Neighbour) -> bool| {
            let has = |family: &str| {
                neighbours
                    .iter()
                    .any(|n| [family, "inet"].contains(&family_name(n.family)) && is(n))
            };
            Families {
                v4: has(v4),
                v6: has(v6),
            }
        };
        let legacy = legacy_tables();
        let translates = of("ip", "ip6", &|neighbour| {
            // Those of iptables, of Docker and of Podman.
            neighbour.kind == "nat"
                && ["nat", "docker-bridges", "netavark"].contains(&neighbour.table.as_str())
        });
        let refuses = of("ip", "ip6", &|neighbour| {
            !neighbour.accepts && shares_hook(neighbour.family, neighbour.hook, Hook::Forward)
        });
        let holds = |name: &str| Families {
            v4: legacy.v4.iter().any(|table| table == name),
            v6: legacy.v6.iter().any(|table| table == name),
        };
        let (legacy_nat, legacy_filter) = (holds("nat"), holds("filter"));
        Surroundings {
            interfaces,
            addresses: addresses
                .filter(|a| !a.is_loopback() && !is_link_local(*a))
                .collect(),
            translates: either(translates, legacy_nat),
            forwards: Families {
                v4: is_on("/proc/sys/net/ipv4/ip_forward"),
                v6: is_on("/proc/sys/net/ipv6/conf/all/forwarding"),
            },
            // Its policies cannot be seen from here; an engine that has turned forwarding on has
            // made it refuse.
            refuses: either(refuses, legacy_filter),
        }
    }
}

/// The tables of iptables-legacy, whose rules nf_tables does not know.
pub(super) struct Legacy {
    pub(super) v4: Vec<String>,
    pub(super) v6: Vec<String>,
}

pub(super) fn legacy_tables() -> Legacy {
    let names = |path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    Legacy {
        v4: names("/proc/net/ip_tables_names"),
        v6: names("/proc/net/ip6_tables_names"),
    }
}

fn either(a: Families, b: Families) -> Families {
    Families {
        v4: a.v4 || b.v4,
        v6: a.v6 || b.v6,
    }
}

fn is_on(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
}

/// Nobody reaches one through a router, and each link has one.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Whether an engine publishes the port, or did.
fn is_published(host: &HostView, socket: &Socket) -> bool {
    host.publications()
        .any(|publication| publication.published.port == socket.port)
        || host
            .remembered
            .iter()
            .any(|range| (range.first..=range.last).contains(&socket.port))
}

/// What a policy does not get to hear or to judge.
pub(super) fn notices(policy: &Policy, found: &Found) -> Vec<Diagnostic> {
    let unanswered = found.unanswered.iter().map(|error| {
        let remembered: usize = found
            .host
            .remembered
            .iter()
            .map(|range| usize::from(range.last - range.first) + 1)
            .sum();
        Diagnostic::warning("engine-unanswered", error.to_string())
            .help(
                "ports that the policy names are guarded all the same, and so are all that Docker \
                 forwards; only sockets of docker-proxy at other ports cannot be told from those \
                 of the host",
            )
            .help(match remembered {
                0 => "apply again when it answers".to_owned(),
                ports => format!(
                    "what it published when it answered last stays refused ({ports} at other ports \
                     than the policy's); apply again when it answers"
                ),
            })
    });
    let held = compile::unnamed(policy, &found.host)
        .filter_map(|publication| held(&found.host, &publication));
    let mut notices: Vec<Diagnostic> = unanswered.chain(held).collect();
    notices.dedup_by(|a, b| a.message == b.message);
    notices
}

/// Engines whose publications are not known.
pub(super) fn unanswered(found: &Found) -> Vec<Diagnostic> {
    let unanswered = found.unanswered.iter();
    unanswered
        .map(|error| {
            Diagnostic::warning("engine-unanswered", error.to_string())
                .help("what it publishes is not among what follows")
        })
        .collect()
}

/// A service of the host at a port that a container would publish.
fn held(host: &HostView, publication: &Publication<'_>) -> Option<Diagnostic> {
    let holder = publication.holder(host)?;
    let by = match &holder.owner {
        Some(owner) => format!("`{}` (process {})", owner.name, owner.pid),
        None => "a process that cannot be seen from here".to_owned(),
    };
    let port = compile::key(&publication.published.port());
    let title = publication.of.title();
    Some(
        Diagnostic::warning(
            "port-held",
            format!("port {port}, which container {title} publishes, is held by {by}"),
        )
        .help("it counts as a service of this host and is left alone; name the port in the policy to have it guarded"),
    )
}
