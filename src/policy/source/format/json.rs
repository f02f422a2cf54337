//! `json` and `json-lines`: the texts that a pointer selects from JSON.
//!
//! The document is read in one pass and never held as a tree. The first mistake ends it: what is behind a
//! mistake of syntax nobody knows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use memchr::memchr_iter;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::net::{AddressSet, Unmerged};
use crate::policy::Mistake;
use crate::policy::source::entry::parse_entry;
use crate::text::diagnostic::{Diagnostic, quoted};
use crate::text::{FileId, Span};

use super::pointer::{Pointer, Step};

/// The part of a JSON document that is the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// `select`: the pointer to the addresses.
    pub select: Pointer,
    /// `where`: members with their texts that the same object must have.
    pub conditions: BTreeMap<String, String>,
}

/// Reads a list from one JSON document.
pub(super) fn document(
    file: FileId,
    text: &str,
    selection: &Selection,
    report: &mut Vec<Diagnostic>,
) -> AddressSet {
    let mut set = Unmerged::default();
    read(file, text, (0, text.len()), selection, &mut set, report);
    set.merge()
}

/// Reads a list from one JSON document per line.
pub(super) fn lines(
    file: FileId,
    text: &str,
    selection: &Selection,
    report: &mut Vec<Diagnostic>,
) -> AddressSet {
    let mut set = Unmerged::default();
    let mut start = 0;
    for end in memchr_iter(b'\n', text.as_bytes()).chain([text.len()]) {
        let line = (std::mem::replace(&mut start, end + 1), end);
        let is_blank = text[line.0..line.1].trim().is_empty();
        if !is_blank && !read(file, text, line, selection, &mut set, report) {
            break;
        }
    }
    set.merge()
}

/// Reads the document between two offsets of a text; returns whether it is valid.
fn read(
    file: FileId,
    text: &str,
    (start, end): (usize, usize),
    selection: &Selection,
    set: &mut Unmerged,
    report: &mut Vec<Diagnostic>,
) -> bool {
    let document = &text[start..end];
    let found = RefCell::new(Found { set, mistake: None });
    let mut json = serde_json::Deserializer::from_str(document);
    let walk = Walk {
        steps: selection.select.steps(),
        selection,
        found: &found,
    };
    let Err(error) = walk.deserialize(&mut json).and_then(|()| json.end()) else {
        return true;
    };
    let at = start + offset(document, error.line(), error.column());
    let span = Span::new(file, at, end_of_char(text, at));
    if let Some(mistake) = found.into_inner().mistake {
        report.push(mistake.at(span));
        return false;
    }
    let message = format!("this list is not JSON: {error}");
    let first = document.lines().next().unwrap_or_default();
    let known = super::recognise::recognise(first.trim());
    let help = known.map_or("`format` says how a list is written", |known| known.help);
    report.push(
        Diagnostic::error("json", message)
            .at(span, "up to here it could be")
            .help(help)
            .to_public("this list is not JSON"),
    );
    false
}

/// Returns the byte at a line and column, both from 1, columns in bytes, as the parser counts them.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let lines = memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
    let start = std::iter::once(0).chain(lines).nth(line.saturating_sub(1));
    let at = start.unwrap_or(text.len()) + column.saturating_sub(1);
    text.floor_char_boundary(at.min(text.len()))
}

fn end_of_char(text: &str, at: usize) -> usize {
    let next = text.get(at..).and_then(|rest| rest.chars().next());
    at + next.map_or(0, char::len_utf8)
}

/// The selected entries.
struct Found<'a> {
    set: &'a mut Unmerged,
    /// The error about a selected value that is not an entry.
    mistake: Option<Mistake>,
}

/// A value and the rest of the pointer to apply to it.
#[derive(Clone, Copy)]
struct Walk<'a, 'f> {
    steps: &'a [Step],
    selection: &'a Selection,
    found: &'a RefCell<Found<'f>>,
}

impl Walk<'_, '_> {
    /// Adds an entry.
    fn take<E: de::Error>(&self, text: &str) -> Result<(), E> {
        match parse_entry(text) {
            Ok(entry) => {
                self.found.borrow_mut().set.push(entry);
                Ok(())
            }
            Err(mistake) => self.fail(mistake),
        }
    }

    fn fail<T, E: de::Error>(&self, mistake: Mistake) -> Result<T, E> {
        self.found.borrow_mut().mistake = Some(mistake);
        Err(E::custom("not an entry"))
    }

    /// Rejects a scalar that is not text, or that the pointer goes beyond.
    fn other<E: de::Error>(&self, what: &str) -> Result<(), E> {
        if self.steps.is_empty() {
            self.no_text(what)
        } else {
            Ok(())
        }
    }

    fn no_text<E: de::Error>(&self, what: &str) -> Result<(), E> {
        let select = quoted(&self.selection.select.to_string());
        let message = format!("{select} selects {what}, not a text");
        self.fail(Mistake::new(
            "select",
            message,
            "an address is expected here",
        ))
    }

    /// Reads an object whose member is selected if the conditions of `where` hold.
    fn filtered<'de, A: MapAccess<'de>>(&self, key: &str, mut map: A) -> Result<(), A::Error> {
        let mut selected: Vec<Option<String>> = Vec::new();
        let mut met: BTreeMap<&str, bool> = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if let Some((condition, wanted)) = self.selection.conditions.get_key_value(&name) {
                let text = map.next_value::<Text>()?.0;
                if name == key {
                    selected.push(text.clone());
                }
                let is = text.as_ref() == Some(wanted);
                *met.entry(condition).or_insert(true) &= is;
            } else if name == key {
                selected.push(map.next_value::<Text>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let all = met.len() == self.selection.conditions.len() && met.values().all(|met| *met);
        for text in selected.into_iter().filter(|_| all) {
            match text {
                Some(text) => self.take(&text)?,
                None => self.no_text("something else")?,
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        if self.steps.is_empty() {
            self.take(text)
        } else {
            Ok(())
        }
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.other("a truth value")
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.other("a number")
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.other("a number")
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.other("a number")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.other("`null`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((step, steps)) = self.steps.split_first() else {
            return self.other("an array");
        };
        let inside = Walk { steps, ..self };
        for index in 0_usize.. {
            let is_meant = match step {
                Step::Every => true,
                Step::Key(key) => *key == index.to_string(),
            };
            let more = if is_meant {
                seq.next_element_seed(inside)?.is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, steps)) = self.steps.split_first() else {
            return self.other("an object");
        };
        if let (Step::Key(key), [], false) = (step, steps, self.selection.conditions.is_empty()) {
            return self.filtered(key, map);
        }
        let inside = Walk { steps, ..self };
        while let Some(name) = map.next_key::<String>()? {
            let is_meant = match step {
                Step::Every => true,
                Step::Key(key) => *key == name,
            };
            if is_meant {
                map.next_value_seed(inside)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A text, or anything else.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(text.to_owned())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWS: &str = r#"{"syncToken": "1", "prefixes": [
  {"ip_prefix": "203.0.113.0/24", "region": "eu", "service": "CLOUDFRONT"},
  {"service": "S3", "ip_prefix": "198.51.100.0/24"},
  {"service": "CLOUDFRONT", "note": [1, {}], "ip_prefix": "192.0.2.0/24"}],
 "ipv6_prefixes": [{"ipv6_prefix": "2001:db8::/32", "service": "CLOUDFRONT"}]}"#;

    fn selection(select: &str, conditions: &[(&str, &str)]) -> Selection {
        let conditions = conditions.iter();
        Selection {
            select: select.parse().unwrap(),
            conditions: conditions
                .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }

    fn texts(set: &AddressSet) -> Vec<String> {
        set.iter().map(|entry| entry.to_string()).collect()
    }

    fn selected(text: &str, select: &str, conditions: &[(&str, &str)]) -> Vec<String> {
        let mut report = Vec::new();
        let set = document(FileId(0), text, &selection(select, conditions), &mut report);
        assert_eq!(report, []);
        texts(&set)
    }

    #[test]
    fn a_pointer_selects_texts() {
        let all = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];
        assert_eq!(selected(AWS, "/prefixes/*/ip_prefix", &[]), all);
        let condition = [("service", "CLOUDFRONT")];
        let of = selected(AWS, "/prefixes/*/ip_prefix", &condition);
        assert_eq!(of, ["192.0.2.0/24", "203.0.113.0/24"]);
        assert_eq!(selected(AWS, "/prefixes/1/ip_prefix", &[]), [all[1]]);
        assert!(selected(AWS, "/elsewhere/*", &[]).is_empty());
        assert!(selected(AWS, "/prefixes/*/ip_prefix", &[("absent", "x")]).is_empty());
        let nested = r#"{"a": {"x": ["192.0.2.1"], "y": ["192.0.2.2", "192.0.2.3"]}}"#;
        assert_eq!(selected(nested, "/a/*/*", &[]), ["192.0.2.1-192.0.2.3"]);
        assert_eq!(selected("\"192.0.2.1\"", "", &[]), ["192.0.2.1"]);
    }

    #[test]
    fn a_condition_that_is_repeated_must_hold_each_time() {
        let text = r#"[{"ip": "192.0.2.1", "kind": "a", "kind": "b"}]"#;
        assert!(selected(text, "/*/ip", &[("kind", "b")]).is_empty());
        assert!(selected(text, "/*/ip", &[("kind", "a")]).is_empty());
    }

    #[test]
    fn mistakes_point_at_their_line() {
        for (text, line, slug) in [
            (
                "{\"a\": [\n\"192.0.2.1\",\n\"192.0.2.5/24\"]}",
                3,
                "host-bits",
            ),
            ("{\"a\": [\n\"192.0.2.1\",\n7]}", 3, "select"),
            ("{\"a\": [\n\"192.0.2.1\"", 2, "json"),
            ("{\"a\": []}\nx", 2, "json"),
            ("<html>\n", 1, "json"),
            ("", 1, "json"),
        ] {
            let mut report = Vec::new();
            document(FileId(0), text, &selection("/a/*", &[]), &mut report);
            let [error] = &report[..] else {
                panic!("{text}: {report:?}")
            };
            let at = error.primary.as_ref().unwrap().span.range().start;
            let found = text[..at].matches('\n').count() + 1;
            assert_eq!((found, error.slug), (line, slug), "{text}");
        }
        // However deep it is.
        let deep = "[".repeat(1_000_000);
        let mut report = Vec::new();
        document(FileId(0), &deep, &selection("/a", &[]), &mut report);
        assert_eq!(report.len(), 1);
    }

    #[test]
    fn a_line_is_a_document() {
        let text = "{\"ip\": \"192.0.2.1\"}\r\n\n{\"ip\": \"192.0.2.2\"}\n";
        let mut report = Vec::new();
        let set = lines(FileId(0), text, &selection("/ip", &[]), &mut report);
        assert_eq!(
            (texts(&set), report.len()),
            (vec!["192.0.2.1-192.0.2.2".to_owned()], 0)
        );
        let text = "{\"ip\": \"192.0.2.1\"}\n{\"ip\": \"x\"}\n{\"ip\": 7}\n";
        lines(FileId(0), text, &selection("/ip", &[]), &mut report);
        assert_eq!(report.len(), 1);
        let at = report[0].primary.as_ref().unwrap().span.range().start;
        assert!((20..31).contains(&at), "{at}");
    }
}
