//! `{name: HOST}`: the addresses that DNS has for a host.

use serde_json::{Value as Schema, json};

use crate::policy::yaml::{Member, Reader, Value};
use crate::text::diagnostic::{Diagnostic, quoted};

use super::bounds::Unit;
use super::fetched::{self, NAME_STALE, Request};
use super::options::Options;
use super::{Content, Draft, Kind};

pub(super) const KIND: Kind = Kind {
    key: "name",
    form: "`{name: HOST}`",
    options: &["within", "min", "max"],
    read,
    schema,
};

/// How many addresses a name has at most if no `max` is written.
const MAX: u64 = 16;
/// RFC 1035, 2.3.4: of a name as text, and of each label.
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

fn read(
    _: &mut Draft,
    reader: &mut Reader<'_>,
    member: &Member,
    options: &mut Options,
) -> Option<Content> {
    let node = &member.value;
    let text = node.text().unwrap_or_default();
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if let Err((label, help)) = check(&name) {
        if node.value != Value::Invalid {
            let message = match node.text() {
                Some(text) if !text.is_empty() => {
                    format!("{} is not the name of a host", quoted(text))
                }
                _ => "`name` is the name of a host".to_owned(),
            };
            reader.report.push(
                Diagnostic::error("host-name", message)
                    .at(node.span.clone(), label)
                    .help(help),
            );
        }
        return None;
    }
    let bounds = options.fetched_bounds(Unit::Addresses, MAX, 100);
    let request = Request::Name(name);
    fetched::read(reader, &node.span, &request, &bounds, (None, NAME_STALE))
}

/// Whether a text is a whole name of a host; what is wrong with it, and what to write.
fn check(name: &str) -> Result<(), (&'static str, &'static str)> {
    const FORM: &str = "write the whole name, such as `home.example.com`";
    if name.is_empty() {
        return Err(("a name is expected here", FORM));
    }
    if !name.is_ascii() {
        let help = "write it as DNS has it: `xn--…`";
        return Err(("not ASCII", help));
    }
    if name.parse::<std::net::IpAddr>().is_ok() || name.contains([':', '/']) {
        let help = "write addresses and networks in place: `NAME: [203.0.113.7]`; a list at an address is `{url: …}`";
        return Err(("not a name", help));
    }
    if name.len() > LONGEST || name.split('.').any(|label| label.len() > LONGEST_LABEL) {
        return Err(("too long for DNS", FORM));
    }
    let good = |label: &str| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty()
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(good) {
        let help = "labels have letters, digits, `-` and `_`, with dots between them";
        return Err(("not a name", help));
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if !name.contains('.') || last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(("not a whole name", FORM));
    }
    Ok(())
}

fn schema() -> Schema {
    json!({
        "description": "The addresses (A and AAAA) that DNS has for this host. `dfw fetch` asks for them.",
        "type": "string",
        "pattern": "^([A-Za-z0-9_-]+\\.)+[A-Za-z0-9_-]*[A-Za-z_-][A-Za-z0-9_-]*\\.?$",
        "maxLength": LONGEST + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_host_names_are_names() {
        for good in [
            "home.example.com",
            "a-b._x.example",
            "xn--bcher-kva.example",
        ] {
            check(good).unwrap();
        }
        let long = format!("{}.example", "a".repeat(64));
        for wrong in [
            "",
            "home",
            "203.0.113.7",
            "::1",
            "a..b",
            "-a.example",
            "a-.example",
            "a b.example",
            "https://a.example",
            "bücher.example",
            "1.2.3",
            "a.example:80",
            &long,
        ] {
            check(wrong).unwrap_err();
        }
    }
}
