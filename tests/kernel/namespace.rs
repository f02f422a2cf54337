//! A network namespace of a trial's own, and what can be done in it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use dfw::compile::compile;
use dfw::host::HostView;
use dfw::kernel::{Commit, Kernel, Snapshot};
use dfw::ruleset::{Origin, Ruleset};
use dfw::text::SourceMap;

use crate::support::command::{find, outcome, output, program};
use crate::support::janitor::Ledger;
use crate::support::netns::Namespace;

/// The program under test.
pub(crate) const DFW: &str = env!("CARGO_BIN_EXE_dfw");
/// The table that all of this is about.
pub(crate) const TABLE: &str = "inet dfw-nft";
/// How often a transaction is tried while others commit.
const TRIES: u32 = 100;

/// What this machine lacks.
pub(crate) fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root".to_owned());
    }
    let programs = [
        "ip", "nft", "iptables", "strace", "setarch", "nsenter", "unshare", "ss", "dnsmasq",
        "nginx", "openssl",
    ];
    let lacking = programs.iter().filter(|name| find(name).is_none());
    missing.extend(lacking.map(|name| format!("the program {name}")));
    missing
}

static LEDGER: Mutex<Option<Ledger>> = Mutex::new(None);
static NUMBER: AtomicU32 = AtomicU32::new(0);

fn with_ledger<T>(work: impl FnOnce(&Ledger) -> T) -> Result<T> {
    let mut ledger = LEDGER.lock().unwrap_or_else(PoisonError::into_inner);
    if ledger.is_none() {
        *ledger = Some(Ledger::open()?);
    }
    ledger.as_ref().map(work).context("no ledger")
}

/// Writes down a process that must not outlive this one.
pub(crate) fn record(pid: u32) -> Result<()> {
    with_ledger(|ledger| ledger.record(pid))?
}

/// Cleans up what trials have left behind.
pub(crate) fn close() {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// A fresh network namespace, gone when it is dropped; by the janitor if it never is.
pub(crate) struct Sandbox {
    name: String,
    namespace: Namespace,
    dir: PathBuf,
}

impl Sandbox {
    pub(crate) fn new() -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (prefix, parent) = with_ledger(|l| (l.prefix(), l.dir().to_owned()))?;
        let name = format!("{prefix}-{number}");
        let dir = parent.join(number.to_string());
        std::fs::create_dir(&dir)?;
        let namespace = Namespace::create(&name)?;
        Ok(Self {
            name,
            namespace,
            dir,
        })
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A directory of this place alone.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file below [`dir`](Self::dir), with the folders that lead to it.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// A connection to the nf_tables of this place, used by one thread inside.
    pub(crate) fn kernel<T: Send>(
        &self,
        work: impl FnOnce(&Kernel) -> Result<T> + Send,
    ) -> Result<T> {
        self.namespace.run(|| work(&Kernel::open()?))
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.kernel(|kernel| Ok(kernel.snapshot()?))
    }

    /// dfw's table as it is read back.
    pub(crate) fn installed(&self) -> Result<Ruleset> {
        let installed = self.snapshot()?.installed;
        Ok(installed.context("nothing is installed")?.ruleset)
    }

    pub(crate) fn install(&self, ruleset: &Ruleset) -> Result<()> {
        self.kernel(|kernel| install(kernel, ruleset))
    }

    /// `nft` with the words of one line.
    pub(crate) fn nft(&self, words: &str) -> Result<String> {
        output(self.namespace.command("nft").arg(words)).with_context(|| format!("nft {words}"))
    }

    /// `nft` with a text on its stdin; `flags` are `-f` or `-c -f`.
    pub(crate) fn nft_load(&self, flags: &[&str], text: &str) -> Result<()> {
        let mut command = self.namespace.command("nft");
        command.args(flags).arg("-");
        let output = feed(&mut command, text)?;
        ensure!(
            output.status.success(),
            "nft refuses what dfw prints: {}\n{text}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Has connections of this host to a port elsewhere not tracked, as where a firewall is stateless.
    pub(crate) fn exclude_from_tracking(&self, port: u16) -> Result<()> {
        self.nft_load(
            &["-f"],
            &format!(
                "table inet stateless {{
                    chain in {{ type filter hook prerouting priority raw; tcp sport {port} notrack; }}
                    chain out {{ type filter hook output priority raw; tcp dport {port} notrack; }}
                }}"
            ),
        )
    }

    /// Every table of every family, as nft prints them.
    pub(crate) fn listing(&self) -> Result<String> {
        self.nft("list ruleset")
    }

    /// The program under test, to be run here.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(DFW);
        command.args(arguments);
        command
    }

    pub(crate) fn dfw(&self, arguments: &[&str]) -> Result<Report> {
        Report::of(&mut self.program(arguments))
    }

    /// dfw, which must succeed; its stdout.
    pub(crate) fn dfw_ok(&self, arguments: &[&str]) -> Result<String> {
        let report = self.dfw(arguments)?;
        ensure!(
            report.code == Some(0),
            "dfw {arguments:?} failed: {report:?}"
        );
        Ok(report.stdout)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The janitor tries again.
        let _ = output(program("ip").args(["netns", "delete", &self.name]));
    }
}

/// The exit code and output of a program.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Report {
    pub(crate) fn of(command: &mut Command) -> Result<Self> {
        let output = outcome(command)?;
        Ok(Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Whether it failed with this code and a diagnostic of this name.
    pub(crate) fn expect_failure(&self, code: i32, slug: &str) -> Result<()> {
        ensure!(
            self.code == Some(code) && self.stderr.contains(&format!("[{slug}]")),
            "expected exit code {code} and [{slug}]: {self:?}"
        );
        Ok(())
    }
}

/// Installs whatever happens meanwhile.
pub(crate) fn install(kernel: &Kernel, ruleset: &Ruleset) -> Result<()> {
    for _ in 0..TRIES {
        let generation = kernel.snapshot()?.generation;
        if kernel.replace(ruleset, "a test", generation)? != Commit::Overtaken {
            return Ok(());
        }
    }
    bail!("overtaken {TRIES} times")
}

fn feed(command: &mut Command, text: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Both ends at once: the program may say something before it has read everything.
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(text.as_bytes())));
        Ok(child.wait_with_output()?)
    })
}

/// A policy of this repository as the program compiles it on a host without links.
pub(crate) fn compiled(path: &str) -> Result<Ruleset> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    compiled_from(SourceMap::new(), &path, &HostView::default())
}

/// The same of a text.
pub(crate) fn compiled_text(text: &str) -> Result<Ruleset> {
    compiled_for(text, &HostView::default())
}

/// The same for a host.
pub(crate) fn compiled_for(text: &str, host: &HostView) -> Result<Ruleset> {
    let path = "policy.yaml";
    compiled_from(SourceMap::in_memory([(path, text)]), Path::new(path), host)
}

fn compiled_from(mut sources: SourceMap, path: &Path, host: &HostView) -> Result<Ruleset> {
    let files = dfw::store::read_policies(&mut sources, path)?;
    let Ok((policy, _)) = dfw::policy::read(&mut sources, &files) else {
        bail!("{} has errors", path.display());
    };
    Ok(compile(&policy, host, &|span| {
        let file = Path::new(sources.name(span.file)).file_name();
        Origin {
            file: file.unwrap_or_default().to_string_lossy().into_owned(),
            line: sources.line_column(span).0,
        }
    }))
}

/// The policies of this repository that are right.
pub(crate) fn policies() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for dir in ["policies", "tests/golden", "tests/policies/valid"] {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name != "lists" {
                found.push(format!("{dir}/{name}"));
            }
        }
    }
    ensure!(found.len() > 3, "only {found:?}");
    Ok(found)
}
