//! Resolves sources on a host.

use std::borrow::Cow;

use crate::host::HostView;
use crate::net::AddressSet;
use crate::policy::{NamedSource, OnHost};

/// The addresses of a source on a host.
#[derive(Debug)]
pub struct Held<'a> {
    /// Its addresses.
    pub addresses: Cow<'a, AddressSet>,
    /// The missing interfaces and addresses, each a sentence without a period.
    pub missing: Vec<String>,
}

/// Returns the addresses of a source on a host. Unknown interfaces are left out.
#[must_use]
pub fn held<'a>(source: &'a NamedSource, host: &HostView) -> Held<'a> {
    let mut missing = Vec::new();
    let addresses = match &source.on_host {
        None => Cow::Borrowed(&source.addresses),
        Some(OnHost::NetworksOf(names)) => {
            let mut all = AddressSet::default();
            for name in names {
                match host.networks.get(name.as_str()) {
                    None => missing.push(format!("there is no interface `{name}`")),
                    Some(networks) if networks.is_empty() => {
                        missing.push(format!(
                            "`{name}` has no usable address (loopback and link-local do not count)"
                        ));
                    }
                    Some(networks) => all = all.union(networks),
                }
            }
            Cow::Owned(all)
        }
    };
    Held { addresses, missing }
}
