//! The daemon: keeps the desired ruleset in force while policies, engines, links or the table change.
//!
//! - `feeds`: event sources;
//! - `event_loop`: schedules the work that events require;
//! - `desired`: the desired ruleset, and the last good policies;
//! - `enforce`: commits and restores the table;
//! - `grants`: permissions for a time.

mod desired;
mod due;
mod enforce;
mod error;
mod event_loop;
mod feeds;
mod granted;
mod grants;
mod inquiry;
mod log;
mod metrics;
mod options;
mod published;
mod record;
mod service;
mod site;
mod state;
mod state_writer;
mod view;

use std::io;

use rustix::thread::CapabilitySet;

use crate::confine;
use crate::host::process;
use crate::untrusted;

use desired::STATE;
use event_loop::Guard;
use feeds::job::within;
use log::{Level, Log};

pub use error::Error;
pub use granted::Request;
pub use inquiry::{Answer, ask, request};
pub use metrics::scrapes::Listen;
pub use options::Options;

/// `CAP_NET_ADMIN` for rulesets, the others to find the holders of sockets and to read policies of any owner.
const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);
/// The exit code of a panicked process, as in Rust.
const PANICKED: i32 = 101;

/// Runs the daemon until a signal stops it.
///
/// # Errors
/// See [`Error`](enum@Error).
pub fn run(options: &Options) -> Result<(), Error> {
    let log = Log::new();
    end_with_any_thread(log);
    // Before there is another thread.
    if let Err(error) = confine::confine(NEEDED) {
        log.say(Level::Warning, &error.to_string());
    }
    give_up_files(options, log);
    let done = Guard::new(options, log).and_then(Guard::run);
    service::stopping();
    if let Err(error) = &done {
        log.say(Level::Error, &format!("{error}; the rules in force stay"));
    }
    done
}

/// Makes a panic of any thread end the process: guard must not continue without the thread that follows
/// engines or reads processes. The service manager restarts it.
fn end_with_any_thread(log: Log) {
    std::panic::set_hook(Box::new(move |panic| {
        log.say(Level::Error, &format!("{panic}; the rules in force stay"));
        std::process::exit(PANICKED);
    }));
}

/// Restricts writing to guard's own directories. A thread started before keeps the right to read other
/// processes' descriptors.
fn give_up_files(options: &Options, log: Log) {
    let state = options.state.clone();
    let prepared = within(STATE, move || state::prepare(&state));
    let answers = !matches!(prepared, Ok(None));
    let silent = || Err(io::Error::from(io::ErrorKind::TimedOut));
    if let Err(error) = prepared.and_then(|prepared| prepared.unwrap_or_else(silent)) {
        let text = format!("{}: {error}", untrusted::path(&options.state));
        log.say(Level::Warning, &text);
    }
    // A directory on a disk that does not respond would block.
    let mut folders = options.folders();
    folders.retain(|folder| answers || *folder != options.state);
    let port = match options.listen {
        Some(Listen::Tcp(address)) => Some(address.port()),
        _ => None,
    };
    let given_up = process::look_apart()
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let given_up = confine::give_up_files(&["/".into()], &folders, port);
            given_up.map_err(|error| error.to_string())
        });
    match given_up {
        Ok(true) => {}
        Ok(false) => log.say(
            Level::Info,
            "this kernel has no Landlock: file access is not restricted",
        ),
        Err(error) => log.say(Level::Warning, &error),
    }
}
