//! A web server in the network of a guest, with a bundle, and a certificate of an authority of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::lan::{Lan, STRANGER};
use crate::support::command::{output, program};
use crate::support::{number, record, shared_dir, sign};

/// The program under test.
const DFW: &str = env!("CARGO_BIN_EXE_dfw");
/// A key that is quick to make.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// Where guests keep the certificates that they trust.
pub(crate) const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The server, ended with the trial.
pub(crate) struct Web {
    folder: PathBuf,
    server: Child,
    key: sign::KeyPair,
}

impl Web {
    /// Starts it where strangers are.
    pub(crate) fn start(lan: &Lan) -> Result<Self> {
        let folder = shared_dir()?.join(format!("web-{}", number()));
        for name in ["www/prod", "policies"] {
            fs::create_dir_all(folder.join(name))?;
        }
        certificates(&folder)?;
        let at = folder.display();
        let [v4, _] = STRANGER;
        let config = format!(
            "user root; daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log; events {{}}
            http {{ access_log off; client_body_temp_path {at}; proxy_temp_path {at};
            fastcgi_temp_path {at}; uwsgi_temp_path {at}; scgi_temp_path {at};
            server {{ listen {v4}:443 ssl; root {at}/www;
            ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem; }} }}"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        let mut nginx = lan.stranger().command("nginx");
        nginx.arg("-p").arg(&folder).arg("-c").arg(file);
        let mut server = nginx.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        record(server.id())?;
        loop {
            let mut sockets = lan.stranger().command("ss");
            if !output(sockets.args(["-Hltn", "sport = :443"]))?.is_empty() {
                break;
            }
            ensure!(server.try_wait()?.is_none(), "the web server has ended");
            std::thread::yield_now();
        }
        let key = sign::key()?;
        Ok(Self {
            folder,
            server,
            key,
        })
    }

    /// Where the bundle is.
    pub(crate) fn address() -> String {
        let [v4, _] = STRANGER;
        format!("https://{v4}/prod/")
    }

    /// The certificate of its authority.
    pub(crate) fn authority(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("ca.pem"))?)
    }

    /// The key that signs its bundles.
    pub(crate) fn key(&self) -> String {
        sign::public(&self.key)
    }

    /// Serves a policy as this generation.
    pub(crate) fn publish(&self, generation: u32, policy: &str) -> Result<()> {
        let (policies, to) = (self.folder.join("policies"), self.folder.join("www/prod"));
        fs::write(policies.join("base.yaml"), policy)?;
        let (generation, new) = (generation.to_string(), self.folder.join("new"));
        let _ = fs::remove_dir_all(&new);
        let mut create = Command::new(DFW);
        create.args(["bundle", "create", "--site", "prod", "--json"]);
        create.args(["--generation", &generation, "--serial", &generation]);
        let document = output(create.arg("-o").args([&new, &policies]))?;
        let document: Value = serde_json::from_str(&document)?;
        sign::bundle(&new, &document, (&self.key, &self.key))?;
        // The head last.
        for name in ["blobs", "manifests", "head"] {
            output(program("cp").arg("-r").arg(new.join(name)).arg(&to))?;
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes an authority, and a certificate of its for the address of the server.
fn certificates(folder: &Path) -> Result<()> {
    let openssl = |words: &str| {
        let mut command = program("openssl");
        output(command.current_dir(folder).args(words.split_whitespace())).map(drop)
    };
    let [v4, _] = STRANGER;
    fs::write(folder.join("names"), format!("subjectAltName=IP:{v4}\n"))?;
    openssl(&format!(
        "req -x509 {KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN=test \
         -addext basicConstraints=critical,CA:TRUE"
    ))?;
    openssl(&format!(
        "req {KEY} -keyout key.pem -out request.pem -subj /CN=web"
    ))?;
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 \
         -extfile names",
    )
}
