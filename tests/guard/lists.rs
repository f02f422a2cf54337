//! Lists whose owners are not root, and what they can do with them: nothing but change their entries.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::daemon::{Daemon, until};
use crate::namespace::{Place, Report};
use crate::silent::{Silent, guard, guard_behind};
use crate::support::command::{output, program};

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_link_reads_nothing_of_roots",
        a_link_reads_nothing_of_roots,
    ),
    ("no_text_of_a_file_is_told", no_text_of_a_file_is_told),
    (
        "only_files_are_read_and_not_for_ever",
        only_files_are_read_and_not_for_ever,
    ),
    (
        "what_everybody_can_write_is_refused",
        what_everybody_can_write_is_refused,
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
        "links_beside_metrics_destroy_nothing",
        links_beside_metrics_destroy_nothing,
    ),
    ("what_is_kept_is_roots_alone", what_is_kept_is_roots_alone),
];

const NOBODY: u32 = 65_534;
const POLICY: &str =
    "default: deny\nsources: {office: {file: ../lists/office}}\nports: {80: [office]}\n";
/// What no one but root may ever read.
const SECRET: &str = "root:$y$j9T$hunter2";

/// A place with a list in a folder of `nobody`'s.
fn place() -> Result<Place> {
    let place = Place::new()?;
    place.write("policies/a.yaml", POLICY)?;
    let list = place.write("lists/office", "203.0.113.7\n")?;
    for path in [list.parent().context("no folder")?, &list] {
        chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    let secret = place.write("secret", format!("{SECRET}\n"))?;
    std::fs::set_permissions(secret, PermissionsExt::from_mode(0o600))?;
    Ok(place)
}

/// What guard says at its socket, to everybody.
fn status(place: &Place) -> Result<String> {
    let mut stream = UnixStream::connect(place.dir().join("guard.sock"))?;
    stream.write_all(b"status\n")?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

/// Puts something else at the place of the list, as its owner would.
fn replace(place: &Place, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (new, list) = (
        place.dir().join("lists/new"),
        place.dir().join("lists/office"),
    );
    make(&new)?;
    lchown(&new, Some(NOBODY), Some(NOBODY))?;
    Ok(std::fs::rename(new, list)?)
}

fn a_link_reads_nothing_of_roots() -> Result<()> {
    let place = place()?;
    let mut guard = Daemon::start(&place, &[])?;
    guard.expect_in_force()?;
    let before = place.snapshot()?;
    let (secret, lists) = (place.dir().join("secret"), place.dir().join("lists"));
    replace(&place, |at| Ok(symlink(&secret, at)?))?;
    guard.expect("it belongs to uid 0, and ")?;
    // A folder that is a link, and one within one of another's.
    std::fs::remove_file(lists.join("office"))?;
    std::fs::rename(&lists, place.dir().join("gone"))?;
    symlink(place.dir(), &lists)?;
    lchown(&lists, Some(NOBODY), Some(NOBODY))?;
    place.write("office", format!("{SECRET}\n"))?;
    guard.signal(rustix::process::Signal::HUP)?;
    guard.expect("reloading policies, engines and interfaces")?;
    until("the refusal", || {
        status(&place)
            .ok()?
            .contains("it belongs to uid 0")
            .then_some(())
    })?;
    let told = status(&place)?;
    ensure!(!told.contains("hunter2"), "{told}");
    ensure!(
        !guard.said.join("\n").contains("hunter2"),
        "{:?}",
        guard.said
    );
    ensure!(place.snapshot()? == before, "something was changed");
    // The program by itself reads it as little.
    let told = place.dfw(&["check", &place.dir().join("policies").to_string_lossy()])?;
    told.expect_failure(3, "list")?;
    ensure!(!told.stderr.contains("hunter2"), "{told:?}");
    // What is theirs they may link to; and root may link to whatever is theirs.
    std::fs::remove_file(&lists)?;
    std::fs::rename(place.dir().join("gone"), &lists)?;
    let own = place.write("lists/own", "203.0.113.8\n")?;
    chown(&own, Some(NOBODY), Some(NOBODY))?;
    replace(&place, |at| Ok(symlink("own", at)?))?;
    guard.signal(rustix::process::Signal::HUP)?;
    guard.expect("valid again")?;
    guard.expect_in_force()?;
    symlink(&own, place.dir().join("linked"))?;
    place.write("policies/a.yaml", POLICY.replace("lists/office", "linked"))?;
    until("the link of root's", || {
        (std::fs::read_to_string(place.dir().join("state/last-good")).ok()?)
            .contains("linked")
            .then_some(())
    })?;
    guard.stop()
}

fn no_text_of_a_file_is_told() -> Result<()> {
    let place = place()?;
    let mut guard = Daemon::start(&place, &[])?;
    guard.expect_in_force()?;
    replace(&place, |at| {
        Ok(std::fs::write(at, format!("203.0.113.7\n{SECRET}\n"))?)
    })?;
    let line = guard.expect("lists/office:2:1: ")?;
    ensure!(!line.contains("hunter2"), "{line}");
    let told = status(&place)?;
    ensure!(
        told.contains("lists/office:2:1: ") && !told.contains("hunter2"),
        "{told}"
    );
    // Nor of a policy, which may be one that only root reads.
    place.write(
        "policies/b.yaml",
        format!("ports: {{80: ['{SECRET}', hunter2]}}\n"),
    )?;
    guard.expect("b.yaml:1:")?;
    guard.expect("have errors and are not applied")?;
    ensure!(!status(&place)?.contains("hunter2"));
    ensure!(
        !guard.said.join("\n").contains("hunter2"),
        "{:?}",
        guard.said
    );
    guard.stop()?;
    // The caller sees it, and the journal does not.
    let policies = place.dir().join("policies").to_string_lossy().into_owned();
    for verb in ["check", "plan", "apply"] {
        let told = place.dfw(&[verb, &policies])?;
        ensure!(told.stderr.contains(SECRET), "{told:?}");
        let journal = place.dir().join("journal");
        let file = std::fs::File::create(&journal)?;
        let stat = file.metadata()?;
        let mut command = place.program(&[verb, &policies, "--json"]);
        command.env("JOURNAL_STREAM", format!("{}:{}", stat.dev(), stat.ino()));
        command.stderr(file);
        // With its own stderr, which is not to be had from here.
        let status = command.stdout(std::process::Stdio::piped()).output()?;
        let (told, answer) = (
            std::fs::read_to_string(&journal)?,
            String::from_utf8_lossy(&status.stdout).into_owned(),
        );
        ensure!(told.contains("office:2:1: "), "{told}");
        ensure!(
            !told.contains("hunter2") && !answer.contains("hunter2"),
            "{told}{answer}"
        );
    }
    Ok(())
}

/// Makes a file of some kind.
type Make<'a> = &'a dyn Fn(&Path) -> Result<()>;

fn only_files_are_read_and_not_for_ever() -> Result<()> {
    let place = place()?;
    let mut guard = Daemon::start(&place, &[])?;
    guard.expect_in_force()?;
    let before = place.snapshot()?;
    let list = place.dir().join("lists/office");
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
        replace(&place, |at| make(at))?;
        guard.expect(error)?;
        ensure!(status(&place)?.contains(error));
        // And so does the program by itself.
        let policies = place.dir().join("policies");
        let told = place.dfw(&["check", &policies.to_string_lossy()])?;
        told.expect_failure(3, "list")?;
        ensure!(told.stderr.contains(error), "{told:?}");
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
        let link = place.dir().join("linked");
        let _ = std::fs::remove_file(&link);
        symlink(target, &link)?;
        place.write("policies/a.yaml", POLICY.replace("lists/office", "linked"))?;
        guard.expect(error)?;
    }
    ensure!(guard.memory()? < 256 * 1024, "{} KiB", guard.memory()?);
    ensure!(place.snapshot()? == before, "something was changed");
    guard.stop()?;
    // Every path of the command line.
    let huge = place.dir().join("huge");
    std::fs::File::create(&huge)?.set_len(3 << 30)?;
    let pipe = place.dir().join("pipe");
    mkfifo(&pipe)?;
    let paths = [huge.to_string_lossy(), pipe.to_string_lossy()];
    for path in ["/dev/zero", "/proc/kmsg", &*paths[0], &*paths[1]] {
        for verb in ["check", "test", "plan", "apply", "import"] {
            fails(&place.dfw(&[verb, path])?)?;
        }
        for words in [["show", "--policy", path], ["audit", "--policy", path]] {
            fails(&place.dfw(&words)?)?;
        }
        fails(&place.dfw(&[
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
    let mut command = place.program(&["import"]);
    let told = Report::of(command.stdin(std::fs::File::open("/dev/zero")?))?;
    fails(&told)?;
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
        let mut command = place.namespace().command("bash");
        let told = Report::of(command.args(["-c", &words, crate::namespace::DFW]))?;
        ensure!(told.code == Some(0), "{words}: {told:?}");
    }
    Ok(())
}

/// Whether it has failed with an error of reading, and not by lack of anything.
fn fails(told: &Report) -> Result<()> {
    let errors = ["a device", "a pipe", "kernel's own", "larger than"];
    ensure!(
        told.code == Some(1) && errors.iter().any(|error| told.stderr.contains(error)),
        "{told:?}"
    );
    Ok(())
}

fn what_everybody_can_write_is_refused() -> Result<()> {
    let place = place()?;
    let mut guard = Daemon::start(&place, &[])?;
    guard.expect_in_force()?;
    let before = place.snapshot()?;
    let mode = |path: &str, mode| {
        std::fs::set_permissions(place.dir().join(path), PermissionsExt::from_mode(mode))
    };
    let policies = place.dir().join("policies").to_string_lossy().into_owned();
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
        let told = place.dfw(&["check", &policies])?;
        ensure!(told.code == Some(0), "{told:?}");
        ensure!(told.stderr.contains("warning[world-writable]"), "{told:?}");
        mode(path, closed)?;
        guard.expect("valid again")?;
    }
    let told = place.dfw(&["check", &policies])?;
    ensure!(told.stderr.is_empty(), "{told:?}");
    ensure!(place.snapshot()? == before, "something was changed");
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
    let place = place()?;
    let mut guard = guard(&place, &["--no-owner"])?;
    guard.expect_in_force()?;
    let before = place.installed()?;
    let silent = Silent::over(&place.dir().join("lists"), &guard)?;
    place.write("policies/b.yaml", "ports: {443: any}\n")?;
    until("a reading", || (readers(&guard).ok()? == 1).then_some(()))?;
    // Meanwhile it answers, puts back, and begins no second reading.
    place.nft("flush ruleset")?;
    guard.expect("restored after ")?;
    for round in 0..3 {
        place.write("policies/c.yaml", format!("# {round}\n"))?;
        guard.signal(rustix::process::Signal::HUP)?;
        ensure!(status(&place)?.contains("dfw/guard/v1"));
    }
    // On a busy machine it may have said so before.
    until("the report", || {
        let told = status(&place).ok()?;
        told.contains("file system does not respond").then_some(())
    })?;
    ensure!(readers(&guard)? == 1, "{} readers", readers(&guard)?);
    place.nft("flush ruleset")?;
    guard.expect("restored after ")?;
    ensure!(place.installed()? == before, "something was changed");
    silent.end()?;
    guard.signal(rustix::process::Signal::HUP)?;
    guard.expect("valid again")?;
    guard.expect_in_force()?;
    ensure!(place.installed()? != before, "the change was not taken up");
    guard.stop()
}

fn a_silent_disk_at_boot_leaves_the_last_good() -> Result<()> {
    let place = place()?;
    let mut first = Daemon::start(&place, &[])?;
    first.expect_in_force()?;
    let installed = place.installed()?;
    until("the state", || {
        place.dir().join("state/last-good").exists().then_some(())
    })?;
    first.stop()?;
    place.dfw_ok(&["remove"])?;
    let mut guard = guard_behind(&place, "lists")?;
    guard.expect("file system does not respond")?;
    guard.expect("using the last good policies until the files are valid")?;
    guard.expect("in force: the last good policies of ")?;
    ensure!(place.installed()? == installed, "other rules");
    guard.stop()
}

fn links_beside_metrics_destroy_nothing() -> Result<()> {
    let place = place()?;
    let mut first = Daemon::start(&place, &[])?;
    first.expect_in_force()?;
    let kept = place.dir().join("state/last-good");
    until("the state", || kept.exists().then_some(()))?;
    first.stop()?;
    let before = std::fs::read(&kept)?;
    let metrics = place.dir().join("metrics");
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
    let guard = Daemon::start(&place, &["--metrics-file", &path.to_string_lossy()])?;
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

fn what_is_kept_is_roots_alone() -> Result<()> {
    let place = place()?;
    // As an earlier version made it, or a hand.
    std::fs::create_dir(place.dir().join("state"))?;
    place.write("state/last-good", "")?;
    for (path, mode) in [("state", 0o755), ("state/last-good", 0o644)] {
        std::fs::set_permissions(place.dir().join(path), PermissionsExt::from_mode(mode))?;
    }
    let mut guard = Daemon::start(&place, &[])?;
    guard.expect_in_force()?;
    let mode = |path: &str| Some(std::fs::metadata(place.dir().join(path)).ok()?.mode() & 0o777);
    until("the state", || {
        (mode("state")? == 0o700 && mode("state/last-good")? == 0o600).then_some(())
    })?;
    guard.stop()
}
