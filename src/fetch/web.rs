//! Lists that servers have.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error, Proxy, ResponseExt};

use crate::file::{self, Accept, Limit};
use crate::net::AddressSet;
use crate::policy::{Format, parse_list};
use crate::untrusted::clean_to;

use super::cache::{REASON, TAG, Version};
use super::names::Names;

/// Where distributions keep the certificates that they trust; `SSL_CERT_FILE` names another file.
const CERTIFICATES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// How many bytes such a file has at most; those of distributions have less than 1 MiB.
const PEM: u64 = 16 << 20;
/// How long a list may take, from the first question to its last byte.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long a probe may take, each of its connections.
const SOON: Duration = Duration::from_secs(5);
/// How long a connection and the head of an answer may take each.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// How many bytes of a list a server sends at least in so much time, unless the list is at its end.
const RATE: (usize, Duration) = (10 << 10, Duration::from_secs(10));
/// How many redirects are followed.
const REDIRECTS: u32 = 5;
/// How many bytes the head of an answer has at most.
const HEAD: usize = 64 << 10;
/// How many bytes a list has at most: two million entries, and a bound of the memory.
const BODY: u64 = 32 << 20;

/// What was fetched.
pub(super) enum Answer {
    /// The server has no other list than before.
    Same,
    /// A list, and which version of it.
    List(AddressSet, Option<Version>),
    /// The addresses of a name, and for how long they are used.
    Addresses(AddressSet, Duration),
}

/// Why something was not fetched, and when it may be tried again, if the server says so.
#[derive(Debug)]
pub(super) struct NotFetched {
    pub(super) reason: String,
    pub(super) wait: Option<Duration>,
    /// Whether something came from the server.
    pub(super) answered: bool,
}

impl NotFetched {
    /// Makes it of what came from the server.
    pub(super) fn answered(reason: String) -> Self {
        Self {
            answered: true,
            ..reason.into()
        }
    }
}

impl From<String> for NotFetched {
    /// Cleans and cuts the reason: parts of it come from servers.
    fn from(reason: String) -> Self {
        Self {
            reason: clean_to(&reason, REASON),
            wait: None,
            answered: false,
        }
    }
}

impl From<&str> for NotFetched {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// What is needed to ask servers.
pub(super) struct Web {
    names: Names,
    roots: Vec<Certificate<'static>>,
    proxy: Option<Proxy>,
}

impl Web {
    /// Reads certificates, and the proxy of the environment.
    pub(super) fn new(names: &Names) -> Self {
        let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let pem = pem(given.into_iter().chain(CERTIFICATES.map(PathBuf::from)));
        let items = parse_pem(&pem).filter_map(Result::ok);
        let roots = items.filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        });
        Self {
            names: names.clone(),
            roots: roots.collect(),
            proxy: Proxy::try_from_env(),
        }
    }

    /// Reads the resolvers, certificates and proxy of this host.
    pub(super) fn of_host() -> Result<Self, NotFetched> {
        Ok(Self::new(&Names::new()?))
    }

    /// Fetches a file of at most so many bytes by a new connection, without redirects.
    pub(super) fn get(&self, url: &str, limit: u64) -> Result<Vec<u8>, NotFetched> {
        // A server is not slower than this for long.
        let patience = PATIENCE + Duration::from_secs(limit >> 16);
        self.get_within(url, limit, patience)
    }

    /// Does the same within seconds.
    pub(super) fn get_soon(&self, url: &str, limit: u64) -> Result<Vec<u8>, NotFetched> {
        self.get_within(url, limit, SOON)
    }

    fn get_within(&self, url: &str, limit: u64, patience: Duration) -> Result<Vec<u8>, NotFetched> {
        let agent = self.agent(true, 0, patience);
        let response = agent.get(url).call();
        let mut response = response.map_err(|error| NotFetched {
            answered: is_answer(&error),
            ..reason(&error).into()
        })?;
        let status = response.status().as_u16();
        if status != 200 {
            let after = response.headers().get("Retry-After");
            let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
            return Err(NotFetched {
                reason: format!("the server answers {status} for {url}"),
                wait: after.map(Duration::from_secs),
                answered: true,
            });
        }
        let body = response
            .body_mut()
            .with_config()
            .limit(limit.saturating_add(1));
        let bytes = read_to_end(body.reader(), Instant::now);
        let bytes = bytes.map_err(|reason| NotFetched::answered(format!("{url}: {reason}")))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
            Ok(bytes)
        } else {
            let reason = format!("{url} has more than {limit} bytes");
            Err(NotFetched::answered(reason))
        }
    }

    /// Returns an agent for one request: nothing is kept for another one.
    fn agent(&self, allow_private: bool, redirects: u32, patience: Duration) -> Agent {
        let config = Config::builder()
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(redirects)
            .max_redirects_will_error(redirects > 0)
            .save_redirect_history(true)
            .max_response_header_size(HEAD)
            .max_idle_connections(0)
            .timeout_global(Some(patience))
            .timeout_connect(Some(HEAD_PATIENCE.min(patience)))
            .timeout_recv_response(Some(HEAD_PATIENCE.min(patience)))
            .timeout_per_read(Some(HEAD_PATIENCE.min(patience)))
            .accept_encoding("identity")
            .user_agent(concat!("dfw/", env!("CARGO_PKG_VERSION")))
            .proxy(self.proxy.clone())
            .tls_config(self.tls())
            .build();
        Agent::with_parts(
            config,
            DefaultConnector::default(),
            self.checked(allow_private),
        )
    }

    fn checked(&self, allow_private: bool) -> Checked {
        Checked {
            names: self.names.clone(),
            allow_private,
            proxy: self.proxy.as_ref().map(|proxy| proxy.host().to_owned()),
        }
    }

    /// Returns the addresses that a connection for this URL goes to, those of the proxy if there is one; none if they
    /// cannot be found out.
    pub(super) fn servers(&self, url: &str) -> Vec<SocketAddr> {
        let Ok(uri) = url.parse::<Uri>() else {
            return Vec::new();
        };
        let proxy = self.proxy.as_ref().filter(|proxy| !proxy.is_no_proxy(&uri));
        let uri = proxy.map_or(&uri, Proxy::uri);
        let resolved = self.checked(true).addresses(uri);
        resolved.map_or_else(|_| Vec::new(), |addresses| addresses.to_vec())
    }

    /// Fetches a list, if it is another version than the one that is there.
    pub(super) fn list(
        &self,
        url: &str,
        format: &Format,
        allow_private: bool,
        version: Option<&Version>,
    ) -> Result<Answer, String> {
        let agent = self.agent(allow_private, REDIRECTS, PATIENCE);
        let mut request = agent.get(url);
        if let Some(Version { etag, modified }) = version {
            if let Some(etag) = etag {
                request = request.header("If-None-Match", etag);
            }
            if let Some(modified) = modified {
                request = request.header("If-Modified-Since", modified);
            }
        }
        let mut response = request.call().map_err(|error| reason(&error))?;
        let history = response.get_redirect_history().unwrap_or_default();
        if let Some(other) = history.iter().find(|uri| uri.scheme_str() != Some("https")) {
            let reason = format!("it leads to {other}, which is not `https://`");
            return Err(clean_to(&reason, REASON));
        }
        match response.status().as_u16() {
            200 => {}
            304 if version.is_some() => return Ok(Answer::Same),
            other => return Err(format!("the server answers {other}")),
        }
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            (value.len() <= TAG).then(|| value.to_owned())
        };
        let version = Version {
            etag: header("ETag"),
            modified: header("Last-Modified"),
        };
        let version = (version != Version::default()).then_some(version);
        let body = response.body_mut().with_config().limit(BODY);
        let bytes = read_to_end(body.reader(), Instant::now)?;
        let list = parse_list(bytes, format)?;
        if list.is_empty() {
            return Err("the list has no address".to_owned());
        }
        Ok(Answer::List(list, version))
    }

    fn tls(&self) -> TlsConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&self.roots))
            .unversioned_rustls_crypto_provider(provider)
            .build()
    }
}

/// Reads the first of these files that can be read; nothing if none can.
fn pem(mut files: impl Iterator<Item = PathBuf>) -> Vec<u8> {
    let read = |path: PathBuf| file::read(&path, Accept::Regular, Limit::of(PEM)).ok();
    files.find_map(read).unwrap_or_default()
}

/// Reads all that a server sends, if it does not send it too slowly: a byte now and then would keep the fetcher from
/// all other lists.
fn read_to_end(mut body: impl Read, now: impl Fn() -> Instant) -> Result<Vec<u8>, String> {
    let (least, window) = RATE;
    let (mut bytes, mut part) = (Vec::new(), vec![0; 64 << 10]);
    let (mut began, mut before) = (now(), 0);
    loop {
        match body.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend(part.iter().take(length)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(reason(&Error::from(error))),
        }
        if now().duration_since(began) >= window {
            if bytes.len() - before < least {
                let (kib, seconds) = (least >> 10, window.as_secs());
                return Err(format!(
                    "the server is too slow: less than {kib} KiB in {seconds} s"
                ));
            }
            (began, before) = (now(), bytes.len());
        }
    }
}

/// Returns the text of an error, cleaned and cut: a server chooses where it leads to, for example.
fn reason(error: &Error) -> String {
    let reason = match error {
        Error::Other(error) => error.to_string(),
        error => error.to_string(),
    };
    clean_to(&reason, REASON)
}

/// Returns whether something came from the server, so that it is there, and packets pass.
fn is_answer(error: &Error) -> bool {
    match error {
        Error::Io(error) => is_refusal(error.kind()),
        Error::Http(_)
        | Error::Protocol(_)
        | Error::Tls(_)
        | Error::Rustls(_)
        | Error::LargeResponseHeader(..)
        | Error::ConnectProxyFailed(_) => true,
        _ => false,
    }
}

/// Returns whether an error of a connection is one that the other end has caused.
fn is_refusal(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            // TLS that fails.
            | io::ErrorKind::InvalidData
    )
}

/// Resolves servers once, and connects to no other address than the one that was checked.
#[derive(Debug)]
struct Checked {
    names: Names,
    allow_private: bool,
    /// The proxy that the environment names: it may have a private address.
    proxy: Option<String>,
}

impl Resolver for Checked {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.addresses(uri)
    }
}

impl Checked {
    fn addresses(&self, uri: &Uri) -> Result<ResolvedSocketAddrs, Error> {
        let other = |text: String| Error::Other(text.into());
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let is_proxy = self.proxy.as_deref() == Some(host);
        if !is_proxy && uri.scheme_str() != Some("https") {
            return Err(other(format!("it leads to {uri}, which is not `https://`")));
        }
        let usual = if uri.scheme_str() == Some("http") {
            80
        } else {
            443
        };
        let port = uri.port_u16().unwrap_or(usual);
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = match literal.parse() {
            Ok(address) => vec![address],
            Err(_) => self.names.addresses(host).map_err(other)?.0,
        };
        let mut resolved = self.empty();
        // As many as there is room for.
        for address in addresses.into_iter().take(16) {
            if !is_proxy && !self.allow_private && !is_public(address) {
                return Err(other(format!(
                    "{host} has the private address {address}; `allow-private: true` allows that"
                )));
            }
            resolved.push(SocketAddr::new(address, port));
        }
        Ok(resolved)
    }
}

/// Whether an address is one of the internet, and not of this host or a network around it.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4() {
            // `::1` and `::` are among these.
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let shared = first == 100 && (64..128).contains(&second);
    let benchmark = first == 198 && (18..20).contains(&second);
    !(first == 0
        || first >= 224
        || shared
        || benchmark
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Addresses that stand for IPv4 ones: NAT64 and 6to4.
    let translated = (first == 0x64 && second == 0xff9b) || first == 0x2002;
    first & 0xe000 == 0x2000 && !translated
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    /// A server that sends so many bytes a second, and how much time has passed.
    struct Slow<'a> {
        rate: usize,
        left: usize,
        passed: &'a Cell<Duration>,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.passed.set(self.passed.get() + Duration::from_secs(1));
            let length = self.rate.min(self.left).min(bytes.len());
            self.left -= length;
            Ok(length)
        }
    }

    #[test]
    fn a_server_that_sends_a_byte_now_and_then_is_given_up() {
        let began = Instant::now();
        let read = |rate, left| {
            let passed = Cell::new(Duration::ZERO);
            let body = Slow {
                rate,
                left,
                passed: &passed,
            };
            let read = read_to_end(body, || began + passed.get());
            (read.map(|bytes| bytes.len()), passed.get().as_secs())
        };
        let slow = Err("the server is too slow: less than 10 KiB in 10 s".to_owned());
        assert_eq!(read(1, 1000), (slow.clone(), 10));
        assert_eq!(read(1000, 100_000), (slow, 10));
        assert_eq!(read(1, 5), (Ok(5), 6));
        assert_eq!(read(2048, 100_000), (Ok(100_000), 50));
    }

    #[test]
    fn certificates_are_read_up_to_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let [large, right] = ["large", "right"].map(|name| folder.path().join(name));
        fs::File::create(&large).unwrap().set_len(PEM + 1).unwrap();
        fs::write(&right, "right").unwrap();
        let missing = folder.path().join("missing");
        let files = [missing, folder.path().to_owned(), large, right];
        assert_eq!(pem(files.into_iter()), b"right");
        assert!(pem(std::iter::empty()).is_empty());
    }

    #[test]
    fn the_words_of_a_server_are_cleaned_and_cut() {
        let text = format!(
            "it leads to http://x/\u{202e}\u{9b}31m{}",
            "y".repeat(1 << 16)
        );
        let other = Error::Other(text.clone().into());
        let answered = NotFetched::answered(text.clone());
        assert!(answered.answered);
        for text in [
            reason(&other),
            NotFetched::from(text).reason,
            answered.reason,
        ] {
            assert!(!text.contains(['\u{202e}', '\u{9b}']), "{text:?}");
            assert!(text.chars().count() <= REASON, "{text}");
            assert!(text.starts_with("it leads to "), "{text}");
        }
    }

    #[test]
    fn private_addresses_are_known() {
        for public in ["198.51.100.7", "9.9.9.9", "2001:db8::7", "2a00::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }
}
