//! New lists that break a test: they are refused, and everything else that has changed comes into force.

#![expect(clippy::disallowed_types, reason = "a test of the program starts it")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use dfw::policy::List;
use dfw::store::{LoadError, Location, Policies};
use dfw::text::SourceMap;
use tempfile::TempDir;

/// The test of every policy here, in its first line.
const TEST: &str = "tests: [{from: 198.51.100.66, to: 80-89, expect: deny}]\ndefault: deny\n";
const BAD: &str = "198.51.100.66\n";

/// A cache, and the lists that were accepted.
struct Trial(TempDir);

impl Trial {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cache", "accepted"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The list of a source, which is the address of a name like it.
    fn fetch(&self, name: &str, text: &str) {
        let key = format!("cache/name-{name}.example.com");
        fs::write(self.path(&key), text).unwrap();
    }

    /// Writes a policy with some sources.
    fn write(&self, names: &[&str], more: &str) {
        let lines: Vec<String> = names
            .iter()
            .map(|name| format!("  {name}: {{name: {name}.example.com, max: 1000}}\n"))
            .collect();
        let sources = lines.concat();
        let text = format!("{TEST}sources:\n{sources}{more}");
        fs::write(self.path("a.yaml"), text).unwrap();
    }

    fn read(&self) -> Result<Policies, LoadError> {
        let texts =
            || SourceMap::strict().with_fetched(self.path("cache"), Some(self.path("accepted")));
        let location = Location::to_show(&self.path("a.yaml"));
        Policies::read_tested(&texts, &location, None).map(|(policies, _)| policies)
    }

    /// Reads as guard does, and accepts.
    fn accept(&self) -> Policies {
        let policies = self.read().unwrap();
        assert!(policies.accept(&self.path("accepted")).is_empty());
        policies
    }

    fn program(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dfw"));
        command.args(words).arg(self.path("a.yaml"));
        command.env("DFW_CACHE", self.path("cache"));
        command.env("STATE_DIRECTORY", self.path("accepted"));
        command.output().unwrap()
    }
}

/// What is in a source, and why its new list is not used.
fn list(policies: &Policies, name: &str) -> (String, Option<String>) {
    let mut sources = policies.policy.sources.iter();
    let (_, source) = sources.find(|(known, _)| known.as_str() == name).unwrap();
    let entries: Vec<String> = source.addresses.iter().map(|it| it.to_string()).collect();
    let list = &source.fetched.as_ref().unwrap().list;
    (entries.join(" "), list.unused().map(str::to_owned))
}

fn warnings(policies: &Policies) -> Vec<&str> {
    let warnings = policies.warnings.iter();
    let warnings = warnings.filter(|warning| warning.slug == "fetched-list");
    warnings.map(|warning| &*warning.message).collect()
}

fn used(text: &str) -> (String, Option<String>) {
    (text.to_owned(), None)
}

fn refused(text: &str, reason: &str) -> (String, Option<String>) {
    (text.to_owned(), Some(reason.to_owned()))
}

const BREAKS: &str = "the new list breaks the test at a.yaml:1";

#[test]
fn a_list_that_breaks_a_test_holds_up_nothing_else() {
    let trial = Trial::new();
    let ports = "ports: {80: [a], 81: [b], 22: [192.0.2.1]}\n";
    trial.write(&["a", "b"], ports);
    trial.fetch("a", "192.0.2.7\n");
    trial.fetch("b", "192.0.2.8\n");
    trial.accept();
    trial.fetch("a", BAD);
    trial.fetch("b", "192.0.2.9\n");
    trial.write(&["a", "b"], &ports.replace("192.0.2.1]", "192.0.2.2]"));
    for _ in 0..2 {
        let policies = trial.accept();
        assert_eq!(list(&policies, "a"), refused("192.0.2.7", BREAKS));
        assert_eq!(list(&policies, "b"), used("192.0.2.9"));
        assert_eq!(
            warnings(&policies),
            [format!("the list that was fetched is not used: {BREAKS}")]
        );
        let port = policies.policy.ports.iter();
        let mut port = port.filter(|(key, _)| key.first == 22);
        let (_, port) = port.next().unwrap();
        let addresses: Vec<_> = port.allow.inline.iter().map(|it| it.to_string()).collect();
        assert_eq!(addresses, ["192.0.2.2"]);
    }
    // What is right again is used.
    trial.fetch("a", "192.0.2.10\n");
    let policies = trial.accept();
    assert_eq!(list(&policies, "a"), used("192.0.2.10"));
    assert!(warnings(&policies).is_empty());
}

/// It is as if it was never fetched: nobody is allowed, and under `except` it is an error.
#[test]
fn a_first_list_that_breaks_a_test_allows_nobody() {
    let trial = Trial::new();
    trial.write(&["a"], "ports: {80: [a]}\n");
    trial.fetch("a", BAD);
    let policies = trial.accept();
    assert_eq!(list(&policies, "a"), refused("", BREAKS));
    let source = policies.policy.sources.values().next().unwrap();
    let list = &source.fetched.as_ref().unwrap().list;
    assert!(matches!(list, List::Refused(_)) && list.unknown().is_some());
    let warning = format!("the list that was fetched is not used: {BREAKS}");
    assert_eq!(warnings(&policies)[0], warning);
    assert!(!trial.path("accepted/accepted-name-a.example.com").exists());
    trial.write(&["a"], "ports: {80: {allow: any, except: [a]}}\n");
    trial.fetch("a", "192.0.2.7\n");
    let wrong = trial.read().unwrap_err();
    assert!(matches!(wrong, LoadError::Failed { .. }), "{wrong:?}");
}

/// A list under `except` breaks a test by what it lacks.
#[test]
fn a_list_that_lets_somebody_in_by_what_it_lacks_is_refused() {
    let trial = Trial::new();
    trial.write(&["a"], "ports: {80: {allow: any, except: [a]}, 81: []}\n");
    trial.fetch("a", BAD);
    trial.accept();
    trial.fetch("a", "198.51.100.67\n");
    let policies = trial.accept();
    assert_eq!(list(&policies, "a"), refused("198.51.100.66", BREAKS));
}

#[test]
fn of_several_new_lists_those_are_refused_that_break_a_test() {
    let trial = Trial::new();
    let names: Vec<String> = (0..16).map(|number| format!("s{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    trial.write(&names, &format!("ports: {{80: [{}]}}\n", names.join(", ")));
    for name in &names {
        trial.fetch(name, "192.0.2.7\n");
    }
    trial.accept();
    for (number, name) in names.iter().enumerate() {
        trial.fetch(name, if number % 3 == 0 { BAD } else { "192.0.2.8\n" });
    }
    let policies = trial.accept();
    for (number, name) in names.iter().enumerate() {
        let expected = match number % 3 {
            0 => refused("192.0.2.7", BREAKS),
            _ => used("192.0.2.8"),
        };
        assert_eq!(list(&policies, name), expected, "{name}");
    }
}

/// Trying takes time, in which nothing else comes into force.
#[test]
fn of_very_many_new_lists_all_are_refused() {
    let trial = Trial::new();
    let names: Vec<String> = (0..17).map(|number| format!("s{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    trial.write(&names, &format!("ports: {{80: [{}]}}\n", names.join(", ")));
    for name in &names {
        trial.fetch(name, "192.0.2.7\n");
    }
    trial.accept();
    for name in &names {
        trial.fetch(name, "192.0.2.8\n");
    }
    trial.fetch("s3", BAD);
    let policies = trial.accept();
    let reason = "one of 17 new lists breaks the test at a.yaml:1";
    for name in &names {
        assert_eq!(list(&policies, name), refused("192.0.2.7", reason));
    }
}

#[test]
fn what_fails_with_the_former_lists_too_is_the_fault_of_the_policy() {
    let trial = Trial::new();
    trial.write(&["a", "b"], "ports: {80: [a, b]}\n");
    for name in ["a", "b"] {
        trial.fetch(name, "192.0.2.7\n");
    }
    trial.accept();
    trial.write(&["a", "b"], "ports: {80: [a, b], 81: any}\n");
    for text in [BAD, "192.0.2.8\n", "192.0.2.7\n"] {
        trial.fetch("a", text);
        trial.fetch("b", text);
        let wrong = trial.read().unwrap_err();
        assert!(matches!(wrong, LoadError::Failed { .. }), "{wrong:?}");
    }
}

/// Who asks about a policy is told that it fails with what was fetched.
#[test]
fn a_check_says_which_test_fails() {
    let trial = Trial::new();
    trial.write(&["a"], "ports: {80: [a]}\n");
    trial.fetch("a", "192.0.2.7\n");
    trial.accept();
    trial.fetch("a", BAD);
    for verb in ["check", "test"] {
        let output = trial.program(&[verb]);
        assert_eq!(output.status.code(), Some(11), "{verb}: {output:?}");
    }
}

/// It would be the policy's own from then on, and nothing could change any more.
#[test]
fn a_list_that_breaks_a_test_cannot_be_accepted_by_hand() {
    let trial = Trial::new();
    trial.write(&["a", "b"], "ports: {80: [a], 81: [b]}\n");
    for name in ["a", "b"] {
        trial.fetch(name, "192.0.2.0/28\n");
    }
    trial.accept();
    let accepted = trial.path("accepted/accepted-name-a.example.com");
    let former = fs::read_to_string(&accepted).unwrap();
    // The other list breaks it, too, and is not asked about.
    trial.fetch("b", BAD);
    for text in [BAD, "192.0.2.0/28\n198.51.100.66\n"] {
        trial.fetch("a", text);
        let output = trial.program(&["fetch", "--accept", "a"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("{BREAKS}: change the test first")),
            "{said}"
        );
        assert_eq!(fs::read_to_string(&accepted).unwrap(), former);
    }
    trial.fetch("a", "192.0.2.9\n");
    let output = trial.program(&["fetch", "--accept", "a"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(list(&trial.accept(), "a"), used("192.0.2.9"));
}
