//! Classifies the bridges of this host, by their names and ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::HostView;
use crate::netlink::rtnetlink::{Address, Link};

/// Recognises the bridges of container engines among the links of the host.
///
/// A bridge counts if an engine reports it or its name is one that only engines use, and if all its ports are
/// `veth`. A bridge with a network card never counts, whatever its name: its packets come from outside.
pub(super) fn bridges(links: &[Link], engine_bridges: &BTreeSet<&str>) -> HostView {
    let mut cards: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for link in links {
        if let Some(bridge) = link.controller
            && link.kind.as_deref() != Some("veth")
        {
            cards.entry(bridge).or_default().push(link.name.clone());
        }
    }
    let mut view = HostView::default();
    for link in links {
        if link.kind.as_deref() != Some("bridge") {
            continue;
        }
        let is_engines = engine_bridges.contains(link.name.as_str()) || is_engine_name(&link.name);
        let cards = cards.remove(&link.index);
        let only_containers = cards.is_none();
        if is_engines && let Some(cards) = cards {
            view.cards.insert(link.name.clone(), cards);
        }
        match (is_engines, only_containers) {
            (true, true) => view.container_bridges.insert(link.name.clone()),
            (false, false) => view.foreign_bridges.insert(link.name.clone()),
            (true, false) => view.shared_bridges.insert(link.name.clone()),
            (false, true) => view.other_bridges.insert(link.name.clone()),
        };
    }
    view
}

/// Returns the links by name, each with the name of its master.
pub(super) fn interfaces(links: &[Link]) -> BTreeMap<String, Option<String>> {
    let names: BTreeMap<u32, &str> = links.iter().map(|l| (l.index, l.name.as_str())).collect();
    let controller = |link: &Link| {
        let name = names.get(&link.controller?)?;
        Some((*name).to_owned())
    };
    let links = links.iter();
    links
        .map(|link| (link.name.clone(), controller(link)))
        .collect()
}

/// Returns the bridge with one of these addresses.
pub(super) fn bridge_with(
    links: &[Link],
    addresses: &[Address],
    gateways: &[IpAddr],
) -> Option<String> {
    let at = addresses
        .iter()
        .find(|address| gateways.contains(&address.address))?;
    let link = links.iter().find(|link| link.index == at.link)?;
    (link.kind.as_deref() == Some("bridge")).then(|| link.name.clone())
}

/// Returns whether a name is one that engines give to bridges: `docker0`, `docker_gwbridge`, `br-` and the
/// first twelve hex digits of the network's id (moby, `libnetwork/drivers/bridge`), `podman0` and so on
/// (containers/common, `libnetwork/netavark`).
fn is_engine_name(name: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    match name {
        "docker0" | "docker_gwbridge" => true,
        _ => {
            name.strip_prefix("br-")
                .is_some_and(|id| id.len() == 12 && id.chars().all(hex))
                || name
                    .strip_prefix("podman")
                    .is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str, controller: Option<u32>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: Some(kind.to_owned()),
            controller,
            xdp: false,
        }
    }

    #[test]
    fn only_bridges_of_engines_count() {
        let card = Link {
            kind: None,
            ..link(2, "eth0", "", Some(6))
        };
        let view = bridges(
            &[
                card,
                link(3, "docker0", "bridge", None),
                link(4, "br-0123456789ab", "bridge", None),
                link(5, "veth1234567", "veth", Some(4)),
                link(6, "br-ffffffffffff", "bridge", None), // has eth0 in it
                link(7, "br-lan", "bridge", None),
                link(8, "podman1", "bridge", None),
                link(9, "br-ba9876543210", "vlan", None),
                link(10, "podman", "bridge", None),
                link(11, "tap0", "tun", Some(7)),
                link(12, "br-own", "bridge", None), // may be a network of an engine
                link(13, "edge", "bridge", None),
            ],
            &BTreeSet::from(["edge", "eth0"]),
        );
        let names: Vec<_> = view.container_bridges.iter().map(String::as_str).collect();
        assert_eq!(names, ["br-0123456789ab", "docker0", "edge", "podman1"]);
        let foreign: Vec<_> = view.foreign_bridges.iter().map(String::as_str).collect();
        assert_eq!(foreign, ["br-lan"]);
        let other: Vec<_> = view.other_bridges.iter().map(String::as_str).collect();
        assert_eq!(other, ["br-own", "podman"]);
        assert!(view.shared_bridges.contains("br-ffffffffffff"));
        let cards = [("br-ffffffffffff".to_owned(), vec!["eth0".to_owned()])];
        assert_eq!(view.cards, cards.into());
    }
}
