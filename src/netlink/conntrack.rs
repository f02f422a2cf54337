//! Connections that the kernel tracks (`linux/netfilter/nfnetlink_conntrack.h`).

use std::net::{IpAddr, SocketAddr};

use super::message::{ACK, REQUEST, SEQUENCE, Writer};
use super::number::*;

/// Writes the request for the TCP connection that was opened from one address to another; the kernel answers with it,
/// or with `ENOENT` if it tracks none. Both addresses must be of one family.
#[must_use]
pub fn tcp_connection(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut w = Writer::new();
    let family = match from {
        SocketAddr::V4(_) => NFPROTO_IPV4,
        SocketAddr::V6(_) => NFPROTO_IPV6,
    };
    w.message(
        NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
        // The connection comes as a part of several (`NLM_F_MULTI`) without an end: the acknowledgement is the end.
        REQUEST | ACK,
        SEQUENCE,
        family,
        0,
        |w| {
            w.nest(CTA_TUPLE_ORIG, |w| {
                w.nest(CTA_TUPLE_IP, |w| {
                    address(w, from.ip(), (CTA_IP_V4_SRC, CTA_IP_V6_SRC));
                    address(w, to.ip(), (CTA_IP_V4_DST, CTA_IP_V6_DST));
                });
                w.nest(CTA_TUPLE_PROTO, |w| {
                    w.attribute(CTA_PROTO_NUM, &[IPPROTO_TCP]);
                    w.attribute(CTA_PROTO_SRC_PORT, &from.port().to_be_bytes());
                    w.attribute(CTA_PROTO_DST_PORT, &to.port().to_be_bytes());
                });
            });
        },
    );
    w.bytes().to_vec()
}

fn address(w: &mut Writer, address: IpAddr, (v4, v6): (u16, u16)) {
    match address {
        IpAddr::V4(address) => w.attribute(v4, &address.octets()),
        IpAddr::V6(address) => w.attribute(v6, &address.octets()),
    }
}
