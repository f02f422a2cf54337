//! The verdict of one family's rules on one port.

use super::interface::Incoming;
use super::trail::Trail;
use crate::net::{AddressSet, Family};

/// The verdict of one family's rules on one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The allowed sources.
    pub(super) allowed: AddressSet,
    /// The interfaces on which they are allowed; empty for all.
    pub(super) interfaces: Vec<String>,
    /// Whether the rules allow more sources on some interface than the policy.
    pub(super) stricter: bool,
    pub(super) trail: Trail,
}

/// The result for one interface.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) allowed: AddressSet,
    pub(super) trail: Trail,
}

impl Verdict {
    /// Merges the results of all incoming interfaces.
    ///
    /// A policy can say two things: these sources through all interfaces, or these sources through
    /// those interfaces and nobody through others. Where neither is just what the rules say, the
    /// strictest is taken.
    pub(super) fn join(family: Family, answers: &[(Incoming, Answer)]) -> Self {
        let mut trail = Trail::default();
        for (_, answer) in answers {
            trail.add(&answer.trail);
        }
        let open = || {
            answers
                .iter()
                .filter(|(_, answer)| !answer.allowed.is_empty())
        };
        let closed = answers.len() - open().count();
        let common = |answers: &mut dyn Iterator<Item = &(Incoming, Answer)>| {
            answers.fold(AddressSet::all(family), |all, (_, answer)| {
                all.intersection(&answer.allowed)
            })
        };
        let names: Option<Vec<String>> = open()
            .filter(|(incoming, _)| *incoming != Incoming::Other)
            .map(|(incoming, _)| match incoming {
                Incoming::Named(name) if is_plain(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        let (allowed, interfaces) = match names {
            Some(names) if closed > 0 && !names.is_empty() => {
                let has_name = |(incoming, _): &&(Incoming, Answer)| *incoming != Incoming::Other;
                (common(&mut open().filter(has_name)), names)
            }
            _ => (common(&mut answers.iter()), Vec::new()),
        };
        let interfaces = if allowed.is_empty() {
            Vec::new()
        } else {
            interfaces
        };
        let stricter = answers.iter().any(|(incoming, answer)| {
            let is_listed = match incoming {
                _ if interfaces.is_empty() => true,
                Incoming::Named(name) => interfaces.contains(name),
                _ => false,
            };
            answer.allowed
                != if is_listed {
                    allowed.clone()
                } else {
                    AddressSet::default()
                }
        });
        Self {
            allowed,
            interfaces,
            stricter,
            trail,
        }
    }
}

/// Returns whether an interface name needs no quotes in YAML.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 15
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b))
        && !["true", "false", "null", "yes", "no", "on", "off"].contains(&name)
}
