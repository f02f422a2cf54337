//! What is written to the kernel is what is read, and no answer of the kernel does harm.

use std::collections::BTreeMap;
use std::time::Duration;

use dfw::netlink::answer::Answer;
use dfw::netlink::message::{Messages, Writer};
use dfw::netlink::rtnetlink::{decode_address, decode_link, decode_route};
use dfw::netlink::sock_diag::decode_listener;
use dfw::netlink::{nflog, trace};
use dfw::nftables::object;
use dfw::nftables::request::decode_generation;
use dfw::plan::Installed;
use dfw::ruleset::check::check;
use dfw::ruleset::{
    Chain, Elements, Expression, Interval, MapTo, Rule, Ruleset, Set, Until, Verdict,
};
use proptest::prelude::*;

use crate::arbitrary::{Style, comment, ruleset};
use crate::encoded;

fn encode(ruleset: &Ruleset, comment: &str) -> Vec<u8> {
    encoded::replacing(ruleset, comment, 7).bytes
}

fn decode(bytes: &[u8]) -> Installed {
    encoded::read(bytes).unwrap().unwrap()
}

/// Everything that reads messages, on the same bytes.
fn read_all(bytes: &[u8]) {
    let _ = encoded::read(bytes);
    for message in Messages::new(bytes) {
        let Ok(message) = message else { break };
        let _ = object::decode(&message);
        let _ = Answer::decode(&message);
        let _ = decode_link(&message);
        let _ = decode_address(&message);
        let _ = decode_route(&message);
        let _ = decode_listener(&message, 6);
        let _ = decode_generation(&message);
        let _ = trace::decode(&message);
        let _ = nflog::decode(&message);
    }
}

/// An expression of another program: of a kind that dfw does not know, or of a known kind with
/// attributes that it never writes.
fn unknown() -> impl Strategy<Value = Expression> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..60);
    let foreign = ("x[a-z]{0,12}", bytes());
    let known = prop::sample::select(vec!["meta", "ct", "cmp", "lookup", "limit", "immediate"]);
    // Attribute 7 or more of these kinds is none of dfw's.
    let odd = (known.prop_map(str::to_owned), bytes()).prop_map(|(name, payload)| {
        let length = u16::try_from(payload.len() + 4).unwrap();
        let mut data = length.to_ne_bytes().to_vec();
        data.extend(7_u16.to_ne_bytes());
        data.extend(payload);
        data.resize(data.len().next_multiple_of(4), 0);
        (name, data)
    });
    prop_oneof![foreign, odd].prop_map(|(name, data)| Expression::Unknown { name, data })
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(
        ruleset in ruleset(Style::Wild),
        comment in comment(),
    ) {
        let comment = comment.unwrap_or_default();
        let installed = decode(&encode(&ruleset, &comment));
        prop_assert_eq!(&installed.ruleset, &ruleset);
        prop_assert_eq!(installed.comment, Some(comment));
    }

    #[test]
    fn a_sound_ruleset_passes_the_check(
        wild in ruleset(Style::Wild),
        plain in ruleset(Style::Plain),
    ) {
        prop_assert_eq!(check(&wild), Vec::<String>::new());
        prop_assert_eq!(check(&plain), Vec::<String>::new());
    }

    /// What others put into dfw's table is kept byte by byte, so that it is seen as theirs.
    #[test]
    fn what_is_unknown_is_kept(
        mut ruleset in ruleset(Style::Wild),
        unknown in proptest::collection::vec((any::<prop::sample::Index>(), unknown()), 1..6),
    ) {
        let rules = &mut ruleset.chains.entry("foreign".to_owned()).or_default().rules;
        rules.push(Rule::default());
        for (at, expression) in unknown {
            let all: Vec<&mut Rule> =
                ruleset.chains.values_mut().flat_map(|chain| &mut chain.rules).collect();
            let count = all.len();
            let rule = all.into_iter().nth(at.index(count)).unwrap();
            let place = at.index(rule.expressions.len() + 1);
            rule.expressions.insert(place, expression);
        }
        prop_assert_eq!(decode(&encode(&ruleset, "")).ruleset, ruleset);
    }

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
    }

    #[test]
    fn no_change_of_a_message_does_harm(
        ruleset in ruleset(Style::Wild),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = encode(&ruleset, "a comment");
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        read_all(&bytes);
    }

    /// What the kernel tells as it happens: the attributes are there, and hold anything.
    #[test]
    fn no_event_does_harm(
        kind in prop::sample::select(vec![0x0a11_u16, 0x0400]),
        attributes in proptest::collection::vec(
            (0..24_u16, prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..70),
                proptest::collection::vec(any::<u8>(), 4),
                (0..5_u8, proptest::collection::vec(any::<u8>(), 0..60)).prop_map(|(kind, rest)| {
                    let length = u8::try_from(rest.len() + 4).unwrap();
                    [&[length, 0, kind, 0], &rest[..]].concat()
                }),
            ]),
            0..16,
        ),
    ) {
        let mut w = Writer::new();
        w.message(kind, 0, 0, 1, 0, |w| {
            for (kind, payload) in &attributes {
                w.attribute(*kind, payload);
            }
        });
        read_all(w.bytes());
    }

    /// Errors and links have their own layouts; the kind is right and the rest is not.
    #[test]
    fn no_answer_does_harm(
        kind in prop::sample::select(vec![2_u16, 3, 16, 0x0a0f]),
        flags in any::<u16>(),
        body in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut bytes = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        read_all(&bytes);
    }
}

/// A list of elements is an attribute, which holds 64 KiB: more go into several messages.
#[test]
fn big_sets_are_split_and_put_together_again() {
    const MANY: u32 = 50_000;
    let verdict = |n: u32| match n % 3 {
        0 => Verdict::Accept,
        1 => Verdict::Goto("c".repeat(255)),
        _ => Verdict::Jump("d".to_owned()),
    };
    let wide = |n: u32| u128::from(n) << 90;
    let end = |n: u32| Duration::from_millis(100 + u64::from(n));
    let kinds = [
        Elements::Ipv4((0..MANY).map(|n| n * 3).collect()),
        Elements::Ipv4Ranges(
            (0..MANY)
                .map(|n| Interval::new(n * 9, n * 9 + n % 8))
                .collect(),
        ),
        Elements::Ipv6((0..MANY).map(wide).collect()),
        Elements::Ipv6Ranges(
            (0..MANY)
                .map(|n| Interval::new(wide(n), wide(n) + u128::from(n)))
                .collect(),
        ),
        Elements::Interfaces((0..MANY).map(|n| format!("interface{n:06}")).collect()),
        Elements::PortVerdicts(
            (0..=u16::MAX)
                .map(|n| MapTo::new(Interval::new(n, n), verdict(n.into())))
                .collect(),
        ),
        Elements::PortIpv4Verdicts(
            (0..=u16::MAX)
                .map(|n| MapTo::new((n, 7), verdict(n.into())))
                .collect(),
        ),
        Elements::PortIpv6Verdicts(
            (0..=u16::MAX)
                .map(|n| MapTo::new((n, wide(n.into())), verdict(n.into())))
                .collect(),
        ),
        Elements::Ipv4Verdicts((0..MANY).map(|n| MapTo::new(n * 3, verdict(n))).collect()),
        Elements::Ipv6Verdicts((0..MANY).map(|n| MapTo::new(wide(n), verdict(n))).collect()),
        Elements::Ipv4Until(
            (0..MANY)
                .map(|n| Until::new(Interval::new(n * 9, n * 9 + n % 9), end(n)))
                .collect(),
        ),
        Elements::Ipv6Until(
            (0..MANY)
                .map(|n| Until::new(Interval::new(wide(n), wide(n) + u128::from(n)), end(n)))
                .collect(),
        ),
    ];
    let named = kinds.into_iter().zip(0..);
    let sets: BTreeMap<_, _> = named
        .map(|(elements, n)| {
            (
                format!("s{n}"),
                Set {
                    elements,
                    comment: None,
                },
            )
        })
        .collect();
    let ruleset = Ruleset {
        sets,
        chains: BTreeMap::from([
            ("c".repeat(255), Chain::default()),
            ("d".into(), Chain::default()),
        ]),
        unknown: Vec::new(),
    };
    // Not `assert_eq`: nobody wants to read the difference.
    assert!(decode(&encode(&ruleset, "")).ruleset == ruleset);
}
