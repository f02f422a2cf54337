//! Bundles as an administrator makes them and as hosts read them: `dfw bundle`, and every verb that reads policies.

#![expect(clippy::disallowed_types, reason = "a black-box test starts programs")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use minisign::KeyPair;
use serde_json::Value;
use tempfile::TempDir;

use crate::sign;

/// Far from its end, whenever this test runs: the time is not part of what is tested.
const LONG: &str = "--expires-in=366d";

/// A folder with policies for two groups, and keys.
struct Trial {
    folder: TempDir,
    policy: KeyPair,
    operations: KeyPair,
}

impl Trial {
    fn new() -> Self {
        let trial = Self {
            folder: tempfile::tempdir().unwrap(),
            policy: sign::key().unwrap(),
            operations: sign::key().unwrap(),
        };
        for (name, key) in [("policy", &trial.policy), ("operations", &trial.operations)] {
            trial.write(&format!("{name}.pub"), &sign::public(key));
        }
        trial.write(
            "p/base.yaml",
            "default: deny\nsources: {office: {file: lists/office.txt}}\nports: {22: [office]}\n",
        );
        trial.write("p/lists/office.txt", "203.0.113.0/24\n");
        trial.write("p/web/web.yaml", "ports: {443: any}\n");
        trial
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dfw"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("DFW_CACHE", self.path("cache"))
            .env("STATE_DIRECTORY", self.path("state"))
            .env("DFW_DOCKER_HOST", "none");
        command.output().unwrap()
    }

    /// Runs dfw to a good end, and returns what it prints.
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs dfw to a bad end, and returns the slug of the first error.
    fn bad(&self, arguments: &[&str]) -> String {
        let output = self.run(&[arguments, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{arguments:?}: {text}");
        let document: Value = serde_json::from_str(&text).unwrap();
        document["diagnostics"][0]["slug"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn create(&self, output: &str, generation: &str, more: &[&str]) -> Value {
        let usual = [
            "bundle",
            "create",
            "p",
            "--site",
            "prod",
            "--group",
            "web=web-*,www",
            "--serial",
            generation,
            "--generation",
            generation,
            LONG,
            "-o",
            output,
            "--json",
        ];
        let text = self.good(&[&usual, more].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// Creates and signs a bundle.
    fn signed(&self, output: &str, generation: &str) -> Value {
        let document = self.create(output, generation, &[]);
        self.sign(output, &document, &self.policy, &self.policy);
        document
    }

    fn sign(&self, output: &str, document: &Value, manifest: &KeyPair, head: &KeyPair) {
        sign::bundle(&self.path(output), document, (manifest, head)).unwrap();
    }

    /// Returns the only error of a bundle for a host that trusts both keys.
    fn denied(&self, bundle: &str) -> String {
        let keys = [
            "--trusted-key",
            "policy.pub",
            "--operations-key",
            "operations.pub",
        ];
        let verified = self.bad(&[&["bundle", "verify", bundle], &keys[..]].concat());
        let host = ["--host-id", "web-1"];
        let fetched = self.bad(&[&["fetch", bundle], &keys[..], &host].concat());
        assert_eq!(verified, fetched);
        verified
    }
}

/// All files below a folder, with their contents.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            let name = path.strip_prefix(folder).unwrap().to_owned();
            files.insert(name, fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn the_printed_commands_sign_what_hosts_accept() {
    let trial = Trial::new();
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command
            .args(["-euc", script])
            .current_dir(trial.folder.path());
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {error}");
    };
    shell("minisign -G -W -p a.pub -s a.key");
    let document = trial.create("it's new", "7", &[]);
    let commands = document["commands"].as_array().unwrap();
    for command in commands {
        shell(&command.as_str().unwrap().replace("KEY", "a.key"));
    }
    let text = trial.good(&["bundle", "verify", "it's new", "--trusted-key", "a.pub"]);
    assert!(text.contains("site prod, generation 7, serial 7"), "{text}");
    // A folder of keys, of which one signed.
    fs::create_dir(trial.path("keys")).unwrap();
    for key in ["a.pub", "policy.pub"] {
        fs::copy(trial.path(key), trial.path("keys").join(key)).unwrap();
    }
    trial.good(&["bundle", "verify", "it's new", "--trusted-key", "keys"]);
    let renewed = trial.good(&[
        "bundle",
        "renew",
        "it's new",
        "--trusted-key",
        "a.pub",
        "-o",
        "head",
        "--json",
    ]);
    let renewed: Value = serde_json::from_str(&renewed).unwrap();
    assert_eq!(renewed["serial"], 8);
    shell(
        &renewed["commands"][0]
            .as_str()
            .unwrap()
            .replace("KEY", "a.key"),
    );
    fs::rename(trial.path("head"), trial.path("it's new/head")).unwrap();
    let text = trial.good(&["bundle", "verify", "it's new", "--trusted-key", "a.pub"]);
    assert!(text.contains("generation 7, serial 8"), "{text}");
}

#[test]
fn the_same_input_makes_the_same_bundle() {
    let trial = Trial::new();
    let time = ["--created", "2026-11-29T16:00:00Z"];
    trial.create("a", "7", &time);
    trial.create("b", "7", &time);
    assert_eq!(tree(&trial.path("a")), tree(&trial.path("b")));
    let names: Vec<_> = tree(&trial.path("a")).into_keys().collect();
    assert_eq!(names.len(), 5, "{names:?}");
    // Where the directory is, and what is beside the policies, is no part of it.
    fs::rename(trial.path("p"), trial.path("q")).unwrap();
    trial.write("q/notes.md", "not read");
    trial.write("q/lists/other.txt", "not named");
    symlink("q", trial.path("p")).unwrap();
    trial.create("c", "7", &time);
    assert_eq!(tree(&trial.path("a")), tree(&trial.path("c")));
}

#[test]
fn verbs_read_a_bundle_in_place_of_a_directory() {
    let trial = Trial::new();
    trial.signed("out", "7");
    let key = ["--trusted-key", "policy.pub"];
    let shown = |host: &str| {
        let arguments = ["show", "--policy", "out", "--host-id", host];
        trial.good(&[&arguments, &key[..]].concat())
    };
    let (web, other) = (shown("web-1"), shown("db-1"));
    for rules in [&web, &other] {
        assert!(rules.contains("203.0.113.0/24"), "{rules}");
    }
    assert!(web.contains("web.yaml:1") && !other.contains("web.yaml:1"));
    let checked = trial.good(&[&["check", "out", "--host-id", "www"], &key[..]].concat());
    assert!(checked.contains("443/tcp"), "{checked}");
    let same = ["diff", "out", "out", "--host-id", "web-1", "--exit-code"];
    trial.good(&[&same, &key[..]].concat());
    trial.write("p/web/web.yaml", "ports: {443: any, 80: any}\n");
    trial.signed("new", "8");
    let diff = ["diff", "out", "new", "--fail-on-open", "--host-id", "web-1"];
    let output = trial.run(&[&diff, &key[..]].concat());
    assert_eq!(output.status.code(), Some(12));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("+ 80/tcp"), "{text}");
    let diff = ["diff", "out", "new", "--exit-code", "--host-id", "db-1"];
    trial.good(&[&diff, &key[..]].concat());
}

#[test]
fn verbs_read_what_was_fetched_from_an_address() {
    const ADDRESS: &str = "https://policies.example.com/prod/";
    let trial = Trial::new();
    let usual = ["--trusted-key", "policy.pub", "--host-id", "web-1"];
    let verbs: [&[&str]; 5] = [
        &["check", ADDRESS],
        &["test", ADDRESS],
        &["show", "--policy", ADDRESS],
        &["diff", ADDRESS, "out"],
        &["plan", ADDRESS],
    ];
    trial.signed("out", "7");
    for verb in verbs {
        assert_eq!(trial.bad(&[verb, &usual[..]].concat()), "not-fetched");
    }
    fs::create_dir(trial.path("cache")).unwrap();
    trial.signed("cache/site", "7");
    // The last one needs a kernel.
    for verb in &verbs[..4] {
        trial.good(&[verb, &usual[..]].concat());
    }
    let rules = trial.good(&[verbs[2], &usual[..]].concat());
    assert!(rules.contains("web.yaml:1"), "{rules}");
    // The cache is believed for its signatures, and the site is the one in the address.
    for verb in verbs {
        assert_eq!(trial.bad(&[verb, &usual[2..]].concat()), "no-trusted-key");
        let other = [verb[0], "https://policies.example.com/test/"];
        if verb.len() == 2 {
            assert_eq!(trial.bad(&[&other, &usual[..]].concat()), "other-site");
        }
    }
    fs::remove_dir_all(trial.path("cache/site")).unwrap();
    trial.create("cache/site", "8", &[]);
    for verb in verbs {
        assert_eq!(trial.bad(&[verb, &usual[..]].concat()), "unsigned");
    }
    let wrong = trial.bad(&["check", "http://policies.example.com/prod/"]);
    assert_eq!(wrong, "address");
}

#[test]
fn what_may_come_into_force_is_signed_and_for_a_known_host() {
    let trial = Trial::new();
    let document = trial.create("out", "7", &[]);
    let host = ["--host-id", "web-1"];
    // What is only shown may be unsigned, and a warning says so.
    let shown = trial.run(&["check", "out", "--host-id", "web-1"]);
    assert!(shown.status.success());
    let warnings = String::from_utf8(shown.stderr).unwrap();
    assert!(warnings.contains("unverified-bundle"), "{warnings}");
    for verb in ["plan", "fetch"] {
        let arguments = [&[verb, "out"], &host[..]].concat();
        // The files are not signed, and no key is trusted.
        assert_eq!(trial.bad(&arguments), "no-trusted-key", "{verb}");
        let only = [&arguments[..], &["--operations-key", "operations.pub"]].concat();
        assert_eq!(trial.bad(&only), "no-trusted-key", "{verb}");
    }
    assert_eq!(trial.denied("out"), "unsigned");
    trial.sign("out", &document, &trial.policy, &trial.policy);
    let key = ["--trusted-key", "policy.pub"];
    assert_eq!(
        trial.bad(&[&["fetch", "out"], &key[..]].concat()),
        "no-host"
    );
    trial.good(&[&["fetch", "out"], &key[..], &host[..]].concat());
    let site = ["--site", "test"];
    let other = [&["fetch", "out"], &key[..], &host[..], &site[..]].concat();
    assert_eq!(trial.bad(&other), "other-site");
    let check = [&["check", "out"], &key[..], &host[..], &site[..]].concat();
    assert_eq!(trial.bad(&check), "other-site");
}

#[test]
fn a_key_that_everybody_can_write_to_brings_nothing_into_force() {
    let trial = Trial::new();
    trial.signed("out", "7");
    for folder in ["keys", "on/the/way"] {
        trial.write(
            &format!("{folder}/policy.pub"),
            &sign::public(&trial.policy),
        );
    }
    let mode = |path: &str, mode| {
        fs::set_permissions(trial.path(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    for (key, path, open, closed) in [
        ("policy.pub", "policy.pub", 0o666, 0o644),
        ("keys", "keys/policy.pub", 0o666, 0o644),
        ("keys", "keys", 0o777, 0o755),
        ("on/the/way/policy.pub", "on", 0o777, 0o755),
    ] {
        mode(path, open);
        let words = |verb: &[&'static str]| -> Vec<_> {
            let usual = ["--host-id", "web-1", "--trusted-key", key];
            [verb, &["out"], &usual].concat()
        };
        for verb in [&["plan"][..], &["fetch"], &["bundle", "verify"]] {
            let output = trial.run(&words(verb));
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{verb:?} {path}: {error}");
            let reason = format!("everybody can write to {path}: `chmod o-w` it");
            assert!(
                error.contains("error[key]") && error.contains(&reason),
                "{error}"
            );
        }
        // What is only shown is shown, with a warning.
        let output = trial.run(&words(&["check"]));
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{warnings}");
        assert!(warnings.contains("warning[world-writable]"), "{warnings}");
        mode(path, closed);
        trial.good(&words(&["fetch"]));
        let output = trial.run(&words(&["check"]));
        assert!(output.status.success() && output.stderr.is_empty());
    }
}

#[cfg(feature = "etcd")]
#[test]
fn a_fleet_takes_no_key_and_no_authority_that_everybody_can_write_to() {
    let trial = Trial::new();
    trial.write(
        "policy.key",
        &trial.policy.sk.to_box(None).unwrap().to_string(),
    );
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        trial.write(&format!("tls/{name}"), "-----BEGIN CERTIFICATE-----\n");
    }
    let error = || {
        let store = ["fleet", "pause", "etcd://127.0.0.1:1/prod", "--reason", "x"];
        let keys = ["--secret-key", "policy.key", "--tls", "tls"];
        let output = trial.run(&[&store[..], &keys].concat());
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (path, open, closed) in [
        ("policy.key", 0o666, 0o600),
        ("tls/ca.pem", 0o666, 0o644),
        ("tls/key.pem", 0o666, 0o600),
        ("tls", 0o777, 0o755),
    ] {
        let reason = format!("everybody can write to {path}: `chmod o-w` it");
        let mode = |mode| {
            fs::set_permissions(trial.path(path), PermissionsExt::from_mode(mode)).unwrap();
        };
        mode(open);
        assert!(error().contains(&reason), "{}", error());
        mode(closed);
        assert!(!error().contains("everybody"), "{}", error());
    }
}

#[test]
fn a_key_signs_what_its_role_allows() {
    let trial = Trial::new();
    let (policy, operations) = (&trial.policy, &trial.operations);
    let document = trial.create("a", "7", &[]);
    trial.sign("a", &document, policy, operations);
    let keys = [
        "--trusted-key",
        "policy.pub",
        "--operations-key",
        "operations.pub",
    ];
    trial.good(&[&["bundle", "verify", "a"], &keys[..]].concat());
    let only = ["bundle", "verify", "a", "--trusted-key", "policy.pub"];
    assert_eq!(trial.bad(&only), "unknown-key");
    let document = trial.create("b", "7", &[]);
    trial.sign("b", &document, operations, operations);
    assert_eq!(trial.denied("b"), "wrong-role");
    let stranger = sign::key().unwrap();
    let document = trial.create("c", "7", &[]);
    trial.sign("c", &document, &stranger, policy);
    assert_eq!(trial.denied("c"), "unknown-key");
}

#[test]
fn every_changed_file_is_found() {
    let trial = Trial::new();
    trial.signed("out", "7");
    for (path, contents) in tree(&trial.path("out")) {
        let name = path.display().to_string();
        let file = trial.path("out").join(&path);
        let mut changed = contents.clone();
        // In what is signed: the untrusted comment is anybody's.
        let line = contents.iter().position(|byte| *byte == b'\n').unwrap();
        changed[line / 2] ^= 1;
        let expected: &[&str] = if name.starts_with("blobs") {
            &["wrong-contents"]
        } else {
            &["wrong-signature", "unknown-key", "malformed-bundle"]
        };
        let denied = |reason: &str, expected: &[&str]| {
            let slug = trial.denied("out");
            assert!(expected.contains(&&*slug), "{name}, {reason}: {slug}");
        };
        fs::write(&file, &changed).unwrap();
        denied("changed", expected);
        fs::write(&file, [&contents[..], b"\n"].concat()).unwrap();
        denied("longer", &["wrong-contents", "malformed-bundle"]);
        fs::write(&file, &contents[..contents.len() - 1]).unwrap();
        denied("shorter", &["wrong-contents", "malformed-bundle"]);
        fs::write(&file, "<html>\n").unwrap();
        denied("HTML", &["wrong-contents", "malformed-bundle"]);
        // 10 GB, of which nothing is read.
        File::create(&file).unwrap().set_len(10 << 30).unwrap();
        denied("huge", &["wrong-contents", "unreadable"]);
        fs::remove_file(&file).unwrap();
        denied("missing", &["unreadable"]);
        // A file that never ends.
        symlink("/dev/zero", &file).unwrap();
        let slug = trial.bad(&["bundle", "verify", "out", "--trusted-key", "policy.pub"]);
        assert_eq!(slug, "unreadable", "{name}");
        fs::remove_file(&file).unwrap();
        fs::write(&file, &contents).unwrap();
    }
    trial.good(&["bundle", "verify", "out", "--trusted-key", "policy.pub"]);
}

#[test]
fn bundles_are_not_mixed() {
    let trial = Trial::new();
    let old = trial.signed("old", "7");
    trial.write("p/web/web.yaml", "ports: {443: any, 80: any}\n");
    let new = trial.signed("new", "8");
    let manifest = |bundle: &str, document: &Value| {
        let digest = document["manifest"].as_str().unwrap();
        trial.path(bundle).join("manifests").join(digest)
    };
    // The old manifest under the name of the new one, and the other way round.
    let text = fs::read(manifest("new", &new)).unwrap();
    fs::copy(manifest("old", &old), manifest("new", &new)).unwrap();
    assert_eq!(trial.denied("new"), "mixed");
    fs::write(manifest("new", &new), text).unwrap();
    // The new files for the old manifest.
    let names = |document: &Value| -> Vec<String> {
        let files = document["files"].as_array().unwrap().iter();
        files
            .map(|file| file["sha256"].as_str().unwrap().to_owned())
            .collect()
    };
    for (old, new) in names(&old).iter().zip(names(&new)) {
        let from = trial.path("new/blobs").join(new);
        fs::copy(from, trial.path("old/blobs").join(old)).unwrap();
    }
    assert_eq!(trial.denied("old"), "wrong-contents");
    // One kind of text for another.
    fs::copy(manifest("new", &new), trial.path("new/head")).unwrap();
    assert_eq!(trial.denied("new"), "other-type");
}

#[test]
fn what_has_expired_is_shown_and_not_taken() {
    let trial = Trial::new();
    let time = ["--created", "2020-01-01T00:00:00Z"];
    let document = trial.create("out", "7", &time);
    trial.sign("out", &document, &trial.policy, &trial.policy);
    assert_eq!(trial.denied("out"), "expired");
    let key = [
        "--trusted-key",
        "policy.pub",
        "--operations-key",
        "operations.pub",
    ];
    let shown = trial.run(&[&["check", "out", "--host-id", "web-1"], &key[..]].concat());
    let warnings = String::from_utf8(shown.stderr).unwrap();
    assert!(
        shown.status.success() && warnings.contains("expired"),
        "{warnings}"
    );
    // A new head is enough, by the key for heads.
    let renew = ["bundle", "renew", "out", "-o", "head", LONG, "--json"];
    let renewed = trial.good(&[&renew, &key[..]].concat());
    let renewed = serde_json::from_str(&renewed).unwrap();
    sign::head(&trial.path("head"), &renewed, &trial.operations).unwrap();
    fs::rename(trial.path("head"), trial.path("out/head")).unwrap();
    trial.good(&[&["bundle", "verify", "out"], &key[..]].concat());
    // What nobody signed is not renewed.
    trial.create("unsigned", "8", &[]);
    let renew = ["bundle", "renew", "unsigned", "-o", "head"];
    assert_eq!(trial.bad(&[&renew, &key[..]].concat()), "unsigned");
    assert_eq!(trial.bad(&renew), "no-trusted-key");
    assert!(!trial.path("head").exists());
}

/// Makes a bundle of the policies in `p`.
const CREATE: [&str; 11] = [
    "bundle",
    "create",
    "p",
    "--site",
    "prod",
    "--generation",
    "7",
    "--serial",
    "7",
    "-o",
    "out",
];

#[test]
fn policies_that_cannot_be_packed_are_errors() {
    let trial = Trial::new();
    let create = |more: &[&str]| {
        let slug = trial.bad(&[&CREATE, more].concat());
        assert!(!trial.path("out").exists());
        slug
    };
    trial.write("outside.txt", "203.0.113.0/24\n");
    let policy = fs::read_to_string(trial.path("p/base.yaml")).unwrap();
    for list in [
        "../outside.txt",
        &trial.path("outside.txt").display().to_string(),
    ] {
        trial.write("p/base.yaml", &policy.replace("lists/office.txt", list));
        assert_eq!(create(&[]), "bundle", "{list}");
    }
    fs::copy(
        trial.path("p/lists/office.txt"),
        trial.path("p/lists/Office.txt"),
    )
    .unwrap();
    trial.write("p/base.yaml", &policy.replace("office.txt", "Office.txt"));
    assert_eq!(create(&[]), "bundle");
    // Errors in the files of a group, and in what its hosts have together.
    trial.write("p/base.yaml", &policy);
    trial.write("p/web/web.yaml", "default: allow\n");
    assert_eq!(create(&["--group", "web=www"]), "duplicate-key");
    trial.write("p/web/web.yaml", "ports: {443: any}\n");
    trial.write("p/db/db.yaml", "ports: {443: 203.0.113.1}\n");
    assert_eq!(
        create(&["--group", "web=a,b", "--group", "db=b,c"]),
        "duplicate-port"
    );
    trial.write(
        "p/db/db.yaml",
        "tests: [{from: 203.0.113.1, to: 22, expect: deny}]\n",
    );
    let output = trial.run(&[&CREATE[..], &["--group", "db=b"]].concat());
    assert_eq!(output.status.code(), Some(11));
    for (number, value) in [("--generation", "0"), ("--serial", "9007199254740992")] {
        let mut usual = CREATE.to_vec();
        let at = usual.iter().position(|word| *word == number).unwrap();
        usual[at + 1] = value;
        assert_eq!(trial.bad(&usual), "bundle");
    }
    trial.write("out/file", "");
    let usual = [
        "bundle",
        "create",
        "p",
        "--site",
        "a",
        "--generation",
        "7",
        "--serial",
        "7",
    ];
    assert_eq!(
        trial.bad(&[&usual[..], &["-o", "out"]].concat()),
        "unwritable"
    );
}

/// Who can write to the folder cannot have other policies read in place of the bundle.
#[test]
fn a_key_is_for_a_bundle() {
    let trial = Trial::new();
    trial.signed("out", "7");
    let key = ["--trusted-key", "policy.pub", "--host-id", "web-1"];
    for folder in ["manifests", "blobs"] {
        fs::rename(trial.path("out").join(folder), trial.path("away")).unwrap();
        trial.write("out/any.yaml", "default: allow\n");
        let slug = trial.bad(&[&["fetch", "out"], &key[..]].concat());
        assert_eq!(slug, "not-a-bundle");
        fs::rename(trial.path("away"), trial.path("out").join(folder)).unwrap();
    }
    // Beside a bundle they are not read.
    let checked = trial.good(&[&["check", "out"], &key[..]].concat());
    assert!(checked.contains("default: deny"), "{checked}");
    assert_eq!(
        trial.bad(&[&["fetch", "p"], &key[..]].concat()),
        "not-a-bundle"
    );
    trial.good(&[&["diff", "p", "out"], &key[..]].concat());
}

/// A policy that was signed reads no file of the host.
#[test]
fn a_bundle_leads_to_no_other_file() {
    let trial = Trial::new();
    let secret = trial.path("secret.txt").display().to_string();
    let policy = fs::read_to_string(trial.path("p/base.yaml")).unwrap();
    // The list is packed under a name that leads elsewhere on the host.
    for name in [
        &*secret,
        "../secret.txt",
        "lists/../../secret.txt",
        "lists/secret.txt",
    ] {
        let _ = fs::remove_dir_all(trial.path("out"));
        trial.write("p/base.yaml", &policy);
        let document = trial.create("out", "7", &[]);
        let changed = policy.replace("lists/office.txt", name);
        let body = trial
            .path("out/manifests")
            .join(document["manifest"].as_str().unwrap());
        let text = fs::read_to_string(&body).unwrap();
        let (old, new) = (digest(&policy), digest(&changed));
        let size = |text: &str| format!("\"size\":{}", text.len());
        let text = text
            .replacen(&size(&policy), &size(&changed), 1)
            .replace(&old, &new);
        fs::remove_file(&body).unwrap();
        let head = fs::read_to_string(trial.path("out/head")).unwrap();
        let head = head.replace(document["manifest"].as_str().unwrap(), &digest(&text));
        fs::write(trial.path("out/head"), head).unwrap();
        fs::write(trial.path("out/manifests").join(digest(&text)), text).unwrap();
        fs::write(trial.path("out/blobs").join(new), &changed).unwrap();
        trial.write("secret.txt", "203.0.113.99\n");
        trial.write("lists/secret.txt", "203.0.113.99\n");
        assert_eq!(
            trial.bad(&["check", "out", "--host-id", "db-1"]),
            "list",
            "{name}"
        );
    }
}

fn digest(text: &str) -> String {
    dfw::bundle::Digest::of(text.as_bytes()).to_string()
}
