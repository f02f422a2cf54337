//! Waits for input until a timeout or a signal, and formats packet headers.

use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::kernel;
use crate::netlink::header::Headers;
use crate::ruleset::L4Protocol;

/// Ctrl-C, hang-up, and what `kill` and systemd send.
const ENDS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// A wait with a deadline that signals end, too.
#[derive(Debug)]
pub(super) struct Watch {
    end: Option<Instant>,
    /// Becomes readable at a signal that ends the program.
    stop: UnixStream,
}

/// Reasons why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// Input is ready.
    Ready,
    /// No input came within the idle time.
    Idle,
    /// The deadline passed, or a signal came.
    Over,
}

impl Watch {
    /// Starts the watch: from now on SIGINT, SIGTERM and SIGHUP end it instead of the program.
    pub(super) fn new(time: Option<Duration>) -> Result<Self, kernel::Error> {
        let (stop, signalled) = UnixStream::pair()?;
        stop.set_nonblocking(true)?;
        for signal in ENDS {
            pipe::register(signal, signalled.try_clone()?)?;
        }
        Ok(Self {
            end: time.and_then(|time| Instant::now().checked_add(time)),
            stop,
        })
    }

    /// Waits for input, but no longer than `idle`.
    pub(super) fn wait(
        &self,
        source: impl AsFd,
        idle: Option<Duration>,
    ) -> Result<Wake, kernel::Error> {
        let left = self
            .end
            .map(|end| end.saturating_duration_since(Instant::now()));
        let time = left.into_iter().chain(idle).min();
        let timeout = time.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut fds = [
            PollFd::new(&source, PollFlags::IN),
            PollFd::new(&self.stop, PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let ready = !fds[0].revents().is_empty();
        let stopped = matches!((&self.stop).read(&mut [0; 8]), Ok(1..));
        let over = self.end.is_some_and(|end| Instant::now() >= end);
        Ok(match (stopped || over, ready) {
            (true, _) => Wake::Over,
            (false, true) => Wake::Ready,
            (false, false) => Wake::Idle,
        })
    }
}

/// Parses a time such as `30s`, `5m` or `1h`, from a second to a day.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_hours(24);
    let invalid = || "expected a time such as 30s, 5m or 1h".to_owned();
    let signed: SignedDuration = text.parse().map_err(|_| invalid())?;
    let time = Duration::try_from(signed).map_err(|_| invalid())?;
    if (Duration::from_secs(1)..=DAY).contains(&time) {
        Ok(time)
    } else {
        Err("must be between 1s and 24h".to_owned())
    }
}

/// Formats an address, with its port if there is one.
pub(super) fn endpoint(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port}"),
        (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port}"),
    }
}

/// Returns the name of an IP protocol, or `protocol NUMBER`.
pub(super) fn protocol(number: u8) -> String {
    L4Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.number() == number)
        .map_or_else(|| format!("protocol {number}"), |p| p.name().to_owned())
}

/// Returns the names of the SYN, ACK, FIN and RST flags that are set.
pub(super) fn tcp_flags(flags: u8) -> Vec<&'static str> {
    [(0x02, "syn"), (0x10, "ack"), (0x01, "fin"), (0x04, "rst")]
        .into_iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, name)| name)
        .collect()
}

/// Returns source, destination and protocol as JSON; `null` if the headers could not be read.
pub(super) fn headers(headers: Option<&Headers>) -> Value {
    let end = |address: IpAddr, port: Option<u16>| json!({"address": address, "port": port});
    headers.map_or(Value::Null, |headers| {
        json!({
            "source": end(headers.source, headers.ports.map(|ports| ports.0)),
            "destination": end(headers.destination, headers.ports.map(|ports| ports.1)),
            "protocol": protocol(headers.protocol),
            "tcp_flags": headers.tcp_flags.map(tcp_flags),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bounded_and_have_units() {
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("5m"), Ok(Duration::from_mins(5)));
        for wrong in ["30", "0s", "-5s", "2d", "25h", "", "soon"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
