//! `dfw apply`: the policies become the rules in force.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use serde_json::json;

use crate::compile;
use crate::diagnostic::Diagnostic;
use crate::kernel::Neighbour;
use crate::kernel::{self, Former, Kernel};
use crate::output::json;
use crate::output::progress::Progress;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::plan::Installed;
use crate::plan::{Operation, Plan};
use crate::policies::Policies;
use crate::ruleset::{Ruleset, TABLE};
use crate::site::Site;
use crate::untrusted::{self, is_deceptive};

use super::confirm;
use super::failure::Failure;
use super::host::{self, EngineArgs};
use super::load::{load_tested, look};
use super::notice::notices as notices_of;
use super::preview::Preview;
use super::summary::{refused, tested};
use super::watchdog::{self, End, Identity, Watchdog};

/// How the policies are applied.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    policy: super::PolicyPath,
    #[command(flatten)]
    engine: EngineArgs,
    /// Put the former rules back unless you say yes within this time
    ///
    /// From 5s to 1h, such as 60s or 1m30s. A lost connection, Ctrl-C and kill count as no.
    #[arg(long, value_name = "TIME", value_parser = confirm::patience)]
    confirm: Option<Duration>,
    /// Do not ask before your own SSH connection is cut
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(terminal: Terminal, args: &ApplyArgs) -> Result<(), Failure> {
    let path = &args.policy.path;
    let read = || load_tested(terminal, path);
    let (loaded, passed) = Progress::during("reading the policies", read)?;
    let (loaded, found) = Progress::during("looking at this host and its engines", || {
        look(&args.engine.ask(), loaded, passed, path)
    })?;
    let kernel = match Kernel::open() {
        Ok(kernel) => kernel,
        Err(error) => return Err(Failure::kernel(&error, loaded.sources, &loaded.files)),
    };
    let ruleset = loaded.compile(&found.host);
    let watched = Cell::new(None);
    let progress = RefCell::new(Some(Progress::start("reading the rules in force")));
    let mut run = Run {
        terminal,
        args,
        loaded: &loaded,
        found: &found,
        ruleset: &ruleset,
        kernel: &kernel,
        notices: Vec::new(),
        told: None,
        agreed: false,
        watchdog: None,
        watched: &watched,
        progress: &progress,
    };
    let done = kernel.install(
        &ruleset,
        || stamp(path, watched.get()),
        |installed, neighbours, plan| run.propose(installed, neighbours, plan),
    );
    progress.take();
    let (mut notices, watchdog) = (run.notices, run.watchdog);
    let installation = match done {
        Ok(installation) => installation,
        Err(stopped) => return Err(stopped.into_failure(loaded, watchdog)),
    };
    let preview = installation.proposal;
    if preview.is_none() {
        if let Some(process) = watchdog::waiting(installation.found.as_deref()) {
            return Err(waits(process));
        }
        notices = all_notices(terminal, &loaded, &found, &installation.neighbours);
    }
    let end = watchdog.zip(args.confirm).map(|(watchdog, patience)| {
        let former = watchdog.former().clone();
        let end = confirm::confirm(watchdog, patience);
        let text = end.text(&former);
        (end, text)
    });
    let changed = match &end {
        None => Some(preview.is_some()),
        Some((End::Kept, _)) => Some(true),
        Some((End::Back, _)) => Some(false),
        Some(_) => None,
    };
    let confirmed = end
        .as_ref()
        .map(|(end, _)| matches!(end, End::Kept | End::Gone));
    terminal.answer(
        || {
            let cut = preview.as_ref().and_then(|preview| preview.cut.as_ref());
            let warnings = loaded.warnings.iter().chain(&notices).chain(cut);
            let mut document = json!({
                "schema": "dfw/apply/v2",
                "changed": changed,
                "confirmed": confirmed,
                "policy": json::policy(&loaded.policy),
                "tests": json::tests(passed, &[]),
                "size": json::size(&ruleset),
                "engines": json::engines(&found.host),
                "refused": json::publications(&compile::refused(&loaded.policy, &found.host)),
                "warnings": warnings
                    .map(|warning| terminal.to_json(warning, &loaded.sources))
                    .collect::<Vec<_>>(),
            });
            Preview::add_to(preview.as_ref(), &mut document);
            document
        },
        || match &end {
            None => {
                let outcome = outcome(terminal, "applied", preview.is_some(), &ruleset, path);
                refused(terminal, &loaded.policy, &found.host) + &tested(passed) + &outcome
            }
            Some((End::Kept, _)) => {
                let outcome = outcome(terminal, "kept", true, &ruleset, path);
                refused(terminal, &loaded.policy, &found.host) + &tested(passed) + &outcome
            }
            Some(_) => String::new(),
        },
    )?;
    match end {
        None | Some((End::Kept, _)) => Ok(()),
        Some((_, text)) => {
            terminal.say(Tone::Bad, "failed", &text);
            Err(Failure::Incomplete)
        }
    }
}

/// Why nothing was applied.
enum Stopped {
    Kernel(kernel::Error),
    /// It would cut the user's own connection, and he cannot be asked.
    Cut(Box<Diagnostic>),
    Failed(Failure),
}

impl From<kernel::Error> for Stopped {
    fn from(error: kernel::Error) -> Self {
        Self::Kernel(error)
    }
}

impl Stopped {
    fn into_failure(self, loaded: Policies, watchdog: Option<Watchdog>) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Cut(cut) => Failure::plain(*cut).with(loaded.sources),
            Self::Kernel(error) => {
                let failure = Failure::kernel(&error, loaded.sources, &loaded.files);
                match (error, watchdog) {
                    (kernel::Error::Unanswered(_), Some(watchdog)) => {
                        watchdog.answered(false);
                        match watchdog.end() {
                            End::Back => failure.undone(),
                            _ => failure,
                        }
                    }
                    _ => failure,
                }
            }
        }
    }
}

/// An apply until the moment at which it takes effect.
struct Run<'a> {
    terminal: Terminal,
    args: &'a ApplyArgs,
    loaded: &'a Policies,
    found: &'a Site,
    ruleset: &'a Ruleset,
    kernel: &'a Kernel,
    notices: Vec<Diagnostic>,
    /// What was told of the plan.
    told: Option<String>,
    /// Whether the user knows that his connection is cut.
    agreed: bool,
    watchdog: Option<Watchdog>,
    /// Who the watchdog is, for the stamp.
    watched: &'a Cell<Option<Identity>>,
    /// Silent while something is told or asked.
    progress: &'a RefCell<Option<Progress>>,
}

impl Run<'_> {
    /// Tells what will be done, and sees to it that it may.
    fn propose(
        &mut self,
        installed: Option<&Installed>,
        neighbours: &[Neighbour],
        plan: &Plan<'_>,
    ) -> Result<Preview, Stopped> {
        self.progress.take();
        let stamp = installed.and_then(|installed| installed.comment.as_deref());
        if let Some(process) = watchdog::waiting(stamp) {
            return Err(Stopped::Failed(waits(process)));
        }
        let both = (self.loaded, self.found);
        let preview = Preview::of(both, installed, neighbours, self.ruleset, plan);
        if self.told.is_none() {
            self.notices = all_notices(self.terminal, self.loaded, self.found, neighbours);
        }
        let text = preview.text(self.terminal);
        if self.told.as_ref() != Some(&text) {
            self.terminal.tell(&text);
            self.told = Some(text);
        }
        if let Some(cut) = &preview.cut
            && !self.agreed
        {
            self.agree(cut)?;
        }
        if let Some(patience) = self.args.confirm {
            self.watch(installed, plan, patience)?;
        }
        let changing = Progress::start("changing the rules");
        self.progress.replace(Some(changing));
        Ok(preview)
    }

    /// The user's own connection ends: does he want that?
    fn agree(&mut self, cut: &Diagnostic) -> Result<(), Stopped> {
        let Run { terminal, args, .. } = self;
        let asks = args.confirm.is_none() && !args.yes;
        if asks && !std::io::stdin().is_terminal() {
            let help = "there is no terminal to ask at: `--yes` goes on all the same";
            return Err(Stopped::Cut(Box::new(cut.clone().into_error().help(help))));
        }
        terminal.diagnostic(cut, &self.loaded.sources);
        terminal.gap();
        if asks && confirm::go_on("Apply all the same?") != Some(true) {
            return Err(Stopped::Failed(Failure::declined()));
        }
        self.agreed = true;
        Ok(())
    }

    /// Before anything is changed somebody stands by who can put it back.
    fn watch(
        &mut self,
        installed: Option<&Installed>,
        plan: &Plan<'_>,
        patience: Duration,
    ) -> Result<(), Stopped> {
        let is_unknown = installed.is_none() && plan.main.contains(&Operation::DeleteTable);
        if is_unknown {
            return Err(Stopped::Kernel(kernel::Error::Busy));
        }
        if let Some(foreign) = installed.and_then(|i| i.foreign().into_iter().next()) {
            let message = format!("the rules in force could not be put back: {foreign}");
            return Err(Stopped::Failed(Failure::plain(
                Diagnostic::error("foreign-rules", message).help(
                    "others have put into dfw's table what dfw does not know; take it out, or \
                     apply without --confirm, which replaces it",
                ),
            )));
        }
        // One that belongs to a plan which was overtaken.
        self.watchdog = None;
        let former = Former::of(self.kernel, installed, self.ruleset, plan)?;
        let watchdog = Watchdog::start(self.terminal, former, patience).map_err(|error| {
            let message = format!("cannot start a watchdog: {error}");
            Stopped::Failed(Failure::plain(Diagnostic::error("watchdog", message)))
        })?;
        self.watched.set(Some(watchdog.identity()));
        self.watchdog = Some(watchdog);
        Ok(())
    }
}

/// Another apply is waiting for its answer.
pub(super) fn waits(process: u32) -> Failure {
    let message = format!("the rules in force wait to be confirmed (process {process})");
    Failure::plain(
        Diagnostic::error("unconfirmed", message)
            .help("answer where `dfw apply --confirm` asks, or wait until its time is up"),
    )
}

/// What the user should know of this host; it is shown.
fn all_notices(
    terminal: Terminal,
    loaded: &Policies,
    found: &Site,
    neighbours: &[Neighbour],
) -> Vec<Diagnostic> {
    let mut notices = host::notices(&loaded.policy, found);
    notices.extend(notices_of(&loaded.policy, &found.host, neighbours));
    for notice in &notices {
        terminal.diagnostic(notice, &loaded.sources);
        terminal.gap();
    }
    notices
}

/// Who put the table there, kept as its comment.
fn stamp(path: &Path, watched: Option<Identity>) -> String {
    let now = Timestamp::now();
    let now = now.round(Unit::Second).unwrap_or(now);
    let path = path
        .display()
        .to_string()
        .replace(|c: char| matches!(c, '"' | '\\') || is_deceptive(c), "?");
    let mark = watched.map_or_else(String::new, watchdog::mark);
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
            "{}: the rules in force are those of {} already\n",
            terminal.paint(Tone::Good, "no changes"),
            untrusted::path(path),
        )
    }
}
