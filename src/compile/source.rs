//! What sources hold on a host.

use std::borrow::Cow;

use crate::host::HostView;
use crate::net::AddressSet;
use crate::policy::NamedSource;

/// What a source holds on a host.
#[derive(Debug)]
pub struct Held<'a> {
    /// Its addresses.
    pub addresses: Cow<'a, AddressSet>,
    /// What the host should tell of it and does not, each a sentence without a period.
    pub missing: Vec<String>,
}

/// Returns what a source holds on a host. What the host does not tell is left out.
#[must_use]
pub fn held<'a>(source: &'a NamedSource, host: &HostView) -> Held<'a> {
    let _ = host;
    match &source.on_host {
        None => Held {
            addresses: Cow::Borrowed(&source.addresses),
            missing: Vec::new(),
        },
        Some(on_host) => match *on_host {},
    }
}
