//! Trees to a policy: the frame that the nouns of the language share.

use crate::net::HostPorts;
use std::collections::{BTreeMap, BTreeSet};

use super::reader::Reader;
use super::syntax::{self, Member, Node, Tree, Value};
use super::{DefaultAction, Policy};
use super::{colon, mistake};
use crate::text::diagnostic::{Diagnostic, Severity, did_you_mean, quoted};
use crate::text::{FileId, SourceMap, Span};

pub(super) const KEYS: [&str; 5] = ["default", "sources", "ports", "settings", "tests"];

const DEFAULT_FORMS: [&str; 2] = [
    "`default: deny` refuses published ports that no file names",
    "`default: allow` leaves them to Docker, open to everybody",
];

/// Reads one text that is a whole policy and names no other file.
///
/// # Errors
/// What is wrong with it first.
pub fn read_text(name: &str, text: &str) -> Result<Policy, String> {
    let mut sources = SourceMap::in_memory::<&str, &str>([]);
    let file = sources.take(name, text.into());
    match read(&mut sources, &[file]) {
        Ok((policy, _)) => Ok(policy),
        Err(errors) => {
            let first = errors.into_iter().next().map(|error| error.message);
            Err(first.unwrap_or_default())
        }
    }
}

/// Reads the policy that `files` are, together: in which order does not matter.
///
/// With the policy come warnings.
///
/// # Errors
///
/// Everything that is wrong with any of the files, by file and line; warnings are among it.
pub fn read(
    sources: &mut SourceMap,
    files: &[FileId],
) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut reader = Reader {
        sources,
        report: Vec::new(),
        default: None,
        named: BTreeMap::new(),
        uses: Vec::new(),
        unread: BTreeSet::new(),
        flawed: false,
        lists: BTreeSet::new(),
        ports: BTreeMap::new(),
        port_origins: BTreeMap::new(),
        excepts: BTreeMap::new(),
        except_names: Vec::new(),
        settings: super::reader::Draft::default(),
        tests: Vec::new(),
    };
    let mut complete = true;
    for &file in files {
        complete &= reader.read_file(file);
    }
    reader.check_overlaps();
    // A file that could not be read may hold what seems to be missing.
    if complete {
        reader.check_names();
        reader.check_empty_excepts();
        reader.check_default();
    }
    reader.finish()
}

/// Whether `key` is not among `members`, not even mistyped, which is reported as such.
pub(super) fn is_missing(key: &str, members: &[Member], known: &[&str]) -> bool {
    !members.iter().any(|member| {
        let meant = || did_you_mean(&member.key, known.iter().copied());
        member.key == key || (!known.contains(&member.key.as_str()) && meant() == Some(key))
    })
}

impl Reader<'_> {
    /// Reads one file; `false` if it may hold more than could be read.
    fn read_file(&mut self, file: FileId) -> bool {
        if let Some(problem) = self.sources.error(file) {
            self.report.push(problem);
            return false;
        }
        let root = match syntax::parse(file, self.sources.text(file), &mut self.report) {
            Tree::Empty => return true,
            Tree::Broken => return false,
            Tree::Document(root) => root,
        };
        match &root.value {
            Value::Mapping(members) => {
                for member in members {
                    self.read_section(member);
                }
                true
            }
            Value::Null => true,
            Value::Refused => false,
            Value::Scalar { .. } | Value::Sequence(_) => {
                self.report.push(
                    Diagnostic::error("policy", "this is not a policy")
                        .at(root.span.clone(), "`KEY: VALUE` lines are expected here")
                        .help("the shortest policy is `default: deny` and `ports: {80: [203.0.113.0/24]}`"),
                );
                false
            }
        }
    }

    fn read_section(&mut self, member: &Member) {
        match member.key.as_str() {
            "default" => self.read_default(member),
            "sources" => self.read_sources(&member.value),
            "ports" => self.read_ports(&member.value),
            "settings" => self.read_settings(&member.value),
            "tests" => self.read_tests(&member.value),
            key => {
                let span = member.key_span.clone();
                let error = |what: &str| {
                    let message = format!("{} is not a key of a policy", quoted(key));
                    Diagnostic::error("unknown-key", message).at(span.clone(), what)
                };
                if key.parse::<HostPorts>().is_ok() {
                    self.report.push(
                        error("a port?").help("write it below `ports:`, indented by two spaces"),
                    );
                } else {
                    self.unknown_key(member, &KEYS, "a policy");
                }
            }
        }
    }

    fn read_default(&mut self, member: &Member) {
        let action = match member.value.text() {
            Some("deny") => Some(DefaultAction::Deny),
            Some("allow") => Some(DefaultAction::Allow),
            _ => {
                let message = "`default` is `deny` or `allow`";
                self.wrong_value(&member.value, message, &["deny", "allow"]);
                if let Some(last) = self.report.last_mut().filter(|d| d.slug == "value") {
                    last.help.extend(DEFAULT_FORMS.map(str::to_owned));
                }
                None
            }
        };
        if member.repeated {
            return;
        }
        if let Some((first, _)) = &self.default {
            self.report.push(
                Diagnostic::error("duplicate-key", "`default` is written twice")
                    .at(member.key_span.clone(), "written again here")
                    .related(first.clone(), "first written here")
                    .help("keep one of them: all files of the directory are one policy"),
            );
            return;
        }
        self.default = Some((member.key_span.clone(), action));
    }

    fn check_default(&mut self) {
        if self.default.is_none() {
            let mut error = Diagnostic::error("no-default", "no file says `default:`");
            error.help = DEFAULT_FORMS.map(str::to_owned).to_vec();
            self.report.push(error);
        }
    }

    /// Warns of what is beside the policies and not read, and of what everybody can change.
    fn check_surroundings(&mut self) {
        self.report.extend(self.sources.warnings());
    }

    fn finish(mut self) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
        let failed = |report: &[Diagnostic]| report.iter().any(|d| d.severity == Severity::Error);
        if !failed(&self.report) {
            self.check_excepts();
        }
        self.check_surroundings();
        // What points nowhere comes last: it is about all files.
        self.report.sort_by_key(|diagnostic| {
            let span = diagnostic.primary.as_ref().map(|label| label.span.clone());
            (span.is_none(), span)
        });
        self.report = mistake::summarise(self.report);
        match self.default {
            Some((default_origin, Some(default))) if !failed(&self.report) => {
                let policy = Policy {
                    default,
                    default_origin,
                    sources: self.named,
                    ports: self.ports,
                    settings: self.settings.settings,
                    tests: self.tests,
                };
                Ok((policy, self.report))
            }
            _ => Err(self.report),
        }
    }

    /// The members of a mapping; a section without anything says nothing.
    pub(super) fn section<'n>(&mut self, node: &'n Node, what: &str, help: &str) -> &'n [Member] {
        // `80:any`: a space is missing.
        let pair = match &node.value {
            Value::Scalar { text, plain: true } => text.split(' ').next().and_then(colon::split),
            _ => None,
        };
        match &node.value {
            Value::Mapping(members) => return members,
            Value::Null | Value::Refused => {}
            Value::Scalar { .. } | Value::Sequence(_) => self.report.push(match pair {
                Some(meant) => colon::missing(meant, &node.span),
                None => Diagnostic::error("value", format!("{what} is a mapping"))
                    .at(node.span.clone(), "`KEY: VALUE` lines are expected here")
                    .help(help),
            }),
        }
        &[]
    }

    /// A text or a list of texts; `None` if it is something else, which was reported.
    pub(super) fn one_or_many<'n>(
        &mut self,
        node: &'n Node,
        key: &str,
        what: &str,
    ) -> Option<Vec<(&'n str, Span)>> {
        let items = match &node.value {
            Value::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut texts = Vec::new();
        let mut good = true;
        for item in items {
            if let Some(text) = item.text() {
                texts.push((text, item.span.clone()));
            } else {
                good = false;
                if item.value != Value::Refused {
                    self.report.push(
                        Diagnostic::error("value", format!("{key} takes names of interfaces"))
                            .at(item.span.clone(), format!("{what} is expected here")),
                    );
                }
            }
        }
        good.then_some(texts)
    }

    pub(super) fn unknown_key(&mut self, member: &Member, known: &[&str], place: &str) {
        if member.repeated {
            return;
        }
        let message = format!("{} is not a key of {place}", quoted(&member.key));
        let error =
            Diagnostic::error("unknown-key", message).at(member.key_span.clone(), "unknown");
        self.report
            .push(match did_you_mean(&member.key, known.iter().copied()) {
                Some(meant) => error.help(format!("did you mean `{meant}`?")),
                None if known.len() == 1 => {
                    error.help(format!("the only key is `{}`", known.join("")))
                }
                None => error.help(format!("the keys are `{}`", known.join("`, `"))),
            });
    }

    /// Reports a value that is none of `known`; one that was refused before is passed over.
    pub(super) fn wrong_value(&mut self, node: &Node, message: &str, known: &[&str]) {
        if node.value == Value::Refused {
            return;
        }
        let label = match &node.value {
            Value::Null => "nothing is written here",
            Value::Scalar { text, plain: false } if known.contains(&text.as_str()) => {
                "leave the quotes out"
            }
            _ => "neither of them",
        };
        let label = if known.len() == 2 { label } else { "not that" };
        let error = Diagnostic::error("value", message).at(node.span.clone(), label);
        let meant = node.text().and_then(|text| match text {
            "yes" | "on" if known.contains(&"true") => Some("true"),
            "no" | "off" if known.contains(&"false") => Some("false"),
            _ => did_you_mean(text, known.iter().copied()),
        });
        let comment = node.text().is_some_and(|text| text.contains("//"));
        self.report.push(match meant {
            _ if comment => error.help("comments begin with `#`"),
            Some(meant) => error.help(format!("did you mean `{meant}`?")),
            None => error,
        });
    }
}
