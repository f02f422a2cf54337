//! The page about JSON and metrics, as the tests read it: which keys each document may have.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Deserializer, Value};

/// The text of the page.
pub(crate) const PAGE: &str = include_str!("../../docs/json.md");

static SECTIONS: LazyLock<BTreeMap<String, Section>> = LazyLock::new(sections);

/// A section of the page: a document, or a part of documents.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// The heading, such as `dfw/plan/v3`.
    pub(crate) title: String,
    /// Keys such as `paths[].path`, and the sections that their types link to.
    pub(crate) keys: BTreeMap<String, Vec<String>>,
    /// The sections that the text before the table links to: their keys are keys of this one.
    pub(crate) includes: Vec<String>,
}

/// Returns the sections by their anchors.
pub(crate) fn sections() -> BTreeMap<String, Section> {
    let texts = PAGE.split("\n### ").skip(1);
    texts
        .map(|text| {
            let text = text.split("\n## ").next().unwrap_or_default();
            let (title, text) = text.split_once('\n').unwrap_or_default();
            let title = title.replace('`', "");
            let mut section = Section {
                title: title.clone(),
                ..Section::default()
            };
            for line in text.lines() {
                let cells: Vec<_> = line.split('|').map(str::trim).collect();
                if let [_, names, kind, ..] = *cells
                    && names.starts_with('`')
                {
                    let names = names.split('`').skip(1).step_by(2);
                    let keys = names.map(|name| (name.to_owned(), links(kind)));
                    section.keys.extend(keys);
                } else if line.contains("the keys of") {
                    section.includes.extend(links(line));
                }
            }
            (anchor(&title), section)
        })
        .collect()
}

fn links(text: &str) -> Vec<String> {
    let targets = text.split("](#").skip(1);
    targets
        .filter_map(|target| Some(target.split_once(')')?.0.to_owned()))
        .collect()
}

fn anchor(title: &str) -> String {
    title
        .replace(' ', "-")
        .replace(|c: char| c != '-' && !c.is_ascii_alphanumeric(), "")
}

/// Returns the documents in a text, and the keys in them that the page does not list.
pub(crate) fn unlisted(text: &str) -> (usize, Vec<String>) {
    let documents = Deserializer::from_str(text).into_iter::<Value>();
    let (mut count, mut missing) = (0, Vec::new());
    // A program that was stopped may leave half a document.
    for document in documents.map_while(Result::ok) {
        if let Some(schema) = document["schema"].as_str() {
            count += 1;
            check(&anchor(schema), &document, &mut missing);
        }
    }
    (count, missing)
}

fn check(section: &str, object: &Value, missing: &mut Vec<String>) {
    match SECTIONS.get(section) {
        Some(found) => walk(found, "", object, missing),
        None => missing.push(format!("section {section}")),
    }
}

fn walk(section: &Section, at: &str, value: &Value, missing: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if at.is_empty() {
                    key.clone()
                } else {
                    format!("{at}.{key}")
                };
                let path = if value.is_array() {
                    format!("{path}[]")
                } else {
                    path
                };
                member(section, &path, value, missing);
            }
        }
        Value::Array(items) => {
            for item in items {
                walk(section, at, item, missing);
            }
        }
        _ => {}
    }
}

fn member(section: &Section, path: &str, value: &Value, missing: &mut Vec<String>) {
    if let Some(links) = section.keys.get(path)
        && !links.is_empty()
    {
        let items = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        for item in items.iter().filter(|item| item.is_object()) {
            let tried = links.iter().map(|link| {
                let mut missing = Vec::new();
                check(link, item, &mut missing);
                missing
            });
            missing.extend(tried.min_by_key(Vec::len).unwrap_or_default());
        }
        return;
    }
    let below = [format!("{path}."), format!("{path}[")];
    // An empty list, `null` and values of several types are listed by their name alone.
    let bare = path.trim_end_matches("[]");
    let is_listed = section.keys.keys().any(|key| {
        key == path
            || key.trim_end_matches("[]") == bare
            || below.iter().any(|below| key.starts_with(below))
    });
    if is_listed {
        walk(section, path, value, missing);
        return;
    }
    // The included sections share their keys.
    let included = section
        .includes
        .iter()
        .filter_map(|name| SECTIONS.get(name));
    let tried: Vec<_> = included
        .map(|included| {
            let mut missing = Vec::new();
            member(included, path, value, &mut missing);
            missing
        })
        .collect();
    match tried.into_iter().min_by_key(Vec::len) {
        Some(of_included) => missing.extend(of_included),
        None => missing.push(format!("{}: {path}", section.title)),
    }
}
