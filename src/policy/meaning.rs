//! What texts mean.

use std::net::IpAddr;
use std::path::Path;

use super::*;
use crate::text::SourceMap;
use crate::text::diagnostic::Diagnostic;

const DESIGN: &str = include_str!("../../tests/policies/valid/design.yaml");
const PARTNERS: &str = include_str!("../../tests/policies/valid/lists/partners.txt");

type Outcome = Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>>;

/// Reads the policies among files.
fn read_files(files: &[(&str, &[u8])]) -> Outcome {
    let mut texts = SourceMap::in_memory(files.iter().copied());
    let policies = files.iter().map(|(path, _)| Path::new(path));
    let policies = policies.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let policies: Vec<_> = policies
        .map(|path| texts.read_file(path).unwrap())
        .collect();
    read(&mut texts, &policies)
}

fn read_text(text: &str) -> Policy {
    let files: [(&str, &[u8]); 2] = [
        ("p/a.yaml", text.as_bytes()),
        ("p/lists/partners.txt", PARTNERS.as_bytes()),
    ];
    read_files(&files).unwrap().0
}

fn key(text: &str) -> HostPorts {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_language_means_what_its_description_says() {
    let policy = read_text(DESIGN);
    assert_eq!(policy.default, DefaultAction::Deny);
    let names: Vec<_> = policy.sources.keys().map(SourceName::as_str).collect();
    assert_eq!(names, ["monitor", "office", "partners"]);
    let partners = &policy.sources[&SourceName("partners".to_owned())].addresses;
    assert_eq!((partners.count_v4(), partners.count_v6()), (17, 9));

    let keys: Vec<_> = policy.ports.keys().map(ToString::to_string).collect();
    let expected = [
        "80/tcp",
        "443/tcp",
        "5432/tcp",
        "8000-8010/tcp",
        "53/udp",
        "203.0.113.10:8082/tcp",
    ];
    assert_eq!(keys, expected);
    assert!(policy.ports[&key("443")].allow.any);
    assert_eq!(policy.ports[&key("80")].allow.named.len(), 2);
    let range = &policy.ports[&key("8000-8010")].allow;
    assert!(range.inline.contains(address("192.0.2.15")));
    assert!(!range.inline.contains(address("192.0.2.21")));

    let database = &policy.ports[&key("5432")];
    assert!(database.except.inline.contains(address("203.0.113.66")));
    let interfaces: Vec<_> = database
        .interfaces
        .iter()
        .map(InterfaceName::as_str)
        .collect();
    assert_eq!(interfaces, ["eth0"]);
    assert!(database.log);
    assert_eq!(database.deny_with, DenyWith::Reject);
    assert_eq!(policy.ports[&key("80")].deny_with, DenyWith::Drop);

    assert_eq!(policy.settings, Settings::default());
    let patterns = policy.settings.container_interfaces.iter();
    let patterns: Vec<_> = patterns.map(ToString::to_string).collect();
    assert_eq!(patterns, ["docker0", "docker_gwbridge", "br-*", "podman*"]);
    assert_eq!(policy.settings.priority, -4);

    let tests = policy.tests.iter().map(|test| match &test.claim {
        Claim::Each { from, allow, .. } => (from.inline.iter().collect(), test.to, *allow),
        Claim::Only(_) => panic!("there is no such test"),
    });
    let tests: Vec<(Vec<_>, _, _)> = tests.collect();
    let of = |text: &str| vec![parse_entry(text).unwrap()];
    let first = (of("203.0.113.9"), Target::Ports(key("80")), true);
    let second = (of("203.0.113.66"), Target::Ports(key("5432")), false);
    assert_eq!(tests, [first, second]);
}

#[test]
fn none_any_and_containers_differ() {
    let policy = read_text(
        "default: allow\nports:\n  80: []\n  81: any\n  82: containers\n  83: 203.0.113.7\n  \
         84: {allow: any, except: [containers]}\n",
    );
    assert_eq!(policy.ports[&key("80")].allow, SourceSelection::default());
    assert!(policy.ports[&key("81")].allow.any);
    assert!(policy.ports[&key("82")].allow.containers);
    assert_eq!(policy.ports[&key("83")].allow.inline.count_v4(), 1);
    assert!(policy.ports[&key("84")].except.containers);
}

#[test]
fn origins_are_the_keys() {
    let text = "default: deny\nsources: {office: 203.0.113.7}\nports:\n  80: [office]\n";
    let policy = read_text(text);
    let at = |span: &Span| &text[span.range()];
    assert_eq!(at(&policy.default_origin), "default");
    assert_eq!(
        at(&policy.sources.values().next().unwrap().origin),
        "office"
    );
    assert_eq!(at(&policy.ports[&key("80")].origin), "80");
}

#[test]
fn a_broken_file_does_not_make_the_others_look_wrong() {
    let outcome = read_files(&[
        (
            "p/a.yaml",
            b"default: deny\nsources: {office: [203.0.113.7}\n",
        ),
        ("p/b.yaml", b"ports: {80: [office], 81: [1.2.3.4/8]}\n"),
    ]);
    let slugs: Vec<_> = outcome.unwrap_err().iter().map(|d| d.slug).collect();
    assert_eq!(slugs, ["yaml", "host-bits"]);
}

#[test]
fn the_file_of_a_key_does_not_matter() {
    let files: [(&str, &[u8]); 3] = [
        ("p/a.yaml", b"default: deny\n"),
        ("p/b.yaml", b"ports: {80: [office, 192.0.2.1, 192.0.2.2]}\n"),
        (
            "p/c.yaml",
            b"sources: {office: [203.0.113.0/24, 203.0.113.7]}\n",
        ),
    ];
    let split = read_files(&files);
    let joined = read_files(&[(
        "p/a.yaml",
        b"sources: {office: 203.0.113.0/24}\nports: {80/tcp: [192.0.2.2, office, \
          192.0.2.1-192.0.2.2]}\ndefault: deny\n",
    )]);
    let (split, joined) = (split.unwrap().0, joined.unwrap().0);
    let sets = |policy: &Policy| {
        let addresses = policy.sources.values().map(|s| s.addresses.clone());
        let allowed = policy.ports.values().map(|p| p.allow.clone());
        (addresses.collect::<Vec<_>>(), allowed.collect::<Vec<_>>())
    };
    assert_eq!(sets(&split), sets(&joined));
}

/// A list in one format may be invalid in another, and an `except` of it would exclude nobody.
#[test]
fn a_list_is_read_in_each_requested_format() {
    let outcome = read_files(&[
        (
            "p/a.yaml",
            b"default: deny\nsources:\n  a: {file: list}\n  b: {file: list, select: /x}\n\
              ports: {80: {allow: any, except: [b]}, 81: [a]}\n",
        ),
        ("p/list", b"203.0.113.7\n"),
    ]);
    let slugs: Vec<_> = outcome.unwrap_err().iter().map(|d| d.slug).collect();
    assert_eq!(slugs, ["json"]);
}
