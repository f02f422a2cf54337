//! Packets that rules log to a group (`linux/netfilter/nfnetlink_log.h`).

use std::time::Duration;

use super::header::Headers;
use super::message::{ACK, Attribute, Malformed, Message, REQUEST, SEQUENCE, Writer};
use super::number::*;
use crate::untrusted::clean;

/// The number of bytes to receive of each packet: all headers with ports.
const COPIED: u32 = 128;

/// A packet that a rule logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The log prefix, cleaned.
    pub prefix: String,
    /// The time of arrival, since 1970; `None` if the kernel did not record it.
    pub time: Option<Duration>,
    /// The index of the interface that it came in through.
    pub incoming: Option<u32>,
    /// Its headers; `None` if they cannot be parsed.
    pub headers: Option<Headers>,
    /// The port that the connection was opened to, before any translation, where it is tracked.
    pub original_port: Option<u16>,
    /// Its sequence number, counted from 0 by the kernel: gaps are lost packets.
    pub sequence: Option<u32>,
}

/// Writes the request for the packets of a group, one message each. `connections` requests conntrack
/// information, which not every kernel provides.
#[must_use]
pub fn listen(group: u16, connections: bool) -> Vec<u8> {
    let mut w = Writer::new();
    w.message(
        NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG,
        REQUEST | ACK,
        SEQUENCE,
        NFPROTO_UNSPEC,
        group,
        |w| {
            w.attribute(NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND]);
            // `struct nfulnl_msg_config_mode`: the length, the mode, a byte of padding.
            let mode = [&COPIED.to_be_bytes()[..], &[NFULNL_COPY_PACKET, 0]].concat();
            w.attribute(NFULA_CFG_MODE, &mode);
            w.be32(NFULA_CFG_QTHRESH, 1);
            let flags = if connections {
                NFULNL_CFG_F_SEQ | NFULNL_CFG_F_CONNTRACK
            } else {
                NFULNL_CFG_F_SEQ
            };
            w.attribute(NFULA_CFG_FLAGS, &flags.to_be_bytes());
        },
    );
    w.bytes().to_vec()
}

/// Reads a packet; `None` for any other message.
///
/// # Errors
/// If it is malformed.
pub fn decode(message: &Message<'_>) -> Result<Option<Logged>, Malformed> {
    if message.kind != NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET {
        return Ok(None);
    }
    let table = message.attributes()?.table::<19>()?;
    let get = |kind: u16| table[usize::from(kind)];
    let number = |kind: u16| get(kind).map(|a| a.be32()).transpose();
    Ok(Some(Logged {
        // Others may log to the group, too.
        prefix: clean(get(NFULA_PREFIX).map_or(Ok(""), |prefix| prefix.string())?),
        time: get(NFULA_TIMESTAMP).and_then(|time| timestamp(time.payload)),
        incoming: number(NFULA_IFINDEX_INDEV)?,
        headers: get(NFULA_PAYLOAD).and_then(|bytes| Headers::of_packet(bytes.payload)),
        original_port: get(NFULA_CT).and_then(|connection| original_port(&connection)),
        sequence: number(NFULA_SEQ)?,
    }))
}

/// `struct nfulnl_msg_packet_timestamp`: seconds and microseconds.
fn timestamp(bytes: &[u8]) -> Option<Duration> {
    let (seconds, micros) = bytes.split_at_checked(8)?;
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
    let micros = u32::try_from(number(micros)?).ok()?;
    Some(Duration::new(number(seconds)?, micros.checked_mul(1000)?))
}

fn original_port(connection: &Attribute<'_>) -> Option<u16> {
    fn inside<'a>(attribute: &Attribute<'a>, kind: u16) -> Option<Attribute<'a>> {
        attribute.nested().table::<4>().ok()?[usize::from(kind)]
    }
    let tuple = inside(connection, CTA_TUPLE_ORIG)?;
    let port = inside(&inside(&tuple, CTA_TUPLE_PROTO)?, CTA_PROTO_DST_PORT)?;
    Some(u16::from_be_bytes(port.payload.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::Messages;

    #[test]
    fn a_packet_is_read_with_what_is_known_of_its_connection() {
        let mut w = Writer::new();
        let kind = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET;
        w.message(kind, 0, 0, 2, 223, |w| {
            w.string(NFULA_PREFIX, "dfw denied 8000-8010/tcp at web.yaml:3");
            let time = [7_u64.to_be_bytes(), 5_u64.to_be_bytes()].concat();
            w.attribute(NFULA_TIMESTAMP, &time);
            w.be32(NFULA_IFINDEX_INDEV, 4);
            w.be32(NFULA_SEQ, 9);
            w.nest(NFULA_CT, |w| {
                w.nest(CTA_TUPLE_ORIG, |w| {
                    w.nest(CTA_TUPLE_PROTO, |w| {
                        w.attribute(CTA_PROTO_DST_PORT, &8003_u16.to_be_bytes());
                    });
                });
            });
        });
        let message = Messages::new(w.bytes()).next().unwrap().unwrap();
        let expected = Logged {
            prefix: "dfw denied 8000-8010/tcp at web.yaml:3".to_owned(),
            time: Some(Duration::new(7, 5000)),
            incoming: Some(4),
            headers: None,
            original_port: Some(8003),
            sequence: Some(9),
        };
        assert_eq!(decode(&message), Ok(Some(expected)));
    }
}
