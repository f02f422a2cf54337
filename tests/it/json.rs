//! The page about JSON and metrics, written from the sources that print them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/json.md";

const HEAD: &str = "\
# JSON and metrics

Every command prints JSON with `--json`: one document, or one per line for the live commands `log` and `trace`.
Each document names its schema and version. Within a version keys are added, never renamed or removed. `guard` is
the key `guard` of `dfw status --json`; a failed command prints `dfw/failure`. The keys below are those that
every document of the schema has, with those of its nested objects behind them; documents of `plan`, `apply`,
`audit` and `explain` have more, which the pages about these commands describe.

This page is generated: `UPDATE=1 cargo test --test it json`.
";

/// Returns every source file below a folder, sorted.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
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

/// Returns the keys of an object of a `json!` macro in order: its own, and those of nested objects.
fn keys(object: &str) -> (Vec<&str>, BTreeSet<&str>) {
    let (mut own, mut nested) = (Vec::new(), BTreeSet::new());
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
                if !after.trim_start().starts_with(':') || after.starts_with("::") {
                    continue;
                }
                if depth == 0 {
                    own.push(name);
                } else {
                    nested.insert(name);
                }
            }
        }
    }
    (own, nested)
}

/// Returns the keys that a file adds to a document afterwards.
fn added(text: &str) -> impl Iterator<Item = &str> {
    let names = |open: &'static str| text.split(open).skip(1);
    names("document[\"")
        .chain(names("object.insert(\""))
        .filter_map(|after| after.split('"').next())
}

/// Returns the lines about schemas, and the rows of the table of metrics.
fn collect() -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut schemas, mut metrics) = (BTreeMap::new(), BTreeMap::new());
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let whole = fs::read_to_string(&path).unwrap();
        let text = whole.split("#[cfg(test)]").next().unwrap();
        for (at, found) in text.match_indices("\"schema\": ") {
            let value = &text[at + found.len()..];
            let name = if value.starts_with("SCHEMA") {
                text.split("SCHEMA: &str = \"").nth(1).unwrap()
            } else {
                &value[1..]
            };
            let name = name.split('"').next().unwrap();
            let (mut own, nested) = keys(object(text, at));
            own.extend(added(text).filter(|_| !name.contains("guard")));
            let own = own.iter().map(|key| format!("`{key}`"));
            let mut line = own.collect::<Vec<_>>().join(", ");
            if !nested.is_empty() {
                let nested: Vec<_> = nested.iter().map(|key| format!("`{key}`")).collect();
                let _ = write!(line, "; nested: {}", nested.join(", "));
            }
            // A wrong command line prints the shortest failure.
            let known: &mut String = schemas.entry(name.to_owned()).or_default();
            if known.len() < line.len() {
                *known = line;
            }
        }
        if path.ends_with("guard/metrics/file.rs") {
            let strings: Vec<_> = text.split('"').skip(1).step_by(2).collect();
            for row in strings.windows(3).filter(|row| row[0].starts_with("dfw_")) {
                if ["gauge", "counter"].contains(&row[1]) {
                    metrics.insert(row[0].to_owned(), format!("{} | {}", row[1], row[2]));
                }
            }
            assert!(text.contains("dfw_port_{unit}_total"));
            for unit in ["packets", "bytes"] {
                let row = format!(
                    "counter | {unit} that rules counted; labels `port` and `verdict` (`allowed`, `denied`)."
                );
                metrics.insert(format!("dfw_port_{unit}_total"), row);
            }
        }
    }
    (schemas, metrics)
}

#[test]
fn the_page_lists_every_schema_key_and_metric() {
    let (schemas, metrics) = collect();
    assert!(
        schemas.len() >= 13 && metrics.len() >= 10,
        "{schemas:?} {metrics:?}"
    );
    let mut page = HEAD.to_owned();
    page.push_str("\n## Schemas\n");
    for (name, keys) in schemas {
        let _ = write!(page, "\n### `{name}`\n\n{keys}\n");
    }
    page.push_str("\n## Metrics\n\n| metric | type | meaning |\n|---|---|---|\n");
    for (name, row) in metrics {
        let _ = writeln!(page, "| `{name}` | {row} |");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap_or_default(), page);
}
