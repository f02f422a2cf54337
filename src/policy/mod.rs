//! The policy: who may reach which port of this host.
//!
//! A [`Policy`] is valid by construction: [`read`] turns texts into it or into diagnostics, and
//! nothing else makes one. It says what the user wants, in the user's terms; how that becomes
//! chains and sets is the business of the compiler.

mod colon;
mod display;
mod entry;
mod expectation;
mod format;
mod interface;
mod list;
mod mistake;
mod port;
mod reader;
mod reserved;
mod schema;
mod selection;
mod settings;
mod syntax;
#[cfg(test)]
mod tests;
mod validate;

use crate::net::{AddressSet, HostPorts};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::text::Span;
pub use entry::parse_entry;
pub use mistake::Mistake;
pub use schema::schema;
pub use validate::{read, read_text};

/// Everything that one policy directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What happens to published ports that no key of [`ports`](Self::ports) names.
    pub default: DefaultAction,
    /// Where `default:` is written.
    pub default_origin: Span,
    /// Named lists of addresses.
    pub sources: BTreeMap<SourceName, NamedSource>,
    /// What is said about each port. Keys are either nested or disjoint, never equal.
    pub ports: BTreeMap<HostPorts, PortPolicy>,
    /// How the host looks and where dfw hooks in.
    pub settings: Settings,
    /// Expectations to be checked before the policy is applied.
    pub tests: Vec<Expectation>,
}

/// What happens to published ports that no policy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAction {
    /// They are refused.
    Deny,
    /// They are left to Docker.
    Allow,
}

/// The name of a list of sources: `[A-Za-z][A-Za-z0-9_-]*`, at most 64 bytes, not a reserved word such as
/// `any` or `deny`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(pub(crate) String);

/// A named list of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSource {
    /// Its addresses, merged.
    pub addresses: AddressSet,
    /// Where the name is written.
    pub origin: Span,
}

/// Who may reach a port, and what happens to everybody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPolicy {
    /// Who may.
    pub allow: SourceSelection,
    /// Who may not, although allowed. `any` is never set here.
    pub except: SourceSelection,
    /// Where an allowed packet must come in; empty means anywhere. Exact names.
    pub interfaces: BTreeSet<InterfaceName>,
    /// Whether refusals are logged.
    pub log: bool,
    /// How a refusal looks to the refused.
    pub refuse: Refuse,
    /// Where the key is written.
    pub origin: Span,
}

/// A choice of sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSelection {
    /// `any`: every address.
    pub any: bool,
    /// `containers`: whatever comes from a container of this host.
    pub containers: bool,
    /// Named lists; each exists in [`Policy::sources`].
    pub named: BTreeSet<SourceName>,
    /// Addresses written in place, merged.
    pub inline: AddressSet,
}

/// How a refusal looks to the refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refuse {
    /// Silence.
    #[default]
    Drop,
    /// A TCP reset, or ICMP port unreachable for other protocols.
    Reject,
}

/// The name of a network interface: 1 to 15 bytes, no `/`, no `:`, no white space, no control
/// character, not `.` or `..`. Quotes and backslashes, which the kernel takes, are refused: nft
/// could not read the rules.
///
/// Source: `dev_valid_name` of the Linux kernel and `IFNAMSIZ` in `linux/if.h`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(pub(crate) String);

/// A name, or with a `*` at its end the beginning of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterfacePattern {
    /// Exactly this interface.
    Exact(InterfaceName),
    /// Every interface whose name begins so; 1 to 14 bytes, the `*` not included.
    Prefix(String),
}

/// How the host looks and where dfw hooks in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `connection-mark`: whether connections that a port lets through are marked (`ct mark`), and
    /// judged again only after the next change.
    pub connection_mark: bool,
    /// `container-interfaces`: where `default: deny` looks.
    pub container_interfaces: Vec<InterfacePattern>,
    /// `foreign-interfaces`: bridges of other software (libvirt, LXD, CNI), whose forwarded ports
    /// `default: deny` leaves alone.
    pub foreign_interfaces: Vec<InterfacePattern>,
    /// `log`: whether what `default: deny` refuses is logged.
    pub log: bool,
    /// `priority` of the base chains, relative to `filter` (0): -199 to -1.
    pub priority: i32,
}

/// One line of `tests:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The source: an address, or any container of this host.
    pub from: From,
    /// The port; `first == last`.
    pub to: HostPorts,
    /// Whether it is allowed.
    pub allow: bool,
    /// Where it is written.
    pub origin: Span,
}

/// Where a packet of an [`Expectation`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// This address, from outside.
    Address(IpAddr),
    /// A container of this host.
    Containers,
}
