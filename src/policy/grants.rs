//! `grants:`: which permissions that expire may be given: for how long, and at which ports.

use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::BTreeMap;

use serde_json::{Value as Schema, json};

use crate::net::HostPorts;
use crate::text::Span;
use crate::text::diagnostic::Diagnostic;

use super::yaml::{Member, Reader, Value, is_missing, members};
use super::{port, time};

const MAX_TIME: &str = "max-time";
const PORTS: &str = "ports";
const KEYS: [&str; 2] = [MAX_TIME, PORTS];
/// The form of the section, for `help:` lines.
const FORM: &str = "write `grants: {max-time: 8h, ports: [22, 5432]}`";

/// The bounds of `max-time`: 1 second to 52 weeks.
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(52 * 7 * 24);

/// The most ports in a description.
const LISTED: usize = 8;

/// The bounds of grants, which are permissions that expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantBounds {
    /// `max-time`: the longest time of a grant, in whole seconds: 1 second to 52 weeks.
    pub max_time: Duration,
    /// `ports`: the ports that a grant may name; at least one, in ascending order, none twice. They may overlap.
    pub ports: Vec<HostPorts>,
    /// The place of `grants:`.
    pub origin: Span,
}

impl GrantBounds {
    /// Returns whether one item of `ports` covers all of these ports: the same protocol, the range inside, and the
    /// same address or none.
    #[must_use]
    pub fn permits(&self, to: &HostPorts) -> bool {
        self.ports.iter().any(|ports| ports.covers(to))
    }

    /// Returns the bounds as text: `22/tcp, 5432/tcp for at most 8h`.
    #[must_use]
    pub fn describe(&self) -> String {
        let ports = self.ports.iter().take(LISTED).map(HostPorts::to_string);
        let mut ports: Vec<String> = ports.collect();
        match self.ports.len().saturating_sub(LISTED) {
            0 => {}
            1 => ports.push("and 1 more port".to_owned()),
            more => ports.push(format!("and {more} more ports")),
        }
        let time = time::describe(self.max_time);
        format!("{} for at most {time}", ports.join(", "))
    }

    /// Returns the bounds as in JSON documents.
    pub(super) fn json(&self) -> Schema {
        let ports = self.ports.iter().map(HostPorts::to_string);
        json!({"max_time": self.max_time.as_secs(), "ports": ports.collect::<Vec<_>>()})
    }
}

/// The section that is being read.
#[derive(Default)]
pub(super) struct Draft {
    origin: Option<Span>,
    max_time: Option<Duration>,
    /// The ports, with their places.
    pub(super) ports: BTreeMap<HostPorts, Span>,
}

impl Draft {
    /// Reads the mapping `grants:`; an empty section allows no grant.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, member: &Member) {
        let lines = reader.section(&member.value, "`grants`", FORM);
        if !matches!(member.value.value, Value::Mapping(_)) {
            return;
        }
        let (mut max_time, mut ports) = (None, BTreeMap::new());
        for line in lines {
            match line.key.as_str() {
                MAX_TIME => max_time = time::read(reader, line, &TIMES, "8h"),
                PORTS => ports = read_ports(reader, line),
                _ => reader.unknown_key(line, &KEYS, "`grants`"),
            }
        }
        for key in KEYS.iter().filter(|key| is_missing(key, lines, &KEYS)) {
            reader.report.push(
                Diagnostic::error("missing-key", format!("`grants` has no `{key}`"))
                    .at(
                        member.key_span.clone(),
                        "`max-time` and `ports` are required",
                    )
                    .help(FORM),
            );
        }
        if member.repeated {
            return;
        }
        if let Some(first) = &self.origin {
            reader.report.push(
                Diagnostic::error("duplicate-key", "`grants` is written twice")
                    .at(member.key_span.clone(), "written again here")
                    .related(first.clone(), "first written here")
                    .help("keep one of them: all files of the directory are one policy"),
            );
            return;
        }
        *self = Self {
            origin: Some(member.key_span.clone()),
            max_time,
            ports,
        };
    }

    /// Returns the bounds; `None` if there are none, or if they have errors.
    pub(super) fn finish(self) -> Option<GrantBounds> {
        Some(GrantBounds {
            max_time: self.max_time?,
            ports: self.ports.into_keys().collect(),
            origin: self.origin?,
        })
    }
}

fn read_ports(reader: &mut Reader<'_>, member: &Member) -> BTreeMap<HostPorts, Span> {
    let items = match &member.value.value {
        Value::Sequence(items) => items.as_slice(),
        _ => std::slice::from_ref(&member.value),
    };
    if items.is_empty() {
        reader.report.push(
            Diagnostic::error("value", "`ports` of `grants` has no port")
                .at(member.value.span.clone(), "an empty list")
                .help("leave `grants` out if no grant is meant to be possible"),
        );
    }
    let mut ports = BTreeMap::new();
    for item in items {
        match item.text().map(str::parse::<HostPorts>) {
            Some(Ok(key)) => drop(ports.entry(key).or_insert_with(|| item.span.clone())),
            Some(Err(mistake)) => reader.report.push(mistake.at(item.span.clone())),
            None => reader.not_a(item, PORTS, "ports and ranges, such as `[22, 8000-8010]`"),
        }
    }
    ports
}

pub(super) fn schema() -> Schema {
    json!({
        "description": "Which permissions that expire (`dfw grant add`) may be given. Without it none. Written \
                        once per directory.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "required": KEYS,
        "properties": members([
            (MAX_TIME, max_time_schema as fn() -> Schema),
            (PORTS, ports_schema),
        ]),
    })
}

fn max_time_schema() -> Schema {
    time::schema("The longest time of a grant, from 1s to 52w: 90s, 5m, 12h, 7d, 2w, or 1d12h.")
}

fn ports_schema() -> Schema {
    let mut schema = json!({
        "type": ["integer", "string"],
        "minimum": 1,
        "maximum": u16::MAX,
        "pattern": port::pattern(true),
    });
    let items = schema.clone();
    schema["description"] = json!(
        "The ports that a grant may name: 22, 53/udp, 8000-8010 or 203.0.113.10:8082, or a list of them."
    );
    schema["type"] = json!(["integer", "string", "array"]);
    schema["items"] = items;
    schema["minItems"] = json!(1);
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::read_text;

    fn bounds(grants: &str) -> Option<GrantBounds> {
        let text = format!("default: deny\ngrants: {grants}\n");
        read_text("a.yaml", &text).unwrap().grants
    }

    #[test]
    fn bounds_are_read_and_described() {
        let grants = bounds("{max-time: 1d12h, ports: [5432, 22, 22/tcp, 8000-8010/udp]}").unwrap();
        assert_eq!(grants.max_time, Duration::from_hours(36));
        assert_eq!(
            grants.describe(),
            "22/tcp, 5432/tcp, 8000-8010/udp for at most 1d12h"
        );
        assert_eq!(
            grants.json(),
            json!({"max_time": 129_600, "ports": ["22/tcp", "5432/tcp", "8000-8010/udp"]})
        );
        assert_eq!(grants.origin.range(), 14..20);
        assert_eq!(
            bounds("{max-time: 1s, ports: 22}").unwrap().describe(),
            "22/tcp for at most 1s"
        );
        let many = bounds("{max-time: 8h, ports: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}").unwrap();
        let text = many.describe();
        assert!(
            text.ends_with("8/tcp, and 2 more ports for at most 8h"),
            "{text}"
        );
        for time in ["52w", "364d"] {
            let grants = bounds(&format!("{{max-time: {time}, ports: [22]}}")).unwrap();
            assert_eq!(grants.max_time, *TIMES.end());
        }
    }

    #[test]
    fn without_bounds_no_grant_is_allowed() {
        assert_eq!(read_text("a.yaml", "default: deny\n").unwrap().grants, None);
        assert_eq!(bounds(""), None);
    }

    #[test]
    fn a_policy_with_an_error_in_its_bounds_is_none() {
        for wrong in [
            "{}",
            "{max-time: 8h}",
            "{ports: [22]}",
            "{max-time: 8h, ports: []}",
            "{max-time: 0s, ports: [22]}",
            "{max-time: 365d, ports: [22]}",
            "{max-time: 8, ports: [22]}",
            "{max-time: 8h, ports: [0]}",
            "{max-time: 8h, ports: [22], hosts: any}",
            "[22]",
        ] {
            let text = format!("default: deny\ngrants: {wrong}\n");
            read_text("a.yaml", &text).unwrap_err();
        }
    }

    #[test]
    fn one_item_covers_all_that_is_permitted() {
        let grants = bounds(
            "{max-time: 8h, ports: [22, 8000-8010, 8011, 53/udp, '203.0.113.10:90-91', '[2001:db8::1]:92']}",
        );
        let grants = grants.unwrap();
        for (to, is_permitted) in [
            ("22", true),
            ("203.0.113.9:22", true),
            ("[2001:db8::9]:22", true),
            ("22/udp", false),
            ("53/udp", true),
            ("53", false),
            ("8000-8010", true),
            ("8005", true),
            ("192.0.2.1:8001-8002", true),
            ("8000-8011", false),
            ("7999-8000", false),
            ("203.0.113.10:90", true),
            ("203.0.113.10:90-91", true),
            ("203.0.113.11:90", false),
            ("90", false),
            ("[2001:db8::1]:92", true),
            ("92", false),
        ] {
            let key = to.parse::<HostPorts>().unwrap();
            assert_eq!(grants.permits(&key), is_permitted, "{to}");
        }
        let every_v4 = HostPorts::one(Some([0, 0, 0, 0].into()), crate::net::Protocol::Tcp, 90);
        assert!(!grants.permits(&every_v4));
    }
}
