//! Compares the answers of `dfw explain` with what happens to real packets.

use anyhow::Result;

use crate::Named;
use crate::support::explain::agrees;
use crate::support::lab::Lab;
use crate::support::paths::{
    DIRECT, HOST_NETWORK, POLICY, PROXY, PROXY_UNNAMED, PUBLISHED, PUBLISHED_UNNAMED, PUBLISHED_V6,
};

pub(crate) const TRIALS: &[Named] = &[("explain::tells_what_becomes_of_packets", packets)];

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
