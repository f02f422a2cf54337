//! A process that holds what cannot be read keeps no other from being seen.

use std::os::unix::net::UnixListener;
use std::process::{Child, Stdio};

use anyhow::{Result, ensure};

use crate::Named;
use crate::daemon::{Daemon, until};
use crate::namespace::{self, Sandbox};
use crate::silent::guard_behind;

pub(crate) const TRIALS: &[Named] = &[
    ("an_unreadable_descriptor_hides_nobody", unreadable),
    ("a_socket_at_a_silent_path_hides_no_engine", silent),
];

/// Opens a folder whose path is longer than a path may be, and listens, in a user namespace of its own.
const HOLDER: &str = "
import os, socket, sys
name = 'x' * 200
os.chdir(sys.argv[1])
for _ in range(25):
    os.mkdir(name)
    os.chdir(name)
descriptor = os.open('.', os.O_RDONLY)
listener = socket.create_server(('127.0.0.1', 8086))
open('/proc/self/comm', 'w').write('pasta')
print('ready', flush=True)
sys.stdin.read()
";

/// Ends with this.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn unreadable() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", "default: deny\nports: {80: any}\n")?;
    let folder = sandbox.dir().join("deep");
    std::fs::create_dir(&folder)?;
    std::os::unix::fs::chown(&folder, Some(65534), Some(65534))?;
    let mut command = sandbox.namespace().command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["unshare", "--user", "python3", "-c", HOLDER]);
    command
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    namespace::record(child.id())?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said)?;
    }
    let holder = Holder(child);
    ensure!(said == "ready\n", "{said:?}");
    // One that has nothing to say of sockets would look at none.
    let engine = sandbox
        .dir()
        .join("engine.sock")
        .to_string_lossy()
        .into_owned();
    let mut guard = Daemon::start(&sandbox, &["--docker-host", &engine])?;
    guard.expect_in_force()?;
    let said = guard.said.join("\n");
    ensure!(!said.contains("cannot look"), "{said}");
    sandbox.write("policies/a.yaml", "default: deny\nports: {81: any}\n")?;
    guard.expect_in_force()?;
    until("the change", || {
        let shown = sandbox.dfw(&["show"]).ok()?;
        shown.stdout.contains("port-81-tcp").then_some(())
    })?;
    drop(holder);
    guard.stop()
}

/// Any user may bind a socket in a file system of their own, where a look waits for ever.
fn silent() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", "default: deny\nports: {80: any}\n")?;
    let (engine, folder) = (
        sandbox.dir().join("engine.sock"),
        sandbox.dir().join("silent"),
    );
    std::fs::create_dir(&folder)?;
    let bind = || Ok(UnixListener::bind(folder.join("socket"))?);
    let _stranger = sandbox.namespace().run(bind)?;
    let listener = UnixListener::bind(&engine)?;
    listener.set_nonblocking(true)?;
    let engine = engine.to_string_lossy();
    let guard = guard_behind(&sandbox, "silent", &["--docker-host", &engine])?;
    until("a question", || listener.accept().ok().map(drop))?;
    guard.stop()
}
