//! A revoked client of a published UDP port to which the container sends first; and
//! what is published on a loopback address where the engine's rules are gone.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::paths;
use crate::support::command::output;
use crate::support::lab::Lab;
use crate::support::paths::{LOOPBACK, POLICY};
use crate::support::probe::{PATIENCE, SILENCE, arrives};
use crate::support::table::{Reading, Row, check, row};

pub(crate) const TRIALS: &[Named] = &[(
    "container_sends_first::revoked_client_stays_out_when_the_container_sends",
    revoked_client_stays_out_when_the_container_sends,
)];

/// They take rules of the engine away, which it writes again when it starts.
pub(crate) const LAST: &[Named] = &[(
    "container_sends_first::loopback_over_the_wire_without_nat_rules",
    loopback_over_the_wire_without_nat_rules,
)];

/// What containers ask for from other ports is not looked at.
#[rustfmt::skip]
const EGRESS: &[Row] = &[
    row("the world",                     "udp internet:53",     "speaker",              ""),
    row("the world, IPv6",               "udp internet6:53",    "speaker",              ""),
];

fn revoked_client_stays_out_when_the_container_sends(lab: &Lab) -> Result<()> {
    lab.run("speaker", "--network sixes -p 5399:54/udp", "tcp:80")?;
    let checked = lab
        .wait_until_open("tcp speaker:80")
        .and_then(|()| speaks(lab, "speaker", "trusted").context("IPv4"))
        .and_then(|()| speaks(lab, "speaker6", "trusted6").context("IPv6"));
    lab.docker("rm --force speaker")?;
    checked
}

fn speaks(lab: &Lab, server: &str, client: &str) -> Result<()> {
    let bind = |name: &str, address: IpAddr, port: u16| -> Result<UdpSocket> {
        let place = lab.client(name.trim_end_matches('6'))?.namespace;
        place.run(|| Ok(UdpSocket::bind((address, port))?))
    };
    let (server_address, client_address) = (lab.address(server)?, lab.address(client)?);
    let server = bind(server, server_address, 54)?;
    let client = bind(client, client_address, 7000)?;
    let to_client = SocketAddr::from((client_address, 7000));
    let forget = || output(lab.host()?.command("conntrack").arg("-F"));
    let allowed = format!("{POLICY}  5399/udp: [trusted]\n");
    let revoked = format!("{POLICY}  5399/udp: []\n");

    lab.apply(&allowed)?;
    forget()?;
    ensure!(
        arrives(&server, to_client, &client, PATIENCE)?,
        "who may ask is not spoken to"
    );
    server.send_to(b"word", to_client)?;
    let (_, from) = client.recv_from(&mut [0; 16])?;
    ensure!(
        arrives(&client, from, &server, PATIENCE)?,
        "who may ask is not heard"
    );
    for policy in [&revoked, &POLICY.to_owned()] {
        lab.apply(&allowed)?;
        forget()?;
        ensure!(arrives(&server, to_client, &client, PATIENCE)?, "again");
        lab.apply(policy)?;
        ensure!(
            !arrives(&client, from, &server, SILENCE)?,
            "on the connection that the container opened before"
        );
        forget()?;
        ensure!(
            !arrives(&server, to_client, &client, SILENCE)?,
            "the container sends to a client that is not allowed"
        );
        ensure!(
            !arrives(&client, from, &server, SILENCE)?,
            "the client is back"
        );
        check(lab, EGRESS, Reading::Guarded)?;
    }
    lab.remove()?;
    forget()?;
    ensure!(
        arrives(&server, to_client, &client, PATIENCE)?
            && arrives(&client, from, &server, PATIENCE)?,
        "without dfw the client is not back"
    );
    Ok(())
}

fn loopback_over_the_wire_without_nat_rules(lab: &Lab) -> Result<()> {
    let host = lab.host()?;
    host.sysctl("net/ipv4/conf/all/route_localnet", "1")?;
    lab.script("iptables -t nat -F")?;
    let checked = check(lab, LOOPBACK, Reading::Bare).and_then(|()| {
        for policy in [POLICY, "default: deny\n", "default: allow\n"] {
            lab.apply(policy)?;
            check(lab, LOOPBACK, Reading::Guarded).context(policy)?;
        }
        Ok(())
    });
    host.sysctl("net/ipv4/conf/all/route_localnet", "0")?;
    lab.stop_engine()?;
    lab.start_engine()?;
    lab.wait_for_containers()?;
    checked?;
    lab.apply(POLICY)?;
    paths::guarded_now(lab)
}
