//! `select`: a JSON Pointer (RFC 6901) in which `*` is every element or member.

use std::fmt;

use crate::policy::Mistake;
use crate::text::diagnostic::quoted;

/// The most steps of a pointer.
const DEEPEST: usize = 32;

/// A JSON Pointer (RFC 6901), with `*` for every member or element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::policy) struct Pointer(Vec<Step>);

/// A step of a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The member of this name, or the element of this number.
    Key(String),
    /// Every member, or every element.
    Every,
}

impl Pointer {
    /// Returns the steps.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Returns whether the last step is a member's name, as `where` requires.
    pub(in crate::policy) fn names_member(&self) -> bool {
        matches!(self.0.last(), Some(Step::Key(_)))
    }
}

impl std::str::FromStr for Pointer {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let wrong = |label| {
            let message = format!("{} is not a JSON Pointer", quoted(text));
            Mistake::new("select", message, label).help(
                "write the way to the addresses, `*` for all of a list: `/prefixes/*/ip_prefix`",
            )
        };
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(wrong("it begins with `/`"));
        };
        let steps: Result<Vec<Step>, &'static str> = rest.split('/').map(step).collect();
        let steps = steps.map_err(wrong)?;
        if steps.len() > DEEPEST {
            return Err(wrong("more than 32 steps"));
        }
        Ok(Self(steps))
    }
}

/// Parses a step: `~1` is `/`, and `~0` is `~`.
fn step(text: &str) -> Result<Step, &'static str> {
    if text == "*" {
        return Ok(Step::Every);
    }
    let escapes = text.split('~').skip(1);
    if !escapes.into_iter().all(|rest| rest.starts_with(['0', '1'])) {
        return Err("`~` is written `~0`, and `/` in a name `~1`");
    }
    Ok(Step::Key(text.replace("~1", "/").replace("~0", "~")))
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            match step {
                Step::Every => f.write_str("/*")?,
                Step::Key(key) => write!(f, "/{}", key.replace('~', "~0").replace('/', "~1"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_parsed() {
        for text in ["", "/prefixes/*/ip_prefix", "/a~1b/~0/0", "/", "/*"] {
            assert_eq!(text.parse::<Pointer>().unwrap().to_string(), text);
        }
        for text in ["prefixes", "$.prefixes", "/a~2", "/a~", &"/a".repeat(33)] {
            text.parse::<Pointer>().unwrap_err();
        }
    }
}
