//! How the program behaves towards terminals, pipes and those who call it.
#![expect(
    clippy::disallowed_types,
    reason = "dfw never starts another program, its tests do"
)]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

const ESCAPE: char = '\u{1b}';

/// dfw without what the environment of the tests says of terminals.
fn dfw(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfw"));
    command.args(arguments);
    // A builder is taken for a terminal with colours, whatever TERM says.
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "CI"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").env("DFW_DOCKER_HOST", "none");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn run(arguments: &[&str]) -> Output {
    dfw(arguments).stdin(Stdio::null()).output().unwrap()
}

/// What stands on a terminal of so many columns when a program has ended.
fn on_a_terminal(columns: u16, command: &mut Command) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&master, size).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let name = OsStr::from_bytes(name.to_bytes());
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name)
        .unwrap();
    let end = || Stdio::from(terminal.try_clone().unwrap());
    let mut child = command
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    command.stdin(Stdio::null());
    command.stdout(Stdio::null());
    command.stderr(Stdio::null());
    drop(terminal);
    let mut seen = Vec::new();
    // The last read fails: nobody has the other end any more.
    let _ = File::from(master).read_to_end(&mut seen);
    child.wait().unwrap();
    text(&seen).replace("\r\n", "\n")
}

/// A fresh directory that is removed again.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        // Two runs at once share the folder above.
        let name = format!("{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const LONG: &str = "\
default: deny
sources:
  headquarters: [203.0.113.0/24, 2001:db8:10::/48]
  monitoring: 198.51.100.7
ports:
  80: [headquarters, monitoring, 192.0.2.1, 192.0.2.3, 192.0.2.5, 192.0.2.7]
  203.0.113.10:8000-8010: {allow: any, except: [headquarters], interface: [eth0, eth1]}
";

#[test]
fn tables_fold_on_narrow_terminals_only() {
    let dir = Dir::new("manners-narrow");
    let file = dir.0.join("a.yaml");
    fs::write(&file, LONG).unwrap();
    let check = || {
        let mut command = dfw(&["check", "a.yaml"]);
        command.current_dir(&dir.0);
        command
    };
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let piped = check().env("COLUMNS", "40").output().unwrap();
    let piped = text(&piped.stdout);
    assert_eq!(piped.lines().count(), 4, "{piped}");
    let widest = piped.lines().map(|line| line.chars().count()).max();
    assert!(widest > Some(80), "{piped}");
    let narrow = on_a_terminal(40, check().arg("--color=never"));
    let by_name = on_a_terminal(200, check().arg("--color=never").env("COLUMNS", "40"));
    for shown in [&narrow, &by_name] {
        assert_eq!(words(shown), words(&piped));
        for line in shown.lines() {
            assert!(line.chars().count() <= 40, "{line:?} in\n{shown}");
        }
    }
    assert_eq!(on_a_terminal(200, check().arg("--color=never")), piped);
    // A terminal that does not say how wide it is.
    assert_eq!(on_a_terminal(0, check().arg("--color=never")), piped);
}

#[test]
fn help_fits_the_terminal_and_is_the_same_in_every_pipe() {
    let piped = text(&run(&["apply", "--help"]).stdout);
    let wide = dfw(&["apply", "--help"])
        .env("COLUMNS", "200")
        .output()
        .unwrap();
    assert_eq!(text(&wide.stdout), piped);
    let narrow = on_a_terminal(50, &mut dfw(&["apply", "--help", "--color=never"]));
    let prose = narrow
        .lines()
        .take_while(|line| !line.starts_with("Options"));
    for line in prose {
        assert!(line.chars().count() <= 50, "{line}");
    }
}

#[test]
fn colour_follows_the_options() {
    let wrong = ["check", "tests/policies/invalid/default-value"];
    for arguments in [&["aply"][..], &["apply", "--bogus"], &["--help"], &wrong] {
        let with = |more: &'static str| {
            let mut all = arguments.to_vec();
            all.extend(more.split_whitespace());
            all
        };
        let on_terminal = |words: &[&str]| on_a_terminal(80, &mut dfw(words));
        assert!(on_terminal(arguments).contains(ESCAPE), "{arguments:?}");
        for never in ["--color never", "--color=never"] {
            let shown = on_terminal(&with(never));
            assert!(!shown.contains(ESCAPE), "{arguments:?}: {shown:?}");
        }
        for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let shown = on_a_terminal(80, dfw(arguments).env(name, value));
            assert!(!shown.contains(ESCAPE), "{name}, {arguments:?}: {shown:?}");
        }
        let piped = |words: &[&str]| {
            let output = run(words);
            text(&output.stdout) + &text(&output.stderr)
        };
        assert!(!piped(arguments).contains(ESCAPE), "{arguments:?}");
        assert!(piped(&with("--color always")).contains(ESCAPE));
    }
}

#[test]
fn a_wrong_command_line_is_reported_as_json() {
    for (arguments, message, help) in [
        (
            &["--json", "aply"][..],
            "unrecognized subcommand 'aply'",
            Some("a similar subcommand exists: 'apply'"),
        ),
        (
            &["plan", "--exit-cod", "--json"],
            "unexpected argument '--exit-cod' found",
            Some("a similar argument exists: '--exit-code'"),
        ),
        (
            &["--json", "trace"],
            "the following required arguments were not provided: <--from <ADDR>|--to <PORT>>",
            None,
        ),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).starts_with("error: "));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["schema"], "dfw/failure/v2");
        assert_eq!(document["exit_code"], 2);
        let diagnostic = &document["diagnostics"][0];
        assert_eq!(diagnostic["message"], message);
        assert_eq!(diagnostic["help"][0].as_str(), help);
    }
    let people = run(&["aply"]);
    assert_eq!((people.status.code(), people.stdout.len()), (Some(2), 0));
}

#[test]
fn a_slip_is_answered_with_what_was_meant() {
    for (typed, meant) in [
        ("chekc", "check"),
        ("stats", "status"),
        ("explain --form 1.2.3.4", "--from"),
        ("apply --confrim 60s", "--confirm"),
        ("status --color nevr", "never"),
    ] {
        let words: Vec<&str> = typed.split(' ').collect();
        let output = run(&words);
        let told = text(&output.stderr);
        assert!(told.contains("similar") && told.contains(meant), "{told}");
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    for arguments in [
        &["--help"][..],
        &["show", "--policy", "policies"],
        &["check", "policies"],
        &["check", "policies", "--json"],
        &["import", "tests/import/without-engine/rules.v4"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = dfw(arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
    // The exit code is the answer of some verbs.
    let wrong = ["check", "tests/policies/invalid/default-value", "--json"];
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = dfw(&wrong).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    // Nobody reads what is wrong, either.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = dfw(&wrong).stderr(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    // A full disk is not enough.
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = dfw(&["check", "policies"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: cannot write the answer: No space left"));
}

#[test]
fn paths_need_not_be_utf8() {
    let dir = Dir::new("manners-bytes");
    let policies = dir.0.join(OsStr::from_bytes(b"pol\xffcies"));
    fs::create_dir(&policies).unwrap();
    let file = policies.join(OsStr::from_bytes(b"w\xfeb.yaml"));
    fs::write(&file, "default: deny\nports: {80: any}\n").unwrap();
    for path in [&policies, &file] {
        for verb in [
            &["check"][..],
            &["test"],
            &["show", "--policy"],
            &["--json", "check"],
        ] {
            let output = dfw(verb).arg(path).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{verb:?}");
            assert_eq!(text(&output.stderr), "");
            if verb.contains(&"check") {
                assert!(text(&output.stdout).contains('\u{fffd}') || verb.len() > 1);
            }
        }
    }
    let shown = dfw(&["show", "--policy"]).arg(&file).output().unwrap();
    assert!(text(&shown.stdout).contains("comment \"w\u{fffd}b.yaml:2\""));
    fs::write(&file, "default: deny\nprots: {80: any}\n").unwrap();
    let output = dfw(&["check"]).arg(&policies).output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3));
    for part in [
        "did you mean `ports`?",
        "pol\u{fffd}cies/w\u{fffd}b.yaml:2:1",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let nowhere = dfw(&["check"])
        .arg(OsStr::from_bytes(b"no\xff"))
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).contains("cannot read no\u{fffd}: No such file"));
    let wrong = dfw(&["--json"])
        .arg(OsStr::from_bytes(b"aply\xff"))
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    // What is written there can be applied.
    let output = dfw(&["import", "tests/import/ban-list/rules.v4", "--output"])
        .arg(dir.0.join(OsStr::from_bytes(b"new\xff")))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let written = dir.0.join(OsStr::from_bytes(b"new\xff/imported.yaml"));
    assert!(written.exists());
}

#[test]
fn names_cannot_write_on_the_terminal() {
    let dir = Dir::new("manners-escapes");
    let policies = dir.0.join("red\u{1b}[31m");
    fs::create_dir(&policies).unwrap();
    fs::write(policies.join("a\u{7}.yaml"), "default: denny\n").unwrap();
    for arguments in [&["check"][..], &["check", "--json"]] {
        let output = dfw(arguments).arg(&policies).output().unwrap();
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert!(!shown.contains([ESCAPE, '\u{7}']), "{shown:?}");
    }
    let output = dfw(&["check"])
        .arg(dir.0.join("no\u{1b}]0;"))
        .output()
        .unwrap();
    let shown = text(&output.stderr);
    assert!(!shown.contains(ESCAPE), "{shown:?}");
}

#[test]
fn ctrl_c_ends_it_as_it_ends_any_program() {
    let dir = Dir::new("manners-interrupt");
    let output = dir.0.join("new");
    let mut child = Command::new("env")
        .args([
            "--default-signal=INT",
            env!("CARGO_BIN_EXE_dfw"),
            "import",
            "--output",
        ])
        .arg(&output)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than a pipe holds: once it is written, dfw reads.
    stdin.write_all(&vec![b'#'; 1 << 17]).unwrap();
    let process = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(process, Signal::INT).unwrap();
    // To a shell, 130.
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    assert!(!output.exists());
}
