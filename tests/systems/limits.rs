//! `rate` and `connections` on a machine of its own: its kernel counts what each source opens.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::grants::ECHO;
use crate::lan::{FRIEND, GUEST, STRANGER};
use crate::site::{POLICIES, Site};
use crate::stranger::PORT;
use crate::support::probe::{Conversation, Transport, connect};

/// How long a connection is tried that must come about, and one that must not.
const PATIENCE: Duration = Duration::from_mins(1);
const SILENCE: Duration = Duration::from_secs(2);

/// Fails unless each limit lets so many connections of a source in, and no more.
pub(crate) fn hold(site: &Site) -> Result<()> {
    // By the hour, as an emulated machine may take longer than a third of a minute for a few connections.
    limited(site, "rate: 3/hour", 3)?;
    let mut held = limited(site, "connections: 2", 2)?;
    // One that ends makes room for another.
    held.pop();
    opens(site, FRIEND[0], PATIENCE).context("after one has ended")
}

/// Brings a limit into force and opens as many connections as it allows; the next one is denied, and another
/// source is not concerned.
fn limited(site: &Site, limit: &str, most: usize) -> Result<Vec<Conversation>> {
    let [v4, v6] = FRIEND;
    site.guest.write(
        &format!("{POLICIES}/web.yaml"),
        &format!(
            "default: deny\nports:\n  {PORT}: [{v4}, \"{v6}\"]\n  {ECHO}: {{allow: any, {limit}}}\n"
        ),
    )?;
    site.is_settled()?;
    let (from, to) = between(FRIEND[0])?;
    let lan = site.lan.stranger();
    let mut held = Vec::new();
    for number in 1..=most {
        let opened = lan.run(|| Conversation::open(Transport::Tcp, Some(from), to));
        held.push(opened.with_context(|| format!("{limit}: connection {number}"))?);
    }
    ensure!(
        opens(site, FRIEND[0], SILENCE).is_err(),
        "{limit}: {most} connections and one more"
    );
    opens(site, STRANGER[0], PATIENCE).with_context(|| format!("{limit}: another source"))?;
    for (number, conversation) in held.iter_mut().enumerate() {
        ensure!(
            conversation.echoes(PATIENCE)?,
            "{limit}: connection {number} of those that are open"
        );
    }
    Ok(held)
}

fn opens(site: &Site, from: &str, patience: Duration) -> Result<()> {
    let (from, to) = between(from)?;
    let lan = site.lan.stranger();
    lan.run(|| connect(Some(from), to, patience)).map(drop)
}

/// A source, and the port of a container that says back what it hears.
fn between(from: &str) -> Result<(IpAddr, SocketAddr)> {
    let to: IpAddr = GUEST[0].parse()?;
    Ok((from.parse()?, (to, ECHO).into()))
}
