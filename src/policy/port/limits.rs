//! `rate` and `connections`: how many connections each allowed source may make.

use serde_json::json;

use crate::net::{Per, Rate};
use crate::policy::yaml::{Member, Reader, Value};
use crate::text::diagnostic::{Diagnostic, quoted};

use super::Attribute;
use super::key::NUMBER;

/// The greatest number of either limit, as many as one address has ports.
const MOST: u32 = 65_535;

pub(super) const RATE: Attribute = Attribute {
    key: "rate",
    read: |_, reader, line, policy| policy.limits.rate = read_rate(reader, line),
    schema: || {
        let times = Per::ALL.map(Per::name).join("|");
        json!({
            "description": "The most new connections of each allowed source, such as `30/minute`: as many at \
                            once, and then as many spread over the time. An IPv6 source is a /64.",
            "type": "string",
            "pattern": format!("^{NUMBER}/({times})$"),
        })
    },
    json: |policy| {
        let rate = policy.limits.rate;
        ("rate", json!(rate.map(|rate| rate.to_string())))
    },
    describe: |_, _| String::new(),
};

pub(super) const CONNECTIONS: Attribute = Attribute {
    key: "connections",
    read: |_, reader, line, policy| policy.limits.connections = read_connections(reader, line),
    schema: || {
        json!({
            "description": "The most connections of each allowed source that are open at once. An IPv6 source \
                            is a /64.",
            "type": "integer",
            "minimum": 1,
            "maximum": MOST,
        })
    },
    json: |policy| ("connections", json!(policy.limits.connections)),
    // Of both limits, as they are one sentence.
    describe: |policy, _| policy.limits.clause(),
};

fn read_rate(reader: &mut Reader<'_>, line: &Member) -> Option<Rate> {
    let node = &line.value;
    let Some(text) = node.text() else {
        reader.not_a(node, &line.key, "a number and a time, such as `30/minute`");
        return None;
    };
    let (number, per) = text.split_once('/').unwrap_or((text, ""));
    let Some(count) = number_of(number) else {
        let message = format!("{} is not a rate", quoted(text));
        let label = format!("a number from 1 to {MOST} is expected before the slash");
        reader
            .report
            .push(Diagnostic::error("rate", message).at(node.span.clone(), label));
        return None;
    };
    let per = Per::ALL.into_iter().find(|known| known.name() == per);
    if per.is_none() {
        let message = format!("{} is not a rate", quoted(text));
        let of = Per::ALL.map(|per| format!("`{count}/{}`", per.name()));
        let help = format!("write {}", of.join(", "));
        reader.report.push(
            Diagnostic::error("rate", message)
                .at(
                    node.span.clone(),
                    "a number of connections in a second, a minute or an hour is expected",
                )
                .help(help),
        );
    }
    per.map(|per| Rate { count, per })
}

fn read_connections(reader: &mut Reader<'_>, line: &Member) -> Option<u32> {
    let node = &line.value;
    let count = match &node.value {
        Value::Scalar { text, plain: true } => number_of(text),
        _ => None,
    };
    if count.is_none() {
        let what = format!("a number from 1 to {MOST}");
        reader.not_a(node, &line.key, &what);
    }
    count
}

/// Returns a number within the bounds, without a sign and without zeros in front.
fn number_of(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    let is_plain = number.to_string() == text;
    (is_plain && (1..=MOST).contains(&number)).then_some(number)
}
