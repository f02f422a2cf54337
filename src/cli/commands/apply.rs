//! `dfw apply`: applies the policies atomically.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use serde_json::json;

use crate::cli::arguments::{self, EngineArgs, PolicyPath};
use crate::cli::load::{load_for_host, look};
use crate::cli::report::failure::Failure;
use crate::cli::report::fetched;
use crate::cli::report::notice::all_notices;
use crate::cli::report::preview::Preview;
use crate::cli::report::summary::{denied, tested};
use crate::cli::session::confirm;
use crate::cli::session::watchdog::{End, Watchdog};
use crate::compile;
use crate::kernel::{self, COMMITS, Commit, Kernel, Proposal, Snapshot, attempts, unconfirmed};
use crate::output::json;
use crate::output::progress::Progress;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::plan::Installed;
use crate::ruleset::{Ruleset, TABLE};
use crate::site::HostFacts;
use crate::store::Policies;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted::{self, is_deceptive};

// Arguments of `dfw apply`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ApplyArgs {
    #[command(flatten)]
    policy: PolicyPath,
    #[command(flatten)]
    engine: EngineArgs,
    /// Roll back unless you confirm within this time
    ///
    /// From 5s to 1h, such as 60s or 1m30s. A lost connection, Ctrl-C and kill roll back, too.
    #[arg(long, value_name = "TIME", value_parser = confirm::patience)]
    confirm: Option<Duration>,
    /// Apply without asking, even if it cuts your own SSH connection
    #[arg(long)]
    yes: bool,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &ApplyArgs) -> Result<ExitCode, Failure> {
    let location = args.policy.to_enforce()?;
    let path = &location.path;
    let loaded = Progress::during("reading the policies", || {
        load_for_host(terminal, &location)
    })?;
    let (loaded, passed, mut site) = Progress::during("reading this host and its engines", || {
        look(terminal, &args.engine.ask(), loaded, &location)
    })?;
    terminal.tell(&fetched::text(terminal, &loaded));
    let survey = site.survey.take();
    let mut apply = Apply {
        terminal,
        args,
        survey,
        loaded: &loaded,
        site: &site,
        ruleset: Rc::new(loaded.compile(&site.host)),
        notices: None,
        shown: None,
        agreed: false,
    };
    let applied = match apply.commit() {
        Ok(applied) => applied,
        Err(stopped) => return Err(stopped.into_failure(loaded)),
    };
    let end = match (applied.watchdog, args.confirm) {
        (Some(watchdog), Some(patience)) => {
            let former = watchdog.former().clone();
            let end = confirm::confirm(watchdog, patience);
            Some((end.text(&former), end))
        }
        _ => None,
    };
    if matches!(end, None | Some((_, End::Kept))) {
        let warnings = loaded.accept(&arguments::state());
        terminal.diagnostics(&warnings, &loaded.sources);
    }
    let preview = applied.preview.as_ref();
    let (changed, confirmed) = match &end {
        None => (Some(preview.is_some()), None),
        Some((_, End::Kept)) => (Some(true), Some(true)),
        Some((_, End::Back)) => (Some(false), Some(false)),
        Some((_, end)) => (None, Some(matches!(end, End::Gone))),
    };
    let ruleset = &apply.ruleset;
    let notices = apply.notices.unwrap_or_default();
    terminal.answer(
        || {
            let cut = preview.and_then(|preview| preview.cut.as_ref());
            let warnings = loaded.warnings.iter().chain(&notices).chain(cut);
            let mut document = json!({
                "schema": "dfw/apply/v3",
                "changed": changed,
                "confirmed": confirmed,
                "policy": loaded.policy.json(),
                "tests": json::tests(passed, &[]),
                "size": json::size(ruleset),
                "engines": json::engines(&site.host),
                "denied": json::publications(&compile::denied(&loaded.policy, &site.host)),
                "warnings": warnings
                    .map(|warning| terminal.to_json(warning, &loaded.sources))
                    .collect::<Vec<_>>(),
            });
            Preview::add_to(preview, (&loaded, &site), &mut document);
            document
        },
        || {
            let word = match &end {
                None => "applied",
                Some((_, End::Kept)) => "kept",
                Some(_) => return String::new(),
            };
            denied(terminal, &loaded.policy, &site.host)
                + &tested(passed)
                + &outcome(terminal, word, preview.is_some(), ruleset, path)
        },
    )?;
    match end {
        None | Some((_, End::Kept)) => Ok(ExitCode::SUCCESS),
        Some((text, _)) => {
            terminal.say(Tone::Bad, "failed", &text);
            Err(Failure::Incomplete)
        }
    }
}

/// A ruleset that is in force after an apply.
struct Applied {
    /// The changes as shown; `None` if the ruleset was already in force.
    preview: Option<Preview>,
    /// The process that rolls back without confirmation.
    watchdog: Option<Watchdog>,
}

/// Reasons why the ruleset is not in force.
enum Stopped {
    Kernel(kernel::Error),
    /// The kernel's reply to the commit was lost, and the watchdog rolled back.
    RolledBack(kernel::Error),
    Failed(Failure),
}

impl From<kernel::Error> for Stopped {
    fn from(error: kernel::Error) -> Self {
        Self::Kernel(error)
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Stopped {
    fn into_failure(self, loaded: Policies) -> Failure {
        match self {
            Self::Failed(failure) => failure.with(loaded.sources),
            Self::Kernel(error) => Failure::kernel(&error, loaded.sources, &loaded.files),
            Self::RolledBack(error) => {
                Failure::kernel(&error, loaded.sources, &loaded.files).undone()
            }
        }
    }
}

/// An apply that is running.
struct Apply<'a> {
    terminal: Terminal,
    args: &'a ApplyArgs,
    loaded: &'a Policies,
    site: &'a HostFacts,
    /// The survey that the facts of this host are from, until it is used.
    survey: Option<Box<Snapshot>>,
    ruleset: Rc<Ruleset>,
    /// Notices about this host; `None` until they are shown.
    notices: Option<Vec<Diagnostic>>,
    /// The preview of the last proposal.
    shown: Option<String>,
    /// Whether the user agreed to cut their own connection.
    agreed: bool,
}

impl Apply<'_> {
    /// Proposes, shows, asks and commits; repeats if another program committed in between.
    fn commit(&mut self) -> Result<Applied, Stopped> {
        let kernel = Kernel::open()?;
        for attempt in attempts(COMMITS) {
            let progress = Progress::start("reading the rules in force");
            let survey = kernel.try_survey(self.survey.take())?;
            self.keep_grants(survey.as_ref());
            let ruleset = Rc::clone(&self.ruleset);
            let proposal = kernel.propose(survey.as_ref(), &ruleset)?;
            drop(progress);
            if let Some(process) = unconfirmed::waiting(proposal.stamp()) {
                return Err(Failure::unconfirmed(process).into());
            }
            if proposal.is_empty() {
                self.show_notices(&proposal);
                return Ok(Applied {
                    preview: None,
                    watchdog: None,
                });
            }
            let preview = self.show(&proposal);
            self.agree(&preview)?;
            let watchdog = self.watch(&proposal)?;
            let stamp = stamp(
                &self.args.policy.path,
                watchdog.as_ref().map(Watchdog::identity),
            );
            let committed =
                Progress::during("changing the rules", || proposal.commit(&stamp, attempt));
            match (committed, watchdog) {
                (Ok(Commit::InForce { .. }), watchdog) => {
                    return Ok(Applied {
                        preview: Some(preview),
                        watchdog,
                    });
                }
                // The watchdog of a commit that failed ends with its owner.
                (Ok(Commit::Overtaken), _) => {}
                (Err(error @ kernel::Error::Unanswered(_)), Some(watchdog)) => {
                    watchdog.answered(false);
                    return Err(match watchdog.end() {
                        End::Back => Stopped::RolledBack(error),
                        _ => Stopped::Kernel(error),
                    });
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
        Err(kernel::Error::Busy.into())
    }

    /// Compiles again for the grants in force, which guard may have changed since.
    fn keep_grants(&mut self, survey: Option<&Snapshot>) {
        let installed = survey.and_then(|survey| survey.installed.as_ref());
        let grants = installed.map_or_else(Vec::new, |table| compile::grants(&table.ruleset));
        if grants != self.site.host.grants {
            let mut host = self.site.host.clone();
            host.grants = grants;
            self.ruleset = Rc::new(self.loaded.compile(&host));
        }
    }

    /// Shows the changes of the proposal, unless they were shown before.
    fn show(&mut self, proposal: &Proposal<'_>) -> Preview {
        let preview = Preview::of((self.loaded, self.site), &self.ruleset, proposal);
        self.show_notices(proposal);
        let text = preview.text(self.terminal);
        if self.shown.as_ref() != Some(&text) {
            self.terminal.tell(&text);
            self.shown = Some(text);
        }
        preview
    }

    fn show_notices(&mut self, proposal: &Proposal<'_>) {
        if self.notices.is_none() {
            let notices = all_notices(self.loaded, self.site, proposal.foreign_chains());
            self.terminal.diagnostics(&notices, &self.loaded.sources);
            self.notices = Some(notices);
        }
    }

    /// Asks for confirmation if the user's own connection would be cut.
    fn agree(&mut self, preview: &Preview) -> Result<(), Stopped> {
        let Some(cut) = preview.cut.as_ref().filter(|_| !self.agreed) else {
            return Ok(());
        };
        let asks = self.args.confirm.is_none() && !self.args.yes;
        if asks && !std::io::stdin().is_terminal() {
            let help = "there is no terminal to ask on: `--yes` applies without asking";
            return Err(Failure::plain(cut.clone().into_error().help(help)).into());
        }
        self.terminal
            .diagnostics(std::slice::from_ref(cut), &self.loaded.sources);
        if asks && confirm::go_on("Apply anyway?") != Some(true) {
            return Err(Failure::declined().into());
        }
        self.agreed = true;
        Ok(())
    }

    /// Starts the watchdog for `--confirm`, before anything is changed.
    fn watch(&self, proposal: &Proposal<'_>) -> Result<Option<Watchdog>, Stopped> {
        let Some(patience) = self.args.confirm else {
            return Ok(None);
        };
        let foreign = proposal.installed().map(Installed::foreign);
        if let Some(foreign) = foreign.and_then(|foreign| foreign.into_iter().next()) {
            let message =
                format!("the rules in force could not be restored by a rollback: {foreign}");
            return Err(
                Failure::plain(Diagnostic::error("foreign-rules", message).help(
                    "another program added objects to dfw's table that dfw cannot restore; remove them, \
                     or apply without --confirm, which replaces the table",
                ))
                .into(),
            );
        }
        let former = proposal.former()?;
        let watchdog = Watchdog::start(self.terminal, former, patience).map_err(|error| {
            let message = format!("cannot start a watchdog: {error}");
            Failure::plain(Diagnostic::error("watchdog", message))
        })?;
        Ok(Some(watchdog))
    }
}

/// Returns the comment of the table: version, time and path of the policies.
fn stamp(path: &Path, watched: Option<unconfirmed::Identity>) -> String {
    let now = Timestamp::now();
    let now = now.round(Unit::Second).unwrap_or(now);
    let path = path
        .display()
        .to_string()
        .replace(|c: char| matches!(c, '"' | '\\') || is_deceptive(c), "?");
    let mark = watched.map_or_else(String::new, unconfirmed::mark);
    let mut stamp = format!(
        "dfw {}{mark} at {now} from {path}",
        env!("CARGO_PKG_VERSION")
    );
    stamp.truncate(stamp.floor_char_boundary(crate::ruleset::check::COMMENT_MAX));
    stamp
}

fn outcome(
    terminal: Terminal,
    word: &str,
    changed: bool,
    ruleset: &Ruleset,
    path: &Path,
) -> String {
    if changed {
        let rules = ruleset.chains.values().map(|chain| chain.rules.len()).sum();
        format!(
            "{}: table inet {TABLE} is in force ({} in {})\n",
            terminal.paint(Tone::Good, word),
            count(rules, "rule", "rules"),
            count(ruleset.chains.len(), "chain", "chains"),
        )
    } else {
        format!(
            "{}: {} is already in force\n",
            terminal.paint(Tone::Good, "no changes"),
            untrusted::path(path),
        )
    }
}
