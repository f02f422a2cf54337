//! `dfw audit`: shows who can reach published ports, and which policy line allows it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::analysis::audit::{Admits, Exposure, Report, audit};
use crate::analysis::judgement::Reason;
use crate::analysis::surroundings::Surroundings;
use crate::analysis::unfetched::doubt_exposures;
use crate::cli::arguments::{self, BundleArgs, DEFAULT_PATH, EngineArgs};
use crate::cli::commands::guard::default_socket;
use crate::cli::load::load;
use crate::cli::page_file::{self, Destination, Page};
use crate::cli::report::engines;
use crate::cli::report::failure::Failure;
use crate::cli::report::grants;
use crate::cli::report::notice::exposed_databases;
use crate::cli::report::problems::Problems;
use crate::cli::report::stale::Stale;
use crate::guard;
use crate::host::engine::Engine;
use crate::kernel::ForeignBaseChain;
use crate::kernel::Kernel;
use crate::nftables::object::{family_name, shares_hook};
use crate::output::diagnostic::to_json;
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::page;
use crate::page::audit::{Conclusion, decided_by, open_to, shown};
use crate::ruleset::{Hook, Ruleset};
use crate::site::{HostFacts, Sockets, legacy_tables};
use crate::text::SourceMap;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted::{self, clean};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct AuditArgs {
    /// Audit as if this policy were in force
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = DEFAULT_PATH)]
    policy: Option<PathBuf>,
    /// Also write a page with a picture; `-` for stdout
    ///
    /// One file, without scripts, for a browser or a printer. It has all that the text has, and how many
    /// addresses of IPv4 and IPv6 get in.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    html: Option<Destination>,
    /// Also write the picture alone; `-` for stdout
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    svg: Option<Destination>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    bundle: BundleArgs,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &AuditArgs) -> Result<(), Failure> {
    let (policy, engine) = (args.policy.as_deref(), &args.engine);
    let location = policy.map(|path| args.bundle.to_show(path)).transpose()?;
    let loaded = location
        .map(|location| load(terminal, &location))
        .transpose()?;
    let found = HostFacts::find(&engine.ask(), Sockets::All)?;
    let kernel = Kernel::open()?;
    let has_page = args.html.is_some() || args.svg.is_some();
    let snapshot = if has_page {
        kernel.snapshot()?
    } else {
        // Elements of long lists are not read, which is slow: an untrusted client is in none of them.
        kernel.survey_shared()?
    };
    let (problems, ruleset): (Problems, Option<Ruleset>) = if let Some(loaded) = &loaded {
        (Problems::default(), Some(loaded.compile(&found.host)))
    } else {
        let problems = Problems::of(snapshot.installed.as_ref());
        let in_force = snapshot.installed.filter(|_| !problems.dormant);
        (problems, in_force.map(|table| table.ruleset))
    };
    let around = found.surroundings(&snapshot.foreign_chains);
    let mut report = audit(&found.host, &around, ruleset.as_ref());
    let full = loaded.as_ref();
    if let Some(full) = full.and_then(|loaded| loaded.compile_full(&found.host)) {
        doubt_exposures(&mut report, &audit(&found.host, &around, Some(&full)));
    }
    let beside = Beside {
        flowtables: kernel.flowtables()?,
        xdp: found
            .links
            .iter()
            .filter(|link| link.xdp)
            .map(|link| clean(&link.name))
            .collect(),
        denying: snapshot.foreign_chains.into_iter().filter(denies).collect(),
        legacy: !legacy_tables().v4.is_empty() || !legacy_tables().v6.is_empty(),
    };
    let stale = match &loaded {
        Some(loaded) => Stale::of_policy(&loaded.policy, &arguments::cache()),
        None => match guard::ask(&default_socket()) {
            guard::Answer::Status(status) => Stale::of_guard(&status),
            _ => Vec::new(),
        },
    };
    let unasked = engines::unasked(&found.host);
    let mut notices = engines::unanswered(&found);
    let is_unknown = !found.unanswered.is_empty()
        || unasked.iter().any(engines::is_unknown)
        || !found.host.traces_of_engines().is_empty();
    notices.extend(unasked);
    notices.extend(exposed_databases(&report));
    terminal.diagnostics(&notices, &SourceMap::new());
    let audit = Audit {
        found: &found,
        report: &report,
        beside: &beside,
        problems: &problems,
        ruleset: ruleset.as_ref(),
        is_unknown,
        notices: &notices,
        stale: &stale,
    };
    let page = if has_page {
        let page = audit.page(&around, ruleset.as_ref(), policy);
        let html = args
            .html
            .as_ref()
            .map(|to| Page::new("--html", to, page.html()));
        let svg = args
            .svg
            .as_ref()
            .map(|to| Page::new("--svg", to, page.svg()));
        page_file::write(
            terminal,
            PRIVATE,
            None,
            html.into_iter().chain(svg).collect(),
        )?
    } else {
        None
    };
    let text = || page.unwrap_or_else(|| audit.text(terminal));
    terminal.answer(|| audit.document(), text)?;
    if report.uncovered().next().is_some() {
        Err(Failure::Exposed)
    } else if audit.is_complete() {
        Ok(())
    } else {
        Err(Failure::Incomplete)
    }
}

/// The mode of a page: only who may ask an engine knows the names of its containers.
const PRIVATE: u32 = 0o600;

/// An audit with the data it was computed from.
struct Audit<'a> {
    found: &'a HostFacts,
    report: &'a Report,
    beside: &'a Beside,
    problems: &'a Problems,
    /// The rules in force, or those of the policy.
    ruleset: Option<&'a Ruleset>,
    /// Whether an engine was not queried or does not answer.
    is_unknown: bool,
    notices: &'a [Diagnostic],
    /// The fetched sources that are stale, if there is a policy or a guard that knows.
    stale: &'a [Stale],
}

/// Other filters on this host that can drop packets, too.
struct Beside {
    flowtables: Vec<String>,
    xdp: Vec<String>,
    denying: Vec<ForeignBaseChain>,
    legacy: bool,
}

/// Returns whether the chain can drop packets that dfw accepts.
fn denies(chain: &ForeignBaseChain) -> bool {
    /// `NF_INET_PRE_ROUTING` of `linux/netfilter.h`, where dfw has no chain.
    const PREROUTING: u32 = 0;
    let is_ip = ["ip", "ip6", "inet"].contains(&family_name(chain.family));
    chain.kind == "filter"
        && !chain.accepts
        && (is_ip && chain.hook == PREROUTING
            || [Hook::Forward, Hook::Input]
                .iter()
                .any(|hook| shares_hook(chain.family, chain.hook, *hook)))
}

impl Audit<'_> {
    /// Returns whether every published port is known and evaluated, and the table is unmodified.
    fn is_complete(&self) -> bool {
        !self.is_unknown && self.problems.is_empty() && self.unjudged().is_empty()
    }

    /// Returns a line for each kind of traffic that bypasses dfw's chains.
    fn unjudged(&self) -> Vec<String> {
        let (report, beside) = (self.report, self.beside);
        let mut lines = Vec::new();
        // A service that no key covers is none of dfw's.
        let unknown = Admits::NotJudged(Reason::UnknownList);
        let services = report.services.iter().filter(|it| it.admits == unknown);
        for exposure in report.exposures.iter().chain(services) {
            if let Admits::NotJudged(reason) = exposure.admits {
                lines.push(format!(
                    "{} by {}: {reason}",
                    exposure.path.port_text(),
                    exposure.path.kind_text()
                ));
            }
        }
        lines.extend(report.unjudged.iter().map(|network| {
            format!(
                "{} network {} ({}): its packets bypass the hooks of dfw's chains",
                network.driver,
                network.network,
                network.containers.join(", ")
            )
        }));
        lines.extend(self.found.host.bridge_ports().map(|(bridge, card)| {
            format!(
                "packets from {} within bridge {}",
                clean(card),
                clean(bridge)
            )
        }));
        let xdp = beside.xdp.iter();
        lines.extend(xdp.map(|link| format!("packets that the XDP program of {link} redirects")));
        lines.extend(beside.flowtables.iter().map(|table| {
            format!("connections offloaded by the flowtable of table {table}, which bypass the forward hook")
        }));
        lines
    }

    fn text(&self, terminal: Terminal) -> String {
        let mut text = self.problems.text(terminal) + &grants::text(terminal, self.ruleset);
        let Self {
            found,
            report,
            beside,
            ..
        } = self;
        for engine in &found.host.engines {
            let _ = writeln!(text, "engine: {}", describe(engine));
        }
        if found.host.engines.is_empty() {
            text.push_str("engine: none found\n");
        }
        if self.ruleset.is_none() {
            let _ = writeln!(text, "dfw: no rules are in force");
        }
        for (heading, exposures) in [
            ("CONTAINER", &report.exposures),
            ("SERVICE", &report.services),
        ] {
            if !exposures.is_empty() {
                text.push_str(&terminal.table(&rows(heading, exposures)));
            }
        }
        text.push_str(&others(report, beside));
        for stale in self.stale {
            text.push_str(&stale.line(terminal));
        }
        for line in self.unjudged() {
            let _ = writeln!(text, "not judged: {line}");
        }
        text.push_str(&self.end(terminal));
        text
    }

    /// Returns the conclusion and what to do next.
    fn end(&self, terminal: Terminal) -> String {
        let Conclusion {
            tone,
            word,
            text,
            next,
        } = self.conclusion();
        let next = next.map_or_else(String::new, |next| format!("next: {next}\n"));
        format!("{}: {text}\n{next}", terminal.paint(tone, word))
    }

    fn conclusion(&self) -> Conclusion {
        let uncovered = self.report.uncovered().count();
        if uncovered > 0 {
            return Conclusion {
                tone: Tone::Bad,
                word: "exposed",
                text: format!(
                    "{} open to everyone without a policy entry",
                    count(uncovered, "path is", "paths are")
                ),
                next: Some(if self.ruleset.is_some() {
                    "add these ports to the policy (`[]` allows nobody) and run `dfw apply`"
                } else {
                    "`dfw init --allow ADDRESS` writes a first policy from the published ports"
                }),
            };
        }
        let (tone, word, text) = if self.is_unknown {
            let text =
                "an engine was not queried or does not answer, so its published ports are unknown";
            (Tone::Warning, "incomplete", text)
        } else if !self.problems.is_empty() {
            let text = "dfw's table was modified by another program";
            (Tone::Warning, "incomplete", text)
        } else if !self.is_complete() {
            let text = "some paths are not judged";
            (Tone::Warning, "incomplete", text)
        } else if self.found.host.engines.is_empty() {
            let text = "no container engine was found";
            (Tone::Warning, "nothing to audit", text)
        } else {
            let text = "no published port is open to everyone without a policy entry";
            (Tone::Good, "covered", text)
        };
        Conclusion {
            tone,
            word,
            text: text.to_owned(),
            next: None,
        }
    }

    /// Returns what a page shows. Every source is judged, so the elements of all sets must have been read.
    fn page(
        &self,
        around: &Surroundings,
        ruleset: Option<&Ruleset>,
        policy: Option<&Path>,
    ) -> page::audit::Audit {
        let Self { found, report, .. } = self;
        let rules = match (policy, self.ruleset.is_some()) {
            (Some(path), _) => format!("As if {} were in force", untrusted::path(path)),
            (None, true) => "With the rules in force".to_owned(),
            (None, false) => "No rules of dfw are in force".to_owned(),
        };
        let now = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC");
        let notices = self.notices.iter().map(|notice| notice.message.clone());
        let unseen = notices.chain(self.problems.lines()).chain(self.unjudged());
        let node = rustix::system::uname();
        page::audit::Audit {
            host: shown(&node.nodename().to_string_lossy()),
            time: now.to_string(),
            rules: shown(&rules),
            is_filtered: self.ruleset.is_some(),
            conclusion: self.conclusion(),
            engines: found
                .host
                .engines
                .iter()
                .map(|engine| shown(&describe(engine)))
                .collect(),
            unseen: unseen.map(|line| shown(&line)).collect(),
            notes: others(report, self.beside)
                .lines()
                .map(str::to_owned)
                .chain(self.stale.iter().map(Stale::sentence))
                .map(|line| shown(&line))
                .collect(),
            ports: page::audit::ports(&report.exposures, around, ruleset),
            services: page::audit::ports(&report.services, around, ruleset),
        }
    }
}

/// Returns the rows of a table, heading first.
fn rows(heading: &str, exposures: &[Exposure]) -> Vec<[String; 5]> {
    let mut rows = vec![["PORT", heading, "PATH", "OPEN TO", "BY"].map(str::to_owned)];
    for exposure in exposures {
        let [port, title, path, open, by] = row(exposure);
        match rows.last_mut() {
            // Another path to the same port, open to the same sources.
            Some([p, t, paths, o, b]) if (&*p, &*t, &*o, &*b) == (&port, &title, &open, &by) => {
                paths.push_str("; ");
                paths.push_str(&path);
            }
            _ => rows.push([port, title, path, open, by]),
        }
    }
    rows
}

/// Returns the lines below the table: unpublished ports and other filters.
fn others(report: &Report, beside: &Beside) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for port in &report.unused {
        say(format!("not published: {port}, which has a policy entry"));
    }
    for chain in &beside.denying {
        say(format!(
            "may still be dropped: table {} {}, chain {}, priority {}, drops by default",
            family_name(chain.family),
            chain.table,
            chain.chain,
            chain.priority
        ));
    }
    if beside.legacy {
        say("may still be dropped: by iptables-legacy rules, which dfw cannot read".to_owned());
    }
    text
}

fn describe(engine: &Engine) -> String {
    let firewall = engine.firewall.as_ref();
    format!(
        "{} {}{} at {}",
        engine.kind.name(),
        engine.version,
        firewall.map_or_else(String::new, |name| format!(" with {name}")),
        engine.address
    )
}

fn row(exposure: &Exposure) -> [String; 5] {
    let path = &exposure.path;
    [
        path.port_text(),
        path.title.clone(),
        path.kind_text(),
        open_to(exposure),
        decided_by(exposure),
    ]
}

impl Audit<'_> {
    fn document(&self) -> Value {
        let sources = SourceMap::new();
        let Self {
            found,
            report,
            beside,
            ..
        } = self;
        let list = |exposures: &[Exposure]| exposures.iter().map(exposure).collect::<Vec<_>>();
        json!({
            "schema": "dfw/audit/v3",
            "engines": json::engines(&found.host),
            "guarded": self.ruleset.is_some(),
            "complete": self.is_complete(),
            "exposed": report.uncovered().next().is_some(),
            "problems": self.problems.json(),
            "grants": grants::json(self.ruleset),
            "paths": list(&report.exposures),
            "services": list(&report.services),
            "not_published": report.unused,
            "unjudged": {
                "networks": report
                    .unjudged
                    .iter()
                    .map(|network| json!({
                        "network": network.network,
                        "driver": network.driver,
                        "containers": network.containers,
                    }))
                    .collect::<Vec<_>>(),
                "bridges": found
                    .host
                    .bridge_ports()
                    .map(|(bridge, card)| json!({"bridge": bridge, "interface": card}))
                    .collect::<Vec<_>>(),
                "xdp": beside.xdp,
                "flowtables": beside.flowtables,
            },
            "may_still_drop": beside
                .denying
                .iter()
                .map(|chain| json!({
                    "family": family_name(chain.family),
                    "table": chain.table,
                    "chain": chain.chain,
                    "priority": chain.priority,
                }))
                .collect::<Vec<_>>(),
            "iptables_legacy": beside.legacy,
            "stale_sources": self.stale.iter().map(Stale::json).collect::<Vec<_>>(),
            "warnings": self.notices.iter().map(|n| to_json(n, &sources)).collect::<Vec<_>>(),
        })
    }
}

fn exposure(exposure: &Exposure) -> Value {
    let path = &exposure.path;
    json!({
        "address": path.address,
        "port": path.port,
        "protocol": path.protocol.name(),
        "published_for": path.title,
        "path": path.kind.name(),
        "family": json::family(path.family()),
        "reach": path.reach.name(),
        "verdict": exposure.verdict().name(),
        "open_to": match &exposure.admits {
            Admits::Any => json!("any"),
            Admits::Some(who) => json!(who),
            Admits::Nobody => json!([]),
            Admits::NotJudged(_) => Value::Null,
        },
        "origin": exposure.origin.as_ref().map(ToString::to_string),
        "limits": json::limits(exposure.limits),
    })
}
