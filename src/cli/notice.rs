//! What the user should know of this host beside his policy: nothing is wrong, but it may not be
//! as he thinks.

use crate::diagnostic::Diagnostic;
use crate::host::HostView;
use crate::netlink::object::shares_hook;
use crate::netlink::snapshot::Neighbour;
use crate::policy::{InterfacePattern, Policy};
use crate::ruleset::Hook;

/// Everything worth a word.
pub(super) fn notices(
    policy: &Policy,
    host: &HostView,
    neighbours: &[Neighbour],
) -> Vec<Diagnostic> {
    let shared = host.shared_bridges.iter().map(|name| shared_bridge(name));
    let mut notices: Vec<_> = guessed(policy, host)
        .map(|name| guessed_bridge(name))
        .collect();
    notices.extend(shared);
    notices.extend(neighbours.iter().filter(|n| is_level(policy, n)).map(level));
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
        "what is routed or forwarded to it is refused like traffic to containers, and what comes \
         from it counts as coming from outside",
    )
    .help(format!(
        "say whose it is under `settings`: add `{name}` to `container-interfaces` or to \
         `foreign-interfaces`"
    ))
}

/// Whether a chain of somebody else has the very priority of dfw's.
fn is_level(policy: &Policy, neighbour: &Neighbour) -> bool {
    neighbour.kind == "filter"
        && neighbour.priority == policy.settings.priority
        && [Hook::Forward, Hook::Input]
            .iter()
            .any(|hook| shares_hook(neighbour.family, neighbour.hook, *hook))
}

fn level(neighbour: &Neighbour) -> Diagnostic {
    Diagnostic::warning(
        "same-priority",
        format!(
            "chain {} of table {} has the same priority as dfw's: which comes first is not defined",
            neighbour.chain, neighbour.table
        ),
    )
    .help("choose another `priority` under `settings`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::read;
    use crate::source::Sources;

    fn policy(text: &str) -> Policy {
        let mut sources = Sources::in_memory([("p.yaml", text)]);
        let files = sources.read_policies("p.yaml".as_ref()).unwrap();
        read(&mut sources, &files).unwrap().0
    }

    #[test]
    fn bridges_that_are_only_guessed_are_named_until_the_policy_says_whose_they_are() {
        let host = HostView {
            other_bridges: ["br-own", "lan"].map(str::to_owned).into(),
            ..HostView::default()
        };
        let slugs = |text| -> Vec<_> {
            notices(&policy(text), &host, &[])
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
}
