//! Netlink messages as bytes: writes and parses headers, attributes and nested attributes. Input is
//! untrusted.
//!
//! Layout (`linux/netlink.h`, `linux/netfilter/nfnetlink.h`): headers and lengths are in host byte
//! order, everything is padded to 4 bytes, and what nf_tables puts into attributes is big-endian
//! unless it ends up in a register as it is.

use thiserror::Error;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct nfgenmsg`.
const GENERIC: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`: the type without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = (1 << 14) - 1;

/// The sequence number of requests; messages of a transaction count from 1.
pub(crate) const SEQUENCE: u32 = 0;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x04;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`, in answers: something changed during the dump.
pub const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;

/// An attribute that does not fit into a netlink message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a netlink attribute would be longer than 65535 bytes")]
pub struct TooLong;

/// A malformed netlink message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed netlink message: {0}")]
pub struct Malformed(pub &'static str);

/// Writes netlink messages one behind the other.
///
/// Lengths are checked; the first error is kept and returned by [`finish`](Self::finish), so that a sequence
/// of writes needs one check only.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Writer {
    /// Returns an empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for about so many more bytes.
    pub fn reserve(&mut self, more: usize) {
        self.bytes.reserve(more);
    }

    /// Returns the bytes so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Ends with all bytes.
    ///
    /// # Errors
    /// If an attribute was longer than its length field can say.
    pub fn finish(self) -> Result<Vec<u8>, TooLong> {
        if self.too_long {
            Err(TooLong)
        } else {
            Ok(self.bytes)
        }
    }

    /// Writes one message with an `nfgenmsg` header; `kind` includes the subsystem. Returns where
    /// the message starts.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Self),
    ) -> usize {
        let [high, low] = resource.to_be_bytes();
        // The second byte is the version, NFNETLINK_V0.
        self.headed(kind, flags, sequence, [family, 0, high, low], body)
    }

    /// Writes one message of any subsystem, whose own header begins with `head`. Returns where the
    /// message starts.
    pub fn headed(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        head: [u8; 4],
        body: impl FnOnce(&mut Self),
    ) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]); // port id: the kernel fills it in
        self.bytes.extend_from_slice(&head);
        body(self);
        match u32::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        start
    }

    /// Sets flags of the message that starts at `start`.
    pub fn add_flags(&mut self, start: usize, flags: u16) {
        let at = start + 6;
        let old = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// Writes an attribute.
    pub fn attribute(&mut self, kind: u16, payload: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(payload);
        self.close(start);
    }

    /// Writes a big-endian number.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Writes a big-endian number.
    pub fn be64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Writes a NUL-terminated string.
    pub fn string(&mut self, kind: u16, text: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// Writes attributes as they were read.
    pub fn raw(&mut self, attributes: &[u8]) {
        self.bytes.extend_from_slice(attributes);
    }

    /// Writes attributes inside an attribute.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NESTED);
        body(self);
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A received netlink message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`, for nfnetlink with the subsystem in the high byte.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// The bytes behind `nlmsghdr`.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Returns the address family of the `nfgenmsg` header.
    ///
    /// # Errors
    /// If the message is too short to have one.
    pub fn family(&self) -> Result<u8, Malformed> {
        self.body
            .first()
            .copied()
            .ok_or(Malformed("no nfgenmsg header"))
    }

    /// Returns the attributes behind the `nfgenmsg` header.
    ///
    /// # Errors
    /// If the message is too short to have one.
    pub fn attributes(&self) -> Result<Attributes<'a>, Malformed> {
        self.body
            .get(GENERIC..)
            .map(Attributes::new)
            .ok_or(Malformed("no nfgenmsg header"))
    }
}

/// Reads messages one behind the other.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Reads what one `recv` returned.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.rest);
        if bytes.is_empty() {
            return None;
        }
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Some(Err(Malformed("short header")));
        };
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = bytes.get(HEADER..length) else {
            return Some(Err(Malformed("wrong message length")));
        };
        self.rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            body,
        }))
    }
}

/// A received netlink attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type without flags.
    pub kind: u16,
    /// Its payload without padding.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// Returns the attributes inside.
    #[must_use]
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }

    /// Reads a big-endian number.
    ///
    /// # Errors
    /// If it has not 4 bytes.
    pub fn be32(&self) -> Result<u32, Malformed> {
        self.payload
            .try_into()
            .map(u32::from_be_bytes)
            .map_err(|_| Malformed("no 32-bit number"))
    }

    /// Reads a big-endian number.
    ///
    /// # Errors
    /// If it has not 8 bytes.
    pub fn be64(&self) -> Result<u64, Malformed> {
        self.payload
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| Malformed("no 64-bit number"))
    }

    /// Reads text up to its NUL.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn string(&self) -> Result<&'a str, Malformed> {
        let end = self
            .payload
            .iter()
            .position(|&b| b == 0)
            .unwrap_or(self.payload.len());
        std::str::from_utf8(&self.payload[..end]).map_err(|_| Malformed("text is not UTF-8"))
    }
}

/// Reads attributes one behind the other.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads a run of attributes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the attributes by type, `N` at most; later ones of the same type win, as in the kernel.
    ///
    /// # Errors
    /// If a length is wrong.
    pub fn table<const N: usize>(self) -> Result<[Option<Attribute<'a>>; N], Malformed> {
        let mut table = [None; N];
        for attribute in self {
            let attribute = attribute?;
            if let Some(place) = table.get_mut(usize::from(attribute.kind)) {
                *place = Some(attribute);
            }
        }
        Ok(table)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.rest);
        if bytes.is_empty() {
            return None;
        }
        let Some(&[l0, l1, t0, t1]) = bytes.first_chunk::<4>() else {
            return Some(Err(Malformed("short attribute")));
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(payload) = bytes.get(4..length) else {
            return Some(Err(Malformed("wrong attribute length")));
        };
        self.rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Attribute {
            kind: u16::from_ne_bytes([t0, t1]) & TYPE_MASK,
            payload,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_attribute_past_64_kib_is_reported_not_wrapped() {
        let mut writer = Writer::new();
        writer.attribute(1, &vec![0; 65_531]);
        assert!(writer.finish().is_ok());
        let mut writer = Writer::new();
        writer.nest(1, |w| w.attribute(2, &vec![0; 65_530]));
        assert_eq!(writer.finish(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in Messages::new(&bytes).flatten() {
                for attribute in message.attributes().into_iter().flatten().flatten() {
                    let _ = attribute.nested().table::<8>();
                    let _ = (attribute.be32(), attribute.be64(), attribute.string());
                }
            }
        }

        #[test]
        fn what_is_written_is_read(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)
        ) {
            let mut writer = Writer::new();
            writer.message(7, REQUEST, 9, 1, 10, |w| {
                w.nest(3, |w| payloads.iter().for_each(|p| w.attribute(5, p)));
            });
            let bytes = writer.finish().unwrap();
            let message = Messages::new(&bytes).next().unwrap().unwrap();
            prop_assert_eq!((message.kind, message.flags, message.sequence), (7, REQUEST, 9));
            let outer = message.attributes().unwrap().next().unwrap().unwrap();
            prop_assert_eq!(outer.kind, 3);
            let inner: Vec<_> = outer.nested().map(|a| a.unwrap().payload.to_vec()).collect();
            prop_assert_eq!(inner, payloads);
        }
    }
}
