//! Sites that exist in tests only: with few and with many hosts, and with hostile words of theirs.

use std::collections::BTreeMap;

use dfw::bundle::word::Word;
use dfw::bundle::{Digest, Head};
use dfw::fleet::host::Host;
use dfw::fleet::members::{Member, State};
use dfw::fleet::overview::Overview;
use dfw::fleet::record::Record;
use dfw::fleet::site::{Snapshot, Text};
use dfw::page::audit::shown;
use dfw::page::fleet_page;

use crate::pages::HOSTILE;

const STATES: [&str; 9] = [
    "in-force",
    "in-force",
    "waiting",
    "reverted",
    "refused",
    "undecided",
    "stale",
    "store-behind",
    "no-guard",
];

fn host(number: usize, reason: &str) -> Host {
    let manifest = Digest::of(b"manifest");
    Host {
        name: format!("web-{number}.rack-{}.example.com", number % 7)
            .parse()
            .unwrap(),
        version: "0.1.0".to_owned(),
        at: 2_000_000_000,
        state: STATES[number % STATES.len()].to_owned(),
        reason: number.is_multiple_of(3).then(|| shown(reason)),
        about: Some(manifest),
        generation: Some(7),
        manifest: number.is_multiple_of(2).then_some(manifest),
        accepted: Some(8),
        serial: Some(12),
        is_stale: false,
        restored: u64::from(number % 11 == 1),
        is_failing: false,
    }
}

/// Returns the page of a site with so many hosts, and the names that must be on it.
pub(crate) fn page(number: usize, reasons: &[&str]) -> (String, Vec<String>) {
    let reasons = reasons.iter().cycle();
    let hosts: BTreeMap<Word, Host> = (0..number)
        .zip(reasons)
        .map(|(number, reason)| host(number, reason))
        .map(|host| (host.name.clone(), host))
        .collect();
    let names = hosts.keys().map(Word::to_string).collect();
    let head = Head {
        site: "prod".parse().unwrap(),
        serial: 12,
        generation: 8,
        manifest: Digest::of(b"manifest"),
        created: "2033-05-18T00:00:00Z".parse().unwrap(),
        expires: "2033-05-19T00:00:00Z".parse().unwrap(),
    };
    let snapshot = Snapshot {
        head: (number > 0).then(|| Text {
            statement: head,
            bytes: Vec::new(),
        }),
        changed: 5,
        manifest: None,
        rollout: None,
        record: Record {
            seen: [("gone.example.com".parse().unwrap(), 1_999_990_000)].into(),
            ..Record::default()
        },
        hosts,
        warnings: HOSTILE
            .iter()
            .take(number / 3)
            .map(|text| shown(text))
            .collect(),
        revision: 9,
        now: 2_000_000_100,
    };
    let members = vec![
        Member {
            address: "[2001:db8:1111:2222:3333:4444:5555:6666]:2379".to_owned(),
            state: Err("does not answer in time".to_owned()),
        },
        Member {
            address: "192.0.2.1:2379".to_owned(),
            state: Ok(State {
                version: "3.4.23".to_owned(),
                size: 16 << 20,
                is_leader: true,
                has_leader: true,
            }),
        },
    ];
    let overview = Overview::of(&"prod".parse().unwrap(), &snapshot, members, number > 3);
    (fleet_page::html(&overview), names)
}

/// Returns the pages that are measured: a title, the page, and the names on it.
pub(crate) fn all() -> Vec<(&'static str, String, Vec<String>)> {
    let usual = ["base.yaml:3: the test fails"];
    let of = |title, number, reasons: &[&str]| {
        let (html, names) = page(number, reasons);
        (title, html, names)
    };
    vec![
        of("0 hosts", 0, &usual),
        of("1 host", 1, &usual),
        of("30 hosts", 30, &usual),
        of("300 hosts", 300, &usual),
        of("hostile hosts", 27, &HOSTILE),
    ]
}
