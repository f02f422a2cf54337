//! Lists that `dfw fetch` fetches: they come from its cache, and are checked here.
//!
//! Reading a policy never speaks to the network. The cache belongs to a process without rights that speaks to
//! strangers, so nothing in it is trusted: a list is strict `lines`, and within the bounds of the policy. Where it
//! is not, the list that was accepted last stays. A list that was never fetched allows nobody, and is an error
//! under `except`, where nobody excepted would open the port.

use core::time::Duration;
use std::borrow::Cow;
use std::hash::Hasher as _;

use serde_json::json;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::net::AddressSet;
use crate::policy::yaml::Reader;
use crate::text::diagnostic::Diagnostic;
use crate::text::{SourceMap, Span};

use super::bounds::Bounds;
use super::format::{Format, Reason, read_lines};
use super::{Content, SourceName};

/// How old the answer for a name may be: three times the longest time that an answer is used for.
pub(super) const NAME_STALE: Duration = Duration::from_hours(3);
/// What helps if a list breaks a test.
const UNBROKEN: &str = "if the list is right, change the test";
/// The longest host name that is part of the name of a file.
const LONGEST: usize = 200;

/// A source whose addresses are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What is fetched.
    pub request: Request,
    /// How often; `None` for a name, whose answer has a TTL.
    pub every: Option<Duration>,
    /// From which age on the list counts as stale.
    pub stale_after: Duration,
    /// What it may ever hold; `None` for everything.
    pub within: Option<AddressSet>,
    /// Which list is used.
    pub list: List,
}

/// Which list of a fetched source is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List {
    /// None: nothing was fetched yet.
    Never,
    /// None that this user may read: the error of the system.
    Unreadable(String),
    /// The one in the cache, which was accepted before.
    Accepted,
    /// The one in the cache, which is new.
    New,
    /// The one that was accepted last: why the one in the cache is not used, for everybody.
    Former(String),
    /// None: why the first one, in the cache, is not used, for everybody.
    Refused(String),
}

/// Why nobody knows what a source holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The slug of a warning.
    pub slug: &'static str,
    /// The end of a sentence about the source.
    pub reason: Cow<'static, str>,
    /// What helps.
    pub help: &'static str,
}

impl List {
    /// Returns why nobody knows what the source holds; `None` if it is known.
    #[must_use]
    pub fn unknown(&self) -> Option<Unknown> {
        match self {
            Self::Never => Some(Unknown {
                slug: "never-fetched",
                reason: "was never fetched".into(),
                help: "`dfw fetch` fetches it",
            }),
            Self::Unreadable(error) => Some(Unknown {
                slug: "unreadable-cache",
                reason: format!("cannot be read from the cache: {error}").into(),
                help: "run this as root, or as another user who may read the cache",
            }),
            Self::Refused(reason) => Some(Unknown {
                slug: "fetched-list",
                reason: format!("has no list that may be used: {reason}").into(),
                help: UNBROKEN,
            }),
            Self::Accepted | Self::New | Self::Former(_) => None,
        }
    }

    /// Returns why the list in the cache is not used, for everybody; `None` if it is, or there is none.
    #[must_use]
    pub fn unused(&self) -> Option<&str> {
        match self {
            Self::Former(reason) | Self::Refused(reason) => Some(reason),
            Self::Never | Self::Unreadable(_) | Self::Accepted | Self::New => None,
        }
    }
}

/// What is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The addresses of a host name: lower case, without a dot at its end.
    Name(String),
    /// A list.
    Url {
        /// Where it is: `https://…`.
        url: String,
        /// How the server writes it.
        format: Format,
        /// Whether the server may have a private address.
        allow_private: bool,
    },
}

impl Request {
    /// Returns what is fetched, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("addresses of {name}"),
            Self::Url { url, .. } => format!("list at {url}"),
        }
    }

    /// Returns the name of its file in the cache. Lists that are read in another way have another name.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Name(name) if name.len() <= LONGEST => format!("name-{name}"),
            Self::Name(name) => format!("name-{:032x}", digest(name.as_bytes())),
            Self::Url { url, format, .. } => {
                let text = json!([url, format.describe()]).to_string();
                format!("url-{:032x}", digest(text.as_bytes()))
            }
        }
    }
}

/// Returns a policy in JSON that has only what is to be fetched, without bounds: the fetcher needs to read no more. A
/// name that two policies use for two sources stands there twice, the second time with `next-` before it.
#[must_use]
pub fn requests<'a>(fetched: impl Iterator<Item = (&'a SourceName, &'a Fetched)>) -> String {
    let mut sources = serde_json::Map::new();
    for (name, fetched) in fetched {
        let source = match &fetched.request {
            Request::Name(host) => json!({ "name": host }),
            Request::Url {
                url,
                format,
                allow_private,
            } => {
                let mut source = json!({"url": url, "allow-private": allow_private});
                for (key, value) in format.options() {
                    source[key] = value;
                }
                if let Some(every) = fetched.every {
                    source["every"] = json!(format!("{}s", every.as_secs()));
                }
                source
            }
        };
        let name = name.as_str();
        let is_other = sources.get(name).is_some_and(|known| *known != source);
        let mut key = if is_other {
            format!("next-{name}")
        } else {
            name.to_owned()
        };
        key.truncate(SourceName::LONGEST);
        sources.insert(key, source);
    }
    let mut text = json!({"default": "deny", "sources": sources}).to_string();
    text.push('\n');
    text
}

pub(super) fn digest(bytes: &[u8]) -> u128 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish128().as_u128()
}

/// Reads a list in the format of its server.
///
/// # Errors
/// The first error, in one sentence without a word of the list: it is for everybody.
pub fn parse_list(bytes: Vec<u8>, format: &Format) -> Result<AddressSet, String> {
    let mut texts = SourceMap::in_memory::<&str, &str>([]);
    let file = texts.take("list", bytes);
    if let Some(problem) = texts.error(file) {
        return Err(problem.message);
    }
    let mut report = Vec::new();
    let (list, _) = format.parse(file, texts.text(file), &mut report);
    match report.into_iter().next() {
        None => Ok(list),
        Some(first) => {
            let label = first.primary.as_ref();
            let place = label.map_or_else(String::new, |label| {
                let (line, column) = texts.line_column(&label.span);
                format!("line {line}, column {column}: ")
            });
            Err(format!("{place}{}", first.public()))
        }
    }
}

/// Reads what was fetched for a request, which the policy names at `span`; `None` if there is an error, which is
/// reported.
pub(super) fn read(
    reader: &mut Reader<'_>,
    span: &Span,
    request: &Request,
    bounds: &Bounds,
    (every, stale_after): (Option<Duration>, Duration),
) -> Option<Content> {
    let content = |addresses, list| Content {
        addresses,
        on_host: None,
        compared: None,
        fetched: Some(Box::new(Fetched {
            request: request.clone(),
            every,
            stale_after,
            within: bounds.within.clone(),
            list,
        })),
    };
    if reader.texts.is_for_fetching() {
        return Some(content(AddressSet::default(), List::Never));
    }
    match choose(reader.texts, &request.key(), bounds) {
        Ok((addresses, list, reason)) => {
            if let Some(reason) = reason {
                let label = match &list {
                    List::Refused(_) => "it allows nobody",
                    _ => "the list that was accepted before stays",
                };
                let help = if reader.texts.refusal(&request.key()).is_some() {
                    UNBROKEN
                } else {
                    "if the new list is right, change the bounds, or accept it: `dfw fetch --accept NAME`"
                };
                let warning = unused(Diagnostic::warning, &reason).at(span.clone(), label);
                reader.report.push(warning.help(help));
            } else if let Some(Unknown { slug, reason, help }) = list.unknown() {
                let label = match &list {
                    List::Never => "it allows nobody",
                    _ => "what is in it is not known: verdicts that depend on it are not judged",
                };
                let warning = Diagnostic::warning(slug, format!("this source {reason}"));
                reader
                    .report
                    .push(warning.at(span.clone(), label).help(help));
            }
            Some(content(addresses, list))
        }
        Err(reason) => {
            let error = unused(Diagnostic::error, &reason)
                .at(span.clone(), "there is no other list")
                .help("is the list right? Else change `within`, `min` or `max`");
            reader.report.push(error);
            None
        }
    }
}

/// Returns the report of a list that is not used.
fn unused(new: fn(&'static str, String) -> Diagnostic, reason: &Reason) -> Diagnostic {
    let message = |reason: &str| format!("the list that was fetched is not used: {reason}");
    new("fetched-list", message(&reason.text)).to_public(message(&reason.public))
}

/// Returns the list that is used: the one in the cache, or else the one that was accepted last, with the reason;
/// an empty one if there is neither. A reader of policies may refuse a new one that breaks their tests.
fn choose(
    texts: &mut SourceMap,
    key: &str,
    bounds: &Bounds,
) -> Result<(AddressSet, List, Option<Reason>), Reason> {
    let former = read_accepted(texts, key)?;
    texts.want(key);
    let cached = match texts.cached(key) {
        Ok(stream) => stream.map(|stream| read_lines(key, stream)).transpose(),
        Err(error) if former.is_none() && texts.is_for_others(&error) => {
            let list = List::Unreadable(error.to_string());
            return Ok((AddressSet::default(), list, None));
        }
        Err(error) => Err(error.to_string().into()),
    };
    let reason = match cached {
        Ok(None) if former.is_none() => return Ok((AddressSet::default(), List::Never, None)),
        Ok(None) => Reason::from("it is not in the cache any more".to_owned()),
        Ok(Some((list, size))) => {
            let former = former.as_ref().map(|(former, _)| former);
            match check(texts, (&list, size), bounds, former) {
                Ok(()) if Some(&list) == former => return Ok((list, List::Accepted, None)),
                Ok(()) => match (texts.refusal(key), former) {
                    (None, _) => return Ok((list, List::New, None)),
                    (Some(reason), None) => {
                        let list = List::Refused(reason.to_owned());
                        let reason = reason.to_owned().into();
                        return Ok((AddressSet::default(), list, Some(reason)));
                    }
                    (Some(reason), Some(_)) => reason.to_owned().into(),
                },
                Err(reason) => reason,
            }
        }
        Err(reason) => reason,
    };
    let Some((former, size)) = former else {
        return Err(reason);
    };
    // The policy may accept it no more.
    check(texts, (&former, size), bounds, None)?;
    let list = List::Former(reason.public.clone());
    Ok((former, list, Some(reason)))
}

/// Reads the list that was accepted last, and the number of its bytes; `None` if there is none.
pub(super) fn read_accepted(
    texts: &SourceMap,
    key: &str,
) -> Result<Option<(AddressSet, usize)>, Reason> {
    let accepted = texts.accepted(key).map_err(|error| {
        Reason::from(format!(
            "cannot read the list that was accepted before: {error}"
        ))
    })?;
    let read = accepted.map(|stream| read_lines(key, stream));
    read.transpose().map_err(|reason| {
        let damaged = "the list that was accepted before is damaged: ";
        Reason {
            text: format!("{damaged}{}", reason.text),
            public: format!("{damaged}{}", reason.public),
        }
    })
}

/// Checks whether a list of so many bytes is within the bounds, and may take the place of a former one.
fn check(
    texts: &mut SourceMap,
    (list, size): (&AddressSet, usize),
    bounds: &Bounds,
    former: Option<&AddressSet>,
) -> Result<(), Reason> {
    let check = bounds.check(list).and_then(|()| match former {
        Some(former) => bounds.check_loss(list, former),
        None => Ok(()),
    });
    check.map_err(|breach| breach.to_string())?;
    let counted = texts.count_fetched(size);
    Ok(counted.map_err(|error| error.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::super::format::{Pointer, Selection};
    use super::*;

    #[test]
    fn an_error_of_a_list_has_no_word_of_it() {
        let select = Selection {
            select: "/a/*".parse::<Pointer>().unwrap(),
            conditions: std::collections::BTreeMap::new(),
        };
        let json = Format::Json(select);
        for (format, text, place) in [
            (
                &Format::Lines,
                "192.0.2.1\n  secret\n",
                "line 2, column 3: ",
            ),
            (
                &Format::LinesLoose,
                "192.0.2.1\nsecret ;\n",
                "line 2, column 1: ",
            ),
            (
                &Format::Lines,
                "<secret>\n",
                "line 1, column 1: this list is a web page",
            ),
            (&json, r#"{"a": ["secret"]}"#, "line 1, column "),
            (&json, r#"{"a": [7], "secret": 0}"#, "line 1, column "),
            (&json, "secret", "line 1, column 1: this list is not JSON"),
        ] {
            let error = parse_list(text.into(), format).unwrap_err();
            assert!(error.starts_with(place), "{text}: {error}");
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }
}
