//! The keys of `ports`: `[ADDR:]PORT[-PORT][/proto]`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::net::{HostPorts, Protocol};
use crate::policy::Mistake;
use crate::policy::source::{address_patterns, parse_address};
use crate::text::diagnostic::{did_you_mean, quoted};
use crate::text::is_url;

/// The forms of a key, for `help:` lines.
const FORMS: &str = "write a port of the host (80), a range (8000-8010), either with a protocol \
                     (53/udp) or an address of the host (203.0.113.10:80)";

impl FromStr for HostPorts {
    type Err = Mistake;

    /// Parses `[ADDR:]PORT[-PORT][/proto]`; IPv6 addresses are written in brackets.
    fn from_str(text: &str) -> Result<Self, Mistake> {
        if is_url(text) {
            return Err(mistake("port", text, "a URL").help(FORMS));
        }
        Self::read(text).map_err(|error| match respelled(text) {
            Some(meant) => mistake("port", text, "not how a range is written")
                .help(format!("a range is written `{meant}`")),
            None => error,
        })
    }
}

/// Returns the correct spelling of a range that is written as `8000 - 8010 /udp`, `8000 to 8010` or
/// `8000/udp-8010/udp`.
fn respelled(text: &str) -> Option<String> {
    const BETWEEN: [&str; 6] = ["\u{2013}", "\u{2014}", "\u{2212}", "..", " to ", " : "];
    if text.len() > 64 || text.contains(char::is_control) {
        return None;
    }
    // `203.0.113.10:8000 to 8010`, and not `8000 : 8010`.
    let (address, text) = match text.rsplit_once(':') {
        Some((address, ports)) if address.contains(['.', ']']) && !address.contains(' ') => {
            (format!("{address}:"), ports)
        }
        _ => (String::new(), text),
    };
    let plain = BETWEEN.iter().fold(text.to_owned(), |plain, between| {
        plain.replace(between, "-")
    });
    let end = |text: &str| {
        let (number, protocol) = match text.split_once('/') {
            Some((number, protocol)) => (number, Some(protocol.trim().to_owned())),
            None => (text, None),
        };
        let number = number.trim().parse::<u16>().ok().filter(|n| *n > 0)?;
        Some((number, protocol))
    };
    let (first, last) = plain.split_once('-')?;
    let ((first, one), (last, other)) = (end(first)?, end(last)?);
    if one.is_some() && other.is_some() && one != other {
        return None;
    }
    let protocol = other
        .or(one)
        .map_or(String::new(), |name| format!("/{name}"));
    let meant = format!("{address}{}-{}{protocol}", first.min(last), first.max(last));
    let is_key = HostPorts::read(&meant).is_ok();
    let is_written_so = text == format!("{first}-{last}{protocol}");
    (is_key && !is_written_so).then_some(meant)
}

impl HostPorts {
    fn read(text: &str) -> Result<Self, Mistake> {
        let (place, protocol) = match text.rsplit_once('/') {
            Some((place, protocol)) => (place, parse_protocol(text, place, protocol)?),
            None => (text, Protocol::Tcp),
        };
        let (address, ports) = split_address(text, place)?;
        let (first, last) = parse_ports(text, ports)?;
        Ok(Self {
            address,
            protocol,
            first,
            last,
        })
    }
}

fn mistake(slug: &'static str, text: &str, label: &'static str) -> Mistake {
    let message = format!("{} is not a port of this host", quoted(text));
    Mistake::new(slug, message, label)
}

fn parse_protocol(text: &str, place: &str, name: &str) -> Result<Protocol, Mistake> {
    if let Some(protocol) = Protocol::ALL.into_iter().find(|p| p.name() == name) {
        return Ok(protocol);
    }
    if place.parse::<IpAddr>().is_ok() || name.contains(':') {
        return Err(mistake("port", text, "a network")
            .help("a port belongs to one address of the host or to all of them")
            .help("who may reach the port is written after the key: `80: [203.0.113.0/24]`"));
    }
    let reversed = Protocol::ALL.into_iter().find(|p| p.name() == place);
    if let Some(protocol) = reversed.filter(|_| is_ports(name)) {
        let error = mistake("port", text, "the wrong way round");
        return Err(error.help(format!("write `{name}/{}`", protocol.name())));
    }
    let error = mistake("protocol", text, "no such protocol");
    let known = Protocol::ALL.map(Protocol::name);
    Err(match did_you_mean(name, known) {
        Some(meant) => error.help(format!("did you mean `{meant}`?")),
        None => error.help("the protocols are tcp, udp and sctp; ICMP has no ports"),
    })
}

/// Splits `[ADDR:]PORTS`.
fn split_address<'a>(text: &str, place: &'a str) -> Result<(Option<IpAddr>, &'a str), Mistake> {
    if let Some(rest) = place.strip_prefix('[') {
        let Some((address, ports)) = rest.split_once("]:") else {
            let address = rest.split(']').next().unwrap_or(rest);
            return Err(mistake("port", text, "no port after the address")
                .help(format!("write {}", quoted(&format!("\"[{address}]:80\"")))));
        };
        return match parse_address(address)? {
            IpAddr::V6(_) => Ok((Some(parse_host_address(address)?), ports)),
            IpAddr::V4(v4) => Err(mistake("port", text, "brackets are for IPv6 only")
                .help(format!("write `{v4}:{ports}`"))),
        };
    }
    let Some((before, ports)) = place.rsplit_once(':') else {
        return Ok((None, place));
    };
    // `2001:db8::1:80` is an address too, but that is not what was meant.
    let without_port = before.parse::<Ipv6Addr>();
    if let Some(meant) = match (without_port, place.parse::<Ipv6Addr>()) {
        (Ok(v6), _) => Some(format!("[{v6}]:{ports}")),
        (_, Ok(v6)) => Some(format!("[{v6}]:80")),
        _ => None,
    } {
        return Err(mistake("port", text, "an IPv6 address without brackets")
            .help(format!("write `\"{meant}\"`")));
    }
    // `-p 80:8080` and `-p 127.0.0.1:80:8080`, as Docker has it.
    let (host_address, host_ports) = before.rsplit_once(':').unwrap_or(("", before));
    if is_ports(host_ports) && is_ports(ports) {
        let keeps = parse_host_address(host_address).is_ok();
        let meant = if keeps { before } else { host_ports };
        let protocol = text.strip_prefix(place).unwrap_or_default();
        let numbers = (host_ports.parse::<u16>(), ports.parse::<u16>());
        let error = mistake(
            "port-mapping",
            text,
            "host port and container port, or a range?",
        );
        let error = match numbers {
            (Ok(first), Ok(last)) if first < last => {
                error.help(format!("a range is written `{meant}-{last}{protocol}`"))
            }
            _ => error,
        };
        return Err(error.help(format!(
            "dfw speaks of the host's port only: for that of `-p` write `{meant}{protocol}`"
        )));
    }
    Ok((Some(parse_host_address(before)?), ports))
}

fn is_ports(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

/// Parses the address of a key, which must be a unicast address that packets from the network can have.
fn parse_host_address(text: &str) -> Result<IpAddr, Mistake> {
    let address = parse_address(text).map_err(|mistake| match mistake.slug {
        "host-name" | "address" | "reserved-word" => {
            let message = format!("{} is not an address of this host", quoted(text));
            Mistake::new("port-address", message, "not an address").help(FORMS)
        }
        _ => mistake,
    })?;
    let error = |label| {
        let message = format!("`{address}` cannot be the address of a port");
        Mistake::new("port-address", message, label)
    };
    if address.is_unspecified() {
        return Err(error("every address of the host")
            .help("write the port without an address: it holds for all of them"));
    }
    if address.is_loopback() {
        return Err(error("a loopback address").help(
            "leave it out: a port of a loopback address is never to be reached from the network, \
             and dfw denies such packets always",
        ));
    }
    if address.is_multicast() {
        return Err(error("a multicast address").help("write an address of this host"));
    }
    if address == IpAddr::from([255, 255, 255, 255]) {
        return Err(error("the broadcast address").help("write an address of this host"));
    }
    Ok(address)
}

fn parse_ports(text: &str, ports: &str) -> Result<(u16, u16), Mistake> {
    // `8000 - 8010`, `8000..8010`, `8000–8010`, `8000,8010`.
    let numbers: Vec<&str> = ports
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .collect();
    if let [first, last] = numbers[..]
        && ports != format!("{first}-{last}")
        && let Some(between) = ports.strip_prefix(first)
        && let Some(between) = between.strip_suffix(last)
        && ports.bytes().all(|b| !b.is_ascii_alphabetic())
        && !ports.contains(char::is_control)
        && let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>())
        && first.min(last) > 0
    {
        let between = between.trim();
        if RANGE_SIGNS.contains(&between) {
            let (first, last) = (first.min(last), first.max(last));
            let meant = text.replacen(ports, &format!("{first}-{last}"), 1);
            return Err(mistake("port", text, "not a range")
                .help(format!("a range is written {}", quoted(&meant))));
        }
        if between.contains(['=', '>']) {
            let meant = text.replacen(ports, &first.to_string(), 1);
            return Err(
                mistake("port-mapping", text, "host port and container port?").help(format!(
                    "dfw speaks of the host's port only: write {}",
                    quoted(&meant)
                )),
            );
        }
        return Err(several(text));
    }
    if ports.contains(',') || (numbers.len() > 1 && ports.bytes().all(is_between_ports)) {
        return Err(several(text));
    }
    // `80` is short for `80-80`.
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (parse_port(text, first)?, parse_port(text, last)?);
    if first > last {
        return Err(mistake("reversed-range", text, "the wrong way round")
            .help(format!("write `{last}-{first}`")));
    }
    Ok((first, last))
}

/// What people write between the two ends of a range.
const RANGE_SIGNS: [&str; 9] = [
    "-", "--", "\u{2013}", "\u{2014}", "\u{2212}", "..", "...", ":", "~",
];

/// Returns whether a byte is a digit, or one that separates ports.
fn is_between_ports(byte: u8) -> bool {
    byte.is_ascii_digit() || b" \t;&|+/".contains(&byte)
}

fn several(text: &str) -> Mistake {
    mistake("port", text, "more than one port?")
        .help("write a line for each port, or a range: `8000-8010`")
}

fn parse_port(text: &str, port: &str) -> Result<u16, Mistake> {
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(mistake("port", text, "not a port number").help(FORMS));
    }
    let number = port.trim_start_matches('0');
    if number.is_empty() {
        return Err(mistake("port", text, "no port has the number 0")
            .help("ports are numbered from 1 to 65535"));
    }
    if number != port {
        return Err(mistake("port", text, "a leading zero").help(format!("write `{number}`")));
    }
    number.parse().map_err(|_| {
        mistake("port", text, "above 65535").help("ports are numbered from 1 to 65535")
    })
}

/// The pattern of a number from 1 to 65535.
pub(super) const NUMBER: &str =
    "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})";

/// Returns the pattern (ECMA 262) of a port of this host, with or without ranges.
pub(in crate::policy) fn pattern(ranges: bool) -> String {
    let [v4, v6] = address_patterns();
    let range = if ranges {
        format!("(-{NUMBER})?")
    } else {
        String::new()
    };
    let protocols = "(tcp|udp|sctp)";
    format!("^(({v4}|\\[{v6}\\]):)?{NUMBER}{range}(/{protocols})?$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_printed() {
        let keys = [
            ("80", "80/tcp"),
            ("80/tcp", "80/tcp"),
            ("53/udp", "53/udp"),
            ("9899/sctp", "9899/sctp"),
            ("8000-8010", "8000-8010/tcp"),
            ("80-80", "80/tcp"),
            ("1-65535", "1-65535/tcp"),
            ("203.0.113.10:8082", "203.0.113.10:8082/tcp"),
            ("203.0.113.10:1-2/udp", "203.0.113.10:1-2/udp"),
            ("[2001:db8:1::10]:8086", "[2001:db8:1::10]:8086/tcp"),
        ];
        for (text, printed) in keys {
            let key: HostPorts = text.parse().unwrap();
            assert_eq!(key.to_string(), printed);
            assert_eq!(printed.parse::<HostPorts>().unwrap(), key);
        }
    }

    #[test]
    fn a_range_in_another_spelling_is_written_right() {
        for (text, meant) in [
            ("8000:8010/udp", "a range is written `8000-8010/udp`"),
            (
                "203.0.113.10:8000:8010",
                "a range is written `203.0.113.10:8000-8010`",
            ),
            ("8000 - 8010/udp", "a range is written `8000-8010/udp`"),
            ("8000..8010", "a range is written `8000-8010`"),
            ("8000-8010 /udp", "a range is written `8000-8010/udp`"),
            ("8000 to 8010", "a range is written `8000-8010`"),
            ("8000/udp-8010/udp", "a range is written `8000-8010/udp`"),
            ("8000 : 8010", "a range is written `8000-8010`"),
            ("8010 - 8000", "a range is written `8000-8010`"),
            (
                "203.0.113.10:8000 to 8010",
                "a range is written `203.0.113.10:8000-8010`",
            ),
            (
                "[2001:db8::1]:8000-8010 /udp",
                "a range is written `[2001:db8::1]:8000-8010/udp`",
            ),
        ] {
            let mistake = text.parse::<HostPorts>().unwrap_err();
            assert_eq!(mistake.help[0], meant);
        }
        // Here it can only be Docker's.
        let mistake = "8080:80/udp".parse::<HostPorts>().unwrap_err();
        assert_eq!(
            mistake.help,
            ["dfw speaks of the host's port only: for that of `-p` write `8080/udp`"]
        );
    }

    #[test]
    fn two_ports_are_no_range() {
        for text in [
            "22 80",
            "80;443",
            "80 & 443",
            "80|443",
            "80+443",
            "80_443",
            "80.443",
            "80,443",
            "22 80 443",
        ] {
            let mistake = text.parse::<HostPorts>().unwrap_err();
            assert_eq!(mistake.label, "more than one port?", "{text}");
        }
        let mistake = "tcp/80".parse::<HostPorts>().unwrap_err();
        assert_eq!(mistake.help, ["write `80/tcp`"]);
    }

    #[test]
    fn each_mistake_has_its_own_name() {
        let mistakes = [
            ("0", "port"),
            ("65536", "port"),
            ("99999999999999999999", "port"),
            ("080", "port"),
            ("1e3", "port"),
            ("0x50", "port"),
            ("-80", "port"),
            ("80-", "port"),
            ("80 - 90", "port"),
            ("80\u{2013}90", "port"),
            ("80..90/udp", "port"),
            ("80,90", "port"),
            ("8000:8010/udp", "port-mapping"),
            ("8a", "port"),
            ("", "port"),
            ("/tcp", "port"),
            ("*", "port"),
            ("2-1", "reversed-range"),
            ("80/tpc", "protocol"),
            ("80/TCP", "protocol"),
            ("80/icmp", "protocol"),
            ("80/", "protocol"),
            ("80:80", "port-mapping"),
            ("8000-8010:9000-9010", "port-mapping"),
            ("127.0.0.1:80:80", "port-mapping"),
            ("127.0.0.1:80", "port-address"),
            ("127.8.9.1:80", "port-address"),
            ("[::1]:80", "port-address"),
            ("0.0.0.0:80", "port-address"),
            ("[::]:80", "port-address"),
            ("224.0.0.1:80", "port-address"),
            ("[ff02::1]:80", "port-address"),
            ("255.255.255.255:80", "port-address"),
            ("[::ffff:1.2.3.4]:80", "mapped-address"),
            ("[fe80::1%eth0]:80", "zone"),
            ("[1.2.3.4]:80", "port"),
            ("[2001:db8::1]", "port"),
            ("[2001:db8::1]:", "port"),
            ("2001:db8::1:80", "port"),
            ("203.0.113.0/24", "port"),
            ("203.0.113.0/24:80", "port"),
            ("example.org:80", "port-address"),
            ("80=8080", "port-mapping"),
            ("80 -> 8080", "port-mapping"),
        ];
        for (text, slug) in mistakes {
            let mistake = text.parse::<HostPorts>().unwrap_err();
            assert_eq!(mistake.slug, slug, "{text}");
            assert!(!mistake.help.is_empty(), "{text}");
        }
    }
}
