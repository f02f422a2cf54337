//! What rules say of the packets that they deny, and how that is read back.

use crate::ruleset::LOG_PREFIX_MAX;
use crate::ruleset::{Expression, LOG_GROUP, Statement};

/// How many denials a rule logs per second, and how many at once.
const RATE: (u64, u32) = (10, 20);
/// What every log line of dfw begins with.
const DENIED: &str = "dfw denied ";
/// In place of a port, for what `default: deny` denies.
pub(super) const UNNAMED: &str = "at a port that no policy names";
/// Between the port and the line of the policy.
const AT: &str = " at ";

/// To the kernel log for people, and to dfw's own group for `dfw log`, which nobody has to listen
/// to; at a bounded rate. `port` is as the policy writes it, `comment` the line behind it.
pub(super) fn denied(port: &str, comment: &str) -> [Expression; 3] {
    let mut prefix = format!("{DENIED}{port}{AT}");
    // As in comments, a file name that is too long is cut from the left.
    let room = LOG_PREFIX_MAX.saturating_sub(prefix.len());
    let over = comment.len().saturating_sub(room);
    let start = (over..=comment.len()).find(|&i| comment.is_char_boundary(i));
    prefix.push_str(&comment[start.unwrap_or(comment.len())..]);
    let (per_second, burst) = RATE;
    [
        Expression::Statement(Statement::Limit { per_second, burst }),
        Expression::Statement(Statement::Log {
            prefix: format!("{DENIED}{port}: "),
            group: None,
        }),
        Expression::Statement(Statement::Log {
            prefix,
            group: Some(LOG_GROUP),
        }),
    ]
}

/// Returns the port as the policy writes it, `None` for one that it does not name, and the line
/// behind it, of what a rule said to dfw's group; `None` if no rule of dfw said it.
#[must_use]
pub fn logged(prefix: &str) -> Option<(Option<&str>, &str)> {
    let said = prefix.strip_prefix(DENIED)?;
    if let Some(origin) = said
        .strip_prefix(UNNAMED)
        .and_then(|rest| rest.strip_prefix(AT))
    {
        return Some((None, origin));
    }
    let (port, origin) = said.split_once(AT)?;
    Some((Some(port), origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_never_too_long() {
        for (comment, cut) in [
            ("web.yaml:12", "web.yaml:12".to_owned()),
            (&"ü".repeat(100), "ü".repeat(46)),
        ] {
            let [_, _, to_group] = denied("[2001:db8::1]:80/tcp", comment);
            let Expression::Statement(Statement::Log { prefix, group }) = to_group else {
                unreachable!("{to_group:?}");
            };
            assert!(prefix.len() <= LOG_PREFIX_MAX && group == Some(LOG_GROUP));
            assert_eq!(
                logged(&prefix),
                Some((Some("[2001:db8::1]:80/tcp"), cut.as_str()))
            );
        }
        let [_, _, Expression::Statement(Statement::Log { prefix, .. })] =
            denied(UNNAMED, "web.yaml:1")
        else {
            unreachable!();
        };
        assert_eq!(logged(&prefix), Some((None, "web.yaml:1")));
        assert_eq!(logged("somebody else's"), None);
    }
}
