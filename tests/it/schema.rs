//! The JSON Schema of policies says what the reader says, as far as a schema can.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use boon::{Compiler, ErrorKind, SchemaIndex, Schemas, ValidationError};
use dfw::policy::{self, schema};
use dfw::text::SourceMap;
use dfw::text::diagnostic::{Diagnostic, Severity};
use granit_parser::{Event, Parser, ScalarStyle};
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::reference::random::meant;

/// Where editors find it: `UPDATE=1` writes it anew.
const PUBLISHED: &str = "docs/policy.schema.json";

/// What takes arithmetic, more than one file or the text itself, by the slugs of diagnostics.
const BEYOND: &[&str] = &[
    "anchor",
    "documents",
    "duplicate-key",
    "duplicate-port",
    "duplicate-source",
    "encoding",
    "extension",
    "host-bits",
    "list-bounds",
    "mapped-address",
    "no-default",
    "overlap",
    "reversed-range",
    "tag",
    "unknown-source",
    "yaml",
];
/// The same, by a part of the message.
const BEYOND_MESSAGES: &[&str] = &[
    "cannot be the address of a port",
    "cannot read the list",
    "is not between",
    "`select` is missing",
    "`select` and `where` are for JSON",
    "`where` needs a `select`",
    "under `except` is empty",
    "under `except` was never fetched",
    "under `except` may be empty",
    "no packet comes from",
    "no packet goes from",
];

#[test]
fn the_published_schema_is_current() {
    let current = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(PUBLISHED, &current).unwrap();
    }
    let published = fs::read_to_string(PUBLISHED).unwrap_or_default();
    assert!(published == current, "UPDATE=1 writes {PUBLISHED} anew");
}

#[test]
fn the_document_names_every_key() {
    fn look(value: &Value, document: &str) {
        for (key, schema) in value["properties"].as_object().into_iter().flatten() {
            assert!(document.contains(key), "docs/policy.md does not name {key}");
            look(schema, document);
        }
        for (_, inner) in value.as_object().into_iter().flatten() {
            look(inner, document);
        }
    }
    look(&schema(), &fs::read_to_string("docs/policy.md").unwrap());
}

/// A text as the YAML of editors reads it, and at which lines each place in it begins.
#[derive(Default)]
struct Document {
    value: Value,
    lines: BTreeMap<String, [u32; 2]>,
}

/// A collection that is not closed yet.
struct Open {
    path: String,
    value: Value,
    key: Option<(String, u32)>,
}

impl Document {
    /// `None` if it is not YAML, or more than one document.
    fn read(text: &str) -> Option<Self> {
        let mut document = Self::default();
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.ok()?;
            let line = u32::try_from(span.start.line()).ok()?;
            let value = match event {
                Event::Scalar(text, style, ..) => {
                    if let Some(Open {
                        value: Value::Object(_),
                        key: key @ None,
                        ..
                    }) = open.last_mut()
                    {
                        *key = Some((text.into_owned(), line));
                        continue;
                    }
                    scalar(&text, style == ScalarStyle::Plain)
                }
                Event::SequenceStart(..) | Event::MappingStart(..) => {
                    let path = document.place(&open, line);
                    let value = match event {
                        Event::SequenceStart(..) => Value::Array(Vec::new()),
                        _ => Value::Object(Map::new()),
                    };
                    open.push(Open {
                        path,
                        value,
                        key: None,
                    });
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => open.pop()?.value,
                Event::Alias(_) | Event::UnresolvedAlias(_) => Value::Null,
                _ => continue,
            };
            document.place(&open, line);
            match open.last_mut() {
                None => document.value = value,
                Some(Open {
                    value: Value::Array(items),
                    ..
                }) => items.push(value),
                Some(Open {
                    value: parent, key, ..
                }) => {
                    // A key that is no text.
                    let (key, _) = key.take()?;
                    parent.as_object_mut()?.insert(key, value);
                }
            }
        }
        Some(document)
    }

    /// The place where the next value stands; its lines are written down.
    fn place(&mut self, open: &[Open], line: u32) -> String {
        let (path, key_line) = match open.last() {
            None => (String::new(), line),
            Some(Open {
                path,
                value: Value::Array(items),
                ..
            }) => (format!("{path}/{}", items.len()), line),
            Some(Open { path, key, .. }) => match key {
                Some((key, line)) => (format!("{path}/{}", escaped(key)), *line),
                None => (path.clone(), line),
            },
        };
        self.lines.entry(path.clone()).or_insert([key_line, line]);
        path
    }
}

/// A key in a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The core schema of YAML 1.2.
fn scalar(text: &str, plain: bool) -> Value {
    match text {
        _ if !plain => Value::from(text),
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match text.parse::<i64>() {
            Ok(number) => Value::from(number),
            // Everything else that begins with a digit: `1e3`, but not `192.0.2.1`.
            Err(_) if text.starts_with(|c: char| c.is_ascii_digit()) => {
                text.parse::<f64>().map_or(Value::from(text), Value::from)
            }
            Err(_) => Value::from(text),
        },
    }
}

/// The schema, ready for use.
struct Validator(Schemas, SchemaIndex);

static VALIDATOR: LazyLock<Validator> = LazyLock::new(Validator::new);

impl Validator {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("policy.json", schema()).unwrap();
        let index = compiler.compile("policy.json", &mut schemas).unwrap();
        Self(schemas, index)
    }

    /// The places that it refuses.
    fn refused(&self, value: &Value) -> Vec<String> {
        let mut places = Vec::new();
        if let Err(error) = self.0.validate(value, self.1) {
            leaves(&error, &mut places);
        }
        places
    }
}

fn leaves(error: &ValidationError<'_, '_>, places: &mut Vec<String>) {
    let at = error.instance_location.to_string();
    match &error.kind {
        ErrorKind::AdditionalProperties { got } => {
            places.extend(got.iter().map(|key| format!("{at}/{}", escaped(key))));
        }
        ErrorKind::PropertyName { prop } => places.push(format!("{at}/{}", escaped(prop))),
        _ if error.causes.is_empty() => places.push(at),
        _ => error.causes.iter().for_each(|cause| leaves(cause, places)),
    }
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(yaml_files(&path.to_string_lossy()));
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn right_policies_are_right_to_it() {
    let folders = [
        "policies",
        "tests/golden",
        "tests/import",
        "tests/policies/valid",
    ];
    let files: Vec<_> = folders.into_iter().flat_map(yaml_files).collect();
    assert!(files.len() > 40, "{}", files.len());
    for file in files {
        let document = Document::read(&fs::read_to_string(&file).unwrap()).unwrap();
        let refused = VALIDATOR.refused(&document.value);
        assert_eq!(refused, Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn wrong_lines_are_wrong_to_it() {
    let mut seen = 0;
    let mut missed = Vec::new();
    for entry in fs::read_dir("tests/policies/invalid").unwrap() {
        let mut sources = SourceMap::new();
        let files = dfw::store::read_policies(&mut sources, &entry.unwrap().path()).unwrap();
        let Err(diagnostics) = policy::read(&mut sources, &files) else {
            continue;
        };
        for diagnostic in diagnostics.iter().filter(|it| expressible(it)) {
            let span = &diagnostic.primary.as_ref().unwrap().span;
            let (line, name) = (sources.line_column(span).0, sources.name(span.file));
            if Path::new(name).extension().is_none_or(|it| it != "yaml") {
                continue;
            }
            let Some(document) = Document::read(sources.text(span.file)) else {
                continue;
            };
            seen += 1;
            let refused = VALIDATOR.refused(&document.value);
            // Of a key the validator tells only the end of its place.
            let is_there = |place: &String| {
                let mut lines = document.lines.iter();
                lines.any(|(at, lines)| at.ends_with(place) && lines.contains(&line))
            };
            if !refused.iter().any(is_there) {
                missed.push(format!("{name}:{line} {}", diagnostic.message));
            }
        }
    }
    assert!(seen > 80, "{seen}");
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

fn expressible(diagnostic: &Diagnostic) -> bool {
    let beyond = |part: &&str| diagnostic.message.contains(*part);
    diagnostic.severity == Severity::Error
        && !BEYOND.contains(&diagnostic.slug)
        && !BEYOND_MESSAGES.iter().any(beyond)
}

proptest! {
    #[test]
    fn random_policies_are_right_to_it(policy in meant()) {
            for (_, text) in policy.files(false) {
            let document = Document::read(&text).unwrap();
            prop_assert_eq!(VALIDATOR.refused(&document.value), Vec::<String>::new(), "{}", text);
        }
    }
}
