//! Other programs, run to their end, with an error that shows what they said.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

#[path = "documented.rs"]
mod documented;

/// Where system programs live; a test must not depend on the caller's `PATH`.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";

/// Where a program is, searching only [`PATH`].
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    PATH.split(':')
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.is_file())
}

/// A program found in [`PATH`], without what the caller's environment could change about it.
pub(crate) fn program(name: &str) -> Command {
    // By its path, which std can start without a fork: that copies the page tables of all tests.
    let path = find(name).unwrap_or_else(|| name.into());
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/")
        .env("LC_ALL", "C")
        // An engine of the machine itself is none of the tests' business.
        .env("DFW_DOCKER_HOST", "none")
        .stdin(Stdio::null());
    command
}

/// Runs to the end, whatever the end is. Documents of `--json` have no keys that the docs do not list.
pub(crate) fn outcome(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", describe(command)))?;
    if command.get_args().any(|word| word == "--json") {
        let (_, unlisted) = documented::unlisted(&String::from_utf8_lossy(&output.stdout));
        ensure!(
            unlisted.is_empty(),
            "{} prints keys that docs/json.md does not list: {unlisted:?}",
            describe(command)
        );
    }
    Ok(output)
}

/// Runs to a successful end and answers what was printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = outcome(command)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{} ended with {}\n{stdout}{}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

/// Runs to a successful end with a file as its input.
pub(crate) fn output_from(command: &mut Command, input: &Path) -> Result<String> {
    let input = File::open(input).with_context(|| format!("cannot open {}", input.display()))?;
    output(command.stdin(input))
}

/// Copies a program, for every user to run.
///
/// `install` writes the copy, and not this process: a child that another thread starts meanwhile holds a copy of
/// every descriptor of this process for a moment, and the kernel runs no file that is open for writing
/// (`ETXTBSY`).
pub(crate) fn install(from: &Path, to: &Path) -> Result<()> {
    output(program("install").arg("--mode=755").args([from, to])).map(drop)
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    format!("`{}`", words.join(" "))
}

/// The pause between two looks of [`wait_for`] is a tenth of the time so far, within these bounds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Waits until `ready` answers something.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T> {
    let begun = Instant::now();
    let deadline = begun + limit;
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        // Each look may start programs, and others work meanwhile: what takes long is looked at less often.
        let passed = begun.elapsed();
        std::thread::sleep((passed / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
    }
}
