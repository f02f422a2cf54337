//! A program at a terminal of its own, as `ssh` gives one.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::namespace::{DFW, Sandbox};
use crate::support::command::wait_for;
use crate::support::helper::HELPER;

const PATIENCE: Duration = Duration::from_mins(2);

/// A program, and the keyboard and the screen before it.
pub(crate) struct Screen {
    master: File,
    /// The other end, until the program has opened it: or what is typed would be gone.
    held: Option<File>,
    child: Child,
    seen: String,
}

impl Screen {
    /// Starts dfw; `typed` is typed before it has started.
    pub(crate) fn dfw(
        sandbox: &Sandbox,
        arguments: &[&str],
        environment: &[(&str, &str)],
        typed: &str,
    ) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?.into_string()?;
        let mut master = File::from(master);
        let held = OpenOptions::new().read(true).write(true).open(&name)?;
        master.write_all(typed.as_bytes())?;
        let this = std::env::current_exe()?;
        let mut command = sandbox.namespace().command(&this.to_string_lossy());
        command.args([HELPER, "terminal", &name, DFW]);
        command.args(arguments).envs(environment.iter().copied());
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            master,
            held: Some(held),
            child,
            seen: String::new(),
        })
    }

    /// Reads on; `false` at the end.
    fn more(&mut self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut polled = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut polled, Some(&Timespec::try_from(left)?))? == 0 {
            bail!("nothing more is said after {:?}", self.seen);
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(length @ 1..) => {
                self.seen
                    .push_str(&String::from_utf8_lossy(&buffer[..length]));
                Ok(true)
            }
            // Nobody has the other end any more.
            _ => Ok(false),
        }
    }

    /// Waits until these words are on the screen.
    pub(crate) fn wait(&mut self, words: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(words) {
            ensure!(self.more(deadline)?, "no {words:?} in {:?}", self.seen);
        }
        self.held = None;
        Ok(())
    }

    pub(crate) fn type_in(&mut self, text: &str) -> Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    pub(crate) fn kill(&self, signal: Signal) -> Result<()> {
        let process = Pid::from_raw(i32::try_from(self.child.id())?).context("no number")?;
        Ok(kill_process(process, signal)?)
    }

    /// Waits for the program's end; its status, and all that was on the screen until nobody had it
    /// open any more.
    pub(crate) fn end(mut self) -> Result<(ExitStatus, String)> {
        ensure!(self.held.is_none(), "nobody has waited for a word");
        let deadline = Instant::now() + PATIENCE;
        while self.more(deadline)? {}
        let status = self.child.wait()?;
        Ok((status, std::mem::take(&mut self.seen)))
    }

    /// Closes the terminal under the program, which ends with it.
    pub(crate) fn hang_up(mut self) -> Result<()> {
        let Self { master, .. } = &mut self;
        // Any other file will do in its place.
        *master = File::open("/dev/null")?;
        wait_for("the program to end", PATIENCE, || {
            self.child.try_wait().ok()?.map(|_| ())
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program in a session of its own, whose terminal this is.
pub(crate) fn play_terminal(name: &str, program: &str, arguments: &[String]) -> Result<()> {
    rustix::process::setsid()?;
    // Signals that would leave a core must not.
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    // The first terminal that the leader of a session opens is the session's.
    let terminal = OpenOptions::new().read(true).write(true).open(name)?;
    rustix::stdio::dup2_stdin(terminal.as_fd())?;
    rustix::stdio::dup2_stdout(terminal.as_fd())?;
    rustix::stdio::dup2_stderr(terminal.as_fd())?;
    drop(terminal);
    // If the tests run in the background, keyboard signals may be ignored.
    let mut command = Command::new("env");
    command
        .arg("--default-signal=HUP,INT,QUIT,TERM")
        .arg(program);
    Err(anyhow!(command.args(arguments).exec()))
}

/// A server by the name of sshd, to which a client is connected, and who runs a program.
pub(crate) fn play_sshd(ends: [&str; 2], program: &str, arguments: &[String]) -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
    let [client, server] = ends;
    let listener = std::net::TcpListener::bind(server)?;
    let stream = SocketType::STREAM;
    let socket = socket_with(AddressFamily::INET, stream, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &client.parse::<std::net::SocketAddr>()?)?;
    connect(&socket, &listener.local_addr()?)?;
    let _connection = listener.accept()?;
    rustix::thread::set_name(c"sshd")?;
    let status = Command::new(program).args(arguments).status()?;
    std::process::exit(status.code().unwrap_or(255));
}
