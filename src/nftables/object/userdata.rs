//! The user data of tables, sets, elements and rules: comments, as libnftnl writes them (`libnftnl/udata.h`).

use crate::netlink::message::Attribute;

/// Returns the comment in libnftnl's user data.
pub(super) fn user_comment(user: Option<Attribute<'_>>, kind: u8) -> Option<String> {
    let value = user_value(user?.payload, kind)?;
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8(value[..end].to_vec()).ok()
}

/// Encodes text as libnftnl's user data, with its NUL, cut at 254 bytes.
pub(super) fn user_text(kind: u8, text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.floor_char_boundary(usize::from(u8::MAX) - 1)];
    user_bytes(kind, &[text, &[0]].concat())
}

/// Bytes in libnftnl's user data: type, length, value. 255 at most.
pub(super) fn user_bytes(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    [&[kind, length], &bytes[..usize::from(length)]].concat()
}

/// Returns a number in libnftnl's user data: type, length, value in host byte order.
pub(super) fn user_number(kind: u8, value: u32) -> Vec<u8> {
    user_bytes(kind, &value.to_ne_bytes())
}

/// Returns the value of a type in libnftnl's user data.
pub(super) fn user_value(user: &[u8], kind: u8) -> Option<&[u8]> {
    let mut rest = user;
    while let [found, length, behind @ ..] = rest {
        let value = behind.get(..usize::from(*length))?;
        if *found == kind {
            return Some(value);
        }
        rest = &behind[value.len()..];
    }
    None
}
