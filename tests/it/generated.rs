//! What `dfw generate` makes: of each verb a manual page, and completions that a shell takes.
#![expect(
    clippy::disallowed_types,
    reason = "dfw never starts another program, its tests do"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
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
    let list = help.split("\n\n").nth(2).unwrap();
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
    // Two runs at once share the folder above.
    let name = format!("man-{}", std::process::id());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    told(Command::new(DFW).args(["generate", "man"]).arg(&dir));
    let names = fs::read_dir(&dir).unwrap();
    let names: BTreeSet<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut expected: BTreeSet<_> = verbs().iter().map(|verb| format!("dfw-{verb}.1")).collect();
    assert!(expected.len() >= 14);
    expected.extend(["dfw.1".to_owned(), "dfw-policy.5".to_owned()]);
    assert_eq!(names, expected);
    // The language's page is its document: nothing of it may be lost on the way.
    let page = fs::read_to_string(dir.join("dfw-policy.5")).unwrap();
    fs::remove_dir_all(&dir).unwrap();
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
    let script = told(Command::new(DFW).args(["generate", "completions", "bash"]));
    let json = told(Command::new(DFW).args(["--json", "generate", "completions", "bash"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["script"], script);
    let ask = format!(
        "{script}\nCOMP_WORDS=(dfw ap); COMP_CWORD=1; _dfw dfw ap dfw; echo \"${{COMPREPLY[@]}}\""
    );
    assert_eq!(told(Command::new("bash").args(["-c", &ask])), "apply\n");
    for shell in ["zsh", "fish"] {
        let script = told(Command::new(DFW).args(["generate", "completions", shell]));
        for verb in verbs() {
            assert!(script.contains(&verb), "{shell}: {verb}");
        }
    }
}
