//! The words of the repository: those of the field, and none that a reader has to translate.
#![expect(
    clippy::disallowed_types,
    reason = "dfw never starts another program, its tests do"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Words and phrases for which the field has its own (STYLE.md).
const WORDS: [&str; 14] = [
    "forebear",
    "meddler",
    "spared",
    "whom",
    "whoever",
    "mended",
    "bites its own tail",
    "nothing is said",
    "who stands",
    "told at once",
    "all of it or nothing",
    "let through",
    "the house",
    "doors",
];

/// The files that people read.
const PLACES: [&str; 15] = [
    "src",
    "Cargo.toml",
    "docs",
    "packaging",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "STYLE.md",
    "examples",
    "scenarios",
    "vagrant",
    "benches",
    "systemd",
    "policies",
    "tests",
];

/// Files with texts of others, or with these words as data.
const EXEMPT: [&str; 2] = ["packaging/debian/copyright", "tests/it/words.rs"];

#[test]
fn texts_use_the_words_of_the_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .arg("ls-files")
        .args(PLACES)
        .current_dir(root)
        .output();
    // An unpacked source archive has no index.
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        return;
    };
    let mut hits = Vec::new();
    for file in String::from_utf8(listed.stdout).unwrap().lines() {
        if EXEMPT.contains(&file) {
            continue;
        }
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue;
        };
        for (index, line) in text.to_lowercase().lines().enumerate() {
            let words = WORDS.iter().filter(|word| line.contains(**word));
            hits.extend(words.map(|word| format!("{file}:{}: {word}", index + 1)));
        }
    }
    assert!(hits.is_empty(), "{}", hits.join("\n"));
}
