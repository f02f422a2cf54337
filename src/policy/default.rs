//! `default:`: what happens to published ports that no policy names.

use std::fmt;

use serde_json::{Value, json};

use crate::text::Span;
use crate::text::diagnostic::Diagnostic;

use super::yaml::{Member, Reader};

const FORMS: [&str; 2] = [
    "`default: deny` denies published ports that no file names",
    "`default: allow` leaves them to Docker, open to everybody",
];

/// What happens to published ports that no policy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAction {
    /// They are denied.
    Deny,
    /// They are left to Docker.
    Allow,
}

impl fmt::Display for DefaultAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        })
    }
}

/// The place of `default:`, and its value if valid.
#[derive(Default)]
pub(super) struct Draft(Option<(Span, Option<DefaultAction>)>);

impl Draft {
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, member: &Member) {
        let action = match member.value.text() {
            Some("deny") => Some(DefaultAction::Deny),
            Some("allow") => Some(DefaultAction::Allow),
            _ => {
                let message = "`default` is `deny` or `allow`";
                reader.wrong_value(&member.value, message, &["deny", "allow"]);
                if let Some(last) = reader.report.last_mut().filter(|d| d.slug == "value") {
                    last.help.extend(FORMS.map(str::to_owned));
                }
                None
            }
        };
        if member.repeated {
            return;
        }
        if let Some((first, _)) = &self.0 {
            reader.report.push(
                Diagnostic::error("duplicate-key", "`default` is written twice")
                    .at(member.key_span.clone(), "written again here")
                    .related(first.clone(), "first written here")
                    .help("keep one of them: all files of the directory are one policy"),
            );
            return;
        }
        self.0 = Some((member.key_span.clone(), action));
    }

    /// Reports a policy without `default:`.
    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        if self.0.is_none() {
            let mut error = Diagnostic::error("no-default", "no file says `default:`");
            error.help = FORMS.map(str::to_owned).to_vec();
            reader.report.push(error);
        }
    }

    pub(super) fn finish(self) -> Option<(Span, DefaultAction)> {
        let (origin, action) = self.0?;
        Some((origin, action?))
    }
}

pub(super) fn schema() -> Value {
    json!({
        "description": "Published ports that no file names: `deny` denies them, `allow` leaves \
                        them to Docker, open to everybody. Written once per directory.",
        "enum": ["deny", "allow"],
    })
}
