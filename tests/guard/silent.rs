//! A disk that never answers: a file system in user space whose server reads no request.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::daemon::{Daemon, arguments};
use crate::namespace::{self, DFW, Sandbox};
use crate::support::command::{output, program};

/// Mounts it at `$1`; as long as descriptor 3 is open, every look there waits.
const MOUNT: &str = "exec 3<>/dev/fuse
mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none \"$1\"
shift";

/// A guard in a mount namespace of its own, in which disks can fall silent.
pub(crate) fn guard(sandbox: &Sandbox, more: &[&str]) -> Result<Daemon> {
    let mut command = sandbox.namespace().command("unshare");
    command
        .args(["--mount", DFW])
        .args(arguments(sandbox, more));
    Daemon::of(command)
}

/// A guard that finds this folder silent when it starts.
pub(crate) fn guard_behind(sandbox: &Sandbox, folder: &str, more: &[&str]) -> Result<Daemon> {
    Daemon::of(command_behind(sandbox, folder, more))
}

/// The command of such a guard.
pub(crate) fn command_behind(sandbox: &Sandbox, folder: &str, more: &[&str]) -> Command {
    let mut command = sandbox.namespace().command("unshare");
    command.args([
        "--mount",
        "sh",
        "-euc",
        &format!("{MOUNT}\nexec \"$@\""),
        "sh",
    ]);
    command.arg(sandbox.dir().join(folder));
    command.arg(DFW).args(arguments(sandbox, more));
    command
}

/// Ends the silence of a folder that a guard found silent when it started.
pub(crate) fn end_behind(guard: &Daemon, folder: &Path) -> Result<()> {
    let namespace = format!("--mount=/proc/{}/ns/mnt", guard.pid());
    let mut umount = program("nsenter");
    umount.args([&namespace, "--", "umount", "--force", "--lazy"]);
    output(umount.arg(folder)).map(drop)
}

/// A folder that a guard sees and that is silent until this is dropped or [ended](Self::end).
pub(crate) struct Silent {
    server: Child,
    namespace: String,
    folder: PathBuf,
}

impl Silent {
    pub(crate) fn over(folder: &Path, guard: &Daemon) -> Result<Self> {
        let namespace = format!("--mount=/proc/{}/ns/mnt", guard.pid());
        let mut command: Command = program("nsenter");
        let script = format!("{MOUNT}\necho mounted\nexec cat");
        command.args([&namespace, "--", "sh", "-euc", &script, "sh"]);
        let mut server = command
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        namespace::record(server.id())?;
        let mut line = String::new();
        let stdout = server.stdout.take().context("no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "mounted\n", "{line}");
        Ok(Self {
            server,
            namespace,
            folder: folder.to_owned(),
        })
    }

    /// Gives the folder back.
    pub(crate) fn end(mut self) -> Result<()> {
        self.server.kill()?;
        self.server.wait()?;
        output(
            program("nsenter")
                .args([&self.namespace, "--", "umount", "-l"])
                .arg(&self.folder),
        )?;
        Ok(())
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
