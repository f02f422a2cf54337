//! Pages as a browser shows them: no text over another, none outside of its box or the window, contrast, headings,
//! tables and descriptions for those who do not see, and names that are text whatever they look like.
//!
//! Each page is in frames of the widths of a telephone, a tablet and a window, within one page with a script that
//! measures them; Chromium loads that page and prints what was found. The pages are as dfw writes them.

#![expect(
    clippy::disallowed_types,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a black-box test starts programs and reports to the terminal; what fails here is a failed test"
)]

#[cfg(feature = "etcd")]
mod fleets;
#[path = "../support/pages.rs"]
mod pages;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use serde::Deserialize;

use dfw::analysis::path::Kind;
use dfw::net::Family;
use dfw::page::audit::{Audit, Standing, shown};

/// Debian's name of it, and those of others.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// The widths of windows, in pixels.
const WIDTHS: [u32; 3] = [360, 820, 1600];
/// How long the browser may take, in seconds.
const PATIENCE: &str = "120";

fn main() -> ExitCode {
    let browser = browser();
    let skip = browser.is_none() && std::env::var("CI").as_deref() != Ok("true");
    if browser.is_none() {
        eprintln!("the pages need {}", BROWSERS[0]);
    }
    let trial = |name, is_dark| {
        Trial::test(name, move || {
            let result = browser
                .context("this trial needs Chromium")
                .and_then(|browser| all_are_right(browser, is_dark));
            result.map_err(|error| format!("{error:#}").into())
        })
        .with_ignored_flag(skip)
    };
    let trials = vec![trial("light", false), trial("dark", true)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn browser() -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let is_there = |name: &&str| folders.iter().any(|folder| folder.join(name).exists());
    BROWSERS.into_iter().find(is_there)
}

/// A page that is measured, and the texts that must be on it.
struct Page {
    name: &'static str,
    html: String,
    /// The picture alone.
    svg: Option<String>,
    expected: Vec<String>,
}

impl Page {
    fn of(name: &'static str, audit: &Audit) -> Self {
        Self {
            name,
            html: audit.html(),
            svg: Some(audit.svg()),
            expected: audit.ports.iter().map(|port| port.title.clone()).collect(),
        }
    }
}

fn all_pages() -> Result<Vec<Page>> {
    let folder = tempfile::tempdir()?;
    let diff = |name, old: &str, new: &str| -> Result<Page> {
        let paths = FILES.map(|file| folder.path().join(file));
        fs::write(&paths[0], old)?;
        fs::write(&paths[1], new)?;
        Ok(Page {
            name,
            html: compared(&paths[0], &paths[1])?,
            svg: None,
            expected: FILES.map(str::to_owned).to_vec(),
        })
    };
    let names = pages::HOSTILE.map(shown);
    let mut all = vec![
        Page::of("0 ports", &pages::host_with(0)),
        Page::of("1 port", &pages::host_with(1)),
        Page::of("30 ports", &pages::host_with(30)),
        Page::of("300 ports", &pages::host_with(300)),
        Page {
            expected: names.to_vec(),
            ..Page::of("hostile names", &pages::hostile_host())
        },
        Page::of("every path", &every_path()),
        diff("no difference", &policy(3, false), &policy(3, false))?,
        diff(
            "a difference of 60 ports",
            &policy(60, false),
            &policy(60, true),
        )?,
    ];
    all.extend(fleets());
    Ok(all)
}

/// Pages of sites in a store.
#[cfg(feature = "etcd")]
fn fleets() -> Vec<Page> {
    let pages = fleets::all().into_iter();
    pages
        .map(|(name, html, expected)| Page {
            name,
            html,
            svg: None,
            expected,
        })
        .collect()
}

/// None, as this program was built without stores.
#[cfg(not(feature = "etcd"))]
fn fleets() -> Vec<Page> {
    Vec::new()
}

/// Names of files, which are names from elsewhere, too.
const FILES: [&str; 2] = ["<img src=x onerror=alert(1)>.yaml", "\"'&lt;b&gt;]]>.yaml"];

/// The longest port.
const LONGEST: &str = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535/sctp";

/// A host with every kind of path, all of them at once, and the longest texts of dfw's own.
fn every_path() -> Audit {
    let kinds = [
        Kind::Dnat,
        Kind::Proxy,
        Kind::Held,
        Kind::HostNetwork,
        Kind::Service,
        Kind::Container,
        Kind::Through,
        Kind::Forwarded,
        Kind::Loopback,
    ];
    let mut audit = pages::host_with(12);
    let paths = |kinds: &[Kind]| {
        kinds
            .iter()
            .map(|kind| (*kind, Family::ALL.to_vec()))
            .collect()
    };
    for (n, port) in audit.ports.iter_mut().enumerate() {
        port.paths = match n {
            0 => paths(&kinds),
            1 => vec![
                (Kind::Dnat, vec![Family::V4]),
                (Kind::Proxy, vec![Family::V6]),
            ],
            n => paths(&kinds[n % kinds.len()..][..1]),
        };
        port.standing = Standing::ALL[n * Standing::ALL.len() / 12];
        LONGEST.clone_into(&mut port.port);
    }
    audit.conclusion.text = LONGEST.repeat(5);
    audit.notes.extend(audit.unseen.clone());
    audit
}

/// A policy of so many ports, or what a change makes of it: some open, some close, some are judged by another line.
fn policy(ports: u16, is_changed: bool) -> String {
    let mut text =
        "default: deny\nsources:\n  office: [203.0.113.0/24, 2001:db8::/32]\nports:\n".to_owned();
    for port in 1000..1000 + ports {
        let changed = if is_changed { 7 } else { 0 };
        let _ = match (port + changed) % 4 {
            0 => writeln!(text, "  {port}: any"),
            1 => writeln!(text, "  {port}: [office]"),
            2 => writeln!(text, "  {port}: [198.51.100.{}, office]", port % 200),
            _ => Ok(()),
        };
    }
    text
}

fn compared(old: &Path, new: &Path) -> Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_dfw"))
        .args(["diff", "--html", "-"])
        .args([old, new])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// What was found out about a page.
#[derive(Debug, Deserialize)]
struct Measured {
    name: String,
    problems: Vec<String>,
    /// How many pieces of text there are.
    texts: usize,
}

fn all_are_right(browser: &str, is_dark: bool) -> Result<()> {
    let pages = all_pages()?;
    let mut measured = measure(browser, is_dark, &pages)?;
    let frames =
        pages.len() * WIDTHS.len() + pages.iter().filter(|page| page.svg.is_some()).count();
    ensure!(measured.len() == frames + 1, "{measured:#?}");
    // One page has every fault: what finds none there finds none anywhere.
    let faulty = measured.remove(0);
    for fault in FAULTS {
        let is_found = faulty
            .problems
            .iter()
            .any(|problem| problem.starts_with(fault));
        ensure!(is_found, "not found: {fault}\n{faulty:#?}");
    }
    let wrong = measured.iter().filter(|page| !page.problems.is_empty());
    let wrong: Vec<String> = wrong
        .map(|page| format!("{}:\n  {}", page.name, page.problems.join("\n  ")))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let empty = measured.iter().find(|page| page.texts < 3);
    ensure!(empty.is_none(), "{empty:#?}");
    Ok(())
}

/// A page with what must be found.
const FAULTY: &str = "<!DOCTYPE html><title></title><body style='margin:0;background:#fff'><h1>a</h1><h3>b</h3>
    <p style='color:#888'>pale</p><p style='position:absolute;top:200px'>one</p>
    <p style='position:absolute;top:203px'>over the other</p><p style='width:900px'>wide</p>
    <img alt='' onerror='x'><table><caption></caption><thead><tr><td>a</td></tr></thead><tbody><tr><td>b</td></tr></tbody></table>
    <svg viewBox='0 0 50 50' width='50' height='50'><rect class='box' fill='#fff' width='20' height='20'></rect><rect class='port' fill='#fff' y='19' width='9' height='9'></rect><text y='15'>too long</text></svg>";
const FAULTS: [&str; 15] = [
    "an element img",
    "an attribute onerror of img",
    "policy ",
    "no language",
    "no title",
    "no main part",
    "headings 1,3",
    "a table without a caption",
    "a column without a heading",
    "a row without a heading",
    "contrast 3.5",
    "one over the other",
    "it scrolls sideways",
    "outside of its box",
    "a box over another",
];

fn measure(browser: &str, is_dark: bool, pages: &[Page]) -> Result<Vec<Measured>> {
    let mut body = String::new();
    let mut frame = |name: &str, width: u32, html: &str, expected: &[String]| {
        let _ = write!(
            body,
            "<iframe width={width} height=800 style='border:0' data-name=\"{}\" data-dark={is_dark} \
             data-expected=\"{}\" srcdoc=\"{}\"></iframe>",
            quoted(name),
            quoted(&serde_json::json!(expected).to_string()),
            quoted(html)
        );
    };
    frame("faulty", WIDTHS[0], FAULTY, &[]);
    for page in pages {
        for width in WIDTHS {
            frame(page.name, width, &page.html, &page.expected);
        }
    }
    for page in pages {
        if let Some(svg) = &page.svg {
            // Names are cut there; the first of them is whole.
            let first: Vec<&String> = page.expected.first().into_iter().collect();
            let _ = write!(
                body,
                "<data data-name=\"{}\" data-expected=\"{}\" data-text=\"{}\"></data>",
                quoted(page.name),
                quoted(&serde_json::json!(first).to_string()),
                quoted(svg)
            );
        }
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("measure.html");
    let script = include_str!("measure.js");
    fs::write(
        &file,
        format!("<!DOCTYPE html><meta charset=utf-8><script>{script}</script><body>{body}"),
    )?;
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).arg(browser).args([
        "--headless",
        // The sandbox needs another user than root, and the pages are our own.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--window-size=1700,1000",
        "--dump-dom",
    ]);
    if is_dark {
        command.arg("--force-dark-mode");
    }
    let profile = folder.path().join("profile");
    let output = command
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", file.display()))
        .output()?;
    let dom = String::from_utf8_lossy(&output.stdout);
    let found = dom
        .split_once("<pre>")
        .and_then(|(_, rest)| rest.split_once("</pre>"));
    let (found, _) = found.with_context(|| {
        format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    serde_json::from_str(found).with_context(|| found.to_owned())
}

/// A text as the value of an attribute.
fn quoted(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;")
}
