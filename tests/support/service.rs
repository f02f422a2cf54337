//! Servers that greet and echo, the same ones inside containers and outside.
//!
//! A stream server sends first, so that a probe can tell a real answer from a connection that
//! only docker-proxy has accepted. Both kinds return every byte, so that a test can hold a
//! conversation over hours of rule changes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Context, Result, bail};

/// What every stream server says first, followed by the two addresses it sees.
pub(crate) const GREETING: &str = "hello";

/// One server, bound and not yet serving.
enum Server {
    Stream(TcpListener),
    Datagram(UdpSocket),
}

/// Serves `tcp:PORT`, `tcp4:PORT` (IPv4 only) and `udp:PORT` until the process is killed.
pub(crate) fn serve_forever(specs: &[String]) -> Result<()> {
    let words: Vec<&str> = specs.iter().map(String::as_str).collect();
    spawn(&words)?;
    loop {
        thread::park();
    }
}

/// Binds all servers in the calling thread's namespace, then serves from threads of their own.
pub(crate) fn spawn(specs: &[&str]) -> Result<()> {
    let servers: Vec<Server> = specs.iter().map(|spec| bind(spec)).collect::<Result<_>>()?;
    for server in servers {
        thread::spawn(move || match server {
            Server::Stream(listener) => accept_all(&listener),
            Server::Datagram(socket) => return_all(&socket),
        });
    }
    Ok(())
}

fn bind(spec: &str) -> Result<Server> {
    let (protocol, port) = spec.split_once(':').context("expected tcp:PORT")?;
    let port: u16 = port.parse().with_context(|| format!("a port in {spec}"))?;
    // One socket for both families; the second address is for kernels without IPv6.
    let both = [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
    ];
    let bound = match protocol {
        "tcp" => TcpListener::bind(&both[..]).map(Server::Stream),
        "tcp4" => TcpListener::bind(both[1]).map(Server::Stream),
        "udp" => UdpSocket::bind(&both[..]).map(Server::Datagram),
        _ => bail!("{spec}: neither tcp nor udp"),
    };
    bound.with_context(|| format!("cannot serve {spec}"))
}

fn accept_all(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        // A client that goes away ends its own conversation and nothing else.
        thread::spawn(move || converse(stream));
    }
}

fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    stream.set_nodelay(true)?;
    stream.write_all(format!("{GREETING} from {local} to {peer}\n").as_bytes())?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn return_all(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        // An ICMP error of an earlier answer surfaces here; the next datagram is another matter.
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], peer);
        }
    }
}
