//! The transport of an engine's API: a Unix or TCP socket, one connection a request, and a limit of the bytes
//! read.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bollard::errors::Error as ApiError;
use bollard::{BollardRequest, ClientVersion, Docker};
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The longest answer to one request, in bytes. A list of ten thousand containers takes some 20 MiB. An event
/// stream ends there and is requested again.
const LONGEST: u64 = 64 << 20;
/// The same for all concurrent answers.
const ALL: u64 = 256 << 20;
/// The time limit until an answer begins, in seconds.
const PATIENCE: u64 = 5;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Path(PathBuf),
    /// Host and port.
    Tcp(String),
}

/// An engine's API at a socket.
pub(super) struct Transport {
    place: Place,
    /// The process that listens, 0 if unknown.
    peer: Arc<AtomicU32>,
    /// The bytes that it may send until [`renew`](Self::renew).
    left: Arc<AtomicU64>,
}

impl Transport {
    pub(super) fn new(address: &str) -> Self {
        let tcp = ["tcp://", "http://"].iter();
        let mut tcp = tcp.filter_map(|scheme| address.strip_prefix(scheme));
        Self {
            place: match tcp.next() {
                Some(host) => Place::Tcp(host.trim_end_matches('/').to_owned()),
                None => Place::Path(path(address).to_owned()),
            },
            peer: Arc::default(),
            left: Arc::new(AtomicU64::new(ALL)),
        }
    }

    /// Resets the limit for the next requests.
    pub(super) fn renew(&self) {
        self.left.store(ALL, Ordering::Relaxed);
    }

    /// Returns a client of this version of the API.
    pub(super) fn client(&self, version: &ClientVersion) -> Result<Docker, ApiError> {
        let (place, peer, left) = (self.place.clone(), self.peer.clone(), self.left.clone());
        let transport = move |request| ask(place.clone(), peer.clone(), left.clone(), request);
        Docker::connect_with_custom_transport(transport, Some("http://engine"), PATIENCE, version)
    }

    /// Returns the process that listens on the socket, after the first request: the caller of
    /// `listen(2)`, which is systemd for socket activation.
    pub(super) fn peer(&self) -> Option<u32> {
        Some(self.peer.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }
}

/// Returns the path of a socket's address; for TCP, a text that is not a path.
pub(super) fn path(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}

async fn ask(
    place: Place,
    peer: Arc<AtomicU32>,
    all: Arc<AtomicU64>,
    request: BollardRequest,
) -> Result<Response<Incoming>, ApiError> {
    match place {
        Place::Path(path) => {
            let stream = UnixStream::connect(path).await?;
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            let pid = pid.and_then(|pid| u32::try_from(pid).ok());
            peer.store(pid.unwrap_or_default(), Ordering::Relaxed);
            send(stream, "localhost", all, request).await
        }
        Place::Tcp(host) => send(TcpStream::connect(&host).await?, &host, all, request).await,
    }
}

async fn send<S>(
    stream: S,
    host: &str,
    all: Arc<AtomicU64>,
    mut request: BollardRequest,
) -> Result<Response<Incoming>, ApiError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // Origin form: the path, with the authority in the `Host` header (RFC 9112, 3.2.1).
    if let Some(path) = request.uri().path_and_query() {
        *request.uri_mut() = path.clone().into();
    }
    let host = HeaderValue::from_str(host).map_err(io::Error::other)?;
    request.headers_mut().insert(HOST, host);
    let bounded = Bounded {
        stream,
        left: LONGEST,
        all,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(bounded)).await?;
    // It ends with the answer.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// A stream that fails after a limit of bytes.
struct Bounded<S> {
    stream: S,
    left: u64,
    all: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        let too_long = |what: &str, most: u64| {
            io::Error::other(format!("{what} longer than {} MiB", most >> 20))
        };
        let left = self.left.checked_sub(read);
        self.left = left.ok_or_else(|| too_long("its answer is", LONGEST))?;
        let take = |left: u64| left.checked_sub(read);
        self.all
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map_err(|_| too_long("its answers are", ALL))?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
