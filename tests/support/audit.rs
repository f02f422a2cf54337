//! What `dfw audit` says, and whether strangers find it so.

use std::net::IpAddr;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::lab::{Lab, Target};
use super::probe::{Outcome, PATIENCE, SILENCE, Transport};
use super::table::Row;

pub(crate) fn audit(lab: &Lab, options: &[&str], code: Option<i32>) -> Result<Value> {
    let output = lab.dfw(&[&["--json", "audit"], options].concat())?;
    let audit = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    ensure!(
        code.is_none() || output.status.code() == code,
        "{}: {audit:#}",
        output.status
    );
    Ok(audit)
}

pub(crate) fn exposures(audit: &Value) -> Result<impl Iterator<Item = &Value>> {
    Ok(audit["paths"].as_array().context("no paths")?.iter())
}
/// The rows of the audit by which a target is open to all.
fn open_paths<'a>(lab: &Lab, audit: &'a Value, target: Target) -> Result<Vec<&'a Value>> {
    let open = exposures(audit)?.filter(|row| row["open_to"] == "any");
    Ok(open.filter(|row| covers(lab, row, target)).collect())
}

/// An untrusted client at a port, whether the audit reports it as open, and the line of the audit.
struct Claim {
    who: &'static str,
    target: Target,
    report: bool,
    /// Whether it is open only where an engine keeps the port: then a client is connected and hears nothing.
    held: bool,
    place: String,
}

impl Claim {
    fn new(who: &'static str, target: Target, open: &[&Value], place: String) -> Self {
        Self {
            who,
            target,
            report: !open.is_empty(),
            held: !open.is_empty() && open.iter().all(|row| row["path"] == "held"),
            place,
        }
    }
}

/// Checks that exactly the clients have access that the audit reports: tries each exposure, and looks up each row
/// of the tables.
pub(crate) fn agrees<'a>(
    lab: &Lab,
    audit: &Value,
    rows: impl IntoIterator<Item = &'a Row>,
) -> Result<()> {
    let mut claims = Vec::new();
    for exposure in exposures(audit)? {
        let Some((who, target)) = attempts(lab, exposure)? else {
            continue;
        };
        // Not of this row alone: Docker's rules for IPv6 pass over link-local sources, which find the engine,
        // and translate those of others.
        let open = open_paths(lab, audit, target)?;
        claims.push(Claim {
            report: exposure["open_to"] == "any",
            ..Claim::new(who, target, &open, exposure.to_string())
        });
    }
    for row in rows {
        let target = lab.target(row.to)?;
        for who in ["stranger", "wire"] {
            let asks = [row.open, row.closed].join(" ");
            if asks
                .split_whitespace()
                .any(|name| name.trim_matches(['(', ')']) == who)
            {
                let open = open_paths(lab, audit, target)?;
                claims.push(Claim::new(who, target, &open, row.to.to_owned()));
            }
        }
    }
    let wrong = wrong(lab, &claims)?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Tries all claims at once, and tells of those that do not hold.
fn wrong(lab: &Lab, claims: &[Claim]) -> Result<Vec<String>> {
    let try_out = |claim: &Claim| -> Result<Option<String>> {
        let Claim {
            who,
            target,
            report,
            held,
            place,
        } = claim;
        let patience = if *report { PATIENCE } else { SILENCE };
        let outcome = lab.client(who)?.ask(*target, patience)?;
        let expected = if *held { Outcome::Mute } else { Outcome::Open };
        let holds = *report == (outcome == expected);
        Ok((!holds).then(|| format!("{who} finds {target:?} {outcome}; open: {report}: {place}")))
    };
    thread::scope(|scope| {
        let trying: Vec<_> = claims
            .iter()
            .map(|claim| scope.spawn(|| try_out(claim)))
            .collect();
        let tried = trying
            .into_iter()
            .map(|claim| claim.join().map_err(|_| anyhow!("a probe panicked"))?);
        tried.filter_map(Result::transpose).collect()
    })
}

/// How a stranger would use an exposure.
fn attempts(lab: &Lab, exposure: &Value) -> Result<Option<(&'static str, Target)>> {
    let address: IpAddr = serde_json::from_value(exposure["address"].clone())?;
    let transport = transport(exposure);
    let who = match exposure["reach"].as_str() {
        Some("on-link") => "wire",
        _ => "stranger",
    };
    let address = match (address.is_unspecified(), address.is_ipv4()) {
        (true, true) => lab.address("host")?,
        (true, false) => lab.address("host6")?,
        (false, _) => address,
    };
    let port = match exposure["port"].as_u64() {
        Some(port) => u16::try_from(port)?,
        // All ports; these containers serve one that they do not publish.
        None if ["web", "app", "six", "naked"]
            .contains(&exposure["published_for"].as_str().unwrap_or_default()) =>
        {
            81
        }
        None => return Ok(None),
    };
    // An answer over UDP leaves by the interface that leads to the client.
    let other_card = transport == Transport::Udp && address == lab.address("second-card")?;
    let target = Target {
        transport,
        address,
        port,
    };
    Ok((!other_card).then_some((who, target)))
}

fn transport(exposure: &Value) -> Transport {
    if exposure["protocol"] == "udp" {
        Transport::Udp
    } else {
        Transport::Tcp
    }
}

fn covers(lab: &Lab, exposure: &Value, target: Target) -> bool {
    let address: Option<IpAddr> = serde_json::from_value(exposure["address"].clone()).ok();
    let Some(address) = address else { return false };
    let own = [
        "host",
        "host6",
        "second-card",
        "second-card6",
        "bridge",
        "loopback",
    ]
    .iter()
    .any(|name| lab.address(name).is_ok_and(|own| own == target.address));
    // What a process takes, it takes at addresses that reach it; a loopback address must be
    // translated before the kernel looks where the packet comes from.
    let translated = exposure["path"] == "dnat" || exposure["path"] == "loopback";
    if target.address.is_loopback() && !translated {
        return false;
    }
    let same_address = address == target.address
        || address.is_unspecified() && own && address.is_ipv4() == target.address.is_ipv4();
    let same_port = exposure["port"]
        .as_u64()
        .is_none_or(|port| port == u64::from(target.port));
    same_address
        && same_port
        && (exposure["port"].is_null() || transport(exposure) == target.transport)
}
