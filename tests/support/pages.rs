//! Pages of hosts that exist in tests only: with few and with many published ports, and with hostile names.

use std::fmt::Write as _;
use std::path::Path;

use dfw::analysis::audit::{Report, audit};
use dfw::analysis::surroundings::{Families, Surroundings};
use dfw::compile::compile;
use dfw::host::HostView;
use dfw::host::engine::{Container, Endpoint, Engine, Kind, Network, Published};
use dfw::host::listener::Listener;
use dfw::host::nat::Nat;
use dfw::net::Protocol;
use dfw::nftables::foreign::NatRules;
use dfw::output::terminal::Tone;
use dfw::page::audit::{Audit, Conclusion, ports, shown};
use dfw::policy;
use dfw::ruleset::{Origin, Ruleset};
use dfw::text::SourceMap;

/// A container by its name, with the ports of the host that it publishes in both families.
pub(crate) type Publishes = (String, Vec<u16>);

/// What a container could be called if an engine allowed it.
pub(crate) const HOSTILE: [&str; 9] = [
    "<script>document.title='x'</script>",
    "</title></svg></style><img src=x onerror=alert(1)>",
    "\" onload=\"alert(1)\" x='",
    "]]><![CDATA[<b>bold</b>",
    "<!-- --><h1>heading</h1>",
    "safe\u{202e}gnp.exe\u{2066}",
    "&lt;script&gt; &amp;amp; &#x3c;b&#x3e;",
    "line\nbreak\r\t\0\u{1b}[31mred\u{fffe}\u{ffff}",
    "مرحبا שלום 世界 🐳",
];

/// A host whose containers publish so many ports, of every standing.
pub(crate) fn host_with(number: u16) -> Audit {
    const NAMES: [&str; 8] = [
        "web", "api", "postgres", "redis", "grafana", "mail", "registry", "queue",
    ];
    let mut policy = "default: deny\nsources:\n  office: [203.0.113.0/24, 2001:db8:5::/48]\n  \
                      partners: [198.51.100.7, 198.51.100.9, 192.0.2.0/28]\nports:\n"
        .to_owned();
    let mut containers: Vec<Publishes> = Vec::new();
    for n in 0..number {
        let port = 8000 + n;
        let entry = match n % 6 {
            0 => Some("any"),
            1 | 2 => Some("[office]"),
            3 => Some("[office, partners, 2001:db8:9::/64]"),
            4 => Some("[]"),
            _ => None,
        };
        if let Some(entry) = entry {
            let _ = writeln!(policy, "  {port}: {entry}");
        }
        match containers.last_mut() {
            Some((_, ports)) if n % 3 == 2 => ports.push(port),
            _ => {
                let name = NAMES[usize::from(n) % NAMES.len()];
                containers.push((format!("{name}-{n} (shop/{name})"), vec![port]));
            }
        }
    }
    page(&containers, Some(&policy))
}

/// A host without rules of dfw's, with names that are no names.
pub(crate) fn hostile_host() -> Audit {
    let names = HOSTILE.iter().map(|name| (*name).to_owned());
    let long = ["x".repeat(5000), "long name ".repeat(500), "世".repeat(400)];
    let containers: Vec<Publishes> = names
        .chain(long)
        .zip(9000..)
        .map(|(name, port)| (name, vec![port]))
        .collect();
    let mut audit = page(&containers, None);
    audit.host = shown(HOSTILE[1]);
    audit.engines.push(shown(HOSTILE[2]));
    let unseen = HOSTILE
        .iter()
        .map(|name| format!("{} is not known", shown(name)));
    audit.unseen.extend(unseen);
    audit
}

/// What is known of a host, and the rules in force there.
pub(crate) struct Facts {
    pub(crate) host: HostView,
    pub(crate) around: Surroundings,
    pub(crate) ruleset: Option<Ruleset>,
}

impl Facts {
    /// A host with these containers, and with a policy in force or without one.
    pub(crate) fn of(containers: &[Publishes], policy: Option<&str>) -> Self {
        let host = HostView {
            container_bridges: ["docker0".to_owned()].into(),
            engines: vec![engine(containers)],
            listeners: vec![Listener {
                address: [0; 4].into(),
                port: 22,
                ..listener()
            }],
            ..HostView::default()
        };
        let families = Families { v4: true, v6: true };
        let around = Surroundings {
            interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
            addresses: vec![[192, 0, 2, 10].into(), [192, 0, 2, 11].into()],
            nat: Nat::new(Some(NatRules::default()), [true; 2]),
            engine_rules: families,
            forwards: families,
            denies: families,
            ..Surroundings::default()
        };
        let ruleset = policy.map(|text| compiled(text, &host));
        Self {
            host,
            around,
            ruleset,
        }
    }

    pub(crate) fn report(&self) -> Report {
        audit(&self.host, &self.around, self.ruleset.as_ref())
    }
}

/// The page of a host with these containers, and with a policy in force or without one.
pub(crate) fn page(containers: &[Publishes], policy: Option<&str>) -> Audit {
    let facts = Facts::of(containers, policy);
    let report = facts.report();
    let listed = |exposures| ports(exposures, &facts.around, facts.ruleset.as_ref());
    let open = report.uncovered().count();
    Audit {
        host: "db1.example.org".to_owned(),
        time: "2026-11-29 10:00:00 UTC".to_owned(),
        rules: "With the rules in force".to_owned(),
        is_filtered: facts.ruleset.is_some(),
        conclusion: if open == 0 {
            Conclusion {
                tone: Tone::Good,
                word: "covered",
                text: "no published port is open to everyone without a policy entry".to_owned(),
                next: None,
            }
        } else {
            Conclusion {
                tone: Tone::Bad,
                word: "exposed",
                text: format!("{open} paths are open to everyone without a policy entry"),
                next: Some("`dfw init --allow ADDRESS` writes a first policy"),
            }
        },
        engines: vec!["Docker 29.1.0 at /run/docker.sock".to_owned()],
        unseen: vec!["the engine at `/run/podman/podman.sock` does not answer".to_owned()],
        notes: report
            .unused
            .iter()
            .map(|port| format!("not published: {port}"))
            .collect(),
        ports: listed(&report.exposures),
        services: listed(&report.services),
    }
}

fn listener() -> Listener {
    Listener {
        protocol: Protocol::Tcp,
        address: [0; 4].into(),
        port: 0,
        both_families: false,
        device: None,
        user: 0,
        owner: None,
    }
}

fn engine(containers: &[Publishes]) -> Engine {
    let container = |(n, (name, ports)): (usize, &Publishes)| {
        let n = u8::try_from(n % 250).unwrap() + 2;
        let published = |address: std::net::IpAddr| {
            ports.iter().map(move |port| Published {
                protocol: Protocol::Tcp,
                address,
                first: *port,
                last: *port,
                container_port: 80,
            })
        };
        let v4 = published([0; 4].into());
        Container {
            id: format!("{n:x}"),
            name: name.clone(),
            running: true,
            published: v4.chain(published([0_u16; 8].into())).collect(),
            endpoints: vec![Endpoint {
                network: "bridge".to_owned(),
                addresses: vec![
                    [172, 17, 0, n].into(),
                    [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)].into(),
                ],
            }],
            ..Container::default()
        }
    };
    let network = Network {
        id: "b".to_owned(),
        name: "bridge".to_owned(),
        driver: "bridge".to_owned(),
        bridge: Some("docker0".to_owned()),
        gateways: vec![[172, 17, 0, 1].into()],
        mode_v4: dfw::host::engine::GatewayMode::Nat,
        mode_v6: dfw::host::engine::GatewayMode::Nat,
        internal: false,
        ipv6: true,
    };
    Engine {
        kind: Kind::Docker,
        version: "29.1.0".to_owned(),
        address: "/run/docker.sock".to_owned(),
        firewall: None,
        process: None,
        networks: vec![network],
        containers: containers.iter().enumerate().map(container).collect(),
        services: Vec::new(),
    }
}

fn compiled(text: &str, host: &HostView) -> Ruleset {
    let mut sources = SourceMap::in_memory([("web.yaml", text)]);
    let files = dfw::store::read_policies(&mut sources, Path::new("web.yaml")).unwrap();
    let (policy, _) = policy::read(&mut sources, &files).unwrap();
    compile(&policy, host, &|span| Origin {
        file: "web.yaml".to_owned(),
        line: sources.line_column(span).0,
    })
}
