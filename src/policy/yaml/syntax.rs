//! YAML to a tree with spans, strictly.
//!
//! Everything that makes YAML surprising is rejected: anchors, tags, merge keys, directives, several
//! documents, repeated keys. Scalars stay texts; what they mean is decided where they are used.

use std::collections::BTreeMap;

use super::colon;
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError};

use crate::text::diagnostic::{Diagnostic, quoted};
use crate::text::{FileId, Span};

/// The most levels of nested collections; a policy needs four.
const DEEPEST: usize = 16;

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) struct Node {
    pub(in crate::policy) span: Span,
    pub(in crate::policy) value: Value,
}

impl Node {
    /// Returns the text of a scalar, quoted or not.
    pub(in crate::policy) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Returns whether this is an address such as `2001:db8::` without quotes, which YAML parses as a key.
    pub(in crate::policy) fn is_address_taken_for_key(&self) -> bool {
        match &self.value {
            Value::Mapping(members) => members
                .iter()
                .any(|member| member.key.ends_with(':') && member.value.value == Value::Null),
            _ => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A text; `plain` if it is not quoted.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<Member>),
    /// A value with an error that was reported; it must not be reported again.
    Invalid,
}

/// A key of a mapping and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) struct Member {
    pub(in crate::policy) key: String,
    pub(in crate::policy) key_span: Span,
    pub(in crate::policy) value: Node,
    /// Whether the mapping has the same key before, which was reported.
    pub(in crate::policy) repeated: bool,
}

/// The content of a file.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy) enum Tree {
    /// The file has only comments.
    Empty,
    Document(Node),
    /// The file is not valid YAML, which was reported.
    Broken,
}

/// Parses one file, and adds its errors to the report.
pub(in crate::policy) fn parse(file: FileId, text: &str, report: &mut Vec<Diagnostic>) -> Tree {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut builder = Builder {
        file,
        text,
        report,
        open: Vec::new(),
        root: None,
        last_scalar: None,
    };
    let mut documents = 0;
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                builder.syntax_error(&error);
                return Tree::Broken;
            }
        };
        let tag = span.tag_span().and_then(|span| span.byte_range());
        let range = span.byte_range().unwrap_or(0..0);
        let span = builder.span(range.start, range.end);
        if let Event::DocumentStart(..) = event {
            documents += 1;
            if documents > 1 {
                builder.several_documents(span);
                return Tree::Broken;
            }
        }
        builder.take(event, span);
        if let Some(tag) = tag {
            builder.reject_tag(tag.start, tag.end);
        }
    }
    builder.root.map_or(Tree::Empty, Tree::Document)
}

/// Builds the tree from events with an explicit stack, so that no input causes recursion.
struct Builder<'a> {
    file: FileId,
    text: &'a str,
    report: &'a mut Vec<Diagnostic>,
    open: Vec<Open>,
    root: Option<Node>,
    last_scalar: Option<Span>,
}

/// An open collection.
struct Open {
    span: Span,
    kind: Kind,
}

enum Kind {
    Sequence(Vec<Node>),
    Mapping {
        members: Vec<Member>,
        /// The first place of each key.
        first: BTreeMap<String, Span>,
        key: Option<Node>,
    },
}

impl Builder<'_> {
    /// Returns a span that is limited to the text and moved to character boundaries.
    fn span(&self, start: usize, end: usize) -> Span {
        let floor = |at: usize| {
            let at = at.min(self.text.len());
            (0..=at)
                .rev()
                .find(|&at| self.text.is_char_boundary(at))
                .unwrap_or(0)
        };
        let start = floor(start);
        Span::new(self.file, start, floor(end).max(start))
    }

    fn take(&mut self, event: Event<'_>, span: Span) {
        match event {
            Event::Scalar(text, style, _, _) => {
                let plain = style == ScalarStyle::Plain;
                self.last_scalar = Some(span.clone());
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null {
                    Value::Null
                } else {
                    let text = text.into_owned();
                    Value::Scalar { text, plain }
                };
                self.add(Node { span, value });
            }
            Event::SequenceStart(..) => self.open.push(Open {
                span,
                kind: Kind::Sequence(Vec::new()),
            }),
            Event::MappingStart(..) => self.open.push(Open {
                span,
                kind: Kind::Mapping {
                    members: Vec::new(),
                    first: BTreeMap::new(),
                    key: None,
                },
            }),
            Event::SequenceEnd | Event::MappingEnd => self.close(&span),
            Event::Anchor(_, name) => {
                let message = format!(
                    "anchors such as {} are not read",
                    quoted(&format!("&{name}"))
                );
                self.report.push(
                    Diagnostic::error("anchor", message)
                        .at(span, "an anchor")
                        .help("name addresses under `sources:` and use the name where they apply"),
                );
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => self.reject_alias(span),
            _ => {}
        }
    }

    fn reject_alias(&mut self, span: Span) {
        let written = self.text.get(span.range()).unwrap_or("*");
        let message = format!("aliases such as {} are not read", quoted(written));
        self.report.push(
            Diagnostic::error("anchor", message)
                .at(span.clone(), "an alias")
                .help("name addresses under `sources:` and use the name where they apply")
                .help("a text that begins with `*` must be in quotes"),
        );
        let value = Value::Invalid;
        self.add(Node { span, value });
    }

    fn reject_tag(&mut self, start: usize, end: usize) {
        let span = self.span(start, end);
        let written = self.text.get(span.range()).unwrap_or("!");
        let message = format!("tags such as {} are not read", quoted(written));
        self.report.push(
            Diagnostic::error("tag", message)
                .at(span, "a tag")
                .help("leave the tag out; a text that begins with `!` must be in quotes")
                .help("nothing is negated by `!`: who may not reach a port is below its `except`"),
        );
    }

    fn several_documents(&mut self, span: Span) {
        self.report.push(
            Diagnostic::error("documents", "a policy file is one YAML document")
                .at(span, "a second document begins here")
                .help("move it to a file of its own: all `*.yaml` of a directory are one policy"),
        );
    }

    /// Adds a finished node to the open collection.
    fn add(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut open.kind {
            Kind::Sequence(items) => items.push(node),
            Kind::Mapping {
                members,
                first,
                key,
            } => match key.take() {
                None => *key = Some(node),
                Some(name) => {
                    if let Some(member) = member(name, node, first, self.report) {
                        members.push(member);
                    }
                }
            },
        }
    }

    fn close(&mut self, end: &Span) {
        let Some(open) = self.open.pop() else {
            return;
        };
        let value = match open.kind {
            Kind::Sequence(items) => Value::Sequence(items),
            Kind::Mapping { members, .. } => Value::Mapping(members),
        };
        // A collection in block style ends where the next thing begins; the break before that is
        // not its own.
        let written = self.text.get(open.span.bytes.0..end.bytes.1).unwrap_or("");
        let end = open.span.bytes.0 + written.trim_end().len();
        let span = Span::new(self.file, open.span.bytes.0, end);
        self.add(Node { span, value });
    }

    /// Returns whether the line of `at`, before or at it, or the line before has a comment that begins with
    /// `//`.
    fn is_comment(&self, at: usize) -> bool {
        let before = self.text.get(..at).unwrap_or("");
        let after = self.text.get(at..).unwrap_or("");
        let here = after.lines().next().unwrap_or("");
        let near = before.rsplit('\n').take(2).chain([here]);
        near.flat_map(|line| line.split_whitespace())
            .any(|word| word.starts_with("//"))
    }

    fn syntax_error(&mut self, error: &ScanError) {
        let marker = error.marker();
        let at = marker.byte_offset().unwrap_or(self.text.len());
        let rest = self.text.get(at..).unwrap_or("");
        let width = rest
            .chars()
            .next()
            .filter(|c| !matches!(c, '\n' | '\r'))
            .map_or(0, char::len_utf8);
        let span = self.span(at, at + width);
        let key = self.report.last().filter(|last| last.slug == "key");
        let key = key.and_then(|last| last.primary.as_ref());
        if key.is_some_and(|label| label.span.file == self.file && label.span.bytes.1 == at) {
            // `[2001:db8::1]:80` without quotes: what was read as a key was reported already.
            return;
        }
        let (message, mut help) = self.explain(error, at);
        if self.is_comment(at) {
            help = vec!["comments begin with `#`".to_owned()];
        }
        let mut diagnostic = Diagnostic::error("yaml", message).at(span, "");
        if let ErrorKind::MappingValueNotAllowed = error.kind()
            && let Some(last) = self.last_scalar.take()
            && let Some(written) = self.text.get(last.range())
            && written.contains('\n')
        {
            let line = written.lines().next().unwrap_or(written);
            let end = last.bytes.0 + line.len();
            let span = self.span(last.bytes.0, end);
            diagnostic = diagnostic.related(span, "this line and the next were read as one text");
        }
        let inside = matches!(
            error.kind(),
            ErrorKind::InvalidColonPlacement
                | ErrorKind::ExpectedFlowSequenceSeparator
                | ErrorKind::ExpectedFlowMappingSeparator
        );
        if inside && let Some(open) = self.open.iter().rev().find(|open| self.is_flow(open)) {
            let start = open.span.bytes.0;
            diagnostic = diagnostic.related(self.span(start, start + 1), "this bracket is open");
        }
        diagnostic.help = help;
        self.report.push(diagnostic);
    }

    fn is_flow(&self, open: &Open) -> bool {
        let written = self.text.get(open.span.bytes.0..).unwrap_or("");
        open.span.bytes.1 > open.span.bytes.0 && written.starts_with(['[', '{'])
    }

    fn explain(&self, error: &ScanError, at: usize) -> (String, Vec<String>) {
        let mut help = Vec::new();
        let message = match error.kind() {
            ErrorKind::RecursionLimitExceeded => {
                help.push("a policy needs four levels; is there a bracket too many?".to_owned());
                format!("nested more than {DEEPEST} levels deep")
            }
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation => {
                help.push("indent with spaces".to_owned());
                "a tab cannot indent YAML".to_owned()
            }
            ErrorKind::UnclosedQuotedScalar => "this quote is never closed".to_owned(),
            ErrorKind::UnclosedFlowCollection { open } => {
                format!("this bracket `{open}` is never closed")
            }
            ErrorKind::MisplacedFlowCollectionEnd => {
                "this bracket closes nothing that is open".to_owned()
            }
            ErrorKind::InvalidColonPlacement
            | ErrorKind::ExpectedFlowSequenceSeparator
            | ErrorKind::ExpectedFlowMappingSeparator => {
                help.push("is a bracket above never closed, or a comma missing?".to_owned());
                "unexpected inside brackets".to_owned()
            }
            ErrorKind::FlowMappingValueAdjacentCollection => {
                help.push("write it between the colon and the bracket: `80: [office]`".to_owned());
                "a space is missing after the colon".to_owned()
            }
            ErrorKind::MappingValueNotAllowed => {
                let before = self.text.get(..at).unwrap_or("");
                help.push(if before.ends_with(':') {
                    "an address that ends in `:` must be in quotes: `\"2001:db8::\"`".to_owned()
                } else {
                    "write a space after the colon of the line above (`80: any`), or indent both \
                     lines alike"
                        .to_owned()
                });
                "a key cannot stand here".to_owned()
            }
            ErrorKind::DirectiveDisallowed => {
                help.push("leave the line out".to_owned());
                "YAML directives are not read".to_owned()
            }
            ErrorKind::MissingAnchorOrAliasName => {
                help.push("a text that begins with `*` or `&` must be in quotes".to_owned());
                "`*` and `&` have a meaning of their own in YAML".to_owned()
            }
            ErrorKind::UnexpectedCharacter { character } => {
                let is_control = character.is_control();
                let meant = ["put the text in quotes", "remove the control character"];
                help.push(meant[usize::from(is_control)].to_owned());
                let verb = if is_control { "has" } else { "begins with" };
                let character = quoted(&character.to_string());
                format!("no text of YAML {verb} {character}")
            }
            ErrorKind::InvalidIndentation | ErrorKind::ExpectedBlockMappingKey => {
                if self
                    .text
                    .get(..at)
                    .is_some_and(|before| before.ends_with(']'))
                {
                    help.push(
                        "a key that begins with `[` must be in quotes: `\"[2001:db8::1]:80\":`"
                            .to_owned(),
                    );
                } else {
                    help.push("lines of one level begin in one column".to_owned());
                }
                "this does not continue the lines above".to_owned()
            }
            other => format!("not YAML: {other}"),
        };
        (message, help)
    }
}

/// Returns the key and the value; splits a key such as `80:any`, which is reported.
fn parted(key: Node, value: Node, report: &mut Vec<Diagnostic>) -> (Node, Node) {
    let (start, end) = key.span.bytes;
    let meant = match (&key.value, &value.value) {
        (Value::Scalar { text, plain: true }, Value::Null) if text.len() == end - start => {
            colon::split(text)
        }
        _ => None,
    };
    let Some(meant) = meant else {
        return (key, value);
    };
    report.push(colon::missing(meant, &key.span));
    let colon = start + meant.0.len();
    let node = |text: &str, start, end| Node {
        span: Span::new(key.span.file, start, end),
        value: Value::Scalar {
            text: text.to_owned(),
            plain: true,
        },
    };
    (node(meant.0, start, colon), node(meant.1, colon + 1, end))
}

/// Creates a member of a mapping; `None` if the key is not valid, which is reported.
fn member(
    key: Node,
    value: Node,
    first: &mut BTreeMap<String, Span>,
    report: &mut Vec<Diagnostic>,
) -> Option<Member> {
    let (key, value) = parted(key, value, report);
    let key_span = key.span;
    let (text, plain) = match key.value {
        Value::Scalar { text, plain } => (text, plain),
        Value::Invalid => return None,
        Value::Null => {
            report.push(
                Diagnostic::error("key", "a key is missing").at(key_span, "nothing before the `:`"),
            );
            return None;
        }
        Value::Sequence(_) | Value::Mapping(_) => {
            report.push(
                Diagnostic::error("key", "a key is a single text")
                    .at(key_span, "not a text")
                    .help("a key that begins with `[` must be in quotes: `\"[2001:db8::1]:80\":`"),
            );
            return None;
        }
    };
    if plain && text == "<<" {
        report.push(
            Diagnostic::error("anchor", "merge keys are not read")
                .at(key_span, "a merge key")
                .help("name addresses under `sources:` and use the name where they apply"),
        );
        return None;
    }
    let repeated = if let Some(before) = first.get(&text) {
        report.push(
            Diagnostic::error(
                "duplicate-key",
                format!("{} is written twice", quoted(&text)),
            )
            .at(key_span.clone(), "written again here")
            .related(before.clone(), "first written here")
            .help("keep one of them"),
        );
        true
    } else {
        first.insert(text.clone(), key_span.clone());
        false
    };
    Some(Member {
        key: text,
        key_span,
        value,
        repeated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> (Tree, Vec<Diagnostic>) {
        let mut report = Vec::new();
        let tree = parse(FileId(0), text, &mut report);
        (tree, report)
    }

    fn slugs(text: &str) -> Vec<&'static str> {
        parse_text(text).1.iter().map(|d| d.slug).collect()
    }

    #[test]
    fn scalars_stay_texts() {
        let (tree, report) = parse_text("a: [080, 1e3, 0x50, 22:22, yes, '1']");
        assert_eq!(report, []);
        let Tree::Document(Node {
            value: Value::Mapping(members),
            ..
        }) = tree
        else {
            panic!("no mapping");
        };
        let Value::Sequence(items) = &members[0].value.value else {
            panic!("no sequence");
        };
        let texts: Vec<_> = items
            .iter()
            .map(|item| match &item.value {
                Value::Scalar { text, plain } => (text.as_str(), *plain),
                other => panic!("{other:?}"),
            })
            .collect();
        let plain = |text| (text, true);
        assert_eq!(
            texts,
            [
                plain("080"),
                plain("1e3"),
                plain("0x50"),
                plain("22:22"),
                plain("yes"),
                ("1", false)
            ]
        );
    }

    #[test]
    fn a_file_of_comments_is_empty() {
        assert_eq!(parse_text("# nothing\n").0, Tree::Empty);
        assert_eq!(parse_text("").0, Tree::Empty);
    }

    #[test]
    fn surprises_are_rejected() {
        assert_eq!(slugs("a: &x 1\nb: *x\nc: *y\n<<: {d: 1}\n"), ["anchor"; 4]);
        assert_eq!(slugs("a: !!str 1\nb: !x [1]\n"), ["tag", "tag"]);
        assert_eq!(slugs("a: 1\n---\nb: 2\n"), ["documents"]);
        assert_eq!(slugs("%YAML 1.2\n---\na: 1\n"), ["yaml"]);
        assert_eq!(slugs("a: 1\nb: 2\na: 3\na: 4\n"), ["duplicate-key"; 2]);
        assert_eq!(slugs("[a, b]: 1\n"), ["key"]);
        assert_eq!(slugs(": 1\n"), ["key"]);
    }

    #[test]
    fn bombs_do_not_go_off() {
        assert_eq!(slugs(&"[".repeat(80_000)), ["yaml"]);
        assert_eq!(slugs(&"{a: ".repeat(80_000)), ["yaml"]);
        assert_eq!(slugs(&"- ".repeat(80_000)), ["yaml"]);
        let laughs = "a: &a [x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n";
        assert_eq!(slugs(laughs).len(), 8);
    }

    #[test]
    fn spans_hold_what_they_name() {
        let text = "ports:\r\n  80:\r\n    - ü\r\n    - \"b\"\r\nx: {y: z}\r\n";
        let (tree, _) = parse_text(text);
        let Tree::Document(Node {
            span,
            value: Value::Mapping(members),
        }) = tree
        else {
            panic!("no mapping");
        };
        assert_eq!(&text[span.range()], text.trim_end());
        assert_eq!(&text[members[1].value.span.range()], "{y: z}");
        let Value::Mapping(ports) = &members[0].value.value else {
            panic!("no mapping");
        };
        assert_eq!(&text[ports[0].key_span.range()], "80");
        let Value::Sequence(items) = &ports[0].value.value else {
            panic!("no sequence");
        };
        assert_eq!(&text[items[0].span.range()], "ü");
        assert_eq!(&text[items[1].span.range()], "\"b\"");
    }
}
