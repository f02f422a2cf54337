//! `settings:`: how the host looks and where dfw hooks in.

use std::ops::RangeInclusive;

use super::interface::parse_pattern;
use super::reader::Reader;
use super::syntax::{Member, Node, Value};
use super::{InterfacePattern, Settings};
use crate::text::diagnostic::Diagnostic;

pub(super) const KEYS: [&str; 5] = [
    "connection-mark",
    "container-interfaces",
    "foreign-interfaces",
    "log",
    "priority",
];

/// Priorities at which the base chains do their work.
///
/// Source: `enum nf_ip_hook_priorities` of `linux/netfilter_ipv4.h`: conntrack is at -200, Docker
/// filters at 0.
pub(super) const PRIORITIES: RangeInclusive<i32> = -199..=-1;

impl Default for Settings {
    fn default() -> Self {
        let patterns = |names: &[&str]| {
            let patterns = names.iter().filter_map(|text| parse_pattern(text).ok());
            patterns.collect()
        };
        Self {
            connection_mark: false,
            container_interfaces: patterns(&["docker0", "docker_gwbridge", "br-*", "podman*"]),
            // Bridges of libvirt, LXD, LXC, Incus and Kubernetes' bridge plugin, by their own
            // names.
            foreign_interfaces: patterns(&["virbr*", "lxdbr*", "lxcbr*", "incusbr*", "cni0"]),
            log: false,
            priority: -4,
        }
    }
}

impl Reader<'_> {
    /// Reads what is below `settings:`.
    pub(super) fn read_settings(&mut self, node: &Node) {
        let help = "the settings are `connection-mark`, `container-interfaces`, \
                    `foreign-interfaces`, `log` and `priority`";
        for member in self.section(node, "`settings`", help) {
            if !KEYS.contains(&member.key.as_str()) {
                self.unknown_key(member, &KEYS, "`settings`");
                continue;
            }
            if member.repeated {
                continue;
            }
            if let Some(first) = self.settings.origins.get(&member.key) {
                self.report.push(
                    Diagnostic::error("duplicate-key", format!("`{}` is set twice", member.key))
                        .at(member.key_span.clone(), "set again here")
                        .related(first.clone(), "first set here")
                        .help("keep one of them: all files of the directory are one policy"),
                );
                continue;
            }
            self.settings
                .origins
                .insert(member.key.clone(), member.key_span.clone());
            self.read_setting(member);
        }
    }

    fn read_setting(&mut self, member: &Member) {
        match member.key.as_str() {
            "connection-mark" => {
                self.settings.settings.connection_mark = self.read_flag(member);
            }
            "container-interfaces" => {
                self.settings.settings.container_interfaces = self.read_patterns(member);
            }
            "foreign-interfaces" => {
                self.settings.settings.foreign_interfaces = self.read_patterns(member);
            }
            "log" => self.settings.settings.log = self.read_flag(member),
            _ => match &member.value.value {
                Value::Scalar { text, plain: true } if priority(text).is_some() => {
                    self.settings.settings.priority = priority(text).unwrap_or_default();
                }
                Value::Refused => {}
                _ => self.report.push(
                    Diagnostic::error("priority", "`priority` is a whole number from -199 to -1")
                        .at(member.value.span.clone(), "not such a number")
                        .help("dfw must come after conntrack (-200) and before Docker (0)"),
                ),
            },
        }
    }

    fn read_patterns(&mut self, member: &Member) -> Vec<InterfacePattern> {
        let what = "the name of an interface, or its beginning and `*`";
        let key = format!("`{}`", member.key);
        let items = self.one_or_many(&member.value, &key, what);
        let mut patterns = Vec::new();
        for (text, span) in items.unwrap_or_default() {
            match parse_pattern(text) {
                Ok(pattern) if patterns.contains(&pattern) => {}
                Ok(pattern) => patterns.push(pattern),
                Err(mistake) => self.report.push(mistake.at(span)),
            }
        }
        patterns
    }
}

fn priority(text: &str) -> Option<i32> {
    let number: i32 = text.parse().ok()?;
    // `-04` and `+4` are read as numbers, but nobody would mean them.
    (PRIORITIES.contains(&number) && number.to_string() == text).then_some(number)
}
