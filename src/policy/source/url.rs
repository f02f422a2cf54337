//! `{url: https://…}`: a list that a server has.

use core::time::Duration;

use serde_json::{Value as Schema, json};

use crate::policy::yaml::{Member, Reader, Value};
use crate::text::diagnostic::{Diagnostic, quoted};

use super::bounds::Unit;
use super::fetched::{self, Request};
use super::options::Options;
use super::{Content, Draft, Kind};

pub(super) const KIND: Kind = Kind {
    key: "url",
    form: "`{url: \"https://…\"}`",
    options: &[
        "within",
        "min",
        "max",
        "max-loss",
        "format",
        "select",
        "where",
        "every",
        "stale-after",
        "allow-private",
    ],
    read,
    schema,
};

/// How many entries a list has at most if no `max` is written.
const MAX: u64 = 100_000;
/// How many per cent of its addresses it may lose at once.
const MAX_LOSS: u8 = 50;
/// How often it is fetched.
const EVERY: Duration = Duration::from_hours(12);
/// How many times that it may be old.
const STALE: u32 = 3;
/// The longest, in bytes.
const LONGEST: usize = 2048;

fn read(
    _: &mut Draft,
    reader: &mut Reader<'_>,
    member: &Member,
    options: &mut Options,
) -> Option<Content> {
    let node = &member.value;
    let url = node.text().unwrap_or_default();
    let checked = check(url);
    if let Err((label, help)) = checked
        && node.value != Value::Invalid
    {
        let message = if url.is_empty() {
            "`url` is the address of a list".to_owned()
        } else {
            format!("{} cannot be fetched", quoted(url))
        };
        reader.report.push(
            Diagnostic::error("url", message)
                .at(node.span.clone(), label)
                .help(help),
        );
    }
    let format = options.format(reader);
    checked.ok()?;
    let request = Request::Url {
        url: url.to_owned(),
        format: format?,
        allow_private: options.allow_private,
    };
    let bounds = options.fetched_bounds(Unit::Entries, MAX, MAX_LOSS);
    let every = options.every.unwrap_or(EVERY);
    let stale = options.stale_after.unwrap_or(every * STALE);
    fetched::read(reader, &node.span, &request, &bounds, (Some(every), stale))
}

/// Whether a text is the address of something that is fetched; what is wrong with it, and what to write.
fn check(url: &str) -> Result<(), (&'static str, &'static str)> {
    const FORM: &str = "write `url: \"https://lists.example.com/v4.txt\"`";
    if url.is_empty() {
        return Err(("an address is expected here", FORM));
    }
    let Some(rest) = url.strip_prefix("https://") else {
        let help = "what everybody on the way could change decides nothing here: use `https://`";
        return Err(("not `https://`", help));
    };
    if url.len() > LONGEST || !url.bytes().all(|b| b.is_ascii_graphic()) {
        let help = "write it in ASCII without blanks, at most 2048 bytes: `%20` is a blank";
        return Err(("not the address of a list", help));
    }
    if url.contains('#') {
        return Err((
            "`#` has no place in it",
            "leave out what is behind `#`: no server gets it",
        ));
    }
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if host.contains('@') {
        let help = "everyone who reads the policy would see the password: use a list without one";
        return Err(("a password has no place in it", help));
    }
    if host.is_empty() || host.starts_with(':') {
        return Err(("no host is named", FORM));
    }
    Ok(())
}

fn schema() -> Schema {
    json!({
        "description": "A list at this address. `dfw fetch` fetches it.",
        "type": "string",
        "pattern": "^https://[^/?#@:][^/?#@]*([/?][^#]*)?$",
        "maxLength": LONGEST,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_fetched() {
        for good in [
            "https://lists.example.com/v4.txt?x=1",
            "https://[2001:db8::1]:8443/",
        ] {
            check(good).unwrap();
        }
        for wrong in [
            "",
            "http://a.example/",
            "a.example/x",
            "https://",
            "https:///x",
            "https://:80/",
            "https://u:p@a.example/",
            "https://a.example/#x",
            "https://a.example/a b",
            "ftp://a/",
        ] {
            check(wrong).unwrap_err();
        }
    }
}
