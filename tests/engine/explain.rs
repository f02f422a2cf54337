//! What `dfw explain` says of a packet, held against what becomes of it.

use std::net::SocketAddr;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::Named;
use crate::support::doors::{
    DIRECT, HOST_NETWORK, POLICY, PROXY, PROXY_UNNAMED, PUBLISHED, PUBLISHED_UNNAMED, PUBLISHED_V6,
};
use crate::support::lab::Lab;
use crate::support::probe::{Outcome, PATIENCE, SILENCE, Transport};
use crate::support::table::Row;

pub(crate) const TRIALS: &[Named] = &[("explain::tells_what_becomes_of_packets", packets)];

/// Those who ask with one address of each family.
const CLIENTS: [&str; 4] = ["trusted", "neighbour", "stranger", "office"];

fn packets(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    let tables = [
        PUBLISHED,
        PUBLISHED_UNNAMED,
        PUBLISHED_V6,
        PROXY,
        PROXY_UNNAMED,
        HOST_NETWORK,
        DIRECT,
    ];
    let questions: Vec<Question> = tables
        .into_iter()
        .flatten()
        .flat_map(|row| CLIENTS.map(|who| Question { who, row }))
        .filter(Question::is_asked)
        .collect();
    // Each answer takes a process and a look at the engine: a few at once. Who is refused waits for
    // nothing but time: all at once.
    let told = at_once(&questions, 4, |question| question.told(lab))?;
    let both: Vec<(&Question, &Value)> = questions.iter().zip(&told).collect();
    let found = at_once(&both, both.len(), |(question, told)| {
        question.found(lab, told)
    })?;
    let wrong: Vec<String> = questions
        .iter()
        .zip(told.iter().zip(&found))
        .filter(|(_, (told, found))| allows(told) != (**found == Outcome::Open))
        .map(|(question, (told, found))| {
            format!(
                "{} finds {} {found}, but: {told}",
                question.who, question.row.to
            )
        })
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(told.iter().all(|told| told["published"] == true));
    Ok(())
}

/// A client of a row.
struct Question {
    who: &'static str,
    row: &'static Row,
}

impl Question {
    fn is_asked(&self) -> bool {
        let named = |list: &str| list.split_whitespace().any(|name| name == self.who);
        named(self.row.open) || named(self.row.closed)
    }

    /// What `explain` says.
    fn told(&self, lab: &Lab) -> Result<Value> {
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
        let told = lab.dfw(&["--json", "explain", "--from", &from, "--to", &to])?;
        serde_json::from_slice(&told.stdout).with_context(|| format!("{told:?}"))
    }

    /// What the client finds.
    fn found(&self, lab: &Lab, told: &Value) -> Result<Outcome> {
        let patience = if allows(told) { PATIENCE } else { SILENCE };
        lab.client(self.who)?
            .ask(lab.target(self.row.to)?, patience)
    }
}

fn allows(told: &Value) -> bool {
    told["verdict"] == "allow"
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
