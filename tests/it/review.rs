//! A change of a policy is reviewed as `docs/review.md` shows: a repository with two branches side by side.

#![expect(clippy::disallowed_types, reason = "a black-box test starts programs")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// The commands of the page that are no example of output.
fn commands() -> String {
    let page = fs::read_to_string("docs/review.md").unwrap();
    let (_, block) = page.split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Runs a script, and returns its exit code and what it prints.
fn run(folder: &Path, script: &str) -> (Option<i32>, String) {
    let bin = Path::new(env!("CARGO_BIN_EXE_dfw")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", bin.display()))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "a")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "a@example.org")))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn branches_are_compared_as_the_page_shows() {
    let policies = fs::canonicalize("tests/policies/review").unwrap();
    for (branch, code, says) in [
        ("everybody", 12, "::error file=policies/web.yaml,line=6,"),
        ("office", 0, "::notice file=policies/web.yaml,line=6,"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        fs::create_dir(&repository).unwrap();
        let from = policies.display();
        let made = run(
            &repository,
            &format!(
                "git init -q -b main; cp -r {from}/main policies; git add .; git commit -qm a; \
                 git switch -qc change; cp {from}/{branch}/web.yaml policies/; git commit -qam b"
            ),
        );
        assert_eq!(made.0, Some(0), "{}", made.1);
        let reviewed = commands().replace("dfw diff", "dfw diff --format github --fail-on-open");
        let (found, text) = run(&repository, &reviewed);
        assert_eq!(found, Some(code), "{text}");
        assert!(text.contains(says), "{text}");
    }
}
