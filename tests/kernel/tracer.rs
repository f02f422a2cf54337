//! dfw never starts another program, as the kernel sees it.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::{DFW, Place, Report};

pub(crate) const TRIALS: &[Named] = &[
    ("no_verb_starts_a_program", no_verb_starts_a_program),
    ("the_tracer_sees_programs", the_tracer_sees_programs),
    ("a_lost_answer_is_no_promise", a_lost_answer_is_no_promise),
];

/// All ways to start a program or another thread or process.
const CALLS: &str = "trace=execve,execveat,fork,vfork,clone,clone3";

/// Runs a program under a tracer; what it told, and the calls that it and its children made.
fn traced(place: &Place, words: &[&str]) -> Result<(Report, Vec<String>)> {
    let log = place.dir().join("strace");
    let mut command: Command = place.namespace().command("strace");
    command
        .args(["-f", "-qq", "-e", CALLS, "-e", "signal=none", "-o"])
        .arg(&log)
        .args(words);
    let told = Report::of(&mut command)?;
    let log = std::fs::read_to_string(&log).context("strace has written nothing")?;
    Ok((told, log.lines().map(str::to_owned).collect()))
}

fn no_verb_starts_a_program() -> Result<()> {
    let place = Place::new()?;
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
            let (told, calls) = traced(&place, &command)?;
            ensure!(told.code == Some(code), "{words:?}: {told:?}");
            let only = calls.len() == 1 && calls[0].contains(&format!("execve(\"{DFW}\""));
            ensure!(only, "{words:?} did more than run:\n{}", calls.join("\n"));
        }
    }
    Ok(())
}

/// A test that cannot fail proves nothing.
fn the_tracer_sees_programs() -> Result<()> {
    let place = Place::new()?;
    let (told, calls) = traced(&place, &["/bin/sh", "-c", "/bin/true; :"])?;
    ensure!(told.code == Some(0), "{told:?}");
    let count = |call: &str| calls.iter().filter(|line| line.contains(call)).count();
    let forks = calls.len() - count("execve(");
    ensure!(count("execve(") == 2 && forks > 0, "{}", calls.join("\n"));
    Ok(())
}

/// Wherever an answer of the kernel gets lost: dfw says of the ruleset what is true, or that it
/// does not know.
fn a_lost_answer_is_no_promise() -> Result<()> {
    let policy = format!("{}/policies/web.yaml", env!("CARGO_MANIFEST_DIR"));
    let traced = |place: &Place, options: &[&str]| -> Result<Report> {
        let mut command: Command = place.namespace().command("strace");
        command
            .args(["-qq", "-o"])
            .arg(place.dir().join("strace"))
            .args(["-e", "trace=recvfrom"])
            .args(options)
            .args([DFW, "--json", "apply", &policy]);
        Report::of(&mut command)
    };
    let place = Place::new()?;
    traced(&place, &[])?;
    let calls = std::fs::read_to_string(place.dir().join("strace"))?;
    let calls = calls.matches("recvfrom(").count();
    let (mut unknown, mut failed) = (0, 0);
    for number in 1..=calls {
        let place = Place::new()?;
        let lost = format!("inject=recvfrom:error=ENOBUFS:when={number}");
        let told = traced(&place, &["-e", &lost])?;
        let installed = place.nft("list tables")?.contains("dfw-nft");
        if told.code == Some(0) {
            // What was lost was not needed.
            ensure!(installed, "{number}: {told:?}");
            continue;
        }
        ensure!(told.code == Some(1), "{number}: {told:?}");
        failed += 1;
        if told.stdout.contains("\"changed\": null") {
            unknown += 1;
        } else {
            ensure!(
                told.stdout.contains("\"changed\": false"),
                "{number}: {told:?}"
            );
            ensure!(!installed, "{number}: {told:?}");
        }
    }
    ensure!(
        unknown > 0 && failed > 3,
        "{unknown} of {failed} of {calls}"
    );
    Ok(())
}
