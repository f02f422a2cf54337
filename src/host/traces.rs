//! What engines leave behind that do not answer: sockets and rules that publish ports all the same.

use super::HostView;
use super::holder::Holder;
use super::listener::Listener;
use super::nat::{Target, Translation};
use crate::net::Protocol;

/// What publishes ports, and no engine that was asked explains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces<'a> {
    /// Sockets of docker-proxy and of rootless engines.
    pub published: Vec<&'a Listener>,
    /// Sockets of containers in the network of the host.
    pub containers: Vec<&'a Listener>,
    /// Rules that translate ports, of chains as engines call them.
    pub translations: Vec<Translation>,
}

impl Traces<'_> {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            published,
            containers,
            translations,
        } = self;
        published.is_empty() && containers.is_empty() && translations.is_empty()
    }
}

impl HostView {
    /// What publishes ports although no engine that was asked explains it, as far as sockets and rules were
    /// looked at. Sockets on loopback do not count.
    #[must_use]
    pub fn traces_of_engines(&self) -> Traces<'_> {
        let reachable = || {
            let listeners = self.listeners.iter();
            listeners.filter(|listener| !listener.address.is_loopback())
        };
        let published = reachable().filter(|listener| {
            matches!(
                self.holder(listener),
                Holder::Proxy(_) | Holder::Rootless(_)
            ) && !self.is_explained(listener)
        });
        let containers =
            reachable().filter(|listener| matches!(self.holder(listener), Holder::Unanswered(..)));
        let translations = self.nat.translations().into_iter();
        Traces {
            published: published.collect(),
            containers: containers.collect(),
            translations: translations
                .filter(|one| is_engines(one) && !self.is_translation_explained(one))
                .collect(),
        }
    }

    /// Whether an engine that was asked publishes all ports that a rule translates.
    fn is_translation_explained(&self, translation: &Translation) -> bool {
        let Some(ports) = &translation.ports else {
            return false;
        };
        let protocol = |protocol: Protocol| match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        ports.ranges().iter().all(|(first, last)| {
            self.publications().any(|publication| {
                let published = publication.published;
                Some(protocol(published.protocol)) == translation.protocol
                    && published.first <= *first
                    && *last <= published.last
            })
        })
    }
}

/// Whether a rule is in a chain as engines call them: those of Docker (`DOCKER`, `DOCKER-INGRESS`, and the
/// tables `docker-bridges` of its nftables backend) and of Podman (netavark's, CNI's). Only root gives
/// such names.
fn is_engines(translation: &Translation) -> bool {
    let chains = ["DOCKER", "NETAVARK-", "CNI-", "nv_"];
    let tables = [" docker-bridges", " netavark"];
    let elsewhere = matches!(translation.to, Target::Address(..) | Target::Somewhere);
    elsewhere
        && (chains
            .iter()
            .any(|chain| translation.chain.starts_with(chain))
            || tables
                .iter()
                .any(|table| translation.table.ends_with(table)))
}
