//! Recognises input that is not a dump of iptables.

use super::rule::program;
use crate::net::Family;
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, Problem, SourceMap};

/// The command that prints what can be imported.
const COMMAND: &str = "`(iptables-save; ip6tables-save) | dfw import`, as root on the server";
/// The number of bytes of a text that are examined.
const BEGINNING: usize = 4096;

/// Returns the error about a file that is certainly not a dump; `None` if it may be one.
pub(super) fn foreign(sources: &SourceMap, file: FileId) -> Option<Diagnostic> {
    let not_a_dump = |what: &str| {
        // A binary file has no line to show.
        Diagnostic::error("not-a-dump", format!("{}: {what}", sources.name(file)))
    };
    match sources.problem(file) {
        Some(Problem::NotText { what, help }) => return Some(not_a_dump(what).help(*help)),
        Some(Problem::NotUtf8 { utf16: true, .. }) => {
            let help = "save it as UTF-8: `iconv -f UTF-16 -t UTF-8 FILE`";
            return Some(not_a_dump("text in UTF-16, as Windows writes it").help(help));
        }
        _ => {}
    }
    let text = sources.text(file);
    let end = text.floor_char_boundary(BEGINNING.min(text.len()));
    let beginning = text.get(..end).unwrap_or(text);
    let (what, help) = kind(beginning)?;
    let help = if help.is_empty() {
        format!("use {COMMAND}")
    } else {
        help.to_owned()
    };
    Some(not_a_dump(what).help(help))
}

/// Returns what the text is, and the help if it is not the usual one.
fn kind(text: &str) -> Option<(&'static str, &'static str)> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let begins = |start: &str| lines().any(|line| line.starts_with(start));
    if begins("*") && begins(":") || begins("-A ") || begins("[") && text.contains("] -A ") {
        return None;
    }
    let comments = lines().all(|line| line.starts_with('#'));
    if lines().next().is_none() {
        Some(("empty", ""))
    } else if comments && text.contains("iptables-legacy tables present") {
        Some((
            "only the warning about iptables-legacy tables",
            "`(iptables-legacy-save; ip6tables-legacy-save) | dfw import`, as root on the server",
        ))
    } else if begins("Chain ") {
        Some((
            "output of `iptables -L`, which omits conditions of rules",
            "",
        ))
    } else if begins("table ip") || begins("table inet") || text.contains("{\"nftables\"") {
        Some(("output of `nft list ruleset`", ""))
    } else if begins("Status: active") || begins("Status: inactive") {
        Some((
            "output of `ufw status`, which does not cover Docker's ports",
            "",
        ))
    } else if begins("CONTAINER ID") {
        Some(("output of `docker ps`", ""))
    } else {
        None
    }
}

/// Returns the error about input without any table.
pub(super) fn nothing() -> Diagnostic {
    Diagnostic::error(
        "no-rules",
        "no rules to import: not output of `iptables-save`",
    )
    .help(format!("use {COMMAND}"))
}

/// Returns the error about dumps without the table `nat`.
pub(super) fn no_nat(families: &[Family]) -> Diagnostic {
    let names: Vec<_> = families.iter().map(|family| program(*family)).collect();
    Diagnostic::error(
        "no-nat",
        "cannot make a policy: these dumps lack the table `nat`",
    )
    .help("it maps ports of the host to ports of containers, which the rules match")
    .help(format!(
        "dump all tables ({}, without `-t`) while the containers run: {COMMAND}",
        names.join(", ")
    ))
}

/// Returns the error about denials without any published port.
pub(super) fn nothing_published(uncalled: bool) -> Diagnostic {
    let error = Diagnostic::error(
        "nothing-published",
        "cannot make a policy: no port is published in these dumps",
    );
    if uncalled {
        return error
            .help(
                "they contain DNAT rules, but the chain PREROUTING of `nat` does not jump to them",
            )
            .help(format!("use complete dumps: {COMMAND}"));
    }
    error.help(format!("dump while the containers run: {COMMAND}"))
    .help(
        "Docker's nftables backend does not use DOCKER-USER: `dfw init` writes a policy from the published \
         ports",
    )
}
