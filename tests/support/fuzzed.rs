//! What must hold of any bytes, wherever they come from: shared by the fuzz targets and by the
//! tests that run them for a moment.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each fuzz target uses one, and what fails here is a finding"
)]

use dfw::net::{AddressSet, Entry};
use std::path::Path;

use dfw::bundle::{self, Digest, Head, Keys, Manifest, Role, Signed, Statement};
use dfw::compile::compile;
use dfw::host::HostView;
use dfw::import;
use dfw::netlink::answer::Answer;
use dfw::netlink::message::Messages;
use dfw::netlink::rtnetlink::{decode_address, decode_link};
use dfw::netlink::sock_diag::decode_listener;
use dfw::netlink::{nflog, trace};
use dfw::nftables::request::decode_generation;
use dfw::nftables::{notice, object};
use dfw::output::diagnostic::{render, to_json};
use dfw::policy::{self, Policy};
use dfw::ruleset::check::check;
use dfw::ruleset::{Origin, Ruleset};
use dfw::text::SourceMap;
use dfw::text::diagnostic::{Diagnostic, Severity};

use crate::encoded;

/// A policy: it is read or refused with reasons that point into it, and what is read becomes rules
/// that the kernel can take and that come back from it the same.
pub(crate) fn policy(bytes: &[u8]) {
    let mut sources = SourceMap::in_memory([("policy.yaml", bytes)]);
    let Some(policy) = read(&mut sources) else {
        return;
    };
    let host = HostView::default();
    let ruleset = compile(&policy, &host, &|span| Origin {
        file: "policy.yaml".to_owned(),
        line: sources.line_column(span).0,
    });
    assert_eq!(check(&ruleset), Vec::<String>::new());
    comes_back(&ruleset);
}

/// The key that signed the corpus.
const KEY: &str = "RWQr4Qq4NbzD6XmvIUVUxk4ZtlssQZnfIvTknWWgB19TI9Icc557Ghbw";

/// A head or a manifest: what is read has one spelling, and a trusted signature is one of exactly that text.
pub(crate) fn bundle(bytes: &[u8]) {
    signed::<Head>(bytes);
    signed::<Manifest>(bytes);
}

fn signed<T: Statement>(bytes: &[u8]) {
    let Ok(signed) = Signed::split::<T>(bytes) else {
        return;
    };
    let mut keys = Keys::default();
    keys.add(Role::Policy, KEY).unwrap();
    let verified = signed.verify::<T>(&keys);
    let read = signed.read::<T>();
    if let Ok(read) = &read {
        let text = bundle::signed::write(&read.statement).unwrap();
        assert!(bytes.starts_with(text.as_bytes()));
        assert_eq!(Digest::of(text.as_bytes()), read.digest);
    }
    if let Ok(verified) = verified {
        assert_eq!(Ok(verified.digest), read.map(|read| read.digest));
    }
}

/// Returns the text of a file without a byte order mark; `None` if it is not UTF-8, or has a zero byte, even in a
/// comment.
fn text_of(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    (!text.contains('\0')).then_some(text)
}

/// A list of addresses has exactly the entries of its lines, or each invalid line is reported.
pub(crate) fn addresses(bytes: &[u8]) {
    const POLICY: &str = "default: deny\nsources: {listed: {file: list}}\nports: {80: [listed]}\n";
    let mut sources = SourceMap::in_memory([("policy.yaml", POLICY.as_bytes()), ("list", bytes)]);
    let read = read(&mut sources);
    let Some(text) = text_of(bytes) else {
        assert!(read.is_none(), "not a text, and yet a list");
        return;
    };
    let lines = text.split('\n').filter_map(|line| {
        let entry = line.split('#').next().unwrap_or_default().trim();
        (!entry.is_empty()).then(|| entry.parse::<Entry>().ok())
    });
    // Of a list without entries, dfw says that nobody is on it.
    match (lines.collect::<Option<Vec<_>>>(), read) {
        (Some(entries), Some(policy)) => {
            let source = policy.sources.values().next().expect("the only list");
            assert_eq!(source.addresses, AddressSet::from_entries(entries.clone()));
            for entry in source.addresses.iter() {
                assert_eq!(entry.to_string().parse::<Entry>().ok(), Some(entry));
            }
        }
        (Some(entries), None) => assert!(entries.is_empty(), "every line is fine"),
        (None, read) => assert!(read.is_none(), "a line is wrong"),
    }
}

/// The addresses of a list in a format, if it is one.
fn listed(options: &str, bytes: &[u8]) -> Option<AddressSet> {
    let policy = format!(
        "default: deny\nsources: {{listed: {{file: list, {options}}}}}\nports: {{80: [listed]}}\n"
    );
    let mut sources = SourceMap::in_memory([("policy.yaml", policy.as_bytes()), ("list", bytes)]);
    let policy = read(&mut sources)?;
    let source = policy.sources.into_values().next().expect("the only list");
    Some(source.addresses)
}

/// A loose list: it has exactly what is in front of the first blank, comma or comment of its lines.
pub(crate) fn loose(bytes: &[u8]) {
    let read = listed("format: lines-loose", bytes);
    let Some(text) = text_of(bytes) else {
        assert!(read.is_none(), "not a text, and yet a list");
        return;
    };
    let ends = |c: char| c.is_whitespace() || "#;,".contains(c);
    let entries = text.split('\n').filter_map(|line| {
        let entry = line.trim_start().split(ends).next().unwrap_or_default();
        (!entry.is_empty()).then(|| entry.parse::<Entry>().ok())
    });
    match (entries.collect::<Option<Vec<_>>>(), read) {
        (Some(entries), Some(set)) => assert_eq!(set, AddressSet::from_entries(entries)),
        (Some(entries), None) => assert!(entries.is_empty(), "every line is fine"),
        (None, read) => assert!(read.is_none(), "a line is wrong"),
    }
}

/// The texts at `/a/*/ip` of a tree, if they are texts.
fn selected(document: &serde_json::Value) -> Option<Vec<Entry>> {
    let inside = |value: &serde_json::Value| -> Vec<serde_json::Value> {
        match value {
            serde_json::Value::Array(items) => items.clone(),
            serde_json::Value::Object(members) => members.values().cloned().collect(),
            _ => Vec::new(),
        }
    };
    let all = document.get("a").map(inside).unwrap_or_default();
    let texts = all.iter().filter_map(|value| value.get("ip"));
    texts.map(|text| text.as_str()?.parse().ok()).collect()
}

/// A JSON document: what is read of it holds all that a tree of it selects, and a condition takes away only.
pub(crate) fn json(bytes: &[u8]) {
    let read = listed("select: /a/*/ip", bytes);
    let some = listed("select: /a/*/ip, where: {kind: x}", bytes);
    if let (Some(read), Some(some)) = (&read, &some) {
        assert_eq!(&some.intersection(read), some);
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    match (serde_json::from_slice::<serde_json::Value>(bytes), read) {
        (Ok(document), Some(read)) => {
            let entries = selected(&document).expect("a selected value is no entry");
            let set = AddressSet::from_entries(entries);
            // Of members of one name, a tree keeps the last.
            assert_eq!(set.intersection(&read), set);
        }
        (Ok(_) | Err(_), None) => {}
        // A number that is too large for a tree.
        (Err(error), Some(_)) => assert!(error.to_string().contains("number"), "{error}"),
    }
}

/// A JSON document a line: it has what its lines have.
pub(crate) fn json_lines(bytes: &[u8]) {
    let read = listed("format: json-lines, select: /a/*/ip", bytes);
    let (Some(read), Ok(text)) = (read, std::str::from_utf8(bytes)) else {
        return;
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.split('\n').filter(|line| !line.trim().is_empty());
    let one = |line: &str| {
        listed("select: /a/*/ip", line.as_bytes()).expect("a line alone is a document")
    };
    let all = lines.fold(AddressSet::default(), |all, line| all.union(&one(line)));
    assert_eq!(read, all);
}

/// Messages of the kernel: whatever they are, reading ends; and what is read of a table is what is
/// read of it when it is written again.
pub(crate) fn netlink(bytes: &[u8]) {
    for message in Messages::new(bytes) {
        let Ok(message) = message else { break };
        let _ = object::decode(&message);
        let _ = notice::decode(&message);
        let _ = Answer::decode(&message);
        let _ = decode_link(&message);
        let _ = decode_address(&message);
        let _ = decode_listener(&message, 6);
        let _ = decode_generation(&message);
        let _ = trace::decode(&message);
        let _ = nflog::decode(&message);
    }
    if let Ok(Some(installed)) = encoded::read(bytes) {
        // Printing never fails, even of what is not dfw's.
        let _ = installed.ruleset.to_string();
        if installed.foreign().is_empty() && check(&installed.ruleset).is_empty() {
            comes_back(&installed.ruleset);
        }
    }
}

/// A dump of iptables: it becomes a policy, or is none at all.
pub(crate) fn import(bytes: &[u8]) {
    let mut sources = SourceMap::in_memory::<&str, &str>([]);
    let file = sources.take("rules.v4", bytes.to_vec());
    match import::import(&sources, &[file]) {
        Ok(imported) => point_into(&imported.remarks, &sources),
        Err(import::Error::Rejected(why)) => point_into(&why, &sources),
        Err(error @ import::Error::Invalid(_)) => panic!("{error}"),
    }
}

fn read(sources: &mut SourceMap) -> Option<Policy> {
    let files =
        dfw::store::read_policies(sources, Path::new("policy.yaml")).expect("it is in memory");
    match policy::read(sources, &files) {
        Ok((policy, warnings)) => {
            assert!(warnings.iter().all(|d| d.severity == Severity::Warning));
            point_into(&warnings, sources);
            Some(policy)
        }
        Err(errors) => {
            assert!(errors.iter().any(|d| d.severity == Severity::Error));
            point_into(&errors, sources);
            None
        }
    }
}

/// Every place that is pointed at exists, and what is shown does a terminal no harm.
fn point_into(diagnostics: &[Diagnostic], sources: &SourceMap) {
    for diagnostic in diagnostics {
        for label in diagnostic.primary.iter().chain(&diagnostic.related) {
            let text = sources.text(label.span.file);
            assert!(text.get(label.span.range()).is_some(), "{label:?}");
        }
        assert!(!diagnostic.message.contains(char::is_control));
        assert!(!render(diagnostic, sources, false).contains('\u{1b}'));
        assert!(to_json(diagnostic, sources).is_object());
    }
}

fn comes_back(ruleset: &Ruleset) {
    let batch = batch(ruleset);
    let installed = encoded::read(&batch)
        .expect("its own messages")
        .expect("its own table");
    assert_eq!(installed.ruleset, *ruleset);
}

/// The messages that install a ruleset.
pub(crate) fn batch(ruleset: &Ruleset) -> Vec<u8> {
    encoded::replacing(ruleset, "", 7).bytes
}
