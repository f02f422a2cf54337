//! Rules of others that translate destinations: what iptables and nft make of them is read, and judged.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use dfw::host::nat::Answer::{NotTranslated, Translated, Unknown};
use dfw::host::nat::{Answer, Nat, Question, Target};
use dfw::net::Protocol::{self, Sctp, Tcp, Udp};

use crate::Named;
use crate::namespace::Sandbox;
use crate::support::command::output;

pub(crate) const TRIALS: &[Named] = &[
    ("nat_rules_of_iptables", iptables),
    ("nat_rules_of_nft", nft),
    ("nat_rules_of_engines", engines),
    ("nat_that_is_none", nothing),
    ("nat_rules_are_listed", listed),
    ("nat_with_a_set_that_is_too_long", too_long),
];

fn read(sandbox: &Sandbox) -> Result<Nat> {
    let rules = sandbox.kernel(|kernel| Ok(kernel.nat_rules()?))?;
    let rules = rules.context("not all could be read")?;
    Ok(Nat::new(Some(rules), [false; 2]))
}

fn run(sandbox: &Sandbox, program: &str, words: &str) -> Result<()> {
    let words = words.split_whitespace();
    output(sandbox.namespace().command(program).args(words)).map(drop)
}

fn to(address: &str, port: impl Into<Option<u16>>) -> Result<Answer> {
    Ok(Translated {
        to: Target::Address(address.parse()?, port.into()),
    })
}

/// What is asked through `eth0`, for an address of the host.
fn ask(nat: &Nat, address: &str, protocol: Protocol, port: u16) -> Result<Answer> {
    let question = Question::of_host(address.parse()?, protocol, port);
    Ok(nat.judge(&question.through("eth0", 2)))
}

/// What is asked, and the right answer.
type Row<'a> = (&'a str, Protocol, u16, Answer);

fn check(nat: &Nat, rows: &[Row<'_>]) -> Result<()> {
    for (address, protocol, port, expected) in rows {
        let judgement = ask(nat, address, *protocol, *port)?;
        ensure!(
            judgement == *expected,
            "{address} {protocol:?} {port}: {judgement:?}, not {expected:?}"
        );
    }
    Ok(())
}

const HOST: &str = "203.0.113.10";
const HOST6: &str = "2001:db8:1::10";

const V4: &[&str] = &[
    "-N DOCKER",
    "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
    "-A DOCKER -i docker0 -j RETURN",
    "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:8000",
    "-A DOCKER -d 203.0.113.10/32 ! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.3",
    "-A PREROUTING -p tcp -m multiport --dports 1000,2000:2010 -j DNAT --to-destination 10.0.0.4:7",
    "-A PREROUTING -p tcp -m multiport ! --dports 1:65000 -j DNAT --to-destination 10.0.0.5",
    "-A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 3128",
    "-A PREROUTING -s 198.51.100.0/24 -p tcp --dport 22 -j DNAT --to-destination 10.0.0.6",
    "-A PREROUTING -i wg0 -p tcp --dport 23 -j DNAT --to-destination 10.0.0.6",
    "-A PREROUTING -m mark --mark 7 -p tcp --dport 24 -j DNAT --to-destination 10.0.0.6",
    "-A PREROUTING -m statistic --mode random --probability 0.5 -p tcp --dport 25 -j DNAT --to-destination 10.0.0.6",
    "-A PREROUTING -m conntrack --ctstate NEW -p tcp --dport 26 -j DNAT --to-destination 10.0.0.6",
    "-A PREROUTING -p tcp --dport 27 -j ACCEPT",
    "-A PREROUTING -p tcp --dport 27 -j DNAT --to-destination 10.0.0.6",
    "-A PREROUTING -p tcp --dport 28 -j DNAT --to-destination 10.0.0.6-10.0.0.9",
    "-A PREROUTING -p udp --sport 123 --dport 29 -j DNAT --to-destination 10.0.0.6",
    "-A PREROUTING -p udp -m comment --comment named --dport 30:40 -j DNAT --to-destination 10.0.0.6",
    "-A PREROUTING -d 192.0.2.0/24 -j NETMAP --to 10.1.0.0/24",
    "-A POSTROUTING -o eth0 -s 10.8.0.0/24 -j MASQUERADE",
    "-A POSTROUTING -p tcp --dport 99 -j SNAT --to-source 10.0.0.9",
];
const V6: &[&str] = &[
    "-A PREROUTING -p tcp --dport 8080 -j REDIRECT",
    "-A PREROUTING -d 2001:db8:1::10 -p udp --dport 53 -j DNAT --to-destination [fd00::2]:5353",
    "-A POSTROUTING -o eth0 -s fd42:42:42::/64 -j MASQUERADE",
];

fn iptables() -> Result<()> {
    let sandbox = Sandbox::new()?;
    for words in V4 {
        run(&sandbox, "iptables", &format!("-w -t nat {words}"))?;
    }
    for words in V6 {
        run(&sandbox, "ip6tables", &format!("-w -t nat {words}"))?;
    }
    let nat = read(&sandbox)?;
    let redirected = |port| Translated {
        to: Target::Host(port),
    };
    check(
        &nat,
        &[
            (HOST, Tcp, 80, to("172.17.0.2", 8000)?),
            (HOST, Udp, 80, NotTranslated),
            (HOST, Tcp, 81, NotTranslated),
            (HOST, Sctp, 80, NotTranslated),
            (HOST, Udp, 53, to("172.17.0.3", None)?),
            ("203.0.113.11", Udp, 53, NotTranslated),
            (HOST, Tcp, 1000, to("10.0.0.4", 7)?),
            (HOST, Tcp, 2005, to("10.0.0.4", 7)?),
            (HOST, Tcp, 1001, NotTranslated),
            (HOST, Tcp, 65_001, to("10.0.0.5", None)?),
            (HOST, Tcp, 65_000, NotTranslated),
            (HOST, Tcp, 8080, redirected(Some(3128))),
            (HOST, Tcp, 22, Unknown),
            (HOST, Tcp, 23, NotTranslated),
            (HOST, Tcp, 24, Unknown),
            (HOST, Tcp, 25, Unknown),
            (HOST, Tcp, 26, Unknown),
            (HOST, Tcp, 27, NotTranslated),
            (
                HOST,
                Tcp,
                28,
                Translated {
                    to: Target::Somewhere,
                },
            ),
            (HOST, Udp, 29, Unknown),
            (HOST, Udp, 35, to("10.0.0.6", None)?),
            (HOST, Udp, 41, NotTranslated),
            (
                "192.0.2.7",
                Udp,
                41,
                Translated {
                    to: Target::Somewhere,
                },
            ),
            (HOST, Tcp, 99, NotTranslated),
            (HOST6, Tcp, 8080, redirected(None)),
            (HOST6, Tcp, 80, NotTranslated),
            (HOST6, Udp, 53, to("fd00::2", 5353)?),
            ("2001:db8:1::11", Udp, 53, NotTranslated),
        ],
    )?;
    // What the question names is no condition.
    let ssh = Question::of_host(HOST.parse()?, Tcp, 22).through("eth0", 2);
    let of = |source: [u8; 4]| {
        nat.judge(&Question {
            source: Some(source.into()),
            ..ssh.clone()
        })
    };
    ensure!(of([198, 51, 100, 66]) == to("10.0.0.6", None)?);
    ensure!(of([198, 51, 101, 66]) == NotTranslated);
    // The engine's rules leave out its own bridge.
    let web = Question::of_host(HOST.parse()?, Tcp, 80);
    ensure!(nat.judge(&web) == Unknown);
    ensure!(nat.judge(&web.clone().through("docker0", 3)) == NotTranslated);
    let outside = [("eth0".to_owned(), 2), ("wg0".to_owned(), 4)];
    ensure!(nat.judge_from(&web, &outside) == to("172.17.0.2", 8000)?);
    let one_way = Question::of_host(HOST.parse()?, Tcp, 23);
    ensure!(nat.judge_from(&one_way, &outside) == Unknown);
    // If some rules cannot be read, the result is unknown.
    let legacy = Nat::new(nat.rules, [true, false]);
    ensure!(ask(&legacy, HOST, Tcp, 81)? == Unknown);
    ensure!(ask(&legacy, HOST6, Tcp, 81)? == NotTranslated);
    Ok(())
}

const NFT: &str = "
table inet own {
    map pairs { type inet_service : ipv4_addr . inet_service; elements = { 81 : 10.0.0.2 . 8081 }; }
    map calls { type ipv4_addr . inet_proto . inet_service : verdict
                elements = { 203.0.113.10 . tcp . 5 : goto five, 203.0.113.10 . tcp . 6 : accept }; }
    map ranges { type inet_service : ipv4_addr; flags interval; elements = { 600-610 : 10.0.0.6, 611 : 10.0.0.7 }; }
    set moving { type inet_service; flags dynamic,timeout; timeout 1h; elements = { 700 }; }
    chain base {
        type nat hook prerouting priority dstnat; policy accept;
        tcp dport { 443, 8443 } dnat ip to 10.0.0.1
        tcp dport { 450-460, 470 } dnat ip to 10.0.0.1:99
        ip daddr . tcp dport { 203.0.113.10 . 90, 203.0.113.0/24 . 91-99 } dnat ip to 10.0.0.1:80
        tcp dport != { 1-7999 } tcp dport 7000-9000 tcp dport != 8500 dnat ip to 10.0.0.8
        dnat ip addr . port to tcp dport map @pairs
        ip daddr . meta l4proto . th dport vmap @calls
        tcp dport { 5, 6 } dnat ip to 10.0.0.55
        dnat ip to udp dport map @ranges
        udp dport 700-702 udp dport @moving dnat ip to 10.0.0.9
        ip saddr 198.51.100.66 ip daddr 203.0.113.10 tcp dport 3 redirect to :5
        ip daddr 203.0.113.128/25 tcp dport >= 40000 redirect
        iifname \"wg*\" tcp dport 77 redirect
        iif lo tcp dport 78 redirect
        fib daddr type local udp dport 51820-51830 redirect to :51820
        tcp dport 79 numgen random mod 2 0 dnat ip to 10.0.0.9
        tcp dport 82 meta mark set 7 counter log dnat ip to 10.0.0.9
        tcp dport 83 drop
        tcp dport 84 limit rate 1/second dnat ip to 10.0.0.9
        tcp dport 85 ct state new dnat ip to 10.0.0.9
        tcp dport 86 ct state established dnat ip to 10.0.0.9
        tcp dport 87 jump deeper
        tcp dport 88 dnat ip6 to [fd00::8]:8
        tcp dport 89 return
        tcp dport 89 dnat ip to 10.0.0.9
    }
    chain five { dnat ip to 10.0.0.5; }
    chain deeper { ip daddr 203.0.113.11 return; jump deepest; }
    chain deepest { meta nfproto ipv4 meta l4proto tcp dnat to 10.0.0.10:10; }
}
table ip off { flags dormant; chain base { type nat hook prerouting priority -150; dnat to 10.9.9.9; }; }
table ip late { chain base { type nat hook prerouting priority 0;
    tcp dport { 443, 83, 500 } dnat to 10.7.7.7; tcp dport 6 dnat to 10.7.7.7; }
}
table ip elsewhere { chain base { type nat hook output priority 0; dnat to 10.8.8.8; }
    chain filter { type filter hook prerouting priority -300; tcp dport 1 drop; }
    chain post { type nat hook postrouting priority 0; masquerade; }
}
";

fn nft() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.nft_load(&["-f"], NFT)?;
    let nat = read(&sandbox)?;
    let host = |port| Translated {
        to: Target::Host(port),
    };
    check(
        &nat,
        &[
            (HOST, Tcp, 443, to("10.0.0.1", None)?),
            (HOST, Tcp, 444, NotTranslated),
            (HOST, Udp, 443, NotTranslated),
            (HOST, Tcp, 450, to("10.0.0.1", 99)?),
            (HOST, Tcp, 460, to("10.0.0.1", 99)?),
            (HOST, Tcp, 461, NotTranslated),
            (HOST, Tcp, 470, to("10.0.0.1", 99)?),
            (HOST, Tcp, 471, NotTranslated),
            (HOST, Tcp, 90, to("10.0.0.1", 80)?),
            ("203.0.113.11", Tcp, 90, NotTranslated),
            ("203.0.113.11", Tcp, 95, to("10.0.0.1", 80)?),
            ("203.0.114.11", Tcp, 95, NotTranslated),
            (HOST, Tcp, 7500, NotTranslated),
            (HOST, Tcp, 8000, to("10.0.0.8", None)?),
            (HOST, Tcp, 8500, NotTranslated),
            (HOST, Tcp, 9001, NotTranslated),
            (HOST, Tcp, 81, to("10.0.0.2", 8081)?),
            (HOST, Tcp, 5, to("10.0.0.5", None)?),
            ("203.0.113.11", Tcp, 5, to("10.0.0.55", None)?),
            // Accepted in one table, and translated in the next.
            (HOST, Tcp, 6, to("10.7.7.7", None)?),
            (HOST, Udp, 605, to("10.0.0.6", None)?),
            (HOST, Udp, 611, to("10.0.0.7", None)?),
            (HOST, Udp, 612, NotTranslated),
            // Packets change the set.
            (HOST, Udp, 700, Unknown),
            (HOST, Udp, 701, Unknown),
            (HOST, Tcp, 3, Unknown),
            ("203.0.113.11", Tcp, 3, NotTranslated),
            ("203.0.113.129", Tcp, 40_000, host(None)),
            (HOST, Tcp, 40_000, NotTranslated),
            (HOST, Tcp, 77, NotTranslated),
            (HOST, Tcp, 78, NotTranslated),
            (HOST, Tcp, 79, Unknown),
            (HOST, Tcp, 82, to("10.0.0.9", None)?),
            (HOST, Tcp, 83, Unknown),
            (HOST, Tcp, 84, Unknown),
            (HOST, Tcp, 85, to("10.0.0.9", None)?),
            (HOST, Tcp, 86, NotTranslated),
            (HOST, Tcp, 87, to("10.0.0.10", 10)?),
            ("203.0.113.11", Tcp, 87, NotTranslated),
            (HOST, Tcp, 88, NotTranslated),
            (HOST6, Tcp, 88, to("fd00::8", 8)?),
            (HOST6, Tcp, 443, NotTranslated),
            (HOST, Tcp, 89, NotTranslated),
            (HOST, Tcp, 500, to("10.7.7.7", None)?),
            (HOST, Tcp, 1, NotTranslated),
        ],
    )?;
    let wireguard = Question::of_host(HOST.parse()?, Udp, 51_825);
    ensure!(nat.judge(&wireguard) == host(Some(51_820)));
    let elsewhere = Question {
        local: None,
        ..wireguard
    };
    ensure!(nat.judge(&elsewhere) == Unknown);
    Ok(())
}

/// What engines write with nft: Docker 29, and Podman's netavark.
const ENGINES: &str = r#"
table ip docker-bridges {
    chain nat-prerouting-and-output { iifname != "docker0" tcp dport 8080 counter dnat to 172.17.0.2:80 comment "DNAT"; }
    chain nat-PREROUTING { type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local counter jump nat-prerouting-and-output; }
    chain nat-OUTPUT { type nat hook output priority -100; policy accept;
        ip daddr != 127.0.0.1 fib daddr type local counter jump nat-prerouting-and-output; }
    chain nat-postrouting { type nat hook postrouting priority srcnat; oifname != "docker0" ip saddr 172.17.0.0/16 masquerade; }
}
table inet netavark {
    chain NETAVARK-HOSTPORT-SETMARK { meta mark set meta mark | 0x2000; }
    chain nv_2f259bab_10_88_0_0_nm16_dnat {
        ip saddr 10.88.0.0/16 tcp dport 8090 jump NETAVARK-HOSTPORT-SETMARK
        ip saddr 127.0.0.1 tcp dport 8090 jump NETAVARK-HOSTPORT-SETMARK
        tcp dport 8090 dnat ip to 10.88.0.2:80
        ip daddr 203.0.113.10 udp dport 8091 dnat ip to 10.88.0.2:81
    }
    chain NETAVARK-HOSTPORT-DNAT {
        tcp dport 8090 jump nv_2f259bab_10_88_0_0_nm16_dnat
        ip daddr 203.0.113.10 udp dport 8091 jump nv_2f259bab_10_88_0_0_nm16_dnat
    }
    chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; fib daddr type local jump NETAVARK-HOSTPORT-DNAT; }
    chain OUTPUT { type nat hook output priority -100; policy accept; fib daddr type local jump NETAVARK-HOSTPORT-DNAT; }
}
"#;

fn engines() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.nft_load(&["-f"], ENGINES)?;
    let nat = read(&sandbox)?;
    check(
        &nat,
        &[
            (HOST, Tcp, 8080, to("172.17.0.2", 80)?),
            (HOST, Tcp, 8081, NotTranslated),
            (HOST6, Tcp, 8080, NotTranslated),
            (HOST, Tcp, 8090, to("10.88.0.2", 80)?),
            (HOST6, Tcp, 8090, NotTranslated),
            (HOST, Udp, 8091, to("10.88.0.2", 81)?),
            ("203.0.113.11", Udp, 8091, NotTranslated),
            ("127.0.0.1", Tcp, 8080, to("172.17.0.2", 80)?),
        ],
    )?;
    // For a container's own address they do nothing.
    let container = Question {
        local: Some(false),
        ..Question::of_host("172.17.0.2".parse()?, Tcp, 8080)
    };
    ensure!(nat.judge(&container.through("eth0", 2)) == NotTranslated);
    Ok(())
}

/// Without a rule nothing is translated, and dfw's own table is none that does.
fn nothing() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let policy = format!("{}/policies/web.yaml", env!("CARGO_MANIFEST_DIR"));
    sandbox.dfw_ok(&["apply", &policy])?;
    let nat = read(&sandbox)?;
    ensure!(
        nat.rules
            .as_ref()
            .is_some_and(|rules| rules.bases.is_empty())
    );
    check(&nat, &[(HOST, Tcp, 80, NotTranslated)])?;
    ensure!(nat.translations().is_empty());
    // Nobody has looked.
    check(&Nat::default(), &[(HOST, Tcp, 80, Unknown)])
}

fn listed() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.nft_load(&["-f"], ENGINES)?;
    for words in [
        "-A PREROUTING -d 203.0.113.0/24 -p tcp -m multiport --dports 1000,2000:2010 -j DNAT --to-destination 10.0.0.4:7",
        "-A PREROUTING -s 198.51.100.0/24 -p tcp --dport 22 -j REDIRECT --to-ports 2222",
        "-A PREROUTING -i wg0 -p udp --dport 23 -j DNAT --to-destination 10.0.0.6",
        "-A POSTROUTING -o eth0 -j MASQUERADE",
    ] {
        run(&sandbox, "iptables", &format!("-w -t nat {words}"))?;
    }
    sandbox.nft_load(
        &["-f"],
        "table ip maps { chain base { type nat hook prerouting priority 5;
            dnat to tcp dport map { 81 : 10.0.0.1, 82 : 10.0.0.2 };
            ip daddr . tcp dport { 192.0.2.0/25 . 91-99 } dnat to 10.0.0.3; }
        }",
    )?;
    let nat = read(&sandbox)?;
    let line = |translation: &dfw::host::nat::Translation| {
        let destination = translation.destination;
        let destination = destination.map_or("any".to_owned(), |(a, n)| format!("{a}/{n}"));
        format!(
            "{} {} {destination} {:?} {:?} -> {:?}{}",
            translation.table,
            translation.chain,
            translation.protocol,
            translation
                .ports
                .as_ref()
                .map_or(&[][..], |ports| ports.ranges()),
            translation.to,
            if translation.conditional { " if" } else { "" }
        )
    };
    let mut found: Vec<String> = nat.translations().iter().map(line).collect();
    found.sort();
    let expected = [
        "inet netavark nv_2f259bab_10_88_0_0_nm16_dnat 203.0.113.10/32 Some(17) [(8091, 8091)] -> Address(10.88.0.2, Some(81))",
        "inet netavark nv_2f259bab_10_88_0_0_nm16_dnat any Some(6) [(8090, 8090)] -> Address(10.88.0.2, Some(80))",
        "ip docker-bridges nat-prerouting-and-output any Some(6) [(8080, 8080)] -> Address(172.17.0.2, Some(80))",
        "ip maps base 192.0.2.0/25 Some(6) [(91, 99)] -> Address(10.0.0.3, None)",
        "ip maps base any Some(6) [(81, 81)] -> Address(10.0.0.1, None)",
        "ip maps base any Some(6) [(82, 82)] -> Address(10.0.0.2, None)",
        "ip nat PREROUTING 203.0.113.0/24 Some(6) [(1000, 1000), (2000, 2010)] -> Address(10.0.0.4, Some(7))",
        "ip nat PREROUTING any Some(17) [(23, 23)] -> Address(10.0.0.6, None) if",
        "ip nat PREROUTING any Some(6) [(22, 22)] -> Host(Some(2222)) if",
    ];
    ensure!(found == expected, "{found:#?}");
    Ok(())
}

/// What is too long to be read in time is not taken for nothing.
fn too_long() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let elements: Vec<String> = (0..5000_u32)
        .map(|number| Ipv4Addr::from(0x0a00_0000 + 2 * number).to_string())
        .collect();
    sandbox.nft_load(
        &["-f"],
        &format!(
            "table ip long {{ set long {{ type ipv4_addr; elements = {{ {} }}; }}
             chain base {{ type nat hook prerouting priority dstnat;
                 tcp dport 80 ip daddr @long dnat to 10.0.0.1; }}
             }}",
            elements.join(", ")
        ),
    )?;
    let nat = read(&sandbox)?;
    let address: IpAddr = [10, 0, 0, 1].into();
    for (port, expected) in [(80, Unknown), (81, NotTranslated)] {
        let judgement = nat.judge(&Question::of_host(address, Tcp, port));
        ensure!(judgement == expected, "{port}: {judgement:?}");
    }
    Ok(())
}
