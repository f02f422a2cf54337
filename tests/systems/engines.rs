//! The engine goes away and comes back, and starts what no policy names.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::Named;
use crate::guest::PATIENCE;
use crate::site::{OTHER, Site, other};
use crate::stranger::Stranger;
use crate::support::command::wait_for;
use crate::support::size::times;

pub(crate) const TRIALS: &[Named] = &[
    (
        "an_engine_goes_and_comes_back",
        an_engine_goes_and_comes_back,
    ),
    ("a_stopped_engine_stays_so", a_stopped_engine_stays_so),
    (
        "a_new_container_is_soon_closed",
        a_new_container_is_soon_closed,
    ),
];

fn an_engine_goes_and_comes_back() -> Result<()> {
    let (site, mark) = Site::guarded()?;
    for _ in 0..times(2, 1) {
        site.run("systemctl stop docker.socket docker; rm -f /run/docker.sock")?;
        site.stranger.never_got_in(mark)?;
        site.run("systemctl reset-failed docker; systemctl start docker")?;
        site.only_friends_get_in(mark)?;
    }
    // Not stopped in order: nothing tidies up.
    site.run("systemctl kill --signal KILL docker; systemctl reset-failed docker; systemctl restart docker")?;
    site.only_friends_get_in(mark)
}

/// Connecting to the socket that systemd holds for Docker starts Docker.
fn a_stopped_engine_stays_so() -> Result<()> {
    const WHILE: Duration = Duration::from_secs(3);
    let (site, mark) = Site::guarded()?;
    for _ in 0..times(3, 1) {
        site.run("systemctl reset-failed docker; systemctl stop docker")?;
        site.run("systemctl is-active docker.socket")?;
        // A complete rescan finds it, too.
        site.run("systemctl reload dfw")?;
        std::thread::sleep(WHILE);
        let state = site.run("systemctl is-active docker || true")?;
        ensure!(state.trim() == "inactive", "Docker is {state}");
        let lost = site.status()?["unanswered"].clone();
        ensure!(
            lost[0]
                .as_str()
                .is_some_and(|it| it.contains("docker.sock"))
        );
        site.run("systemctl start docker")?;
        // Guard notices the start.
        wait_for("guard to follow Docker", PATIENCE, || {
            let lost = site.status().ok()?["unanswered"].clone();
            (lost == serde_json::json!([])).then_some(())
        })?;
        site.only_friends_get_in(mark)?;
    }
    Ok(())
}

/// A port that no policy names: what is forwarded is closed before there is a container. docker-proxy,
/// through which IPv6 comes in here, listens before the engine says at which port: it tells nothing
/// of a container while it starts it. For how long that is open, is printed.
fn a_new_container_is_soon_closed() -> Result<()> {
    let containers = times(11, 5);
    let run = other("");
    let site = Site::open()?;
    let stranger = Stranger::at(OTHER, &site.lan);
    site.run(&run)?;
    stranger.gets_in()?;
    site.run("docker rm -f other")?;
    let site = site.guard("dfw", "")?.0;
    let (mut gaps, mut starts, mut entries) = (Vec::new(), Vec::new(), 0);
    for _ in 0..containers {
        site.is_settled()?;
        let mark = stranger.mark();
        let before = Instant::now();
        site.run(&run)?;
        starts.push(before.elapsed());
        // On the host itself it answers.
        site.run(&format!(
            "until busybox wget -O - http://127.0.0.1:{OTHER}/ 2>&1 | grep 404; do :; done"
        ))?;
        site.is_settled()?;
        let closed = stranger.mark();
        stranger.never_got_in(closed)?;
        let [forwarded, proxied] = stranger.entries(mark);
        ensure!(
            forwarded.is_empty(),
            "a new port was open where it is forwarded"
        );
        entries += proxied.len();
        gaps.push(stranger.gap(mark));
        site.run("docker rm -f other")?;
    }
    gaps.sort_unstable();
    starts.sort_unstable();
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    let start = starts[starts.len() / 2];
    eprintln!(
        "{containers} new containers: docker-proxy let in {entries} times; from the first to the last of a \
         container {median:?} in the median, {longest:?} at most; to start one took {start:?}"
    );
    // Both are of the same machine at the same time: a busy one takes longer for both.
    ensure!(
        median < start,
        "open for {gaps:?}, where containers start in {starts:?}"
    );
    Ok(())
}
