//! The look at this host, taken by a thread of its own: whoever has many processes, descriptors or links
//! keeps nobody from being answered.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::event::{EventfdFlags, eventfd};

use crate::host::docker::Unanswered;
use crate::host::engine::{Engine, PortRange};
use crate::kernel;
use crate::site::{Site, Sockets};

use super::event::Event;

/// What a look needs to know.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) engines: Vec<Engine>,
    pub(super) unanswered: Vec<Unanswered>,
    pub(super) sockets: Sockets,
    /// Ports that were published before.
    pub(super) former: Vec<PortRange>,
}

/// The thread, as guard's loop sees it. One question at a time.
#[derive(Debug)]
pub(super) struct Look {
    questions: SyncSender<Question>,
    answers: Receiver<Result<Site, kernel::Error>>,
    bell: Arc<OwnedFd>,
}

impl Look {
    pub(super) fn open() -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (questions, asked) = sync_channel::<Question>(1);
        let (found, answers) = sync_channel(1);
        let ring = bell.clone();
        std::thread::Builder::new()
            .name("host".to_owned())
            .spawn(move || {
                for question in asked {
                    let Question {
                        engines,
                        unanswered,
                        sockets,
                        former,
                    } = question;
                    let site = Site::with(engines, unanswered, sockets, &former);
                    if found.send(site).is_err() {
                        return;
                    }
                    let _ = rustix::io::write(&ring, &1_u64.to_ne_bytes());
                }
            })?;
        Ok(Self {
            questions,
            answers,
            bell,
        })
    }

    /// Asks; the answer is an event. Nothing may be asked before that.
    pub(super) fn ask(&self, question: Question) {
        // A thread that panics ends the process.
        let _ = self.questions.send(question);
    }

    pub(super) fn drain(&self, events: &mut Vec<Event>) {
        // It only says that there is something.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        events.extend(self.answers.try_iter().map(Box::new).map(Event::Looked));
    }
}

impl AsFd for Look {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
