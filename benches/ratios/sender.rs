//! A thread that sends whole packets, of whatever source, and what each costs.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// A measurement ends after this many packets.
const MOST: usize = 100_000;
/// How many packets there are between two looks at the clock.
const CHUNK: usize = 500;
/// How many packets of a flood are sent at once.
const BURST: usize = 50;

/// How long a turn is, in nanoseconds.
const TURN: f64 = 1e6;
/// How many packets of a turn there are between two looks at the clock.
const FEW: usize = 20;

/// A raw socket to one address.
pub(crate) struct Sender {
    socket: OwnedFd,
    /// `schedstat` of the kernel's thread for interrupts of the first processor, where it can be seen.
    softirqs: Option<File>,
}

impl Sender {
    pub(crate) fn open(to: Ipv4Addr) -> Result<Self> {
        let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, Some(ipproto::RAW))?;
        rustix::net::connect(&socket, &SocketAddr::from((to, 0)))?;
        let softirqs = softirqs();
        Ok(Self { socket, softirqs })
    }

    pub(crate) fn send(&self, packet: &[u8]) -> Result<()> {
        rustix::net::send(&self.socket, packet, rustix::net::SendFlags::empty())?;
        Ok(())
    }

    /// Returns the nanoseconds of this thread for each packet, measured for `enough` milliseconds at most.
    pub(crate) fn price<P: AsRef<[u8]>>(
        &self,
        enough: f64,
        mut packet: impl FnMut(usize) -> P,
    ) -> Result<f64> {
        let start = thread_time();
        let mut sent = 0;
        while sent < MOST && thread_time() - start < enough * 1e6 {
            for _ in 0..CHUNK {
                self.send(packet(sent).as_ref())?;
                sent += 1;
            }
        }
        ensure!(sent > 0, "nothing was sent");
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        Ok((thread_time() - start) / sent as f64)
    }

    /// Sends packets for a millisecond of this thread; returns the nanoseconds for each.
    ///
    /// The kernel may leave the rest of a packet's way to its own thread for that, whose time counts, too.
    pub(crate) fn turn<P: AsRef<[u8]>>(&self, mut packet: impl FnMut(usize) -> P) -> Result<f64> {
        let left = || self.softirqs.as_ref().map_or(0.0, run_time);
        let (left_before, start) = (left(), thread_time());
        let mut sent = 0;
        while thread_time() - start < TURN {
            for _ in 0..FEW {
                self.send(packet(sent).as_ref())?;
                sent += 1;
            }
        }
        let own = thread_time() - start;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        Ok((own + left() - left_before) / sent as f64)
    }

    /// Sends so many packets in a second until a time; returns how many there were.
    pub(crate) fn flood<P: AsRef<[u8]>>(
        &self,
        rate: usize,
        until: Instant,
        mut packet: impl FnMut(usize) -> P,
    ) -> Result<usize> {
        let start = Instant::now();
        let mut sent = 0;
        while Instant::now() < until {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "far below 2^52, and positive"
            )]
            let due = (start.elapsed().as_secs_f64() * rate as f64) as usize;
            if sent >= due {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            // A host that cannot follow gets no more at once for that.
            for _ in 0..BURST {
                self.send(packet(sent).as_ref())?;
                sent += 1;
            }
        }
        Ok(sent)
    }
}

/// Keeps this thread on one processor.
pub(crate) fn stay_on_one_processor() -> Result<()> {
    let mut set = CpuSet::new();
    set.set(0);
    Ok(sched_setaffinity(None, &set)?)
}

/// The processor time of this thread in nanoseconds.
fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let nanoseconds = (time.tv_sec * 1_000_000_000 + time.tv_nsec) as f64;
    nanoseconds
}

/// `/proc/PID/schedstat` of `ksoftirqd/0`.
fn softirqs() -> Option<File> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let mut processes = processes.flatten().map(|entry| entry.path());
    let thread = processes.find(|process| {
        let name = std::fs::read(process.join("comm"));
        name.is_ok_and(|name| name == b"ksoftirqd/0\n")
    })?;
    File::open(thread.join("schedstat")).ok()
}

/// The nanoseconds that a task has run, from its `schedstat` (kernel's Documentation/scheduler/sched-stats.rst).
fn run_time(schedstat: &File) -> f64 {
    let mut text = [0; 64];
    let read = schedstat.read_at(&mut text, 0).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[..read]);
    let first = text.split_whitespace().next();
    first
        .and_then(|first| first.parse().ok())
        .unwrap_or_default()
}
