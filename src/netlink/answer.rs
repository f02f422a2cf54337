//! The acknowledgement or error of a message (`struct nlmsgerr` of `linux/netlink.h`).

use super::message::{Attributes, Malformed, Message};

/// The kernel's acknowledgement or error of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The message's sequence number.
    pub sequence: u32,
    /// 0 for an acknowledgement.
    pub errno: i32,
    /// The kernel's own words.
    pub text: Option<String>,
    /// The offset of the offending attribute in the message, in bytes.
    pub offset: Option<u32>,
}

impl Answer {
    /// Reads an `NLMSG_ERROR`.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn decode(message: &Message<'_>) -> Result<Self, Malformed> {
        /// `NLM_F_ACK_TLVS`: attributes follow.
        const ATTRIBUTES: u16 = 0x200;
        let Some((errno, rest)) = message.body.split_first_chunk::<4>() else {
            return Err(Malformed("short error"));
        };
        let errno = i32::from_ne_bytes(*errno).checked_neg().unwrap_or(i32::MAX);
        let mut answer = Self {
            sequence: message.sequence,
            errno,
            text: None,
            offset: None,
        };
        // Only the header of the message in question is repeated, thanks to NETLINK_CAP_ACK.
        if let (true, Some(attributes)) = (message.flags & ATTRIBUTES != 0, rest.get(16..)) {
            let [_, text, offset] = Attributes::new(attributes).table::<3>()?;
            answer.text = text.and_then(|text| text.string().ok()).map(str::to_owned);
            answer.offset = offset
                .and_then(|offset| offset.payload.try_into().ok())
                .map(u32::from_ne_bytes);
        }
        Ok(answer)
    }
}
