//! What dfw asks an engine: little, however many containers there are.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::guard::Guard;
use crate::support::command::wait_for;
use crate::support::lab::Lab;
use crate::support::probe::PATIENCE;
use crate::support::size::is_long;

pub(crate) const TRIALS: &[Named] = &[
    ("engine_requests::few_however_many_containers", few),
    ("engine_requests::long_answers_are_cut", long_answers),
];

/// How many containers are made for it.
fn containers() -> usize {
    if is_long() { 1000 } else { 40 }
}

/// The name of a socket in a folder of its own.
const SOCKET: &str = "engine.sock";

/// A folder that goes away with this.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("dfw-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Stands between dfw and the engine, and counts: a connection is a question.
struct Between {
    folder: Folder,
    asked: Arc<Mutex<Vec<String>>>,
    gone: Arc<AtomicBool>,
}

impl Between {
    fn start(lab: &Lab) -> Result<Self> {
        let folder = Folder::new("between")?;
        let engine = lab.engine_socket();
        let listener = UnixListener::bind(folder.0.join(SOCKET))?;
        let between = Self {
            folder,
            asked: Arc::default(),
            gone: Arc::default(),
        };
        let (asked, gone) = (between.asked.clone(), between.gone.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if gone.load(Ordering::Relaxed) {
                    return;
                }
                let (asked, engine) = (asked.clone(), engine.clone());
                thread::spawn(move || pass(client, &engine, &asked));
            }
        });
        Ok(between)
    }

    fn socket(&self) -> PathBuf {
        self.folder.0.join(SOCKET)
    }

    /// What was asked since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(self.socket());
    }
}

/// Passes a question on, and its answer back.
fn pass(mut client: UnixStream, engine: &Path, asked: &Mutex<Vec<String>>) -> Result<()> {
    let mut server = UnixStream::connect(engine)?;
    let mut question = Vec::new();
    while !question.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        question.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&question);
    let line = line.lines().next().unwrap_or_default().to_owned();
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(line);
    server.write_all(&question)?;
    let mut back = (server.try_clone()?, client.try_clone()?);
    let answers = thread::spawn(move || std::io::copy(&mut back.0, &mut back.1));
    // The client closes it when it has its answer.
    let _ = std::io::copy(&mut client, &mut server);
    let _ = server.shutdown(std::net::Shutdown::Both);
    let _ = answers.join();
    Ok(())
}

fn few(lab: &Lab) -> Result<()> {
    let number = containers();
    lab.script(&format!(
        "for n in $(seq {number}); do
             docker create --name many$n --publish $((20000 + n)):80 dfw-lab /lab test-helper serve tcp:80
         done >/dev/null"
    ))?;
    let checked = few_requests_are_sent(lab, number);
    lab.script("docker rm --force $(docker ps --all --quiet --filter name=many) >/dev/null")?;
    checked
}

fn few_requests_are_sent(lab: &Lab, number: usize) -> Result<()> {
    let between = Between::start(lab)?;
    let socket = between.socket().to_string_lossy().into_owned();
    let dir = lab.write_policy("default: deny\nports: {443: any}\n")?;
    let planned = lab.dfw(&["plan", "--docker-host", &socket, &dir])?;
    ensure!(planned.status.success(), "{planned:?}");
    // One for each that does not run, and a handful.
    let first = between.asked().len();
    ensure!(
        first <= number + 40,
        "{first} questions about {number} new containers"
    );
    let _guard = Guard::asking(lab, "default: deny\nports: {443: any}\n", &socket)?;
    let id = lab.docker("inspect --format {{.Id}} many2")?;
    let id = id.trim().to_owned();
    let mut renamed = 0;
    let mut until_renamed = || -> Result<Vec<String>> {
        // It asks for what has happened before in the same questions or in some before.
        renamed += 1;
        lab.docker(&format!("rename {id} many2-{renamed}"))?;
        let mut all = Vec::new();
        wait_for("a question about it", PATIENCE, || {
            all.extend(between.asked());
            all.iter().any(|line| line.contains(&id)).then_some(())
        })?;
        Ok(all)
    };
    until_renamed()?;
    until_renamed()?;
    let started = lab.docker("inspect --format {{.Id}} many1")?;
    let started = started.trim();
    lab.docker("start many1")?;
    let about_one = until_renamed()?;
    // An engine that takes more than two seconds to start it answers nothing about it: then its line in the list
    // is asked for, and it is asked for again.
    let (lines, answered): (Vec<_>, Vec<_>) = about_one
        .iter()
        .partition(|line| line.contains("/containers/json?all") && line.contains(started));
    // Four about what is started at most, and one about the other's name.
    let number = answered.len().saturating_sub(lines.len());
    ensure!((2..=5).contains(&number), "one start: {about_one:#?}");
    ensure!(
        answered
            .iter()
            .all(|line| !line.contains("/containers/json?all")),
        "one start asks for all: {about_one:#?}"
    );
    // Events that change no port ask for nothing.
    lab.script("for n in $(seq 50); do docker exec many1 /lab >/dev/null 2>&1; done; true")?;
    let inside = until_renamed()?;
    ensure!(inside.len() <= 2, "fifty events inside: {inside:#?}");
    Ok(())
}

/// An engine whose error is megabytes long fills neither memory nor the log.
fn long_answers(lab: &Lab) -> Result<()> {
    let folder = Folder::new("endless")?;
    let socket = folder.0.join(SOCKET);
    let listener = UnixListener::bind(&socket)?;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let server = thread::spawn(move || -> Result<()> {
        let (mut client, _) = listener.accept()?;
        // The question, of which nothing is wanted.
        let _ = client.read(&mut [0; 4096])?;
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\"")?;
        let part = vec![b'x'; 1 << 16];
        while client.write_all(&part).is_ok() {
            count.fetch_add(part.len(), Ordering::Relaxed);
        }
        Ok(())
    });
    let path = socket.to_string_lossy().into_owned();
    let audit = lab.dfw(&["audit", "--docker-host", &path])?;
    server.join().ok().context("the server panicked")??;
    ensure!(!audit.status.success(), "{audit:?}");
    let report = String::from_utf8_lossy(&audit.stderr);
    ensure!(
        report.contains("longer than 64 MiB") && report.len() < 2000,
        "{report}"
    );
    let sent = sent.load(Ordering::Relaxed);
    ensure!(sent < 80 << 20, "{sent} bytes were taken");
    Ok(())
}
