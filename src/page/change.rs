//! What the page of a comparison shows.

use crate::analysis::difference::Effect;
use crate::analysis::judgement::Verdict;

use super::audit::{Conclusion, Standing};
use super::count::Count;

/// A comparison as a page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is compared, before.
    pub old: String,
    /// What it is compared with, afterwards.
    pub new: String,
    /// The result.
    pub conclusion: Conclusion,
    /// What is not known: one sentence each.
    pub unseen: Vec<String>,
    /// Openings first.
    pub rows: Vec<Row>,
    /// How many rows there are that are not shown.
    pub more: usize,
    /// The limits that change: one sentence each.
    pub limits: Vec<String>,
}

/// Addresses whose verdict changes in the same way at some ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What the change means.
    pub effect: Effect,
    /// The ports, each as a policy writes it.
    pub ports: Vec<String>,
    /// How many ranges of ports there are that are not shown.
    pub more_ports: usize,
    /// Who gains or loses access.
    pub sentence: String,
    /// How many addresses that are.
    pub sources: Vec<Count>,
    /// How it was.
    pub before: State,
    /// How it will be.
    pub after: State,
    /// The paths.
    pub paths: Vec<String>,
}

/// Who has access by what, before or afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// How open the ports are, never [`Exposed`](Standing::Exposed).
    pub standing: Standing,
    /// How many addresses have access.
    pub allowed: Vec<Count>,
    /// What decides.
    pub by: String,
}

impl State {
    /// Returns the state of ports to which so many addresses have access; `judged` is what becomes of those whose
    /// verdict changes.
    #[must_use]
    pub fn new(judged: Verdict, allowed: Vec<Count>, by: String) -> Self {
        let standing = if judged == Verdict::NotJudged {
            Standing::NotJudged
        } else if allowed.iter().all(|count| count.is_all()) {
            Standing::Open
        } else if allowed.iter().all(|count| count.is_zero()) {
            Standing::Closed
        } else {
            Standing::Restricted
        };
        Self {
            standing,
            allowed,
            by,
        }
    }
}
