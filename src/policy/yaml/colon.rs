//! `80:any`: a colon without a space behind it, which YAML takes for a part of the text.

use crate::net::HostPorts;
use std::net::IpAddr;

use crate::text::Span;
use crate::text::diagnostic::{Diagnostic, quoted};

/// Splits a text such as `80:any` into the key and the value.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once(':')?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte);
    let is_key = !key.is_empty() && key.bytes().all(is_word);
    // `2001:db8::/32`, and Docker's `80:8080`.
    let address = text.split('/').next().unwrap_or(text);
    let is_port = |text: &str| text.parse::<HostPorts>().is_ok();
    let is_other = address.parse::<IpAddr>().is_ok() || is_port(key) && is_port(value);
    // What is left of `2001:db8::` ends in a colon.
    let is_whole = !value.is_empty() && !value.ends_with(':');
    (is_key && is_whole && !is_other).then_some((key, value))
}

/// Returns the error about a missing space behind the colon; `at` is the place of the text, which is on one
/// line.
pub(super) fn missing((key, value): (&str, &str), at: &Span) -> Diagnostic {
    let colon = at.bytes.0 + key.len();
    Diagnostic::error("missing-space", "a space is missing after the colon")
        .at(Span::new(at.file, colon, colon + 1), "behind this")
        .help(format!("write {}", quoted(&format!("{key}: {value}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found() {
        for (text, meant) in [
            ("80:any", ("80", "any")),
            ("53/udp:office", ("53/udp", "office")),
            ("443:203.0.113.0/24", ("443", "203.0.113.0/24")),
            ("default:deny", ("default", "deny")),
            ("to:80", ("to", "80")),
        ] {
            assert_eq!(split(text), Some(meant));
        }
        for text in [
            "80:8080",
            "80:8080/tcp",
            "2001:db8::1",
            "2001:db8::/32",
            "203.0.113.10:80",
            "2001:db8:",
            "80:",
            ":80",
            "80",
        ] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
