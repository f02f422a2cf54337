//! What a text is that is no dump of iptables.

use super::rule::program;
use crate::net::Family;
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, Problem, SourceMap};

/// The command that prints what can be imported.
const COMMAND: &str = "`(iptables-save; ip6tables-save) | dfw import`, as root on the server";
/// How much of a text is looked at.
const BEGINNING: usize = 4096;

/// What a file is, if it is certainly no dump; `None` if it may be one.
pub(super) fn foreign(sources: &SourceMap, file: FileId) -> Option<Diagnostic> {
    let not_a_dump = |what: &str| {
        // A file of bytes has no line that could be shown.
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
        format!("give it {COMMAND}")
    } else {
        help.to_owned()
    };
    Some(not_a_dump(what).help(help))
}

/// What it is, and what to do instead if that is not the usual.
fn kind(text: &str) -> Option<(&'static str, &'static str)> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let begins = |start: &str| lines().any(|line| line.starts_with(start));
    if begins("*") && begins(":") || begins("-A ") || begins("[") && text.contains("] -A ") {
        return None;
    }
    let comments = lines().all(|line| line.starts_with('#'));
    if lines().next().is_none() {
        Some(("there is nothing in it", ""))
    } else if comments && text.contains("iptables-legacy tables present") {
        Some((
            "only the warning that the rules are elsewhere",
            "`(iptables-legacy-save; ip6tables-legacy-save) | dfw import`, as root on the server",
        ))
    } else if begins("Chain ") {
        Some((
            "this is what `iptables -L` prints, which leaves out what a rule looks at",
            "",
        ))
    } else if begins("table ip") || begins("table inet") || text.contains("{\"nftables\"") {
        Some(("this is what `nft list ruleset` prints", ""))
    } else if begins("Status: active") || begins("Status: inactive") {
        Some((
            "this is what `ufw status` prints, which says nothing of Docker's ports",
            "",
        ))
    } else if begins("CONTAINER ID") {
        Some(("this is what `docker ps` prints", ""))
    } else {
        None
    }
}

/// There is no table in any file.
pub(super) fn nothing() -> Diagnostic {
    Diagnostic::error(
        "no-rules",
        "no rules to import: this is not what `iptables-save` prints",
    )
    .help(format!("give it {COMMAND}"))
}

/// There are rules, and nobody knows which port of the host leads to them.
pub(super) fn no_nat(families: &[Family]) -> Diagnostic {
    let names: Vec<_> = families.iter().map(|family| program(*family)).collect();
    Diagnostic::error(
        "no-nat",
        "no policy can be made: the table `nat` is not in these dumps",
    )
    .help(
        "only it tells which port of the host leads to which port of a container, and so what the \
         rules deny",
    )
    .help(format!(
        "dump all tables ({}, without `-t`) while the containers run: {COMMAND}",
        names.join(", ")
    ))
}

/// There are denials, and no published port that they could be about.
pub(super) fn nothing_published(uncalled: bool) -> Diagnostic {
    let error = Diagnostic::error(
        "nothing-published",
        "no policy can be made: no port is published in these dumps",
    );
    if uncalled {
        return error
            .help("they have DNAT rules, but no rule of the chain PREROUTING of `nat` leads there")
            .help(format!("give the dumps whole: {COMMAND}"));
    }
    error.help(format!("dump while the containers run: {COMMAND}"))
    .help(
        "Docker's nftables backend keeps its ports elsewhere, and calls no rule of DOCKER-USER: \
         `dfw init` makes a policy of what is published",
    )
}
