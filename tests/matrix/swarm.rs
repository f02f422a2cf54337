//! Swarm with one manager: a service published through the ingress network, and one on the host.
//!
//! The ingress network spreads connections with IPVS. Where the kernel has none, Docker says
//! `error reading the kernel parameter net.ipv4.vs.…` and stops before it writes a rule: everything
//! else of Swarm works (overlay, tasks, `docker_gwbridge`, the namespace `ingress_sbox`). There this
//! writes what Docker would: on the host the rules of its DOCKER-INGRESS chains, and in the
//! namespace a rewrite to the only task in the place of IPVS. A client's packets then take the same
//! way through the host as they do with IPVS, up to the namespace.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::support::command::wait_for;
use crate::support::lab::Lab;
use crate::support::table::{Row, row};
use crate::tables::{PathKind, Table};

/// The services and what they publish.
const SERVICES: [(&str, &str); 2] = [
    ("mesh", "published=8095,target=80"),
    ("hosted", "published=8096,target=80,mode=host"),
];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("ingress",                       "tcp host:8095",       "trusted",          "trusted2 neighbour stranger office"),
    row("ingress, at the second card",   "tcp second-card:8095", "trusted",         "neighbour stranger office"),
    row("on the host",                   "tcp host:8096",       "trusted",          "trusted2 neighbour stranger office"),
];

#[rustfmt::skip]
const ROWS_V6: &[Row] = &[
    row("on the host, IPv6",             "tcp host6:8096",      "trusted",          "trusted2 neighbour stranger office"),
];

pub(crate) const INGRESS: Table = Table {
    name: "Swarm",
    kind: PathKind::Ingress,
    rows: ROWS,
};

pub(crate) const INGRESS_V6: Table = Table {
    name: "Swarm, IPv6",
    kind: PathKind::Proxy,
    rows: ROWS_V6,
};

/// Makes the lab's host a swarm of its own and starts both services.
pub(crate) fn start(lab: &Lab) -> Result<()> {
    lab.docker("swarm init --advertise-addr 203.0.113.10")?;
    for (name, ports) in SERVICES {
        lab.serve(name, ports)?;
    }
    if !Path::new("/proc/sys/net/ipv4/vs").exists() {
        stand_in_for_ipvs(lab)?;
    }
    for port in ["8095", "8096"] {
        lab.wait_until_open(&format!("tcp host:{port}"))?;
    }
    Ok(())
}

fn stand_in_for_ipvs(lab: &Lab) -> Result<()> {
    let task = wait_for("the task of the service", Duration::from_mins(3), || {
        let id = lab.docker("ps --quiet --filter name=mesh").ok()?;
        let format = "{{.NetworkSettings.Networks.ingress.IPAddress}}";
        let address = lab
            .docker(&format!("inspect --format {format} {}", id.trim()))
            .ok()?;
        (!address.trim().is_empty()).then(|| address.trim().to_owned())
    })?;
    lab.script(&STAND_IN.replace("TASK", &task))
        .context("cannot write the rules of the ingress network")
}

/// The rules of libnetwork's `programIngress`, and those that replace IPVS.
const STAND_IN: &str = r#"
set -eu
inside() { nsenter --net=/run/docker/netns/ingress_sbox -- "$@"; }
gateway=$(inside ip -4 -o address show eth1 | sed 's/.*inet \([0-9.]*\).*/\1/')
iptables -t nat -N DOCKER-INGRESS
iptables -t nat -A DOCKER-INGRESS -p tcp --dport 8095 -j DNAT --to-destination $gateway:8095
iptables -t nat -A DOCKER-INGRESS -j RETURN
iptables -t nat -I PREROUTING -m addrtype --dst-type LOCAL -j DOCKER-INGRESS
iptables -t nat -I OUTPUT -m addrtype --dst-type LOCAL -j DOCKER-INGRESS
iptables -t nat -I POSTROUTING -o docker_gwbridge -m addrtype --src-type LOCAL -j MASQUERADE
iptables -N DOCKER-INGRESS
iptables -A DOCKER-INGRESS -p tcp --dport 8095 -j ACCEPT
iptables -A DOCKER-INGRESS -p tcp --sport 8095 -m state --state RELATED,ESTABLISHED -j ACCEPT
iptables -A DOCKER-INGRESS -j RETURN
iptables -I FORWARD -j DOCKER-INGRESS
inside sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
inside iptables -t nat -A PREROUTING -p tcp --dport 8095 -j DNAT --to-destination TASK:80
inside iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
"#;
