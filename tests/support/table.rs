//! Expectations as a table: one line per port and way to it.

use std::fmt::{self, Write as _};
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
    /// Rejected: the client gets an error.
    Refused,
    /// Dropped: the client gets no reply.
    Silent,
    /// Closed, or a connection without data.
    Unanswered,
}

impl Expected {
    fn is_met_by(self, outcome: Outcome) -> bool {
        match self {
            Self::Open => outcome == Outcome::Open,
            Self::Closed => outcome.is_closed(),
            Self::Refused => outcome == Outcome::Refused,
            Self::Silent => outcome == Outcome::Silent,
            Self::Unanswered => outcome != Outcome::Open,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Unanswered => "no answer",
        }
    }
}

/// How the columns of a table are to be read.
#[derive(Clone, Copy)]
pub(crate) enum Reading {
    /// As written: a policy is in force.
    Guarded,
    /// As written; denied clients are rejected.
    Rejected,
    /// As written; denied clients are dropped.
    Dropped,
    /// No policy is in force: every client has access that the engine does not deny.
    Bare,
    /// The engine refuses everybody, with and without dfw.
    Shut,
    /// The engine takes connections and nobody answers; no policy is in force.
    Mute,
    /// The same, and a policy is in force.
    MuteGuarded,
}

struct Question {
    row: &'static Row,
    who: &'static str,
    expected: Expected,
    client: Client,
    target: Target,
}

/// What one probe has found.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) row: &'static Row,
    who: &'static str,
    expected: Expected,
    outcome: Outcome,
}

impl Answer {
    pub(crate) fn is_right(&self) -> bool {
        self.expected.is_met_by(self.outcome)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.outcome == Outcome::Open
    }

    /// Whether a connection came about that nobody spoke on.
    pub(crate) fn is_mute(&self) -> bool {
        self.outcome == Outcome::Mute
    }

    /// Whether the row lets this client in.
    pub(crate) fn may(&self) -> bool {
        self.row.open.split_whitespace().any(|who| who == self.who)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:<40} {:<24} from {:<12} expected {:<8} got {}",
            if self.is_right() { ' ' } else { '!' },
            self.row.what,
            self.row.to,
            self.who,
            self.expected.word(),
            self.outcome,
        )
    }
}

/// Asks all questions of all rows at once and fails with the whole table if one answer is wrong.
pub(crate) fn check(lab: &Lab, rows: &'static [Row], reading: Reading) -> Result<()> {
    check_all(lab, &[rows], reading)
}

/// The same with several tables.
pub(crate) fn check_all(lab: &Lab, tables: &[&'static [Row]], reading: Reading) -> Result<()> {
    let tables: Vec<_> = tables.iter().map(|rows| (*rows, reading)).collect();
    let answers = ask(lab, &tables)?.concat();
    let wrong = answers.iter().filter(|answer| !answer.is_right()).count();
    if wrong == 0 {
        return Ok(());
    }
    let mut report = format!("{wrong} of {} probes are wrong:\n", answers.len());
    for answer in &answers {
        writeln!(report, "{answer}")?;
    }
    bail!(report)
}

/// Asks all questions of all tables at once; the answers come by table.
pub(crate) fn ask(lab: &Lab, tables: &[(&'static [Row], Reading)]) -> Result<Vec<Vec<Answer>>> {
    let mut questions = Vec::new();
    let mut lengths = Vec::new();
    for (rows, reading) in tables {
        let before = questions.len();
        for row in *rows {
            add_questions(lab, row, *reading, &mut questions)?;
        }
        lengths.push(questions.len() - before);
    }
    let mut outcomes = questions.iter().zip(ask_all(&questions)?);
    let tables = lengths.into_iter().map(|length| {
        let of_table = outcomes.by_ref().take(length);
        let answer = |(question, outcome): (&Question, Outcome)| Answer {
            row: question.row,
            who: question.who,
            expected: question.expected,
            outcome,
        };
        of_table.map(answer).collect()
    });
    Ok(tables.collect())
}

fn add_questions(
    lab: &Lab,
    row: &'static Row,
    reading: Reading,
    questions: &mut Vec<Question>,
) -> Result<()> {
    let target = lab.target(row.to)?;
    let (may, must_not) = match reading {
        Reading::Guarded => (Expected::Open, Expected::Closed),
        Reading::Rejected => (Expected::Open, Expected::Refused),
        Reading::Dropped => (Expected::Open, Expected::Silent),
        Reading::Bare => (Expected::Open, Expected::Open),
        Reading::Shut => (Expected::Closed, Expected::Closed),
        Reading::Mute => (Expected::Unanswered, Expected::Unanswered),
        Reading::MuteGuarded => (Expected::Unanswered, Expected::Closed),
    };
    let open = row.open.split_whitespace().map(|who| (who, may));
    let closed = row.closed.split_whitespace().map(|who| (who, must_not));
    for (who, expected) in open.chain(closed) {
        let (who, expected) = match who.strip_prefix('(') {
            Some(inner) => (inner.trim_end_matches(')'), Expected::Closed),
            None => (who, expected),
        };
        questions.push(Question {
            row,
            who,
            expected,
            client: lab.client(who)?,
            target,
        });
    }
    Ok(())
}

fn ask_all(questions: &[Question]) -> Result<Vec<Outcome>> {
    thread::scope(|scope| {
        let asking: Vec<_> = questions
            .iter()
            .map(|question| {
                // What must come is worth waiting for; what must not come is not.
                let patience = match question.expected {
                    Expected::Closed | Expected::Silent | Expected::Unanswered => SILENCE,
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
