//! Questions to the user: whether to keep the new rules, and whether to apply.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use jiff::SignedDuration;
use rustix::io::Errno;
use rustix::termios::{QueueSelector, tcflush};

use super::watchdog::{End, Watchdog, readable};

/// The bounds of `--confirm`.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_hours(1);

/// Parses the time of `--confirm`: `30s`, `2m`, `1m30s`.
pub(in crate::cli) fn patience(text: &str) -> Result<Duration, String> {
    let example = "expected a time such as 30s, 2m or 1m30s";
    let duration: SignedDuration = text.parse().map_err(|_| format!("not a time; {example}"))?;
    let duration = Duration::try_from(duration).map_err(|_| format!("negative; {example}"))?;
    if (SHORTEST..=LONGEST).contains(&duration) {
        Ok(duration)
    } else {
        Err("must be between 5s and 1h".to_owned())
    }
}

/// Asks whether to keep the new rules, and waits for the answer and its outcome.
pub(in crate::cli) fn confirm(watchdog: Watchdog, patience: Duration) -> End {
    watchdog.committed();
    let time = SignedDuration::try_from(patience).unwrap_or_default();
    prompt(&format!(
        "The new rules are in force. Keep them? [y/N] (rollback in {time:#}) "
    ));
    if let Some(keep) = yes(Some(&watchdog)) {
        watchdog.answered(keep);
    } else {
        // End the line of the question, which was not answered.
        let _ = writeln!(io::stderr());
    }
    watchdog.end()
}

/// Asks a yes-or-no question; `None` if there is no terminal.
pub(in crate::cli) fn go_on(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() {
        return None;
    }
    prompt(&format!("{question} [y/N] "));
    yes(None)
}

fn prompt(text: &str) {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        // Discard what was typed before the question.
        let _ = tcflush(&stdin, QueueSelector::IFlush);
    }
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Reads the answer; `None` if the watchdog decided first.
fn yes(watchdog: Option<&Watchdog>) -> Option<bool> {
    use std::os::fd::AsFd;
    let stdin = io::stdin();
    let mut files = vec![stdin.as_fd()];
    files.extend(watchdog.map(|watchdog| watchdog.report().as_fd()));
    let mut line = Vec::new();
    loop {
        match readable(&files, None) {
            Err(_) => return Some(false),
            Ok(ready) if ready.contains(&1) => return None,
            Ok(_) => {}
        }
        let mut byte = [0];
        match rustix::io::read(&stdin, &mut byte) {
            Err(Errno::INTR) => {}
            // An unfinished line is not an answer.
            Err(_) | Ok(0) => return Some(false),
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
        }
    }
    let line = String::from_utf8_lossy(&line).trim().to_lowercase();
    Some(matches!(line.as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_within_bounds() {
        let seconds = |text| patience(text).map(|time| time.as_secs());
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("1m30s"), Ok(90));
        assert_eq!(seconds("2m"), Ok(120));
        assert_eq!(seconds("1h"), Ok(3600));
        for wrong in ["4s", "2h", "-30s", "soon", "60", "", "0s"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
