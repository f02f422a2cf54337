//! Signals, as bytes in pipes.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::process::Signal;
use signal_hook::low_level::pipe;

use super::event::Event;
use super::feed::{Feed, Polled, readable};

/// One pipe for each signal, since a byte does not identify the signal.
#[derive(Debug)]
pub(in crate::guard) struct Signals {
    reload: UnixStream,
    stop: UnixStream,
}

impl Signals {
    pub(in crate::guard) fn open() -> io::Result<Self> {
        Ok(Self {
            reload: pipe_of(&[Signal::HUP])?,
            stop: pipe_of(&[Signal::TERM, Signal::INT])?,
        })
    }
}

impl Feed for Signals {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        readable([&self.reload, &self.stop])
    }

    fn drain(&mut self, _: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        for (pipe, event) in [
            (&mut self.reload, Event::Reload),
            (&mut self.stop, Event::Stop),
        ] {
            let mut bytes = [0; 64];
            let mut any = false;
            while matches!(pipe.read(&mut bytes), Ok(1..)) {
                any = true;
            }
            events.extend(any.then_some(event));
        }
        Ok(())
    }
}

fn pipe_of(signals: &[Signal]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(signal.as_raw(), write.try_clone()?)?;
    }
    Ok(read)
}
