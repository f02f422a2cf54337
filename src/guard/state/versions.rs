//! Files of each version, as it has written them.

use serde_json::json;

use crate::policy::List;

use super::*;

/// Returns the folder of the files of a version.
fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/state")
        .join(name)
}

#[test]
fn files_of_all_versions_are_read() {
    let port = |address: Option<&str>, protocol, first, last| HostPorts {
        address: address.map(|address| address.parse().unwrap()),
        protocol,
        first,
        last,
    };
    for version in 1..=VERSION {
        let folder = fixtures(&version.to_string());
        let policies = read(&folder).unwrap();
        assert_eq!(policies.policy.ports.len(), 1, "{version}");
        assert_eq!(policies.policy.sources.len(), 1, "{version}");
        let ports = [
            port(None, Protocol::Tcp, 8080, 8080),
            port(Some("192.0.2.1"), Protocol::Udp, 53, 53),
            port(Some("::"), Protocol::Sctp, 9000, 9010),
        ];
        assert_eq!(read_ports(&folder).unwrap(), ports, "{version}");
    }
}

/// The policies of the file, and of the lists that were accepted for them.
const POLICIES: &str = "default: deny
sources:
  home: {name: home.example.com}
  cdn: {url: \"https://lists.example.com/v4.txt\", format: lines-loose}
  office: {file: lists/office.txt, max-loss: 20%}
ports: {22: [home], 80: [cdn, office]}
grants: {max-time: 8h, ports: [22]}
";
/// What is in each list.
const LISTS: [(&str, &str); 3] = [
    ("cdn", "198.51.100.0/24\n2001:db8:1::/48\n"),
    ("home", "192.0.2.7\n2001:db8::7\n"),
    ("office", "192.0.2.0/28\n2001:db8::/48\n"),
];

fn lists(policies: &Policies) -> Vec<(&str, String)> {
    let sources = policies.policy.sources.iter();
    let lists = sources.map(|(name, source)| (name.as_str(), source.addresses.lines().to_string()));
    lists.collect()
}

fn expected() -> Vec<(&'static str, String)> {
    LISTS.map(|(name, list)| (name, list.to_owned())).into()
}

#[test]
fn fetched_lists_are_read_with_the_policies() {
    let policies = read(&fixtures("2-lists")).unwrap();
    assert_eq!(lists(&policies), expected());
    let fetched: Vec<_> = policies.policy.fetched().collect();
    assert!(fetched.iter().all(|(_, _, it)| it.list == List::New));
    assert_eq!(fetched.len(), 2);
}

/// Without its list, a source has the one that was accepted: the name of its file says which one that is.
#[test]
fn lists_that_were_accepted_are_read() {
    let mut files = vec![
        (PathBuf::from("/mnt/policies/a.yaml"), POLICIES.into()),
        ("/mnt/policies/lists/office.txt".into(), LISTS[2].1.into()),
    ];
    for entry in fs::read_dir(fixtures("2")).unwrap() {
        let entry = entry.unwrap();
        let path = Path::new("/mnt/state").join(entry.file_name());
        files.push((path, fs::read(entry.path()).unwrap()));
    }
    let texts = SourceMap::in_memory(files);
    let texts = texts.with_fetched("/mnt/cache".into(), Some("/mnt/state".into()));
    let policies = Policies::read(texts, Path::new("/mnt/policies")).unwrap();
    assert_eq!(lists(&policies), expected());
    for (name, source) in &policies.policy.sources {
        let is_accepted = match (&source.fetched, &source.compared) {
            (Some(fetched), _) => matches!(fetched.list, List::Former(_)),
            (None, Some(compared)) => !compared.is_new,
            (None, None) => false,
        };
        assert!(is_accepted, "{name}: {source:?}");
    }
}

#[test]
fn grants_are_read() {
    let grants = read_grants(&fixtures("2")).unwrap();
    let expected = json!({
        "at": 1_795_997_045_289_u64, "boot": "efca36d2-32dc-4838-b420-bc8825e4ac5e", "next": 3,
        "grants": [
            {"id": 1, "from": "198.51.100.7", "to": "22/tcp", "made": 1_795_997_045_273_u64,
             "until": 1_796_000_645_273_u64, "end": 19_246_189, "uid": 0, "reason": "a vendor"},
            {"id": 2, "from": "203.0.113.0/28", "to": "22/tcp", "made": 1_795_997_045_289_u64,
             "until": 1_796_004_245_289_u64, "end": 22_846_205, "uid": 0, "reason": ""},
        ],
    });
    assert_eq!(serde_json::to_value(grants).unwrap(), expected);
}

#[test]
fn a_site_is_read() {
    let site = read_site(&fixtures("2")).unwrap();
    let digest = |letter: &str| letter.repeat(64);
    let generation = |number: u64, letter| json!({"number": number, "manifest": digest(letter)});
    let expected = json!({
        "floor": {
            "keys": [digest("0"), digest("f")], "generation": generation(8, "c"), "serial": 12,
            "created": "2026-11-29T12:00:00Z", "expires": "2026-12-29T12:00:00Z",
        },
        "in_force": generation(7, "b"),
        "trial": {
            "boot": "efca36d2-32dc-4838-b420-bc8825e4ac5e", "deadline": 19_246_189, "serial": 12,
            "generation": generation(8, "c"), "former": generation(7, "b"),
        },
        "undone": {"manifest": digest("a"), "serial": 10, "reason": "undecided", "tries": 2},
        "rollout": 5,
    });
    assert_eq!(serde_json::to_value(site).unwrap(), expected);
}
