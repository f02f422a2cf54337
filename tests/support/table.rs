//! Expectations as a table: one line per port and way to it.

use std::fmt::Write as _;
use std::thread;

use anyhow::{Result, anyhow, bail};

use super::lab::{Client, Lab, Target};
use super::probe::{Outcome, PATIENCE, SILENCE};

/// One port, who may reach it, and who may not.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) to: &'static str,
    pub(crate) open: &'static str,
    pub(crate) closed: &'static str,
}

/// `to` is `tcp NAME:PORT` or `udp NAME:PORT`, see [`Lab::target`]. `open` and `closed` are names
/// of clients; one in brackets is refused by the engine itself, with and without dfw.
pub(crate) const fn row(
    what: &'static str,
    to: &'static str,
    open: &'static str,
    closed: &'static str,
) -> Row {
    Row {
        what,
        to,
        open,
        closed,
    }
}

/// What a probe must find.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Expected {
    Open,
    Closed,
    /// Closed, and the client is told so.
    Refused,
    /// Closed, and the client is told nothing.
    Silent,
}

impl Expected {
    fn is_met_by(self, outcome: Outcome) -> bool {
        match self {
            Self::Open => outcome == Outcome::Open,
            Self::Closed => outcome.is_closed(),
            Self::Refused => outcome == Outcome::Refused,
            Self::Silent => outcome == Outcome::Silent,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Silent => "silent",
        }
    }
}

/// How the columns of a table are to be read.
#[derive(Clone, Copy)]
pub(crate) enum Reading {
    /// As written: a policy is in force.
    Guarded,
    /// As written, and who is refused is told so.
    Rejected,
    /// As written, and who is refused is told nothing.
    Dropped,
    /// No policy is in force: everybody is let in whom the engine does not refuse.
    Bare,
}

struct Question<'a> {
    row: &'a Row,
    who: &'a str,
    expected: Expected,
    client: Client,
    target: Target,
}

/// Asks all questions of all rows at once and fails with the whole table if one answer is wrong.
pub(crate) fn check(lab: &Lab, rows: &[Row], reading: Reading) -> Result<()> {
    let mut questions = Vec::new();
    for row in rows {
        let target = lab.target(row.to)?;
        let open = row.open.split_whitespace().map(|who| (who, Expected::Open));
        let closed = row.closed.split_whitespace().map(|who| match reading {
            Reading::Guarded => (who, Expected::Closed),
            Reading::Rejected => (who, Expected::Refused),
            Reading::Dropped => (who, Expected::Silent),
            Reading::Bare => (who, Expected::Open),
        });
        for (who, expected) in open.chain(closed) {
            let (who, expected) = match who.strip_prefix('(') {
                Some(inner) => (inner.trim_end_matches(')'), Expected::Closed),
                None => (who, expected),
            };
            let client = lab.client(who)?;
            questions.push(Question {
                row,
                who,
                expected,
                client,
                target,
            });
        }
    }
    let answers = ask_all(&questions)?;
    let wrong =
        |(question, outcome): &(&Question, &Outcome)| !question.expected.is_met_by(**outcome);
    let count = questions.iter().zip(&answers).filter(wrong).count();
    if count == 0 {
        return Ok(());
    }
    let mut report = format!("{count} of {} probes are wrong:\n", questions.len());
    for (question, outcome) in questions.iter().zip(&answers) {
        let mark = if question.expected.is_met_by(*outcome) {
            ' '
        } else {
            '!'
        };
        writeln!(
            report,
            "{mark} {:<40} {:<24} from {:<12} expected {:<8} got {outcome}",
            question.row.what,
            question.row.to,
            question.who,
            question.expected.word(),
        )?;
    }
    bail!(report)
}

fn ask_all(questions: &[Question]) -> Result<Vec<Outcome>> {
    thread::scope(|scope| {
        let asking: Vec<_> = questions
            .iter()
            .map(|question| {
                // What must come is worth waiting for; what must not come is not.
                let patience = match question.expected {
                    Expected::Closed | Expected::Silent => SILENCE,
                    Expected::Open | Expected::Refused => PATIENCE,
                };
                scope.spawn(move || question.client.ask(question.target, patience))
            })
            .collect();
        asking
            .into_iter()
            .map(|answer| answer.join().map_err(|_| anyhow!("a probe panicked"))?)
            .collect()
    })
}
