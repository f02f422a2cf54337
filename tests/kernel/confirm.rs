//! `dfw apply --confirm` rolls back unless the user confirms in time, whatever happens to the program, to its
//! terminal and to the rules meanwhile.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dfw::plan::Installed;
use rustix::process::{Pid, Signal, kill_process};

use crate::Named;
use crate::change::install_counting;
use crate::namespace::{Sandbox, compiled};
use crate::property::same;
use crate::pty::Screen;
use crate::support::command::wait_for;
use crate::support::janitor::{identity, lives};

pub(crate) const TRIALS: &[Named] = &[
    ("yes_keeps_the_new_rules", yes_keeps_the_new_rules),
    ("whatever_else_is_a_no", whatever_else_is_a_no),
    ("silence_is_a_no", silence_is_a_no),
    (
        "what_was_typed_before_is_no_answer",
        what_was_typed_before_is_no_answer,
    ),
    (
        "where_nothing_was_nothing_is_left",
        where_nothing_was_nothing_is_left,
    ),
    (
        "a_flush_does_not_save_the_new_rules",
        a_flush_does_not_save_the_new_rules,
    ),
    (
        "an_apply_during_confirmation_fails",
        an_apply_during_confirmation_fails,
    ),
    (
        "what_others_have_applied_stays",
        what_others_have_applied_stays,
    ),
    (
        "the_watchdog_itself_is_killed",
        the_watchdog_itself_is_killed,
    ),
    (
        "a_zombie_watchdog_counts_as_dead",
        a_zombie_watchdog_counts_as_dead,
    ),
    (
        "another_process_with_its_number_is_no_watchdog",
        another_process_with_its_number_is_no_watchdog,
    ),
    ("long_lists_are_rolled_back", long_lists_are_rolled_back),
    ("an_answer_need_not_be_typed", an_answer_need_not_be_typed),
    (
        "what_cannot_be_put_back_is_not_replaced",
        what_cannot_be_put_back_is_not_replaced,
    ),
];

const FORMER: &str = "policies/web.yaml";
const NEW: &str = "examples/database";
const QUESTION: &str = "Keep them? [y/N]";
const PATIENCE: Duration = Duration::from_mins(2);

fn repository(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn installed(sandbox: &Sandbox) -> Result<Installed> {
    sandbox
        .snapshot()?
        .installed
        .context("nothing is installed")
}

/// A place with rules in force that have counted.
fn prepared() -> Result<(Sandbox, Installed)> {
    let sandbox = Sandbox::new()?;
    let former = compiled(FORMER)?;
    sandbox.kernel(|kernel| install_counting(kernel, &former))?;
    let installed = installed(&sandbox)?;
    Ok((sandbox, installed))
}

/// What is in force is what was, to the last packet counted.
fn is_back(sandbox: &Sandbox, before: &Installed) -> Result<()> {
    let now = installed(sandbox)?;
    same(&now.ruleset, &before.ruleset)?;
    same(&now.counters, &before.counters)?;
    same(&now.comment, &before.comment)?;
    same(&now.has_drifted(), &before.has_drifted())
}

/// Starts an apply and waits for its question; the new rules are in force then.
fn asked(sandbox: &Sandbox, time: &str, policy: &str) -> Result<Screen> {
    asked_after(sandbox, time, policy, "")
}

fn asked_after(sandbox: &Sandbox, time: &str, policy: &str, typed: &str) -> Result<Screen> {
    let words = ["apply", "--confirm", time, policy];
    let mut screen = Screen::dfw(sandbox, &words, &[], typed)?;
    screen.wait(QUESTION)?;
    Ok(screen)
}

/// The number in the stamp of rules that wait.
fn watchdog(sandbox: &Sandbox) -> Result<Pid> {
    let comment = installed(sandbox)?.comment.context("no stamp")?;
    let number = comment
        .split_once("unconfirmed (process ")
        .context("no mark")?
        .1;
    let number = number.split_once(',').context("no number")?.0.parse()?;
    Pid::from_raw(number).context("process 0")
}

fn gone(process: Pid) -> Result<()> {
    // The number alone is that of a zombie, too, and soon that of another process.
    let Some(identity) = identity(process.as_raw_nonzero().get().unsigned_abs()) else {
        return Ok(());
    };
    wait_for("the watchdog to end", PATIENCE, || {
        (!lives(&identity)).then_some(())
    })
}

fn yes_keeps_the_new_rules() -> Result<()> {
    for answer in ["y\n", "YES\n", " y \n"] {
        let (sandbox, _) = prepared()?;
        let mut screen = asked(&sandbox, "60s", &repository(NEW))?;
        same(&sandbox.installed()?, &compiled(NEW)?)?;
        let process = watchdog(&sandbox)?;
        screen.type_in(answer)?;
        let (status, seen) = screen.end()?;
        ensure!(status.code() == Some(0), "{status}: {seen}");
        ensure!(
            seen.contains("kept: table inet dfw-nft is in force"),
            "{seen}"
        );
        // The plan comes before the question, what is now true behind it.
        ensure!(seen.find("+ ") < seen.find(QUESTION), "{seen}");
        gone(process)?;
        let now = installed(&sandbox)?;
        same(&now.ruleset, &compiled(NEW)?)?;
        ensure!(now.has_drifted() == Some(false), "drift");
        let comment = now.comment.context("no stamp")?;
        ensure!(!comment.contains("unconfirmed"), "{comment}");
    }
    Ok(())
}

/// How an apply ends without a yes.
#[derive(Debug, Clone, Copy)]
enum No {
    /// Keys, and whether dfw lives to tell.
    Typed(&'static str, bool),
    Signal(Signal),
    HangUp,
}

fn whatever_else_is_a_no() -> Result<()> {
    let (sandbox, before) = prepared()?;
    for no in [
        No::Typed("n\n", true),
        No::Typed("\n", true),
        No::Typed("yesterday\n", true),
        No::Typed("\x04", true),
        No::Typed("y\x03", false),
        No::Typed("\x1c", false),
        No::Signal(Signal::TERM),
        No::Signal(Signal::HUP),
        No::Signal(Signal::KILL),
        No::Signal(Signal::ABORT),
        No::HangUp,
    ] {
        let end = || -> Result<()> {
            let mut screen = asked(&sandbox, "1h", &repository(NEW))?;
            same(&sandbox.installed()?, &compiled(NEW)?)?;
            let process = watchdog(&sandbox)?;
            let report = match no {
                No::Typed(keys, report) => {
                    screen.type_in(keys)?;
                    Some((screen.end()?, report))
                }
                No::Signal(signal) => {
                    screen.kill(signal)?;
                    Some((screen.end()?, false))
                }
                No::HangUp => {
                    screen.hang_up()?;
                    None
                }
            };
            if let Some(((status, seen), lives)) = report {
                // The last line reports what is in force, whichever process remains to print it.
                ensure!(
                    seen.trim_end()
                        .ends_with("not confirmed: rolled back, the former rules are in force"),
                    "{seen:?}"
                );
                same(&status.code(), &lives.then_some(1))?;
            }
            gone(process)?;
            is_back(&sandbox, &before)
        };
        end().with_context(|| format!("{no:?}"))?;
    }
    Ok(())
}

fn silence_is_a_no() -> Result<()> {
    let (sandbox, before) = prepared()?;
    let (status, seen) = asked(&sandbox, "5s", &repository(NEW))?.end()?;
    ensure!(status.code() == Some(1), "{status}: {seen}");
    ensure!(
        seen.contains("failed: not confirmed: rolled back, the former rules are in force"),
        "{seen}"
    );
    is_back(&sandbox, &before)?;
    // Nor does it help to stop the program in front.
    let mut screen = asked(&sandbox, "5s", &repository(NEW))?;
    screen.kill(Signal::STOP)?;
    wait_for("the former rules", PATIENCE, || {
        is_back(&sandbox, &before).ok()
    })?;
    screen.type_in("y\n")?;
    screen.kill(Signal::CONT)?;
    let (status, seen) = screen.end()?;
    ensure!(status.code() == Some(1), "{status}: {seen}");
    is_back(&sandbox, &before)
}

fn what_was_typed_before_is_no_answer() -> Result<()> {
    let (sandbox, before) = prepared()?;
    let (status, seen) = asked_after(&sandbox, "5s", &repository(NEW), "y\ny\n")?.end()?;
    ensure!(status.code() == Some(1), "{status}: {seen}");
    is_back(&sandbox, &before)
}

fn where_nothing_was_nothing_is_left() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let mut screen = asked(&sandbox, "60s", &repository(NEW))?;
    screen.type_in("n\n")?;
    let (status, seen) = screen.end()?;
    ensure!(status.code() == Some(1), "{status}: {seen}");
    ensure!(
        seen.contains("not confirmed: rolled back, dfw's rules are not in force"),
        "{seen}"
    );
    same(&sandbox.listing()?, &String::new())
}

/// Programs that flush decide nothing.
fn a_flush_does_not_save_the_new_rules() -> Result<()> {
    let (sandbox, before) = prepared()?;
    for by in [
        "flush ruleset",
        "delete table inet dfw-nft",
        "flush table inet dfw-nft",
        "add rule inet dfw-nft published ip ttl 5 drop",
        "delete chain inet dfw-nft applied",
    ] {
        let mut screen = asked(&sandbox, "60s", &repository(NEW))?;
        sandbox.nft(by)?;
        screen.type_in("n\n")?;
        let (status, seen) = screen.end()?;
        ensure!(status.code() == Some(1), "{status}: {seen}");
        is_back(&sandbox, &before).context(by)?;
    }
    // Nor does a yes make them come back.
    let mut screen = asked(&sandbox, "60s", &repository(NEW))?;
    sandbox.nft("flush ruleset")?;
    screen.type_in("y\n")?;
    let (status, seen) = screen.end()?;
    ensure!(status.code() == Some(1), "{status}: {seen}");
    ensure!(
        seen.contains("confirmed, but the rules were modified since"),
        "{seen}"
    );
    Ok(())
}

fn an_apply_during_confirmation_fails() -> Result<()> {
    let (sandbox, before) = prepared()?;
    let mut screen = asked(&sandbox, "60s", &repository(NEW))?;
    let during = sandbox.snapshot()?;
    let (new, former) = (repository(NEW), repository(FORMER));
    for words in [
        &["apply", &new][..],
        &["apply", &former],
        &["apply", "--confirm", "60s", &former],
        &["remove"],
    ] {
        sandbox.dfw(words)?.expect_failure(1, "unconfirmed")?;
        same(&sandbox.snapshot()?, &during)?;
    }
    let status = sandbox.dfw_ok(&["status"])?;
    ensure!(status.contains(" unconfirmed (process "), "{status}");
    ensure!(!status.contains("were never confirmed"), "{status}");
    let status: serde_json::Value = serde_json::from_str(&sandbox.dfw_ok(&["status", "--json"])?)?;
    same(&status["installed"]["unconfirmed"]["waits"], &true.into())?;
    screen.type_in("n\n")?;
    screen.end()?;
    is_back(&sandbox, &before)?;
    sandbox.dfw_ok(&["apply", &new])?;
    Ok(())
}

/// Somebody has applied rules all the same, by another program than this.
fn what_others_have_applied_stays() -> Result<()> {
    let (sandbox, _) = prepared()?;
    let mut screen = asked(&sandbox, "60s", &repository(NEW))?;
    let other = compiled("examples/only-web")?;
    sandbox.install(&other)?;
    screen.type_in("n\n")?;
    let (status, seen) = screen.end()?;
    ensure!(status.code() == Some(1), "{status}: {seen}");
    ensure!(seen.contains("other rules were applied since"), "{seen}");
    same(&sandbox.installed()?, &other)
}

fn the_watchdog_itself_is_killed() -> Result<()> {
    let (sandbox, before) = prepared()?;
    let screen = asked(&sandbox, "60s", &repository(NEW))?;
    kill_process(watchdog(&sandbox)?, Signal::KILL)?;
    let (status, seen) = screen.end()?;
    ensure!(status.code() == Some(1), "{status}: {seen}");
    is_back(&sandbox, &before)
}

/// Its parent never reaps it, as some programs that run as process 1 do not: it is a zombie for ever.
fn a_zombie_watchdog_counts_as_dead() -> Result<()> {
    let (new, former) = (repository(NEW), repository(FORMER));
    for words in [&["apply", &former][..], &["apply", &new], &["remove"]] {
        let (sandbox, _) = prepared()?;
        // What dfw was started by waits for nobody while it is stopped, and so does dfw.
        let screen = asked(&sandbox, "60s", &new)?;
        let process = watchdog(&sandbox)?;
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
        screen.kill(Signal::STOP)?;
        sandbox.dfw(words)?.expect_failure(1, "unconfirmed")?;
        kill_process(process, Signal::KILL)?;
        wait_for("a zombie", PATIENCE, || {
            stat().ok()?.contains(") Z ").then_some(())
        })?;
        let status = sandbox.dfw_ok(&["status"])?;
        ensure!(status.contains("were never confirmed"), "{status}");
        sandbox
            .dfw_ok(words)
            .with_context(|| format!("{words:?}"))?;
        ensure!(stat()?.contains(") Z "), "it was waited for");
        screen.kill(Signal::CONT)?;
        let (status, seen) = screen.end()?;
        ensure!(!status.success(), "{status}: {seen}");
    }
    Ok(())
}

/// The mark is of a process that has ended, whose number has a process of dfw's again.
fn another_process_with_its_number_is_no_watchdog() -> Result<()> {
    let (sandbox, _) = prepared()?;
    let screen = asked(&sandbox, "60s", &repository(NEW))?;
    let former = repository(FORMER);
    sandbox
        .dfw(&["apply", &former])?
        .expect_failure(1, "unconfirmed")?;
    let earlier = |stamp: &str| {
        let (before, rest) = stamp.split_once(", start ")?;
        let (start, after) = rest.split_once(')')?;
        let start: u64 = start.parse().ok()?;
        Some(format!("{before}, start {}){after}", start - 1))
    };
    ensure!(sandbox.kernel(|kernel| kernel.rename(earlier).map_err(Into::into))?);
    sandbox.dfw_ok(&["apply", &former])?;
    // What was applied since stays.
    same(&sandbox.installed()?, &compiled(FORMER)?)?;
    drop(screen);
    Ok(())
}

/// Those that lose and gain some entries, and those that go, which is more than dfw remembers.
fn long_lists_are_rolled_back() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let write = |name: &str, from: u32| -> Result<String> {
        let mut list = String::new();
        for n in from..from + 12_000 {
            writeln!(
                list,
                "10.{}.{}.0/25\n10.{}.{}.200",
                n >> 8 & 255,
                n & 255,
                n >> 8 & 255,
                n & 255
            )?;
        }
        sandbox.write(&format!("{name}/list"), list)?;
        let text = "default: deny\nsources: {many: {file: list}}\nports: {80: [many]}\n";
        let file = sandbox.write(&format!("{name}/policy.yaml"), text)?;
        Ok(file.to_string_lossy().into_owned())
    };
    let (former, near, far) = (write("a", 0)?, write("b", 100)?, write("c", 20_000)?);
    sandbox.dfw_ok(&["apply", &former])?;
    let before = installed(&sandbox)?;
    for new in [near, far, repository(NEW)] {
        let mut screen = asked(&sandbox, "60s", &new)?;
        screen.type_in("n\n")?;
        let (status, seen) = screen.end()?;
        ensure!(status.code() == Some(1), "{status}: {seen}");
        is_back(&sandbox, &before).context(new)?;
    }
    ensure!(
        sandbox
            .dfw_ok(&["apply", &former])?
            .starts_with("no changes")
    );
    Ok(())
}

/// Without a terminal the answer is a line that comes when the new rules are in force.
fn an_answer_need_not_be_typed() -> Result<()> {
    for (answer, code) in [("y\n", 0), ("n\n", 1), ("", 1)] {
        let (sandbox, before) = prepared()?;
        let mut command =
            sandbox.program(&["apply", "--json", "--confirm", "60s", &repository(NEW)]);
        let mut child: Child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stderr = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut seen = Vec::new();
        stderr.read_until(b'?', &mut seen)?;
        same(&sandbox.installed()?, &compiled(NEW)?)?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        stdin.write_all(answer.as_bytes())?;
        drop(stdin);
        let mut stdout = String::new();
        child
            .stdout
            .take()
            .context("no stdout")?
            .read_to_string(&mut stdout)?;
        let status = child.wait()?;
        same(&status.code(), &Some(code))?;
        let report: serde_json::Value = serde_json::from_str(&stdout)?;
        same(&report["confirmed"], &(code == 0).into())?;
        same(&report["changed"], &(code == 0).into())?;
        if code == 0 {
            same(&sandbox.installed()?, &compiled(NEW)?)?;
        } else {
            is_back(&sandbox, &before)?;
        }
    }
    // There is nothing to confirm if nothing changes.
    let sandbox = Sandbox::new()?;
    let policy = repository(NEW);
    sandbox.dfw_ok(&["apply", &policy])?;
    let report = sandbox.dfw_ok(&["apply", "--confirm", "60s", &policy])?;
    ensure!(report.contains("no changes"), "{report}");
    Ok(())
}

fn what_cannot_be_put_back_is_not_replaced() -> Result<()> {
    let (sandbox, _) = prepared()?;
    sandbox.nft("add rule inet dfw-nft published ip ttl 5 drop")?;
    let before = (sandbox.snapshot()?, sandbox.listing()?);
    let report = sandbox.dfw(&["apply", "--confirm", "60s", &repository(NEW)])?;
    report.expect_failure(1, "foreign-rules")?;
    ensure!(
        report
            .stderr
            .trim_end()
            .ends_with("failed: nothing was changed"),
        "{report:?}"
    );
    same(&(sandbox.snapshot()?, sandbox.listing()?), &before)
}
