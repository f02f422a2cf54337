//! Reads the facts of the host: links, addresses, engines and sockets.

use crate::net::{Family, HostPorts};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;

use crate::analysis::surroundings::{Families, Surroundings};
use crate::compile;
use crate::host::docker::{self, Ask, Unanswered};
use crate::host::engine::Engine;
use crate::host::grant::Grant;
use crate::host::local_ports::LocalPorts;
use crate::host::nat::Nat;
use crate::host::{HostView, listener, process, routes};
use crate::kernel::ForeignBaseChain;
use crate::kernel::{self, Kernel, Snapshot};
use crate::netlink::rtnetlink::{Address, Link};
use crate::netlink::sock_diag::Socket;
use crate::nftables::object::{family_name, shares_hook};
use crate::ruleset::{Hook, Ruleset};

/// The facts of the host, and the engines that did not answer.
#[derive(Debug)]
pub struct HostFacts {
    /// The input of the compiler.
    pub host: HostView,
    /// The engines that did not answer.
    pub unanswered: Vec<Unanswered>,
    /// Its links.
    pub links: Vec<Link>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// The survey of the kernel that they are from, if there was one.
    pub survey: Option<Box<Snapshot>>,
}

/// The sockets whose holders are searched. A search reads every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    /// None, for `default: allow`, where no rule depends on them.
    None,
    /// Those at ports that an engine publishes.
    Published,
    /// These, and sockets that serve published ports: docker-proxy listens before its engine reports a
    /// port, and a rootless engine is not queried.
    Served,
    /// All.
    All,
}

impl Sockets {
    /// Returns the sockets that rules depend on, for these engines.
    #[must_use]
    pub fn of(ask: &Ask) -> Self {
        if ask.is_nobody() {
            Self::Published
        } else {
            Self::Served
        }
    }
}

/// dfw's table, read once for all that depends on it.
struct Table {
    kernel: Kernel,
    snapshot: Result<Snapshot, kernel::Error>,
    /// Whether it is a survey, and no outline.
    is_surveyed: bool,
}

impl Table {
    fn outline() -> Result<Self, kernel::Error> {
        let kernel = Kernel::open()?;
        let snapshot = kernel.outline();
        Ok(Self {
            kernel,
            snapshot,
            is_surveyed: false,
        })
    }

    fn survey() -> Result<Self, kernel::Error> {
        let kernel = Kernel::open()?;
        let snapshot = kernel.survey();
        Ok(Self {
            kernel,
            snapshot,
            is_surveyed: true,
        })
    }

    fn into_survey(self) -> Option<Box<Snapshot>> {
        self.snapshot
            .ok()
            .filter(|_| self.is_surveyed)
            .map(Box::new)
    }

    /// Returns the permissions for a time that are in force; none if the table cannot be read.
    fn grants(&self) -> Vec<Grant> {
        let read = self.snapshot.as_ref().ok().and_then(in_force);
        if self.is_surveyed || !read.is_some_and(compile::has_grants) {
            return read.map_or_else(Vec::new, compile::grants);
        }
        let survey = self.kernel.survey().ok();
        let read = survey.as_ref().and_then(in_force);
        read.map_or_else(Vec::new, compile::grants)
    }

    /// Returns the ports that it filters because an engine published them.
    fn remembered(&self) -> Result<Vec<HostPorts>, kernel::Error> {
        if let Ok(snapshot) = &self.snapshot {
            let read = in_force(snapshot);
            if self.is_surveyed || !read.is_some_and(compile::remembers) {
                return Ok(read.map_or_else(Vec::new, compile::remembered));
            }
        }
        // `apply` succeeds while other programs keep changing rulesets, and must not know less then.
        let installed = match self.kernel.survey() {
            Err(kernel::Error::Busy) => self.kernel.glimpse()?,
            survey => survey?.installed,
        };
        Ok(installed.map_or_else(Vec::new, |table| compile::remembered(&table.ruleset)))
    }
}

/// Returns the ruleset of dfw's table, if there is one.
fn in_force(snapshot: &Snapshot) -> Option<&Ruleset> {
    snapshot.installed.as_ref().map(|table| &table.ruleset)
}

impl HostFacts {
    /// Reads the facts of this host and queries its engines.
    ///
    /// # Errors
    /// See [`kernel::Error`](enum@kernel::Error).
    pub fn find(ask: &Ask, sockets: Sockets) -> Result<Self, kernel::Error> {
        Self::found(ask, sockets, Table::outline)
    }

    /// Reads the facts of this host for a change of the table, with a survey of the kernel.
    ///
    /// # Errors
    /// See [`kernel::Error`](enum@kernel::Error).
    pub fn survey(ask: &Ask, sockets: Sockets) -> Result<Self, kernel::Error> {
        Self::found(ask, sockets, Table::survey)
    }

    fn found(
        ask: &Ask,
        sockets: Sockets,
        table: impl FnOnce() -> Result<Table, kernel::Error>,
    ) -> Result<Self, kernel::Error> {
        let (mut engines, mut unanswered): (Vec<Engine>, _) = (Vec::new(), Vec::new());
        for answer in docker::ask(ask) {
            match answer {
                Ok(engine) => engines.push(engine),
                Err(error) => unanswered.push(error),
            }
        }
        let table = table();
        // Without a table there are no grants.
        let grants = table.as_ref().map_or_else(|_| Vec::new(), Table::grants);
        let mut site = Self::beside(Some(table), engines, unanswered, sockets, &[])?;
        // Without published ports the holders make no difference.
        if sockets == Sockets::All || site.host.publications().next().is_some() {
            // On error the state is unknown.
            let nat = Kernel::open().and_then(|kernel| nat(&kernel));
            site.host.nat = nat.unwrap_or_default();
        }
        site.host.grants = grants;
        Ok(site)
    }

    /// Reads the facts of this host, given the answers of its engines and formerly published ports.
    ///
    /// # Errors
    /// See [`kernel::Error`](enum@kernel::Error).
    pub fn with(
        engines: Vec<Engine>,
        unanswered: Vec<Unanswered>,
        sockets: Sockets,
        former: &[HostPorts],
    ) -> Result<Self, kernel::Error> {
        Self::beside(None, engines, unanswered, sockets, former)
    }

    /// The same beside a table that may have been read.
    fn beside(
        mut table: Option<Result<Table, kernel::Error>>,
        engines: Vec<Engine>,
        unanswered: Vec<Unanswered>,
        sockets: Sockets,
        former: &[HostPorts],
    ) -> Result<Self, kernel::Error> {
        let (links, addresses) = (kernel::links()?, kernel::addresses()?);
        let mut host = HostView::new(&links, &addresses, engines);
        let uplinks = routes::default_interfaces();
        let on_uplink = host.shared_bridges.iter();
        let on_uplink = on_uplink.filter(|bridge| uplinks.contains(*bridge));
        host.uplink_bridges = on_uplink.cloned().collect();
        host.remembered = former.to_vec();
        host.local_ports = LocalPorts::read();
        host.old_kernel = is_old(&rustix::system::uname().release().to_string_lossy());
        if host.engines.is_empty() || !unanswered.is_empty() {
            let read = table.take().unwrap_or_else(Table::outline)?;
            host.remembered.extend(read.remembered()?);
            table = Some(Ok(read));
        }
        let published = !host.remembered.is_empty() || host.publications().next().is_some();
        let wanted = match sockets {
            Sockets::None => false,
            Sockets::Published => published,
            Sockets::Served | Sockets::All => true,
        };
        if wanted {
            let mut waiting = kernel::listeners()?;
            if sockets != Sockets::All {
                let is_known = |socket: &Socket| is_published(&host, socket);
                let others: Vec<Socket> = match sockets {
                    Sockets::Served => {
                        let all = waiting.iter().copied();
                        all.filter(|socket| !is_known(socket)).collect()
                    }
                    _ => Vec::new(),
                };
                // A search through all processes is expensive.
                let served = listener::served(&others, &host.engines);
                let served = served.map_err(kernel::Error::Processes)?;
                waiting
                    .retain(|socket| is_known(socket) || served.contains(&u64::from(socket.inode)));
            }
            host.listeners = listener::listeners(&waiting, &host.engines, &links)
                .map_err(kernel::Error::Processes)?;
            host.blind = host.listeners.iter().any(|l| l.owner.is_none()) && !process::sees_all();
        }
        Ok(Self {
            host,
            unanswered,
            links,
            addresses,
            survey: table.and_then(Result::ok).and_then(Table::into_survey),
        })
    }

    /// Returns the surroundings that decide on paths, beside engines.
    #[must_use]
    pub fn surroundings(&self, foreign_chains: &[ForeignBaseChain]) -> Surroundings {
        // Packets of a port of a bridge, bond or VRF come in through its master.
        let outside = |link: &&Link| {
            link.name != "lo"
                && link.controller.is_none()
                && !self.host.container_bridges.contains(&link.name)
        };
        let mut interfaces: Vec<String> = self
            .links
            .iter()
            .filter(outside)
            .map(|link| link.name.clone())
            .collect();
        if interfaces.is_empty() {
            // A host in a network namespace may have only a veth.
            interfaces.extend(self.links.iter().map(|link| link.name.clone()));
            interfaces.retain(|name| name != "lo" && !self.host.container_bridges.contains(name));
        }
        let addresses = self.addresses.iter().map(|address| address.address);
        let of = |v4: &str, v6: &str, is: &dyn Fn(&ForeignBaseChain) -> bool| {
            let has = |family: &str| {
                foreign_chains
                    .iter()
                    .any(|n| [family, "inet"].contains(&family_name(n.family)) && is(n))
            };
            Families {
                v4: has(v4),
                v6: has(v6),
            }
        };
        let legacy = legacy_tables();
        let denies = of("ip", "ip6", &|chain| {
            !chain.accepts && shares_hook(chain.family, chain.hook, Hook::Forward)
        });
        let legacy_filter = Families {
            v4: legacy.v4.iter().any(|table| table == "filter"),
            v6: legacy.v6.iter().any(|table| table == "filter"),
        };
        let engine_rules = Families {
            v4: self.host.nat.has_engine(Family::V4),
            v6: self.host.nat.has_engine(Family::V6),
        };
        Surroundings {
            answers_through: BTreeMap::new(),
            interfaces,
            addresses: addresses
                .clone()
                .filter(|a| !a.is_loopback() && !is_link_local(*a))
                .collect(),
            link_addresses: addresses.filter(|a| is_link_local(*a)).collect(),
            indices: self
                .links
                .iter()
                .map(|link| (link.name.clone(), link.index))
                .collect(),
            nat: self.host.nat.clone(),
            engine_rules,
            route_localnet: self
                .links
                .iter()
                .map(|link| &*link.name)
                .chain(["all"])
                .any(|name| is_on(&format!("/proc/sys/net/ipv4/conf/{name}/route_localnet"))),
            forwards: Families {
                v4: is_on("/proc/sys/net/ipv4/ip_forward"),
                v6: is_on("/proc/sys/net/ipv6/conf/all/forwarding"),
            },
            // The policies of iptables-legacy are not visible here; an engine that enables forwarding
            // sets the policy to drop.
            denies: Families {
                v4: denies.v4 || legacy_filter.v4,
                v6: denies.v6 || legacy_filter.v6,
            },
        }
    }
}

/// Reads the destination NAT rules of this host. If the tables of iptables-legacy cannot be read, they may
/// translate.
///
/// # Errors
/// See [`kernel::Error`](enum@kernel::Error).
fn nat(kernel: &Kernel) -> Result<Nat, kernel::Error> {
    let may_translate = |path| match fs::read_to_string(path) {
        // Packets with `notrack` in `raw` are not translated.
        Ok(text) => text.lines().any(|table| table == "nat" || table == "raw"),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    let legacy = [LEGACY_V4, LEGACY_V6].map(may_translate);
    Ok(Nat::new(kernel.nat_rules()?, legacy))
}

/// The kernel's list of iptables-legacy tables of this network namespace.
const LEGACY_V4: &str = "/proc/net/ip_tables_names";
const LEGACY_V6: &str = "/proc/net/ip6_tables_names";

/// The tables of iptables-legacy, whose rules are not in nf_tables.
pub struct Legacy {
    /// Of IPv4, by name.
    pub v4: Vec<String>,
    /// Of IPv6, by name.
    pub v6: Vec<String>,
}

/// Reads the names of the tables of iptables-legacy; none if they cannot be read.
#[must_use]
pub fn legacy_tables() -> Legacy {
    let names = |path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    Legacy {
        v4: names(LEGACY_V4),
        v6: names(LEGACY_V6),
    }
}

/// Returns whether a kernel of this release is older than 6.1, or may be: 5.10 denies `fib` in the
/// forward hook.
fn is_old(release: &str) -> bool {
    kernel::version(release).is_none_or(|version| version < (6, 1))
}

fn is_on(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
}

/// Link-local: not reachable through a router, and present on every link.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Returns whether an engine publishes the port, or did.
fn is_published(host: &HostView, socket: &Socket) -> bool {
    host.publications().any(|publication| {
        let published = publication.published;
        (published.first..=published.last).contains(&socket.port)
    }) || host
        .remembered
        .iter()
        .any(|range| (range.first..=range.last).contains(&socket.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_distinguished() {
        for old in ["5.10.0-32-cloud-amd64", "5.15.0", "6.0.19", "unknown"] {
            assert!(is_old(old), "{old}");
        }
        for new in [
            "6.1.0-50-amd64",
            "6.12.117+deb13-cloud-amd64",
            "7.2.13",
            "6.1+",
        ] {
            assert!(!is_old(new), "{new}");
        }
    }
}
