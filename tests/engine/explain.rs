//! Compares the answers of `dfw explain` about a packet, an address and a port with what happens to real packets.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use dfw::net::AddressSet;
use dfw::policy::parse_entry;
use serde_json::Value;

use crate::Named;
use crate::support::explain::agrees;
use crate::support::lab::Lab;
use crate::support::paths::{
    DIRECT, HOST_NETWORK, POLICY, PROXY, PROXY_UNNAMED, PUBLISHED, PUBLISHED_UNNAMED, PUBLISHED_V6,
};
use crate::support::probe::{Outcome, PATIENCE, SILENCE};

pub(crate) const TRIALS: &[Named] = &[
    ("explain::tells_what_becomes_of_packets", packets),
    ("explain::tells_who_reaches_a_port", clients),
    ("explain::tells_what_a_source_reaches", reachable),
];

fn packets(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    let tables = [
        PUBLISHED,
        PUBLISHED_UNNAMED,
        PUBLISHED_V6,
        PROXY,
        PROXY_UNNAMED,
        HOST_NETWORK,
        DIRECT,
    ];
    agrees(lab, tables.into_iter().flatten(), true)
}

/// The document that `explain` prints.
fn explain(lab: &Lab, arguments: &[&str]) -> Result<Value> {
    let told = lab.dfw(&[&["--json", "explain"], arguments].concat())?;
    serde_json::from_slice(&told.stdout).with_context(|| format!("{told:?}"))
}

fn list<'a>(document: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    document[key].as_array().into_iter().flatten()
}

/// The addresses of an access.
fn sources(access: &Value) -> AddressSet {
    let ranges = list(&access["sources"], "ranges").filter_map(Value::as_str);
    ranges.filter_map(|range| parse_entry(range).ok()).collect()
}

/// Who reaches what, as clients, ports and whether a connection comes about.
const CASES: [(&str, &str, bool); 5] = [
    ("trusted", "80", true),
    ("stranger", "80", false),
    ("office", "80", false),
    ("trusted", "8500", false),
    ("trusted6", "8084", true),
];

/// What the client finds at the port, by the addresses of the host.
fn is_open(lab: &Lab, who: &str, port: &str, expected: bool) -> Result<bool> {
    let patience = if expected { PATIENCE } else { SILENCE };
    let host = if who.ends_with('6') { "host6" } else { "host" };
    let client = lab.client(who.trim_end_matches('6'))?;
    let target = lab.target(&format!("tcp {host}:{port}"))?;
    Ok(client.ask(target, patience)? == Outcome::Open)
}

fn clients(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    for (who, port, expected) in CASES {
        let from: IpAddr = lab.address(who)?;
        let document = explain(lab, &["--to", port])?;
        ensure!(document["schema"] == "dfw/explain-to/v1" && document["exists"] == true);
        for block in list(&document, "blocks") {
            let all: AddressSet = list(block, "accesses")
                .flat_map(|a| sources(a).iter().collect::<Vec<_>>())
                .collect();
            ensure!(all.len() == 1, "not every address: {block}");
        }
        let of_outside = list(&document, "blocks").filter(|block| {
            list(block, "interfaces").any(|interface| interface["containers"] == false)
        });
        let mut accesses = of_outside.flat_map(|block| list(block, "accesses"));
        let allowed = accesses.any(|a| sources(a).contains(from) && a["verdict"] == "allow");
        ensure!(allowed == expected, "{who} at {port}: {document}");
        ensure!(
            is_open(lab, who, port, expected)? == expected,
            "{who} at {port}"
        );
    }
    Ok(())
}

fn reachable(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    for (who, port, expected) in CASES {
        let from = lab.address(who)?.to_string();
        let document = explain(lab, &["--from", &from])?;
        let number: u16 = port.parse()?;
        ensure!(document["schema"] == "dfw/explain-from/v1");
        let of_port = |path: &&Value| path["port"] == number && path["path"] != "container";
        let paths: Vec<&Value> = list(&document, "paths").filter(of_port).collect();
        ensure!(!paths.is_empty(), "no path to {port}: {document}");
        let allowed = paths.iter().any(|path| path["verdict"] == "allow");
        ensure!(allowed == expected, "{who} at {port}: {paths:?}");
        ensure!(
            is_open(lab, who, port, expected)? == expected,
            "{who} at {port}"
        );
    }
    Ok(())
}
