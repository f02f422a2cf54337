//! `dfw diff`: what a change of the policies opens and closes, exactly, without a kernel.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use crate::analysis::difference::{Difference, Effect, Row};
use crate::analysis::eval::Pool;
use crate::cli::arguments::BundleArgs;
use crate::cli::load::load_both;
use crate::cli::page_file::{self, Destination, Page};
use crate::cli::report::difference;
use crate::cli::report::failure::Failure;
use crate::output::github::annotation;
use crate::output::terminal::{Terminal, Tone};
use crate::page::audit::Conclusion;
use crate::ruleset::Origin;
use crate::store::{Policies, compared, line_behind};
use crate::untrusted;

/// The exit code for changes, with `--exit-code`.
pub(in crate::cli) const CHANGES: u8 = 10;
/// The exit code for openings, with `--fail-on-open`.
pub(in crate::cli) const OPENS: u8 = 12;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DiffArgs {
    /// The policies before: a directory of *.yaml files, one file, or a bundle
    old: PathBuf,
    /// The policies afterwards
    new: PathBuf,
    /// Output format: text, json, or github (annotations of a pull request)
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_default_value = true,
        hide_possible_values = true
    )]
    format: Format,
    /// Also write a page that shows access before and after; `-` for stdout
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    html: Option<Destination>,
    #[command(flatten)]
    codes: ExitArgs,
    #[command(flatten)]
    bundle: BundleArgs,
}

// When a comparison is no success.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(in crate::cli) struct ExitArgs {
    /// Exit with 10 if there are changes
    #[arg(long)]
    exit_code: bool,
    /// Exit with 12 if somebody gains access, or may gain it
    #[arg(long)]
    fail_on_open: bool,
}

impl ExitArgs {
    /// Returns the exit code of a comparison that has an answer; `None` for success.
    pub(in crate::cli) fn code(self, is_empty: bool, opens: bool) -> Option<ExitCode> {
        match self {
            Self {
                fail_on_open: true, ..
            } if opens => Some(ExitCode::from(OPENS)),
            Self {
                exit_code: true, ..
            } if !is_empty => Some(ExitCode::from(CHANGES)),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Github,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &DiffArgs) -> Result<ExitCode, Failure> {
    let terminal = match args.format {
        Format::Json => terminal.as_json(),
        Format::Text | Format::Github => terminal,
    };
    let location = |path| args.bundle.to_show(path);
    let [old, new] = load_both(terminal, &location(&args.old)?, location(&args.new))?;
    let mut pool = Pool::default();
    let (difference, unknown) = compared(&mut pool, &old, &new);
    let names = (untrusted::path(&args.old), untrusted::path(&args.new));
    let page = args.html.as_ref().map(|to| {
        let conclusion = conclusion(&difference, &names);
        let page = difference::page(&difference, names.clone(), conclusion, &unseen(&unknown));
        Page::new("--html", to, page.html())
    });
    let answer = (args.format == Format::Github).then_some("--format github");
    let page = page_file::write(terminal, PUBLIC, answer, page.into_iter().collect())?;
    terminal.answer(
        || {
            let warnings = [&old, &new].into_iter().flat_map(|policies| {
                let warnings = policies.warnings.iter();
                warnings.map(|warning| terminal.to_json(warning, &policies.sources))
            });
            let warnings: Vec<_> = warnings.collect();
            json!({
                "schema": "dfw/diff/v1",
                "opens": difference.openings().next().is_some(),
                "differences": difference::json(&difference),
                "limits": difference::limits_json(&difference),
                "unknown_sources": unknown,
                "warnings": warnings,
            })
        },
        || match (page, args.format) {
            (Some(page), _) => page,
            (None, Format::Github) => {
                let places = Places {
                    old: (&args.old, &old),
                    new: (&args.new, &new),
                };
                annotations(&difference, &places, args.codes.fail_on_open)
            }
            (None, Format::Text | Format::Json) => text(terminal, &difference, &unknown, &names),
        },
    )?;
    let opens = difference.openings().next().is_some();
    let code = args.codes.code(difference.is_empty(), opens);
    Ok(code.unwrap_or(ExitCode::SUCCESS))
}

/// The mode of a page: the policies are not secret.
const PUBLIC: u32 = 0o644;

fn text(
    terminal: Terminal,
    difference: &Difference,
    unknown: &[String],
    names: &(String, String),
) -> String {
    let mut all = difference::text(difference, terminal);
    for line in unseen(unknown) {
        let _ = writeln!(all, "{line}");
    }
    let Conclusion {
        tone, word, text, ..
    } = conclusion(difference, names);
    let _ = writeln!(all, "{}: {text}", terminal.paint(tone, word));
    all
}

/// What cannot be compared without a host.
fn unseen(unknown: &[String]) -> Vec<String> {
    if unknown.is_empty() {
        return Vec::new();
    }
    let names = unknown.join(", ");
    vec![format!(
        "what is in {names} is not known here: taken as empty, and compared apart"
    )]
}

fn conclusion(difference: &Difference, (old, new): &(String, String)) -> Conclusion {
    let (tone, word, text) = if difference.is_empty() {
        let text = format!("{new} allows and denies what {old} does");
        (Tone::Good, "no changes", text)
    } else if let Some(openings) = difference::openings(difference) {
        (
            Tone::Bad,
            "opens",
            format!("{openings} from {old} to {new}"),
        )
    } else {
        let text = format!("nobody gains access from {old} to {new}");
        (Tone::Good, "opens nothing", text)
    };
    Conclusion {
        tone,
        word,
        text,
        next: None,
    }
}

/// The policies before and afterwards, with their paths.
struct Places<'a> {
    old: (&'a Path, &'a Policies),
    new: (&'a Path, &'a Policies),
}

impl Places<'_> {
    /// Returns the file, the line and the column to annotate: the line that decides now, or else the beginning of
    /// the file that no longer has the line that decided. A pull request shows files as they are afterwards only.
    fn of(&self, row: &Row) -> Option<(&str, u32, u32)> {
        let (dir, policies) = self.new;
        let of = |policies: &Policies, line: Option<&Origin>| {
            line_behind(&policies.sources, &policies.files, line?)
        };
        if let Some(span) = of(policies, row.after.line.as_ref()) {
            let (line, column) = policies.sources.line_column(&span);
            return Some((policies.sources.name(span.file), line, column));
        }
        let (old_dir, old) = self.old;
        let span = of(old, row.before.line.as_ref())?;
        let inside = Path::new(old.sources.name(span.file)).strip_prefix(old_dir);
        let name = match inside.ok()? {
            file if file == Path::new("") => dir.to_owned(),
            file => dir.join(file),
        };
        let mut files = policies
            .files
            .iter()
            .map(|file| policies.sources.name(*file));
        files
            .find(|file| Path::new(file) == name)
            .map(|file| (file, 1, 1))
    }
}

/// A line for each row, as a workflow of GitHub reads it.
fn annotations(difference: &Difference, places: &Places<'_>, fails: bool) -> String {
    let line = |row: &Row| {
        let level = match row.effect {
            Effect::Gains | Effect::MayGain if fails => "error",
            Effect::Gains | Effect::MayGain => "warning",
            Effect::Loses | Effect::Judged => "notice",
        };
        let title = match row.effect {
            Effect::Gains => "opens",
            Effect::MayGain => "may open",
            Effect::Loses => "closes",
            Effect::Judged => "is judged otherwise",
        };
        annotation(
            level,
            places.of(row),
            title,
            &difference::message(difference, row),
        )
    };
    let limits = difference.limits.iter().map(|change| {
        let text = format!("{}: {}", change.key, difference::limit_sentence(change));
        annotation("notice", None, "changes a limit", &text)
    });
    difference.rows.iter().map(line).chain(limits).collect()
}
