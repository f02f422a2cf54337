//! Notices about this host that concern the policy: no errors, but possible surprises.

use crate::net::{HostPorts, KeysByPort, Protocol};
use std::collections::BTreeMap;

use crate::analysis::audit::{Admits, Exposure, Report};
use crate::analysis::path::Reach;
use crate::compile;
use crate::host::HostView;
use crate::host::local_ports::LocalPorts;
use crate::kernel::ForeignBaseChain;
use crate::nftables::object::shares_hook;
use crate::policy::{DefaultAction, InterfacePattern, Policy, database};
use crate::ruleset::{Hook, Ruleset};
use crate::site::HostFacts;
use crate::store::Policies;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted::clean;

use super::engines;

/// The number of port ranges listed.
const LISTED: usize = 5;

/// Returns all notices about the host and its engines.
pub(in crate::cli) fn all_notices(
    loaded: &Policies,
    site: &HostFacts,
    foreign_chains: &[ForeignBaseChain],
) -> Vec<Diagnostic> {
    let mut notices = engines::notices(&loaded.policy, site);
    notices.extend(of_host(&loaded.policy, &site.host, foreign_chains));
    notices
}

/// Returns all notices about the host.
fn of_host(
    policy: &Policy,
    host: &HostView,
    foreign_chains: &[ForeignBaseChain],
) -> Vec<Diagnostic> {
    let shared = host.shared_bridges.iter().map(|name| shared_bridge(name));
    let mut notices: Vec<_> = guessed(policy, host)
        .map(|name| guessed_bridge(name))
        .collect();
    notices.extend(shared);
    notices.extend(lans(policy, host));
    notices.extend(interfaces(policy, host));
    notices.extend(sources(policy, host));
    notices.extend(missing_reverse_path(policy, host));
    notices.extend(local_ports(policy, &host.local_ports));
    notices.extend(left_open(policy, host));
    notices.extend(open_databases(policy, host));
    notices.extend(
        foreign_chains
            .iter()
            .filter(|n| is_level(policy, n))
            .map(level),
    );
    notices
}

/// Returns warnings about bridges that count as container bridges only by their name prefix.
fn guessed<'a>(policy: &Policy, host: &'a HostView) -> impl Iterator<Item = &'a String> {
    let covered = |patterns: &[InterfacePattern], name: &str, exact: bool| {
        patterns.iter().any(|pattern| match pattern {
            InterfacePattern::Exact(known) => exact && known.as_str() == name,
            InterfacePattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
        })
    };
    let settings = &policy.settings;
    host.other_bridges.iter().filter(move |name| {
        let known = settings.container_interfaces.iter();
        let known = known
            .filter(|p| matches!(p, InterfacePattern::Exact(_)))
            .cloned();
        covered(&settings.container_interfaces, name, false)
            && !covered(&known.collect::<Vec<_>>(), name, true)
            && !covered(&settings.foreign_interfaces, name, true)
    })
}

/// Returns warnings about LAN bridges named like container networks: while no network card is attached, as at
/// boot, they count as container bridges.
fn lans<'a>(policy: &'a Policy, host: &'a HostView) -> impl Iterator<Item = Diagnostic> + use<'a> {
    let settings = &policy.settings;
    let is_one = |name: &str, patterns: &[InterfacePattern]| {
        patterns.iter().any(|pattern| match pattern {
            InterfacePattern::Exact(known) => known.as_str() == name,
            InterfacePattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
        })
    };
    let lans = host.foreign_bridges.iter().filter(move |name| {
        is_one(name, &settings.container_interfaces) && !is_one(name, &settings.foreign_interfaces)
    });
    lans.map(|name| {
        let known = settings.foreign_interfaces.iter().map(|pattern| match pattern {
            InterfacePattern::Exact(name) => name.as_str().to_owned(),
            InterfacePattern::Prefix(prefix) => format!("\"{prefix}*\""),
        });
        let line: Vec<String> = [clean(name)].into_iter().chain(known).collect();
        Diagnostic::warning(
            "lan-like-containers",
            format!("LAN bridge `{name}` is named like a container network"),
        )
        .help(
            "if rules are applied before a network card is attached, as at boot, traffic routed to it is \
             dropped until the next apply; `dfw guard` reapplies when the card is attached",
        )
        .help(format!(
            "add under `settings`: `foreign-interfaces: [{}]`",
            line.join(", ")
        ))
    })
}

/// Returns warnings about interfaces of ports on which no packet arrives.
fn interfaces(policy: &Policy, host: &HostView) -> Vec<Diagnostic> {
    if host.interfaces.is_empty() {
        return Vec::new();
    }
    let mut ports: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, port) in &policy.ports {
        for name in &port.interfaces {
            ports
                .entry(name.as_str())
                .or_default()
                .push(key.to_string());
        }
    }
    let notice = |(name, ports): (&str, Vec<String>)| {
        let port = match &ports[..] {
            [port] => format!("port {port}"),
            ports => format!("{} ports", ports.len()),
        };
        Some(match host.interfaces.get(name) {
            None => absent(name, &port),
            Some(Some(controller)) => port_of(name, controller, &port),
            Some(None) => return None,
        })
    };
    ports.into_iter().filter_map(notice).collect()
}

/// Returns warnings about sources whose interface is missing on the host.
fn sources<'a>(policy: &'a Policy, host: &'a HostView) -> impl Iterator<Item = Diagnostic> + 'a {
    policy.on_host().flat_map(|(name, source, _)| {
        let missing = compile::held(source, host).missing.into_iter();
        missing.map(move |missing| {
            let message = format!("the source `{name}` is incomplete: {missing}");
            Diagnostic::warning("source-missing", message)
                .at(source.origin.clone(), "this allows nobody")
                .help("`dfw guard` updates the source when it is available; without guard, apply again")
        })
    })
}

/// Returns warnings about sources that are empty because the host is unknown.
pub(in crate::cli) fn without_host(policy: &Policy) -> impl Iterator<Item = Diagnostic> {
    policy.on_host().map(|(name, source, on_host)| {
        let message = format!("the source `{name}` depends on the host");
        Diagnostic::warning("depends-on-host", message)
            .at(source.origin.clone(), on_host.describe())
            .help("these rules leave it empty; `dfw plan` shows its addresses on this host")
    })
}

/// Returns warnings about interfaces in the rules in force on which no packet arrives.
pub(in crate::cli) fn admitting(
    ruleset: &Ruleset,
    interfaces: &BTreeMap<String, Option<String>>,
) -> Vec<Diagnostic> {
    let names = compile::admitting(ruleset).into_iter();
    let notice = |name: &str| match interfaces.get(name) {
        None => Some(absent(name, "a port")),
        Some(Some(controller)) => Some(port_of(name, controller, "a port")),
        Some(None) => None,
    };
    names.filter_map(notice).collect()
}

fn absent(name: &str, port: &str) -> Diagnostic {
    let (is, has) = (
        "that interface does not exist",
        format!("{port} admits only"),
    );
    Diagnostic::warning(
        "interface-missing",
        format!("{has} packets from `{name}`, but {is}"),
    )
    .help("nobody is allowed through it until it exists; `ip link` lists the interfaces (an `altname` does not count)")
}

fn port_of(name: &str, controller: &str, port: &str) -> Diagnostic {
    Diagnostic::warning(
        "interface-in-another",
        format!("`{name}` of {port} is a port of `{controller}`: packets arrive on `{controller}`"),
    )
    .help(format!(
        "nobody is allowed through `{name}`; write `{controller}` in its place"
    ))
}

/// Returns the warning that this kernel does not support `fib` in the forward hook.
fn missing_reverse_path(policy: &Policy, host: &HostView) -> Option<Diagnostic> {
    let lacks = policy.settings.reverse_path_filter && host.old_kernel;
    lacks.then(|| {
        Diagnostic::warning(
            "no-reverse-path-filter",
            "`reverse-path-filter` has no effect: it needs Linux 6.1",
        )
        .help("for IPv4, use the sysctl `net.ipv4.conf.all.rp_filter=1`")
    })
}

/// Returns warnings about policy entries within the local (ephemeral) port range.
pub(in crate::cli) fn local_ports(policy: &Policy, local: &LocalPorts) -> Vec<Diagnostic> {
    let overlaps = compile::overlaps(policy, local).into_iter();
    let notice = |overlap: compile::Overlap| {
        let ports = ranges(&overlap.ports);
        let protocol = overlap.protocol;
        let remains = match overlap.protocol {
            Protocol::Udp => {
                "replies are accepted there: a peer to which a local socket sent a packet first can reply, \
                 listed or not"
            }
            _ => "replies are accepted there on connections that this host opened after the apply",
        };
        let message = format!(
            "{protocol} ports {ports} are in this host's ephemeral port range (ip_local_port_range)"
        );
        Diagnostic::warning("local-ports", message)
            .help(remains)
            .help(reserve(overlap.reserve))
    };
    overlaps.map(notice).collect()
}

/// Returns warnings about published ports that are open to everybody and lead to the port of a database in a
/// container.
fn open_databases(policy: &Policy, host: &HostView) -> Vec<Diagnostic> {
    let mut notices = Vec::new();
    let keys: KeysByPort<'_> = policy.ports.keys().collect();
    let running = host
        .publications()
        .filter(|publication| publication.of.is_running());
    for publication in running {
        let published = &publication.published;
        if published.address.is_loopback() {
            continue;
        }
        for (port, target) in
            (published.first..=published.last).zip(published.container_port..=u16::MAX)
        {
            let address = published.port().named().address;
            let asked = HostPorts::one(address, published.protocol, port);
            let open = keys
                .decisive(&asked)
                .and_then(|key| policy.ports.get(key))
                .filter(|port| port.is_open());
            if let (Some(open), Some(database)) = (open, database(published.protocol, target)) {
                let message = format!(
                    "port {asked} is open to everybody, and leads to port {target} of container {}: {}",
                    publication.of.title(),
                    database.name
                );
                notices.push(
                    Diagnostic::warning("open-database", message)
                        .at(open.origin.clone(), "open to everybody")
                        .note(database.reason)
                        .help("list its clients here"),
                );
            }
        }
    }
    // Podman and Docker publish a port of both families as two.
    without_repetitions(notices)
}

/// Returns warnings about paths to the port of a database that are open to everybody.
pub(in crate::cli) fn exposed_databases(report: &Report) -> Vec<Diagnostic> {
    let exposures = report.exposures.iter().chain(&report.services);
    let open = exposures
        .filter(|exposure| exposure.admits == Admits::Any && exposure.path.reach == Reach::Anybody);
    let notices = open.filter_map(|Exposure { path, .. }| {
        let target = path.target.as_ref().map(|target| target.port);
        let port = target.or(path.redirected).or(path.port)?;
        let database = database(path.protocol, port)?;
        let message = format!(
            "port {} is open to everyone: {}",
            path.port_text(),
            database.name
        );
        Some(Diagnostic::warning("open-database", message).help(database.reason))
    });
    without_repetitions(notices.collect())
}

fn without_repetitions(mut notices: Vec<Diagnostic>) -> Vec<Diagnostic> {
    notices.sort_by(|a, b| a.message.cmp(&b.message));
    notices.dedup_by(|a, b| a.message == b.message);
    notices
}

/// Returns warnings about ports of stopped containers, which are closed only while they run.
fn left_open(policy: &Policy, host: &HostView) -> Vec<Diagnostic> {
    if policy.default == DefaultAction::Allow {
        return Vec::new();
    }
    let notices = compile::left_open(policy, host).map(|(publication, open)| {
        let (title, ports) = (publication.of.title(), ranges(&open));
        let protocol = publication.published.protocol.name();
        Diagnostic::warning(
            "closed-when-it-runs",
            format!(
                "ports {ports}/{protocol} of container {title} are closed only while it runs: they are in \
                 this host's ephemeral port range (ip_local_port_range)"
            ),
        )
        .help(
            "`dfw guard` closes them as soon as docker-proxy listens; without guard, apply again when the \
             container runs, or add the ports to the policy",
        )
    });
    let mut notices: Vec<Diagnostic> = notices.collect();
    notices.dedup_by(|a, b| a.message == b.message);
    notices
}

fn reserve(line: Option<String>) -> String {
    match line {
        Some(ports) => format!(
            "to prevent this, add to /etc/sysctl.d/: `net.ipv4.ip_local_reserved_ports = {ports}`"
        ),
        None => "too few ephemeral ports would be left to reserve these; list fewer, or widen \
                 net.ipv4.ip_local_port_range"
            .to_owned(),
    }
}

fn ranges(ports: &[(u16, u16)]) -> String {
    let text = |(first, last): &(u16, u16)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let mut texts: Vec<String> = ports.iter().take(LISTED).map(text).collect();
    if let more @ 1.. = ports.len().saturating_sub(LISTED) {
        texts.push(format!("{more} more"));
    }
    texts.join(", ")
}

fn shared_bridge(name: &str) -> Diagnostic {
    Diagnostic::warning(
        "shared-bridge",
        format!("bridge `{name}` has ports other than containers"),
    )
    .help("packets from it count as coming from outside, because they can come over a network card")
}

fn guessed_bridge(name: &str) -> Diagnostic {
    Diagnostic::warning(
        "whose-bridge",
        format!("cannot tell whether bridge `{name}` belongs to a container engine"),
    )
    .help(
        "packets routed or forwarded to it are denied like those to containers, and packets from it count \
         as coming from outside",
    )
    .help(format!(
        "add `{name}` to `container-interfaces` or `foreign-interfaces` under `settings`"
    ))
}

/// Returns whether another table's chain has the same priority as dfw's.
fn is_level(policy: &Policy, chain: &ForeignBaseChain) -> bool {
    chain.kind == "filter"
        && chain.priority == policy.settings.priority
        && [Hook::Forward, Hook::Input]
            .iter()
            .any(|hook| shares_hook(chain.family, chain.hook, *hook))
}

fn level(chain: &ForeignBaseChain) -> Diagnostic {
    Diagnostic::warning(
        "same-priority",
        format!(
            "chain {} of table {} has the same priority as dfw's: their order is undefined",
            chain.chain, chain.table
        ),
    )
    .help("choose another `priority` under `settings`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::read;
    use crate::text::SourceMap;

    fn policy(text: &str) -> Policy {
        let mut sources = SourceMap::in_memory([("p.yaml", text)]);
        let files = crate::store::read_policies(&mut sources, "p.yaml".as_ref()).unwrap();
        read(&mut sources, &files).unwrap().0
    }

    #[test]
    fn bridges_of_unknown_owner_are_reported_until_the_policy_lists_them() {
        let host = HostView {
            other_bridges: ["br-own", "lan"].map(str::to_owned).into(),
            ..HostView::default()
        };
        let slugs = |text| -> Vec<_> {
            of_host(&policy(text), &host, &[])
                .into_iter()
                .map(|n| n.message)
                .collect()
        };
        assert_eq!(
            slugs("default: deny"),
            ["cannot tell whether bridge `br-own` belongs to a container engine"]
        );
        assert!(slugs("default: deny\nsettings: {foreign-interfaces: [br-o*]}").is_empty());
        assert!(
            slugs("default: deny\nsettings: {container-interfaces: [br-*, br-own]}").is_empty()
        );
    }

    /// Rules that are applied before its card is in it, as at boot, drop what is routed to it.
    #[test]
    fn a_lan_that_is_called_like_a_container_network_is_named() {
        let host = HostView {
            foreign_bridges: ["br-lan", "lan0"].map(str::to_owned).into(),
            ..HostView::default()
        };
        let notices = of_host(&policy("default: deny"), &host, &[]);
        let [notice] = &notices[..] else {
            panic!("{notices:?}");
        };
        assert_eq!(notice.slug, "lan-like-containers");
        assert!(
            notice.help[1].contains("`foreign-interfaces: [br-lan, \"virbr*\""),
            "{:?}",
            notice.help
        );
        let line = "default: deny\nsettings: {foreign-interfaces: [br-lan, \"virbr*\"]}";
        assert!(of_host(&policy(line), &host, &[]).is_empty());
    }

    #[test]
    fn an_interface_through_which_nothing_comes_is_named() {
        let interfaces = [("eth0", None), ("card", Some("br0")), ("br0", None)];
        let host = HostView {
            interfaces: interfaces
                .map(|(name, of)| (name.to_owned(), of.map(str::to_owned)))
                .into(),
            ..HostView::default()
        };
        let text = "default: deny\nports:\n  80: {allow: any, interface: [card, eth0]}\n  \
                    81: {allow: any, interface: eth7}\n  82: {allow: any, interface: br0}\n";
        let notices = of_host(&policy(text), &host, &[]);
        let messages: Vec<&str> = notices
            .iter()
            .map(|notice| notice.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "`card` of port 80/tcp is a port of `br0`: packets arrive on `br0`",
                "port 81/tcp admits only packets from `eth7`, but that interface does not exist",
            ]
        );
    }

    #[test]
    fn ports_that_the_kernel_chooses_from_come_with_the_line_that_ends_it() {
        let local = LocalPorts::new(Some((32768, 60999)), vec![(40000, 40000)]);
        let text = "default: deny\nports: {49152-65535/udp: any, 50000: any, 443: any}";
        let notices = local_ports(&policy(text), &local);
        assert_eq!(notices.len(), 2);
        for notice in &notices {
            assert!(
                notice.help[1].contains("ip_local_reserved_ports = 40000,49152-60999`"),
                "{:?}",
                notice.help
            );
        }
        // Too few would be left.
        let all = local_ports(&policy("default: deny\nports: {1-65535: any}"), &local);
        assert!(all[0].help[1].contains("too few"), "{:?}", all[0].help);
        let others = LocalPorts::new(Some((32768, 60999)), vec![(49152, 60999)]);
        assert!(local_ports(&policy(text), &others).is_empty());
    }
}
