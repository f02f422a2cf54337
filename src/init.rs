//! Writes the first policy of a host: an entry for every published port.

use crate::net::{Entry, HostPorts, Protocol};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use crate::host::HostView;
use crate::policy::{Policy, read_text};
use crate::untrusted::is_deceptive;

/// The number of containers named in the comment of a port.
const TITLES: usize = 8;
/// The name of the source with the allowed addresses.
const TRUSTED: &str = "trusted";

/// A policy as text and parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// YAML.
    pub text: String,
    /// The parsed policy.
    pub policy: Policy,
}

/// The error of a written policy that is not valid, which is a bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy made from the published ports is not valid: {0}")]
pub struct Invalid(String);

/// The sources allowed at every port of a first policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// These addresses; empty allows nobody.
    Addresses(Vec<Entry>),
    /// All sources.
    Any,
}

/// The containers of a port: their titles with their own ports.
type Titles = Vec<String>;

/// Writes a policy for the ports that are published now.
///
/// # Errors
/// If the policy is not valid, which is a bug.
pub fn propose(host: &HostView, allow: &Allow) -> Result<Proposal, Invalid> {
    let mut text = String::from(
        "# Written by `dfw init` from the ports published on this host; dfw never overwrites it, so edit \
         it.\n# Then: `dfw check`, and `dfw apply` puts it in force.\n\n\
         default: deny    # published ports that are not listed below are denied\n",
    );
    if let Allow::Addresses(addresses) = allow
        && !addresses.is_empty()
    {
        let list: Vec<_> = addresses
            .iter()
            .map(|entry| quoted(&entry.to_string()))
            .collect();
        let _ = write!(text, "\nsources:\n  {TRUSTED}: [{}]\n", list.join(", "));
    }
    let who = match allow {
        Allow::Any => "any".to_owned(),
        Allow::Addresses(addresses) if addresses.is_empty() => "[]".to_owned(),
        Allow::Addresses(_) => format!("[{TRUSTED}]"),
    };
    let ports = ranges(ports(host));
    text.push_str(if ports.is_empty() {
        "\nports: {}\n"
    } else {
        "\nports:\n"
    });
    let width = ports
        .iter()
        .map(|(key, _)| written(key).len())
        .max()
        .unwrap_or_default();
    for (key, titles) in &ports {
        let written = format!("{}:", written(key));
        let _ = writeln!(
            text,
            "  {written:<width$} {who}    # {}",
            titles.join("; "),
            width = width + 1,
        );
    }
    let policy = read_text("published.yaml", &text).map_err(Invalid)?;
    Ok(Proposal { text, policy })
}

/// An address of the host, or all of them, and a protocol.
type Place = (Option<IpAddr>, Protocol);

/// Returns every port that is published or served by a container in the host's network, except on loopback: the
/// ranges of each address and protocol, with their containers.
fn ports(host: &HostView) -> BTreeMap<Place, Vec<(u16, u16, String)>> {
    let mut ports: BTreeMap<Place, Vec<(u16, u16, String)>> = BTreeMap::new();
    let mut add = |port: HostPorts, title: String| {
        let key = port.named();
        let place = (key.address, key.protocol);
        ports
            .entry(place)
            .or_default()
            .push((key.first, key.last, title));
    };
    for publication in host.publications() {
        let published = publication.published;
        if published.address.is_loopback() {
            continue;
        }
        let mut title = clean(&publication.of.title());
        if (published.first, published.last) != (published.container_port, published.container_port)
        {
            let _ = write!(title, ", its port {}", published.container_port);
        }
        if !publication.of.is_running() {
            title.push_str(", not running");
        }
        add(published.port(), title);
    }
    for listener in &host.listeners {
        let owner = listener.owner.as_ref();
        // It is in the network of the host, whatever its engine reports.
        let Some(container) = owner.and_then(|owner| host.container_of(owner)) else {
            continue;
        };
        if listener.address.is_loopback() {
            continue;
        }
        let port = HostPorts {
            address: Some(listener.address),
            protocol: listener.protocol,
            first: listener.port,
            last: listener.port,
        };
        let title = format!("{}, in the host's network", clean(&container.title()));
        add(port, title);
    }
    ports
}

/// Splits overlapping ranges, each with all its containers, and joins adjacent ports of the same containers.
fn ranges(ports: BTreeMap<Place, Vec<(u16, u16, String)>>) -> Vec<(HostPorts, Titles)> {
    let mut ranges: Vec<(HostPorts, Titles)> = Vec::new();
    for ((address, protocol), ports) in ports {
        // For each port, the titles that begin there or end before it, with counts.
        let mut ends: BTreeMap<u32, Vec<(&str, bool)>> = BTreeMap::new();
        for (first, last, title) in &ports {
            ends.entry(u32::from(*first))
                .or_default()
                .push((title, true));
            ends.entry(u32::from(*last) + 1)
                .or_default()
                .push((title, false));
        }
        let next = ends.keys().skip(1).copied().collect::<Vec<_>>();
        let mut titles: BTreeMap<&str, usize> = BTreeMap::new();
        for ((first, changes), next) in ends.iter().zip(next) {
            for (title, begins) in changes {
                let number = titles.entry(title).or_default();
                *number = if *begins {
                    *number + 1
                } else {
                    number.saturating_sub(1)
                };
            }
            titles.retain(|_, number| *number > 0);
            let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(next - 1)) else {
                continue;
            };
            if titles.is_empty() {
                continue;
            }
            let mut named: Titles = titles
                .keys()
                .take(TITLES)
                .map(|t| (*t).to_owned())
                .collect();
            if let more @ 1.. = titles.len().saturating_sub(TITLES) {
                named.push(format!("and {more} more"));
            }
            match ranges.last_mut() {
                Some((before, same))
                    if *same == named
                        && (before.address, before.protocol) == (address, protocol)
                        && before.last.checked_add(1) == Some(first) =>
                {
                    before.last = last;
                }
                _ => {
                    let key = HostPorts {
                        address,
                        protocol,
                        first,
                        last,
                    };
                    ranges.push((key, named));
                }
            }
        }
    }
    ranges.sort_by_key(|(key, _)| (key.first, key.protocol, key.address));
    ranges
}

/// Returns a key as YAML, without the default protocol.
fn written(key: &HostPorts) -> String {
    let text = key.to_string();
    quoted(text.strip_suffix("/tcp").unwrap_or(&text))
}

/// Returns a text for YAML, with quotes around IPv6 addresses.
fn quoted(text: &str) -> String {
    if text.contains("::") || text.contains('[') {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    }
}

/// Cleans a container's title for a comment, which ends with its line.
fn clean(title: &str) -> String {
    title.replace(is_deceptive, "?")
}
