//! Files to a policy: the frame that the nouns of the language share.

use serde_json::Value as Schema;

use crate::net::HostPorts;
use crate::text::diagnostic::{Diagnostic, Severity, quoted};
use crate::text::{FileId, SourceMap};

use super::yaml::{self, Member, Reader, Tree, Value};
use super::{Policy, default, grants, lint, port, report, settings, source, tests};

/// A top-level key of a policy.
pub(super) struct Section {
    pub(super) key: &'static str,
    read: fn(&mut Draft, &mut Reader<'_>, &Member),
    pub(super) schema: fn() -> Schema,
}

/// All top-level keys.
pub(super) const SECTIONS: [Section; 6] = [
    Section {
        key: "default",
        read: |draft, reader, member| draft.default.read(reader, member),
        schema: default::schema,
    },
    Section {
        key: "sources",
        read: |draft, reader, member| draft.sources.read(reader, &member.value),
        schema: source::schema,
    },
    Section {
        key: "ports",
        read: |draft, reader, member| draft.ports.read(reader, &member.value),
        schema: port::schema,
    },
    Section {
        key: "grants",
        read: |draft, reader, member| draft.grants.read(reader, member),
        schema: grants::schema,
    },
    Section {
        key: "settings",
        read: |draft, reader, member| draft.settings.read(reader, &member.value),
        schema: settings::schema,
    },
    Section {
        key: "tests",
        read: |draft, reader, member| {
            tests::read(&mut draft.tests, &mut draft.ports, reader, &member.value);
        },
        schema: tests::schema,
    },
];

/// A policy that is being read.
#[derive(Default)]
struct Draft {
    default: default::Draft,
    sources: source::Draft,
    ports: port::Draft,
    grants: grants::Draft,
    settings: settings::Draft,
    tests: Vec<tests::Statement>,
}

/// Parses a complete policy from one text, which can reference no other file.
///
/// # Errors
/// What is wrong with it first.
pub fn read_text(name: &str, text: &str) -> Result<Policy, String> {
    let mut texts = SourceMap::in_memory::<&str, &str>([]);
    let file = texts.take(name, text.into());
    match read(&mut texts, &[file]) {
        Ok((policy, _)) => Ok(policy),
        Err(errors) => {
            let first = errors.into_iter().next().map(|error| error.message);
            Err(first.unwrap_or_default())
        }
    }
}

/// Reads one policy from several files; their order does not matter.
///
/// With the policy come warnings.
///
/// # Errors
///
/// Everything that is wrong with any of the files, by file and line; warnings are among it.
pub fn read(
    texts: &mut SourceMap,
    files: &[FileId],
) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    read_with(texts, files, false)
}

/// Does the same as [`read`], and warns of lines that never decide, of tests that test nothing and of databases that
/// are open to everybody.
///
/// # Errors
/// See [`read`].
pub fn read_and_lint(
    texts: &mut SourceMap,
    files: &[FileId],
) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    read_with(texts, files, true)
}

fn read_with(
    texts: &mut SourceMap,
    files: &[FileId],
    lints: bool,
) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut reader = Reader {
        texts,
        report: Vec::new(),
        lints,
    };
    let mut draft = Draft::default();
    let mut complete = true;
    for &file in files {
        complete &= draft.read_file(&mut reader, file);
    }
    draft.ports.check_overlaps(&mut reader);
    // A file that could not be read may hold what seems to be missing.
    if complete {
        draft.ports.check_names(&mut reader, &draft.sources);
        draft.ports.check_empty_excepts(&mut reader, &draft.sources);
        draft.default.check(&mut reader);
    }
    draft.finish(reader)
}

impl Draft {
    /// Reads one file; returns `false` if parts of it could not be read.
    fn read_file(&mut self, reader: &mut Reader<'_>, file: FileId) -> bool {
        if let Some(problem) = reader.texts.error(file) {
            reader.report.push(problem);
            return false;
        }
        let root = match yaml::parse(file, reader.texts.text(file), &mut reader.report) {
            Tree::Empty => return true,
            Tree::Broken => return false,
            Tree::Document(root) => root,
        };
        match &root.value {
            Value::Mapping(members) => {
                for member in members {
                    self.read_section(reader, member);
                }
                true
            }
            Value::Null => true,
            Value::Invalid => false,
            Value::Scalar { .. } | Value::Sequence(_) => {
                reader.report.push(
                    Diagnostic::error("policy", "this is not a policy")
                        .at(root.span.clone(), "`KEY: VALUE` lines are expected here")
                        .help("the shortest policy is `default: deny` and `ports: {80: [203.0.113.0/24]}`"),
                );
                false
            }
        }
    }

    fn read_section(&mut self, reader: &mut Reader<'_>, member: &Member) {
        let key = member.key.as_str();
        if let Some(section) = SECTIONS.iter().find(|section| section.key == key) {
            (section.read)(self, reader, member);
        } else if key.parse::<HostPorts>().is_ok() {
            let message = format!("{} is not a key of a policy", quoted(key));
            reader.report.push(
                Diagnostic::error("unknown-key", message)
                    .at(member.key_span.clone(), "a port?")
                    .help("write it below `ports:`, indented by two spaces"),
            );
        } else {
            reader.unknown_key(member, &SECTIONS.map(|section| section.key), "a policy");
        }
    }

    fn finish(self, mut reader: Reader<'_>) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
        let failed = |report: &[Diagnostic]| report.iter().any(|d| d.severity == Severity::Error);
        if !failed(&reader.report) {
            self.ports.check_excepts(&mut reader, &self.sources);
            if reader.lints {
                let lints = lint::run(&self.ports, &self.sources, &self.grants, &self.tests);
                reader.report.extend(lints);
            }
        }
        reader.report.extend(reader.texts.warnings());
        let mut report = reader.report;
        // What points nowhere comes last: it is about all files.
        report.sort_by_key(|diagnostic| {
            let span = diagnostic.primary.as_ref().map(|label| label.span.clone());
            (span.is_none(), span)
        });
        let report = report::summarise(report);
        match self.default.finish() {
            Some((default_origin, default)) if !failed(&report) => {
                let policy = Policy {
                    default,
                    default_origin,
                    sources: self.sources.named,
                    ports: self.ports.ports,
                    grants: self.grants.finish(),
                    settings: self.settings.settings,
                    tests: self.tests,
                };
                Ok((policy, report))
            }
            _ => Err(report),
        }
    }
}
