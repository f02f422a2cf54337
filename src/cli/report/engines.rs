//! Notices about container engines that were not queried or do not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::compile;
use crate::host::docker::Unanswered;
use crate::host::listener::{Listener, Role};
use crate::host::{HostView, Publication};
use crate::policy::Policy;
use crate::site::HostFacts;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted::clean_to;

/// The slug of the notice about an engine that was not queried.
const NOT_ASKED: &str = "engine-not-asked";
/// The number of sockets listed for an engine.
const LISTED: usize = 5;

/// Returns what a policy does not get to hear or to judge.
pub(in crate::cli) fn notices(policy: &Policy, found: &HostFacts) -> Vec<Diagnostic> {
    let unanswered = found.unanswered.iter().map(|error| {
        let remembered: usize = found
            .host
            .remembered
            .iter()
            // Those are denied over the wire only, and whatever the default is.
            .filter(|range| !range.address.is_some_and(|address| address.is_loopback()))
            .map(|range| usize::from(range.last - range.first) + 1)
            .sum();
        Diagnostic::warning("engine-unanswered", short(error))
            .help(
                "ports with a policy entry and forwarded ports are filtered anyway; only docker-proxy sockets \
                 on other ports cannot be distinguished from services of the host",
            )
            .help(match remembered {
                0 => "apply again when the engine answers".to_owned(),
                ports => format!(
                    "ports that it published before stay denied ({ports} without a policy entry); apply \
                     again when the engine answers"
                ),
            })
    });
    let sockets = found.host.sockets();
    let held = compile::unnamed(policy, &found.host).flat_map(|publication| {
        let holders = sockets
            .holders_of(&publication)
            .map(move |holder| held(holder, &publication));
        holders.collect::<Vec<_>>()
    });
    let unasked = unasked(&found.host);
    let mut notices: Vec<Diagnostic> = unanswered.chain(held).chain(unasked).collect();
    notices.dedup_by(|a, b| a.message == b.message);
    notices
}

/// Returns why an engine does not answer, shortened.
pub(in crate::cli) fn short(error: &Unanswered) -> String {
    /// The maximum number of characters.
    const LONGEST: usize = 600;
    clean_to(&error.to_string(), LONGEST)
}

/// Returns warnings about engines whose published ports are unknown.
pub(in crate::cli) fn unanswered(found: &HostFacts) -> Vec<Diagnostic> {
    let unanswered = found.unanswered.iter();
    unanswered
        .map(|error| {
            Diagnostic::warning("engine-unanswered", short(error))
                .help("its published ports are missing from the result")
        })
        .collect()
}

/// Returns whether a notice of [`unasked`] is about an engine of which more is not known than its sockets tell.
pub(in crate::cli) fn is_unknown(notice: &Diagnostic) -> bool {
    notice.slug == NOT_ASKED
}

/// Returns the warning about a service of the host on a port that a container would publish.
fn held(holder: &Listener, publication: &Publication<'_>) -> Diagnostic {
    let by = match &holder.owner {
        Some(owner) => format!("`{}` (process {})", owner.name, owner.pid),
        None => "a process that dfw cannot see".to_owned(),
    };
    let port = SocketAddr::new(holder.address, holder.port);
    let protocol = holder.protocol.name();
    let title = publication.of.title();
    Diagnostic::warning(
        "port-held",
        format!("port {port}/{protocol}, which container {title} publishes, is held by {by}"),
    )
    .help("it counts as a service of this host and is not filtered; to filter it, add the port to the policy")
}

/// Sockets that serve published ports of engines that were not asked: their ports are closed like all
/// that no policy names, but what else these engines open is not known.
pub(in crate::cli) fn unasked(host: &HostView) -> Vec<Diagnostic> {
    let mut engines: BTreeMap<Option<u32>, (Role, BTreeSet<String>)> = BTreeMap::new();
    let explanations = host.explanations();
    for listener in host
        .serving()
        .filter(|listener| !explanations.explains(listener))
    {
        if let Some(owner) = &listener.owner {
            let by = match owner.role {
                Role::Rootless => Some(owner.pid),
                _ => owner.parent,
            };
            let port = SocketAddr::new(listener.address, listener.port);
            let (_, ports) = engines.entry(by).or_insert((owner.role, BTreeSet::new()));
            ports.insert(format!("{port}/{}", listener.protocol.name()));
        }
    }
    let notice = |(by, (role, ports)): (Option<u32>, (Role, BTreeSet<String>))| {
        let by = by.map_or_else(String::new, |pid| format!(" (process {pid})"));
        let more = ports.len().saturating_sub(LISTED);
        let mut ports: Vec<String> = ports.into_iter().take(LISTED).collect();
        ports.extend((more > 0).then(|| format!("{more} more")));
        let ports = ports.join(", ");
        match role {
            Role::Rootless => Diagnostic::warning(
                "rootless-engine",
                format!("a rootless engine{by} publishes {ports}"),
            )
            .help("`default: deny` denies these sockets; a policy entry allows its sources"),
            _ => Diagnostic::warning(
                NOT_ASKED,
                format!("an engine that was not queried{by} publishes {ports}"),
            )
            .help(
                "`default: deny` denies these sockets, but traffic routed directly to its containers is not \
                 covered",
            )
            .help("add its socket with `--docker-host`, which can be repeated"),
        }
    };
    engines.into_iter().map(notice).collect()
}
