//! The metrics of guard in the Prometheus text format, version 0.0.4, and the file for the textfile collector
//! of the node exporter.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::analysis::traffic::{Held, Packets, held, packets};
use crate::file;
use crate::plan::Installed;
use crate::ruleset::Counter;

use crate::guard::feeds::sources::Source;
use crate::guard::record::Record;
use crate::guard::site::Report;

/// The interval at which the file is written, if it is enabled.
const EVERY: Duration = Duration::from_secs(15);

/// The file.
#[derive(Debug, Clone)]
pub(in crate::guard) struct Metrics {
    path: PathBuf,
    next: Instant,
    /// Whether the file is to be written after the next read of counters.
    waiting: bool,
    /// Whether temporary files of an earlier guard were deleted.
    swept: bool,
}

impl Metrics {
    pub(in crate::guard) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            next: Instant::now(),
            waiting: false,
            swept: false,
        }
    }

    /// Defers the write until counters are read.
    pub(in crate::guard) fn wait(&mut self) {
        self.waiting = true;
    }

    /// Returns whether a write was deferred, and clears it.
    pub(in crate::guard) fn is_waiting(&mut self) -> bool {
        std::mem::take(&mut self.waiting)
    }

    /// Returns a closure that replaces the file atomically.
    pub(in crate::guard) fn write(
        &mut self,
        text: String,
    ) -> Box<dyn FnOnce() -> io::Result<()> + Send> {
        let swept = std::mem::replace(&mut self.swept, true);
        let path = self.path.clone();
        // The mode lets a collector without privileges read it.
        Box::new(move || {
            if !swept {
                file::sweep(&path);
            }
            file::replace(&path, 0o644, text.as_bytes())
        })
    }

    /// Returns the time of the next write.
    pub(in crate::guard) fn next(&self) -> Instant {
        self.next
    }

    /// Returns whether a write is due, and schedules the next one.
    pub(in crate::guard) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + EVERY;
        }
        due
    }
}

/// Returns the metrics of the rules, by port.
pub(in crate::guard) fn ports(installed: Option<&Installed>) -> String {
    let mut text = String::new();
    let ports = installed.map(packets).unwrap_or_default();
    for (unit, of) in [
        ("packets", (|c| c.packets) as fn(Counter) -> u64),
        ("bytes", |c| c.bytes),
    ] {
        let help = format!("{unit} accepted or denied, by port.");
        let name = format!("dfw_port_{unit}_total");
        head(&mut text, &name, "counter", &help);
        for (port, Packets { allowed, denied }) in &ports {
            for (verdict, counter) in [("allowed", allowed), ("denied", denied)] {
                let value = of(*counter);
                let _ = writeln!(
                    text,
                    "{name}{{port=\"{port}\",verdict=\"{verdict}\"}} {value}"
                );
            }
        }
    }
    text + &limits(&installed.map(held).unwrap_or_default())
}

/// Returns the metrics of the limits of ports.
fn limits(limits: &[Held]) -> String {
    let mut text = String::new();
    let sources = |held: &Held| held.sources.map(u64::from);
    let full = |held: &Held| held.sources.map(|_| u64::from(held.is_full()));
    let unlimited = |held: &Held| Some(held.unlimited.packets);
    for (name, kind, help, value) in [
        (
            "dfw_limit_sources",
            "gauge",
            "Sources that a limit of a port holds.",
            &sources as &dyn Fn(&Held) -> Option<u64>,
        ),
        (
            "dfw_limit_full",
            "gauge",
            "1 if a limit holds all the sources that it can; others are not limited.",
            &full,
        ),
        (
            "dfw_limit_unlimited_total",
            "counter",
            "Connections that were not limited as the limit was full.",
            &unlimited,
        ),
    ] {
        if !limits.is_empty() {
            head(&mut text, name, kind, help);
        }
        for held in limits {
            let (port, limit, family) = (&held.port, held.limit, held.family.name());
            if let Some(value) = value(held) {
                let _ = writeln!(
                    text,
                    "{name}{{port=\"{port}\",limit=\"{limit}\",family=\"{family}\"}} {value}"
                );
            }
        }
    }
    text
}

/// Returns the metrics of guard itself.
pub(in crate::guard) fn totals(in_force: bool, reads: u64, record: &Record) -> String {
    let mut text = String::new();
    let seconds = record.applied.map_or(0, Timestamp::as_second);
    let flag = |is: bool| i64::from(is);
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mistakes = i64::try_from(record.mistakes.count()).unwrap_or(i64::MAX);
    for (name, kind, help, value) in [
        (
            "dfw_table_in_force",
            "gauge",
            "1 if dfw's table exists in the kernel.",
            flag(in_force),
        ),
        (
            "dfw_table_owned",
            "gauge",
            "1 if only guard can modify the table (table owner, Linux 6.9).",
            flag(record.owned),
        ),
        (
            "dfw_repairs_total",
            "counter",
            "Restores after another program modified the table.",
            count(record.repairs),
        ),
        (
            "dfw_changes_total",
            "counter",
            "Changes that guard has made to the table, restores included.",
            count(record.changes),
        ),
        (
            "dfw_last_change_timestamp_seconds",
            "gauge",
            "Time of the last change.",
            seconds,
        ),
        (
            "dfw_metrics_reads_total",
            "counter",
            "Reads of the table for these metrics.",
            count(reads),
        ),
        (
            "dfw_policy_errors",
            "gauge",
            "Errors in the policy files; files with errors are not applied.",
            mistakes,
        ),
        (
            "dfw_failing",
            "gauge",
            "1 if the last attempt to apply the policies failed.",
            flag(record.failure.is_some()),
        ),
        (
            "dfw_grants",
            "gauge",
            "Grants in force.",
            i64::try_from(record.grants).unwrap_or(i64::MAX),
        ),
    ] {
        head(&mut text, name, kind, help);
        let _ = writeln!(text, "{name} {value}");
    }
    text + &sources(&record.sources) + &record.site.as_ref().map_or_else(String::new, site)
}

/// Returns the metrics of a site that is followed.
fn site(site: &Report) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "dfw_site_generation",
            "gauge",
            "Generation of the site in force; absent if there is none.",
            site.generation,
        ),
        (
            "dfw_site_serial",
            "gauge",
            "Serial of the last head of the site that was accepted.",
            site.serial,
        ),
        (
            "dfw_site_stale",
            "gauge",
            "1 if the last head of the site that was accepted has expired.",
            Some(site.is_stale.into()),
        ),
        (
            "dfw_site_failures_total",
            "counter",
            "Attempts to fetch the bundle of the site that failed.",
            Some(site.failures),
        ),
    ] {
        if let Some(value) = value {
            head(&mut text, name, kind, help);
            let _ = writeln!(text, "{name} {value}");
        }
    }
    head(
        &mut text,
        "dfw_site_info",
        "gauge",
        "State of the site, and the manifest in force, as labels.",
    );
    let manifest = site.manifest.map(|digest| digest.to_string());
    let (state, manifest) = (site.state, manifest.unwrap_or_default());
    let _ = writeln!(
        text,
        "dfw_site_info{{state=\"{state}\",manifest=\"{manifest}\"}} 1"
    );
    text
}

/// Returns the metrics of fetched sources.
fn sources(sources: &[Source]) -> String {
    let mut text = String::new();
    let age = |source: &Source| source.age().map(|age| age.as_secs());
    let failures = |source: &Source| Some(source.failures());
    let entries = |source: &Source| u64::try_from(source.entries).ok();
    let unused = |source: &Source| Some(u64::from(source.unused.is_some()));
    for (name, kind, help, value) in [
        (
            "dfw_source_age_seconds",
            "gauge",
            "Time since a source was fetched; absent if it never was.",
            &age as &dyn Fn(&Source) -> Option<u64>,
        ),
        (
            "dfw_source_failures_total",
            "counter",
            "Attempts to fetch a source that failed.",
            &failures,
        ),
        (
            "dfw_source_entries",
            "gauge",
            "Entries of a fetched source in force.",
            &entries,
        ),
        (
            "dfw_source_unused",
            "gauge",
            "Whether the list that was fetched last is not used.",
            &unused,
        ),
    ] {
        if !sources.is_empty() {
            head(&mut text, name, kind, help);
        }
        for source in sources {
            if let Some(value) = value(source) {
                let _ = writeln!(text, "{name}{{source=\"{}\"}} {value}", source.name);
            }
        }
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::SetState;

    #[test]
    fn every_value_has_a_head_and_a_number() {
        let record = Record {
            repairs: 3,
            ..Record::default()
        };
        let text = ports(Some(&Installed::default())) + &totals(true, 1, &record);
        assert!(text.contains("\ndfw_repairs_total 3\n"));
        assert!(text.contains("dfw_port_bytes_total{port=\"all others\",verdict=\"denied\"} 0\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<i64>().is_ok(), "{line}");
            let name = name.split('{').next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
        }
    }

    #[test]
    fn a_full_limit_is_reported() {
        let mut installed = Installed::default();
        let facts = |added| SetState {
            size: Some(2),
            added,
            ..SetState::default()
        };
        let sets = [
            ("port-80-tcp.rate.ip4", facts(Some(2))),
            ("port-80-tcp.connections.ip6", facts(Some(1))),
            ("port-80-tcp.allow.ip4", facts(None)),
        ];
        let sets = sets.map(|(name, facts)| (name.to_owned(), facts));
        installed.facts.sets.extend(sets);
        let text = ports(Some(&installed));
        let rate = "{port=\"80/tcp\",limit=\"rate\",family=\"ipv4\"}";
        let open = "{port=\"80/tcp\",limit=\"connections\",family=\"ipv6\"}";
        for (metric, rate_is, open_is) in [
            ("dfw_limit_sources", 2, 1),
            ("dfw_limit_full", 1, 0),
            ("dfw_limit_unlimited_total", 0, 0),
        ] {
            assert!(text.contains(&format!("{metric}{rate} {rate_is}\n")));
            assert!(text.contains(&format!("{metric}{open} {open_is}\n")));
        }
        assert_eq!(text.matches("dfw_limit_full{").count(), 2);
        assert!(!ports(None).contains("dfw_limit"));
    }
}
