//! `settings:`: how the host looks and where dfw hooks in.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Value as Schema, json};

use crate::text::Span;
use crate::text::diagnostic::Diagnostic;

use super::interface::{self, InterfacePattern, parse_pattern};
use super::yaml::{Member, Node, Reader, Value, members, one_or_many};

/// The valid priorities of the base chains: after conntrack and mangle, before `filter`.
///
/// Source: `enum nf_ip_hook_priorities` of `linux/netfilter_ipv4.h`: conntrack is at -200, Docker
/// filters at 0.
const PRIORITIES: RangeInclusive<i32> = -199..=-1;

#[expect(
    clippy::struct_excessive_bools,
    reason = "settings that do not depend on each other"
)]
/// The settings: interfaces of the host, logging, and the base chains' priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `connection-mark`: whether accepted connections are marked (`ct mark`) and evaluated again only after
    /// the next change.
    pub connection_mark: bool,
    /// `container-interfaces`: the interfaces that `default: deny` protects.
    pub container_interfaces: Vec<InterfacePattern>,
    /// `early-drop`: whether TCP connections that a port denies are dropped as they arrive.
    pub early_drop: bool,
    /// `foreign-interfaces`: bridges of other software (libvirt, LXD, CNI), which `default: deny` does not
    /// filter.
    pub foreign_interfaces: Vec<InterfacePattern>,
    /// `log`: whether packets that `default: deny` drops are logged.
    pub log: bool,
    /// `reverse-path-filter`: whether ports of the policy deny packets whose source is routed through another
    /// interface than they arrived on.
    pub reverse_path_filter: bool,
    /// `priority` of the base chains, relative to `filter` (0): -199 to -1.
    pub priority: i32,
}

impl Default for Settings {
    fn default() -> Self {
        let patterns = |names: &[&str]| {
            let patterns = names.iter().filter_map(|text| parse_pattern(text).ok());
            patterns.collect()
        };
        Self {
            connection_mark: false,
            container_interfaces: patterns(&["docker0", "docker_gwbridge", "br-*", "podman*"]),
            early_drop: true,
            // Bridges of libvirt, LXD, LXC, Incus and Kubernetes' bridge plugin, by their own
            // names.
            foreign_interfaces: patterns(&["virbr*", "lxdbr*", "lxcbr*", "incusbr*", "cni0"]),
            log: false,
            reverse_path_filter: false,
            priority: -4,
        }
    }
}

/// A key of `settings`.
struct Setting {
    key: &'static str,
    read: fn(&mut Settings, &mut Reader<'_>, &Member),
    schema: fn() -> Schema,
}

const CONNECTION_MARK: &str = "connection-mark";
const REVERSE_PATH_FILTER: &str = "reverse-path-filter";

const SETTINGS: [Setting; 7] = [
    Setting {
        key: CONNECTION_MARK,
        read: |settings, reader, member| settings.connection_mark = reader.read_flag(member),
        schema: || {
            json!({
                "description": "Whether dfw marks connections that a port lets through (`ct mark`) and \
                                judges them again only after the next change. For hosts where nothing \
                                else uses such marks.",
                "type": "boolean",
            })
        },
    },
    Setting {
        key: "container-interfaces",
        read: |settings, reader, member| {
            settings.container_interfaces = read_patterns(reader, member);
        },
        schema: || {
            patterns(
                "Where containers are: names of interfaces, or their beginnings with `*` behind.",
            )
        },
    },
    Setting {
        key: "early-drop",
        read: |settings, reader, member| settings.early_drop = reader.read_flag(member),
        schema: || {
            json!({
                "description": "Whether TCP connections that a port denies are dropped as they arrive, \
                                before connection tracking: `true` unless set.",
                "type": "boolean",
            })
        },
    },
    Setting {
        key: "foreign-interfaces",
        read: |settings, reader, member| {
            settings.foreign_interfaces = read_patterns(reader, member);
        },
        schema: || {
            patterns("Bridges of others (libvirt, LXD, Kubernetes), whose traffic is left alone.")
        },
    },
    Setting {
        key: "log",
        read: |settings, reader, member| settings.log = reader.read_flag(member),
        schema: || {
            json!({
                "description": "Whether what `default: deny` denies is logged.",
                "type": "boolean",
            })
        },
    },
    Setting {
        key: "priority",
        read: read_priority,
        schema: || {
            json!({
                "description": "Of dfw's chains, relative to `filter`; Docker's are at 0.",
                "type": "integer",
                "minimum": PRIORITIES.start(),
                "maximum": PRIORITIES.end(),
            })
        },
    },
    Setting {
        key: REVERSE_PATH_FILTER,
        read: |settings, reader, member| settings.reverse_path_filter = reader.read_flag(member),
        schema: || {
            json!({
                "description": "Whether ports deny packets with a source that this host would answer \
                                through another interface (strict reverse path, RFC 3704). For hosts \
                                with symmetric routes; needs Linux 6.1.",
                "type": "boolean",
            })
        },
    },
];

/// Settings that are read, with their places.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) settings: Settings,
    origins: BTreeMap<&'static str, Span>,
}

impl Draft {
    /// Reads the mapping `settings:`.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, node: &Node) {
        let keys = SETTINGS.map(|setting| setting.key);
        let (last, others) = keys.split_last().unwrap_or((&"", &[]));
        let help = format!("the settings are `{}` and `{last}`", others.join("`, `"));
        for member in reader.section(node, "`settings`", &help) {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == member.key) else {
                reader.unknown_key(member, &keys, "`settings`");
                continue;
            };
            if member.repeated {
                continue;
            }
            if let Some(first) = self.origins.get(setting.key) {
                reader.report.push(
                    Diagnostic::error("duplicate-key", format!("`{}` is set twice", member.key))
                        .at(member.key_span.clone(), "set again here")
                        .related(first.clone(), "first set here")
                        .help("keep one of them: all files of the directory are one policy"),
                );
                continue;
            }
            self.origins.insert(setting.key, member.key_span.clone());
            (setting.read)(&mut self.settings, reader, member);
            let both = [CONNECTION_MARK, REVERSE_PATH_FILTER];
            let settings = &self.settings;
            if both.contains(&setting.key)
                && settings.connection_mark
                && settings.reverse_path_filter
            {
                let message =
                    format!("`{CONNECTION_MARK}` has no effect beside `{REVERSE_PATH_FILTER}`");
                reader.report.push(
                    Diagnostic::warning("no-effect", message)
                        .at(member.key_span.clone(), "set here")
                        .help("a marked connection is not judged again, whatever interface its packets come by"),
                );
            }
        }
    }
}

fn read_patterns(reader: &mut Reader<'_>, member: &Member) -> Vec<InterfacePattern> {
    let what = "the name of an interface, or its beginning and `*`";
    let key = format!("`{}`", member.key);
    let items = reader.one_or_many(&member.value, &key, what);
    let mut patterns = Vec::new();
    for (text, span) in items.unwrap_or_default() {
        match parse_pattern(text) {
            Ok(pattern) if patterns.contains(&pattern) => {}
            Ok(pattern) => patterns.push(pattern),
            Err(mistake) => reader.report.push(mistake.at(span)),
        }
    }
    patterns
}

fn read_priority(settings: &mut Settings, reader: &mut Reader<'_>, member: &Member) {
    match &member.value.value {
        Value::Scalar { text, plain: true } if priority(text).is_some() => {
            settings.priority = priority(text).unwrap_or_default();
        }
        Value::Invalid => {}
        _ => reader.report.push(
            Diagnostic::error("priority", "`priority` is a whole number from -199 to -1")
                .at(member.value.span.clone(), "not such a number")
                .help("dfw must come after conntrack (-200) and before Docker (0)"),
        ),
    }
}

fn priority(text: &str) -> Option<i32> {
    let number: i32 = text.parse().ok()?;
    // `-04` and `+4` are read as numbers, but nobody would mean them.
    (PRIORITIES.contains(&number) && number.to_string() == text).then_some(number)
}

pub(super) fn schema() -> Schema {
    json!({
        "description": "How the host looks and where dfw hooks in. All of it is optional.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": members(SETTINGS.map(|setting| (setting.key, setting.schema))),
    })
}

fn patterns(description: &str) -> Schema {
    one_or_many(interface::PATTERN, &interface::no_interface(), description)
}
