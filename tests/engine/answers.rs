//! What dfw answers, read for comparison.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::support::lab::Lab;

/// The answer of a verb: its JSON, its text, and the exit code of both.
pub(crate) struct Answer {
    pub(crate) json: Value,
    pub(crate) text: String,
    pub(crate) code: Option<i32>,
}

/// Runs a verb twice, for its JSON and for its text.
pub(crate) fn ask(lab: &Lab, words: &[&str]) -> Result<Answer> {
    let json = lab.dfw(&[&["--json"], words].concat())?;
    let text = lab.dfw(words)?;
    ensure!(
        json.status.code() == text.status.code(),
        "{words:?}: the text ends with {}, the JSON with {}",
        text.status,
        json.status
    );
    Ok(Answer {
        json: serde_json::from_slice(&json.stdout).with_context(|| format!("{json:?}"))?,
        text: printed(&text),
        code: text.status.code(),
    })
}

/// Returns what a command has printed on both channels.
pub(crate) fn printed(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Runs `audit`.
pub(crate) fn audit(lab: &Lab) -> Result<Answer> {
    ask(lab, &["audit"])
}

impl Answer {
    pub(crate) fn rows(&self, key: &str) -> Vec<&Value> {
        self.json[key].as_array().into_iter().flatten().collect()
    }

    /// The paths of an audit to one port: what they are, in which family, and who they are open to.
    pub(crate) fn paths(&self, port: u16) -> Vec<(&str, &str, &Value)> {
        let paths = self.rows("paths").into_iter();
        let paths = paths.filter(|path| path["port"] == port);
        paths
            .map(|path| {
                let [kind, family] = ["path", "family"].map(|key| path[key].as_str().unwrap_or(""));
                (kind, family, &path["open_to"])
            })
            .collect()
    }

    /// Fails unless the audit has these paths to a port, in any order, and no others.
    pub(crate) fn has_paths(&self, port: u16, expected: &[(&str, &str, Value)]) -> Result<()> {
        let found = self.paths(port);
        let same = found.len() == expected.len()
            && expected
                .iter()
                .all(|(path, family, open)| found.contains(&(*path, *family, open)));
        ensure!(
            same,
            "{port}: {found:?} instead of {expected:?}\n{}",
            self.text
        );
        Ok(())
    }

    pub(crate) fn ends_with(&self, code: i32) -> Result<()> {
        ensure!(
            self.code == Some(code),
            "{:?} instead of {code}\n{}",
            self.code,
            self.text
        );
        Ok(())
    }

    pub(crate) fn says(&self, words: &[&str]) -> Result<()> {
        for word in words {
            ensure!(self.text.contains(word), "no {word:?} in\n{}", self.text);
        }
        Ok(())
    }

    pub(crate) fn says_none_of(&self, words: &[&str]) -> Result<()> {
        for word in words {
            ensure!(!self.text.contains(word), "{word:?} in\n{}", self.text);
        }
        Ok(())
    }
}

/// Asks `explain`, and fails unless it has this verdict.
pub(crate) fn explained(lab: &Lab, from: &str, to: &str, verdict: &str) -> Result<Answer> {
    let answer = ask(lab, &["explain", "--from", from, "--to", to])?;
    ensure!(
        answer.json["verdict"] == verdict,
        "{from} to {to}, not {verdict}: {}",
        answer.text
    );
    Ok(answer)
}

/// What a path is open to, where that is everybody.
pub(crate) fn any() -> Value {
    "any".into()
}

/// The same, where that is nobody.
pub(crate) fn nobody() -> Value {
    Value::Array(Vec::new())
}
