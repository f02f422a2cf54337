//! Finds the SSH connection through which dfw is used, and checks whether new rules would cut it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process, Stat};

use crate::analysis::eval::{Packet, Trace};
use crate::analysis::judgement::{Judgement, Verdict, judge};
use crate::analysis::path::{Kind, Path};
use crate::kernel;
use crate::net::Protocol;
use crate::netlink::rtnetlink::Link;
use crate::plan::Installed;
use crate::ruleset::{Origin, Ruleset};
use crate::site::HostFacts;
use crate::store::{Policies, line_behind};
use crate::text::diagnostic::Diagnostic;

/// The number of ancestor processes that are read.
const GENERATIONS: usize = 32;

/// A connection of a client to a server on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Connection {
    client: SocketAddr,
    server: SocketAddr,
}

/// Returns the SSH connections through which this program may be used: the one in `SSH_CONNECTION`, or else
/// those of SSH servers among its ancestor processes, because `sudo` drops the variable.
fn connections() -> Vec<Connection> {
    let variable = std::env::var("SSH_CONNECTION").ok();
    match variable.as_deref().and_then(parse) {
        Some(connection) => vec![connection],
        None => inherited().into_iter().collect(),
    }
}

/// Parses `SSH_CONNECTION` of `ssh(1)`: the client's address and port, and the server's.
fn parse(text: &str) -> Option<Connection> {
    let mut words = text.split_whitespace();
    let mut end = || -> Option<SocketAddr> {
        // A link-local address is followed by its interface.
        let address = words.next()?.split('%').next()?;
        let address: IpAddr = address.parse().ok()?;
        let port = words.next()?.parse().ok()?;
        Some(SocketAddr::new(address.to_canonical(), port))
    };
    let connection = Connection {
        client: end()?,
        server: end()?,
    };
    (connection.client.is_ipv4() == connection.server.is_ipv4()).then_some(connection)
}

/// Returns the established connections of SSH servers among the ancestors of this process.
fn inherited() -> BTreeSet<Connection> {
    let mut sockets = BTreeSet::new();
    let look = |process: Process| Some((process.stat().ok()?, process));
    let mut process = Process::myself().ok().and_then(look);
    for _ in 0..GENERATIONS {
        let parent = process.map(|(stat, _)| stat.ppid).filter(|pid| *pid > 1);
        process = parent.and_then(|pid| Process::new(pid).ok()).and_then(look);
        let Some((Stat { comm: name, .. }, parent)) = &process else {
            break;
        };
        if !name.starts_with("sshd") && name != "dropbear" {
            continue;
        }
        let files = parent.fd().into_iter().flatten().flatten();
        sockets.extend(files.filter_map(|file| match file.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        }));
    }
    if sockets.is_empty() {
        return BTreeSet::new();
    }
    let all = [procfs::net::tcp(), procfs::net::tcp6()];
    let all = all.into_iter().flatten().flatten();
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    all.filter(|entry| entry.state == TcpState::Established && sockets.contains(&entry.inode))
        .map(|entry| Connection {
            client: canonical(entry.remote_address),
            server: canonical(entry.local_address),
        })
        .collect()
}

impl Connection {
    /// Returns a packet of the client for each interface on which it may arrive.
    fn packets(&self, found: &HostFacts) -> Vec<Packet> {
        let path = self.path();
        let has_it = found.addresses.iter();
        let has_it = has_it.filter(|address| address.address == self.server.ip());
        let indices: BTreeSet<u32> = has_it.map(|address| address.link).collect();
        let links = found.links.iter();
        let links = links.filter(|link| {
            if indices.is_empty() {
                // The address is gone: assume any interface but loopback.
                link.name != "lo"
            } else {
                indices.contains(&link.index)
            }
        });
        let back = kernel::route_to(self.client.ip()).ok();
        let strays = |link: &Link| {
            back.is_some_and(|route| route.and_then(|route| route.interface) != Some(link.index))
        };
        links
            .map(|link| Packet {
                strays: strays(link),
                ..path.packet(self.client.ip(), &link.name, self.server.ip())
            })
            .collect()
    }

    /// Returns the path to the socket of the SSH server.
    fn path(&self) -> Path {
        let (address, port) = (self.server.ip(), self.server.port());
        Path::to_socket(Kind::Service, Protocol::Tcp, address, port)
    }

    /// Returns the rule by which a ruleset denies the connection, if it does.
    fn denied(&self, found: &HostFacts, ruleset: &Ruleset) -> Option<Trace> {
        let path = self.path();
        let packets = self.packets(found);
        let mut judged = packets.iter().map(|packet| judge(ruleset, &path, packet));
        let (judgement, trace) = judged.next()?;
        let is_denied = |judgement: Judgement| judgement.verdict() == Verdict::Deny;
        (is_denied(judgement) && judged.all(|(judgement, _)| is_denied(judgement))).then_some(trace)
    }
}

/// Returns a warning if the desired rules deny the connection through which this program is used, and the
/// installed ones do not.
pub(in crate::cli) fn cut(
    loaded: &Policies,
    found: &HostFacts,
    installed: Option<&Installed>,
    wanted: &Ruleset,
) -> Option<Diagnostic> {
    connections()
        .iter()
        .find_map(|connection| cut_one(connection, loaded, found, installed, wanted))
}

fn cut_one(
    connection: &Connection,
    loaded: &Policies,
    found: &HostFacts,
    installed: Option<&Installed>,
    wanted: &Ruleset,
) -> Option<Diagnostic> {
    let trace = connection.denied(found, wanted)?;
    // Large sets are not read, and may be what accepts it.
    let is_denied_now = installed.is_some_and(|installed| {
        let mut sets = installed.facts.sets.values();
        sets.all(|set| set.read) && connection.denied(found, &installed.ruleset).is_some()
    });
    if is_denied_now {
        return None;
    }
    let (client, port) = (connection.client.ip(), connection.server.port());
    let mut diagnostic = Diagnostic::warning(
        "cuts-your-connection",
        format!("this cuts your own SSH connection, from {client} to port {port}"),
    );
    let comment = trace.steps.last().and_then(|step| step.comment.as_deref());
    let origin = comment.and_then(Origin::parse);
    let span = origin.and_then(|origin| line_behind(&loaded.sources, &loaded.files, &origin));
    if let Some(span) = span {
        diagnostic = diagnostic.at(span, "denied by this");
    }
    Some(
        diagnostic
            .help(format!("allow {client} at port {port}"))
            .help("`dfw apply --confirm 60s` rolls back if you cannot confirm"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sshd_tells_is_understood() {
        let connection = |text| parse(text).map(|c| (c.client.to_string(), c.server.to_string()));
        let of = |client: &str, server: &str| Some((client.to_owned(), server.to_owned()));
        assert_eq!(
            connection("203.0.113.9 50000 192.0.2.1 22"),
            of("203.0.113.9:50000", "192.0.2.1:22")
        );
        assert_eq!(
            connection("fe80::1%eth0 50000 fe80::2%eth0 22"),
            of("[fe80::1]:50000", "[fe80::2]:22")
        );
        assert_eq!(
            connection("::ffff:203.0.113.9 50000 ::ffff:192.0.2.1 22"),
            of("203.0.113.9:50000", "192.0.2.1:22")
        );
        for wrong in ["", "UNKNOWN 65535 UNKNOWN 65535", "203.0.113.9 5 ::1 22"] {
            assert_eq!(connection(wrong), None, "{wrong}");
        }
    }
}
