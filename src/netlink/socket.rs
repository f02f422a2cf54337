//! The netlink socket: the only one of dfw, with one of its two pieces of `unsafe`; the other is
//! the fork of `dfw apply --confirm`.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt,
};

/// Enough for any single answer: the kernel fills at most 32 KiB of a dump at once, and an error
/// does not repeat the message that caused it (`NETLINK_CAP_ACK`).
const RECEIVE: usize = 64 * 1024;
/// The receive buffer: room for the errors of a batch of which every message fails.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// `SOL_NETLINK` and its options, of `linux/netlink.h`.
const SOL_NETLINK: i32 = 270;
const NETLINK_ADD_MEMBERSHIP: i32 = 1;
const NETLINK_CAP_ACK: i32 = 10;
const NETLINK_EXT_ACK: i32 = 11;

/// A netlink socket that exchanges messages with the kernel only.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    /// The size of the send buffer, in bytes.
    room: Cell<usize>,
    /// Kept from one answer to the next.
    buffer: RefCell<Vec<u8>>,
}

impl Socket {
    /// Opens a socket for netfilter.
    ///
    /// # Errors
    /// As `socket(2)`; `EPROTONOSUPPORT` if the kernel has no nfnetlink.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(netlink::NETFILTER)
    }

    /// Opens a socket that is notified of every ruleset change (`NFNLGRP_NFTABLES`). It slows down
    /// large transactions of every process.
    ///
    /// # Errors
    /// As [`netfilter`](Self::netfilter).
    pub fn netfilter_notices() -> io::Result<Self> {
        /// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`.
        const NFTABLES: u32 = 7;
        let socket = Self::netfilter()?;
        socket.join(NFTABLES)?;
        Ok(socket)
    }

    /// Opens a socket that is notified of every change of links and addresses.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn route_notices() -> io::Result<Self> {
        /// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
        const LINKS: [u32; 3] = [1, 5, 9];
        let socket = Self::route()?;
        for group in LINKS {
            socket.join(group)?;
        }
        Ok(socket)
    }

    /// Opens a socket for links.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// Opens a socket for questions about sockets.
    ///
    /// # Errors
    /// As `socket(2)`; `EPROTONOSUPPORT` if the kernel has no sock_diag.
    pub fn sock_diag() -> io::Result<Self> {
        Self::open(netlink::SOCK_DIAG)
    }

    fn open(protocol: impl Into<Option<Protocol>>) -> io::Result<Self> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol.into(),
        )?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        set_option(&fd, NETLINK_EXT_ACK, 1)?;
        set_option(&fd, NETLINK_CAP_ACK, 1)?;
        // Without `CAP_NET_ADMIN` the default size remains.
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER);
        // The kernel counts its own overhead too, and so doubles what it is asked for.
        let room = Cell::new(sockopt::socket_send_buffer_size(&fd)? / 2);
        let buffer = RefCell::default();
        Ok(Self { fd, room, buffer })
    }

    /// Receives what is sent to a multicast group, from now on.
    ///
    /// # Errors
    /// As `setsockopt(2)`; `EPERM` without `CAP_NET_ADMIN`.
    pub fn join(&self, group: u32) -> io::Result<()> {
        set_option(&self.fd, NETLINK_ADD_MEMBERSHIP, group.cast_signed())
    }

    /// Returns the socket's own address, which no other netlink socket of the same protocol and
    /// network namespace has.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn port(&self) -> io::Result<u32> {
        let address = SocketAddrNetlink::try_from(rustix::net::getsockname(&self.fd)?)?;
        Ok(address.pid())
    }

    /// Returns the name of an interface of the socket's network namespace; `None` if it is gone.
    #[must_use]
    pub fn interface(&self, index: u32) -> Option<String> {
        rustix::net::netdevice::index_to_name(&self.fd, index).ok()
    }

    /// Sends a batch in one message; the kernel processes it before the call returns.
    ///
    /// # Errors
    /// As `sendto(2)`; `EMSGSIZE` if the socket may not hold that much, which needs
    /// `CAP_NET_ADMIN` in the first user namespace or a greater `net.core.wmem_max`.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.room.get() {
            let _ = sockopt::set_socket_send_buffer_size_force(&self.fd, bytes.len())
                .or_else(|_| sockopt::set_socket_send_buffer_size(&self.fd, bytes.len()));
            self.room
                .set(sockopt::socket_send_buffer_size(&self.fd)? / 2);
        }
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent = retry(|| rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &kernel))?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Takes the buffer for [`receive`](Self::receive) out of the socket; the caller gives it back.
    pub(crate) fn take_buffer(&self) -> Vec<u8> {
        self.buffer.take()
    }

    /// Takes the buffer back.
    pub(crate) fn keep_buffer(&self, buffer: Vec<u8>) {
        self.buffer.replace(buffer);
    }

    /// Receives one datagram; `None` if none is queued and `wait` is false.
    ///
    /// # Errors
    /// As `recv(2)`; `ENOBUFS` if answers were lost.
    pub fn receive(&self, buffer: &mut Vec<u8>, wait: bool) -> io::Result<Option<usize>> {
        buffer.clear();
        buffer.reserve_exact(RECEIVE);
        let flags = if wait {
            RecvFlags::TRUNC
        } else {
            RecvFlags::TRUNC | RecvFlags::DONTWAIT
        };
        match retry(|| rustix::net::recv(&self.fd, spare_capacity(buffer), flags)) {
            Ok((received, length)) if length > received => Err(io::Error::from(Errno::MSGSIZE)),
            Ok((_, length)) => Ok(Some(length)),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

#[expect(unsafe_code, reason = "rustix has no options of netlink sockets")]
fn set_option(fd: impl AsFd, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the kernel reads four bytes from `value`.
    let done = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            SOL_NETLINK,
            option,
            std::ptr::from_ref(&value).cast(),
            4,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
