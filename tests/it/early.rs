//! TCP connections that are denied as they arrive.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use dfw::analysis::eval::{Decision, Packet, Trace, evaluate};
use dfw::analysis::path::{Kind, Path};
use dfw::compile::compile;
use dfw::host::HostView;
use dfw::net::{Family, Protocol};
use dfw::ruleset::{Hook, Origin, Ruleset};
use dfw::text::SourceMap;
use dfw::{policy, store};

use crate::docs::{documents, read};

/// A policy that stands alone, compiled; `None` for a text that is none.
fn compiled(text: &str) -> Option<Ruleset> {
    let mut sources = SourceMap::in_memory([("policy.yaml", text)]);
    let files = store::read_policies(&mut sources, "policy.yaml".as_ref()).ok()?;
    let policy = policy::read(&mut sources, &files).ok()?.0;
    let origin = |span: &_| Origin {
        file: "policy.yaml".to_owned(),
        line: sources.line_column(span).0,
    };
    Some(compile(&policy, &HostView::default(), &origin))
}

fn is_early(trace: &Trace) -> bool {
    let first = trace.steps.first();
    first.is_some_and(|step| step.chain == Hook::Prerouting.name())
}

/// The example policies, and those of the documentation.
fn examples() -> Vec<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folders = ["policies", "examples/database", "examples/only-web"];
    let files = folders.iter().flat_map(|folder| {
        let folder = std::fs::read_dir(root.join(folder)).unwrap();
        folder.map(|entry| entry.unwrap().path())
    });
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let mut texts: Vec<String> = files
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for document in documents() {
        let text = read(&document);
        let blocks = text.split("```yaml\n").skip(1);
        let blocks = blocks.filter_map(|block| Some(block.split_once("```")?.0));
        texts.extend(blocks.map(|block| {
            if block.contains("default:") {
                block.to_owned()
            } else {
                format!("default: deny\n{block}")
            }
        }));
    }
    texts
}

#[test]
fn nearly_all_denied_connections_of_the_examples_are() {
    let strangers: [IpAddr; 3] = ["1.2.3.4", "240.1.2.3", "2a00::5"].map(|a| a.parse().unwrap());
    let (mut denied, mut early, mut policies) = (0, 0, 0);
    for text in examples() {
        let Some(ruleset) = compiled(&text) else {
            continue;
        };
        let keys: BTreeSet<_> = dfw::compile::read(&ruleset).ports.into_keys().collect();
        policies += 1;
        for key in keys.iter().filter(|key| key.protocol == Protocol::Tcp) {
            for source in strangers {
                let family = Family::of(source);
                if key
                    .address
                    .is_some_and(|address| Family::of(address) != family)
                {
                    continue;
                }
                let to = key.address.unwrap_or(family.unspecified());
                let service = Path::to_socket(Kind::Service, key.protocol, to, key.first);
                for path in [Path::published(key, family), service] {
                    let trace = evaluate(&ruleset, &path.packet(source, "eth0", to));
                    denied += u32::from(trace.decision != Decision::Accept);
                    early += u32::from(is_early(&trace));
                }
            }
        }
    }
    eprintln!("{early} of {denied} denied in {policies} policies");
    assert!(
        policies > 5 && denied > 50,
        "{denied} in {policies} policies"
    );
    assert!(early * 100 >= denied * 95, "{early} of {denied}");
}

/// A connection to a port that rules of others redirect.
fn redirected(from: u16, to: u16) -> Packet {
    let path = Path {
        redirected: Some(to),
        ..Path::to_socket(Kind::Service, Protocol::Tcp, Family::V4.unspecified(), from)
    };
    path.packet(
        "198.51.100.66".parse().unwrap(),
        "eth0",
        "192.0.2.1".parse().unwrap(),
    )
}

#[test]
fn the_port_that_is_asked_for_decides_before_others_redirect_it() {
    let policy = "default: deny\nports: {80: [203.0.113.0/24], 443: any}\n";
    let with = compiled(policy).unwrap();
    let without = compiled(&format!("{policy}settings: {{early-drop: false}}\n")).unwrap();
    assert!(!without.chains.contains_key(Hook::Prerouting.name()));
    for (from, to, expected) in [
        (80, 8080, [Decision::Drop, Decision::Accept]),
        (8080, 80, [Decision::Drop, Decision::Drop]),
        (80, 443, [Decision::Drop, Decision::Accept]),
        (443, 8080, [Decision::Accept, Decision::Accept]),
    ] {
        let packet = redirected(from, to);
        let [with, without] = [&with, &without].map(|ruleset| evaluate(ruleset, &packet));
        assert_eq!(
            [with.decision, without.decision],
            expected,
            "{from} to {to}"
        );
        assert_eq!(is_early(&with), from == 80, "{with:#?}");
    }
}

#[test]
fn ports_that_do_more_than_drop_take_no_part() {
    let taking = |port: &str| {
        let ruleset = compiled(&format!("default: deny\nports: {{80: {port}}}\n")).unwrap();
        ruleset.chains.contains_key(Hook::Prerouting.name())
    };
    for port in [
        "[203.0.113.0/24]",
        "[]",
        "{allow: [203.0.113.0/24], interface: eth0}",
    ] {
        assert!(taking(port), "{port}");
    }
    for port in [
        "any",
        "{allow: any, except: [203.0.113.7]}",
        "{allow: [203.0.113.0/24], log: true}",
        "{allow: [203.0.113.0/24], deny-with: reject}",
    ] {
        assert!(!taking(port), "{port}");
    }
    // A port inside a range that takes part, and one at an address, keep what is theirs.
    let nested = "default: deny\nports: {80-90: [203.0.113.0/24], 85: any, '192.0.2.1:81': any}\n";
    let nested = compiled(nested).unwrap();
    for (port, early) in [(80, true), (85, false), (81, false), (90, true)] {
        let packet = redirected(port, port);
        assert_eq!(is_early(&evaluate(&nested, &packet)), early, "{port}");
    }
}
