//! What a server without a key sends, and what is left of it in the cache.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::bundle::signed;

fn wanted() -> Wanted {
    Wanted {
        address: "https://policies.example.com/prod/".parse().unwrap(),
        contents: None,
        host: None,
        keep: None,
        probe: None,
        connections: CONNECTIONS,
    }
}

/// A server that is busy may ask for some time, and not for the day on which a rule is urgent.
#[test]
fn a_server_may_ask_for_an_hour_at_most() {
    let cache = tempfile::tempdir().unwrap();
    let wanted = wanted();
    let site = Site {
        cache: cache.path(),
        wanted: &wanted,
    };
    let minute = EVERY.0.as_secs();
    for (asked, seconds) in [
        (None, minute),
        (Some(0), minute),
        (Some(600), 600),
        (Some(u64::MAX), LONGEST.as_secs()),
    ] {
        let failed = NotFetched {
            reason: "busy".to_owned(),
            wait: asked.map(Duration::from_secs),
            answered: true,
        };
        let (done, wait) = site.note(Err(failed));
        assert_eq!(done.unwrap_err(), "busy");
        let longest = seconds + EVERY.1.as_secs();
        assert!((seconds..=longest).contains(&wait.as_secs()), "{wait:?}");
    }
    assert_eq!(status(cache.path()).failures, 4);
}

/// A server that has what it is given.
#[derive(Default)]
struct Given {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
    rollout: RefCell<Option<Vec<u8>>>,
}

impl Remote for Given {
    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, NotFetched> {
        let bytes = self.files.borrow().get(name).cloned().ok_or("404")?;
        let is_short = u64::try_from(bytes.len()).is_ok_and(|length| length <= most);
        is_short.then_some(bytes).ok_or_else(|| "too long".into())
    }

    fn rollout(&self) -> Option<Vec<u8>> {
        self.rollout.borrow().clone()
    }
}

impl Given {
    fn put(&self, name: &str, bytes: &[u8]) {
        self.files
            .borrow_mut()
            .insert(name.to_owned(), bytes.to_vec());
    }

    /// Writes a head and a manifest, which nobody signed, with files of these contents; returns the manifest.
    fn publish(&self, generation: u64, contents: &[&str]) -> Digest {
        let files = contents.iter().enumerate().map(|(number, contents)| Entry {
            name: format!("{number}.yaml").parse().unwrap(),
            sha256: Digest::of(contents.as_bytes()),
            size: contents.len().try_into().unwrap(),
        });
        let manifest = Manifest {
            site: "prod".parse().unwrap(),
            generation,
            created: "2026-11-29T16:00:00Z".parse().unwrap(),
            requires: "0.1.0".parse().unwrap(),
            groups: BTreeMap::new(),
            stages: Vec::new(),
            files: files.collect(),
        };
        let body = signed::write(&manifest).unwrap();
        let digest = Digest::of(body.as_bytes());
        let head = Head {
            site: manifest.site.clone(),
            serial: generation,
            generation,
            manifest: digest,
            created: manifest.created,
            expires: "2026-12-06T16:00:00Z".parse().unwrap(),
        };
        self.put(HEAD, signed::write(&head).unwrap().as_bytes());
        self.put(&format!("{MANIFESTS}/{digest}"), body.as_bytes());
        for contents in contents {
            let blob = Digest::of(contents.as_bytes());
            self.put(&format!("{BLOBS}/{blob}"), contents.as_bytes());
        }
        digest
    }

    fn lose(&self, contents: &str) {
        let blob = Digest::of(contents.as_bytes());
        self.files.borrow_mut().remove(&format!("{BLOBS}/{blob}"));
    }
}

/// What a cache has of a bundle, by the contents of its files.
fn contents(cache: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(cache.join(FOLDER).join(BLOBS)).unwrap();
    let read = entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    read.collect()
}

fn manifests(cache: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(cache.join(FOLDER).join(MANIFESTS)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// What is in force, what guard may be trying, and the one bundle that is being fetched stay, and nothing else.
#[test]
fn attempts_that_fail_leave_one_bundle_at_most() {
    let cache = tempfile::tempdir().unwrap();
    let server = Given::default();
    prepare(cache.path()).unwrap();
    let fetch = |keep: &[Digest]| {
        let wanted = Wanted {
            keep: Some(keep.iter().copied().collect()),
            ..wanted()
        };
        let site = Site {
            cache: cache.path(),
            wanted: &wanted,
        };
        site.fetch_from(&server)
    };
    let names = |digests: &[Digest]| digests.iter().map(Digest::to_string).collect();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let in_force = server.publish(1, &["1"]);
    fetch(&[]).unwrap();
    // This one has come, and guard has not confirmed it.
    let tried = server.publish(2, &["2"]);
    fetch(&[in_force]).unwrap();
    let mut last = tried;
    for generation in 3..10 {
        let [first, second] = ["first", "second"].map(|name| format!("{name} {generation}"));
        last = server.publish(generation, &[&first, &second]);
        server.lose(&second);
        fetch(&[in_force]).unwrap_err();
        assert_eq!(contents(cache.path()), texts(&["1", "2", &first]));
        assert_eq!(manifests(cache.path()), names(&[in_force, tried, last]));
    }
    // The rest comes, and the first file is not fetched again.
    server.put(&format!("{BLOBS}/{}", Digest::of(b"second 9")), b"second 9");
    server.lose("first 9");
    assert_eq!(fetch(&[in_force]).unwrap(), (9, true));
    assert_eq!(contents(cache.path()), texts(&["1", "first 9", "second 9"]));
    assert_eq!(manifests(cache.path()), names(&[in_force, last]));
    assert_eq!(fetch(&[last]).unwrap(), (9, false));
    assert_eq!(contents(cache.path()), texts(&["first 9", "second 9"]));
    // Manifests for a newer dfw have no files that are fetched.
    for generation in 10..13 {
        let digest = server.publish(generation, &["9"]);
        let body = server.files.borrow()[&format!("{MANIFESTS}/{digest}")].clone();
        let newer = String::from_utf8(body).unwrap();
        let newer = newer.replace("\"0.1.0\"", "\"9.0.0\"");
        let new = Digest::of(newer.as_bytes());
        server.put(&format!("{MANIFESTS}/{new}"), newer.as_bytes());
        let head = String::from_utf8(server.files.borrow()[HEAD].clone()).unwrap();
        let head = head.replace(&digest.to_string(), &new.to_string());
        server.put(HEAD, head.as_bytes());
        fetch(&[last]).unwrap_err();
        assert!(manifests(cache.path()).len() <= 3);
    }
}

/// It would look new for ever, since nobody reads it back.
#[test]
fn a_rollout_that_is_too_long_is_not_written() {
    let cache = tempfile::tempdir().unwrap();
    let server = Given::default();
    prepare(cache.path()).unwrap();
    server.publish(1, &["1"]);
    let wanted = wanted();
    let site = Site {
        cache: cache.path(),
        wanted: &wanted,
    };
    let path = cache.path().join(FOLDER).join(ROLLOUT);
    let most = usize::try_from(Limit::HEAD.bytes()).unwrap();
    server.rollout.replace(Some(vec![b'1'; most]));
    assert_eq!(site.fetch_from(&server).unwrap(), (1, true));
    assert_eq!(site.fetch_from(&server).unwrap(), (1, false));
    server.rollout.replace(Some(vec![b'2'; most + 1]));
    for _ in 0..2 {
        let failure = site.fetch_from(&server).unwrap_err();
        assert_eq!(failure.reason, "the rollout has more than 65536 bytes");
        assert_eq!(fs::read(&path).unwrap(), vec![b'1'; most]);
    }
    server.rollout.replace(None);
    assert_eq!(site.fetch_from(&server).unwrap(), (1, true));
    assert!(!path.exists());
}
