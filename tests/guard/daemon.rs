//! A guard that runs, and what it says.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::namespace::{self, DFW, Sandbox};

/// How long a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running guard; killed when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<String>,
    /// What it has said so far.
    pub(crate) said: Vec<String>,
}

/// The arguments of a guard whose files are all in the folder of a place: policies in `policies`,
/// state in `state`.
pub(crate) fn arguments(sandbox: &Sandbox, more: &[&str]) -> Vec<String> {
    let path = |name: &str| sandbox.dir().join(name).to_string_lossy().into_owned();
    let mut arguments = vec!["guard".to_owned(), path("policies")];
    arguments.extend(["--state".to_owned(), path("state")]);
    arguments.extend(["--socket".to_owned(), path("guard.sock")]);
    if !more.contains(&"--docker-host") {
        arguments.extend(["--docker-host".to_owned(), "none".to_owned()]);
    }
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    arguments
}

impl Daemon {
    /// Starts one in a place.
    pub(crate) fn start(sandbox: &Sandbox, more: &[&str]) -> Result<Self> {
        let mut command = sandbox.namespace().command(DFW);
        command.args(arguments(sandbox, more));
        Self::of(command)
    }

    /// Runs a command that becomes one.
    pub(crate) fn of(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env_remove("JOURNAL_STREAM")
            .spawn()?;
        namespace::record(child.id())?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            lines,
            said: Vec::new(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line, from here on, that has these words in it.
    pub(crate) fn expect(&mut self, words: &str) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(words) {
                        return Ok(line);
                    }
                }
                Err(error) => bail!("no word of {words:?} ({error}) in {:#?}", self.said),
            }
        }
    }

    /// Waits for the next line, which must have these words.
    pub(crate) fn expect_next(&mut self, words: &str) -> Result<()> {
        let line = self.lines.recv_timeout(PATIENCE)?;
        self.said.push(line.clone());
        ensure!(line.contains(words), "no word of {words:?}: {line}");
        Ok(())
    }

    /// Waits until the policies are in force.
    pub(crate) fn expect_in_force(&mut self) -> Result<()> {
        self.expect("in force: ").map(drop)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?).context("no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills it, and waits until the kernel has cleaned up behind it.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Tells it to stop, which it must do in order.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let code = self.child.wait()?;
        ensure!(code.success(), "{code}");
        Ok(())
    }

    /// Waits until it ends by itself; its exit code.
    pub(crate) fn end(mut self) -> Result<Option<i32>> {
        Ok(self.child.wait()?.code())
    }

    /// How often its threads have waited for something.
    pub(crate) fn switches(&self) -> Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            sum += number(&task?.path(), "voluntary_ctxt_switches")?;
        }
        Ok(sum)
    }

    /// For how long it has worked, in hundredths of a second.
    pub(crate) fn ticks(&self) -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields: Vec<_> = stat.split_whitespace().collect();
        Ok(fields[13].parse::<u64>()? + fields[14].parse::<u64>()?)
    }

    /// The memory that it holds, in KiB.
    pub(crate) fn memory(&self) -> Result<u64> {
        number(Path::new(&format!("/proc/{}", self.pid())), "VmRSS")
    }
}

/// A line of a process's or thread's status, as a number.
fn number(of: &Path, key: &str) -> Result<u64> {
    let text = std::fs::read_to_string(of.join("status"))?;
    let mut values = text.lines().filter_map(|line| {
        let value = line.strip_prefix(key)?.strip_prefix(':')?;
        value.split_whitespace().next()
    });
    Ok(values.next().context("no such line")?.parse()?)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, is: impl FnMut() -> Option<()>) -> Result<()> {
    crate::support::command::wait_for(what, PATIENCE, is)
}
