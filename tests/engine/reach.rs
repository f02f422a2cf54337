//! What answers is what the audit says, and the other way round. The matrix asks the same of every engine.

use crate::Named;
use crate::support::reach::both_ways;

pub(crate) const TRIALS: &[Named] = &[("reach::what_answers_is_audited", both_ways)];
