//! `except`: who may not reach the port, although allowed.

use std::net::IpAddr;

use serde_json::json;

use crate::net::{AddressSet, Entry};
use crate::policy::Policy;
use crate::policy::source::{self, NamedSource, Place, SourceName, Unknown, reserved_words};
use crate::policy::yaml::{Reader, one_or_many};
use crate::text::Span;
use crate::text::diagnostic::{Diagnostic, quoted};

use super::{Attribute, Draft, selection};

pub(super) const ATTRIBUTE: Attribute = Attribute {
    key: "except",
    read: |draft, reader, line, policy| {
        policy.except = selection::read(draft, reader, &line.value, "`except`", &line.key_span);
        let span = &line.value.span;
        draft
            .except_names
            .push((span.clone(), policy.except.named.clone()));
        if policy.except.any {
            reader.report.push(
                Diagnostic::error("except-any", "`except: any` would deny everybody")
                    .at(span.clone(), "nobody is left")
                    .help("to deny everybody, write `allow: []` and no `except`"),
            );
        }
    },
    schema: || {
        // `any` would deny everybody, and an empty list nobody.
        let not = json!({"type": "string", "pattern": reserved_words(Place::Except)});
        let pattern = selection::pattern();
        let mut schema = one_or_many(&pattern, &not, "Who may not, although allowed.");
        schema["minItems"] = json!(1);
        schema
    },
    json: |policy| ("except", policy.except.json()),
    describe: |policy, sources| match policy.except.describe(sources) {
        who if who.is_empty() => who,
        who => format!(" except {who}"),
    },
};

impl Draft {
    /// Reports an empty `except`, which would open the port to the sources that it should exclude.
    pub(in crate::policy) fn check_empty_excepts(
        &self,
        reader: &mut Reader<'_>,
        sources: &source::Draft,
    ) {
        for (span, selection) in &self.except_names {
            let empty: Vec<&SourceName> = selection
                .iter()
                .filter(|name| {
                    // The contents of an unread source are unknown, and its error is reported.
                    let source = sources
                        .named
                        .get(name)
                        .filter(|_| !sources.unread.contains(name));
                    source.is_some_and(|source| source.addresses.is_empty())
                })
                .collect();
            for name in empty {
                let source = &sources.named[name];
                if let Some(on_host) = &source.on_host {
                    reader
                        .report
                        .push(may_be_empty(span, name, source, &on_host.describe()));
                    continue;
                }
                if let Some(fetched) = &source.fetched
                    && let Some(why) = fetched.list.unknown()
                {
                    if !reader.texts.is_for_fetching() {
                        reader.report.push(unknown(span, name, source, &why));
                    }
                    continue;
                }
                let message = format!(
                    "the source {} under `except` is empty",
                    quoted(name.as_str())
                );
                reader.report.push(
                    Diagnostic::error("empty-except", message)
                        .at(
                            span.clone(),
                            "the port would be open to those who were meant",
                        )
                        .related(source.origin.clone(), "this source has no address")
                        .help("leave it out of `except` if nobody is meant"),
                );
            }
        }
    }

    /// Reports an `except` that excludes nobody.
    pub(in crate::policy) fn check_excepts(
        &self,
        reader: &mut Reader<'_>,
        sources: &source::Draft,
    ) {
        let mut warnings = Vec::new();
        let outside = outside();
        for (key, span) in &self.excepts {
            let Some(policy) = self.ports.get(key) else {
                continue;
            };
            let (allow, except) = (&policy.allow, &policy.except);
            if except.any || except.containers {
                continue;
            }
            let (allowed, excepted) = (allow.sets(sources), except.sets(sources));
            let holds = |family: fn(&AddressSet) -> bool| {
                allow.any || allowed.iter().any(|set| family(set))
            };
            if reader.lints {
                warnings.extend(one_family(&excepted, holds, span));
            }
            if allow.is_open(sources) {
                continue;
            }
            if allow.any {
                let meet = excepted.iter().any(|set| set.intersects(&outside));
                if !meet && excepted.iter().any(|set| !set.is_empty()) {
                    warnings.push(
                        Diagnostic::warning("except-nobody", "this `except` takes nobody away")
                            .at(span.clone(), "no packet from outside has such a source")
                            .help("everybody is `0.0.0.0/0` and `::/0`; to deny everybody, write `allow: []`"),
                    );
                }
                continue;
            }
            let meet = allowed
                .iter()
                .any(|a| excepted.iter().any(|e| a.intersects(e)));
            if !meet && excepted.iter().any(|set| !set.is_empty()) {
                warnings.push(
                    Diagnostic::warning("except-nobody", "this `except` takes nobody away")
                        .at(span.clone(), "none of these is allowed")
                        .help("is an address mistyped, here or in `allow`?"),
                );
            }
        }
        reader.report.append(&mut warnings);
    }
}

/// Returns the addresses that packets from outside can come from: unicast, and no loopback.
fn outside() -> AddressSet {
    let v4 = |first, last| Entry::V4(u32::from_be_bytes(first), u32::from_be_bytes(last));
    let multicast = 0xff_u128 << 120;
    let not = [
        v4([0; 4], [0; 4]),
        v4([127, 0, 0, 0], [127, 255, 255, 255]),
        v4([224, 0, 0, 0], [239, 255, 255, 255]),
        v4([255; 4], [255; 4]),
        Entry::V6(0, 1),
        Entry::V6(multicast, u128::MAX),
    ];
    AddressSet::from_entries(not).complement()
}

/// Reports an `except` that denies one family, and leaves the other one allowed.
fn one_family(
    excepted: &[&AddressSet],
    holds: impl Fn(fn(&AddressSet) -> bool) -> bool,
    span: &Span,
) -> Option<Diagnostic> {
    let all_v4 = excepted.iter().any(|set| set.v4().are_all());
    let all_v6 = excepted.iter().any(|set| set.v6().are_all());
    let no_v4 = excepted.iter().all(|set| set.v4().is_empty());
    let no_v6 = excepted.iter().all(|set| set.v6().is_empty());
    let (denied, allowed, network) = if all_v4 && no_v6 && holds(|set| !set.v6().is_empty()) {
        ("IPv4", "IPv6", "::/0")
    } else if all_v6 && no_v4 && holds(|set| !set.v4().is_empty()) {
        ("IPv6", "IPv4", "0.0.0.0/0")
    } else {
        return None;
    };
    let message = format!("this `except` denies all of {denied}, and nothing of {allowed}");
    let help = format!("to deny {allowed}, too, write `allow: []`, or add `{network}`");
    let warning = Diagnostic::warning("except-one-family", message);
    Some(
        warning
            .at(span.clone(), format!("{allowed} stays allowed"))
            .help(help),
    )
}

/// Reports a source that depends on the host and may be empty.
fn may_be_empty(span: &Span, name: &SourceName, source: &NamedSource, what: &str) -> Diagnostic {
    let name = quoted(name.as_str());
    let message = format!("the source {name} under `except` may be empty on a host");
    Diagnostic::error("empty-except", message)
        .at(
            span.clone(),
            "the port would then be open to those who were meant",
        )
        .related(source.origin.clone(), what)
        .help("write the addresses themselves, in a source of their own")
}

/// Returns the error about a source of which nobody knows what it holds.
fn unknown(span: &Span, name: &SourceName, source: &NamedSource, why: &Unknown) -> Diagnostic {
    let name = quoted(name.as_str());
    let message = format!("the source {name} under `except` {}", why.reason);
    Diagnostic::error("empty-except", message)
        .at(
            span.clone(),
            "the port would be open to those who were meant",
        )
        .related(source.origin.clone(), "nothing is known of this source")
        .help(why.help)
}

impl Policy {
    /// Returns whether an address is excluded from a port.
    #[must_use]
    pub fn excepts(&self, address: IpAddr) -> bool {
        let of = |name: &SourceName| self.sources.get(name);
        self.ports.values().any(|port| {
            port.except.inline.contains(address)
                || port
                    .except
                    .named
                    .iter()
                    .filter_map(of)
                    .any(|source| source.addresses.contains(address))
        })
    }
}
