//! What an administrator sees of a site: each host with its state, the worst first, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::bundle::Digest;
use crate::bundle::word::Word;

use super::host::Host;
use super::members::Member;
use super::progress::{self, Progress};
use super::site::Snapshot;

/// How long a head must be valid still, in seconds: else it is said that it is to be renewed.
const SOON: u64 = 24 * 3600;

/// A site at one moment.
#[derive(Debug)]
pub struct Overview {
    /// The site.
    pub site: Word,
    /// The generation of the head.
    pub generation: Option<u64>,
    /// How many stages are open, and how many there are.
    pub open: Option<(u32, u32)>,
    /// Why the roll-out is stopped.
    pub stopped: Option<String>,
    /// The hosts, the worst first.
    pub rows: Vec<Row>,
    /// The members of the store.
    pub members: Vec<Member>,
    /// What is wrong beside the hosts, and what to do.
    pub problems: Vec<String>,
    document: Value,
}

/// A host in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// The state.
    pub state: String,
    /// The generation in force.
    pub generation: Option<u64>,
    /// The version of dfw.
    pub version: String,
    /// How long ago it said something, in seconds; `None` if it is not known.
    pub age: Option<u64>,
    /// Why, and what to do.
    pub note: String,
}

/// How bad the state of a host is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does not have the policies, and will not take them.
    Failed,
    /// Nothing is known of it.
    Silent,
    /// Something is to be looked at.
    Warned,
    /// It does not have the policies yet.
    Pending,
    /// It has them.
    Good,
}

impl Overview {
    /// Returns the overview of a site; `is_full` says whether the quota of the database was reached.
    #[must_use]
    pub fn of(site: &Word, snapshot: &Snapshot, members: Vec<Member>, is_full: bool) -> Self {
        let head = snapshot.head.as_ref().map(|head| &head.statement);
        let digest = head.map(|head| head.manifest);
        let mut rows: Vec<Row> = snapshot
            .hosts
            .values()
            .map(|host| row(host, digest.as_ref(), snapshot.now))
            .collect();
        let gone = snapshot
            .record
            .seen
            .iter()
            .filter(|(name, _)| !snapshot.hosts.contains_key(*name));
        rows.extend(gone.map(|(name, at)| silent(name, snapshot.now.saturating_sub(*at))));
        rows.sort_by(|a, b| (a.severity, &a.name).cmp(&(b.severity, &b.name)));
        let rollout = snapshot.rollout.as_ref();
        let stages = snapshot
            .manifest
            .as_ref()
            .map(|manifest| manifest.stages.len() + 1);
        let stages = stages.and_then(|stages| u32::try_from(stages).ok());
        let mut overview = Self {
            site: site.clone(),
            generation: head.map(|head| head.generation),
            open: rollout.map(|rollout| rollout.open).zip(stages),
            stopped: rollout.and_then(|rollout| rollout.stopped.clone()),
            rows,
            problems: problems(snapshot, &members, is_full),
            members,
            document: Value::Null,
        };
        overview.document = overview.to_json(snapshot);
        overview
    }

    /// Returns how many hosts there are of each severity.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Severity, usize> {
        let mut counts = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.severity).or_default() += 1;
        }
        counts
    }

    /// Returns whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let is_fine = |row: &Row| matches!(row.severity, Severity::Good | Severity::Pending);
        self.problems.is_empty() && self.stopped.is_none() && self.rows.iter().all(is_fine)
    }

    /// Returns the overview for programs; times are in seconds.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    fn to_json(&self, snapshot: &Snapshot) -> Value {
        let host = |row: &Row| {
            json!({
                "name": row.name,
                "severity": row.severity.name(),
                "state": row.state,
                "generation": row.generation,
                "version": row.version,
                "age": row.age,
                "note": row.note,
            })
        };
        let member = |member: &Member| {
            let state = member.state.as_ref();
            json!({
                "address": member.address,
                "version": state.map(|state| state.version.as_str()).ok(),
                "size": state.map(|state| state.size).ok(),
                "leader": state.map(|state| state.is_leader).ok(),
                "failure": state.err(),
            })
        };
        let head = snapshot.head.as_ref().map(|head| &head.statement);
        json!({
            "schema": "dfw/fleet-status/v1",
            "site": self.site,
            "generation": self.generation,
            "serial": head.map(|head| head.serial),
            "manifest": head.map(|head| head.manifest),
            "expires": head.map(|head| head.expires),
            "open": self.open.map(|(open, _)| open),
            "stages": self.open.map(|(_, stages)| stages),
            "stopped": self.stopped,
            "problems": self.problems,
            "hosts": self.rows.iter().map(host).collect::<Vec<_>>(),
            "members": self.members.iter().map(member).collect::<Vec<_>>(),
        })
    }

    /// Returns the metrics of a site in the text format of Prometheus. No label is the name of a host.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, help: &str, samples: &[(String, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{{site=\"{}\"{labels}}} {value}", self.site);
            }
        };
        let counts = self.counts();
        let hosts = Severity::ALL.map(|severity| {
            let count = counts.get(&severity).copied().unwrap_or_default();
            (
                format!(",state=\"{}\"", severity.name()),
                u64::try_from(count).unwrap_or(u64::MAX),
            )
        });
        add(
            "dfw_fleet_hosts",
            "Hosts of the site by how they are.",
            &hosts,
        );
        let number = |value: u64| [(String::new(), value)];
        add(
            "dfw_fleet_generation",
            "Generation that the head names; 0 if there is none.",
            &number(self.generation.unwrap_or_default()),
        );
        add(
            "dfw_fleet_stopped",
            "1 if the roll-out is stopped.",
            &number(self.stopped.is_some().into()),
        );
        let dead = self
            .members
            .iter()
            .filter(|member| member.state.is_err())
            .count();
        add(
            "dfw_fleet_members_silent",
            "Members of the store that do not answer.",
            &number(u64::try_from(dead).unwrap_or(u64::MAX)),
        );
        add(
            "dfw_fleet_problems",
            "Problems beside those of hosts.",
            &number(u64::try_from(self.problems.len()).unwrap_or(u64::MAX)),
        );
        text
    }
}

impl Severity {
    /// All of them, the worst first.
    pub const ALL: [Self; 5] = [
        Self::Failed,
        Self::Silent,
        Self::Warned,
        Self::Pending,
        Self::Good,
    ];

    /// Returns the name, for tables, programs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Silent => "silent",
            Self::Warned => "warned",
            Self::Pending => "pending",
            Self::Good => "good",
        }
    }
}

/// Returns the row of a host, with what to do about its state.
fn row(host: &Host, digest: Option<&Digest>, now: u64) -> Row {
    let age = now.saturating_sub(host.at);
    let reason = host.reason.clone().unwrap_or_default();
    let and = |advice: &str| match reason.as_str() {
        "" => advice.to_owned(),
        reason => format!("{reason}; {advice}"),
    };
    let is_done = digest.is_some_and(|digest| progress::of(host, digest) == Progress::Done);
    let (severity, note) = match host.state.as_str() {
        _ if host.is_unreadable() => (
            Severity::Failed,
            format!(
                "its status cannot be read: {reason}; look at that host, or remove its key from the store"
            ),
        ),
        _ if !host.is_live(now) => (
            Severity::Silent,
            "its lease is renewed, and it says nothing: look at dfw-fetch there".to_owned(),
        ),
        _ if host.is_failing => (
            Severity::Failed,
            "guard cannot bring the rules into force: `dfw status` there".to_owned(),
        ),
        "reverted" => (
            Severity::Failed,
            and("these policies cut it off: push others, or `dfw fleet rollback`"),
        ),
        "refused" => (Severity::Failed, and("correct the policies and push again")),
        "unsupported" => (Severity::Failed, and("install a newer dfw there")),
        "undecided" => (
            Severity::Failed,
            and("tried again when the store is reached; then `dfw fleet resume`"),
        ),
        "no-guard" => (Severity::Silent, "guard does not run there".to_owned()),
        "store-behind" => (Severity::Warned, and("the store was restored: push again")),
        "stale" => (
            Severity::Warned,
            "the head has expired: push again".to_owned(),
        ),
        _ if host.restored > 0 => (
            Severity::Warned,
            format!(
                "another program changed the rules {} times, and guard put them back",
                host.restored
            ),
        ),
        _ if is_done => (Severity::Good, String::new()),
        _ => (Severity::Pending, reason.clone()),
    };
    Row {
        name: host.name.to_string(),
        severity,
        state: host.state.clone(),
        generation: host.generation,
        version: host.version.clone(),
        age: (!host.is_unreadable()).then_some(age),
        note,
    }
}

/// Returns the row of a host that was seen and has no status any more.
fn silent(name: &Word, age: u64) -> Row {
    Row {
        name: name.to_string(),
        severity: Severity::Silent,
        state: "silent".to_owned(),
        generation: None,
        version: String::new(),
        age: Some(age),
        note: "its lease has ended: the host, its network or dfw-fetch is down; what was in force stays".to_owned(),
    }
}

/// Returns what is wrong beside the hosts, the worst first.
fn problems(snapshot: &Snapshot, members: &[Member], is_full: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if is_full {
        let text = "NOSPACE: the quota of the database is reached, and nothing can be written: `dfw fleet repair`";
        problems.push(text.to_owned());
    }
    for member in members {
        match &member.state {
            Err(reason) => problems.push(format!("{reason}: start that member, or replace it")),
            Ok(state) if !state.has_leader => {
                problems.push(format!("the member {} has no leader", member.address));
            }
            Ok(_) => {}
        }
    }
    problems.extend(snapshot.warnings.iter().cloned());
    let Some(head) = &snapshot.head else {
        problems.push("nothing was pushed yet: `dfw fleet push`".to_owned());
        return problems;
    };
    let expires = head.statement.expires.seconds();
    if expires <= snapshot.now {
        problems.push(format!(
            "the head expired at {}: push again",
            head.statement.expires
        ));
    } else if expires - snapshot.now < SOON {
        problems.push(format!(
            "the head expires at {}: push again",
            head.statement.expires
        ));
    }
    let behind = snapshot
        .hosts
        .values()
        .filter_map(|host| host.accepted)
        .max();
    if behind.is_some_and(|accepted| accepted > head.statement.generation) {
        problems.push("hosts have accepted later generations than the store has: it was restored from an older copy; push again".to_owned());
    }
    problems
}
