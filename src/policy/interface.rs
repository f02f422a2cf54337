//! Names of network interfaces, and patterns of them.

use std::fmt;

use serde_json::{Value, json};

use crate::text::diagnostic::quoted;

use super::Mistake;

/// `IFNAMSIZ` of `linux/if.h` without the final zero.
const LONGEST: usize = 15;

/// Of patterns and of shells: names may have them, and none does.
const PATTERNS: [char; 11] = ['^', '[', ']', '?', '|', '~', '(', ')', '{', '}', '$'];

/// Names that no interface has, or that are probably a mistake.
const NO_INTERFACE: &str = r"^(\.\.?|[0-9]{1,3}(\.[0-9]{1,3}){3}|[Aa][Ll][Ll]|[Aa][Nn][Yy]([Ww][Hh][Ee][Rr][Ee])?|[Nn][Oo][Nn][Ee]|[Ee][Vv][Ee][Rr][Yy]([Tt][Hh][Ii][Nn][Gg])?)$";
/// An exact name, as a pattern of ECMA 262.
pub(super) const EXACT: &str =
    r#"^[^\s/:"\\*,;!@^\[\]?|~(){}$]{0,14}[^\s/:"\\*,;!@^\[\]?|~(){}$+]$"#;
/// A name, or the beginning of one and a `*`, as a pattern of ECMA 262.
pub(super) const PATTERN: &str = r#"^([^\s/:"\\*,;!@^\[\]?|~(){}$]{1,14}\*|[^\s/:"\\*,;!@^\[\]?|~(){}$]{0,14}[^\s/:"\\*,;!@^\[\]?|~(){}$+])$"#;

/// The name of a network interface: 1 to 15 bytes, no `/`, no `:`, no white space, no control
/// character, not `.` or `..`. Quotes and backslashes, which the kernel takes, are denied: nft
/// could not read the rules.
///
/// Source: `dev_valid_name` of the Linux kernel and `IFNAMSIZ` in `linux/if.h`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

/// A name, or with a `*` at its end the beginning of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterfacePattern {
    /// Exactly this interface.
    Exact(InterfaceName),
    /// Every interface whose name begins with this prefix; 1 to 14 bytes, without the `*`.
    Prefix(String),
}

impl InterfaceName {
    /// Returns the name as a string slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Returns the schema of texts that look like interface names and are none.
pub(super) fn no_interface() -> Value {
    json!({"type": "string", "pattern": NO_INTERFACE})
}

/// Parses the exact name of an interface.
pub(super) fn parse_name(text: &str) -> Result<InterfaceName, Mistake> {
    if text.contains('*') || text.ends_with('+') {
        let message = format!(
            "{} is a pattern, not the name of an interface",
            quoted(text)
        );
        return Err(Mistake::new("interface", message, "a pattern").help(
            "name each interface: `[eth0, eth1]`; a pattern could match more than is meant",
        ));
    }
    check(text)?;
    Ok(InterfaceName(text.to_owned()))
}

/// Parses the name of an interface, or a prefix and `*`.
pub(super) fn parse_pattern(text: &str) -> Result<InterfacePattern, Mistake> {
    let Some(prefix) = text.strip_suffix('*') else {
        if text.contains('*') {
            let message = format!("{} has a `*` before its end", quoted(text));
            return Err(Mistake::new("interface", message, "not at the end")
                .help("a `*` may stand at the end only: `br-*`"));
        }
        if text.ends_with('+') {
            let message = format!("{} is a pattern of iptables", quoted(text));
            return Err(Mistake::new("interface", message, "not `*`")
                .help("write how the names begin, and `*`: `br-*`"));
        }
        check(text)?;
        return Ok(InterfacePattern::Exact(InterfaceName(text.to_owned())));
    };
    if prefix.is_empty() {
        let message = "`*` would match every interface of the host".to_owned();
        return Err(Mistake::new("interface", message, "the public ones too")
            .help("write how the names begin: `br-*`"));
    }
    if prefix.contains('*') {
        let message = format!("{} has more than one `*`", quoted(text));
        return Err(Mistake::new("interface", message, "not at the end")
            .help("a `*` may stand at the end only: `br-*`"));
    }
    if prefix.len() >= LONGEST {
        let message = format!("{} can match no interface", quoted(text));
        return Err(Mistake::new("interface", message, "too long")
            .help("before the `*` there may be 14 bytes: names have 15 at most"));
    }
    // `.` and `..` are no names, but names may begin so.
    if prefix.bytes().any(|b| b != b'.') {
        check(prefix)?;
    }
    Ok(InterfacePattern::Prefix(prefix.to_owned()))
}

/// Checks a name by the rules of the kernel (`dev_valid_name` in `net/core/dev.c`).
fn check(text: &str) -> Result<(), Mistake> {
    let wrong = |label, help: &str| {
        let message = format!("{} is not the name of an interface", quoted(text));
        Err(Mistake::new("interface", message, label).help(help))
    };
    // The kernel takes these, and nobody means them.
    if text.contains([',', ';']) {
        return wrong("more than one name?", "write a list: `[eth0, eth1]`");
    }
    if text.contains('!') {
        return wrong(
            "nothing is negated here",
            "write the names of the interfaces that are meant",
        );
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return wrong(
            "an address, not a name",
            "write the name of the interface: `ip address` tells which one has an address",
        );
    }
    if text.contains(PATTERNS) {
        return wrong(
            "a pattern?",
            "nothing but a `*` at the end is a pattern here, and that only under `settings`",
        );
    }
    if let Some((name, _)) = text.split_once('@') {
        let help = "`ip link` prints NAME@PEER: the name is what stands before the `@`";
        return wrong("more than a name", help).map_err(|mistake| match check(name) {
            Ok(()) => mistake.help(format!("write `{name}`")),
            Err(_) => mistake,
        });
    }
    let words = ["all", "any", "anywhere", "every", "everything", "none"];
    if words.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return wrong(
            "a word, not a name",
            "write the names of interfaces; at a port, leave the line out if every interface is meant",
        );
    }
    let label = if text.is_empty() {
        "the name is empty"
    } else if text.len() > LONGEST {
        "longer than 15 bytes"
    } else if text == "." || text == ".." {
        "not a name"
    } else if text.contains(|c: char| {
        matches!(c, '/' | ':' | '"' | '\\') || c.is_whitespace() || c.is_control()
    }) {
        "a `/`, a `:`, a quote, a backslash or white space"
    } else {
        return Ok(());
    };
    let message = format!("{} cannot be the name of an interface", quoted(text));
    Err(Mistake::new("interface", message, label)
        .help("`ip link` lists the interfaces of this host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel() {
        for name in ["eth0", "br-0123456789ab", "a.b", "wg+0", "..."] {
            assert_eq!(parse_name(name).unwrap().as_str(), name);
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a:1",
            "a b",
            "a\u{85}",
            "eth0,eth1",
            "eth0;eth1",
            "!eth0",
            "eth0!",
            "any",
            "ALL",
            "none",
            "0123456789abcdef",
            "eth*",
            "eth+",
            "^eth0",
            "eth[0-9]",
            "eth?",
            "eth0|eth1",
            "~eth0",
            "(eth0)",
            "$WAN",
            "192.0.2.1",
            "2001:db8::1",
            "rva@if2",
        ] {
            assert_eq!(parse_name(name).unwrap_err().slug, "interface", "{name}");
        }
    }

    #[test]
    fn patterns_end_in_an_asterisk() {
        let pattern = |text| parse_pattern(text).unwrap();
        assert_eq!(pattern("br-*"), InterfacePattern::Prefix("br-".to_owned()));
        assert_eq!(pattern("docker0").to_string(), "docker0");
        assert_eq!(pattern("0123456789abcd*").to_string(), "0123456789abcd*");
        for bad in [
            "*",
            "",
            "**",
            "a**",
            "a*b",
            "*a",
            "0123456789abcde*",
            "a b*",
            "a/*",
            "br-*,docker0",
            "docker0,br-*",
            "!br-*",
            "br-[0-9]*",
            "^br-*",
            "192.0.2.1",
            "veth@if*",
            "br-+",
            "all",
        ] {
            assert_eq!(parse_pattern(bad).unwrap_err().slug, "interface", "{bad}");
        }
    }
}
