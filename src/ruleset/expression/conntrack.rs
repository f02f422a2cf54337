//! Matches on the conntrack entry of a packet, and changes to it.

use std::fmt::{self, Display, Formatter};

/// The first port that clients use for themselves on Linux (`net.ipv4.ip_local_port_range`).
pub const EPHEMERAL: u16 = 32768;

/// The bit of the conntrack label that marks connections opened by this host. Other users of labels are Open
/// vSwitch, `xt_connlabel` and `act_ct`, which count theirs from 0 (`linux/netfilter/nf_conntrack_common.h`
/// knows 128 bits, and no names).
pub const OPENED: u8 = 93;

/// A match on, or a change of, a conntrack entry. Linux 5.10 suffices for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conntrack {
    /// `ct direction original`. Linux 5.10 suffices.
    Direction(Direction),
    /// `ct status dnat`: the destination of the connection was translated; true in both
    /// directions. Linux 5.10 suffices.
    DestinationNat,
    /// `ct state related`. Linux 5.10 suffices.
    Related,
    /// `ct mark 0x0df00000`: the connection bears this mark. Of which number is left to the plan
    /// ([`MARK`](crate::ruleset::MARK)). Linux 5.10 suffices.
    Mark(u32),
    /// `ct mark set 0x0df00000`: gives the connection a mark, which is not 0. Linux 5.10 suffices.
    SetMark(u32),
    /// `meta l4proto tcp tcp sport < 32768 ct state new tcp flags & (syn | ack) != syn`: a segment
    /// from a port that servers use ([`EPHEMERAL`]), in the middle of a connection of which
    /// connection tracking knows nothing, so that it takes its sender for the one who opened it.
    /// Linux 5.10 suffices.
    Resumed,
    /// `meta l4proto tcp tcp flags & (syn | ack) == syn ct state new ct label set 93`: notes on a TCP
    /// connection that this host opens that it did ([`OPENED`]). In output. Linux 5.10 suffices.
    NoteOpening,
    /// `ct direction reply ct label 93`: a reply on a connection that bears that note. Without it a reply
    /// proves nothing: where a server speaks first after its connection was forgotten, it counts as the one
    /// who opened it. Linux 5.10 suffices.
    Opened,
    /// `ct state new ct status ! confirmed`: the first packet of a connection. Without the second part, all packets
    /// until the first reply are new. Linux 5.10 suffices.
    First,
}

/// The direction of a packet within its connection (`enum ip_conntrack_dir`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the side that opened the connection.
    Original,
    /// Back to it.
    Reply,
}

impl Conntrack {
    /// Returns the mark that the expression compares or sets, mutable.
    pub(super) fn mark_mut(&mut self) -> Option<&mut u32> {
        match self {
            Self::Mark(mark) | Self::SetMark(mark) => Some(mark),
            Self::Direction(_)
            | Self::DestinationNat
            | Self::Related
            | Self::Resumed
            | Self::NoteOpening
            | Self::Opened
            | Self::First => None,
        }
    }

    /// Checks that a mark is not 0, which connections without a mark have.
    pub(super) fn fits(&self) -> bool {
        match self {
            Self::Mark(mark) | Self::SetMark(mark) => *mark != 0,
            Self::Direction(_)
            | Self::DestinationNat
            | Self::Related
            | Self::Resumed
            | Self::NoteOpening
            | Self::Opened
            | Self::First => true,
        }
    }
}

impl Display for Conntrack {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direction(Direction::Original) => f.write_str("ct direction original"),
            Self::Direction(Direction::Reply) => f.write_str("ct direction reply"),
            Self::DestinationNat => f.write_str("ct status dnat"),
            Self::Related => f.write_str("ct state related"),
            Self::Mark(mark) => write!(f, "ct mark {mark:#010x}"),
            Self::SetMark(mark) => write!(f, "ct mark set {mark:#010x}"),
            Self::Resumed => write!(
                f,
                "meta l4proto tcp tcp sport < {EPHEMERAL} ct state new tcp flags & (syn | ack) != \
                 syn"
            ),
            Self::NoteOpening => write!(
                f,
                "meta l4proto tcp tcp flags & (syn | ack) == syn ct state new ct label set {OPENED}"
            ),
            Self::Opened => write!(f, "ct direction reply ct label {OPENED}"),
            Self::First => f.write_str("ct state new ct status ! confirmed"),
        }
    }
}
