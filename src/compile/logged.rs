//! What rules say of the packets that they refuse, and how that is read back.

use crate::ruleset::check::LOG_PREFIX_MAX;
use crate::ruleset::{Expression, LOG_GROUP};

/// What every log line of dfw begins with.
const REFUSED: &str = "dfw refused ";
/// Between the port and the line of the policy.
const AT: &str = " at ";

/// To the kernel log for people, and to dfw's own group for `dfw log`, which nobody has to listen
/// to. `port` is as the policy writes it, `comment` the line behind it.
pub(super) fn refused(port: &str, comment: &str) -> [Expression; 2] {
    let mut prefix = format!("{REFUSED}{port}{AT}");
    // As in comments, a file name that is too long is cut from the left.
    let room = LOG_PREFIX_MAX.saturating_sub(prefix.len());
    let over = comment.len().saturating_sub(room);
    let start = (over..=comment.len()).find(|&i| comment.is_char_boundary(i));
    prefix.push_str(&comment[start.unwrap_or(comment.len())..]);
    [
        Expression::Log {
            prefix: format!("{REFUSED}{port}: "),
            group: None,
        },
        Expression::Log {
            prefix,
            group: Some(LOG_GROUP),
        },
    ]
}

/// The port as the policy writes it and the line behind it, of what a rule said to dfw's group;
/// `None` if no rule of dfw said it.
#[must_use]
pub fn logged(prefix: &str) -> Option<(&str, &str)> {
    prefix.strip_prefix(REFUSED)?.split_once(AT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_never_too_long() {
        for (comment, cut) in [
            ("web.yaml:12", "web.yaml:12".to_owned()),
            (&"ü".repeat(100), "ü".repeat(47)),
        ] {
            let [_, to_group] = refused("[2001:db8::1]:80/tcp", comment);
            let Expression::Log { prefix, group } = to_group else {
                unreachable!("{to_group:?}");
            };
            assert!(prefix.len() <= LOG_PREFIX_MAX && group == Some(LOG_GROUP));
            assert_eq!(
                logged(&prefix),
                Some(("[2001:db8::1]:80/tcp", cut.as_str()))
            );
        }
        assert_eq!(logged("somebody else's"), None);
    }
}
