//! Lists whose owners are not root, and what they can do with them: nothing but change their entries.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::Named;
use crate::daemon::{Daemon, until};
use crate::namespace::{DFW, Report, Sandbox};
use crate::sign;
use crate::silent::{Silent, command_behind, end_behind, guard, guard_behind};
use crate::support::command::{output, program};

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_link_reads_nothing_of_roots",
        a_link_reads_nothing_of_roots,
    ),
    ("no_text_of_a_file_is_shown", no_text_of_a_file_is_shown),
    (
        "only_files_are_read_and_not_for_ever",
        only_files_are_read_and_not_for_ever,
    ),
    (
        "files_that_everyone_can_write_are_rejected",
        files_that_everyone_can_write_are_rejected,
    ),
    (
        "a_silent_disk_holds_up_nothing",
        a_silent_disk_holds_up_nothing,
    ),
    (
        "a_silent_disk_at_boot_leaves_the_last_good",
        a_silent_disk_at_boot_leaves_the_last_good,
    ),
    (
        "with_nothing_to_enforce_a_silent_disk_is_waited_for",
        with_nothing_to_enforce_a_silent_disk_is_waited_for,
    ),
    (
        "links_beside_metrics_destroy_nothing",
        links_beside_metrics_destroy_nothing,
    ),
    (
        "files_beside_the_socket_hold_up_no_guard_of_a_site",
        files_beside_the_socket_hold_up_no_guard_of_a_site,
    ),
    ("what_is_kept_is_roots_alone", what_is_kept_is_roots_alone),
];

const NOBODY: u32 = 65_534;
const POLICY: &str =
    "default: deny\nsources: {office: {file: ../lists/office}}\nports: {80: [office]}\n";
/// What no one but root may ever read.
const SECRET: &str = "root:$y$j9T$hunter2";

/// A place with a list in a folder of `nobody`'s.
fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    let list = sandbox.write("lists/office", "203.0.113.7\n")?;
    for path in [list.parent().context("no folder")?, &list] {
        chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    let secret = sandbox.write("secret", format!("{SECRET}\n"))?;
    std::fs::set_permissions(secret, PermissionsExt::from_mode(0o600))?;
    Ok(sandbox)
}

/// What guard says at its socket, to everybody.
fn status(sandbox: &Sandbox) -> Result<String> {
    let mut stream = UnixStream::connect(sandbox.dir().join("guard.sock"))?;
    stream.write_all(b"status\n")?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

/// Puts something else at the place of the list, as its owner would.
fn replace(sandbox: &Sandbox, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (new, list) = (
        sandbox.dir().join("lists/new"),
        sandbox.dir().join("lists/office"),
    );
    make(&new)?;
    lchown(&new, Some(NOBODY), Some(NOBODY))?;
    Ok(std::fs::rename(new, list)?)
}

fn a_link_reads_nothing_of_roots() -> Result<()> {
    let sandbox = sandbox()?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let before = sandbox.snapshot()?;
    let (secret, lists) = (sandbox.dir().join("secret"), sandbox.dir().join("lists"));
    replace(&sandbox, |at| Ok(symlink(&secret, at)?))?;
    guard.expect("it belongs to uid 0, and ")?;
    // A folder that is a link, and one within one of another's.
    std::fs::remove_file(lists.join("office"))?;
    std::fs::rename(&lists, sandbox.dir().join("gone"))?;
    symlink(sandbox.dir(), &lists)?;
    lchown(&lists, Some(NOBODY), Some(NOBODY))?;
    sandbox.write("office", format!("{SECRET}\n"))?;
    guard.signal(rustix::process::Signal::HUP)?;
    guard.expect("reloading policies, engines and interfaces")?;
    until("the refusal", || {
        status(&sandbox)
            .ok()?
            .contains("it belongs to uid 0")
            .then_some(())
    })?;
    let report = status(&sandbox)?;
    ensure!(!report.contains("hunter2"), "{report}");
    ensure!(
        !guard.said.join("\n").contains("hunter2"),
        "{:?}",
        guard.said
    );
    ensure!(sandbox.snapshot()? == before, "something was changed");
    // The program by itself reads it as little.
    let report = sandbox.dfw(&["check", &sandbox.dir().join("policies").to_string_lossy()])?;
    report.expect_failure(3, "list")?;
    ensure!(!report.stderr.contains("hunter2"), "{report:?}");
    // What is theirs they may link to; and root may link to whatever is theirs.
    std::fs::remove_file(&lists)?;
    std::fs::rename(sandbox.dir().join("gone"), &lists)?;
    let own = sandbox.write("lists/own", "203.0.113.8\n")?;
    chown(&own, Some(NOBODY), Some(NOBODY))?;
    replace(&sandbox, |at| Ok(symlink("own", at)?))?;
    guard.signal(rustix::process::Signal::HUP)?;
    guard.expect("valid again")?;
    guard.expect_in_force()?;
    symlink(&own, sandbox.dir().join("linked"))?;
    sandbox.write("policies/a.yaml", POLICY.replace("lists/office", "linked"))?;
    until("the link of root's", || {
        (std::fs::read_to_string(sandbox.dir().join("state/last-good")).ok()?)
            .contains("linked")
            .then_some(())
    })?;
    guard.stop()
}

fn no_text_of_a_file_is_shown() -> Result<()> {
    let sandbox = sandbox()?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    replace(&sandbox, |at| {
        Ok(std::fs::write(at, format!("203.0.113.7\n{SECRET}\n"))?)
    })?;
    let line = guard.expect("lists/office:2:1: ")?;
    ensure!(!line.contains("hunter2"), "{line}");
    let report = status(&sandbox)?;
    ensure!(
        report.contains("lists/office:2:1: ") && !report.contains("hunter2"),
        "{report}"
    );
    // Nor of a policy, which may be one that only root reads.
    sandbox.write(
        "policies/b.yaml",
        format!("ports: {{80: ['{SECRET}', hunter2]}}\n"),
    )?;
    guard.expect("b.yaml:1:")?;
    guard.expect("have errors and are not applied")?;
    ensure!(!status(&sandbox)?.contains("hunter2"));
    ensure!(
        !guard.said.join("\n").contains("hunter2"),
        "{:?}",
        guard.said
    );
    guard.stop()?;
    // The caller sees it, and the journal does not.
    let policies = sandbox
        .dir()
        .join("policies")
        .to_string_lossy()
        .into_owned();
    for verb in ["check", "plan", "apply"] {
        let report = sandbox.dfw(&[verb, &policies])?;
        ensure!(report.stderr.contains(SECRET), "{report:?}");
        let journal = sandbox.dir().join("journal");
        let file = std::fs::File::create(&journal)?;
        let stat = file.metadata()?;
        let mut command = sandbox.program(&[verb, &policies, "--json"]);
        command.env("JOURNAL_STREAM", format!("{}:{}", stat.dev(), stat.ino()));
        command.stderr(file);
        // With its own stderr, which is not to be had from here.
        let status = command.stdout(std::process::Stdio::piped()).output()?;
        let (report, answer) = (
            std::fs::read_to_string(&journal)?,
            String::from_utf8_lossy(&status.stdout).into_owned(),
        );
        ensure!(report.contains("office:2:1: "), "{report}");
        ensure!(
            !report.contains("hunter2") && !answer.contains("hunter2"),
            "{report}{answer}"
        );
    }
    Ok(())
}

/// Makes a file of some kind.
type Make<'a> = &'a dyn Fn(&Path) -> Result<()>;

fn only_files_are_read_and_not_for_ever() -> Result<()> {
    let sandbox = sandbox()?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let before = sandbox.snapshot()?;
    let list = sandbox.dir().join("lists/office");
    let mkfifo = |at: &Path| output(program("mkfifo").arg(at)).map(drop);
    let device = |at: &Path| output(program("mknod").arg(at).args(["c", "1", "5"])).map(drop);
    let sparse = |at: &Path| Ok(std::fs::File::create(at)?.set_len(3 << 30)?);
    let folder = |at: &Path| Ok(std::fs::create_dir(at)?);
    let kinds: [(Make<'_>, &str); 4] = [
        (&mkfifo, "not a regular file: a pipe"),
        (&device, "not a regular file: a device"),
        (&sparse, "larger than 64 MiB"),
        (&folder, "not a regular file: a folder"),
    ];
    for (make, error) in kinds {
        std::fs::remove_file(&list)?;
        replace(&sandbox, |at| make(at))?;
        guard.expect(error)?;
        ensure!(status(&sandbox)?.contains(error));
        // And so does the program by itself.
        let policies = sandbox.dir().join("policies");
        let report = sandbox.dfw(&["check", &policies.to_string_lossy()])?;
        report.expect_failure(3, "list")?;
        ensure!(report.stderr.contains(error), "{report:?}");
        // It is a folder that cannot be removed so.
        if list.is_dir() {
            std::fs::remove_dir(&list)?;
        }
    }
    // Links to what has no end, of root's own.
    for (target, error) in [
        ("/dev/zero", "not a regular file: a device"),
        ("/proc/kmsg", "a file of the kernel's own"),
    ] {
        let link = sandbox.dir().join("linked");
        let _ = std::fs::remove_file(&link);
        symlink(target, &link)?;
        sandbox.write("policies/a.yaml", POLICY.replace("lists/office", "linked"))?;
        guard.expect(error)?;
    }
    ensure!(guard.memory()? < 256 * 1024, "{} KiB", guard.memory()?);
    ensure!(sandbox.snapshot()? == before, "something was changed");
    guard.stop()?;
    // Every path of the command line.
    let huge = sandbox.dir().join("huge");
    std::fs::File::create(&huge)?.set_len(3 << 30)?;
    let pipe = sandbox.dir().join("pipe");
    mkfifo(&pipe)?;
    let paths = [huge.to_string_lossy(), pipe.to_string_lossy()];
    for path in ["/dev/zero", "/proc/kmsg", &*paths[0], &*paths[1]] {
        for verb in ["check", "test", "plan", "apply", "import"] {
            fails(&sandbox.dfw(&[verb, path])?)?;
        }
        for words in [["show", "--policy", path], ["audit", "--policy", path]] {
            fails(&sandbox.dfw(&words)?)?;
        }
        fails(&sandbox.dfw(&[
            "explain",
            "--policy",
            path,
            "--from",
            "192.0.2.1",
            "--to",
            "80",
        ])?)?;
    }
    // Standard input is bounded, too; and a pipe there, or by a name of the shell's, is read.
    let mut command = sandbox.program(&["import"]);
    let report = Report::of(command.stdin(std::fs::File::open("/dev/zero")?))?;
    fails(&report)?;
    for words in [
        "iptables-save | \"$0\" import",
        "iptables-save | \"$0\" import /dev/stdin",
        "\"$0\" import <(iptables-save)",
        "\"$0\" check <(echo 'default: deny')",
        "\"$0\" check /dev/stdin <<<'default: deny'",
    ] {
        let words = format!(
            "iptables-save() {{ cat {}/tests/import/docker-user-pair/rules.v4; }}; {words}",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut command = sandbox.namespace().command("bash");
        let report = Report::of(command.args(["-c", &words, crate::namespace::DFW]))?;
        ensure!(report.code == Some(0), "{words}: {report:?}");
    }
    Ok(())
}

/// Whether it has failed with an error of reading, and not by lack of anything.
fn fails(report: &Report) -> Result<()> {
    let errors = ["a device", "a pipe", "kernel's own", "larger than"];
    ensure!(
        report.code == Some(1) && errors.iter().any(|error| report.stderr.contains(error)),
        "{report:?}"
    );
    Ok(())
}

fn files_that_everyone_can_write_are_rejected() -> Result<()> {
    let sandbox = sandbox()?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let before = sandbox.snapshot()?;
    let mode = |path: &str, mode| {
        std::fs::set_permissions(sandbox.dir().join(path), PermissionsExt::from_mode(mode))
    };
    let policies = sandbox
        .dir()
        .join("policies")
        .to_string_lossy()
        .into_owned();
    for (path, open, closed) in [
        ("lists/office", 0o666, 0o644),
        ("lists", 0o777, 0o755),
        ("policies/a.yaml", 0o666, 0o644),
        ("policies", 0o777, 0o755),
        // Everybody may put a file there, though they may take none away.
        ("lists", 0o1777, 0o755),
    ] {
        mode(path, open)?;
        let line = guard.expect("everybody can write to ")?;
        ensure!(line.contains(&format!("/{path}: ")), "{line}");
        let report = sandbox.dfw(&["check", &policies])?;
        ensure!(report.code == Some(0), "{report:?}");
        ensure!(
            report.stderr.contains("warning[world-writable]"),
            "{report:?}"
        );
        mode(path, closed)?;
        guard.expect("valid again")?;
    }
    let report = sandbox.dfw(&["check", &policies])?;
    ensure!(report.stderr.is_empty(), "{report:?}");
    ensure!(sandbox.snapshot()? == before, "something was changed");
    guard.stop()
}

/// How many threads of a guard read policies.
fn readers(guard: &Daemon) -> Result<usize> {
    let mut count = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", guard.pid()))? {
        let name = std::fs::read_to_string(task?.path().join("comm")).unwrap_or_default();
        count += usize::from(name.trim() == "policies");
    }
    Ok(count)
}

fn a_silent_disk_holds_up_nothing() -> Result<()> {
    let sandbox = sandbox()?;
    let mut guard = guard(&sandbox, &["--no-owner"])?;
    guard.expect_in_force()?;
    let before = sandbox.installed()?;
    let silent = Silent::over(&sandbox.dir().join("lists"), &guard)?;
    sandbox.write("policies/b.yaml", "ports: {443: any}\n")?;
    until("a reading", || (readers(&guard).ok()? == 1).then_some(()))?;
    // Meanwhile it answers, puts back, and begins no second reading.
    sandbox.nft("flush ruleset")?;
    guard.expect("restored after ")?;
    for round in 0..3 {
        sandbox.write("policies/c.yaml", format!("# {round}\n"))?;
        guard.signal(rustix::process::Signal::HUP)?;
        ensure!(status(&sandbox)?.contains("dfw/guard/v2"));
    }
    // On a busy machine it may have said so before.
    until("the report", || {
        let report = status(&sandbox).ok()?;
        report
            .contains("file system does not respond")
            .then_some(())
    })?;
    ensure!(readers(&guard)? == 1, "{} readers", readers(&guard)?);
    sandbox.nft("flush ruleset")?;
    guard.expect("restored after ")?;
    ensure!(sandbox.installed()? == before, "something was changed");
    silent.end()?;
    guard.signal(rustix::process::Signal::HUP)?;
    guard.expect("valid again")?;
    guard.expect_in_force()?;
    ensure!(
        sandbox.installed()? != before,
        "the change was not taken up"
    );
    guard.stop()
}

fn a_silent_disk_at_boot_leaves_the_last_good() -> Result<()> {
    let sandbox = sandbox()?;
    let mut first = Daemon::start(&sandbox, &[])?;
    first.expect_in_force()?;
    let installed = sandbox.installed()?;
    until("the state", || {
        sandbox.dir().join("state/last-good").exists().then_some(())
    })?;
    first.stop()?;
    sandbox.dfw_ok(&["remove"])?;
    let mut guard = guard_behind(&sandbox, "lists", &[])?;
    guard.expect("file system does not respond")?;
    guard.expect("using the last good policies until the files are valid")?;
    guard.expect("in force: the last good policies of ")?;
    ensure!(sandbox.installed()? == installed, "other rules");
    guard.stop()
}

/// What is ordered after guard, such as Docker, must not start without rules.
fn with_nothing_to_enforce_a_silent_disk_is_waited_for() -> Result<()> {
    let sandbox = sandbox()?;
    let path = sandbox.dir().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(Duration::from_mins(2)))?;
    let mut command = command_behind(&sandbox, "lists", &[]);
    command.env("NOTIFY_SOCKET", &path);
    let mut guard = Daemon::of(command)?;
    let hear = || -> Result<String> {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    // The second time it has looked for last good policies, too.
    let mut times = 0;
    while times < 2 {
        let said = hear()?;
        ensure!(!said.contains("READY=1"), "{said}");
        times += usize::from(said.contains("does not respond"));
    }
    end_behind(&guard, &sandbox.dir().join("lists"))?;
    guard.expect_in_force()?;
    while !hear()?.contains("READY=1") {}
    guard.stop()
}

fn links_beside_metrics_destroy_nothing() -> Result<()> {
    let sandbox = sandbox()?;
    let mut first = Daemon::start(&sandbox, &[])?;
    first.expect_in_force()?;
    let kept = sandbox.dir().join("state/last-good");
    until("the state", || kept.exists().then_some(()))?;
    first.stop()?;
    let before = std::fs::read(&kept)?;
    let metrics = sandbox.dir().join("metrics");
    std::fs::create_dir(&metrics)?;
    for name in ["dfw.prom", "dfw.prom.new", ".dfw.prom.new"] {
        symlink(&kept, metrics.join(name))?;
    }
    // What a crash has left behind.
    let left = metrics.join(".dfw.prom.0123456789abcdef.new");
    std::fs::write(&left, "half")?;
    chown(&metrics, Some(NOBODY), Some(NOBODY))?;
    // Guard may write wherever others let it only.
    std::fs::set_permissions(&metrics, PermissionsExt::from_mode(0o777))?;
    let path = metrics.join("dfw.prom");
    let guard = Daemon::start(&sandbox, &["--metrics-file", &path.to_string_lossy()])?;
    until("figures", || {
        let is = std::fs::symlink_metadata(&path).ok()?;
        (is.is_file() && is.mode() & 0o777 == 0o644).then_some(())
    })?;
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.contains("dfw_table_in_force"), "{text}");
    ensure!(
        std::fs::read(&kept)? == before,
        "the last good policies are not what they were"
    );
    ensure!(!left.exists(), "a file is left behind");
    guard.stop()
}

/// Makes a file of some kind, and what holds it.
type Hold<'a> = &'a dyn Fn(&Path) -> Result<Option<File>>;

/// The lock of a site lies in the folder of the socket, whose owner may put anything there.
fn files_beside_the_socket_hold_up_no_guard_of_a_site() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let public = sandbox.write("policy.pub", sign::public(&sign::key()?))?;
    let kept = sandbox.write("state/kept", "precious")?;
    std::fs::set_permissions(&kept, PermissionsExt::from_mode(0o600))?;
    let run = sandbox.dir().join("run");
    std::fs::create_dir(&run)?;
    chown(&run, Some(NOBODY), Some(NOBODY))?;
    let namespace = std::fs::metadata(sandbox.namespace().path())?.ino();
    let lock = run.join(format!("site-{namespace}.lock"));
    let start = || {
        let mut command = sandbox.namespace().command(DFW);
        command.args(["guard", "https://lists.example.com/prod/"]);
        command.arg("--state").arg(sandbox.dir().join("state"));
        command.arg("--socket").arg(run.join("guard.sock"));
        command.arg("--trusted-key").arg(&public);
        command.args(["--docker-host", "none", "--host-id", "web-1"]);
        command.env("DFW_CACHE", sandbox.dir().join("cache"));
        Daemon::of(command)
    };
    // Locked by another process; what is a link is left alone.
    let locked = |at: &Path| -> Result<Option<File>> {
        let file = File::options().read(true).write(true).open(at)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Some(file))
    };
    let link = |at: &Path| symlink(&kept, at).map(|()| None).map_err(Into::into);
    let pipe = |at: &Path| {
        output(program("mkfifo").arg(at))?;
        locked(at)
    };
    let plain = |at: &Path| {
        std::fs::write(at, "1\n")?;
        locked(at)
    };
    let makes: [Hold<'_>; 3] = [&link, &pipe, &plain];
    for make in makes {
        std::fs::set_permissions(&run, PermissionsExt::from_mode(0o777))?;
        let _ = std::fs::remove_file(&lock);
        let _held = make(&lock)?;
        lchown(&lock, Some(NOBODY), Some(NOBODY))?;
        let mut guard = start()?;
        guard.expect("no generation of the site was accepted yet")?;
        ensure!(std::fs::read_to_string(&kept)? == "precious");
        // It is guard's own lock now.
        let mut second = start()?;
        second.expect(&format!("process {}", guard.pid()))?;
        ensure!(second.end()? == Some(1));
        guard.stop()?;
    }
    // What guard cannot remove, as it has no rights over files of others.
    std::fs::remove_file(&lock)?;
    std::fs::set_permissions(&run, PermissionsExt::from_mode(0o1777))?;
    let _held = plain(&lock)?;
    lchown(&lock, Some(NOBODY), Some(NOBODY))?;
    let mut guard = start()?;
    guard.expect("cannot tell whether another guard follows a site here")?;
    guard.expect("no generation of the site was accepted yet")?;
    guard.stop()
}

fn what_is_kept_is_roots_alone() -> Result<()> {
    let sandbox = sandbox()?;
    // As an earlier version made it, or a hand.
    std::fs::create_dir(sandbox.dir().join("state"))?;
    sandbox.write("state/last-good", "")?;
    for (path, mode) in [("state", 0o755), ("state/last-good", 0o644)] {
        std::fs::set_permissions(sandbox.dir().join(path), PermissionsExt::from_mode(mode))?;
    }
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let mode = |path: &str| Some(std::fs::metadata(sandbox.dir().join(path)).ok()?.mode() & 0o777);
    until("the state", || {
        (mode("state")? == 0o700 && mode("state/last-good")? == 0o600).then_some(())
    })?;
    guard.stop()
}
