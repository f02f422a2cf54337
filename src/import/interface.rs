//! Where a packet from outside may come in.

use std::collections::BTreeSet;

use super::rule::{Kind, Rule};

/// A class of interfaces that the rules treat alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Incoming {
    /// The interface with this name.
    Named(String),
    /// Interfaces with this prefix that no rule names.
    Like(String),
    /// Interfaces that no rule matches.
    Other,
}

impl Incoming {
    /// Returns whether a pattern, a name or a prefix with `+`, matches the interface.
    pub(super) fn matches(&self, pattern: &str) -> bool {
        match (self, pattern.strip_suffix('+')) {
            (Self::Named(name), None) => name == pattern,
            (Self::Named(name), Some(prefix)) => name.starts_with(prefix),
            (Self::Like(own), Some(prefix)) => own.starts_with(prefix),
            (Self::Other, Some("")) => true,
            (Self::Like(_) | Self::Other, _) => false,
        }
    }

    /// Returns the classes of interfaces that are not bridges of the engine; the last is
    /// [`Other`](Self::Other).
    pub(super) fn outside<'a>(
        rules: impl IntoIterator<Item = &'a Rule>,
        bridges: &BTreeSet<String>,
    ) -> Vec<Self> {
        let mut outside = BTreeSet::from([Self::Other]);
        for rule in rules {
            for found in &rule.matches {
                let Kind::Incoming(pattern) = &found.kind else {
                    continue;
                };
                match pattern.strip_suffix('+') {
                    Some("") => {}
                    Some(prefix) if !is_beginning_of_containers(prefix) => {
                        outside.insert(Self::Like(prefix.to_owned()));
                    }
                    None if pattern != "lo"
                        && !is_containers(pattern)
                        && !bridges.contains(pattern) =>
                    {
                        outside.insert(Self::Named(pattern.clone()));
                    }
                    _ => {}
                }
            }
        }
        outside.into_iter().collect()
    }
}

/// Returns whether a name has the form of an engine's bridge.
pub(super) fn is_containers(name: &str) -> bool {
    let rest_is = |prefix: &str, digits: fn(&u8) -> bool, length: Option<usize>| {
        name.strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty()
                && length.is_none_or(|length| rest.len() == length)
                && rest.as_bytes().iter().all(digits)
        })
    };
    name == "docker0"
        || name == "docker_gwbridge"
        || rest_is("br-", u8::is_ascii_hexdigit, Some(12))
        || rest_is("podman", u8::is_ascii_digit, None)
        || rest_is("cni-podman", u8::is_ascii_digit, None)
}

/// Returns whether a prefix is one of engines' bridges.
fn is_beginning_of_containers(prefix: &str) -> bool {
    [
        "docker0",
        "docker_gwbridge",
        "br-0123",
        "podman0",
        "cni-podman0",
    ]
    .iter()
    .any(|name| name.starts_with(prefix))
        || prefix.starts_with("veth")
        || prefix.starts_with("br-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_engines_are_known() {
        for name in ["docker0", "br-0123456789ab", "podman1", "cni-podman0"] {
            assert!(is_containers(name), "{name}");
        }
        for name in ["eth0", "br-lan", "br0", "podman", "wg0"] {
            assert!(!is_containers(name), "{name}");
        }
    }

    #[test]
    fn a_pattern_is_about_what_begins_so() {
        let named = Incoming::Named("eth0".to_owned());
        let like = Incoming::Like("eth".to_owned());
        assert!(named.matches("eth0") && named.matches("eth+") && named.matches("+"));
        assert!(!named.matches("eth1") && !named.matches("wg+"));
        assert!(like.matches("e+") && like.matches("eth+") && !like.matches("eth0"));
        assert!(Incoming::Other.matches("+") && !Incoming::Other.matches("eth+"));
    }
}
