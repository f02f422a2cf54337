//! What lies around policies, and what paths lead to.

#![expect(
    clippy::disallowed_types,
    reason = "a black-box test starts the program"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dfw::policy;
use dfw::text::SourceMap;

fn dfw(words: &[&str], path: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfw"));
    command.args(words).arg(path).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn ignored_files_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "a.yaml",
        "default: deny\nsources: {office: {file: lists/office}}\nports: {22: [office]}\n",
    );
    write("lists/office", "203.0.113.7\n");
    write("lists/README.md", "");
    write(".git/b.yaml", "");
    write("README", "");
    let output = dfw(&["check"], dir.path());
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (Some(0), String::new())
    );
    // Policies that somebody expects to hold.
    write("eu/berlin/b.yaml", "ports: {80: any}\n");
    write("old/c.yml", "ports: {80: any}\n");
    write("d.json", "{}");
    write("asia/f.json", "{}");
    let output = dfw(&["check"], dir.path());
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    for part in [
        "/eu are not read",
        "/old are not read",
        "the `.json` files in the folder ",
        "/asia are not read",
        "/d.json is not read",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert_eq!(told.matches("warning[not-read]").count(), 4, "{told}");
    // Where nothing else is there, too.
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    let output = dfw(&["check"], dir.path());
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(
        told.contains("no-policies") && told.contains("/eu are not read"),
        "{told}"
    );
}

#[test]
fn thousands_of_errors_are_summarised() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), "default: deny\n").unwrap();
    for number in 1..=1000 {
        let file = dir.path().join(format!("{number}.yaml"));
        fs::write(file, format!("ports: {{{number}: wrong}}\n")).unwrap();
    }
    let told = stderr(&dfw(&["check"], dir.path()));
    assert!(told.contains("800 more errors are not shown"), "{told}");
    assert!(told.contains("the policies have 1000 errors"), "{told}");
    assert_eq!(told.matches("error[unknown-source]").count(), 200);
    // Its own tests, and only the last of them is counted.
    let tests = "  - {from: 203.0.113.7, to: 80, expect: allow}\n".repeat(1000);
    let policy = dir.path().join("tests.yaml");
    fs::write(&policy, format!("default: deny\ntests:\n{tests}")).unwrap();
    let output = dfw(&["check"], &policy);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(11), "{told}");
    assert!(
        told.contains("950 more failed tests are not shown"),
        "{told}"
    );
    assert!(told.contains("1000 of 1000 tests failed"), "{told}");
    assert!(told.lines().count() < 2000, "{told}");
}

#[test]
fn unread_lists_are_reported_once_each() {
    let dir = tempfile::tempdir().unwrap();
    let sources: Vec<String> = (0..100)
        .map(|n| format!("  s{n}: {{file: missing-{n}}}\n"))
        .collect();
    let names: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
    let text = format!(
        "default: deny\nsources:\n{}ports:\n  80: {{allow: any, except: [{}]}}\n",
        sources.concat(),
        names.join(", ")
    );
    fs::write(dir.path().join("a.yaml"), text).unwrap();
    let told = stderr(&dfw(&["check"], dir.path()));
    assert!(told.contains("the policies have 100 errors"), "{told}");
    assert!(told.contains("80 more like this in this file"), "{told}");
    assert!(!told.contains("leave it out"), "{told}");
}

#[test]
fn the_owner_of_a_list_gets_help() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("list"), "203.0.113.7\n").unwrap();
    let policy = dir.path().join("a.yaml");
    fs::write(
        &policy,
        "default: deny\nsources: {a: {file: theirs/list}, b: {file: missing}}\n",
    )
    .unwrap();
    // Only root can change the owner, and the rule applies only to root: other users read only what they may read.
    if std::os::unix::fs::chown(&theirs, Some(65534), None).is_err() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        return;
    }
    let told = stderr(&dfw(&["check"], &policy));
    assert_eq!(told.matches("`chown USER FILE`").count(), 1, "{told}");
    assert_eq!(told.matches("the path is relative").count(), 1, "{told}");
    assert!(told.contains("it belongs to uid 0, and "), "{told}");
}

#[test]
fn names_of_files_forge_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let name = "x\nerror: forged\u{202e}\u{2028}\u{1b}[8m.yaml";
    fs::write(dir.path().join(name), "default: [\n").unwrap();
    fs::write(dir.path().join("\u{202e}y.json"), "").unwrap();
    fs::create_dir(dir.path().join("z\r\n")).unwrap();
    fs::write(dir.path().join("z\r\n/a.yaml"), "").unwrap();
    let clean = |text: &str| {
        assert!(
            !text.contains(['\u{202e}', '\u{2028}', '\u{1b}', '\r']),
            "{text:?}"
        );
        assert!(!text.contains("\nerror: forged"), "{text}");
    };
    for words in [&["check", "--color", "always"][..], &["check", "--json"]] {
        let output = dfw(words, dir.path());
        assert_eq!(output.status.code(), Some(3));
        let told = stderr(&output);
        if words[1] == "--json" {
            clean(&told);
        }
        assert!(told.contains("x\\nerror: forged\\u{202e}"), "{told}");
        clean(&String::from_utf8(output.stdout).unwrap());
    }
    // A path of the command line.
    let output = dfw(&["check"], Path::new("/nowhere/a\u{202e}\nerror: forged"));
    clean(&stderr(&output));
    // A list, and the folder of it.
    let policy = dir.path().join("p.yaml");
    fs::write(
        &policy,
        "default: deny\nsources: {a: {file: \"b\\u202e\\nc\"}}\n",
    )
    .unwrap();
    clean(&stderr(&dfw(&["check"], &policy)));
    fs::write(dir.path().join("b\u{202e}\nc"), "nonsense\n").unwrap();
    let told = stderr(&dfw(&["check"], &policy));
    clean(&told);
    assert!(told.contains("b\\u{202e}\\nc:1:1"), "{told}");
}

#[test]
fn five_thousand_wrong_names_are_a_page() {
    let ports = (1..=5000).map(|port| format!("  {port}: [nobody-knows-{port}]\n"));
    let text = format!("default: deny\nports:\n{}", ports.collect::<String>());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    fs::write(&path, text).unwrap();
    let output = dfw(&["check"], &path);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(3));
    assert!(told.lines().count() < 250, "{}", told.lines().count());
    assert!(
        told.contains("4980 more like this in this file are not shown"),
        "{told}"
    );
    assert!(
        told.ends_with("failed: the policies have 5000 errors\n"),
        "{told}"
    );
}

#[test]
fn an_address_to_fetch_from_is_no_path() {
    const SITE: &str = "is no address of a site: write it with the name of the site";
    let cases = [
        (&["check"][..], SITE),
        (&["show", "--policy"], SITE),
        (&["import"], "policies are not fetched"),
    ];
    for (words, told) in cases {
        let output = dfw(words, Path::new("https://example.com/policies"));
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
    }
}

/// What everybody may see of a diagnostic is no word of the file.
#[test]
fn what_everybody_sees_quotes_nothing() {
    const SECRET: &str = "hunter2";
    let policies = [
        "default: hunter2",
        "default: deny\nports: {80: [hunter2]}",
        "default: deny\nports: {80: 'hunter2 x'}",
        "default: deny\nports: {hunter2: any}",
        "default: deny\nports: {80: {allow: any, hunter2: x}}",
        "default: deny\nports: {80: {allow: any, interface: 'hunter2/'}}",
        "default: deny\nports: {80: {allow: any, log: hunter2}}",
        "default: deny\nsources: {hunter2: [], hunter2: []}",
        "default: deny\nsources: {'hunter2 x': []}",
        "default: deny\nsources: {a: {file: hunter2}}",
        "default: deny\nsources: {a: [hunter2]}",
        "default: deny\nsources: {a: ['1.2.3.4/hunter2']}",
        "default: deny\nsources: {a: [fe80::1%hunter2]}",
        "default: deny\nsettings: {hunter2: 1, priority: hunter2}",
        "default: deny\ntests: [{from: hunter2, to: hunter2, expect: hunter2}]",
        "default: deny\ntests: [{hunter2: 1}]",
        "hunter2: x",
        "hunter2",
        "hunter2: [",
        "'hunter2: x",
        "*hunter2",
        "&hunter2 a: !hunter2 b",
        "%hunter2 x",
        "default:hunter2",
        "default: deny\nsources: {a: {file: list}}",
    ];
    let mut seen = 0;
    for text in policies {
        let list = format!("{SECRET}\n1.2.3.4/{SECRET}\n{SECRET}:$y$x\n{{{SECRET}\n");
        let files = [("p.yaml", text.as_bytes()), ("list", list.as_bytes())];
        let mut sources = SourceMap::in_memory(files);
        let files = dfw::store::read_policies(&mut sources, Path::new("p.yaml")).unwrap();
        let errors = policy::read(&mut sources, &files).unwrap_err();
        for error in errors {
            let public = error.public();
            // The name of a list is known to the user who put it there; a message without a place has none.
            assert!(!public.contains(SECRET), "{text}: {public}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}
