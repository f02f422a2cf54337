//! Policies that are right, and policies that are wrong with what dfw says about them.
//!
//! Each folder of `tests/policies/invalid` is a policy; its `expected.stderr` is what a user sees.
//! `UPDATE=1` writes those files anew.

use std::fs;
use std::path::{Path, PathBuf};

use dfw::output::diagnostic::{render, to_json};
use dfw::policy::{self, Policy};
use dfw::text::SourceMap;
use dfw::text::diagnostic::{Diagnostic, Severity};

/// The policy at `path`, or what is wrong with it; warnings come with both.
fn read(path: &Path) -> (SourceMap, Option<Policy>, Vec<Diagnostic>) {
    let mut sources = SourceMap::new();
    let files = dfw::store::read_policies(&mut sources, path).unwrap();
    match policy::read(&mut sources, &files) {
        Ok((policy, warnings)) => (sources, Some(policy), warnings),
        Err(errors) => (sources, None, errors),
    }
}

fn text(sources: &SourceMap, diagnostics: &[Diagnostic]) -> String {
    let texts: Vec<_> = diagnostics
        .iter()
        .map(|diagnostic| render(diagnostic, sources, false))
        .collect();
    texts.join("\n")
}

fn entries(folder: &str) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries
}

#[test]
fn errors_are_reported_as_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut failures = Vec::new();
    for folder in entries("tests/policies/invalid") {
        let (sources, _, diagnostics) = read(&folder);
        let found = text(&sources, &diagnostics);
        let file = folder.join("expected.stderr");
        if update {
            fs::write(&file, &found).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if expected.is_empty() || found != expected {
            failures.push(format!(
                "{}:\n{found}\nexpected:\n{expected}",
                folder.display()
            ));
        }
        for diagnostic in &diagnostics {
            let json = to_json(diagnostic, &sources);
            assert_eq!(json["slug"], diagnostic.slug);
            assert_eq!(json["file"].is_null(), diagnostic.primary.is_none());
        }
    }
    assert!(
        failures.is_empty(),
        "{}
UPDATE=1 writes what was found",
        failures.join(
            "
"
        )
    );
}

#[test]
fn every_invalid_case_is_invalid() {
    for folder in entries("tests/policies/invalid") {
        let (_, policy, diagnostics) = read(&folder);
        let errors = diagnostics.iter().any(|d| d.severity == Severity::Error);
        let warned = folder.ends_with("warnings");
        assert_eq!(
            (policy.is_none(), errors),
            (!warned, !warned),
            "{}",
            folder.display()
        );
    }
}

#[test]
fn what_is_right_is_read_without_a_word() {
    let mut paths = entries("tests/policies/valid");
    paths.retain(|path| !path.ends_with("lists"));
    for path in paths {
        let (sources, policy, diagnostics) = read(&path);
        assert!(
            policy.is_some() && diagnostics.is_empty(),
            "{}",
            text(&sources, &diagnostics)
        );
    }
}

#[test]
fn the_examples_are_policies() {
    for path in ["policies", "examples/database", "examples/only-web"] {
        let (sources, policy, diagnostics) = read(Path::new(path));
        assert_eq!(diagnostics, [], "{}", text(&sources, &diagnostics));
        assert!(!policy.unwrap().ports.is_empty(), "{path}");
    }
}

/// What is valid and says less, or more, than it seems to.
#[test]
fn lints_are_told_as_expected() {
    for folder in entries("tests/policies/lint") {
        let (_, _, plain) = read(&folder);
        assert_eq!(plain, [], "{}", folder.display());
        let mut sources = SourceMap::new();
        let files = dfw::store::read_policies(&mut sources, &folder).unwrap();
        let (_, lints) = policy::read_and_lint(&mut sources, &files).unwrap();
        let (file, found) = (folder.join("expected.stderr"), text(&sources, &lints));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&file).unwrap_or_default());
        assert!(lints.iter().all(|lint| lint.severity == Severity::Warning));
    }
}

/// A lint that cries wolf is worse than none.
#[test]
fn what_is_right_is_linted_without_a_word() {
    let mut paths = entries("tests/policies/valid");
    paths.retain(|path| !path.ends_with("lists"));
    paths.extend(["policies", "examples/database", "examples/only-web"].map(PathBuf::from));
    // These show how lists are written, and what is in them decides nothing.
    let known = [
        ("tests/policies/valid/design.yaml", "unused-source"),
        ("tests/policies/valid/keys.yaml", "redundant-entry"),
    ];
    for path in paths {
        let mut sources = SourceMap::new();
        let files = dfw::store::read_policies(&mut sources, &path).unwrap();
        let (_, lints) = policy::read_and_lint(&mut sources, &files).unwrap();
        let slugs: Vec<&str> = lints.iter().map(|lint| lint.slug).collect();
        let known = known.iter().filter(|(of, _)| path == Path::new(of));
        let expected: Vec<&str> = known.map(|(_, slug)| *slug).collect();
        assert_eq!(slugs, expected, "{}", text(&sources, &lints));
    }
}
