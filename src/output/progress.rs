//! A word on what takes long, on a terminal only.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing is said before: most work is done by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says every second on stderr what is being done and for how long, and takes it back when it is
/// dropped. Nothing at all where stderr is no terminal.
#[derive(Debug)]
pub struct Progress {
    speaker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins; `what` is a phrase such as `reading the policies`.
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
                // Nobody is left to be told if stderr is closed.
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

    /// Says it while some work is done.
    pub fn during<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
        let _progress = Self::start(what);
        work()
    }
}

impl Drop for Progress {
    /// Waits until the line is taken back, and the thread gone with it: whoever forks must be alone.
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.speaker.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}
