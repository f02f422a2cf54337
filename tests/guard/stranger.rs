//! An untrusted client that sends to a closed port continuously, and the number of packets that arrive.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::daemon::until;
use crate::namespace::Sandbox;

/// The destination port.
pub(crate) const PORT: u16 = 5353;
/// A policy that closes the port to the client.
pub(crate) const CLOSED: &str = "default: deny\nports: {5353/udp: [203.0.113.7]}\n";

/// A stranger beside a host.
pub(crate) struct Stranger {
    sandbox: Sandbox,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<Arrivals>,
    threads: Vec<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Arrivals {
    count: AtomicU64,
    /// The longest time from one arrival to a later one of the same gap, in microseconds.
    longest: AtomicU64,
    /// How often everything was forgotten.
    forgotten: AtomicU64,
    /// How often a count of what waits in the socket was requested, and the last request that was met.
    requested: AtomicU64,
    met: AtomicU64,
}

/// Arrivals that are further apart belong to different gaps.
const APART: Duration = Duration::from_millis(200);

impl Stranger {
    /// Connects the client with the host, and starts it.
    pub(crate) fn beside(host: &Sandbox) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let stranger = sandbox.namespace();
        host.namespace().ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}",
            stranger.path().display()
        ))?;
        for (namespace, address) in [
            (host.namespace(), "198.51.100.1/24"),
            (stranger, "198.51.100.66/24"),
        ] {
            namespace.ip(&format!("addr add {address} dev eth0"))?;
            namespace.ip("link set eth0 up")?;
        }
        let server = host.namespace().run(|| {
            let server = UdpSocket::bind(("198.51.100.1", PORT))?;
            server.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok(server)
        })?;
        let client = stranger.run(|| {
            let client = UdpSocket::bind("198.51.100.66:0")?;
            client.connect(("198.51.100.1", PORT))?;
            Ok(client)
        })?;
        let (stop, sent): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let arrived: Arc<Arrivals> = Arc::default();
        let threads = vec![
            {
                let (stop, sent) = (stop.clone(), sent.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // An ICMP error is reported with the next packet.
                        let _ = client.send(b"let me in");
                        sent.fetch_add(1, Ordering::Relaxed);
                        // Some ten thousand a second are enough, and leave the machine to others.
                        std::thread::sleep(Duration::from_micros(50));
                    }
                    Ok(())
                })
            },
            {
                let (stop, arrived) = (stop.clone(), arrived.clone());
                std::thread::spawn(move || receive(&server, &stop, &arrived))
            },
        ];
        Ok(Self {
            sandbox,
            stop,
            sent,
            arrived,
            threads,
        })
    }

    /// A socket at the stranger's address, at a port of its own.
    pub(crate) fn socket(&self) -> Result<UdpSocket> {
        self.sandbox
            .namespace()
            .run(|| Ok(UdpSocket::bind("198.51.100.66:0")?))
    }

    /// How many packets got through so far.
    pub(crate) fn arrived(&self) -> Result<u64> {
        self.read_all()?;
        Ok(self.arrived.count.load(Ordering::Relaxed))
    }

    /// Fails if any got through since they were forgotten.
    pub(crate) fn nothing_arrived(&self) -> Result<()> {
        let arrived = self.arrived()?;
        ensure!(arrived == 0, "{arrived} got through");
        Ok(())
    }

    /// Waits until the receiver has read what has arrived: on a busy machine it is behind.
    fn read_all(&self) -> Result<()> {
        let request = self.arrived.requested.fetch_add(1, Ordering::SeqCst) + 1;
        until("the receiver", || {
            let met = self.arrived.met.load(Ordering::SeqCst) >= request;
            (met || self.threads.iter().any(JoinHandle::is_finished)).then_some(())
        })
    }

    /// For how long at once they did.
    pub(crate) fn longest_gap(&self) -> Duration {
        Duration::from_micros(self.arrived.longest.load(Ordering::Relaxed))
    }

    /// Forgets all that got through so far.
    pub(crate) fn forget(&self) -> Result<()> {
        self.read_all()?;
        self.arrived.forgotten.fetch_add(1, Ordering::Relaxed);
        self.arrived.count.store(0, Ordering::Relaxed);
        self.arrived.longest.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until the client has sent some more packets.
    pub(crate) fn send_some(&self) -> Result<()> {
        let enough = self.sent.load(Ordering::Relaxed) + 100;
        until("packets", || {
            (self.sent.load(Ordering::Relaxed) >= enough).then_some(())
        })
    }

    /// Stops the client; returns the number of packets that it sent.
    pub(crate) fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok(self.sent.load(Ordering::Relaxed))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn receive(server: &UdpSocket, stop: &AtomicBool, arrived: &Arrivals) -> Result<()> {
    let mut gap: Option<(Instant, Instant, u64)> = None;
    while !stop.load(Ordering::Relaxed) {
        let request = arrived.requested.load(Ordering::SeqCst);
        let is_met = arrived.met.load(Ordering::SeqCst) >= request;
        server.set_nonblocking(!is_met)?;
        let Ok(_) = server.recv(&mut [0; 64]) else {
            // Nothing is left of what arrived before the request.
            if !is_met {
                arrived.met.store(request, Ordering::SeqCst);
            }
            continue;
        };
        let now = Instant::now();
        let forgotten = arrived.forgotten.load(Ordering::Relaxed);
        let first = match gap {
            Some((first, last, era)) if now - last < APART && era == forgotten => first,
            _ => now,
        };
        gap = Some((first, now, forgotten));
        let length = u64::try_from((now - first).as_micros()).context("too long")?;
        arrived.longest.fetch_max(length, Ordering::Relaxed);
        arrived.count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
