//! The published ports of running containers by port: each docker-proxy's socket is compared with them.

use std::collections::HashMap;

use super::listener::Listener;
use super::{HostView, Publication};
use crate::net::Protocol;

/// What queried engines publish for running containers.
#[derive(Debug)]
pub struct Explanations<'a> {
    /// Publications of one port, by place.
    ports: HashMap<(Protocol, u16), Vec<(usize, Publication<'a>)>>,
    /// Publications of several ports, by place.
    ranges: Vec<(usize, Publication<'a>)>,
}

impl HostView {
    /// Returns what queried engines publish for running containers, by port.
    #[must_use]
    pub fn explanations(&self) -> Explanations<'_> {
        let mut explanations = Explanations {
            ports: HashMap::new(),
            ranges: Vec::new(),
        };
        let running = self.publications().filter(|p| p.of.is_running());
        for publication in running.enumerate() {
            let published = publication.1.published;
            if published.first == published.last {
                let key = (published.protocol, published.first);
                explanations.ports.entry(key).or_default().push(publication);
            } else {
                explanations.ranges.push(publication);
            }
        }
        explanations
    }
}

impl<'a> Explanations<'a> {
    /// Returns the first publication of a port, as engines list them.
    #[must_use]
    pub fn first_of(&self, protocol: Protocol, port: u16) -> Option<&Publication<'a>> {
        let (_, first) = self.of(protocol, port).min_by_key(|(place, _)| *place)?;
        Some(first)
    }

    /// Returns whether a queried engine publishes the port of a socket, for a running container.
    #[must_use]
    pub fn explains(&self, listener: &Listener) -> bool {
        let mut published = self.of(listener.protocol, listener.port);
        published.any(|(_, publication)| {
            publication.addresses().any(|address| {
                address == listener.address || listener.both_families && address.is_unspecified()
            })
        })
    }

    /// Returns the publications of a port, each with its place among all.
    fn of(&self, protocol: Protocol, port: u16) -> impl Iterator<Item = &(usize, Publication<'a>)> {
        let ranges = self.ranges.iter().filter(move |(_, publication)| {
            let ports = publication.published.port();
            ports.protocol == protocol && ports.has(port)
        });
        let one = self.ports.get(&(protocol, port));
        one.into_iter().flatten().chain(ranges)
    }
}
