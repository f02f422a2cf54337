//! What the user should know of this host beside his policy: nothing is wrong, but it may not be
//! as he thinks.

use crate::net::Protocol;
use std::collections::BTreeMap;

use crate::compile;
use crate::host::HostView;
use crate::host::local_ports::LocalPorts;
use crate::kernel::ForeignBaseChain;
use crate::nftables::object::shares_hook;
use crate::policy::{DefaultAction, InterfacePattern, Policy};
use crate::ruleset::{Hook, Ruleset};
use crate::site::HostFacts;
use crate::store::Policies;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted::clean;

use super::engines;

/// How many ranges of ports are listed.
const LISTED: usize = 5;

/// Everything worth a word about the host and its engines.
pub(in crate::cli) fn all_notices(
    loaded: &Policies,
    site: &HostFacts,
    foreign_chains: &[ForeignBaseChain],
) -> Vec<Diagnostic> {
    let mut notices = engines::notices(&loaded.policy, site);
    notices.extend(of_host(&loaded.policy, &site.host, foreign_chains));
    notices
}

/// Everything worth a word about the host.
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
    notices.extend(
        foreign_chains
            .iter()
            .filter(|n| is_level(policy, n))
            .map(level),
    );
    notices
}

/// Bridges that count as containers' because of the beginning of their names only.
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

/// Bridges that are known to be somebody else's by what is in them, and have names like those of container
/// networks: before that is in them, as at boot, they count as such.
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
            format!("bridge `{name}` is a LAN's, and has a name like those of container networks"),
        )
        .help(
            "rules that are applied while no network card is in it, as at boot, drop what is routed to \
             it until the next apply; `dfw guard` sees the card come",
        )
        .help(format!(
            "write under `settings`: `foreign-interfaces: [{}]`",
            line.join(", ")
        ))
    })
}

/// Interfaces that ports admit packets from, and through which none come.
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

/// Sources of which the host does not tell what it should.
fn sources<'a>(policy: &'a Policy, host: &'a HostView) -> impl Iterator<Item = Diagnostic> + 'a {
    policy.on_host().flat_map(|(name, source, _)| {
        let missing = compile::held(source, host).missing.into_iter();
        missing.map(move |missing| {
            let message = format!("the source `{name}` lacks what it is to hold: {missing}");
            Diagnostic::warning("source-missing", message)
                .at(source.origin.clone(), "nobody gets in by this")
                .help("when it is there, `dfw guard` lets them in; without guard, apply again")
        })
    })
}

/// That some sources hold nothing, because nothing is known of a host.
pub(in crate::cli) fn without_host(policy: &Policy) -> impl Iterator<Item = Diagnostic> {
    policy.on_host().map(|(name, source, on_host)| {
        let message = format!("only the host knows what the source `{name}` holds");
        Diagnostic::warning("depends-on-host", message)
            .at(source.origin.clone(), on_host.describe())
            .help("these rules are without it; `dfw plan` shows what it holds on this host")
    })
}

/// Interfaces that the rules in force admit packets from, and through which none come.
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
        "there is no such interface now",
        format!("{port} admits only"),
    );
    Diagnostic::warning(
        "interface-missing",
        format!("{has} what comes in through `{name}`, and {is}"),
    )
    .help("until there is one, nobody gets in through it; `ip link` shows the names")
}

fn port_of(name: &str, controller: &str, port: &str) -> Diagnostic {
    Diagnostic::warning(
        "interface-in-another",
        format!("`{name}`, which {port} names, is a port of `{controller}`: packets come in through `{controller}`"),
    )
    .help(format!("nobody gets in through `{name}`; write `interface: {controller}`"))
}

/// That this kernel cannot ask for a reverse path where packets are judged.
fn missing_reverse_path(policy: &Policy, host: &HostView) -> Option<Diagnostic> {
    let lacks = policy.settings.reverse_path_filter && host.old_kernel;
    lacks.then(|| {
        Diagnostic::warning(
            "no-reverse-path-filter",
            "`reverse-path-filter` has no effect on this kernel, which is older than Linux 6.1",
        )
        .help("for IPv4 the sysctl `net.ipv4.conf.all.rp_filter=1` does the same")
    })
}

/// Ports of keys that the kernel also chooses from for requests of this host.
pub(in crate::cli) fn local_ports(policy: &Policy, local: &LocalPorts) -> Vec<Diagnostic> {
    let overlaps = compile::overlaps(policy, local).into_iter();
    let notice = |overlap: compile::Overlap| {
        let ports = ranges(&overlap.ports);
        let protocol = overlap.protocol;
        let remains = match overlap.protocol {
            Protocol::Udp => {
                "replies pass there: a client that a socket of this host at such a port has sent to first \
                 may answer, listed or not"
            }
            _ => {
                "replies pass there on connections that this host opened after the rules were applied"
            }
        };
        let message = format!(
            "{protocol} ports {ports} are named, and this host sends its own requests from them, too"
        );
        Diagnostic::warning("local-ports", message)
            .help(remains)
            .help(reserve(overlap.reserve))
    };
    overlaps.map(notice).collect()
}

/// Ports of containers that do not run, which are closed only when they do.
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
                "ports {ports}/{protocol}, which container {title} publishes, are closed only when it \
                 runs: this host sends its own requests from them, too"
            ),
        )
        .help(
            "`dfw guard` closes them as soon as docker-proxy listens; without it, apply again when the \
             container runs, or name the ports",
        )
    });
    let mut notices: Vec<Diagnostic> = notices.collect();
    notices.dedup_by(|a, b| a.message == b.message);
    notices
}

fn reserve(line: Option<String>) -> String {
    match line {
        Some(ports) => format!(
            "this line in /etc/sysctl.d/ ends it: `net.ipv4.ip_local_reserved_ports = {ports}`"
        ),
        None => "too few ports would be left to reserve these; name fewer, or widen \
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
        format!("bridge `{name}` has more in it than containers"),
    )
    .help("what comes from it counts as coming from outside, as it may come over a network card")
}

fn guessed_bridge(name: &str) -> Diagnostic {
    Diagnostic::warning(
        "whose-bridge",
        format!("bridge `{name}` may or may not belong to a container engine"),
    )
    .help(
        "what is routed or forwarded to it is denied like traffic to containers, and what comes \
         from it counts as coming from outside",
    )
    .help(format!(
        "say whose it is under `settings`: add `{name}` to `container-interfaces` or to \
         `foreign-interfaces`"
    ))
}

/// Whether a chain of somebody else has the very priority of dfw's.
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
            "chain {} of table {} has the same priority as dfw's: which comes first is not defined",
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
    fn bridges_that_are_only_guessed_are_named_until_the_policy_says_whose_they_are() {
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
            ["bridge `br-own` may or may not belong to a container engine"]
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
        let told = of_host(&policy("default: deny"), &host, &[]);
        let [notice] = &told[..] else {
            panic!("{told:?}");
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
        let told = of_host(&policy(text), &host, &[]);
        let messages: Vec<&str> = told.iter().map(|notice| notice.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "`card`, which port 80/tcp names, is a port of `br0`: packets come in through `br0`",
                "port 81/tcp admits only what comes in through `eth7`, and there is no such interface now",
            ]
        );
    }

    #[test]
    fn ports_that_the_kernel_chooses_from_come_with_the_line_that_ends_it() {
        let local = LocalPorts::new(Some((32768, 60999)), vec![(40000, 40000)]);
        let text = "default: deny\nports: {49152-65535/udp: any, 50000: any, 443: any}";
        let told = local_ports(&policy(text), &local);
        assert_eq!(told.len(), 2);
        for notice in &told {
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
