//! Log prefixes of denied packets: writes and parses them.

use crate::ruleset::LOG_PREFIX_MAX;
use crate::ruleset::{Expression, LOG_GROUP, Statement};

/// The rate limit of a rule's log, per second, and the burst.
const RATE: (u64, u32) = (10, 20);
/// The beginning of every log prefix.
const DENIED: &str = "dfw denied ";
/// Stands for the port in log lines of `default: deny`.
pub(super) const UNNAMED: &str = "at a port without a policy entry";
/// Separates the port from the policy line.
const AT: &str = " at ";

/// Returns the log statements of a denial: to the kernel log, and to dfw's NFLOG group for `dfw log`, at a
/// limited rate. `port` is as the policy writes it, `comment` the policy line.
pub(super) fn denied(port: &str, comment: &str) -> [Expression; 3] {
    let mut prefix = format!("{DENIED}{port}{AT}");
    // As in comments, a long file name is truncated from the left.
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

/// Parses a log prefix: the port as the policy writes it (`None` without a key) and the policy line; `None`
/// if the prefix is not dfw's.
#[must_use]
pub fn logged(prefix: &str) -> Option<(Option<&str>, &str)> {
    let rest = prefix.strip_prefix(DENIED)?;
    if let Some(origin) = rest
        .strip_prefix(UNNAMED)
        .and_then(|rest| rest.strip_prefix(AT))
    {
        return Some((None, origin));
    }
    let (port, origin) = rest.split_once(AT)?;
    Some((Some(port), origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_parsed_and_never_too_long() {
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
