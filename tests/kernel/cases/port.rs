//! Protocols and ports.

use dfw::net::Family;
use dfw::ruleset::{End, Expression, L4Protocol, Port, Tuple};

use super::address::address;
use super::{
    CT_PROTO_DST, Case, L4PROTO, TRANSPORT, beside, case, ct_original, eq, lookup, lookup_map,
    masked, meta, payload,
};
use crate::libnftnl::Raw;

pub(super) fn l4proto(protocol: L4Protocol) -> [(String, Raw); 2] {
    let (hex, number) = match protocol {
        L4Protocol::Icmp => ("0x00000001", 1),
        L4Protocol::Tcp => ("0x00000006", 6),
        L4Protocol::Udp => ("0x00000011", 17),
        L4Protocol::Icmp6 => ("0x0000003a", 58),
        L4Protocol::Sctp => ("0x00000084", 132),
    };
    [meta("l4proto", L4PROTO), eq(hex, &[number])]
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = L4Protocol::ALL
        .into_iter()
        .map(|p| case(Expression::Port(Port::Protocol(p)), l4proto(p).to_vec()))
        .collect();
    let mut opens = l4proto(L4Protocol::Tcp).to_vec();
    opens.push(payload(TRANSPORT, 13, 1));
    opens.push(masked("0x00000012", &[0x12]));
    opens.push(eq("0x00000002", &[2]));
    cases.push(case(Expression::Port(Port::Opens), opens));
    cases.extend(maps());
    for (tuple, protocol) in [
        (Tuple::Original, L4Protocol::Tcp),
        (Tuple::Packet, L4Protocol::Udp),
    ] {
        let port = || match tuple {
            Tuple::Original => ct_original("proto_dst", CT_PROTO_DST),
            Tuple::Packet => payload(TRANSPORT, 2, 2),
        };
        let cases_of_families = [
            (Family::V4, 24, "0x00ffffff", c"port-v4"),
            (Family::V4, 32, "", c"port-v4"),
            (
                Family::V6,
                48,
                "0xffffffff 0x0000ffff 0x00000000 0x00000000",
                c"port-v6",
            ),
        ];
        for (family, length, hex, set) in cases_of_families {
            let mut steps = l4proto(protocol).to_vec();
            steps.extend(address(tuple, family, true));
            let source = steps.pop();
            steps.push(port());
            steps.extend(source.map(beside));
            if length < family.bits() {
                let mask: Vec<u8> = match family.mask(length) {
                    std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
                    std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                let (printed, raw) = beside(masked(hex, &mask));
                let zero = ["0x00000000"].repeat(mask.len() / 4).join(" ");
                steps.push((printed.replace("^ 0x00000000", &format!("^ {zero}")), raw));
            }
            steps.push(lookup(set, true));
            let set = set.to_string_lossy().into_owned();
            cases.push(case(
                Expression::Port(Port::SourceIn {
                    tuple,
                    protocol,
                    family,
                    length,
                    set,
                }),
                steps,
            ));
        }
        cases.extend(ends(protocol));
        let steps = vec![
            meta("l4proto", L4PROTO),
            beside(port()),
            lookup(c"counters", true),
        ];
        let set = "counters".to_owned();
        cases.push(case(Expression::Port(Port::In { tuple, set }), steps));
    }
    cases
}

/// The port and the address at one end of a packet.
fn ends(protocol: L4Protocol) -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, map) in [(Family::V4, c"servers4"), (Family::V6, c"servers6")] {
        for (end, offset) in [(End::Source, 0), (End::Destination, 2)] {
            let mut steps = l4proto(protocol).to_vec();
            steps.extend(address(Tuple::Packet, family, end == End::Source));
            let end_address = steps.pop();
            steps.push(payload(TRANSPORT, offset, 2));
            steps.extend(end_address.map(beside));
            steps.push(lookup_map(map));
            let map = map.to_string_lossy().into_owned();
            cases.push(case(
                Expression::Port(Port::AddressMap {
                    end,
                    protocol,
                    family,
                    map,
                }),
                steps,
            ));
        }
    }
    cases
}

/// The look-up of a port alone.
fn maps() -> Vec<Case> {
    let mut cases = Vec::new();
    for tuple in [Tuple::Original, Tuple::Packet] {
        for protocol in [L4Protocol::Tcp, L4Protocol::Udp, L4Protocol::Sctp] {
            let mut steps = l4proto(protocol).to_vec();
            steps.push(match tuple {
                Tuple::Original => ct_original("proto_dst", CT_PROTO_DST),
                Tuple::Packet => payload(TRANSPORT, 2, 2),
            });
            steps.push(lookup_map(c"ports"));
            let map = "ports".to_owned();
            cases.push(case(
                Expression::Port(Port::Map {
                    tuple,
                    protocol,
                    map,
                }),
                steps,
            ));
        }
    }
    cases
}
