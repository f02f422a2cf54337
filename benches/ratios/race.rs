//! Contenders that do the same work, one after the other, round by round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use crate::cost::{Cost, Work};
use crate::support::command::{output, program};
use crate::support::janitor::Ledger;
use crate::support::netns::Namespace;

/// What is made ready in a namespace before the work, and not measured.
type Prepare<'a> = Box<dyn Fn(&Namespace) -> Result<()> + 'a>;

/// One of those who do the work.
pub(crate) struct Contender<'a> {
    name: &'static str,
    prepare: Option<Prepare<'a>>,
    work: Work,
    /// How often at most; some are so slow that once must do.
    rounds: usize,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: &'static str, work: Work) -> Self {
        Self {
            name,
            prepare: None,
            work,
            rounds: usize::MAX,
        }
    }

    pub(crate) fn after(mut self, prepare: impl Fn(&Namespace) -> Result<()> + 'a) -> Self {
        self.prepare = Some(Box::new(prepare));
        self
    }

    /// Does the work once, in a namespace.
    pub(crate) fn run(&self, namespace: &Namespace) -> Result<Cost> {
        if let Some(prepare) = &self.prepare {
            prepare(namespace)?;
        }
        self.work.measure(namespace)
    }

    pub(crate) fn at_most(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }
}

/// The median of what a contender needed for some work.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) contender: &'static str,
    pub(crate) rounds: usize,
    #[serde(flatten)]
    pub(crate) cost: Cost,
}

/// What a race said, by contender.
pub(crate) type Medians = BTreeMap<&'static str, Cost>;

/// Where races are run, and what they said.
pub(crate) struct Track {
    ledger: Ledger,
    number: u32,
    /// How often each contender runs.
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Row>,
}

impl Track {
    pub(crate) fn open(rounds: usize) -> Result<Self> {
        Ok(Self {
            ledger: Ledger::open()?,
            number: 0,
            rounds,
            rows: Vec::new(),
        })
    }

    /// Where files for the contenders are.
    pub(crate) fn dir(&self) -> &Path {
        self.ledger.dir()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Works in namespaces that are new and gone afterwards.
    pub(crate) fn inside<const N: usize, T>(
        &mut self,
        work: impl FnOnce(&[Namespace; N]) -> Result<T>,
    ) -> Result<T> {
        let mut names = Vec::new();
        for _ in 0..N {
            self.number += 1;
            names.push(format!("{}-{}", self.ledger.prefix(), self.number));
        }
        let made: Result<Vec<Namespace>> = names.iter().map(|n| Namespace::create(n)).collect();
        let made = <[Namespace; N]>::try_from(made?);
        let done = work(&made.map_err(|_| anyhow!("as many as were asked for"))?);
        for name in names {
            output(program("ip").args(["netns", "delete", &name]))?;
        }
        done
    }

    /// Lets all contenders do the work in turn, `rounds` times, and notes their medians.
    pub(crate) fn race(&mut self, work: &str, contenders: &[Contender<'_>]) -> Result<Medians> {
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); contenders.len()];
        for round in 0..self.rounds {
            // Nobody is always the first.
            for turn in 0..contenders.len() {
                let at = (turn + round) % contenders.len();
                let contender = &contenders[at];
                if costs[at].len() >= contender.rounds {
                    continue;
                }
                let cost = self.inside(|[namespace]| contender.run(namespace));
                costs[at].push(cost.with_context(|| format!("{work}: {}", contender.name))?);
            }
        }
        let mut medians = Medians::new();
        for (contender, costs) in contenders.iter().zip(costs) {
            let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part).collect());
            let cost = Cost {
                cpu: of(|c| c.cpu),
                wall: of(|c| c.wall),
                peak: of(|c| c.peak),
            };
            self.note(work, contender.name, costs.len(), cost);
            medians.insert(contender.name, cost);
        }
        Ok(medians)
    }

    pub(crate) fn note(&mut self, work: &str, contender: &'static str, rounds: usize, cost: Cost) {
        eprintln!(
            "{work:<42} {contender:<18} {:>12.5} ms {:>8.1} MiB",
            cost.cpu, cost.peak
        );
        self.rows.push(Row {
            work: work.to_owned(),
            contender,
            rounds,
            cost,
        });
    }
}

/// The middle one; of an even number the lower of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get((values.len().max(1) - 1) / 2)
        .copied()
        .unwrap_or(f64::NAN)
}
