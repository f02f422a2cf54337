//! Pages as they are written, without their style: `tests/fixtures/pages/`. `UPDATE=1` writes them anew; read the
//! difference before you commit it.

#![expect(clippy::disallowed_types, reason = "a black-box test starts programs")]

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use dfw::analysis::access::Judge;
use dfw::analysis::audit::Exposure;
use dfw::analysis::eval::Pool;
use dfw::analysis::judgement::{Verdict, judge as judge_one};
use dfw::analysis::sources::Sources;
use dfw::net::{AddressSet, Family};
use dfw::page::audit::{Audit, Standing};

use super::page_fixtures::{Facts, host_with, hostile_host, page};

/// A page one element a line, without what changes by itself.
fn readable(page: &str) -> String {
    let mut text = page.replace(concat!("dfw ", env!("CARGO_PKG_VERSION")), "dfw VERSION");
    while let Some((before, rest)) = text.split_once("<style>") {
        let (_, after) = rest.split_once("</style>").unwrap();
        text = format!("{before}<style/>{after}");
    }
    text.replace("><", ">\n<")
}

#[test]
fn pages_are_as_written() {
    let small = page(
        &[
            ("web (shop/web)".to_owned(), vec![80, 443]),
            ("db".to_owned(), vec![5432]),
            ("cache".to_owned(), vec![6379]),
        ],
        Some(
            "default: deny\nports:\n  80: any\n  443: {allow: any, except: [192.0.2.0/24]}\n  5432: [203.0.113.0/24, 2001:db8::/32]\n",
        ),
    );
    let change = dfw(&[
        "diff",
        "tests/policies/review/main",
        "tests/policies/review/everybody",
        "--html",
        "-",
    ]);
    let mut different = Vec::new();
    for (name, text) in [
        ("audit.html", small.html()),
        ("audit.svg", small.svg()),
        ("exposed.html", hostile_host().html()),
        ("diff.html", String::from_utf8(change.stdout).unwrap()),
    ] {
        let text = readable(&text);
        let path = Path::new("tests/fixtures/pages").join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if text != expected {
            let diff = similar::TextDiff::from_lines(&expected, &text);
            different.push(format!("{name}\n{}", diff.unified_diff()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// The counts of a page are those that a person counts, and the most open port is first.
#[test]
fn ports_are_in_the_order_of_their_openness_with_exact_counts() {
    let Audit { ports, .. } = host_with(6);
    let rows: Vec<String> = ports
        .iter()
        .map(|port| {
            let counts: Vec<String> = port.counts.iter().map(ToString::to_string).collect();
            format!(
                "{} {} {}: {}",
                port.port,
                port.standing.name(),
                port.who,
                counts.join(", ")
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            "8000/tcp open everyone: all 4,294,967,296 IPv4, all IPv6",
            "8003/tcp restricted office, partners, 2001:db8:9::/64: 274 IPv4, about 1/2⁴⁸ of IPv6",
            "8001/tcp restricted office: 256 IPv4, 1/2⁴⁸ of IPv6",
            "8002/tcp restricted office: 256 IPv4, 1/2⁴⁸ of IPv6",
            "8004/tcp closed nobody: no IPv4, no IPv6",
            "8005/tcp closed nobody: no IPv4, no IPv6",
        ]
    );
    let exact = |n: usize| ports[n].counts[1].digits();
    assert_eq!(exact(0), "340282366920938463463374607431768211456");
    assert_eq!(exact(1), ((1_u128 << 80) + (1 << 64)).to_string());
    let exposed = hostile_host().ports;
    assert!(
        exposed
            .iter()
            .all(|port| port.standing == Standing::Exposed)
    );
}

/// Who gets in by the counts gets in by the packet, at both ends of every range and beside them.
#[test]
fn sources_are_those_whose_packets_get_in() {
    let containers = [
        ("a".to_owned(), vec![80, 443]),
        ("b".to_owned(), vec![5432]),
    ];
    let mut asked = 0;
    for policy in [
        None,
        Some("default: deny\nports: {80: any}\n"),
        Some(
            "default: allow\nports:\n  80: [198.51.100.0/24]\n  443: {allow: any, except: [203.0.113.0/24]}\n",
        ),
        Some(
            "default: deny\nports:\n  443: [198.51.100.7-198.51.100.90, 2001:db8::/32]\n  192.0.2.10:443: any\n  \
             80: {allow: [198.51.100.0/24, 2001:db8::/40], interface: eth1}\n  5432: []\n  22: [192.0.2.0/28]\n",
        ),
    ] {
        let facts = Facts::of(&containers, policy);
        let ruleset = facts.ruleset.clone().unwrap_or_default();
        let (mut judge, mut pool) = (Judge::new(&ruleset), Pool::default());
        let report = facts.report();
        for Exposure { path, .. } in report.exposures.iter().chain(&report.services) {
            let sources = Sources::of(&mut judge, &mut pool, path, &facts.around);
            for address in ends(path.family(), &[&sources.allowed, &sources.not_judged]) {
                let packets = path.packets(address, &facts.around);
                let verdicts = packets
                    .iter()
                    .map(|packet| judge_one(&ruleset, path, packet).0.verdict());
                let expected = if sources.allowed.contains(address) {
                    Verdict::Allow
                } else if sources.not_judged.contains(address) {
                    Verdict::NotJudged
                } else {
                    Verdict::Deny
                };
                assert_eq!(
                    verdicts.max(),
                    Some(expected),
                    "{address} {path:?} {policy:?}"
                );
                asked += 1;
            }
        }
    }
    assert!(asked > 60, "{asked}");
}

/// The first and last address of each range, and those beside them.
fn ends(family: Family, sets: &[&AddressSet]) -> Vec<IpAddr> {
    let around =
        |first: u128, last: u128| [first.wrapping_sub(1), first, last, last.wrapping_add(1)];
    let v4 = |set: &AddressSet| -> Vec<u128> {
        set.v4()
            .iter()
            .flat_map(|(first, last)| around(first.into(), last.into()))
            .collect()
    };
    let v6 = |set: &AddressSet| -> Vec<u128> {
        set.v6()
            .iter()
            .flat_map(|(first, last)| around(first, last))
            .collect()
    };
    let ends = |of: &dyn Fn(&AddressSet) -> Vec<u128>| {
        sets.iter().flat_map(|set| of(set)).collect::<Vec<_>>()
    };
    match family {
        Family::V4 => {
            let ends = ends(&v4)
                .into_iter()
                .filter_map(|end| u32::try_from(end).ok());
            ends.chain([7]).map(|end| IpAddr::V4(end.into())).collect()
        }
        Family::V6 => ends(&v6)
            .into_iter()
            .chain([7])
            .map(|end| IpAddr::V6(end.into()))
            .collect(),
    }
}

fn dfw(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dfw"))
        .args(arguments)
        .output()
        .unwrap()
}

fn diff_into(file: &Path) -> Output {
    let policy = "tests/policies/review/main";
    dfw(&["diff", policy, policy, "--html", file.to_str().unwrap()])
}

#[test]
fn a_page_replaces_a_file_whole_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    fs::write(&file, "former").unwrap();
    let written = diff_into(&file);
    assert!(written.status.success(), "{written:?}");
    let page = fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o644
    );
    // A link could lead anywhere, and a device must stay one.
    let link = folder.path().join("link.html");
    symlink(&file, &link).unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    for other in [
        &*link,
        Path::new("/dev/null"),
        &folder.path().join("folder"),
        &folder.path().join("no/folder"),
    ] {
        let denied = diff_into(other);
        assert_eq!(
            denied.status.code(),
            Some(1),
            "{}: {denied:?}",
            other.display()
        );
        assert!(String::from_utf8_lossy(&denied.stderr).contains("error[unwritable]"));
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
}

#[test]
fn stdout_has_one_answer() {
    let policy = "tests/policies/review/main";
    for others in [["--json", "--color=never"], ["--format", "github"]] {
        let denied = dfw(&[&["diff", policy, policy, "--html", "-"][..], &others].concat());
        assert_eq!(denied.status.code(), Some(1), "{others:?}: {denied:?}");
    }
}
