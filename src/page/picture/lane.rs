//! What is drawn of each port, or of several.

use crate::net::Family;
use crate::page::audit::{Port, Standing};

/// How many lanes there are, unless there are more groups.
const LANES: usize = 36;
/// After how many groups of clients those that are left are one for each standing.
const GROUPS: usize = 24;

/// What one lane shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) standing: Standing,
    /// The port, or how many.
    pub(super) port: String,
    pub(super) who: String,
    pub(super) counts: String,
    /// Each kind of path with its families.
    pub(super) paths: Vec<(&'static str, String)>,
    pub(super) title: String,
}

impl Lane {
    fn of(port: &Port) -> Self {
        let names = |families: &[Family]| {
            let names: Vec<&str> = families.iter().map(|family| family.title()).collect();
            names.join(", ")
        };
        let paths = port.paths.iter();
        let paths = paths.map(|(kind, families)| (kind.title(), names(families)));
        Self {
            standing: port.standing,
            port: port.port.clone(),
            who: port.who.clone(),
            counts: counts(port),
            paths: paths.collect(),
            title: port.title.clone(),
        }
    }

    /// One lane for many ports of a standing, with the same clients or with different ones.
    fn others(ports: &[&Port]) -> Option<Self> {
        let (first, rest) = ports.split_first()?;
        if rest.is_empty() {
            return Some(Self::of(first));
        }
        let mut titles: Vec<&str> = ports.iter().map(|port| port.title.as_str()).collect();
        titles.sort_unstable();
        titles.dedup();
        let title = match titles.len() {
            1 => first.title.clone(),
            many => format!("{many} containers"),
        };
        let is_same = |port: &&Port| same_sources(first, port);
        let (who, counts) = if rest.iter().all(is_same) {
            (first.who.clone(), counts(first))
        } else {
            let who = match first.standing {
                Standing::Exposed | Standing::Open => "everyone",
                Standing::NotJudged => "not judged",
                Standing::Restricted => "other listed sources",
                Standing::Closed => "nobody",
            };
            (who.to_owned(), "see the table".to_owned())
        };
        Some(Self {
            standing: first.standing,
            port: format!("{} more ports", ports.len()),
            who,
            counts,
            paths: Vec::new(),
            title,
        })
    }

    /// Returns whether the same clients have access on both.
    pub(super) fn has_clients_of(&self, other: &Self) -> bool {
        (self.standing, &self.who, &self.counts) == (other.standing, &other.who, &other.counts)
    }

    /// Returns whether both lead to the same container, and are as open.
    pub(super) fn has_container_of(&self, other: &Self) -> bool {
        (self.standing, &self.title) == (other.standing, &other.title)
    }

    /// Returns whether packets reach the container, or may reach it.
    pub(super) fn is_passable(&self) -> bool {
        self.standing != Standing::Closed
    }

    /// Returns the paths in one line.
    pub(super) fn path(&self) -> String {
        self.labels().join(", ")
    }

    /// Returns the paths in one line if it fits, or in two.
    pub(super) fn path_in(&self, fits: impl Fn(&str) -> bool) -> [String; 2] {
        let labels = self.labels();
        let whole = labels.join(", ");
        match (&self.paths[..], &labels[..]) {
            _ if fits(&whole) => [whole, String::new()],
            ([(kind, families)], _) => [(*kind).to_owned(), families.clone()],
            (_, [first, rest @ ..]) => [first.clone(), rest.join(", ")],
            (_, []) => [whole, String::new()],
        }
    }

    /// A text for each kind of path.
    fn labels(&self) -> Vec<String> {
        let paths = self.paths.iter();
        paths
            .map(|(kind, families)| format!("{kind} · {families}"))
            .collect()
    }
}

fn counts(port: &Port) -> String {
    let counts: Vec<String> = port.counts.iter().map(ToString::to_string).collect();
    match port.standing {
        Standing::NotJudged => "unknown".to_owned(),
        Standing::Closed => "no address".to_owned(),
        Standing::Exposed | Standing::Open | Standing::Restricted => counts.join(" · "),
    }
}

fn same_sources(a: &Port, b: &Port) -> bool {
    (a.standing, &a.who, counts(a)) == (b.standing, &b.who, counts(b))
}

/// Returns the lanes of some ports, which are in the order of their standing.
pub(super) fn lanes(ports: &[Port]) -> Vec<Lane> {
    let mut groups: Vec<Vec<&Port>> = Vec::new();
    for group in ports.chunk_by(same_sources) {
        let is_full = groups.len() >= GROUPS;
        match groups.last_mut() {
            // The last group of each standing has the clients of all that are left.
            Some(last) if is_full && last[0].standing == group[0].standing => {
                last.extend(group);
            }
            _ => groups.push(group.iter().collect()),
        }
    }
    let shares = shares(&groups);
    let lanes = groups.iter().zip(shares).flat_map(|(group, share)| {
        // What does not fit is one lane.
        let own = if group.len() <= share {
            share
        } else {
            share.saturating_sub(1)
        };
        let (own, others) = group.split_at(own.min(group.len()));
        let own = own.iter().map(|port| Lane::of(port));
        own.chain(Lane::others(others)).collect::<Vec<_>>()
    });
    lanes.collect()
}

/// How many lanes each group gets: all that it needs if it is exposed, and the others by turns.
fn shares(groups: &[Vec<&Port>]) -> Vec<usize> {
    let mut shares = vec![1; groups.len()];
    let mut room = LANES.saturating_sub(groups.len());
    for only_exposed in [true, false] {
        loop {
            let before = room;
            for (group, share) in groups.iter().zip(&mut shares) {
                let is_meant = !only_exposed || group[0].standing == Standing::Exposed;
                if room > 0 && is_meant && *share < group.len() {
                    *share += 1;
                    room -= 1;
                }
            }
            if room == before {
                break;
            }
        }
    }
    shares
}
