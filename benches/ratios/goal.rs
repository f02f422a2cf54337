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
    /// Whether the limit is meant for this size; where it is not, it is a figure to look at.
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

#[derive(Debug)]
pub(crate) struct Goals {
    /// From which size on limits bind.
    pub(crate) from: usize,
    pub(crate) all: Vec<Goal>,
}

impl Goals {
    pub(crate) fn at_most(
        &mut self,
        size: usize,
        work: &str,
        what: &'static str,
        value: f64,
        limit: f64,
    ) {
        self.push(size, work, what, value, limit, false);
    }

    pub(crate) fn at_least(
        &mut self,
        size: usize,
        work: &str,
        what: &'static str,
        value: f64,
        limit: f64,
    ) {
        self.push(size, work, what, value, limit, true);
    }

    fn push(
        &mut self,
        size: usize,
        work: &str,
        what: &'static str,
        value: f64,
        limit: f64,
        at_least: bool,
    ) {
        self.all.push(Goal {
            work: work.to_owned(),
            what,
            value,
            limit,
            at_least,
            binding: size >= self.from,
        });
    }
}
