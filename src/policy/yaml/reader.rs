//! The state of reading a policy: its texts and diagnostics.

use crate::text::diagnostic::{Diagnostic, did_you_mean, quoted};
use crate::text::{SourceMap, Span};

use super::colon;
use super::syntax::{Member, Node, Value};

/// The state of reading: diagnostics and texts.
pub(in crate::policy) struct Reader<'a> {
    pub(in crate::policy) texts: &'a mut SourceMap,
    pub(in crate::policy) report: Vec<Diagnostic>,
    /// Whether what is right, but can be left out or is dangerous, is reported as well.
    pub(in crate::policy) lints: bool,
}

/// Returns whether a mapping lacks a key. A mistyped key counts as present: it is reported as such.
pub(in crate::policy) fn is_missing(key: &str, members: &[Member], known: &[&str]) -> bool {
    !members.iter().any(|member| {
        let meant = || did_you_mean(&member.key, known.iter().copied());
        member.key == key || (!known.contains(&member.key.as_str()) && meant() == Some(key))
    })
}

impl Reader<'_> {
    /// Returns the members of a mapping; an empty section has none.
    pub(in crate::policy) fn section<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        help: &str,
    ) -> &'n [Member] {
        // `80:any`: a space is missing.
        let pair = match &node.value {
            Value::Scalar { text, plain: true } => text.split(' ').next().and_then(colon::split),
            _ => None,
        };
        match &node.value {
            Value::Mapping(members) => return members,
            Value::Null | Value::Invalid => {}
            Value::Scalar { .. } | Value::Sequence(_) => self.report.push(match pair {
                Some(meant) => colon::missing(meant, &node.span),
                None => Diagnostic::error("value", format!("{what} is a mapping"))
                    .at(node.span.clone(), "`KEY: VALUE` lines are expected here")
                    .help(help),
            }),
        }
        &[]
    }

    /// Reads a text or a list of texts; `None` for anything else, which is reported.
    pub(in crate::policy) fn one_or_many<'n>(
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
                if item.value != Value::Invalid {
                    self.report.push(
                        Diagnostic::error("value", format!("{key} takes names of interfaces"))
                            .at(item.span.clone(), format!("{what} is expected here")),
                    );
                }
            }
        }
        good.then_some(texts)
    }

    pub(in crate::policy) fn unknown_key(&mut self, member: &Member, known: &[&str], place: &str) {
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

    /// Reports a key with a former name.
    pub(in crate::policy) fn renamed_key(&mut self, member: &Member, former: &str, key: &str) {
        let message = format!("`{former}` is called `{key}`");
        self.report.push(
            Diagnostic::error("renamed-key", message)
                .at(member.key_span.clone(), format!("write `{key}` here"))
                .help("the name of the key has changed; its meaning has not"),
        );
    }

    /// Reports a value of the wrong type, unless it was reported before.
    pub(in crate::policy) fn not_a(&mut self, node: &Node, key: &str, what: &str) {
        if node.value != Value::Invalid {
            self.report.push(
                Diagnostic::error("value", format!("`{key}` takes {what}"))
                    .at(node.span.clone(), "not that"),
            );
        }
    }

    /// Reports a value that is none of the known ones, unless it was reported before.
    pub(in crate::policy) fn wrong_value(&mut self, node: &Node, message: &str, known: &[&str]) {
        if node.value == Value::Invalid {
            return;
        }
        let label = match &node.value {
            Value::Scalar { text, plain: false } if known.contains(&text.as_str()) => {
                "remove the quotes".to_owned()
            }
            _ => expected(known),
        };
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

    /// Reads `true` or `false`.
    pub(in crate::policy) fn read_flag(&mut self, member: &Member) -> bool {
        let node = &member.value;
        match &node.value {
            Value::Scalar { text, plain: true } if text == "true" => true,
            Value::Scalar { text, plain: true } if text == "false" => false,
            Value::Invalid => false,
            _ => {
                let message = format!("`{}` is `true` or `false`", member.key);
                self.wrong_value(node, &message, &["true", "false"]);
                false
            }
        }
    }
}

/// Returns the label of an unknown value.
fn expected(known: &[&str]) -> String {
    match known.split_last() {
        None => "invalid value".to_owned(),
        Some((only, [])) => format!("expected `{only}`"),
        Some((last, first)) => format!("expected `{}` or `{last}`", first.join("`, `")),
    }
}
