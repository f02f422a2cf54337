//! The language as a JSON Schema, for editors.
//!
//! It says of one file what can be said without a second look at it: keys, forms of entries, which
//! values there are. What needs arithmetic or another file (host bits, ranges the wrong way round,
//! names that are nowhere) only the reader knows. No value is a choice between schemas, so that an
//! editor shows a mistake where it is made. Texts that YAML itself takes for numbers or truth values
//! (an interface called `7`) have to be in quotes here; the reader takes them either way.

use serde_json::{Value, json};

use super::expectation;
use super::port::LONG_FORM;
use super::reserved::{self, Place};
use super::selection::LONGEST_NAME;
use super::settings::{self, PRIORITIES};
use super::validate;

/// The draft that editors know best.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

const ABOUT: &str = "A policy of dfw: who may reach which published port of this host. All *.yaml \
                     files of a directory are one policy. See dfw-policy(5).";

const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const PORT: &str =
    "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})";
/// Names that no interface has, or that nobody means as one.
const NO_INTERFACE: &str = r"^(\.\.?|[0-9]{1,3}(\.[0-9]{1,3}){3}|[Aa][Ll][Ll]|[Aa][Nn][Yy]([Ww][Hh][Ee][Rr][Ee])?|[Nn][Oo][Nn][Ee]|[Ee][Vv][Ee][Rr][Yy]([Tt][Hh][Ii][Nn][Gg])?)$";
const NAME: &str = "[A-Za-z][A-Za-z0-9_-]*";

/// An address of either family. How many groups IPv6 has, the reader counts.
fn addresses() -> [String; 2] {
    let v4 = format!("{OCTET}(\\.{OCTET}){{3}}");
    let v6 = format!("[0-9A-Fa-f]*:[0-9A-Fa-f:]*(:{v4})?");
    [v4, v6]
}

/// An address, a network or a range.
fn entry() -> String {
    let [v4, v6] = addresses();
    let v4_bits = "(3[0-2]|[12]?[0-9])";
    let v6_bits = "(12[0-8]|1[01][0-9]|[1-9]?[0-9])";
    format!("{v4}(/{v4_bits}|-{v4})?|{v6}(/{v6_bits}|-{v6})?")
}

/// A port of this host, or a range of them where there may be one.
fn port(range: &str) -> String {
    let [v4, v6] = addresses();
    let protocols = "(tcp|udp|sctp)";
    format!("^(({v4}|\\[{v6}\\]):)?{PORT}{range}(/{protocols})?$")
}

/// The members of a mapping: every key that the reader knows, and no other.
fn members(keys: &[&str], schema: impl Fn(&str) -> Value) -> Value {
    let members = keys.iter().map(|&key| (key.to_owned(), schema(key)));
    Value::Object(members.collect())
}

/// A text of this pattern, or a list of them; but none of those that have a meaning of their own.
fn one_or_many(pattern: &str, not: &Value, description: &str) -> Value {
    json!({
        "description": description,
        "type": ["string", "array"],
        "pattern": pattern,
        "not": not,
        "items": {"type": "string", "pattern": pattern, "not": not},
    })
}

/// The schema of one policy file.
#[must_use]
pub fn schema() -> Value {
    json!({
        "$schema": DRAFT,
        "title": "dfw policy",
        "description": ABOUT,
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": members(&validate::KEYS, section),
    })
}

fn section(key: &str) -> Value {
    match key {
        "default" => json!({
            "description": "Published ports that no file names: `deny` refuses them, `allow` leaves \
                            them to Docker, open to everybody. Written once per directory.",
            "enum": ["deny", "allow"],
        }),
        "sources" => sources(),
        "ports" => ports(),
        "settings" => json!({
            "description": "How the host looks and where dfw hooks in. All of it is optional.",
            "type": ["object", "null"],
            "additionalProperties": false,
            "properties": members(&settings::KEYS, setting),
        }),
        "tests" => json!({
            "description": "What must be true of the policy. One that does not mean what its tests \
                            expect is not applied.",
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "additionalProperties": false,
                "required": expectation::KEYS,
                "properties": members(&expectation::KEYS, expectation),
            },
        }),
        _ => json!(true),
    }
}

fn sources() -> Value {
    let (entry, longest) = (entry(), LONGEST_NAME - 1);
    let names = format!("^[A-Za-z][A-Za-z0-9_-]{{0,{longest}}}$");
    json!({
        "description": "Named lists of addresses, usable in every file of the directory.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "propertyNames": {"not": {"pattern": reserved::pattern(Place::Name)}},
        "patternProperties": {
            names: {
                "description": "An address, a network (203.0.113.0/24), a range \
                                (192.0.2.10-192.0.2.20), a list of such, or `{file: PATH}`.",
                "type": ["string", "array", "object"],
                "pattern": format!("^({entry})$"),
                "items": {"type": "string", "pattern": format!("^({entry})$")},
                "required": ["file"],
                "additionalProperties": false,
                "properties": {
                    "file": {
                        "description": "A list with one address, network or range a line and \
                                        comments behind `#`. Relative to the folder of this file.",
                        "type": "string",
                        "minLength": 1,
                        "not": {"pattern": "://"},
                    },
                },
            },
        },
    })
}

fn ports() -> Value {
    let selection = format!("^({NAME}|{})$", entry());
    let no_source = json!({"type": "string", "pattern": reserved::pattern(Place::Allow)});
    json!({
        "description": "Who may reach which port of this host. A key is \
                        [ADDR:]PORT[-PORT][/tcp|udp|sctp], as on the left of docker's `-p`.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "patternProperties": {
            port(&format!("(-{PORT})?")): {
                "description": "Who may: names of sources, addresses, `any` for everybody, \
                                `containers`, a list of such, `[]` for nobody; or the long form.",
                "type": ["string", "array", "object"],
                "pattern": selection,
                "not": no_source,
                "items": {"type": "string", "pattern": selection, "not": no_source},
                "required": ["allow"],
                "additionalProperties": false,
                "properties": members(&LONG_FORM, |key| port_line(key, &selection, &no_source)),
            },
        },
    })
}

fn port_line(key: &str, selection: &str, no_source: &Value) -> Value {
    match key {
        "allow" => one_or_many(
            selection,
            no_source,
            "Who may. `[]` is nobody, `any` everybody.",
        ),
        "except" => {
            // `any` would refuse everybody, and an empty list nobody.
            let not = json!({"type": "string", "pattern": reserved::pattern(Place::Except)});
            let mut schema = one_or_many(selection, &not, "Who may not, although allowed.");
            schema["minItems"] = json!(1);
            schema
        }
        "interface" => {
            let pattern = r#"^[^\s/:"\\*,;!@^\[\]?|~(){}$]{0,14}[^\s/:"\\*,;!@^\[\]?|~(){}$+]$"#;
            let description =
                "Allowed only if the packet comes in here: exact names of interfaces.";
            let mut schema = one_or_many(
                pattern,
                &json!({"type": "string", "pattern": NO_INTERFACE}),
                description,
            );
            schema["minItems"] = json!(1);
            schema
        }
        "log" => json!({
            "description": "Whether refusals go to the kernel log and to `dfw log`, at most 10 a \
                            second.",
            "type": "boolean",
        }),
        "refuse" => json!({
            "description": "`drop` (if not said) is silence; `reject` a TCP reset, or ICMP port \
                            unreachable.",
            "enum": ["drop", "reject"],
        }),
        _ => json!(true),
    }
}

fn setting(key: &str) -> Value {
    let pattern = r#"^([^\s/:"\\*,;!@^\[\]?|~(){}$]{1,14}\*|[^\s/:"\\*,;!@^\[\]?|~(){}$]{1,15})$"#;
    match key {
        "connection-mark" => json!({
            "description": "Whether dfw marks connections that a port lets through (`ct mark`) and \
                            judges them again only after the next change. For hosts where nothing \
                            else uses such marks.",
            "type": "boolean",
        }),
        "container-interfaces" => one_or_many(
            pattern,
            &json!({"type": "string", "pattern": NO_INTERFACE}),
            "Where containers are: names of interfaces, or their beginnings with `*` behind.",
        ),
        "foreign-interfaces" => one_or_many(
            pattern,
            &json!({"type": "string", "pattern": NO_INTERFACE}),
            "Bridges of others (libvirt, LXD, Kubernetes), whose traffic is left alone.",
        ),
        "log" => json!({
            "description": "Whether what `default: deny` refuses is logged.",
            "type": "boolean",
        }),
        "priority" => json!({
            "description": "Of dfw's chains, relative to `filter`; Docker's are at 0.",
            "type": "integer",
            "minimum": PRIORITIES.start(),
            "maximum": PRIORITIES.end(),
        }),
        _ => json!(true),
    }
}

fn expectation(key: &str) -> Value {
    let [v4, v6] = addresses();
    match key {
        "from" => json!({
            "description": "Where the packet comes from: one address, or `containers`.",
            "type": "string",
            "pattern": format!("^(containers|{v4}|{v6})$"),
        }),
        "to" => json!({
            "description": "One port of this host: 80, 53/udp or 203.0.113.10:8082.",
            "type": ["integer", "string"],
            "minimum": 1,
            "maximum": u16::MAX,
            "pattern": port(""),
        }),
        "expect" => json!({
            "description": "Whether it is let through.",
            "enum": ["allow", "deny"],
        }),
        _ => json!(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_reader_has_a_schema() {
        fn look(value: &Value, at: &str) {
            if let Some(members) = value["properties"].as_object() {
                for (key, schema) in members {
                    assert!(schema.is_object(), "{at}/{key}");
                    assert!(schema["description"].is_string(), "{at}/{key}");
                }
            }
            let inner = value.as_object().into_iter().flatten();
            for (key, value) in inner.filter(|(_, value)| value.is_object()) {
                look(value, &format!("{at}/{key}"));
            }
        }
        look(&schema(), "");
    }
}
