//! Rules of the source: pure modules, names that are spelled once, lengths of files, doc comments.

use std::fs;
use std::path::{Path, PathBuf};

/// What the pure middle must never name: it has no files, environment, clock or random order.
const PURE: &[&str] = &[
    "net",
    "analysis",
    "bundle",
    "policy",
    "ruleset",
    "nftables",
    "compile",
    "import",
    "init",
    "page",
    "plan",
    "untrusted",
];
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::time",
    "std::net::Tcp",
    "HashMap",
    "HashSet",
];

/// How many lines a file has at most: the product's, and those of tests.
const LONGEST: [(&str, usize); 2] = [("src", 600), ("tests", 800)];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let single = src.join(format!("{module}.rs"));
    let folder = src.join(module);
    let mut files: Vec<_> = single.exists().then_some(single).into_iter().collect();
    if folder.is_dir() {
        files.extend(rust_files(&folder));
    }
    assert!(!files.is_empty(), "no module {module}");
    files
}

#[test]
fn the_pure_middle_has_no_files_no_clock_and_no_chance() {
    let mut wrong = Vec::new();
    for module in PURE {
        for file in files_of(module) {
            let text = fs::read_to_string(&file).unwrap();
            for other in IMPURE {
                if text.contains(other) {
                    wrong.push(format!("{} names {other}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (folder, longest) in LONGEST {
        for file in rust_files(&root.join(folder)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= longest, "{} has {lines} lines", file.display());
        }
    }
}

/// Words that also mean something else than a chain or a set: hooks, keys of policies and documents.
const COMMON: &[&str] = &[
    "prerouting",
    "forward",
    "input",
    "output",
    "published",
    "containers",
    "unnamed",
];

/// Names of chains and sets are spelled in one folder: who reads a ruleset asks there.
#[test]
fn names_of_the_compiled_form_are_spelled_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let spelled = root.join("compile/names");
    let own: Vec<String> = rust_files(&spelled)
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.split("#[cfg(test)]").next().unwrap().to_owned()
        })
        .collect();
    let names: Vec<&str> = own
        .iter()
        .flat_map(|own| own.lines())
        .filter(|line| line.contains("const ") && line.contains(": &str = "))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    for expected in [
        "port-",
        ".allow",
        ".rate",
        "shared.",
        "unnamed-ip4",
        "published",
    ] {
        assert!(names.contains(&expected), "{expected} of {names:?}");
    }
    let mut wrong = Vec::new();
    for file in rust_files(&root)
        .into_iter()
        .filter(|file| !file.starts_with(&spelled))
    {
        let text = fs::read_to_string(&file).unwrap();
        let own = text.split("#[cfg(test)]").next().unwrap();
        for name in &names {
            let found = if COMMON.contains(name) {
                ["get", "contains_key", "goto", "jump", "chain", "base"]
                    .iter()
                    .any(|f| own.contains(&format!("{f}(\"{name}\"")))
            } else {
                own.contains(&format!("\"{name}\""))
                    // A prefix with something behind it, as a format has.
                    || (name.ends_with(['-', '.']) && own.contains(&format!("\"{name}{{")))
                    || (name.starts_with('.') && own.contains(&format!("}}{name}")))
            };
            if found {
                wrong.push(format!("{} spells {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A function in `src/`: its file and line, its documentation, and its signature.
struct Documented {
    place: String,
    docs: Vec<String>,
    signature: String,
}

/// Returns the documented functions that are visible outside of their module.
fn documented_functions() -> Vec<Documented> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut functions = Vec::new();
    for file in rust_files(&root.join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            let visible = line.starts_with("pub ") || line.starts_with("pub(");
            if !visible || !line.contains("fn ") || line.starts_with("pub use") {
                continue;
            }
            let before = lines[..number].iter().rev();
            let before = before.take_while(|line| {
                line.starts_with("///") || !line.is_empty() && !line.ends_with(['{', '}', ';', ','])
            });
            let docs = before.filter_map(|line| line.strip_prefix("///"));
            let mut docs: Vec<_> = docs.map(|line| line.trim().to_owned()).collect();
            docs.reverse();
            let rest = lines[number..].join(" ");
            functions.push(Documented {
                place: format!(
                    "{}:{}",
                    file.strip_prefix(root).unwrap().display(),
                    number + 1
                ),
                docs,
                signature: rest.split(['{', ';']).next().unwrap().to_owned(),
            });
        }
    }
    functions
}

#[test]
fn public_functions_document_their_errors() {
    let missing: Vec<_> = documented_functions()
        .into_iter()
        .filter(|function| function.signature.starts_with("pub "))
        .filter(|function| {
            let returned = function.signature.rsplit("->").next().unwrap_or_default();
            let returned = returned.trim_start();
            returned.starts_with("Result<") || returned.starts_with("io::Result<")
        })
        .filter(|function| !function.docs.iter().any(|line| line == "# Errors"))
        .map(|function| function.place)
        .collect();
    assert!(missing.is_empty(), "no `# Errors`: {}", missing.join("\n"));
}

#[test]
fn functions_are_documented_by_a_sentence_that_stands_alone() {
    let wrong: Vec<_> = documented_functions()
        .into_iter()
        .filter_map(|function| {
            let first = function.docs.first()?;
            let verb = first.split([' ', ',']).next().unwrap_or_default();
            let is_verb = verb.starts_with(|c: char| c.is_ascii_uppercase())
                && verb.ends_with('s')
                && !["Its", "This", "As", "Always", "Less", "Addresses", "Ports"].contains(&verb);
            (!is_verb).then(|| format!("{}: {first}", function.place))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
