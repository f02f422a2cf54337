//! The documents: their links lead somewhere, their policies are right, and nothing is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use dfw::policy;
use dfw::text::SourceMap;
use dfw::text::diagnostic::Diagnostic;

/// What stands behind the opening of a block. `console` is run, `text` is a picture or needs what
/// a test has not.
const LANGUAGES: &[&str] = &["console", "text", "sh", "yaml", "nft", "ini", "json"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document of the repository that is for people, by its path from the root.
pub(crate) fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/design", "vagrant", "scenarios"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name();
            if Path::new(&name).extension().is_some_and(|end| end == "md") {
                found.push(Path::new(folder).join(name));
            }
        }
    }
    found.sort();
    assert!(found.len() > 10, "{found:?}");
    found
}

pub(crate) fn read(document: &Path) -> String {
    fs::read_to_string(root().join(document)).unwrap()
}

/// The lines outside of blocks, and the blocks with their languages.
fn parts(text: &str) -> (Vec<&str>, Vec<(&str, String)>) {
    let (mut prose, mut blocks) = (Vec::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            prose.push(line);
            continue;
        };
        let block: Vec<&str> = lines
            .by_ref()
            .take_while(|line| line.trim_start() != "```")
            .collect();
        blocks.push((language, block.join("\n") + "\n"));
    }
    (prose, blocks)
}

/// The names by which a heading can be linked to.
fn anchors(text: &str) -> BTreeSet<String> {
    let (prose, _) = parts(text);
    let headings = prose.iter().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            });
            kept.collect()
        })
        .collect()
}

/// What the links of a text lead to.
fn links(text: &str) -> Vec<String> {
    let (prose, _) = parts(text);
    let prose = prose.join("\n");
    let ends = prose.split("](").skip(1);
    ends.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for document in documents() {
        let text = read(&document);
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.clone(),
                file => plain(&document.parent().unwrap().join(file)),
            };
            let exists = root().join(&target).exists();
            let leads = anchor.is_empty() || (exists && anchors(&read(&target)).contains(anchor));
            if !exists || !leads {
                dead.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

/// The site has the same pages as the folder.
#[test]
fn the_site_has_every_page() {
    let summary = links(&read(Path::new("docs/SUMMARY.md")));
    for document in documents() {
        let Ok(page) = document.strip_prefix("docs") else {
            continue;
        };
        let page = page.to_str().unwrap();
        let times = summary.iter().filter(|link| *link == page).count();
        assert_eq!(
            times,
            usize::from(page != "SUMMARY.md"),
            "{page} in SUMMARY.md"
        );
    }
    let config = fs::read_to_string(root().join("book.toml")).unwrap();
    assert!(config.contains("src = \"docs\""));
}

/// Each design note says which code it applies to, and every path that it names exists.
#[test]
fn design_notes_lead_to_the_code() {
    let design = |path: &PathBuf| path.starts_with("docs/design");
    let mut notes = 0;
    for document in documents().into_iter().filter(design) {
        let text = read(&document);
        let name = document.display();
        assert!(text.contains("\nApplies to: `src/"), "{name}");
        let folder = "src/";
        for path in text.split('`').filter(|word| word.starts_with(folder)) {
            assert!(root().join(path).exists(), "{name}: {path}");
        }
        notes += 1;
    }
    assert!(notes >= 5, "{notes}");
}

#[test]
fn blocks_say_what_they_are() {
    for document in documents() {
        for (language, block) in parts(&read(&document)).1 {
            let name = document.display();
            assert!(
                LANGUAGES.contains(&language),
                "{name}: ```{language}\n{block}"
            );
            let run = block.lines().any(|line| line.starts_with("$ dfw "));
            assert!(
                !run || language == "console",
                "{name}: a command that is not run\n{block}"
            );
        }
    }
}

/// What dfw says of a policy whose lists are all there.
/// The errors and warnings of a policy. Pages show lists that nobody has fetched here.
fn wrong(policy: &str) -> Vec<Diagnostic> {
    let mut sources = SourceMap::in_memory([
        ("p/a.yaml", policy),
        ("p/lists/partners.txt", "192.0.2.1\n"),
        ("p/lists/blocked.txt", "192.0.2.1\n"),
    ]);
    let files = dfw::store::read_policies(&mut sources, Path::new("p")).unwrap();
    match policy::read(&mut sources, &files) {
        Ok((_, warnings)) => warnings
            .into_iter()
            .filter(|warning| warning.slug != "never-fetched")
            .collect(),
        Err(errors) => errors,
    }
}

#[test]
fn policies_that_are_shown_are_right() {
    let mut checked = 0;
    for document in documents() {
        for (language, block) in parts(&read(&document)).1 {
            if language == "yaml" && block.contains("default:") {
                // cloud-init writes it to a file.
                let block = match block.split_once("content: |\n") {
                    Some((_, rest)) if block.starts_with("#cloud-config") => {
                        rest.split("\nruncmd:").next().unwrap_or(rest)
                    }
                    _ => &block,
                };
                let indent = block.len() - block.trim_start().len();
                let block: Vec<&str> = block
                    .lines()
                    .map(|line| line.get(indent..).unwrap_or(""))
                    .collect();
                assert_eq!(wrong(&block.join("\n")), [], "{}", document.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 3, "{checked}");
}

/// The keys that dfw names when it does not know one.
fn keys(policy: &str) -> Vec<String> {
    let errors = wrong(policy);
    let help = errors
        .iter()
        .filter(|error| error.slug == "unknown-key")
        .flat_map(|error| &error.help)
        .find(|help| help.contains("key"));
    assert!(help.is_some(), "{errors:#?}");
    let names = help.unwrap().split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn the_language_is_described_to_the_last_key() {
    let page = read(Path::new("docs/policy.md"));
    for (place, policy) in [
        ("", "default: deny\nxyzzy: 1\n"),
        ("## `sources`", "default: deny\nsources: {a: {xyzzy: 1}}\n"),
        (
            "## `ports`",
            "default: deny\nports: {80: {allow: any, xyzzy: 1}}\n",
        ),
        ("## `grants`", "default: deny\ngrants: {xyzzy: 1}\n"),
        ("## `settings`", "default: deny\nsettings: {xyzzy: 1}\n"),
        ("## `tests`", "default: deny\ntests: [{xyzzy: 1}]\n"),
    ] {
        let section = match place {
            "" => &page,
            place => page
                .split_once(place)
                .unwrap()
                .1
                .split("\n## ")
                .next()
                .unwrap(),
        };
        for key in keys(policy) {
            let says = [
                format!("`{key}`"),
                format!("`{{{key}: "),
                format!("{key}: "),
            ];
            assert!(
                says.iter().any(|said| section.contains(said)),
                "docs/policy.md, {place}: no {key}"
            );
        }
    }
}

#[test]
fn errors_that_are_described_exist() {
    let tables = [
        ("docs/troubleshooting.md", "| name | what to do |"),
        ("docs/import.md", "| warning | meaning |"),
    ]
    .map(|(page, head)| read(Path::new(page)).split_once(head).unwrap().1.to_owned());
    let mut sources = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let tables = tables
        .iter()
        .map(|table| table.split("\n\n").next().unwrap());
    let rows = tables.flat_map(|table| table.lines().filter_map(|line| line.strip_prefix("| `")));
    let names = rows.flat_map(|row| {
        let names = row.split(" | ").next().unwrap();
        names.split('`').step_by(2).filter(|name| !name.is_empty())
    });
    let mut known = 0;
    for name in names {
        assert!(
            sources.contains(&format!("\"{name}\"")),
            "no error is called {name}"
        );
        known += 1;
    }
    assert!(known > 20, "{known}");
}
