//! The program in bad situations: the right exit code, a diagnostic by name, and the rules in force
//! as they were to the byte.

use std::os::unix::process::CommandExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::{DFW, Report, Sandbox, compiled};
use crate::property::same;
use crate::support::command::install;
use crate::support::helper::HELPER;

pub(crate) const TRIALS: &[Named] = &[
    ("without_permission", without_permission),
    ("without_nf_tables", without_nf_tables),
    ("on_an_old_kernel", on_an_old_kernel),
    ("with_wrong_policies", with_wrong_policies),
    ("without_readable_policies", without_readable_policies),
];

/// In force while everything else fails.
const IN_FORCE: &str = "policies/web.yaml";
/// `nobody` of most systems.
const NOBODY: u32 = 65_534;

fn repository(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn prepared() -> Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    sandbox.dfw_ok(&["apply", &repository(IN_FORCE)])?;
    same(&sandbox.installed()?, &compiled(IN_FORCE)?)?;
    Ok(sandbox)
}

/// The verbs that need a kernel.
fn kernel_verbs() -> [Vec<String>; 5] {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    [
        words(&["apply", &repository("examples/only-web")]),
        words(&["plan", &repository("examples/only-web")]),
        words(&["remove"]),
        words(&["status"]),
        words(&["show"]),
    ]
}

/// Every verb fails with this diagnostic, in words and as JSON, and changes nothing.
fn all_fail(
    sandbox: &Sandbox,
    slug: &str,
    run: impl Fn(&[String]) -> Result<Report>,
) -> Result<()> {
    let before = (sandbox.snapshot()?, sandbox.listing()?);
    for mut words in kernel_verbs() {
        let report = run(&words).with_context(|| format!("{words:?}"))?;
        report.expect_failure(1, slug)?;
        let changes = matches!(words[0].as_str(), "apply" | "remove");
        same(&report.stderr.contains("nothing was changed"), &changes)?;
        ensure!(report.stdout.is_empty(), "{report:?}");
        words.push("--json".to_owned());
        let report = run(&words)?;
        let answer: serde_json::Value = serde_json::from_str(&report.stdout)?;
        ensure!(
            report.code == Some(1) && answer["exit_code"] == 1,
            "{report:?}"
        );
        ensure!(answer["diagnostics"][0]["slug"] == slug, "{answer:#}");
    }
    same(&(sandbox.snapshot()?, sandbox.listing()?), &before)
}

fn without_permission() -> Result<()> {
    let sandbox = prepared()?;
    // Where the build put it, others need not have a way to.
    let copy = sandbox.dir().join("dfw");
    install(Path::new(DFW), &copy)?;
    let policy = sandbox.write(
        "web.yaml",
        std::fs::read(repository("examples/only-web/web.yaml"))?,
    )?;
    all_fail(&sandbox, "no-permission", |words| {
        let words = words.iter().map(|word| match word.as_str() {
            path if path.starts_with('/') => policy.to_string_lossy().into_owned(),
            word => word.to_owned(),
        });
        let words: Vec<String> = words.collect();
        sandbox.namespace().run(|| {
            let mut command = std::process::Command::new(&copy);
            Report::of(command.args(&words).uid(NOBODY).gid(NOBODY).env_clear())
        })
    })
}

/// A socket of netfilter cannot be made.
fn without_nf_tables() -> Result<()> {
    let sandbox = prepared()?;
    all_fail(&sandbox, "no-nf-tables", |words| {
        let this = std::env::current_exe()?;
        let mut command = sandbox.namespace().command(&this.to_string_lossy());
        Report::of(command.args([HELPER, "without-netfilter", DFW]).args(words))
    })
}

/// The kernel says that it is Linux 2.6.
fn on_an_old_kernel() -> Result<()> {
    let sandbox = prepared()?;
    all_fail(&sandbox, "kernel-too-old", |words| {
        let report = Report::of(
            sandbox
                .namespace()
                .command("setarch")
                .args(["--uname-2.6", DFW])
                .args(words),
        )?;
        ensure!(
            report.stderr.contains("2.6.") || !report.stdout.is_empty(),
            "{report:?}"
        );
        Ok(report)
    })
}

/// Policies with an error, by file, and a word of the error.
const WRONG: &[(&[(&str, &str)], &str)] = &[
    (&[("a.yaml", "default: deny\nprots: {80: any}\n")], "prots"),
    (
        &[("a.yaml", "default: deny\nports: {80: [203.0.113.1/24]}\n")],
        "203.0.113.0/24",
    ),
    (
        &[
            ("a.yaml", "default: deny\nports: {80: any}\n"),
            ("b.yaml", "ports: {80: any}\n"),
        ],
        "b.yaml",
    ),
    (
        &[(
            "a.yaml",
            "default: deny\nsources: {o: {file: gone.txt}}\nports: {80: [o]}\n",
        )],
        "gone.txt",
    ),
    (&[("a.yaml", "ports: {80: any}\n")], "default"),
    (
        &[("a.yaml", "default: deny\nports: {80: [nobody-knows]}\n")],
        "nobody-knows",
    ),
    (&[("a.yaml", "default: [\n")], "a.yaml"),
    (&[("a.txt", "default: deny\n")], "no-policies"),
    (&[], "no-policies"),
];

fn with_wrong_policies() -> Result<()> {
    let sandbox = prepared()?;
    let before = (sandbox.snapshot()?, sandbox.listing()?);
    for (number, (files, word)) in WRONG.iter().enumerate() {
        let dir = sandbox.dir().join(format!("wrong-{number}"));
        std::fs::create_dir(&dir)?;
        for (name, text) in *files {
            std::fs::write(dir.join(name), text)?;
        }
        let dir = dir.to_string_lossy();
        for verb in [&["apply"][..], &["check"], &["show", "--policy"]] {
            let report = sandbox.dfw(&[verb, &[&*dir]].concat())?;
            ensure!(
                report.code == Some(3) && report.stderr.contains(word),
                "{verb:?} {word}: {report:?}"
            );
            ensure!(report.stdout.is_empty(), "{report:?}");
            same(
                &report.stderr.contains("nothing was changed"),
                &(verb == ["apply"]),
            )?;
            let report = sandbox.dfw(&[verb, &[&*dir, "--json"]].concat())?;
            let answer: serde_json::Value = serde_json::from_str(&report.stdout)?;
            ensure!(
                report.code == Some(3) && answer["exit_code"] == 3,
                "{report:?}"
            );
        }
    }
    same(&(sandbox.snapshot()?, sandbox.listing()?), &before)
}

/// No such path is not a mistake in a policy.
fn without_readable_policies() -> Result<()> {
    let sandbox = prepared()?;
    let before = (sandbox.snapshot()?, sandbox.listing()?);
    sandbox
        .dfw(&["apply", "/no/such/path"])?
        .expect_failure(1, "unreadable")?;
    // Nor is a command line that nobody understands.
    for words in [
        &["aply"][..],
        &[],
        &["apply", "a", "b"],
        &["status", "--no-such-flag"],
    ] {
        let report = sandbox.dfw(words)?;
        ensure!(
            report.code == Some(2) && report.stdout.is_empty(),
            "{words:?}: {report:?}"
        );
    }
    same(&(sandbox.snapshot()?, sandbox.listing()?), &before)
}
