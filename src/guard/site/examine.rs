//! Whether the bundle in the cache passes all checks and tests of this host.

use std::cell::OnceCell;
use std::path::PathBuf;

use crate::analysis::test::Report;
use crate::bundle::{Error, Head, Manifest, Stage};
use crate::fetch::site::{self, SiteStatus};
use crate::host::docker::Unanswered;
use crate::host::engine::Engine;
use crate::policy::{Fetched, SourceName};
use crate::store::bundle::{self, Bundle, OpenError, Pick, now};
use crate::store::{self, Location, Objection, Policies, Unfit};
use crate::text::SourceMap;
use crate::untrusted::clean_to;

use crate::guard::log;

use super::state::{Generation, Next, Saved};
use super::way;

/// What is examined, and with what.
#[derive(Debug)]
pub(super) struct Examination {
    pub(super) location: Location,
    pub(super) saved: Saved,
    pub(super) cache: PathBuf,
    /// The folder of the lists that were accepted.
    pub(super) accepted: PathBuf,
    pub(super) engines: Vec<Engine>,
    pub(super) unanswered: Vec<Unanswered>,
    /// Whether a generation waits for its roll-out.
    pub(super) is_staged: bool,
}

/// Why a generation is not tried: the state that it means, and a reason.
type Held = (&'static str, String);

/// A head, what is to be done with it, and its policies if they are to be tried, or why they are not.
type Passed = (Head, Next, Option<Result<Policies, Held>>);

/// The result.
#[derive(Debug)]
pub(in crate::guard) struct Examined {
    pub(super) status: SiteStatus,
    /// What was known when it began.
    pub(super) saved: Saved,
    /// The generation that the head names, signed or not.
    pub(super) about: Option<Generation>,
    /// The number of the roll-out, if a trusted key signed it.
    pub(super) rollout: Option<u64>,
    /// `None` if there is no bundle yet; the state and the reason if its head is not taken.
    pub(super) head: Option<Result<Passed, Held>>,
    /// What is to be fetched for policies that may be tried.
    pub(in crate::guard) requests: Vec<(SourceName, Fetched)>,
}

impl Examination {
    pub(super) fn run(self) -> Examined {
        let status = site::status(&self.cache);
        let has_head = self.location.path.join("head").symlink_metadata().is_ok();
        let (mut requests, mut rollout, saved) = (Vec::new(), None, self.saved.clone());
        let about = bundle::claimed(&self.location.path).map(|head| Generation::of(&head));
        let head = has_head.then(|| self.head(&mut requests, &mut rollout));
        Examined {
            status,
            saved,
            about,
            rollout,
            head,
            requests,
        }
    }

    fn head(
        self,
        requests: &mut Vec<(SourceName, Fetched)>,
        rollout: &mut Option<u64>,
    ) -> Result<Passed, Held> {
        let trust = &self.location.trust;
        let bundle = Bundle::open(&self.location.path, trust).map_err(|error| {
            let state = match &error {
                OpenError::Denied {
                    error: Error::Unsupported(_) | Error::Newer(_),
                    ..
                } => "unsupported",
                _ => "refused",
            };
            (state, error.to_string())
        })?;
        let keys = trust.keys.as_ref();
        let keys = keys.map(|keys| keys.names().clone()).unwrap_or_default();
        let next = self.saved.check(&bundle.head, &keys, now());
        let next = next.map_err(|denied| (denied.state(), denied.to_string()))?;
        let head = bundle.head;
        if next != Next::Try {
            return Ok((head, next, None));
        }
        // Before anything is accepted all files must be right.
        let groups = bundle.contents.groups(trust.host.as_ref());
        let files = groups.and_then(|groups| bundle.contents.files(&groups));
        files.map_err(|error| ("refused", error.to_string()))?;
        let mut location = self.location.clone();
        location.trust.pick = Pick::Accepted(Some(head.manifest));
        // Its lists, before they are needed; policies with errors need none.
        *requests = store::requests(SourceMap::strict(), &location).unwrap_or_default();
        let stage = self.stage(&bundle.contents.manifest, &head, rollout);
        // They are tested before it is the turn of this host: what it refuses stops the roll-out early.
        let policies = self.policies(&location);
        let policies = policies.map_err(|reason| ("refused", reason));
        let policies = policies.and_then(|policies| stage.map(|()| policies));
        Ok((head, next, Some(policies)))
    }

    /// Checks that it is the turn of this host; says the number of the roll-out, if there is a signed one.
    fn stage(
        &self,
        manifest: &Manifest,
        head: &Head,
        rollout: &mut Option<u64>,
    ) -> Result<(), Held> {
        let trust = &self.location.trust;
        let Some(host) = trust.host.as_ref().filter(|_| self.is_staged) else {
            return Ok(());
        };
        let waiting = |reason: String| Err(("waiting", reason));
        let found = match bundle::rollout(&self.location.path, trust.keys.as_ref()) {
            Ok(Some(found)) => found,
            Ok(None) => return waiting("the roll-out has not begun".to_owned()),
            Err(error) => return waiting(error.to_string()),
        };
        if let Err(error) = found.check_head(head) {
            return waiting(format!("the roll-out is of another generation: {error}"));
        }
        if found.serial < self.saved.rollout {
            let (found, seen) = (found.serial, self.saved.rollout);
            return waiting(format!(
                "the store is behind: roll-out {found}, and this host has seen {seen}"
            ));
        }
        *rollout = Some(found.serial);
        if found.is_open(manifest, host) {
            return Ok(());
        }
        if let Some(reason) = &found.stopped {
            return waiting(format!(
                "the roll-out is stopped: {}",
                clean_to(reason, log::LINE)
            ));
        }
        let stage = manifest.stage_of(host);
        let name = manifest.stages.get(stage);
        let name = name.map_or_else(|| "all others".to_owned(), Stage::to_string);
        waiting(format!("it is not the turn of {name} yet"))
    }

    /// Reads the policies and runs their tests, also on this host as it is.
    fn policies(self, location: &Location) -> Result<Policies, String> {
        let texts =
            || SourceMap::strict().with_fetched(self.cache.clone(), Some(self.accepted.clone()));
        let facts = OnceCell::new();
        let look = |policies: &Policies| {
            way::facts(policies, self.engines.clone(), self.unanswered.clone())
        };
        let check = |policies: &Policies| {
            let run = |host| {
                policies
                    .check_tests(host)
                    .map_err(|it| failed(policies, it))
            };
            run(None)?;
            let facts = facts.get_or_init(|| look(policies)).as_ref();
            let host = &facts.map_err(|error| objection(error.to_string()))?.host;
            run(Some(host))
        };
        match Policies::read_checked(&texts, location, &check) {
            Ok((policies, _)) => Ok(policies),
            Err(Unfit::Failed { error, .. }) => Err(error),
            Err(Unfit::Load(error)) => {
                let mistakes = log::mistakes(&error);
                Err(mistakes.lines().first().cloned().unwrap_or_default())
            }
        }
    }
}

/// Returns what the first test that fails says.
fn failed(policies: &Policies, objection: Objection<Report>) -> Objection<String> {
    let first = objection.error.failed.first();
    let line = first.map(|first| log::line(&first.diagnostic, &policies.sources));
    Objection {
        error: log::one_line(&line.unwrap_or_default()),
        breach: objection.breach,
    }
}

fn objection(error: String) -> Objection<String> {
    let breach = format!("is not fit for this host: {error}");
    Objection { error, breach }
}
