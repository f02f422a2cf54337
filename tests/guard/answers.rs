//! Answers of servers, resolvers and proxies to the fetcher that need more than a file on a web server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Named;
use crate::fetched::make_due;
use crate::namespace::{Report, Sandbox};
use crate::servers::{PUBLIC, Servers};
use crate::support::netns::Namespace;

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_list_that_has_not_changed_is_not_sent_again",
        a_list_that_has_not_changed_is_not_sent_again,
    ),
    (
        "another_reason_is_warned_of_and_the_same_is_not",
        another_reason_is_warned_of_and_the_same_is_not,
    ),
    (
        "a_list_without_an_end_is_given_up",
        a_list_without_an_end_is_given_up,
    ),
    (
        "a_resolver_that_fails_takes_nothing_away",
        a_resolver_that_fails_takes_nothing_away,
    ),
    (
        "a_proxy_resolves_names_by_itself",
        a_proxy_resolves_names_by_itself,
    ),
];

/// A host that fetches one source.
struct Host {
    sandbox: Sandbox,
    servers: Servers,
}

impl Host {
    fn new(source: &str, records: &[&str], locations: &str) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let servers = Servers::start(&sandbox, records, locations)?;
        sandbox.write(
            "policies/a.yaml",
            format!("default: deny\nsources: {{list: {source}}}\nports: {{80: [list]}}\n"),
        )?;
        Ok(Self { sandbox, servers })
    }

    fn fetch(&self, more: &[(&str, &str)]) -> Result<Report> {
        let mut dfw = self.servers.dfw(&self.sandbox);
        dfw.args(["fetch", "--due"]).envs(more.iter().copied());
        Report::of(dfw.arg(self.sandbox.dir().join("policies")))
    }

    /// The same when the source is due, as it is after a while.
    fn fetch_again(&self) -> Result<Report> {
        make_due(&self.sandbox)?;
        self.fetch(&[])
    }

    /// The text of a file in the cache whose name begins like this.
    fn cached(&self, start: &str) -> Result<String> {
        for entry in fs::read_dir(self.sandbox.dir().join("cache"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(start) {
                return Ok(fs::read_to_string(entry.path())?);
            }
        }
        anyhow::bail!("no {start} in the cache")
    }
}

fn has(report: &Report, words: &str) -> Result<()> {
    let said = format!("{}{}", report.stdout, report.stderr);
    ensure!(said.contains(words), "no {words:?} in {report:?}");
    Ok(())
}

fn a_list_that_has_not_changed_is_not_sent_again() -> Result<()> {
    let url = r#"{url: "https://lists.example.com/list"}"#;
    let host = Host::new(url, &[], "")?;
    // The status of each answer, as the server has logged it.
    let answers = || -> Result<Vec<String>> {
        let log = fs::read_to_string(host.sandbox.dir().join("servers/access.log"))?;
        let status = |line: &str| Some(line.split_once("\" ")?.1.get(..3)?.to_owned());
        log.lines()
            .map(|line| status(line).context("no status"))
            .collect()
    };
    let answered = |expected: &[&str]| -> Result<()> {
        let answers = answers()?;
        ensure!(answers == expected, "{answers:?}");
        Ok(())
    };
    host.servers.serve("list", "192.0.2.7\n")?;
    has(&host.fetch(&[])?, "list: 1 entries, changed")?;
    has(&host.fetch_again()?, "list: 1 entries, unchanged")?;
    answered(&["200", "304"])?;
    let list = host.cached("url-")?;
    ensure!(list.ends_with("\n192.0.2.7\n"), "{list}");
    host.servers.serve("list", "192.0.2.7\n192.0.2.9\n")?;
    has(&host.fetch_again()?, "list: 2 entries, changed")?;
    answered(&["200", "304", "200"])?;
    // The version of a list that is gone says nothing.
    for entry in fs::read_dir(host.sandbox.dir().join("cache"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("url-") {
            fs::remove_file(entry.path())?;
        }
    }
    has(&host.fetch_again()?, "list: 2 entries, changed")?;
    answered(&["200", "304", "200", "200"])
}

fn another_reason_is_warned_of_and_the_same_is_not() -> Result<()> {
    let url = r#"{url: "https://lists.example.com/list"}"#;
    let mut host = Host::new(url, &[], "location /list { return 500; }")?;
    has(
        &host.fetch(&[])?,
        "not fetched: list: the server answers 500",
    )?;
    for _ in 0..2 {
        let report = host.fetch_again()?;
        ensure!(report.stderr.is_empty(), "{report:?}");
    }
    host.servers
        .host(&host.sandbox, "location /list { return 503; }")?;
    has(
        &host.fetch_again()?,
        "not fetched: list: the server answers 503",
    )?;
    host.servers.host(&host.sandbox, "")?;
    host.servers.serve("list", "192.0.2.7\n")?;
    has(&host.fetch_again()?, "list: 1 entries, changed")?;
    // Of what comes back it is warned again.
    host.servers
        .host(&host.sandbox, "location /list { return 503; }")?;
    has(
        &host.fetch_again()?,
        "not fetched: list: the server answers 503",
    )?;
    let status: Value = serde_json::from_str(&host.cached("status-")?)?;
    ensure!(
        status["failures"] == 5 && status["entries"] == 1,
        "{status}"
    );
    // A failure waits five minutes, not the twelve hours of a list.
    let due = status["due"].as_u64().unwrap_or_default();
    let fetched = status["fetched"].as_u64().unwrap_or_default();
    ensure!((290..=1800).contains(&(due - fetched)), "{status}");
    Ok(())
}

/// Serves one connection after the other, each by a thread, for as long as the trial lives.
fn listen(
    sandbox: &Sandbox,
    at: &str,
    answer: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static,
) -> Result<()> {
    let listener = sandbox.namespace().run(|| Ok(TcpListener::bind(at)?))?;
    let namespace = Namespace::at(sandbox.namespace().path().to_owned());
    let answer = Arc::new(answer);
    std::thread::spawn(move || -> Result<()> {
        // What is connected to is there, too.
        namespace.enter()?;
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            // It ends when the other side has enough.
            std::thread::spawn(move || answer(stream));
        }
        Ok(())
    });
    Ok(())
}

/// Reads the head of a request; its first line.
fn request(stream: &TcpStream) -> Result<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().context("no request")??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    Ok(first)
}

fn a_list_without_an_end_is_given_up() -> Result<()> {
    let location = "location /list { proxy_http_version 1.1; proxy_buffering off; \
         proxy_pass http://127.0.0.1:8081; }";
    let url = r#"{url: "https://lists.example.com/list"}"#;
    let host = Host::new(url, &[], location)?;
    listen(&host.sandbox, "127.0.0.1:8081", |mut stream| {
        request(&stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let lines = "192.0.2.7\n".repeat(6000);
        loop {
            write!(stream, "{:x}\r\n{lines}\r\n", lines.len())?;
        }
    })?;
    has(&host.fetch(&[])?, "not fetched: list: ")?;
    let status: Value = serde_json::from_str(&host.cached("status-")?)?;
    let failure = status["failure"].as_str().unwrap_or_default();
    ensure!(failure.contains("limit"), "{status}");
    ensure!(host.cached("url-").is_err());
    Ok(())
}

fn a_resolver_that_fails_takes_nothing_away() -> Result<()> {
    const RECORD: &str = "--host-record=home.example.net,192.0.2.7";
    let name = "{name: home.example.net}";
    let mut host = Host::new(name, &[RECORD, "--local=/example.net/"], "")?;
    has(&host.fetch(&[])?, "list: 1 entries, changed")?;
    let before = host.cached("name-")?;
    let socket = (host.sandbox.namespace()).run(|| Ok(UdpSocket::bind("127.0.0.3:53")?))?;
    std::thread::spawn(move || -> std::io::Result<()> {
        let mut packet = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut packet)?;
            // A response (RFC 1035, 4.1.1) with the code 2: server failure.
            packet[2] |= 0x80;
            packet[3] = 2;
            socket.send_to(&packet[..length], from)?;
        }
    });
    host.servers
        .resolve(&host.sandbox, &["--server=/home.example.net/127.0.0.3"])?;
    let report = host.fetch_again()?;
    has(
        &report,
        "not fetched: list: no answer for home.example.net: ",
    )?;
    has(&report, "Server Failure")?;
    ensure!(host.cached("name-")? == before);
    Ok(())
}

/// Connects a client with the web server, whatever it has asked for.
fn tunnel(mut client: TcpStream) -> Result<()> {
    let mut server = TcpStream::connect((PUBLIC, 443))?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let copied = std::io::copy(&mut from, &mut to);
        copied.and_then(|_| to.shutdown(Shutdown::Write))
    });
    std::io::copy(&mut server, &mut client)?;
    Ok(client.shutdown(Shutdown::Write)?)
}

/// What a name means to the proxy, and whether that is a private address, is not seen here.
fn a_proxy_resolves_names_by_itself() -> Result<()> {
    let url = r#"{url: "https://private.example.com/list"}"#;
    let host = Host::new(url, &[], "")?;
    host.servers.serve("list", "192.0.2.7\n")?;
    has(&host.fetch(&[])?, "private address 10.1.1.1")?;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let known = Arc::clone(&asked);
    listen(&host.sandbox, "127.0.0.1:3128", move |client| {
        let first = request(&client)?;
        known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(first);
        tunnel(client)
    })?;
    make_due(&host.sandbox)?;
    let proxy = [("HTTPS_PROXY", "http://127.0.0.1:3128")];
    has(&host.fetch(&proxy)?, "list: 1 entries, changed")?;
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        asked.len() == 1 && asked[0].starts_with("CONNECT private.example.com:443 "),
        "{asked:?}"
    );
    Ok(())
}
