//! Golden imports: `tests/import/<idea>/rules*`, with the expected policy and remarks beside them.
//!
//! `UPDATE=1` writes both anew; read the difference before you commit it.

use std::fs;
use std::path::{Path, PathBuf};

use dfw::import::{Error, import};
use dfw::output::diagnostic::render;
use dfw::text::SourceMap;
use dfw::text::diagnostic::Diagnostic;
use proptest::prelude::*;

use crate::size::times;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    let mut cases: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() > 3);
    cases
}

/// The dumps of a case: name and text.
fn dumps(case: &Path) -> Vec<(String, String)> {
    let mut dumps: Vec<_> = fs::read_dir(case)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            name.starts_with("rules")
                .then(|| (name, fs::read_to_string(path).unwrap()))
        })
        .collect();
    dumps.sort();
    dumps
}

/// The policy and the remarks, or why there is none.
fn imported(dumps: &[(String, String)]) -> Result<(String, String), String> {
    let mut sources = SourceMap::in_memory::<&str, &str>([]);
    let files: Vec<_> = dumps
        .iter()
        .map(|(name, text)| sources.take(name, text.clone().into()))
        .collect();
    let told = |remarks: &[Diagnostic]| {
        let texts = remarks.iter().map(|r| render(r, &sources, false));
        texts.collect::<Vec<_>>().join("\n")
    };
    match import(&sources, &files) {
        Ok(imported) => Ok((imported.text, told(&imported.remarks))),
        Err(Error::Rejected(why)) => Err(told(&why)),
        Err(error @ Error::Invalid(_)) => unreachable!("{error}"),
    }
}

#[test]
fn rules_become_these_policies() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut different = Vec::new();
    for case in cases() {
        // Where there is no policy, the file is empty.
        let (policy, remarks) = imported(&dumps(&case)).unwrap_or_else(|why| (String::new(), why));
        for (name, text) in [("policy.yaml", policy), ("remarks", remarks)] {
            let golden = case.join(name);
            if update {
                fs::write(&golden, &text).unwrap();
            }
            let expected = fs::read_to_string(&golden)
                .unwrap_or_else(|error| panic!("{}: {error}; UPDATE=1 makes it", golden.display()));
            if text != expected {
                let difference = similar::TextDiff::from_lines(&expected, &text);
                different.push(format!(
                    "{}\n{}",
                    golden.display(),
                    difference.unified_diff()
                ));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// Input that is not a dump, and the error about it.
#[test]
fn other_input_is_named() {
    let utf16: Vec<u8> = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let cases: [(&[u8], &str, &str); 11] = [
        (b"", ": empty", "iptables-save"),
        (b"\n \n", ": empty", "iptables-save"),
        (b"\x1f\x8b\x08\x00\x00\x00", "gzip", "gunzip"),
        (&utf16, "UTF-16", "iconv -f UTF-16"),
        (
            &[&b"\xff\xfe"[..], &utf16].concat(),
            "UTF-16",
            "iconv -f UTF-16",
        ),
        (
            b"# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n",
            "only the warning",
            "iptables-legacy-save",
        ),
        (
            b"Chain FORWARD (policy DROP 0 packets, 0 bytes)\n pkts bytes target prot opt in\n",
            "`iptables -L`",
            "iptables-save",
        ),
        (
            b"table ip filter {\n\tchain FORWARD {\n\t}\n}\n",
            "`nft list ruleset`",
            "iptables-save",
        ),
        (
            b"Status: active\n\nTo    Action   From\n",
            "`ufw status`",
            "iptables-save",
        ),
        (
            b"name: web\n",
            "not output of `iptables-save`",
            "iptables-save",
        ),
        // Rules of one table only.
        (
            b"-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N DOCKER-USER\n\
              -A FORWARD -j DOCKER-USER\n-A DOCKER-USER ! -s 10.0.0.1/32 -j DROP\n",
            "rules:6:1",
            "iptables-save; ip6tables-save",
        ),
    ];
    for (bytes, what, help) in cases {
        let mut sources = SourceMap::in_memory::<&str, &str>([]);
        let file = sources.take("rules", bytes.to_vec());
        let Err(Error::Rejected(why)) = import(&sources, &[file]) else {
            panic!("{what}");
        };
        let told: String = why.iter().map(|r| render(r, &sources, false)).collect();
        assert!(told.contains(what) && told.contains(help), "{what}: {told}");
    }
}

/// A long list of bans at many ports, and the rules of a cluster: importing them is fast, and the remarks are
/// short.
#[test]
fn tens_of_thousands_of_rules_are_no_hours_and_no_pages() {
    use std::fmt::Write;
    let bans = times(60_000, 20_000);
    let (mut filter, mut nat) = (String::new(), String::new());
    for number in 0..bans {
        let [_, a, b, c] = (number * 2).to_be_bytes();
        let _ = writeln!(filter, "-A DOCKER-USER -s 100.{a}.{b}.{c}/32 -j DROP");
        let _ = writeln!(
            filter,
            "-A DOCKER-USER -s 101.{a}.{b}.{c}/32 -m recent --rcheck -j DROP"
        );
    }
    for number in 0..13_500 {
        let _ = writeln!(
            nat,
            "-A KUBE-SERVICES -m statistic --mode random -j KUBE-SEP-{number}\n\
             -A KUBE-SEP-{number} -p tcp -m tcp -j DNAT --to-destination 10.244.0.5:8080"
        );
    }
    for number in 0..20 {
        let _ = writeln!(
            nat,
            "-A DOCKER ! -i docker0 -p tcp --dport {} -j DNAT --to-destination 172.17.0.{}:80",
            8000 + 2 * number,
            number + 2
        );
    }
    let text = format!(
        "*filter\n-A FORWARD -p tcp -m conntrack --ctorigdstport 9000:9100 -j DROP\n\
         -A FORWARD -j DOCKER-USER\n{filter}COMMIT\n\
         *nat\n-A PREROUTING -j DOCKER\n-A PREROUTING -j KUBE-SERVICES\n{nat}COMMIT\n"
    );
    let (policy, remarks) = imported(&[("rules".to_owned(), text)]).unwrap();
    let [_, a, b, c] = ((bans - 1) * 2).to_be_bytes();
    assert!(policy.contains("100.0.0.0") && policy.contains(&format!("100.{a}.{b}.{c}")));
    assert_eq!(policy.matches("except: [imported]").count(), 20);
    let more = format!("and {} more lines", bans - 3);
    assert!(remarks.contains(&more), "{remarks}");
    assert!(remarks.contains("and 13497 more lines"), "{remarks}");
    assert!(remarks.lines().count() < 100, "{remarks}");
}

/// Lines that a dump could have, and some that none has.
fn line() -> impl Strategy<Value = String> {
    const CHAINS: [&str; 5] = ["DOCKER-USER", "FORWARD", "a", "b", "DOCKER"];
    const MATCHES: [&str; 30] = [
        "-s 10.0.0.0/8",
        "! -s 203.0.113.0/24",
        "-s 203.0.113.66",
        "-d 172.17.0.2/32",
        "! -d 172.17.0.0/16",
        "-p tcp",
        "-p udp",
        "! -p 6",
        "--dport 80",
        "-m multiport --dports 80,8000:8010",
        "! --dport 443",
        "--sport 53",
        "-i eth0",
        "! -i eth+",
        "-i docker0",
        "-o docker0",
        "-i wg0",
        "-m conntrack --ctstate NEW",
        "-m conntrack ! --ctstate RELATED,ESTABLISHED",
        "-m conntrack --ctorigdstport 8080",
        "--ctorigdst 203.0.113.10",
        "--ctdir ORIGINAL",
        "-m recent --set",
        "--syn",
        "-s fe80::/10",
        "! -s 2001:db8::/32",
        "-s ::ffff:10.0.0.1",
        "-m iprange --src-range 192.0.2.1-192.0.2.9",
        "-m comment --comment \"a \\\"b\\\" # c\"",
        "!",
    ];
    const TARGETS: [&str; 11] = [
        "-j ACCEPT",
        "-j DROP",
        "-j REJECT",
        "-j RETURN",
        "-j LOG",
        "-j a",
        "-j b",
        "-g a",
        "-j NFQUEUE",
        "-j",
        "",
    ];
    let rule = (
        prop::sample::select(&CHAINS[..]),
        prop::collection::vec(prop::sample::select(&MATCHES[..]), 0..4),
        prop::sample::select(&TARGETS[..]),
    )
        .prop_map(|(chain, matches, target)| format!("-A {chain} {} {target}", matches.join(" ")));
    let port = (1..100u16, 1..100u16, 0..3u8, any::<bool>()).prop_map(|(host, inside, c, v6)| {
        let to = if v6 {
            format!("[fd00::{c}]")
        } else {
            format!("172.17.0.{c}")
        };
        format!(
            "-A DOCKER ! -i docker0 -p tcp --dport {host} -j DNAT --to-destination {to}:{inside}"
        )
    });
    let other = prop::sample::select(
        &[
            "*filter",
            "COMMIT",
            "*nat",
            NAT,
            "# Generated by ip6tables-save",
            "# Generated by iptables-save",
            ":a - [0:0]",
            "-A FORWARD -j DOCKER-USER",
            "-A DOCKER -p tcp --dport 60000:65535 -j DNAT --to-destination 10.0.0.1:0-5535/60000",
            "-A DOCKER -d 203.0.113.10 -p udp --dport 53 -j DNAT --to-destination 10.0.0.1",
            "-A DOCKER -d 127.0.0.1 -p udp --dport 54 -j DNAT --to-destination 10.0.0.1",
        ][..],
    );
    prop_oneof![6 => rule, 2 => port, 2 => other.prop_map(str::to_owned), 1 => ".{0,40}"]
}

/// What makes a DNAT in the chain DOCKER a published port.
const NAT: &str = "*nat\n-A PREROUTING -j DOCKER\n";

proptest! {
    /// Whatever the text is: no panic, and if a policy comes out, its reader has read it.
    #[test]
    fn no_text_makes_a_policy_that_is_none(lines in prop::collection::vec(line(), 0..40)) {
        for head in ["*filter\n:b - [0:0]\n", "", NAT] {
            let text = format!("{head}{}\nCOMMIT\n", lines.join("\n"));
            let _ = imported(&[("rules".to_owned(), text)]);
        }
    }

    #[test]
    fn no_damage_makes_a_policy_that_is_none(case in any::<prop::sample::Index>(), cuts in
        prop::collection::vec((any::<prop::sample::Index>(), ".{0,3}"), 0..5))
    {
        let cases = cases();
        let mut dumps = dumps(&cases[case.index(cases.len())]);
        for (at, text) in cuts {
            for (_, dump) in &mut dumps {
                let at = dump.floor_char_boundary(at.index(dump.len() + 1));
                let end = dump.ceil_char_boundary((at + 5).min(dump.len()));
                dump.replace_range(at..end, &text);
            }
        }
        let _ = imported(&dumps);
    }
}
