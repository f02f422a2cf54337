//! Compares the answers of `dfw explain` with real packets: whether they arrive,
//! and which rule lets them, by its counter.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::command::output;
use super::lab::Lab;
use super::probe::{Outcome, PATIENCE, SILENCE, Transport};
use super::property::seed;
use super::table::Row;

/// Those who ask with one address of each family.
const CLIENTS: [&str; 4] = ["trusted", "neighbour", "stranger", "office"];

/// Asks `explain` about every row, and tries it: for every client, or by chance for one who may and one who
/// must not.
pub(crate) fn agrees(
    lab: &Lab,
    rows: impl Iterator<Item = &'static Row>,
    is_whole: bool,
) -> Result<()> {
    let sample = if is_whole { None } else { Some(seed()?) };
    if let Some(seed) = sample {
        eprintln!("DFW_SEED={seed}");
    }
    let questions: Vec<Question> = rows
        .filter(|row| is_asked_about(lab, row))
        .flat_map(|row| [row.open, row.closed].map(|names| questions(row, names, sample)))
        .flatten()
        .collect();
    ensure!(!questions.is_empty(), "no questions");
    // Each answer takes a process and a look at the engine: a few at once.
    let report = at_once(&questions, 4, |question| question.report(lab))?;
    let both: Vec<(&Question, &Value)> = questions.iter().zip(&report).collect();
    let (open, closed): (Vec<_>, Vec<_>) = both.into_iter().partition(|(_, report)| allows(report));
    // Who is refused waits for nothing but time: all at once.
    let found = at_once(&closed, closed.len(), |(question, _)| {
        question.found(lab, SILENCE)
    })?;
    let mut wrong: Vec<String> = closed
        .iter()
        .zip(found)
        .filter(|(_, found)| *found == Outcome::Open)
        .map(|((question, report), found)| question.wrong(found, report))
        .collect();
    // One after the other, so that each counter is moved by one question.
    for (question, report) in open {
        let before = accepted(lab)?;
        let found = question.found(lab, PATIENCE)?;
        let after = accepted(lab)?;
        let moved = |chain: &str| after.get(chain) > before.get(chain);
        let mut chains = open_paths(report).filter_map(deciding_chain).peekable();
        // A path of which dfw has nothing to say has no counter.
        let counted = chains.peek().is_none() || chains.any(moved);
        // An engine that keeps the port connects and says nothing.
        let held = open_paths(report).all(|path| path["path"] == "held");
        let expected = if held { Outcome::Mute } else { Outcome::Open };
        if found != expected || !counted {
            wrong.push(question.wrong(found, report));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Loopback addresses are no ports of the host to ask about.
fn is_asked_about(lab: &Lab, row: &Row) -> bool {
    !lab.target(row.to)
        .is_ok_and(|target| target.address.is_loopback())
}

/// The clients of a row that are among these names: all, or one of them where there is a seed.
fn questions(row: &'static Row, names: &str, sample: Option<u64>) -> Vec<Question> {
    let is_among = |who: &&str| names.split_whitespace().any(|name| name == *who);
    let clients = CLIENTS.into_iter().filter(is_among);
    let mut all: Vec<_> = clients.map(|who| Question { who, row }).collect();
    if let (Some(seed), false) = (sample, all.is_empty()) {
        let mut hasher = DefaultHasher::new();
        (seed, row.what, row.to, names).hash(&mut hasher);
        let [first, ..] = hasher.finish().to_ne_bytes();
        all = vec![all.swap_remove(usize::from(first) % all.len())];
    }
    all
}

/// A client of a row.
struct Question {
    who: &'static str,
    row: &'static Row,
}

impl Question {
    /// What `explain` says.
    fn report(&self, lab: &Lab) -> Result<Value> {
        let target = lab.target(self.row.to)?;
        let family = if target.address.is_ipv4() { "" } else { "6" };
        let from = lab.address(&format!("{}{family}", self.who))?.to_string();
        let protocol = match target.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        let to = format!(
            "{}/{protocol}",
            SocketAddr::new(target.address, target.port)
        );
        let report = lab.dfw(&["--json", "explain", "--from", &from, "--to", &to])?;
        serde_json::from_slice(&report.stdout).with_context(|| format!("{report:?}"))
    }

    /// What the client finds.
    fn found(&self, lab: &Lab, patience: std::time::Duration) -> Result<Outcome> {
        lab.client(self.who)?
            .ask(lab.target(self.row.to)?, patience)
    }

    fn wrong(&self, found: Outcome, report: &Value) -> String {
        format!("{} finds {} {found}, but: {report}", self.who, self.row.to)
    }
}

fn allows(report: &Value) -> bool {
    report["verdict"] == "allow"
}

fn open_paths(report: &Value) -> impl Iterator<Item = &Value> {
    let paths = report["paths"].as_array().into_iter().flatten();
    paths.filter(|path| path["verdict"] == "allow")
}

/// The chain of a port whose rule lets the packet through.
fn deciding_chain(path: &Value) -> Option<&str> {
    let chain = path["steps"].as_array()?.last()?["chain"].as_str()?;
    ["port-", "host-"]
        .iter()
        .any(|kind| chain.starts_with(kind))
        .then_some(chain)
}

/// Returns the packets that the rules of each chain accepted.
fn accepted(lab: &Lab) -> Result<BTreeMap<String, u64>> {
    let mut command = lab.host()?.command("nft");
    let listing = output(command.args(["list", "table", "inet", "dfw-nft"]))?;
    let mut accepted = BTreeMap::new();
    let mut chain = String::new();
    for line in listing.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("chain ") {
            name.trim_end_matches(" {").clone_into(&mut chain);
        }
        if let Some((_, counter)) = line.split_once("counter packets ")
            && line.contains(" accept")
        {
            let packets = counter.split(' ').next().unwrap_or_default();
            *accepted.entry(chain.clone()).or_default() += packets.parse::<u64>()?;
        }
    }
    Ok(accepted)
}

/// Does the same for all, so many at once, and keeps the order.
fn at_once<T: Sync, R: Send>(
    all: &[T],
    width: usize,
    each: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let share = all.len().div_ceil(width.max(1)).max(1);
    let each = &each;
    thread::scope(|scope| {
        let shares: Vec<_> = all
            .chunks(share)
            .map(|share| scope.spawn(move || share.iter().map(each).collect::<Result<Vec<R>>>()))
            .collect();
        let mut done = Vec::new();
        for share in shares {
            done.extend(share.join().map_err(|_| anyhow!("a share panicked"))??);
        }
        Ok(done)
    })
}
