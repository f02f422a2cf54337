//! Lists that are fetched: which of them a policy takes from the cache.

#![expect(clippy::disallowed_types, reason = "a test of the program starts it")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use dfw::analysis::eval::Pool;
use dfw::analysis::explain::to::clients;
use dfw::analysis::explain::{Destination, Question, explain};
use dfw::analysis::judgement::Verdict;
use dfw::analysis::surroundings::Surroundings;
use dfw::analysis::unfetched::{doubt_clients, doubt_walks};
use dfw::host::HostView;
use dfw::policy::List;
use dfw::store::{LoadError, Location, Policies, compared};
use dfw::text::SourceMap;
use tempfile::TempDir;

/// A policy with one source `list`, a cache, and the lists that were accepted.
struct Trial {
    folder: TempDir,
    source: &'static str,
    ports: &'static str,
}

const URL: &str = "{url: \"https://lists.example.com/\", max: 10}";
const ALLOWED: &str = "80: [list]";
const EXCEPTED: &str = "80: {allow: any, except: [list]}";
const BOTH: &str = "80: {allow: [0.0.0.0/1], except: [list, 192.0.2.66]}";

impl Trial {
    fn new(source: &'static str, ports: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cache", "accepted"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self {
            folder,
            source,
            ports,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file of the list in the cache.
    fn cached(&self) -> PathBuf {
        let texts = SourceMap::in_memory([("a.yaml", self.policy(ALLOWED))]);
        let policies = Policies::read(texts, Path::new("a.yaml")).unwrap();
        let source = policies.policy.sources.values().next().unwrap();
        let key = source.fetched.as_ref().unwrap().request.key();
        self.path("cache").join(key)
    }

    fn policy(&self, ports: &str) -> String {
        let source = self.source;
        format!("default: deny\nsources: {{list: {source}}}\nports: {{{ports}}}\n")
    }

    fn fetch(&self, text: impl AsRef<[u8]>) {
        fs::write(self.cached(), text).unwrap();
    }

    fn read(&self) -> Result<Policies, LoadError> {
        let policy = self.path("a.yaml");
        fs::write(&policy, self.policy(self.ports)).unwrap();
        let texts =
            SourceMap::strict().with_fetched(self.path("cache"), Some(self.path("accepted")));
        Policies::read(texts, &policy)
    }

    /// Reads and accepts; what is in the list, and the warnings.
    fn accept(&self) -> (Vec<String>, Vec<String>) {
        let policies = self.read().unwrap();
        assert!(policies.accept(&self.path("accepted")).is_empty());
        let source = policies.policy.sources.values().next().unwrap();
        let entries = source.addresses.iter().map(|entry| entry.to_string());
        let warnings = policies
            .warnings
            .iter()
            .map(|warning| warning.message.clone());
        (entries.collect(), warnings.collect())
    }

    fn errors(&self) -> Vec<String> {
        match self.read().unwrap_err() {
            LoadError::Invalid { diagnostics, .. } => {
                diagnostics.into_iter().map(|error| error.message).collect()
            }
            LoadError::Unread(error) => vec![error.to_string()],
            LoadError::Failed { .. } => vec!["a test has failed".to_owned()],
        }
    }
}

#[test]
fn a_list_that_was_never_fetched_allows_nobody() {
    let trial = Trial::new(URL, ALLOWED);
    let (entries, warnings) = trial.accept();
    assert!(entries.is_empty());
    assert_eq!(warnings, ["this source was never fetched"]);
    let policies = trial.read().unwrap();
    let source = policies.policy.sources.values().next().unwrap();
    assert_eq!(source.fetched.as_ref().unwrap().list, List::Never);
    // It compiles to a port that is closed.
    let ruleset = policies.compile(&HostView::default()).to_string();
    let set = ruleset.split("set list.ip4 {").nth(1).unwrap();
    let set = set.split('}').next().unwrap();
    assert!(!set.contains("elements"), "{set}");
}

/// It would open the port to the addresses that are meant.
#[test]
fn a_list_that_was_never_fetched_excepts_nobody_and_is_an_error() {
    for ports in [EXCEPTED, BOTH] {
        let trial = Trial::new(URL, ports);
        let errors = trial.errors();
        let error = "the source `list` under `except` was never fetched";
        assert!(errors.iter().any(|it| it == error), "{errors:?}");
        trial.fetch("192.0.2.7\n");
        assert_eq!(trial.accept().0, ["192.0.2.7"]);
    }
    // Without any cache nothing was ever fetched.
    let trial = Trial::new(URL, EXCEPTED);
    let texts = SourceMap::in_memory([("a.yaml", trial.policy(EXCEPTED))]);
    Policies::read(texts, Path::new("a.yaml")).unwrap_err();
}

#[test]
fn every_verb_that_reads_policies_uses_the_cache() {
    let trial = Trial::new(URL, EXCEPTED);
    trial.fetch("203.0.113.0/24\n");
    let policy = trial.path("a.yaml");
    fs::write(&policy, trial.policy(trial.ports)).unwrap();
    let path = policy.to_str().unwrap();
    for arguments in [
        &["check", path][..],
        &["check", "--strict", path],
        &["test", path],
        &["diff", path, path],
        &["show", "--policy", path],
        &["explain", "--to", "80", "--policy", path],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dfw"));
        let output = command
            .args(arguments)
            .env("DFW_CACHE", trial.path("cache"))
            .env("STATE_DIRECTORY", trial.path("accepted"))
            .env("DFW_DOCKER_HOST", "none")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert!(!said.contains("fetched"), "{arguments:?}: {said}");
    }
}

#[test]
fn what_is_wrong_changes_nothing() {
    for ports in [ALLOWED, EXCEPTED] {
        let trial = Trial::new(URL, ports);
        let many: Vec<String> = (0..20).map(|n| format!("192.0.2.{}\n", 2 * n)).collect();
        let many = many.concat();
        let wrong: [&[u8]; 13] = [
            b"",
            b"\n\n",
            b"# nothing\n",
            b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n",
            b"192.0.2.7\n192.0.2.8 # half\n192.0.",
            b"{\"prefixes\": [\"192.0.2.7\"]}",
            b"192.0.2.7\n0.0.0.0/0\n",
            b"::/0\n",
            b"\xff\xfe1\x009\x002\x00",
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
            b"192.0.2.7\0\n",
            b"home.example.com\n",
            many.as_bytes(),
        ];
        for (number, text) in wrong.iter().enumerate() {
            trial.fetch(text);
            let errors = trial.errors();
            let first = "the list that was fetched is not used: ";
            assert!(errors[0].starts_with(first), "{number}: {errors:?}");
        }
        trial.fetch("192.0.2.7\n192.0.2.9\n");
        let right = trial.accept();
        assert_eq!(right.0, ["192.0.2.7", "192.0.2.9"]);
        for (number, text) in wrong.iter().enumerate() {
            trial.fetch(text);
            let (entries, warnings) = trial.accept();
            assert_eq!(entries, right.0, "{number}");
            assert_eq!(warnings.len(), 1, "{number}: {warnings:?}");
        }
        fs::remove_file(trial.cached()).unwrap();
        let (entries, warnings) = trial.accept();
        assert_eq!(entries, right.0);
        assert_eq!(
            warnings,
            ["the list that was fetched is not used: it is not in the cache any more"]
        );
    }
}

#[test]
fn a_loss_beyond_the_bound_changes_nothing() {
    let trial = Trial::new(URL, EXCEPTED);
    trial.fetch("192.0.2.0/30\n");
    trial.accept();
    trial.fetch("192.0.2.0\n");
    let (entries, warnings) = trial.accept();
    assert_eq!(entries, ["192.0.2.0/30"]);
    assert!(warnings[0].contains("max-loss: 50%"), "{warnings:?}");
    trial.fetch("192.0.2.0/31\n");
    assert_eq!(trial.accept().0, ["192.0.2.0/31"]);
    trial.fetch("192.0.2.0/31\n192.0.2.9\n");
    let right = trial.accept();
    assert_eq!(right.0, ["192.0.2.0/31", "192.0.2.9"]);
    assert!(right.1.is_empty());
}

#[test]
fn a_policy_that_says_less_does_not_take_what_was_accepted() {
    let mut trial = Trial::new("{name: a.example.com}", ALLOWED);
    trial.fetch("192.0.2.7\n");
    trial.accept();
    trial.source = "{name: a.example.com, within: 203.0.113.0/24}";
    let errors = trial.errors();
    assert!(
        errors[0].contains("192.0.2.7 is not `within`"),
        "{errors:?}"
    );
}

/// A program that writes half of a file takes away no more than the bound; what is accepted is the next measure.
#[test]
fn a_file_that_loses_too_much_is_an_error_until_it_is_accepted() {
    let trial = Trial::new("{file: list.txt, max-loss: 50%}", ALLOWED);
    let write = |text: &str| fs::write(trial.path("list.txt"), text).unwrap();
    let take = |text: &str| {
        write(text);
        assert_eq!(trial.accept(), (vec![text.to_owned()], Vec::new()));
    };
    take("192.0.2.0/24");
    write("192.0.2.0/26");
    let errors = trial.errors();
    assert_eq!(
        errors,
        [
            "this list is not the one that was accepted before: it takes away 75 % of the IPv4 addresses, \
          more than `max-loss: 50%`"
        ]
    );
    take("192.0.2.0/25");
    take("192.0.2.0/26");
    take("192.0.0.0/16");
    write("198.51.100.0/24");
    assert_eq!(trial.errors().len(), 1);
    // As `dfw fetch --accept` does.
    let texts = SourceMap::strict().with_fetched(trial.path("cache"), None);
    let policies = Policies::read(texts, &trial.path("a.yaml")).unwrap();
    let source = policies.policy.sources.values().next().unwrap();
    let kept = policies.keep(&trial.path("accepted"), source);
    kept.unwrap().unwrap();
    take("198.51.100.0/24");
    let mut accepted = fs::read_dir(trial.path("accepted")).unwrap();
    fs::write(accepted.next().unwrap().unwrap().path(), "no list").unwrap();
    assert!(trial.errors()[0].contains("is damaged"));
}

/// An empty list would make some of these true and others false; neither is known.
#[test]
fn what_depends_on_a_list_that_was_never_fetched_is_not_judged() {
    let ports = "80: [list], 81: [192.0.2.9], 82: {allow: [list], except: [192.0.2.1]}";
    let statements = [
        ("{from: 192.0.2.1, to: 80, expect: deny}", false),
        ("{from: 192.0.2.1, to: 80, expect: allow}", false),
        ("{from: list, to: 81, expect: deny}", false),
        ("{from: any, except: list, to: 81, expect: deny}", false),
        ("{to: 80, only: [list]}", false),
        ("{to: 80, only: [192.0.2.9]}", false),
        ("{to: 81, only: [192.0.2.9]}", true),
        ("{from: 192.0.2.1, to: 81, expect: deny}", true),
        ("{from: 192.0.2.1, to: 82, expect: deny}", true),
        ("{from: 192.0.2.2, to: 82, expect: deny}", false),
    ];
    let trial = Trial::new(URL, ALLOWED);
    for (statement, is_judged) in statements {
        let text = format!("{}tests:\n  - {statement}\n", trial.policy(ports));
        let texts = SourceMap::in_memory([("a.yaml", text)]);
        let policies = Policies::read(texts, Path::new("a.yaml")).unwrap();
        let before = policies.warnings.len();
        let (policies, passed) = policies.test().unwrap();
        let new = &policies.warnings[before..];
        let said = new
            .iter()
            .any(|warning| warning.message.contains("`list` was never fetched"));
        assert_eq!((passed == 1, said), (is_judged, !is_judged), "{statement}");
        let (_, passed) = policies.test_on(&HostView::default()).unwrap();
        assert_eq!(passed == 1, is_judged, "{statement}");
    }
}

/// An answer that depends on what such a list holds is none; all others are answered.
#[test]
fn explain_does_not_judge_what_depends_on_a_list_that_was_never_fetched() {
    let source = "{url: \"https://lists.example.com/\", within: 203.0.113.0/24}";
    let ports = "80: [list, 192.0.2.9], 81: [192.0.2.9]";
    let trial = Trial::new(source, ALLOWED);
    let texts = SourceMap::in_memory([("a.yaml", trial.policy(ports))]);
    let policies = Policies::read(texts, Path::new("a.yaml")).unwrap();
    let (host, around) = (HostView::default(), Surroundings::default());
    let rules = policies.compile(&host);
    let full = policies.compile_full(&host).unwrap();
    let destination = |to: &str| Destination {
        to: to.parse().unwrap(),
        place: None,
        host_known: true,
    };
    let verdicts = [
        ("203.0.113.7", "80", Verdict::NotJudged),
        ("192.0.2.9", "80", Verdict::Allow),
        ("198.51.100.1", "80", Verdict::Deny),
        ("203.0.113.7", "81", Verdict::Deny),
    ];
    for (from, to, expected) in verdicts {
        let question = Question {
            from: from.parse().unwrap(),
            via: None,
            destination: destination(to),
        };
        let mut answer = explain(&host, &around, &rules, &question);
        let other = explain(&host, &around, &full, &question);
        doubt_walks(&mut answer.walks, &other.walks);
        assert_eq!(answer.verdict(), expected, "{from} to {to}");
    }
    let mut answer = clients(&host, &around, &rules, &destination("80"), None);
    let other = clients(&host, &around, &full, &destination("80"), None);
    doubt_clients(&mut answer, &other);
    let block = answer.blocks.first().unwrap();
    let accesses: Vec<_> = block
        .accesses
        .iter()
        .map(|access| {
            (
                access.verdict(),
                access.sources.iter().next().unwrap().to_string(),
            )
        })
        .collect();
    let first = |verdict, text: &str| (verdict, text.to_owned());
    assert_eq!(
        accesses,
        [
            first(Verdict::Allow, "192.0.2.9"),
            first(Verdict::NotJudged, "203.0.113.0/24"),
            first(Verdict::Deny, "0.0.0.0-192.0.2.8"),
        ]
    );
}

/// A comparison with a list that was never fetched says that somebody may gain access.
#[test]
fn what_was_never_fetched_may_open_a_port() {
    let read = |source: &str, ports: &str| {
        let text = format!("default: deny\nsources: {{list: {source}}}\nports: {{{ports}}}\n");
        Policies::read(
            SourceMap::in_memory([("a.yaml", text)]),
            Path::new("a.yaml"),
        )
        .unwrap()
    };
    let name = "{name: a.example.com, within: 203.0.113.0/24}";
    let (old, new) = (read(name, "80: []"), read(name, "80: [list]"));
    let mut pool = Pool::default();
    let (difference, unknown) = compared(&mut pool, &old, &new);
    assert_eq!(
        unknown,
        ["list (addresses of a.example.com; never fetched)"]
    );
    let openings: Vec<String> = difference
        .openings()
        .map(|row| row.sources.iter().map(|entry| entry.to_string()).collect())
        .collect();
    assert_eq!(openings, ["203.0.113.0/24"]);
}

/// The owner of the cache chooses nothing but the text of a file in it.
#[test]
fn only_files_of_the_cache_are_read() {
    let trial = Trial::new(URL, ALLOWED);
    let file = trial.cached();
    let elsewhere = trial.path("elsewhere");
    fs::write(&elsewhere, "192.0.2.66\n").unwrap();
    let error = |trial: &Trial| trial.errors().remove(0);

    symlink(&elsewhere, &file).unwrap();
    assert!(error(&trial).contains("a symbolic link"));
    fs::remove_file(&file).unwrap();

    symlink("name-other", &file).unwrap();
    fs::write(trial.path("cache").join("name-other"), "192.0.2.66\n").unwrap();
    assert!(error(&trial).contains("a symbolic link"));
    fs::remove_file(&file).unwrap();

    rustix::fs::mknodat(
        rustix::fs::CWD,
        &file,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(error(&trial).contains("a pipe"));
    fs::remove_file(&file).unwrap();

    fs::create_dir(&file).unwrap();
    assert!(error(&trial).contains("a folder"));
    fs::remove_dir(&file).unwrap();

    let huge = fs::File::create(&file).unwrap();
    huge.set_len(10 << 30).unwrap();
    assert!(error(&trial).contains("larger than 64 MiB"));
    fs::remove_file(&file).unwrap();

    trial.fetch("192.0.2.66\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(error(&trial).contains("everybody can write"));
}

/// What the page about lists shows can be fetched as it is written.
#[test]
fn the_lines_of_the_page_are_right() {
    let page = fs::read_to_string("docs/lists.md").unwrap();
    let mut fetched = 0;
    for block in page.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let default = if block.contains("default:") {
            ""
        } else {
            "default: deny\n"
        };
        let texts = SourceMap::in_memory([
            ("p/a.yaml", format!("{default}{block}")),
            ("p/lists/banned.txt", "192.0.2.0\n".to_owned()),
        ]);
        fetched += dfw::store::requests(texts, &Location::to_show(Path::new("p/a.yaml")))
            .unwrap()
            .len();
    }
    assert!(fetched > 10, "{fetched}");
}
