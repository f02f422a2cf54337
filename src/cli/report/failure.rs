//! Failures of commands, their report and exit code.

use std::io;
use std::process::ExitCode;

use serde_json::json;

use crate::analysis::test::Report;
use crate::host::process::netlink_holder;
use crate::kernel::What;
use crate::kernel::{self, Rejection};
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::store::bundle::OpenError;
use crate::store::line_behind;
use crate::text::diagnostic::{Diagnostic, Severity};
use crate::text::{FileId, SourceMap};

/// The number of kernel errors shown; one cause can make thousands.
const SHOWN: usize = 10;

/// The number of failed policy tests shown; `--json` has all of them.
const FAILED_TESTS: usize = 50;

/// Reasons why a command failed.
#[derive(Debug)]
pub(in crate::cli) enum Failure {
    /// The policies have errors (exit code 3).
    Policies {
        diagnostics: Vec<Diagnostic>,
        sources: Box<SourceMap>,
    },
    /// A test of the policies failed (exit code 11).
    Tests {
        report: Report,
        sources: Box<SourceMap>,
    },
    /// Another failure (exit code 1): diagnostics and the texts that they point into.
    Failed {
        diagnostics: Vec<Diagnostic>,
        sources: Box<SourceMap>,
        /// Whether the rules are certainly unchanged.
        certain: bool,
    },
    /// The answer, already printed, is that a port is exposed (exit code 11).
    Exposed,
    /// The answer, already printed, is incomplete (exit code 1).
    Incomplete,
    /// The answer could not be written.
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Self {
        Self::kernel(&error, SourceMap::new(), &[])
    }
}

impl Failure {
    /// Creates a failure without a location in a file.
    pub(in crate::cli) fn plain(diagnostic: Diagnostic) -> Self {
        Self::Failed {
            diagnostics: vec![diagnostic],
            sources: Box::new(SourceMap::new()),
            certain: true,
        }
    }

    /// Creates the failure of an apply that the user declined.
    pub(in crate::cli) fn declined() -> Self {
        Self::Failed {
            diagnostics: Vec::new(),
            sources: Box::new(SourceMap::new()),
            certain: true,
        }
    }

    /// Creates the failure of an apply while another one waits for confirmation.
    pub(in crate::cli) fn unconfirmed(process: u32) -> Self {
        let message = format!("the rules in force are not confirmed yet (process {process})");
        Self::plain(
            Diagnostic::error("unconfirmed", message)
                .help("confirm where `dfw apply --confirm` asks, or wait for its timeout; guard tries a generation of a site for a minute"),
        )
    }

    /// Creates the failure of a bundle that cannot be read.
    pub(in crate::cli) fn bundle(error: &OpenError) -> Self {
        let new = |slug| Diagnostic::error(slug, error.to_string());
        Self::plain(match error {
            OpenError::Unreadable(_) => new("unreadable"),
            OpenError::Denied { error, .. } => new(error.slug()),
            OpenError::NoBundle(_) => new("not-a-bundle").help(
                "a bundle is a directory with `head`, `manifests` and `blobs`; `--trusted-key` is for bundles only",
            ),
            OpenError::NoKeys(_) => new("no-trusted-key").help(
                "name the key that signs its policies: `--trusted-key FILE`, or put it into \
                 /etc/dfw/policy.pub.d",
            ),
            OpenError::NoneAccepted => new("none-accepted"),
            OpenError::NoHost(_) => new("no-host").help("name the host: `--host-id NAME`"),
        })
    }

    /// Adds the texts that the diagnostics point into.
    pub(in crate::cli) fn with(self, texts: SourceMap) -> Self {
        match self {
            Self::Failed {
                diagnostics,
                certain,
                ..
            } => Self::Failed {
                diagnostics,
                sources: Box::new(texts),
                certain,
            },
            other => other,
        }
    }

    /// Marks the rules as unchanged, after a rollback.
    pub(in crate::cli) fn undone(self) -> Self {
        match self {
            Self::Failed {
                diagnostics,
                sources,
                ..
            } => Self::Failed {
                diagnostics,
                sources,
                certain: true,
            },
            other => other,
        }
    }

    /// Converts an error of the kernel, with the policy lines that caused it.
    pub(in crate::cli) fn kernel(
        error: &kernel::Error,
        sources: SourceMap,
        files: &[FileId],
    ) -> Self {
        use kernel::Error;
        let diagnostic =
            |slug, help: &str| Diagnostic::error(slug, error.to_string()).help(help.to_owned());
        let diagnostics = match error {
            Error::NoNfTables => vec![diagnostic(
                "no-nf-tables",
                "dfw needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET, built into the kernel or as the \
                 module nf_tables",
            )],
            Error::TooOld(_) => vec![diagnostic(
                "kernel-too-old",
                "older kernels lack conntrack original tuple keys, interface kinds or table comments",
            )],
            Error::Permission => vec![diagnostic(
                "no-permission",
                "run dfw as root, or with the capability CAP_NET_ADMIN",
            )],
            Error::Owned(socket) => {
                let holder = netlink_holder(*socket).map_or_else(
                    || "a process that cannot be seen from here".to_owned(),
                    |owner| format!("`{}` (process {})", owner.name, owner.pid),
                );
                vec![
                    Diagnostic::error("owned", format!("{error}: {holder}"))
                        .help("a running `dfw guard` applies changed policies by itself: edit them")
                        .help("`systemctl reload dfw` makes it read them now, `systemctl stop dfw` stops it"),
                ]
            }
            Error::Unanswered(_) => vec![diagnostic(
                "unanswered",
                "`dfw status` shows the rules in force",
            )],
            Error::GroupTaken(_) => vec![diagnostic(
                "group-taken",
                "stop the other `dfw log`, or a program such as ulogd: an nflog group has one listener",
            )],
            Error::Busy => vec![diagnostic("busy", "try again later")],
            Error::TooLarge(_) => vec![diagnostic(
                "too-large",
                "run dfw as root of the initial user namespace, or raise the sysctl \
                 net.core.wmem_max",
            )],
            Error::Rejected(rejections) => rejections
                .iter()
                .take(SHOWN)
                .map(|rejection| rejected(rejection, &sources, files))
                .collect(),
            Error::Unsound(_)
            | Error::TooLong(_)
            | Error::Malformed(_)
            | Error::Processes(_)
            | Error::Socket(_) => {
                vec![Diagnostic::error("kernel", error.to_string())]
            }
        };
        Self::Failed {
            diagnostics,
            sources: Box::new(sources),
            certain: !matches!(error, Error::Unanswered(_)),
        }
    }

    /// Prints the failure and whether rules changed, and returns the exit code.
    pub(in crate::cli) fn report(self, terminal: Terminal, changes: bool) -> ExitCode {
        let mut tests = None;
        let mut certain = true;
        let (diagnostics, sources, code, what) = match self {
            // The reader closed the pipe; the command is done.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Self::Exposed => return ExitCode::from(11),
            Self::Incomplete => return ExitCode::from(1),
            Self::Output(error) => {
                let mut text = format!("cannot write the answer: {error}");
                if changes {
                    text.push_str("; the command succeeded, see `dfw status`");
                }
                terminal.say(Tone::Bad, "error", &text);
                return ExitCode::from(1);
            }
            Self::Policies {
                diagnostics,
                sources,
            } => {
                let number = diagnostics
                    .iter()
                    .filter(|d| d.severity == Severity::Error)
                    .map(|error| 1 + error.more)
                    .sum();
                let what = format!("the policies have {}", count(number, "error", "errors"));
                (diagnostics, sources, 3, what)
            }
            Self::Tests { report, sources } => {
                let Report { passed, failed, .. } = report;
                tests = Some(json::tests(passed, &failed));
                let all = count(passed + failed.len(), "test", "tests");
                let what = format!("{} of {all} failed", failed.len());
                let more = failed.len().saturating_sub(FAILED_TESTS);
                let diagnostics = failed.into_iter().take(FAILED_TESTS);
                let mut diagnostics: Vec<_> = diagnostics.map(|failed| failed.diagnostic).collect();
                if more > 0 {
                    let verb = if more == 1 { "is" } else { "are" };
                    let more_tests = count(more, "more failed test", "more failed tests");
                    let message = format!("{more_tests} {verb} not shown");
                    diagnostics.push(Diagnostic::error("not-shown", message).and_more(more - 1));
                }
                (diagnostics, sources, 11, what)
            }
            Self::Failed {
                diagnostics,
                sources,
                certain: known,
            } => {
                certain = known;
                (diagnostics, sources, 1, String::new())
            }
        };
        for diagnostic in &diagnostics {
            terminal.diagnostic(diagnostic, &sources);
            terminal.gap();
        }
        let now = if certain {
            "nothing was changed"
        } else {
            "either the new or the former rules are in force, completely"
        };
        let last = match (what.is_empty(), changes) {
            (false, true) => format!("{what}; {now}"),
            (false, false) => what,
            (true, true) => now.to_owned(),
            (true, false) => String::new(),
        };
        if !last.is_empty() {
            terminal.say(Tone::Bad, "failed", &last);
        }
        let document = || {
            let mut document = json!({
                "schema": "dfw/failure/v2",
                "exit_code": code,
                "changed": if certain { json!(false) } else { json!(null) },
                "diagnostics":
                    diagnostics.iter().map(|d| terminal.to_json(d, &sources)).collect::<Vec<_>>(),
            });
            if let (Some(tests), Some(object)) = (tests, document.as_object_mut()) {
                object.insert("tests".to_owned(), tests);
            }
            document
        };
        // If this fails too, the exit code remains.
        let _ = terminal.answer(document, String::new);
        ExitCode::from(code)
    }
}

/// Returns the diagnostic of a kernel error, at the policy line that caused it.
fn rejected(rejection: &Rejection, sources: &SourceMap, files: &[FileId]) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(
        "kernel-rejected",
        format!("the kernel rejected {rejection}"),
    );
    let origin = rejection.subject.origin.as_ref();
    let place = origin.and_then(|origin| line_behind(sources, files, origin));
    if let Some(span) = place {
        diagnostic = diagnostic.at(span, "caused by this line");
    }
    let missing = [rustix::io::Errno::NOENT, rustix::io::Errno::OPNOTSUPP];
    if missing
        .iter()
        .any(|errno| errno.raw_os_error() == rejection.errno)
    {
        let help = match rejection.subject.what {
            What::Rule { .. } => {
                "this rule needs an nf_tables expression that is neither built into this kernel nor \
                 available as a module (ct, fib, log, limit, reject)"
            }
            _ => "a part of nf_tables is neither built into this kernel nor available as a module",
        };
        diagnostic = diagnostic.help(help);
    }
    diagnostic
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Subject;
    use crate::ruleset::Origin;

    #[test]
    fn a_rejection_of_the_kernel_is_shown_at_the_line_behind_it() {
        let mut sources =
            SourceMap::in_memory([("dir/web.yaml", "default: deny\nports:\n  80: any\n")]);
        let files = crate::store::read_policies(&mut sources, "dir".as_ref()).unwrap();
        let rejection = Rejection {
            subject: Subject {
                what: What::Rule {
                    chain: "port-80-tcp".to_owned(),
                    text: "counter accept".to_owned(),
                },
                origin: Origin::parse("web.yaml:3"),
            },
            errno: rustix::io::Errno::NOENT.raw_os_error(),
            text: None,
        };
        let shown = crate::output::diagnostic::render(
            &rejected(&rejection, &sources, &files),
            &sources,
            false,
        );
        for part in [
            "error[kernel-rejected]: the kernel rejected a rule of chain port-80-tcp: counter accept: No such file",
            "dir/web.yaml:3:",
            "3 |   80: any",
            "help: this rule needs an nf_tables expression",
        ] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
    }
}
