//! What `cargo run --example generate` writes: a manual page for each command, and completions that a shell
//! accepts.
#![expect(
    clippy::disallowed_types,
    reason = "dfw never starts another program, its tests do"
)]

#[path = "../../examples/generate/files.rs"]
mod files;
#[path = "../../examples/generate/manual.rs"]
mod manual;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

const DFW: &str = env!("CARGO_BIN_EXE_dfw");

fn told(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The verbs that the help shows.
fn verbs() -> BTreeSet<String> {
    let help = told(Command::new(DFW).arg("--help"));
    // Behind what dfw is and how it is called.
    let list = help.split("\n\n").next().unwrap();
    let words = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let words = words.filter_map(|line| line.split_whitespace().next());
    words
        .filter(|word| *word != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_verb_and_the_language_have_a_page() {
    let files = files::files().unwrap();
    let names: BTreeSet<_> = files
        .keys()
        .filter_map(|path| path.strip_prefix("man/"))
        .map(str::to_owned)
        .collect();
    let mut expected: BTreeSet<_> = verbs().iter().map(|verb| format!("dfw-{verb}.1")).collect();
    assert!(expected.len() >= 14);
    expected.extend(["dfw.1".to_owned(), "dfw-policy.5".to_owned()]);
    assert_eq!(names, expected);
    // The language's page is its document: nothing of it may be lost on the way.
    let page = str::from_utf8(&files["man/dfw-policy.5"]).unwrap();
    let document = fs::read_to_string("docs/policy.md").unwrap();
    for heading in document.lines().filter_map(|line| line.strip_prefix("## ")) {
        let heading = heading.replace('`', "").to_uppercase();
        let found = page.lines().any(|line| {
            line.strip_prefix(".SH ")
                .is_some_and(|it| it.trim_matches('"') == heading)
        });
        assert!(found, "{heading}");
    }
    assert!(!page.contains("```") && !page.contains("|---|"));
}

#[test]
fn completions_complete() {
    let files = files::files().unwrap();
    let script = |shell| str::from_utf8(&files[&format!("completions/dfw.{shell}")]).unwrap();
    let bash = script("bash");
    let ask = format!(
        "{bash}\nCOMP_WORDS=(dfw ap); COMP_CWORD=1; _dfw dfw ap dfw; echo \"${{COMPREPLY[@]}}\""
    );
    assert_eq!(told(Command::new("bash").args(["-c", &ask])), "apply\n");
    for shell in ["zsh", "fish"] {
        for verb in verbs() {
            assert!(script(shell).contains(&verb), "{shell}: {verb}");
        }
    }
}
