//! The options of one rule.

use crate::net::{AddressSet, Entry, Family};
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::rule::{Kind, Match, PortRange, Rule, Target};
use super::words::Word;
use crate::text::Span;

/// Modules whose options are all parsed below, or that have none.
const MODULES: [&str; 9] = [
    "addrtype",
    "comment",
    "conntrack",
    "iprange",
    "multiport",
    "sctp",
    "state",
    "tcp",
    "udp",
];

/// Targets after which the packet goes on to the next rule.
const PASSIVE: [&str; 11] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DSCP",
    "MARK",
    "SET",
    "TCPMSS",
    "TRACE",
];

/// Options of `-p` that are not parsed.
const OF_PROTOCOLS: [&str; 4] = [
    "--tcp-option",
    "--chunk-types",
    "--icmp-type",
    "--icmpv6-type",
];
/// Modules that match a list of addresses.
const LISTS: [&str; 4] = ["set", "geoip", "asn", "geoip2"];
/// The names of Docker 28.0.0's sets of bridge networks.
const ENGINE_NETWORKS: [&str; 2] = ["docker-ext-bridges-v4", "docker-ext-bridges-v6"];

/// Parses the words behind the name of the chain.
pub(super) fn read(family: Family, words: &[Word], line: &Span) -> Rule {
    let mut reader = Reader {
        family,
        words,
        rule: Rule {
            span: line.clone(),
            table: "",
            matches: Vec::new(),
            target: Target::Passive,
            target_span: line.clone(),
        },
        targeted: false,
    };
    while reader.option() {}
    reader.rule
}

struct Reader<'a> {
    family: Family,
    words: &'a [Word],
    rule: Rule,
    /// Whether the target was parsed: unknown options behind it belong to it.
    targeted: bool,
}

impl Reader<'_> {
    /// Parses one option with its value; returns whether there was one.
    fn option(&mut self) -> bool {
        let Some(first) = self.words.first() else {
            return false;
        };
        let begin = first.span.clone();
        let mut negated = self.skip_not();
        let Some(option) = self.next() else {
            self.push(negated, Kind::Unknown, &begin, &begin);
            return true;
        };
        let known = is_known(&option.text);
        // `-s ! 10.0.0.1`, as very old versions have it.
        if known {
            negated |= self.skip_not();
        }
        let name = option.text.as_str();
        match name {
            "-j" | "--jump" | "-g" | "--goto" => {
                let Some(value) = self.next() else {
                    // Cut off: nobody knows what it did.
                    self.rule.target = Target::Jump(String::new());
                    self.rule.target_span = begin;
                    return true;
                };
                self.rule.target = target(&value.text, name.trim_start_matches('-'));
                self.rule.target_span = Span::new(begin.file, begin.bytes.0, value.span.bytes.1);
                self.targeted = true;
            }
            "-m" | "--match" => match self.next() {
                Some(module) if !MODULES.contains(&module.text.as_str()) => {
                    let words = self.words;
                    let end = self.skip_unknown().unwrap_or(module.span);
                    let options = words.get(..words.len() - self.words.len());
                    let kind = unknown(&module.text, options.unwrap_or_default());
                    self.push(negated, kind, &begin, &end);
                }
                _ => {}
            },
            "--comment" => {
                self.next();
            }
            "--syn" => self.push(
                negated,
                Kind::TcpFlags(0x17, super::rule::SYN),
                &begin,
                &option.span,
            ),
            "--tcp-flags" => {
                let (mask, set) = (self.next(), self.next());
                let flag = |word: &Option<Word>| word.as_ref().and_then(|w| flags(&w.text));
                let kind = match (flag(&mask), flag(&set)) {
                    (Some(mask), Some(set)) => Kind::TcpFlags(mask, set),
                    _ => Kind::Unknown,
                };
                let end = set.or(mask).map_or(option.span, |word| word.span);
                self.push(negated, kind, &begin, &end);
            }
            // No connection tracking, no translation.
            "--notrack" if self.targeted => {
                self.rule.target = Target::Jump("NOTRACK".to_owned());
            }
            "--to-destination" => {
                let value = self.next().map(|word| word.text);
                self.rule.target = Target::Dnat(value);
            }
            _ if known => {
                let Some(value) = self.next() else {
                    self.push(negated, Kind::Unknown, &begin, &option.span);
                    return true;
                };
                let kind = self.kind(name, &value.text).unwrap_or(Kind::Unknown);
                self.push(negated, kind, &begin, &value.span);
            }
            _ => {
                let end = self.skip_unknown().unwrap_or(option.span);
                // Behind the target an option is its own, unless a protocol reads it.
                if !self.targeted || OF_PROTOCOLS.contains(&name) {
                    self.push(negated, Kind::Unknown, &begin, &end);
                }
            }
        }
        true
    }

    /// Parses an option with one value; `None` if it is not supported.
    fn kind(&self, option: &str, value: &str) -> Option<Kind> {
        Some(match option {
            "-s" | "--source" | "--src" => Kind::Source(self.addresses(value)?),
            "-d" | "--destination" | "--dst" => Kind::Destination(self.addresses(value)?),
            "--src-range" => Kind::Source(self.range(value)?),
            "--dst-range" => Kind::Destination(self.range(value)?),
            "--ctorigsrc" => Kind::OriginalSource(self.addresses(value)?),
            "--ctorigdst" => Kind::OriginalDestination(self.addresses(value)?),
            "-p" | "--protocol" | "--proto" => Kind::Protocol(value.to_ascii_lowercase()),
            "--sport" | "--source-port" | "--sports" | "--source-ports" => {
                Kind::SourcePorts(ports(value)?)
            }
            "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
                Kind::DestinationPorts(ports(value)?)
            }
            "--ctorigdstport" => Kind::OriginalPorts(ports(value)?),
            "-i" | "--in-interface" => Kind::Incoming(value.to_owned()),
            "-o" | "--out-interface" => Kind::Outgoing(value.to_owned()),
            "--ctstate" | "--state" => Kind::State(upper(value)),
            "--ctdir" => match value.to_ascii_uppercase().as_str() {
                "ORIGINAL" => Kind::OriginalDirection(true),
                "REPLY" => Kind::OriginalDirection(false),
                _ => return None,
            },
            "--dst-type" => Kind::DestinationType(upper(value)),
            "--src-type" => Kind::SourceType(upper(value)),
            _ => return None,
        })
    }

    fn addresses(&self, text: &str) -> Option<AddressSet> {
        let entries = text.split(',').map(|item| network(self.family, item));
        entries.collect()
    }

    fn range(&self, text: &str) -> Option<AddressSet> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (address(self.family, first)?, address(self.family, last)?);
        let entry = match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) if a <= b => Entry::V4(a.into(), b.into()),
            (IpAddr::V6(a), IpAddr::V6(b)) if a <= b => Entry::V6(a.into(), b.into()),
            _ => return None,
        };
        Some(AddressSet::from_entries([entry]))
    }

    fn push(&mut self, negated: bool, kind: Kind, from: &Span, to: &Span) {
        let span = Span::new(from.file, from.bytes.0, to.bytes.1.max(from.bytes.1));
        self.rule.matches.push(Match {
            negated,
            kind,
            span,
        });
    }

    fn next(&mut self) -> Option<Word> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first.clone())
    }

    fn skip_not(&mut self) -> bool {
        let not = self.words.first().is_some_and(|word| word.text == "!");
        if not {
            self.words = self.words.get(1..).unwrap_or_default();
        }
        not
    }

    /// Skips the options of an unknown module or target; returns the end of the last one.
    fn skip_unknown(&mut self) -> Option<Span> {
        let mut end = None;
        while let [word, rest @ ..] = self.words {
            let next = match rest.first() {
                Some(next) if word.text == "!" => &next.text,
                _ => &word.text,
            };
            if is_known(next) {
                break;
            }
            end = Some(word.span.clone());
            self.words = rest;
        }
        end
    }
}

/// Returns the match of a module whose options are not parsed.
fn unknown(module: &str, options: &[Word]) -> Kind {
    let texts: Vec<_> = options.iter().map(|word| word.text.as_str()).collect();
    match texts.as_slice() {
        ["--match-set", set, "dst"] if module == "set" && ENGINE_NETWORKS.contains(set) => {
            Kind::EngineNetworks
        }
        _ if LISTS.contains(&module) => Kind::List,
        _ => Kind::Unknown,
    }
}

fn is_known(option: &str) -> bool {
    matches!(
        option,
        "-s" | "--source"
            | "--src"
            | "-d"
            | "--destination"
            | "--dst"
            | "--src-range"
            | "--dst-range"
            | "--ctorigsrc"
            | "--ctorigdst"
            | "-p"
            | "--protocol"
            | "--proto"
            | "--sport"
            | "--source-port"
            | "--sports"
            | "--source-ports"
            | "--dport"
            | "--destination-port"
            | "--dports"
            | "--destination-ports"
            | "--ctorigdstport"
            | "-i"
            | "--in-interface"
            | "-o"
            | "--out-interface"
            | "--ctstate"
            | "--state"
            | "--ctdir"
            | "--dst-type"
            | "--src-type"
            | "-m"
            | "--match"
            | "-j"
            | "--jump"
            | "-g"
            | "--goto"
            | "--comment"
            | "--syn"
            | "--tcp-flags"
            | "--to-destination"
            | "--notrack"
    )
}

fn target(name: &str, option: &str) -> Target {
    if option.starts_with('g') {
        return Target::Goto(name.to_owned());
    }
    match name {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "REJECT" => Target::Reject,
        "RETURN" => Target::Return,
        "LOG" | "NFLOG" | "ULOG" => Target::Log,
        "DNAT" => Target::Dnat(None),
        _ if PASSIVE.contains(&name) => Target::Passive,
        _ => Target::Jump(name.to_owned()),
    }
}

fn address(family: Family, text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    (address.is_ipv4() == (family == Family::V4)).then_some(address)
}

/// Parses an address with an optional prefix length or mask; host bits are ignored.
fn network(family: Family, text: &str) -> Option<Entry> {
    let (base, length) = text
        .split_once('/')
        .map_or((text, None), |(base, length)| (base, Some(length)));
    match address(family, base)? {
        IpAddr::V4(base) => {
            let length = length.map_or(Some(32), |text| {
                prefix(text, 32, |mask| {
                    let mask: std::net::Ipv4Addr = mask.parse().ok()?;
                    Some(u128::from(u32::from(mask)) << 96)
                })
            })?;
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            let base = u32::from(base);
            Some(Entry::V4(base & !host, base | host))
        }
        IpAddr::V6(base) => {
            let length = length.map_or(Some(128), |text| {
                prefix(text, 128, |mask| {
                    mask.parse::<std::net::Ipv6Addr>().ok().map(u128::from)
                })
            })?;
            let host = u128::MAX.checked_shr(length).unwrap_or(0);
            let base = u128::from(base);
            Some(Entry::V6(base & !host, base | host))
        }
    }
}

/// Parses a prefix length or a mask; `None` for a mask that is not contiguous.
fn prefix(text: &str, longest: u32, mask: impl Fn(&str) -> Option<u128>) -> Option<u32> {
    if let Ok(length) = text.parse::<u32>() {
        return (length <= longest).then_some(length);
    }
    let mask = mask(text)?;
    let length = mask.leading_ones();
    (mask.checked_shl(length).unwrap_or(0) == 0).then_some(length)
}

/// Parses ports: `80`, `8000:8010`, `:1023`, or several with commas.
pub(super) fn ports(text: &str) -> Option<Vec<PortRange>> {
    let number = |text: &str, open: u16| {
        if text.is_empty() {
            Some(open)
        } else {
            text.parse().ok()
        }
    };
    let range = |item: &str| match item.split_once(':') {
        None => item.parse().ok().map(|port| (port, port)),
        Some((first, last)) => {
            let range = (number(first, 0)?, number(last, u16::MAX)?);
            (range.0 <= range.1).then_some(range)
        }
    };
    text.split(',').map(range).collect()
}

fn upper(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::to_ascii_uppercase).collect()
}

/// Parses names of TCP flags to their bits in the header.
fn flags(text: &str) -> Option<u8> {
    text.split(',').try_fold(0, |bits, name| {
        Some(
            bits | match name.to_ascii_uppercase().as_str() {
                "FIN" => 0x01,
                "SYN" => super::rule::SYN,
                "RST" => 0x04,
                "PSH" => 0x08,
                "ACK" => super::rule::ACK,
                "URG" => 0x20,
                "ALL" => 0x3f,
                "NONE" => 0,
                _ => return None,
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;
    use crate::text::FileId;

    fn rule(text: &str) -> Rule {
        let line = Span::new(FileId(0), 0, text.len());
        read(Family::V4, &words(FileId(0), text, 0), &line)
    }

    fn only(text: &str) -> (bool, Kind) {
        let mut matches = rule(text).matches;
        assert_eq!(matches.len(), 1, "{text}");
        let Match { negated, kind, .. } = matches.remove(0);
        (negated, kind)
    }

    fn set(first: u32, last: u32) -> AddressSet {
        AddressSet::from_entries([Entry::V4(first, last)])
    }

    #[test]
    fn addresses_have_masks_and_ranges() {
        let ten = set(0x0a00_0000, 0x0aff_ffff);
        for text in [
            "-s 10.0.0.0/8",
            "-s 10.1.2.3/8",
            "--source 10.0.0.0/255.0.0.0",
            "-m iprange --src-range 10.0.0.0-10.255.255.255",
        ] {
            assert_eq!(only(text), (false, Kind::Source(ten.clone())), "{text}");
        }
        assert_eq!(only("! -s 10.0.0.0/8"), (true, Kind::Source(ten.clone())));
        assert_eq!(only("-s ! 10.0.0.0/8"), (true, Kind::Source(ten)));
        for text in [
            "-s 10.0.0.0/255.0.255.0",
            "-s fd00::/8",
            "-s host",
            "-s 10.0.0.0/33",
        ] {
            assert_eq!(only(text), (false, Kind::Unknown), "{text}");
        }
    }

    #[test]
    fn ports_come_alone_in_ranges_and_in_lists() {
        let kind = |text| only(text).1;
        assert_eq!(
            kind("-m multiport --dports 80,8000:8010"),
            Kind::DestinationPorts(vec![(80, 80), (8000, 8010)])
        );
        assert_eq!(
            kind("--dport :1023"),
            Kind::DestinationPorts(vec![(0, 1023)])
        );
        assert_eq!(kind("--dport http"), Kind::Unknown);
        assert_eq!(kind("--dport 90:80"), Kind::Unknown);
    }

    #[test]
    fn what_is_unknown_ends_where_something_known_begins() {
        let text = "-p tcp -m recent --update --seconds 60 --name X -s 10.0.0.1 -j DROP";
        let rule = rule(text);
        let kinds: Vec<_> = rule.matches.iter().map(|m| &text[m.span.range()]).collect();
        assert_eq!(
            kinds,
            [
                "-p tcp",
                "-m recent --update --seconds 60 --name X",
                "-s 10.0.0.1"
            ]
        );
        assert_eq!(rule.matches[1].kind, Kind::Unknown);
        assert_eq!(rule.target, Target::Drop);
        assert_eq!(only("-m mark ! --mark 0x1"), (false, Kind::Unknown));
    }

    #[test]
    fn matches_may_stand_behind_the_target() {
        let rule = rule("-j LOG --log-prefix \"[UFW] \" -p tcp -s 10.0.0.1");
        assert_eq!((rule.target, rule.matches.len()), (Target::Log, 2));
    }

    #[test]
    fn targets_are_parsed() {
        let target = |text| rule(text).target;
        assert_eq!(target(""), Target::Passive);
        assert_eq!(target("-j REJECT --reject-with tcp-reset"), Target::Reject);
        assert_eq!(target("-g DROP"), Target::Goto("DROP".to_owned()));
        assert_eq!(target("-j my-chain"), Target::Jump("my-chain".to_owned()));
        assert_eq!(
            target("-j DNAT --to-destination 172.17.0.2:80"),
            Target::Dnat(Some("172.17.0.2:80".to_owned()))
        );
    }
}
