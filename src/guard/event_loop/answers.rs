//! Answers of the control socket: status, reload and grants.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::guard::due::Need;
use crate::guard::feeds::event::Question;
use crate::guard::granted::{self, Request, Sender};
use crate::guard::state_writer::SLOW_DISK;

use super::Guard;

impl Guard {
    /// Answers a client of the control socket.
    pub(super) fn answer(&mut self, number: usize, question: Question, now: Instant) {
        let answer = match question {
            Question::Status => {
                self.note_site();
                let unanswered = self.engines.unanswered();
                let unanswered: Vec<String> = unanswered.iter().map(ToString::to_string).collect();
                self.record.document(&self.path, &unanswered).to_string()
            }
            Question::Reload => {
                self.reload(now);
                "{\"reload\":true}".to_owned()
            }
            Question::Grant(request, sender) => {
                granted::answer(self.change_grants(&request, sender)).to_string()
            }
            Question::Rejected(why) => serde_json::json!({ "error": why }).to_string(),
        };
        if let Some(control) = &mut self.control {
            control.answer(number, answer + "\n");
        }
    }

    /// Handles a request about grants; what was granted is in force before it is answered.
    fn change_grants(&mut self, request: &Request, sender: Sender) -> Result<Vec<Value>, String> {
        let policy = self.desired.ruleset().and(self.desired.policy());
        let grants = self.grants.change(request, policy, sender)?;
        if *request != Request::List {
            let retried = |error| format!("{error}; guard tries again");
            self.regrant(SLOW_DISK).map_err(retried)?;
        }
        Ok(grants)
    }

    /// Saves the grants, for which it waits so long at most, and brings them into force.
    pub(super) fn regrant(&mut self, patience: Duration) -> Result<(), String> {
        self.record.grants = self.grants.count();
        self.desired.keep_grants(self.grants.saved(), patience);
        self.desired.grant(self.grants.in_force());
        let done = self.enforce(Need::Links);
        let failure = done.as_ref().err().map(ToString::to_string);
        self.done(Need::Host, done);
        failure.map_or(Ok(()), Err)
    }
}
