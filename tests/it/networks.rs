//! Sources that depend on the host: what is judged of them without one, and with one.

use std::path::Path;

use dfw::analysis::test::{DEPENDS_ON_HOST, on_host, run};
use dfw::compile::held;
use dfw::host::HostView;
use dfw::net::{AddressSet, Entry};
use dfw::policy::{self, Policy};
use dfw::ruleset::Origin;
use dfw::text::{SourceMap, Span};

const POLICY: &str = "default: deny
sources: {lan: {networks-of: [eth0, wg0]}}
ports:
  80: [lan, 192.0.2.7]
  81: {allow: [lan], except: [192.0.2.66]}
tests:
";

fn read(tests: &str) -> Policy {
    let mut sources = SourceMap::in_memory([("a.yaml", format!("{POLICY}{tests}"))]);
    let file = sources.read_file(Path::new("a.yaml")).unwrap();
    policy::read(&mut sources, &[file]).unwrap().0
}

fn origin(_: &Span) -> Origin {
    Origin {
        file: "a.yaml".to_owned(),
        line: 1,
    }
}

fn host(networks: &[(&str, &[&str])]) -> HostView {
    let set = |entries: &[&str]| -> AddressSet {
        let entries = entries.iter().map(|entry| entry.parse::<Entry>().unwrap());
        entries.collect()
    };
    let networks = networks.iter();
    HostView {
        networks: networks
            .map(|(name, entries)| ((*name).to_owned(), set(entries)))
            .collect(),
        ..HostView::default()
    }
}

#[test]
fn what_depends_on_the_host_is_not_judged_without_it() {
    let policy = read(
        "  - {from: 203.0.113.9, to: 80, expect: allow}
  - {from: 203.0.113.9, to: 81, expect: deny}
  - {from: 192.0.2.7, to: 80, expect: allow}
  - {from: 192.0.2.66, to: 81, expect: deny}
  - {from: containers, to: 80, expect: allow}
",
    );
    let report = run(&policy, &origin);
    assert_eq!((report.passed, report.failed.len()), (3, 0));
    let slugs: Vec<_> = report.unjudged.iter().map(|d| d.slug).collect();
    assert_eq!(slugs, [DEPENDS_ON_HOST; 2]);
    // A judgement that it cannot change is one.
    let policy = read("  - {from: 192.0.2.7, to: 80, expect: deny}\n");
    assert_eq!(run(&policy, &origin).failed.len(), 1);
}

#[test]
fn where_the_host_is_known_it_is_judged() {
    let policy = read(
        "  - {from: 203.0.113.9, to: 80, expect: allow}
  - {from: 203.0.113.9, to: 81, expect: deny}
  - {from: 198.51.100.9, to: 80, expect: allow}
",
    );
    let host = host(&[("eth0", &["203.0.113.0/24"]), ("wg0", &["2001:db8::/64"])]);
    let failed = on_host(&policy, &host, &origin);
    let messages: Vec<_> = failed.iter().map(|f| &*f.diagnostic.message).collect();
    assert_eq!(
        messages,
        [
            "`203.0.113.9` is allowed at port 81/tcp",
            "`198.51.100.9` is denied at port 80/tcp",
        ]
    );
}

#[test]
fn a_missing_interface_is_reported_and_allows_nobody() {
    let policy = read("  []\n");
    let (_, source, _) = policy.on_host().next().unwrap();
    let host = host(&[("eth0", &[])]);
    let held = held(source, &host);
    assert!(held.addresses.is_empty());
    assert_eq!(
        held.missing,
        [
            "`eth0` has no usable address (loopback and link-local do not count)",
            "there is no interface `wg0`",
        ]
    );
}
