//! What may stand beside the key of a kind: bounds, formats and times.

use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::BTreeMap;

use serde_json::{Value as Schema, json};

use crate::net::{AddressSet, Unmerged};
use crate::policy::time;
use crate::policy::yaml::{Member, Reader, Value};
use crate::text::Span;
use crate::text::diagnostic::Diagnostic;

use super::bounds::{Bounds, Unit};
use super::format::{Format, Pointer, Selection};
use super::{entry, inline};

/// The names of formats.
const FORMATS: [&str; 4] = ["lines", "lines-loose", "json", "json-lines"];
/// The least and the greatest length of time.
const TIMES: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(30 * 24);

/// The options of one source.
#[derive(Default)]
pub(super) struct Options {
    pub(super) within: Option<AddressSet>,
    pub(super) min: Option<u64>,
    pub(super) max: Option<u64>,
    max_loss: Option<u8>,
    pub(super) every: Option<Duration>,
    pub(super) stale_after: Option<Duration>,
    pub(super) allow_private: bool,
    format: Option<(&'static str, Span)>,
    select: Option<(Pointer, Span)>,
    conditions: Option<(BTreeMap<String, String>, Span)>,
}

/// An option of a source.
pub(super) struct OptionKey {
    pub(super) key: &'static str,
    pub(super) read: fn(&mut Options, &mut Reader<'_>, &Member),
    pub(super) schema: fn() -> Schema,
}

pub(super) const OPTIONS: [OptionKey; 10] = [
    OptionKey {
        key: "within",
        read: |options, reader, member| options.within = Some(read_entries(reader, member)),
        schema: || {
            let pattern = format!("^({})$", entry::pattern());
            json!({
                "description": "Addresses, networks and ranges that the list never leaves: a list with \
                                anything else is an error.",
                "type": ["string", "array"],
                "pattern": pattern,
                "items": {"type": "string", "pattern": pattern},
                "minItems": 1,
            })
        },
    },
    OptionKey {
        key: "min",
        read: |options, reader, member| options.min = read_count(reader, member),
        schema: || count("The fewest: addresses of a name (1), merged entries of a list."),
    },
    OptionKey {
        key: "max",
        read: |options, reader, member| options.max = read_count(reader, member),
        schema: || {
            count(
                "The most: addresses of a name (16), merged entries of a list (100,000 if it is fetched).",
            )
        },
    },
    OptionKey {
        key: "max-loss",
        read: |options, reader, member| options.max_loss = read_percent(reader, member),
        schema: || {
            json!({
                "description": "How much of the covered addresses of a family one change may take away; \
                                a greater loss changes nothing until `dfw fetch --accept NAME`.",
                "type": "string",
                "pattern": "^([0-9]|[1-9][0-9]|100)%$",
            })
        },
    },
    OptionKey {
        key: "format",
        read: |options, reader, member| {
            let node = &member.value;
            let known = FORMATS.iter().find(|name| node.text() == Some(**name));
            if let Some(name) = known {
                options.format = Some((name, member.key_span.clone()));
            } else {
                let message = format!("`format` is `{}`", FORMATS.join("`, `"));
                reader.wrong_value(node, &message, &FORMATS);
            }
        },
        schema: || {
            json!({
                "description": "How the list is written. `lines-loose` takes `;` for a comment and ignores \
                                what is behind a blank or a comma.",
                "enum": FORMATS,
            })
        },
    },
    OptionKey {
        key: "select",
        read: |options, reader, member| {
            let node = &member.value;
            match node.text().map(str::parse::<Pointer>) {
                Some(Ok(pointer)) => options.select = Some((pointer, node.span.clone())),
                Some(Err(mistake)) => reader.report.push(mistake.at(node.span.clone())),
                None => reader.not_a(
                    node,
                    "select",
                    "a JSON Pointer such as `/prefixes/*/ip_prefix`",
                ),
            }
        },
        schema: || {
            json!({
                "description": "Where the addresses are in JSON: a JSON Pointer, with `*` for every element.",
                "type": "string",
                "pattern": "^(/.*)?$",
            })
        },
    },
    OptionKey {
        key: "where",
        read: read_conditions,
        schema: || {
            json!({
                "description": "Members beside the selected one, each with the text that it must have.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"type": "string"},
            })
        },
    },
    OptionKey {
        key: "every",
        read: |options, reader, member| options.every = read_time(reader, member),
        schema: || time::schema("How often the list is fetched."),
    },
    OptionKey {
        key: "stale-after",
        read: |options, reader, member| options.stale_after = read_time(reader, member),
        schema: || {
            time::schema(
                "From which age on the list counts as stale; three times `every` by default.",
            )
        },
    },
    OptionKey {
        key: "allow-private",
        read: |options, reader, member| options.allow_private = reader.read_flag(member),
        schema: || json!({"description": "Whether the server may have a private address.", "type": "boolean"}),
    },
];

impl Options {
    /// Returns the format of the list; `None` if the options contradict each other, which is reported.
    pub(super) fn format(&mut self, reader: &mut Reader<'_>) -> Option<Format> {
        let name = self.format.take();
        let select = self.select.take();
        let conditions = self.conditions.take();
        let lines = match name.as_ref().map(|(name, _)| *name) {
            Some("lines") => Some(Format::Lines),
            Some("lines-loose") => Some(Format::LinesLoose),
            None if select.is_none() && conditions.is_none() => Some(Format::Lines),
            _ => None,
        };
        if let Some(lines) = lines {
            let Some(span) = select.map(|(_, at)| at).or(conditions.map(|(_, at)| at)) else {
                return Some(lines);
            };
            reader.report.push(
                Diagnostic::error("select", "`select` and `where` are for JSON")
                    .at(span, "a list of lines has no members")
                    .help("write `format: json` or `format: json-lines`, or leave it out"),
            );
            return None;
        }
        let Some((select, at)) = select else {
            let span = name.map(|(_, at)| at).or(conditions.map(|(_, at)| at))?;
            reader.report.push(
                Diagnostic::error("select", "`select` is missing")
                    .at(span, "of JSON, dfw takes what `select` points to")
                    .help("write where the addresses are, such as `select: /prefixes/*/ip_prefix`"),
            );
            return None;
        };
        if conditions.is_some() && !select.names_member() {
            reader.report.push(
                Diagnostic::error("select", "`where` needs a `select` that ends in the name of a member")
                    .at(at, "nothing stands beside this")
                    .help("`where` asks for members of the same object, as in `select: /prefixes/*/ip_prefix`"),
            );
            return None;
        }
        let selection = Selection {
            select,
            conditions: conditions
                .map(|(conditions, _)| conditions)
                .unwrap_or_default(),
        };
        Some(match name {
            Some(("json-lines", _)) => Format::JsonLines(selection),
            _ => Format::Json(selection),
        })
    }

    /// Returns the bounds of a list in a file.
    pub(super) fn bounds(&mut self) -> Bounds {
        Bounds {
            within: self.within.take(),
            min: self.min,
            max: self.max,
            unit: Unit::Entries,
            max_loss: self.max_loss.unwrap_or(100),
            is_fetched: false,
        }
    }

    /// Returns the bounds of what is fetched: these where the policy says nothing else.
    pub(super) fn fetched_bounds(&mut self, unit: Unit, max: u64, max_loss: u8) -> Bounds {
        Bounds {
            within: self.within.take(),
            min: Some(self.min.unwrap_or(1)),
            max: Some(self.max.unwrap_or(max)),
            unit,
            max_loss: self.max_loss.unwrap_or(max_loss),
            is_fetched: true,
        }
    }
}

fn read_entries(reader: &mut Reader<'_>, member: &Member) -> AddressSet {
    let items = match &member.value.value {
        Value::Sequence(items) => items.as_slice(),
        _ => std::slice::from_ref(&member.value),
    };
    let mut set = Unmerged::default();
    for item in items {
        match item.text() {
            Some(text) => inline::read_entry(reader, text, &item.span, &mut set),
            None if item.is_address_taken_for_key() => inline::needs_quotes(reader, item),
            None => reader.not_a(item, "within", "an address, a network or a range"),
        }
    }
    let set = set.merge();
    if items.is_empty() {
        reader.report.push(
            Diagnostic::error("value", "`within` has no address")
                .at(member.value.span.clone(), "an empty list")
                .help("leave it out, or write what the list may cover"),
        );
    }
    set
}

fn read_count(reader: &mut Reader<'_>, member: &Member) -> Option<u64> {
    let node = &member.value;
    let text = node
        .text()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let number = text
        .and_then(|text| text.parse().ok())
        .filter(|number| *number <= MOST);
    if number.is_none() {
        reader.not_a(node, &member.key, "a whole number up to 2,000,000");
    }
    number
}

/// The most entries of a list.
const MOST: u64 = 2_000_000;

fn count(description: &str) -> Schema {
    json!({"description": description, "type": "integer", "minimum": 0, "maximum": MOST})
}

fn read_percent(reader: &mut Reader<'_>, member: &Member) -> Option<u8> {
    let node = &member.value;
    let text = node.text().and_then(|text| text.strip_suffix('%'));
    let percent = text
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|percent| *percent <= 100);
    if percent.is_none() {
        reader.not_a(node, "max-loss", "a share from `0%` to `100%`");
    }
    percent
}

fn read_time(reader: &mut Reader<'_>, member: &Member) -> Option<Duration> {
    time::read(reader, member, &TIMES, "12h")
}

fn read_conditions(options: &mut Options, reader: &mut Reader<'_>, member: &Member) {
    let Value::Mapping(members) = &member.value.value else {
        let what = "members with their texts, such as `{service: CLOUDFRONT}`";
        return reader.not_a(&member.value, "where", what);
    };
    let mut conditions = BTreeMap::new();
    for member in members {
        match member.value.text() {
            Some(text) => drop(conditions.insert(member.key.clone(), text.to_owned())),
            None => reader.not_a(&member.value, "where", "a text"),
        }
    }
    if members.is_empty() {
        return reader.not_a(&member.value, "where", "at least one member");
    }
    options.conditions = Some((conditions, member.key_span.clone()));
}
