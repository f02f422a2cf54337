//! Answers of real engines, as dfw reads them: `tests/fixtures/engines/*.json` hold what each
//! engine said when it was asked, scrubbed of what tells machines apart, and beside each is what
//! dfw makes of it. `UPDATE=1` writes the latter anew; read the difference before you commit it.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use dfw::analysis::audit::{Admits, Exposure, Turned, Unjudged, audit, turned};
use dfw::analysis::path::{self, Kind};
use dfw::analysis::surroundings::{Families, Surroundings};
use dfw::host::HostView;
use dfw::host::docker::{self, Ask};
use dfw::host::engine::Engine;
use dfw::host::local_ports::LocalPorts;
use dfw::host::nat::Nat;
use dfw::init::{Allow, propose};
use dfw::netlink::rtnetlink::{Address, Link};
use dfw::nftables::foreign::NatRules;
use dfw::ruleset::{Elements, Ruleset};

const FOLDER: &str = "tests/fixtures/engines";

/// An engine as its captured answers tell.
pub(crate) fn engine(name: &str) -> Engine {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(FOLDER)
        .join(format!("{name}.json"));
    let text = fs::read_to_string(path).unwrap();
    docker::engine("/run/engine.sock", serde_json::from_str(&text).unwrap())
}

/// A container may be called what it likes.
#[test]
fn a_first_policy_is_one_whatever_containers_are_called() {
    let mut host = HostView {
        engines: vec![engine("docker-20.10")],
        ..HostView::default()
    };
    let number = propose(&host, &Allow::Any).unwrap().policy.ports.len();
    for (index, container) in host.engines[0].containers.iter_mut().enumerate() {
        container.name = format!("{index}\n80: any # \u{85}\u{2028}: [");
    }
    for allow in [Allow::Any, Allow::Addresses(Vec::new())] {
        let first = propose(&host, &allow).unwrap();
        assert_eq!(first.policy.ports.len(), number, "{}", first.text);
    }
    let empty = propose(&HostView::default(), &Allow::Any).unwrap();
    assert!(empty.policy.ports.is_empty());
}

#[test]
fn engines_are_understood() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut different = Vec::new();
    for name in ["docker-20.10", "docker-26.1", "docker-28.5", "podman"] {
        let engine = engine(name);
        let mut text = describe(&engine);
        let host = HostView {
            engines: vec![engine],
            ..HostView::default()
        };
        let allow = ["203.0.113.0/24", "2001:db8::/32"].map(|a| a.parse().unwrap());
        let first = propose(&host, &Allow::Addresses(allow.to_vec())).unwrap();
        text.push_str("\n# its first policy\n");
        text.push_str(&first.text);
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(FOLDER)
            .join(format!("{name}.txt"));
        if update {
            fs::write(&path, &text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if text != expected {
            let diff = similar::TextDiff::from_lines(&expected, &text);
            different.push(format!("{name}\n{}", diff.unified_diff()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// Where the holder of a socket is not to be seen, it may be docker-proxy: also at a port that the kernel
/// chooses from for requests of the host.
#[test]
fn without_processes_all_published_ports_are_closed() {
    let mut engine = engine("docker-28.5");
    for container in &mut engine.containers {
        container
            .published
            .retain(|published| published.first == 8083);
        for published in &mut container.published {
            (published.first, published.last) = (50_000, 50_000);
        }
    }
    let mut host = HostView {
        engines: vec![engine],
        local_ports: LocalPorts::new(Some((32768, 60999)), Vec::new()),
        ..HostView::default()
    };
    let is_closed = |host: &HostView| {
        let ruleset = compiled("default: deny", host);
        !dfw::compile::remembered(&ruleset).is_empty()
    };
    // Nothing listens.
    assert!(!is_closed(&host));
    host.listeners = vec![dfw::host::listener::Listener {
        protocol: dfw::net::Protocol::Tcp,
        address: [0; 16].into(),
        port: 50_000,
        both_families: true,
        device: None,
        user: 0,
        owner: None,
    }];
    host.blind = true;
    assert!(is_closed(&host));
}

/// A few thousand bytes of an engine may say that a container publishes all ports a hundred times: ranges stay
/// ranges.
#[test]
fn ranges_stay_ranges() {
    let bindings: Vec<String> = (0..150)
        .map(|n| format!(r#"{{"HostIp": "203.0.113.{n}", "HostPort": "1-65535"}}"#))
        .chain((0..150).map(|_| r#"{"HostIp": "", "HostPort": "1-65535"}"#.to_owned()))
        .collect();
    let text = format!(
        r#"{{"version": {{}}, "info": {{}}, "networks": [], "containers": [{{"Id": "x", "Name": "/all",
            "HostConfig": {{"PortBindings": {{"80/tcp": [{}]}}}}}}]}}"#,
        bindings.join(",")
    );
    let engine = docker::engine("/run/engine.sock", serde_json::from_str(&text).unwrap());
    let host = HostView {
        engines: vec![engine],
        ..HostView::default()
    };
    assert_eq!(host.engines[0].containers[0].published.len(), 152);
    let ruleset = compiled("default: deny\nports: {80: any, 8000-8010: any}", &host);
    let elements: usize = ruleset.sets.values().map(|set| set.elements.len()).sum();
    assert!(elements < 1000, "{elements} elements");
    let first = propose(&host, &Allow::Any).unwrap();
    assert!(first.policy.ports.len() < 200, "{}", first.text);
}

/// An engine that starts or stops a container says nothing of it until that is done.
#[test]
fn one_busy_container_hides_no_other() {
    let name = format!("dfw-busy-{}.sock", std::process::id());
    let socket = std::env::temp_dir().join(name);
    // A run that was killed may have had the same number.
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(&client));
        }
    });
    let asked = docker::ask(&Ask::at(&socket.display().to_string()));
    fs::remove_file(&socket).unwrap();
    let engines = asked.iter().filter_map(|answer| answer.as_ref().ok());
    let [engine] = engines.collect::<Vec<_>>()[..] else {
        panic!("{asked:?}");
    };
    // What is known of it is not all.
    let errors: Vec<String> = asked
        .iter()
        .filter_map(|answer| answer.as_ref().err().map(ToString::to_string))
        .collect();
    assert!(
        errors.len() == 1 && errors[0].contains("1 of its containers"),
        "{errors:?}"
    );
    let known: Vec<_> = engine
        .containers
        .iter()
        .map(|container| {
            let ports: Vec<_> = container
                .published
                .iter()
                .map(|p| (p.first, p.container_port))
                .collect();
            (container.name.as_str(), container.running, ports)
        })
        .collect();
    let [busy, idle] = [
        ("busy", true, vec![(8081, 80)]),
        ("idle", true, vec![(8082, 80)]),
    ];
    assert_eq!(known, [busy, idle]);
}

/// Answers of an engine that says nothing of the container `b`.
fn serve(client: &UnixStream) {
    let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
    while let Some(Ok(request)) = lines.next() {
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        let path = request
            .split(' ')
            .nth(1)
            .unwrap()
            .split('?')
            .next()
            .unwrap();
        let answer = match path
            .split_once("/v1.")
            .map_or(path, |(_, rest)| &rest[rest.find('/').unwrap()..])
        {
            "/version" => r#"{"Version": "28.5.0", "ApiVersion": "1.44"}"#,
            "/info" => "{}",
            "/networks" | "/services" => "[]",
            "/containers/json" => {
                r#"[{"Id": "b", "Names": ["/idle/other", "/busy"], "State": "restarting", "Ports": [
                    {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8081, "Type": "tcp"},
                    {"PrivatePort": 443, "Type": "tcp"}]}, {"Id": "i"}]"#
            }
            "/containers/i/json" => {
                r#"{"Id": "i", "Name": "/idle", "State": {"Running": true}, "NetworkSettings": {
                    "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8082"}]}}}"#
            }
            _ => continue,
        };
        let length = answer.len();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
        // Who has enough asks no more.
        let _ = { client }.write_all(format!("{head} {length}\r\n\r\n{answer}").as_bytes());
    }
}

/// Podman does not tell how its bridges are called, but the host has the network's gateway there.
#[test]
fn a_bridge_is_found_by_its_address() {
    let podman = engine("podman");
    let edges = podman.network("edges").unwrap();
    assert_eq!(edges.bridge, None);
    let gateway = edges.gateways[0];
    let link = |index, name: &str, kind: &str| Link {
        index,
        name: name.to_owned(),
        kind: Some(kind.to_owned()),
        controller: None,
        xdp: false,
    };
    let address = |link, address| Address {
        link,
        address,
        network: (address, 24),
    };
    let bridges = |link_of_gateway| {
        let links = [link(7, "lab-edge", "bridge"), link(8, "lab-dummy", "dummy")];
        let addresses = [address(link_of_gateway, gateway)];
        HostView::new(&links, &addresses, vec![podman.clone()]).container_bridges
    };
    assert_eq!(bridges(7), ["lab-edge".to_owned()].into());
    assert_eq!(bridges(8), [].into(), "only a bridge is one");
}

/// Their packets pass no hook of the host, so an audit must say so instead of nothing.
#[test]
fn networks_past_the_host_are_reported() {
    let mut host = HostView {
        engines: vec![engine("docker-28.5")],
        ..HostView::default()
    };
    let unjudged = |host: &HostView| audit(host, &Surroundings::default(), None).unjudged;
    assert_eq!(unjudged(&host), []);
    for network in &mut host.engines[0].networks {
        match network.name.as_str() {
            "apps" => network.driver = "macvlan".to_owned(),
            // Nobody is in it.
            "none" => network.driver = "ipvlan".to_owned(),
            _ => {}
        }
    }
    let apps = Unjudged {
        network: "apps".to_owned(),
        driver: "macvlan".to_owned(),
        containers: vec!["app".to_owned()],
    };
    assert_eq!(unjudged(&host), [apps]);
}

/// A host with a real engine that translates published ports of these families.
fn docker(families: Families) -> (HostView, Surroundings) {
    let host = HostView {
        engines: vec![engine("docker-28.5")],
        ..HostView::default()
    };
    let around = Surroundings {
        interfaces: vec!["eth0".to_owned()],
        // Who translates cannot be seen, which is more than that nobody does.
        nat: Nat::new(Some(NatRules::default()), [families.v4, families.v6]),
        engine_rules: families,
        forwards: families,
        denies: families,
        ..Surroundings::default()
    };
    (host, around)
}

fn compiled(text: &str, host: &HostView) -> Ruleset {
    let mut sources = dfw::text::SourceMap::in_memory([("p.yaml", text)]);
    let files = dfw::store::read_policies(&mut sources, "p.yaml".as_ref()).unwrap();
    let policy = dfw::policy::read(&mut sources, &files).unwrap().0;
    dfw::compile::compile(&policy, host, &|span| dfw::ruleset::Origin {
        file: "p.yaml".to_owned(),
        line: sources.line_column(span).0,
    })
}

/// What strangers reach before and after, of what a real engine publishes.
#[test]
fn ports_that_open_and_close_are_reported() {
    let v4 = Families {
        v4: true,
        v6: false,
    };
    let (host, around) = docker(v4);
    let ruleset = |text: &str| compiled(text, &host);
    let ports = |paths: &[path::Path]| -> Vec<u16> {
        let paths = paths.iter().filter(|path| path.kind == Kind::Dnat);
        let mut ports: Vec<u16> = paths.filter_map(|path| path.port).collect();
        ports.dedup();
        ports
    };
    let of = |Turned { closed, opened, .. }: Turned| (ports(&closed), ports(&opened));
    let none = ruleset("default: deny");
    let some = ruleset("default: deny\nports: {8083: any, 8443: [192.0.2.1], 8085: []}");
    let all = ruleset("default: allow");
    // Where no rules are in force, everything that is published is open.
    let first = of(turned(&host, &around, None, &none));
    assert!(first.0.contains(&8083) && first.0.contains(&8085) && first.1.is_empty());
    let (closed, opened) = of(turned(&host, &around, None, &some));
    assert!(!closed.contains(&8083) && closed.contains(&8443) && closed.contains(&8085));
    assert!(opened.is_empty());
    assert_eq!(
        of(turned(&host, &around, Some(&none), &some)),
        (vec![], vec![8083])
    );
    assert_eq!(
        of(turned(&host, &around, Some(&some), &none)),
        (vec![8083], vec![])
    );
    assert_eq!(
        of(turned(&host, &around, Some(&none), &all)),
        (vec![], first.0)
    );
    let unchanged = turned(&host, &around, Some(&some), &some);
    assert!(
        unchanged.closed.is_empty() && unchanged.opened.is_empty() && !unchanged.others.is_empty()
    );
}

/// So many ports share sets that they are not in chains of their own; nobody's answer changes.
#[test]
fn ports_that_share_sets_are_audited_as_others_are() {
    let (host, around) = docker(Families { v4: true, v6: true });
    let ruleset = |others: u16| {
        let mut text = "default: deny
ports:
  8084: [203.0.113.0/24, '2000::/3', 8.0.0.0/6]
  8443: [192.0.2.1-192.0.2.6]
  8085: []
  5384/udp: [192.0.2.1, 192.0.2.3, 192.0.2.5, 192.0.2.7, '2001:db8::1']
"
        .to_owned();
        for port in (20_000..).take(usize::from(others)) {
            writeln!(text, "  {port}: [10.0.0.1]").unwrap();
        }
        compiled(&text, &host)
    };
    let (few, many) = (ruleset(60), ruleset(61));
    assert!(!few.chains.contains_key("shared-tcp") && many.chains.contains_key("shared-tcp"));
    let exposures = audit(&host, &around, Some(&many)).exposures;
    let told = |port: u16, v4: bool| {
        let mut exposures = exposures.iter().filter(|e| e.path.address.is_ipv4() == v4);
        let exposure = exposures.find(|e| e.path.port == Some(port)).unwrap();
        let line = exposure.origin.as_ref().unwrap().line;
        (exposure.admits.clone(), line)
    };
    let some = |who: &[&str]| Admits::Some(who.iter().map(ToString::to_string).collect());
    assert_eq!(
        told(8084, true),
        (some(&["203.0.113.0/24", "8.0.0.0/6"]), 3)
    );
    assert_eq!(told(8084, false), (some(&["2000::/3"]), 3));
    assert_eq!(told(8443, true), (some(&["192.0.2.1-192.0.2.6"]), 4));
    assert_eq!(told(8085, true), (Admits::Nobody, 5));
    assert_eq!(told(5384, true), (some(&["4 addresses"]), 6));
    assert_eq!(told(5384, false), (some(&["2001:db8::1"]), 6));
    // A container with all ports open is reported with one more port.
    let without = |exposures: Vec<Exposure>| -> Vec<Exposure> {
        let exposures = exposures.into_iter();
        exposures.filter(|e| e.path.port < Some(20_000)).collect()
    };
    let of_few = audit(&host, &around, Some(&few)).exposures;
    assert_eq!(without(exposures), without(of_few));
    let changed = turned(&host, &around, Some(&few), &many);
    assert_eq!((changed.closed, changed.opened), (vec![], vec![]));
}

/// Addresses that were not read are reported as unread, not as empty.
#[test]
fn an_unread_list_is_not_empty() {
    let (host, around) = docker(Families { v4: true, v6: true });
    let mut ruleset = compiled("default: deny\nports: {8443: [192.0.2.1]}", &host);
    let set = ruleset.sets.get_mut("port-8443-tcp.allow.ip4").unwrap();
    set.elements = Elements::Ipv4Ranges(Vec::new());
    let exposures = audit(&host, &around, Some(&ruleset)).exposures;
    let told = exposures
        .iter()
        .find(|e| e.path.port == Some(8443))
        .unwrap();
    assert_eq!(told.admits, Admits::Some(vec!["a long list".to_owned()]));
}

fn describe(engine: &Engine) -> String {
    let mut text = format!(
        "{} {} firewall={:?}\n",
        engine.kind.name(),
        engine.version,
        engine.firewall
    );
    for network in &engine.networks {
        writeln!(
            text,
            "network {} driver={} bridge={:?} gateways={:?} v4={:?} v6={:?} internal={} ipv6={}",
            network.name,
            network.driver,
            network.bridge,
            network.gateways,
            network.mode_v4,
            network.mode_v6,
            network.internal,
            network.ipv6
        )
        .unwrap();
    }
    for container in &engine.containers {
        writeln!(
            text,
            "container {} running={} host={}",
            container.title(),
            container.running,
            container.host_network
        )
        .unwrap();
        for endpoint in &container.endpoints {
            writeln!(text, "  at {} {:?}", endpoint.network, endpoint.addresses).unwrap();
        }
        for published in &container.published {
            writeln!(
                text,
                "  {} {} {} -> {}",
                published.protocol.name(),
                published.address,
                published.first,
                published.container_port
            )
            .unwrap();
        }
    }
    for service in &engine.services {
        writeln!(text, "service {} {:?}", service.name, service.published).unwrap();
    }
    text
}
