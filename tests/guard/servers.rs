//! A resolver and a web server with a certificate of the trials' own, in the namespace of a sandbox.

use std::fmt::Display;
use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Result, ensure};

use crate::namespace::{self, DFW, Sandbox};
use crate::support::command::{output, program};

/// Where the web server is, and where it also is, privately.
pub(crate) const PUBLIC: &str = "203.0.113.10";
const PRIVATE: &str = "10.1.1.1";
/// Where it has another certificate.
const OTHER: &str = "203.0.113.11";

/// The servers, ended with the trial.
pub(crate) struct Servers {
    folder: PathBuf,
    resolver: Option<Child>,
    web: Option<Child>,
}

impl Servers {
    /// Starts both; `records` are options of dnsmasq, and `locations` of nginx.
    pub(crate) fn start(sandbox: &Sandbox, records: &[&str], locations: &str) -> Result<Self> {
        for address in [PUBLIC, PRIVATE, OTHER] {
            sandbox
                .namespace()
                .ip(&format!("address add {address}/32 dev lo"))?;
        }
        let folder = sandbox.dir().join("servers");
        fs::create_dir_all(folder.join("www"))?;
        // The workers of nginx and the fetcher are other users.
        for path in [sandbox.dir(), &folder] {
            fs::set_permissions(path, PermissionsExt::from_mode(0o755))?;
        }
        fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
        certificates(&folder)?;
        let mut servers = Self {
            folder,
            resolver: None,
            web: None,
        };
        servers.resolve(sandbox, records)?;
        servers.host(sandbox, locations)?;
        Ok(servers)
    }

    /// Starts the web server with these locations, in place of the one that runs.
    pub(crate) fn host(&mut self, sandbox: &Sandbox, locations: &str) -> Result<()> {
        end(&mut self.web.take());
        let at = self.folder.display();
        // nginx gives it to another user, who would decide the certificates that root reads there.
        let own = self.folder.join("nginx");
        let own = own.display();
        let config = format!(
            "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log; events {{}}
            http {{ access_log {at}/access.log; default_type text/plain;
            client_body_temp_path {own}; proxy_temp_path {own}; fastcgi_temp_path {own}; uwsgi_temp_path {own};
            scgi_temp_path {own};
            server {{ listen {PUBLIC}:443 ssl; listen {PRIVATE}:443 ssl; root {at}/www;
            ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem; {locations} }}
            server {{ listen {OTHER}:443 ssl; root {at}/www;
            ssl_certificate {at}/ca.pem; ssl_certificate_key {at}/ca.key; }}
            server {{ listen {PUBLIC}:80; root {at}/www; }} }}"
        );
        let file = self.folder.join("nginx.conf");
        fs::write(&file, config)?;
        let mut nginx = sandbox.namespace().command("nginx");
        nginx.arg("-p").arg(&self.folder).arg("-c").arg(file);
        let child = nginx.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        namespace::record(child.id())?;
        listens(sandbox, "-Hltn sport = :443", self.web.insert(child))
    }

    /// Ends the web server.
    pub(crate) fn go_down(&mut self) {
        end(&mut self.web.take());
    }

    /// Starts the resolver with these records, in place of the one that runs.
    pub(crate) fn resolve(&mut self, sandbox: &Sandbox, records: &[&str]) -> Result<()> {
        end(&mut self.resolver.take());
        let mut dnsmasq = sandbox.namespace().command("dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            "--pid-file",
            "--user=root",
            "--log-facility=/dev/null",
            "--local=/example.com/",
            "--host-record=lists.example.com,203.0.113.10",
            "--host-record=private.example.com,10.1.1.1",
        ]);
        let child = dnsmasq.args(records).stdin(Stdio::null()).spawn()?;
        namespace::record(child.id())?;
        listens(sandbox, "-Hlun sport = :53", self.resolver.insert(child))
    }

    /// Writes a file that the web server serves.
    pub(crate) fn serve(&self, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let (new, path) = (self.folder.join("new"), self.folder.join("www").join(name));
        fs::write(&new, text)?;
        Ok(fs::rename(new, path)?)
    }

    /// The same of a long list, which is never in memory.
    pub(crate) fn serve_list(
        &self,
        name: &str,
        mut lines: impl Iterator<Item = impl Display>,
    ) -> Result<()> {
        let (new, path) = (self.folder.join("new"), self.folder.join("www").join(name));
        let mut file = BufWriter::new(fs::File::create(&new)?);
        lines.try_for_each(|line| writeln!(file, "{line}"))?;
        file.flush()?;
        Ok(fs::rename(new, path)?)
    }

    /// The same of so many zero bytes.
    pub(crate) fn serve_large(&self, name: &str, size: u64) -> Result<()> {
        let file = fs::File::create(self.folder.join("www").join(name))?;
        Ok(file.set_len(size)?)
    }

    /// `dfw` where the resolver and the certificate of the trial are those of the host.
    pub(crate) fn dfw(&self, sandbox: &Sandbox) -> Command {
        let mut command = sandbox.namespace().command("unshare");
        command
            .args(["--mount", "--", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"")
            .arg(self.folder.join("resolv.conf"))
            .arg(DFW)
            .env("DFW_CACHE", sandbox.dir().join("cache"))
            .env("STATE_DIRECTORY", sandbox.dir().join("state"))
            .env("SSL_CERT_FILE", self.folder.join("ca.pem"))
            .env_remove("JOURNAL_STREAM");
        command
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        end(&mut self.resolver.take());
        end(&mut self.web.take());
    }
}

fn end(child: &mut Option<Child>) {
    if let Some(child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Waits until a server listens.
fn listens(sandbox: &Sandbox, words: &str, server: &mut Child) -> Result<()> {
    loop {
        let mut sockets = sandbox.namespace().command("ss");
        if !output(sockets.args(words.split(' ')))?.is_empty() {
            return Ok(());
        }
        ensure!(server.try_wait()?.is_none(), "a server has ended");
        std::thread::yield_now();
    }
}

/// A key that is quick to make.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// Makes an authority, and a certificate of its for the names of the web server.
fn certificates(folder: &Path) -> Result<()> {
    let openssl = |words: &str| {
        let mut command = program("openssl");
        output(command.current_dir(folder).args(words.split_whitespace())).map(drop)
    };
    fs::write(
        folder.join("names"),
        "subjectAltName=DNS:lists.example.com,DNS:private.example.com,DNS:moved.example.com,\
         DNS:closed.example.com\n",
    )?;
    openssl(&format!(
        "req -x509 {KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN=test \
         -addext basicConstraints=critical,CA:TRUE"
    ))?;
    openssl(&format!(
        "req {KEY} -keyout key.pem -out request.pem -subj /CN=lists"
    ))?;
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 \
         -extfile names",
    )
}
