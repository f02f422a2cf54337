//! The page about JSON and metrics lists every schema, key and metric, and nothing else.
#![expect(clippy::disallowed_types, reason = "a test starts the program")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::documented::{PAGE, Section, sections, unlisted};

/// The sources that write documents. The policy's also write the schema of policy files.
const WRITERS: [&str; 5] = [
    "src/cli",
    "src/fleet/overview.rs",
    "src/output",
    "src/guard/granted.rs",
    "src/guard/record.rs",
];

/// Returns every source file below a path, sorted, without its unit tests.
fn sources(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_file() {
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]\nmod").next().unwrap();
        return vec![(path.to_owned(), text.to_owned())];
    }
    let entries = fs::read_dir(path).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| sources(path)).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the text of the object around a position, without its braces.
fn object(text: &str, at: usize) -> &str {
    let mut depth = 0;
    let start = text[..at].rfind('{').unwrap() + 1;
    let end = text[start..].find(|letter| {
        depth += match letter {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth < 0
    });
    &text[start..start + end.unwrap()]
}

/// Returns the keys of an object of a `json!` macro: its own, and those of nested objects.
fn keys(object: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut own, mut nested) = (BTreeSet::new(), BTreeSet::new());
    let (mut depth, mut rest) = (0, object);
    while let Some(at) = rest.find(['{', '}', '"']) {
        let (letter, after) = rest[at..].split_at(1);
        rest = after;
        match letter {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {
                let Some((name, after)) = after.split_once('"') else {
                    break;
                };
                rest = after;
                if after.starts_with(':') && !after.starts_with("::") {
                    let keys = if depth == 0 { &mut own } else { &mut nested };
                    keys.insert(name);
                }
            }
        }
    }
    (own, nested)
}

/// Returns the names in a section's keys.
fn names(section: &Section) -> impl Iterator<Item = &str> {
    let parts = section.keys.keys().flat_map(|key| key.split('.'));
    parts.map(|part| part.trim_end_matches("[]"))
}

#[test]
fn every_schema_is_listed_with_its_keys() {
    let sections = sections();
    let mut schemas = BTreeSet::new();
    for (path, text) in WRITERS.iter().flat_map(|path| sources(&root().join(path))) {
        for (at, found) in text.match_indices("\"schema\": ") {
            let value = &text[at + found.len()..];
            let name = if value.starts_with("SCHEMA") {
                text.split("SCHEMA: &str = \"").nth(1).unwrap()
            } else {
                &value[1..]
            };
            let name = name.split('"').next().unwrap();
            let section = sections.values().find(|section| section.title == name);
            let section = section.unwrap_or_else(|| panic!("docs/json.md lacks {name}"));
            let listed: BTreeSet<_> = names(section).collect();
            let (own, nested) = keys(object(&text, at));
            let missing: Vec<_> = own
                .union(&nested)
                .filter(|key| !listed.contains(*key))
                .collect();
            assert!(
                missing.is_empty(),
                "{name}, {}: {missing:?}",
                path.display()
            );
            schemas.insert(name.to_owned());
        }
    }
    let listed = sections.values().map(|section| section.title.clone());
    let listed: BTreeSet<_> = listed.filter(|title| title.starts_with("dfw/")).collect();
    assert_eq!(schemas, listed);
}

#[test]
fn every_key_of_the_sources_is_listed_and_no_other() {
    let sections = sections();
    let listed: BTreeSet<_> = sections.values().flat_map(names).collect();
    let texts: Vec<_> = WRITERS
        .iter()
        .flat_map(|path| sources(&root().join(path)))
        .collect();
    for (path, text) in &texts {
        for macros in text.split("json!({").skip(1) {
            let (own, nested) = keys(macros.split("})").next().unwrap());
            let missing: Vec<_> = own
                .union(&nested)
                .filter(|key| !listed.contains(*key))
                .collect();
            assert!(missing.is_empty(), "{}: {missing:?}", path.display());
        }
    }
    let all: String = [
        "src/policy",
        "src/cli",
        "src/output",
        "src/guard",
        "src/fleet",
    ]
    .iter()
    .flat_map(|path| sources(&root().join(path)))
    .map(|(_, text)| text)
    .collect();
    let values = &sections["paths"];
    let keys = sections
        .values()
        .filter(|section| section.title != values.title)
        .flat_map(names);
    let stale: Vec<_> = keys
        .filter(|key| !all.contains(&format!("\"{key}\"")))
        .collect();
    assert!(
        stale.is_empty(),
        "docs/json.md lists keys that nothing prints: {stale:?}"
    );
}

#[test]
fn documents_have_only_listed_keys() {
    let verbs: [&[&str]; 5] = [
        &["check", "--json"],
        &["test", "--json"],
        &["show", "--json", "--policy"],
        &["diff", "--format", "json", "policies"],
        &[
            "--json",
            "explain",
            "--docker-host=none",
            "--from=192.0.2.1",
            "--to=80",
            "--policy",
        ],
    ];
    let folders = [
        "examples",
        "tests/policies/valid",
        "tests/policies/invalid",
        "tests/golden",
    ];
    let policies = folders
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap());
    let policies: Vec<_> = policies.map(|entry| entry.unwrap().path()).collect();
    let dumps = fs::read_dir(root().join("tests/import")).unwrap();
    let dumps = dumps.map(|entry| entry.unwrap().path().join("rules.v4"));
    let runs = verbs
        .iter()
        .flat_map(|verb| policies.iter().map(move |path| (*verb, path.clone())));
    let mut count = 0;
    for (verb, path) in runs.chain(dumps.map(|path| (&["import", "--json"][..], path))) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dfw"));
        let output = command
            .args(verb)
            .arg(&path)
            .current_dir(root())
            .output()
            .unwrap();
        let (documents, unlisted) = unlisted(&String::from_utf8(output.stdout).unwrap());
        assert!(
            unlisted.is_empty(),
            "{verb:?} {}: {unlisted:?}",
            path.display()
        );
        count += documents;
    }
    assert!(count > 200, "{count}");
}

#[test]
fn written_documents_have_only_listed_keys() {
    let pages = fs::read_dir(root().join("tests/cli")).unwrap();
    let mut count = 0;
    for page in pages {
        let text = fs::read_to_string(page.unwrap().path()).unwrap();
        for (at, _) in text.match_indices("\n{") {
            let (documents, unlisted) = unlisted(&text[at..]);
            assert!(unlisted.is_empty(), "{unlisted:?}");
            count += documents;
        }
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn a_key_that_the_page_does_not_list_is_found() {
    let text = r#"{"schema": "dfw/plan/v3", "access": {"opens": true, "differences": [{"who": 1}]},
        "size": {"rules": 1, "maps": 2}, "closes": [{"port": "80", "x": []}], "y": {"z": 1}}"#;
    let expected = [
        "difference: who",
        "preview path: x[]",
        "size: maps",
        "preview: y",
    ];
    assert_eq!(unlisted(text), (1, expected.map(str::to_owned).to_vec()));
}

#[test]
fn every_metric_is_listed() {
    let file = root().join("src/guard/metrics/file.rs");
    let (_, text) = sources(&file).remove(0);
    let strings: Vec<_> = text.split('"').skip(1).step_by(2).collect();
    let fixed = strings
        .windows(3)
        .filter(|row| ["gauge", "counter"].contains(&row[1]));
    let fixed = fixed.filter(|row| !row[0].contains('{') && row[0].starts_with("dfw_"));
    let mut expected: BTreeSet<_> = fixed
        .map(|row| format!("| `{}` | {} | {} |", row[0], row[1], row[2]))
        .collect();
    assert!(text.contains("dfw_port_{unit}_total"));
    assert!(text.contains("{unit} accepted or denied, by port."));
    for unit in ["packets", "bytes"] {
        expected.insert(format!(
            "| `dfw_port_{unit}_total` | counter | {unit} accepted or denied, by port. Labels `port` and \
             `verdict`. |"
        ));
    }
    let file = root().join("src/fleet/overview.rs");
    let (_, text) = sources(&file).remove(0);
    let strings: Vec<_> = text.split('"').skip(1).step_by(2).collect();
    let fleet = strings
        .windows(2)
        .filter(|row| row[0].starts_with("dfw_fleet_"));
    expected.extend(fleet.map(|row| format!("| `{}` | gauge | {} |", row[0], row[1])));
    let listed = PAGE.lines().filter(|line| line.starts_with("| `dfw_"));
    assert_eq!(listed.map(str::to_owned).collect::<BTreeSet<_>>(), expected);
}
