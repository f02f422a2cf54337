//! dfw never starts another program, as the kernel sees it.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::{DFW, Report, Sandbox};

pub(crate) const TRIALS: &[Named] = &[
    ("no_verb_starts_a_program", no_verb_starts_a_program),
    ("the_tracer_sees_programs", the_tracer_sees_programs),
    ("a_lost_answer_is_no_promise", a_lost_answer_is_no_promise),
    ("the_rules_are_read_once", the_rules_are_read_once),
];

/// All ways to start a program or another thread or process.
const CALLS: &str = "trace=execve,execveat,fork,vfork,clone,clone3";

/// Runs a program under a tracer; returns its report, and these system calls of it and its children.
fn traced(sandbox: &Sandbox, calls: &str, words: &[&str]) -> Result<(Report, Vec<String>)> {
    let log = sandbox.dir().join("strace");
    let mut command: Command = sandbox.namespace().command("strace");
    command
        .args(["-f", "-qq", "-e", calls, "-e", "signal=none", "-o"])
        .arg(&log)
        .args(words);
    let report = Report::of(&mut command)?;
    let log = std::fs::read_to_string(&log).context("strace has written nothing")?;
    Ok((report, log.lines().map(str::to_owned).collect()))
}

fn no_verb_starts_a_program() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let path = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let (good, other) = (path("policies/web.yaml"), path("examples/database"));
    let wrong = path("tests/policies/invalid/everything-at-once");
    let rules = path("tests/import/ufw-docker/rules.v4");
    // In an order in which each has something to do; with the exit code.
    let runs: [(&[&str], i32); 20] = [
        (&["status"], 0),
        (&["show"], 1),
        (&["check", &good], 0),
        (&["plan", &good], 0),
        (&["plan", "--exit-code", &good], 10),
        (&["apply", &good], 0),
        (&["apply", &good], 0),
        (&["apply", &other], 0),
        (&["apply", &wrong], 3),
        (&["status"], 0),
        (&["show"], 0),
        (&["show", "--policy", &good], 0),
        (&["test", &other], 0),
        (&["trace", "--to", "9", "--for", "1s"], 0),
        (&["log", "--for", "1s"], 0),
        (&["remove"], 0),
        (&["remove"], 0),
        (&["import", &rules], 0),
        (&["--version"], 0),
        (&["--help"], 0),
    ];
    for json in [false, true] {
        for (words, code) in runs {
            let mut command = [&[DFW], words].concat();
            command.extend(json.then_some("--json"));
            let (report, calls) = traced(&sandbox, CALLS, &command)?;
            ensure!(report.code == Some(code), "{words:?}: {report:?}");
            let only = calls.len() == 1 && calls[0].contains(&format!("execve(\"{DFW}\""));
            ensure!(only, "{words:?} did more than run:\n{}", calls.join("\n"));
        }
    }
    Ok(())
}

/// A test that cannot fail proves nothing.
fn the_tracer_sees_programs() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let (report, calls) = traced(&sandbox, CALLS, &["/bin/sh", "-c", "/bin/true; :"])?;
    ensure!(report.code == Some(0), "{report:?}");
    let count = |call: &str| calls.iter().filter(|line| line.contains(call)).count();
    let forks = calls.len() - count("execve(");
    ensure!(count("execve(") == 2 && forks > 0, "{}", calls.join("\n"));
    Ok(())
}

/// What is read of the table for the facts of the host is enough for the change, if nothing has changed since.
fn the_rules_are_read_once() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let policy = format!("{}/policies/web.yaml", env!("CARGO_MANIFEST_DIR"));
    sandbox.dfw_ok(&["apply", &policy])?;
    for verb in ["plan", "apply"] {
        let (report, calls) = traced(&sandbox, "trace=sendto", &[DFW, verb, &policy])?;
        ensure!(report.stdout.contains("no changes"), "{report:?}");
        let reads = calls.iter().filter(|call| call.contains("GETRULE"));
        ensure!(reads.count() == 1, "{verb}: {}", calls.join("\n"));
    }
    Ok(())
}

/// Wherever an answer of the kernel gets lost: dfw says of the ruleset what is true, or that it
/// does not know.
fn a_lost_answer_is_no_promise() -> Result<()> {
    let policy = format!("{}/policies/web.yaml", env!("CARGO_MANIFEST_DIR"));
    let traced = |sandbox: &Sandbox, options: &[&str]| -> Result<Report> {
        let mut command: Command = sandbox.namespace().command("strace");
        command
            .args(["-qq", "-o"])
            .arg(sandbox.dir().join("strace"))
            .args(["-e", "trace=recvfrom"])
            .args(options)
            .args([DFW, "--json", "apply", &policy]);
        Report::of(&mut command)
    };
    let sandbox = Sandbox::new()?;
    traced(&sandbox, &[])?;
    let calls = std::fs::read_to_string(sandbox.dir().join("strace"))?;
    let calls = calls.matches("recvfrom(").count();
    let (mut unknown, mut failed) = (0, 0);
    for number in 1..=calls {
        let sandbox = Sandbox::new()?;
        let lost = format!("inject=recvfrom:error=ENOBUFS:when={number}");
        let report = traced(&sandbox, &["-e", &lost])?;
        let installed = sandbox.nft("list tables")?.contains("dfw-nft");
        if report.code == Some(0) {
            // What was lost was not needed.
            ensure!(installed, "{number}: {report:?}");
            continue;
        }
        ensure!(report.code == Some(1), "{number}: {report:?}");
        failed += 1;
        if report.stdout.contains("\"changed\": null") {
            unknown += 1;
        } else {
            ensure!(
                report.stdout.contains("\"changed\": false"),
                "{number}: {report:?}"
            );
            ensure!(!installed, "{number}: {report:?}");
        }
    }
    ensure!(
        unknown > 0 && failed > 3,
        "{unknown} of {failed} of {calls}"
    );
    Ok(())
}
