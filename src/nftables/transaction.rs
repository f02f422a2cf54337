//! The messages that begin and end a transaction.

use crate::netlink::message::{ACK, REQUEST, Writer};

use super::number::*;

/// Begins a transaction. With a `generation` it takes effect only if no ruleset of the network namespace has
/// changed since; otherwise the kernel answers `ERESTART`.
pub(crate) fn begin(w: &mut Writer, sequence: u32, generation: Option<u32>) {
    boundary(w, NFNL_MSG_BATCH_BEGIN, sequence, |w| {
        if let Some(generation) = generation {
            w.be32(NFNL_BATCH_GENID, generation);
        }
    });
}

/// Ends a transaction. The message that starts at `last` is acknowledged, as kernels before 6.10
/// acknowledge no end.
pub(crate) fn end(w: &mut Writer, sequence: u32, last: usize) {
    w.add_flags(last, ACK);
    boundary(w, NFNL_MSG_BATCH_END, sequence, |_| {});
}

fn boundary(w: &mut Writer, kind: u16, sequence: u32, body: impl FnOnce(&mut Writer)) {
    let subsystem = NFNL_SUBSYS_NFTABLES;
    w.message(kind, REQUEST, sequence, NFPROTO_UNSPEC, subsystem, body);
}
