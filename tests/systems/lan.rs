//! The network between a guest and a stranger, which no other network knows of.

use std::time::Duration;

use anyhow::Result;

use crate::support::command::{output, program};
use crate::support::netns::Namespace;
use crate::support::prefix;

/// The guest's card keeps its address over a reboot, and strangers know it by heart: nobody waits
/// for a neighbour to be found while a path may be open.
pub(crate) const MAC: &str = "52:54:00:00:00:01";
/// The guest's card.
pub(crate) const CARD: &str = "lan0";
/// The end of a machine's cable.
pub(crate) const TAP: &str = "guest";
/// The guest's addresses.
pub(crate) const GUEST: [&str; 2] = ["192.0.2.1", "2001:db8:2::1"];
/// The stranger's addresses.
pub(crate) const STRANGER: [&str; 2] = ["192.0.2.9", "2001:db8:2::9"];
/// Addresses that the policy allows; the stranger's machine has them, too.
pub(crate) const FRIEND: [&str; 2] = ["192.0.2.7", "2001:db8:2::7"];

/// A switch and the stranger's machine. Both go away with it, or with the janitor.
pub(crate) struct Lan {
    names: [String; 2],
    switch: Namespace,
    stranger: Namespace,
    /// The families over which the guest's engine publishes ports.
    pub(crate) families: &'static [&'static str],
    /// How often an untrusted client tries each path.
    pub(crate) pace: Duration,
}

impl Lan {
    pub(crate) fn new(
        number: u32,
        families: &'static [&'static str],
        pace: Duration,
    ) -> Result<Self> {
        let prefix = prefix()?;
        let names = ["switch", "stranger"].map(|what| format!("{prefix}-{number}-{what}"));
        let switch = Namespace::create(&names[0])?;
        let stranger = Namespace::create(&names[1])?;
        switch.ip("link add br0 type bridge stp_state 0 mcast_snooping 0")?;
        switch.ip("link set br0 up")?;
        switch.ip(&format!(
            "link add stranger type veth peer name eth0 netns {}",
            stranger.path().display()
        ))?;
        switch.ip("link set stranger master br0 up")?;
        for [v4, v6] in [STRANGER, FRIEND] {
            stranger.ip(&format!("addr add {v4}/24 dev eth0"))?;
            stranger.ip(&format!("addr add {v6}/64 dev eth0 nodad"))?;
        }
        stranger.ip("link set eth0 up")?;
        for address in GUEST {
            stranger.ip(&format!(
                "neigh add {address} lladdr {MAC} dev eth0 nud permanent"
            ))?;
        }
        Ok(Self {
            names,
            switch,
            stranger,
            families,
            pace,
        })
    }

    pub(crate) fn stranger(&self) -> &Namespace {
        &self.stranger
    }

    pub(crate) fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// Makes an end for a machine's cable.
    pub(crate) fn make_tap(&self) -> Result<()> {
        self.switch.ip(&format!("tuntap add {TAP} mode tap"))?;
        self.switch
            .ip(&format!("link set {TAP} master br0 up"))
            .map(drop)
    }

    /// Gives the network namespace of a process a card in this network.
    pub(crate) fn plug_in(&self, pid: u32) -> Result<()> {
        // The former card goes with its namespace, which the kernel does in its own time.
        let _ = self.switch.ip("link del guest");
        self.switch.ip(&format!(
            "link add guest type veth peer name {CARD} address {MAC} netns {pid}"
        ))?;
        self.switch.ip("link set guest master br0 up").map(drop)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in &self.names {
            // What is left the janitor finds.
            let _ = output(program("ip").args(["netns", "delete", name]));
        }
    }
}
