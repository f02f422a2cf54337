//! Progress of long operations, on a terminal only.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The delay before progress is shown.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows the current operation and its duration on stderr every second, and clears the line when dropped. Does
/// nothing if stderr is not a terminal.
#[derive(Debug)]
pub struct Progress {
    speaker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts to show progress after a while; `what` is a phrase such as `reading the policies`.
    #[must_use]
    pub fn start(what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self { speaker: None };
        }
        let (sender, receiver) = channel();
        let start = Instant::now();
        let speak = move || {
            let mut said = false;
            while receiver.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                said = true;
                // If stderr is closed, nobody reads it.
                let seconds = start.elapsed().as_secs();
                let _ = write!(io::stderr(), "\r\x1b[K{what}: {seconds} s");
            }
            if said {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        };
        let thread = std::thread::Builder::new().spawn(speak);
        Self {
            speaker: thread.ok().map(|thread| (sender, thread)),
        }
    }

    /// Shows progress while `work` runs.
    pub fn during<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
        let _progress = Self::start(what);
        work()
    }
}

impl Drop for Progress {
    /// Clears the line and joins the thread: a fork must not have other threads.
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.speaker.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}
