//! What must be reached, and what was.

use serde::Serialize;

/// One ratio and its limit.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Goal {
    pub(crate) work: String,
    pub(crate) what: &'static str,
    pub(crate) value: f64,
    pub(crate) limit: f64,
    /// Whether the limit is the least that will do, and not the most.
    pub(crate) at_least: bool,
    /// Whether it must be reached; if not, it is a figure to look at.
    pub(crate) binding: bool,
}

impl Goal {
    /// Whether it is reached, with a limit that is weaker by a factor.
    pub(crate) fn is_reached(&self, slack: f64) -> bool {
        if self.at_least {
            self.value * slack >= self.limit
        } else {
            self.value <= self.limit * slack
        }
    }
}

/// All of a run.
#[derive(Debug, Default)]
pub(crate) struct Goals(pub(crate) Vec<Goal>);

impl Goals {
    /// Whether a limit is missed, with limits that are weaker by a factor.
    pub(crate) fn is_missed(&self, slack: f64) -> bool {
        let mut goals = self.0.iter();
        goals.any(|goal| goal.binding && !goal.is_reached(slack))
    }

    /// A limit that must not be passed; `None` if any value will do.
    pub(crate) fn at_most(
        &mut self,
        work: &str,
        what: &'static str,
        value: f64,
        limit: Option<f64>,
    ) {
        self.push(work, what, value, limit, false);
    }

    /// A limit that must be reached; `None` if any value will do.
    pub(crate) fn at_least(
        &mut self,
        work: &str,
        what: &'static str,
        value: f64,
        limit: Option<f64>,
    ) {
        self.push(work, what, value, limit, true);
    }

    fn push(
        &mut self,
        work: &str,
        what: &'static str,
        value: f64,
        limit: Option<f64>,
        at_least: bool,
    ) {
        self.0.push(Goal {
            work: work.to_owned(),
            what,
            value,
            limit: limit.unwrap_or_default(),
            at_least,
            binding: limit.is_some(),
        });
    }
}
