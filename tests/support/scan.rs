//! Scans ports: by SYNs from a raw socket, so that silence costs no time, and by datagrams.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recvfrom, sendto,
    socket_with,
};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::probe::{PATIENCE, SILENCE};

/// How many SYNs are sent before their answers are read.
const BATCH: usize = 256;
/// How many bytes of answers may wait to be read.
const WAITING: usize = 16 << 20;
/// How often a silent port is asked, as a SYN or its answer can be lost.
const ROUNDS: usize = 2;
/// How long to wait before whatever is missing is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// The sequence number of all SYNs; their answers acknowledge it.
const SEQUENCE: i32 = 0x0df0_0df0;
/// The source ports: the lab has no server there, and a kernel chooses none of them.
const FIRST_OWN: u16 = 20_000;
const OWN: u16 = 8_000;

/// A client's card.
const LINK: &str = "eth0";

/// A scan of one client, in one address family.
pub(crate) struct Scan<'a> {
    /// The client's own address.
    pub(crate) from: IpAddr,
    /// Each of these addresses is asked at each of these ports.
    pub(crate) addresses: &'a [IpAddr],
    pub(crate) ports: &'a [u16],
    /// Ports that must answer are asked again until they do or [`PATIENCE`] is over.
    pub(crate) expected: &'a BTreeSet<SocketAddr>,
}

impl Scan<'_> {
    fn targets(&self) -> impl Iterator<Item = SocketAddr> {
        let at = |address| {
            let ports = self.ports.iter();
            ports.map(move |port| SocketAddr::new(address, *port))
        };
        self.addresses.iter().copied().flat_map(at)
    }

    fn missing<'a>(&'a self, found: &'a BTreeSet<SocketAddr>) -> impl Iterator<Item = SocketAddr> {
        self.expected.difference(found).copied()
    }

    /// Returns the ports that answer a SYN with a SYN-ACK, asked from the calling thread's namespace.
    ///
    /// A reset is closed, and so is silence: the scan ends when `marker`, which must be an open port and is
    /// asked last, has answered in each round.
    pub(crate) fn tcp(&self, marker: SocketAddr) -> Result<BTreeSet<SocketAddr>> {
        let socket = Raw::open(self.from)?;
        let mut found = BTreeSet::new();
        let deadline = Instant::now() + PATIENCE;
        for round in 0.. {
            // A new source port, for which conntrack knows no connection.
            let own = own_port();
            let targets: Vec<SocketAddr> = if round < ROUNDS {
                self.targets().filter(|to| !found.contains(to)).collect()
            } else {
                self.missing(&found).collect()
            };
            for batch in targets.chunks(BATCH) {
                for to in batch {
                    socket.send(own, *to)?;
                }
                socket.answers(&mut found)?;
            }
            socket.wait_for(marker, &mut found)?;
            let is_complete = self.missing(&found).next().is_none();
            if round + 1 >= ROUNDS && (is_complete || Instant::now() > deadline) {
                break;
            }
            if round + 1 >= ROUNDS {
                socket.poll(PollFlags::IN, AGAIN)?;
            }
        }
        found.retain(|it| self.addresses.contains(&it.ip()) && self.ports.contains(&it.port()));
        Ok(found)
    }

    /// Returns the ports that return a datagram, from any source address.
    pub(crate) fn udp(&self) -> Result<BTreeSet<SocketAddr>> {
        let socket = UdpSocket::bind((self.from, 0))?;
        let link = name_to_index(&socket, LINK)?;
        let mut found = BTreeSet::new();
        let (begin, mut buffer) = (Instant::now(), [0; 128]);
        loop {
            let is_early = begin.elapsed() < SILENCE;
            for to in self.targets().filter(|to| !found.contains(to)) {
                if is_early || self.expected.contains(&to) {
                    // Without a route there is no answer.
                    let _ = socket.send_to(to.to_string().as_bytes(), on(to, link));
                }
            }
            let again = Instant::now() + AGAIN;
            while let Some(left) = again.checked_duration_since(Instant::now()) {
                socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
                if let Ok((length, _)) = socket.recv_from(&mut buffer) {
                    let text = std::str::from_utf8(&buffer[..length])?;
                    found.insert(text.parse().context("no echo of a scan")?);
                }
            }
            let is_complete = self.missing(&found).next().is_none();
            let elapsed = begin.elapsed();
            if elapsed > PATIENCE || is_complete && elapsed > SILENCE {
                return Ok(found);
            }
        }
    }
}

/// Where to send for an address: those of a link are meant on this one.
fn on(to: SocketAddr, link: u32) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(_) => to,
        IpAddr::V6(address) => SocketAddrV6::new(address, to.port(), 0, link).into(),
    }
}

fn own_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    FIRST_OWN + NEXT.fetch_add(1, Ordering::Relaxed) % OWN
}

/// A raw socket for TCP segments. The kernel has no socket for these connections and resets them when they are
/// answered.
struct Raw {
    socket: OwnedFd,
    from: IpAddr,
    link: u32,
}

impl Raw {
    fn open(from: IpAddr) -> Result<Self> {
        let family = match from {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::RAW, flags, Some(ipproto::TCP))?;
        set_socket_recv_buffer_size_force(&socket, WAITING)?;
        rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
        let link = name_to_index(&socket, LINK)?;
        Ok(Self { socket, from, link })
    }

    fn send(&self, own: u16, to: SocketAddr) -> Result<()> {
        let syn = TcpRepr {
            src_port: own,
            dst_port: to.port(),
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(SEQUENCE),
            ack_number: None,
            window_len: 1024,
            window_scale: None,
            max_seg_size: Some(1200),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let mut bytes = vec![0; syn.buffer_len()];
        syn.emit(
            &mut TcpPacket::new_unchecked(&mut bytes),
            &self.from.into(),
            &to.ip().into(),
            &ChecksumCapabilities::default(),
        );
        loop {
            // A raw socket of IPv6 takes the protocol for a port, and no other.
            match sendto(
                &self.socket,
                &bytes,
                SendFlags::empty(),
                &on(SocketAddr::new(to.ip(), 0), self.link),
            ) {
                Err(Errno::AGAIN | Errno::NOBUFS) => self.poll(PollFlags::OUT, AGAIN)?,
                // Without a route there is no answer.
                Ok(_) | Err(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::INVAL) => return Ok(()),
                Err(error) => return Err(error).with_context(|| format!("a SYN to {to}")),
            }
        }
    }

    fn poll(&self, what: PollFlags, limit: Duration) -> Result<()> {
        let mut polled = [PollFd::new(&self.socket, what)];
        let limit = Timespec::try_from(limit)?;
        match poll(&mut polled, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the waiting segments, adds the senders of SYN-ACKs to `found`, and returns the source ports that
    /// these answer.
    fn answers(&self, found: &mut BTreeSet<SocketAddr>) -> Result<BTreeSet<u16>> {
        let (mut buffer, mut own) = ([0; 512], BTreeSet::new());
        loop {
            let (bytes, from) = match recvfrom(self.socket.as_fd(), &mut buffer, RecvFlags::empty())
            {
                Ok((length, _, Some(from))) => (&buffer[..length], SocketAddr::try_from(from)?),
                Ok(_) | Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(own),
                Err(error) => return Err(error.into()),
            };
            // IPv4's header comes with it, and IPv6's does not.
            let header = match from {
                SocketAddr::V4(_) => usize::from(bytes.first().copied().unwrap_or(0) & 15) * 4,
                SocketAddr::V6(_) => 0,
            };
            let segment = bytes.get(header..).unwrap_or_default();
            let Ok(segment) = TcpPacket::new_checked(segment) else {
                continue;
            };
            if segment.syn() && segment.ack() && segment.ack_number() == TcpSeqNumber(SEQUENCE) + 1
            {
                found.insert(SocketAddr::new(from.ip(), segment.src_port()));
                own.insert(segment.dst_port());
            }
        }
    }

    /// Asks an open port until it answers.
    fn wait_for(&self, marker: SocketAddr, found: &mut BTreeSet<SocketAddr>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let (own, again) = (own_port(), Instant::now() + AGAIN);
            self.send(own, marker)?;
            while let Some(left) = again.checked_duration_since(Instant::now()) {
                self.poll(PollFlags::IN, left)?;
                if self.answers(found)?.contains(&own) {
                    return Ok(());
                }
            }
        }
        bail!("{marker} does not answer")
    }
}
