//! Pages as they are written, without their style: `tests/fixtures/pages/`. `UPDATE=1` writes them anew; read the
//! difference before you commit it.

#![expect(clippy::disallowed_types, reason = "a black-box test starts programs")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use dfw::page::audit::{Audit, Standing};

use super::page_fixtures::{host_with, hostile_host, page};

/// A page one element a line, without what changes by itself.
fn readable(page: &str) -> String {
    let mut text = page.replace(concat!("dfw ", env!("CARGO_PKG_VERSION")), "dfw VERSION");
    while let Some((before, rest)) = text.split_once("<style>") {
        let (_, after) = rest.split_once("</style>").unwrap();
        text = format!("{before}<style/>{after}");
    }
    text.replace("><", ">\n<")
}

#[test]
fn pages_are_as_written() {
    let small = page(
        &[
            ("web (shop/web)".to_owned(), vec![80, 443]),
            ("db".to_owned(), vec![5432]),
            ("cache".to_owned(), vec![6379]),
        ],
        Some(
            "default: deny\nports:\n  80: any\n  443: {allow: any, except: [192.0.2.0/24]}\n  5432: [203.0.113.0/24, 2001:db8::/32]\n",
        ),
    );
    let change = dfw(&[
        "diff",
        "tests/policies/review/main",
        "tests/policies/review/everybody",
        "--html",
        "-",
    ]);
    let mut different = Vec::new();
    for (name, text) in [
        ("audit.html", small.html()),
        ("audit.svg", small.svg()),
        ("exposed.html", hostile_host().html()),
        ("diff.html", String::from_utf8(change.stdout).unwrap()),
    ] {
        let text = readable(&text);
        let path = Path::new("tests/fixtures/pages").join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if text != expected {
            let diff = similar::TextDiff::from_lines(&expected, &text);
            different.push(format!("{name}\n{}", diff.unified_diff()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// The counts of a page are those that a person counts, and the most open port is first.
#[test]
fn ports_are_in_the_order_of_their_openness_with_exact_counts() {
    let Audit { ports, .. } = host_with(6);
    let rows: Vec<String> = ports
        .iter()
        .map(|port| {
            let counts: Vec<String> = port.counts.iter().map(ToString::to_string).collect();
            format!(
                "{} {} {}: {}",
                port.port,
                port.standing.name(),
                port.who,
                counts.join(", ")
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            "8000/tcp open everyone: all 4,294,967,296 IPv4, all IPv6",
            "8003/tcp restricted office, partners, 2001:db8:9::/64: 274 IPv4, about 1/2⁴⁸ of IPv6",
            "8001/tcp restricted office: 256 IPv4, 1/2⁴⁸ of IPv6",
            "8002/tcp restricted office: 256 IPv4, 1/2⁴⁸ of IPv6",
            "8004/tcp closed nobody: no IPv4, no IPv6",
            "8005/tcp closed nobody: no IPv4, no IPv6",
        ]
    );
    let exact = |n: usize| ports[n].counts[1].digits();
    assert_eq!(exact(0), "340282366920938463463374607431768211456");
    assert_eq!(exact(1), ((1_u128 << 80) + (1 << 64)).to_string());
    let exposed = hostile_host().ports;
    assert!(
        exposed
            .iter()
            .all(|port| port.standing == Standing::Exposed)
    );
}

fn dfw(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dfw"))
        .args(arguments)
        .output()
        .unwrap()
}

fn diff_into(file: &Path) -> Output {
    let policy = "tests/policies/review/main";
    dfw(&["diff", policy, policy, "--html", file.to_str().unwrap()])
}

#[test]
fn a_page_replaces_a_file_whole_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    fs::write(&file, "former").unwrap();
    let written = diff_into(&file);
    assert!(written.status.success(), "{written:?}");
    let page = fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o644
    );
    // A link could lead anywhere, and a device must stay one.
    let link = folder.path().join("link.html");
    symlink(&file, &link).unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    for other in [
        &*link,
        Path::new("/dev/null"),
        &folder.path().join("folder"),
        &folder.path().join("no/folder"),
    ] {
        let denied = diff_into(other);
        assert_eq!(
            denied.status.code(),
            Some(1),
            "{}: {denied:?}",
            other.display()
        );
        assert!(String::from_utf8_lossy(&denied.stderr).contains("error[unwritable]"));
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
}

#[test]
fn stdout_has_one_answer() {
    let policy = "tests/policies/review/main";
    for others in [["--json", "--color=never"], ["--format", "github"]] {
        let denied = dfw(&[&["diff", policy, policy, "--html", "-"][..], &others].concat());
        assert_eq!(denied.status.code(), Some(1), "{others:?}: {denied:?}");
    }
}
