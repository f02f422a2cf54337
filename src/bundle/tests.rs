//! Signed texts, signed by another implementation and damaged in every way that is known.

use std::collections::BTreeMap;
use std::io::Cursor;

use core::time::Duration;
use minisign::KeyPair;
use proptest::prelude::*;

use super::*;

fn key() -> (KeyPair, String) {
    let key = KeyPair::generate_unencrypted_keypair().unwrap();
    let public = key.pk.to_base64();
    (key, public)
}

fn trusting(role: Role, public: &str) -> Keys {
    let mut keys = Keys::default();
    keys.add(role, public).unwrap();
    keys
}

/// A text with a signature, as `minisign` and `cat` make it.
fn sign(key: &KeyPair, body: &str, comment: &str) -> String {
    let signature = minisign::sign(
        None,
        &key.sk,
        Cursor::new(body),
        Some(comment),
        Some("nobody reads this"),
    );
    format!("{body}{}", signature.unwrap().to_string())
}

fn signed<T: Statement>(key: &KeyPair, statement: &T) -> String {
    let body = signed::write(statement).unwrap();
    sign(key, &body, &signed::comment(statement))
}

fn moment(text: &str) -> Moment {
    text.parse().unwrap()
}

fn manifest() -> Manifest {
    let entry = |name: &str, contents: &str| Entry {
        name: name.parse().unwrap(),
        sha256: Digest::of(contents.as_bytes()),
        size: contents.len().try_into().unwrap(),
    };
    Manifest {
        site: "prod".parse().unwrap(),
        generation: 7,
        created: moment("2026-11-29T16:00:00Z"),
        requires: "0.1.0".parse().unwrap(),
        groups: BTreeMap::from([(
            "web".parse().unwrap(),
            vec!["web-*".parse().unwrap(), "www".parse().unwrap()],
        )]),
        stages: vec!["web".parse().unwrap(), "5%".parse().unwrap()],
        files: vec![
            entry("base.yaml", "default: deny\n"),
            entry("web/ports.yaml", "ports: {443: all}\n"),
        ],
    }
}

fn head() -> Head {
    let body = signed::write(&manifest()).unwrap();
    Head {
        site: "prod".parse().unwrap(),
        serial: 12,
        generation: 7,
        manifest: Digest::of(body.as_bytes()),
        created: moment("2026-11-29T16:00:00Z"),
        expires: moment("2026-12-06T16:00:00Z"),
    }
}

fn verify<T: Statement>(text: &str, keys: &Keys) -> Result<T, Error> {
    let signed = Signed::split::<T>(text.as_bytes())?;
    Ok(signed.verify::<T>(keys)?.statement)
}

#[test]
fn what_is_signed_comes_back() {
    let (key, public) = key();
    let keys = trusting(Role::Policy, &public);
    assert_eq!(verify(&signed(&key, &head()), &keys), Ok(head()));
    assert_eq!(verify(&signed(&key, &manifest()), &keys), Ok(manifest()));
    let text = signed(&key, &manifest());
    let read = Signed::split::<Manifest>(text.as_bytes()).unwrap();
    let read = read.read::<Manifest>().unwrap();
    assert_eq!(head().check_manifest(&read), Ok(()));
    // The form is part of what other programs read.
    assert_eq!(
        signed::write(&head()).unwrap(),
        format!(
            "{{\"type\":\"dfw/v1/head\",\"site\":\"prod\",\"serial\":12,\"generation\":7,\
             \"manifest\":\"{}\",\"created\":\"2026-11-29T16:00:00Z\",\
             \"expires\":\"2026-12-06T16:00:00Z\"}}\n",
            read.digest
        )
    );
    assert_eq!(
        signed::comment(&head()),
        "dfw/v1/head site=prod serial=12 generation=7"
    );
}

#[test]
fn a_key_signs_what_its_role_allows() {
    let (policy, policy_public) = key();
    let (operations, operations_public) = key();
    let mut keys = trusting(Role::Policy, &policy_public);
    keys.add(Role::Operations, &operations_public).unwrap();
    assert!(verify::<Head>(&signed(&policy, &head()), &keys).is_ok());
    assert!(verify::<Head>(&signed(&operations, &head()), &keys).is_ok());
    assert!(verify::<Manifest>(&signed(&policy, &manifest()), &keys).is_ok());
    assert_eq!(
        verify::<Manifest>(&signed(&operations, &manifest()), &keys),
        Err(Error::Role("manifest"))
    );
    let (stranger, _) = key();
    assert_eq!(
        verify::<Head>(&signed(&stranger, &head()), &keys),
        Err(Error::UnknownKey("head"))
    );
    assert_eq!(
        verify::<Head>(&signed(&policy, &head()), &Keys::default()),
        Err(Error::UnknownKey("head"))
    );
}

#[test]
fn one_kind_is_not_passed_for_another() {
    let (key, public) = key();
    let keys = trusting(Role::Policy, &public);
    assert_eq!(
        verify::<Head>(&signed(&key, &manifest()), &keys),
        Err(Error::Type("head"))
    );
    assert_eq!(
        verify::<Manifest>(&signed(&key, &head()), &keys),
        Err(Error::Type("manifest"))
    );
    let newer = signed(&key, &head()).replace("dfw/v1/head", "dfw/v2/head");
    assert_eq!(verify::<Head>(&newer, &keys), Err(Error::Newer("head")));
    for other in [
        "",
        "<html>",
        "{}",
        "{\"type\": \"dfw/v1/head\"}\n",
        "{\"type\":\"dfw/",
    ] {
        let error = verify::<Head>(other, &keys).unwrap_err();
        assert_eq!(error.slug(), "malformed-bundle", "{other}");
    }
}

#[test]
fn the_comment_repeats_the_text() {
    let (key, public) = key();
    let keys = trusting(Role::Policy, &public);
    let body = signed::write(&head()).unwrap();
    for comment in ["", "dfw/v1/head site=prod serial=13 generation=7"] {
        let text = sign(&key, &body, comment);
        assert_eq!(verify::<Head>(&text, &keys), Err(Error::Comment("head")));
    }
}

#[test]
fn a_signature_is_four_lines_behind_one() {
    let (key, public) = key();
    let keys = trusting(Role::Policy, &public);
    let text = signed(&key, &head());
    let (body, signature) = text.split_once('\n').unwrap();
    let unsigned = format!("{body}\n");
    assert_eq!(
        verify::<Head>(&unsigned, &keys),
        Err(Error::Unsigned("head"))
    );
    for wrong in [
        body.to_owned(),
        text.trim_end().to_owned(),
        format!("{text}\n"),
        format!("{text}more"),
        format!("{text}{signature}"),
        format!("{body}\n\n{signature}"),
        text.replace('\n', "\r\n"),
        text.replacen("untrusted comment: ", "untrusted comment: a\rb", 1),
        text.replacen("untrusted comment: ", "another comment: ", 1),
        text.replacen("\ntrusted comment: ", "\nuntrusted comment: ", 1),
    ] {
        let error = verify::<Head>(&wrong, &keys).unwrap_err();
        assert_eq!(error.slug(), "malformed-bundle", "{wrong}");
    }
    let long = format!("{}{text}", " ".repeat(Head::LIMIT));
    let error = verify::<Head>(&long, &keys).unwrap_err();
    assert_eq!(error, Error::Malformed("head", "too large".to_owned()));
}

#[test]
fn nothing_of_the_untrusted_comment_counts() {
    let (key, public) = key();
    let keys = trusting(Role::Policy, &public);
    let text = signed(&key, &head());
    let changed = text.replacen("nobody reads this", "\u{1b}[8mhidden", 1);
    assert_ne!(changed, text);
    assert_eq!(verify(&changed, &keys), Ok(head()));
}

#[test]
fn a_changed_bit_is_seen() {
    let (key, public) = key();
    let keys = trusting(Role::Policy, &public);
    let text = signed(&key, &head());
    let comment = text.find('\n').unwrap() + 1;
    let comment = comment..comment + text[comment..].find('\n').unwrap();
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let read = Signed::split::<Head>(&bytes)
                .and_then(|signed| signed.verify::<Head>(&keys))
                .map(|verified| verified.statement);
            // Only the comment that nobody reads, where it stays one line, and the unused bits of base64.
            if let Ok(read) = read {
                assert_eq!(read, head());
                assert!(comment.contains(&at), "bit {bit} of byte {at}");
            }
        }
    }
}

/// Members that are unknown, twice there, spelled in another way or out of bounds, by a trusted key.
#[test]
fn a_trusted_key_signs_only_what_dfw_writes() {
    let (key, public) = key();
    let keys = trusting(Role::Policy, &public);
    let body = signed::write(&head()).unwrap();
    for (from, to) in [
        ("\"serial\":12", "\"serial\":12,\"more\":1"),
        ("\"serial\":12", "\"serial\":12,\"serial\":12"),
        ("\"serial\":12", "\"serial\":1.2e1"),
        ("\"serial\":12", "\"serial\": 12"),
        ("\"serial\":12", "\"serial\":0"),
        ("\"serial\":12", "\"serial\":9007199254740992"),
        ("\"serial\":12", "\"serial\":-1"),
        (
            "\"serial\":12,\"generation\":7",
            "\"generation\":7,\"serial\":12",
        ),
        ("\"prod\"", "\"pr\\u006fd\""),
        ("\"prod\"", "\"../prod\""),
        ("\"prod\"", "\"Prod\""),
        ("2026-12-06", "2026-11-29"),
        ("2026-12-06", "2027-12-06"),
        ("2026-12-06", "2025-12-06"),
        ("2026-12-06T16:00:00Z", "2026-12-06T16:00:00+00:00"),
        ("}", ""),
        ("}", "}}"),
        ("\"head\"", "\"head\",\"type\":\"dfw/v1/manifest\""),
    ] {
        let changed = body.replacen(from, to, 1);
        if changed == body {
            continue;
        }
        let text = sign(&key, &changed, &signed::comment(&head()));
        let error = verify::<Head>(&text, &keys).unwrap_err();
        assert_eq!(error.slug(), "malformed-bundle", "{changed}");
    }
}

#[test]
fn a_manifest_is_within_its_bounds() {
    type Change = fn(&mut Manifest);
    let wrong: [(&str, Change); 12] = [
        ("generation", |m| m.generation = 0),
        ("no file", |m| m.files.clear()),
        ("sorted", |m| m.files.reverse()),
        ("sorted", |m| m.files.push(m.files[1].clone())),
        ("too large", |m| m.files[0].size = (8 << 20) + 1),
        ("too large", |m| {
            m.files[0].name = "base.txt".parse().unwrap();
            m.files[0].size = (64 << 20) + 1;
        }),
        ("another size", |m| m.files[1].sha256 = m.files[0].sha256),
        ("more than 4096", |m| {
            m.files = vec![m.files[0].clone(); 4097];
        }),
        ("groups or stages", |m| {
            m.stages = vec![m.stages[0].clone(); 1025];
        }),
        ("does not exist", |m| m.stages.push("db".parse().unwrap())),
        ("there twice", |m| m.stages.push(m.stages[0].clone())),
        ("hosts of a group", |m| {
            let hosts = m.groups.values_mut().next().unwrap();
            hosts.reverse();
        }),
    ];
    for (reason, change) in wrong {
        let mut manifest = manifest();
        change(&mut manifest);
        let error = manifest.check().unwrap_err();
        assert!(error.contains(reason), "{error}, and not {reason}");
        assert!(signed::write(&manifest).is_err());
    }
}

#[test]
fn a_newer_bundle_is_not_called_damaged() {
    let (key, public) = key();
    let keys = trusting(Role::Policy, &public);
    let newer = Manifest {
        requires: "99.0.0".parse().unwrap(),
        ..manifest()
    };
    let body = signed::write(&newer).unwrap();
    let body = body.replacen("\"groups\"", "\"regions\":[],\"groups\"", 1);
    let text = sign(&key, &body, &signed::comment(&newer));
    let version = "99.0.0".parse().unwrap();
    assert_eq!(
        verify::<Manifest>(&text, &keys),
        Err(Error::Unsupported(version))
    );
}

#[test]
fn head_and_manifest_belong_together() {
    let (key, _) = key();
    let read = |manifest: &Manifest| {
        let text = signed(&key, manifest);
        let signed = Signed::split::<Manifest>(text.as_bytes()).unwrap();
        signed.read::<Manifest>().unwrap()
    };
    let own = read(&manifest());
    assert_eq!(head().check_manifest(&own), Ok(()));
    let later = read(&Manifest {
        created: moment("2026-11-29T16:00:01Z"),
        ..manifest()
    });
    assert_eq!(head().check_manifest(&later), Err(Error::Mixed));
    let other = Head {
        generation: 8,
        ..head()
    };
    assert_eq!(other.check_manifest(&own), Err(Error::Mixed));
    let other = Head {
        site: "test".parse().unwrap(),
        ..head()
    };
    assert_eq!(other.check_manifest(&own), Err(Error::Mixed));
    let error = other.check_site(&"prod".parse().unwrap()).unwrap_err();
    assert_eq!(error.slug(), "other-site");
    assert_eq!(head().check_site(&"prod".parse().unwrap()), Ok(()));
}

#[test]
fn a_head_expires_and_is_renewed() {
    let head = head();
    assert_eq!(head.check_time(moment("2026-12-06T15:59:59Z")), Ok(()));
    let end = moment("2026-12-06T16:00:00Z");
    assert_eq!(head.check_time(end), Err(Error::Expired(end)));
    let renewed = head.renew(end, Duration::from_hours(24)).unwrap();
    assert_eq!(renewed.check_time(end), Ok(()));
    assert_eq!(
        renewed,
        Head {
            serial: 13,
            created: end,
            expires: moment("2026-12-07T16:00:00Z"),
            ..head.clone()
        }
    );
    for time in [
        Duration::from_secs(59),
        Duration::from_hours(367 * 24),
        Duration::MAX,
    ] {
        assert!(head.renew(end, time).is_err(), "{time:?}");
    }
    let last = Head {
        serial: (1 << 53) - 1,
        ..head
    };
    assert!(last.renew(end, Duration::from_hours(24)).is_err());
}

#[test]
fn a_host_has_the_files_of_its_groups() {
    let manifest = manifest();
    let names = |host: &str| -> Vec<String> {
        let host = host.parse().unwrap();
        let groups = manifest.groups_of(&host).cloned().collect();
        let files = manifest.files_of(&groups);
        files.map(|file| file.name.to_string()).collect()
    };
    assert_eq!(names("web-1"), ["base.yaml", "web/ports.yaml"]);
    assert_eq!(names("www"), ["base.yaml", "web/ports.yaml"]);
    assert_eq!(names("db-1"), ["base.yaml"]);
}

#[test]
fn contents_are_those_of_the_manifest() {
    let manifest = manifest();
    let file = &manifest.files[0];
    assert_eq!(file.check(b"default: deny\n"), Ok(()));
    for wrong in ["", "default: deny", "default: denY\n", "default: deny\n\n"] {
        let error = file.check(wrong.as_bytes()).unwrap_err();
        assert_eq!(error, Error::Contents(file.name.clone()));
    }
}

#[test]
fn keys_are_those_of_minisign() {
    let (_, public) = key();
    let mut keys = Keys::default();
    let commented = format!("untrusted comment: minisign public key\n{public}\n");
    keys.add(Role::Policy, &commented).unwrap();
    keys.add(Role::Policy, &format!("{public}\n")).unwrap();
    for wrong in [
        "",
        "\n",
        "RWQ",
        &public[1..],
        &format!("{commented}{public}"),
        "key\nkey",
    ] {
        assert!(keys.add(Role::Policy, wrong).is_err(), "{wrong}");
    }
    assert!(!keys.is_empty());
    assert!(trusting(Role::Operations, &public).is_empty());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Signed::split::<Head>(&bytes);
        let text = format!("{{\"type\":\"dfw/v1/head\",{}", String::from_utf8_lossy(&bytes));
        if let Ok(signed) = Signed::split::<Head>(text.as_bytes()) {
            prop_assert!(signed.read::<Head>().is_err());
        }
    }

    /// What is read has one spelling.
    #[test]
    fn what_is_read_is_what_is_written(at in 0_usize..300, byte in any::<u8>()) {
        let mut body = signed::write(&head()).unwrap().into_bytes();
        if let Some(place) = body.get_mut(at) {
            *place = byte;
        }
        if let Ok(read) = Signed::split::<Head>(&body).and_then(|signed| signed.read::<Head>()) {
            let again = signed::write(&read.statement).unwrap();
            prop_assert_eq!(again.as_bytes(), &*body);
        }
    }
}
