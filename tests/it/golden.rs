//! Golden rulesets: `tests/golden/<idea>/policy.yaml`, and beside it the rules that it becomes.
//!
//! A file `host` says what is known of the host: lines `container NAME`, `foreign NAME` and
//! `shared NAME` for bridges, and `engine NAME` for the answers of an engine in
//! `tests/fixtures/engines/`.
//! `UPDATE=1` writes the rulesets anew; read the difference before you commit it.

use std::fs;
use std::path::Path;

use dfw::compile::compile;
use dfw::host::HostView;
use dfw::net::Entry;
use dfw::policy;
use dfw::ruleset::{Origin, check};
use dfw::text::SourceMap;

#[test]
fn policies_become_these_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let update = std::env::var_os("UPDATE").is_some();
    let mut different = Vec::new();
    for case in cases {
        let text = rules(&case);
        let golden = case.join("ruleset.nft");
        if update {
            fs::write(&golden, &text).unwrap();
        }
        let expected = fs::read_to_string(&golden)
            .unwrap_or_else(|error| panic!("{}: {error}; UPDATE=1 makes it", golden.display()));
        if text != expected {
            different.push(format!(
                "{}\n{}",
                case.display(),
                similar::TextDiff::from_lines(&expected, &text).unified_diff()
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

fn rules(case: &Path) -> String {
    let mut sources = SourceMap::new();
    let files = dfw::store::read_policies(&mut sources, &case.join("policy.yaml")).unwrap();
    let (policy, warnings) = policy::read(&mut sources, &files).unwrap();
    assert_eq!(warnings, [], "{}", case.display());
    let ruleset = compile(&policy, &host(&case.join("host")), &|span| Origin {
        file: "policy.yaml".to_owned(),
        line: sources.line_column(span).0,
    });
    assert_eq!(check::check(&ruleset), Vec::<String>::new());
    ruleset.to_string()
}

fn host(path: &Path) -> HostView {
    let mut view = HostView::default();
    let text = fs::read_to_string(path).unwrap_or_default();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("engine ") {
            view.engines.push(super::engines::engine(name));
            continue;
        }
        match line.split_once(' ') {
            Some(("container", name)) => view.container_bridges.insert(name.to_owned()),
            Some(("shared", name)) => view.shared_bridges.insert(name.to_owned()),
            Some(("networks", rest)) => {
                let mut words = rest.split(' ');
                let name = words.next().unwrap().to_owned();
                let networks = words.map(|entry| entry.parse::<Entry>().unwrap()).collect();
                view.networks.insert(name, networks);
                continue;
            }
            Some(("foreign", name)) => view.foreign_bridges.insert(name.to_owned()),
            _ => unreachable!("{}: {line}", path.display()),
        };
    }
    view
}
