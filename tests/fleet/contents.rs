//! Large files from a web server, beside a store.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::daemon::{Daemon, until};
use crate::fleet::{Fleet, list};
use crate::servers::Servers;

pub(crate) const TRIALS: &[Named] = &[(
    "large_files_come_from_a_web_server",
    large_files_come_from_a_web_server,
)];

fn large_files_come_from_a_web_server() -> Result<()> {
    let mut fleet = Fleet::new(&["web-1"], &[])?;
    let mut host = fleet.host("web-1")?;
    let mut servers = Servers::start(fleet.cluster.sandbox(), &[], "")?;
    let net = host.sandbox.namespace();
    net.ip("route add 203.0.113.10 via 198.51.100.1")?;
    servers.resolve(&host.sandbox, &[])?;
    host.more = vec![
        "--contents".to_owned(),
        "https://lists.example.com/prod/".to_owned(),
    ];
    host.start_guard()?;
    let mut fetch = servers.dfw(&host.sandbox);
    fetch
        .args(["fetch", "--daemon"])
        .arg(host.sandbox.dir().join("requests.yaml"))
        .env("DFW_ETCD_TLS", host.identity());
    host.fetcher = Some(Daemon::of(fetch)?);
    let sandbox = fleet.cluster.sandbox();
    let www = sandbox.dir().join("servers/www/prod/blobs");
    fs::create_dir_all(&www)?;
    let publish = |number: u32, is_served: bool| -> Result<()> {
        let text = list((0..100_000).chain([number << 16]));
        sandbox.write("p/many.txt", &text)?;
        if is_served {
            let digest = dfw::bundle::Digest::of(text.as_bytes()).to_string();
            fs::write(www.join(digest), text)?;
        }
        fleet.policy(&format!(
            "default: deny\nsources: {{many: {{file: many.txt}}}}\nports: {{22: [203.0.113.{number}], 80: [many]}}\n"
        ))?;
        let report = fleet.push(&["--now", "--settle", "0"])?;
        ensure!(report.code == Some(0), "{report:?}");
        host.until_policy(number)
    };
    publish(10, true)?;
    let log = fs::read_to_string(sandbox.dir().join("servers/access.log"))?;
    let line = log.lines().find(|line| line.contains("/prod/blobs/"));
    let line = line.context("nothing was fetched from the web server")?;
    ensure!(line.contains(" 200 "), "{line}");
    // What it does not have comes from the store; so does everything without it.
    fs::remove_dir_all(host.sandbox.dir().join("cache/site/blobs"))?;
    fs::create_dir(host.sandbox.dir().join("cache/site/blobs"))?;
    std::os::unix::fs::chown(
        host.sandbox.dir().join("cache/site/blobs"),
        Some(65534),
        Some(65534),
    )?;
    publish(11, false)?;
    servers.go_down();
    publish(12, true)?;
    until("in force", || {
        (host.status().ok()?["state"] == "in-force").then_some(())
    })
}
