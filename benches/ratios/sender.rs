//! A thread that sends whole packets, of whatever source, and what each costs.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
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

/// A raw socket to one address.
pub(crate) struct Sender(OwnedFd);

impl Sender {
    pub(crate) fn open(to: Ipv4Addr) -> Result<Self> {
        let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, Some(ipproto::RAW))?;
        rustix::net::connect(&socket, &SocketAddr::from((to, 0)))?;
        Ok(Self(socket))
    }

    pub(crate) fn send(&self, packet: &[u8]) -> Result<()> {
        rustix::net::send(&self.0, packet, rustix::net::SendFlags::empty())?;
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
