//! What the page of an audit shows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use indexmap::{IndexMap, IndexSet};

use crate::analysis::access::Judge;
use crate::analysis::audit::{Admits, Exposure};
use crate::analysis::eval::Pool;
use crate::analysis::judgement::{Reason, Verdict};
use crate::analysis::path::Kind;
use crate::analysis::sources::Sources;
use crate::analysis::surroundings::Surroundings;
use crate::net::{AddressSet, Family};
use crate::output::terminal::Tone;
use crate::ruleset::{Ruleset, TABLE};
use crate::untrusted::clean_to;

use super::count::Count;

/// An audit as a page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The name of the host.
    pub host: String,
    /// When the host was audited, for people.
    pub time: String,
    /// Which rules were evaluated: the beginning of a sentence that ends with the time.
    pub rules: String,
    /// Whether rules of dfw's were evaluated at all.
    pub is_filtered: bool,
    /// The result.
    pub conclusion: Conclusion,
    /// The engines that answered.
    pub engines: Vec<String>,
    /// What is not known, or not judged: one sentence each.
    pub unseen: Vec<String>,
    /// What else there is to know: one sentence each.
    pub notes: Vec<String>,
    /// The ports of containers, in the order of [`ports`].
    pub ports: Vec<Port>,
    /// The ports of services of the host, in the order of [`ports`].
    pub services: Vec<Port>,
}

/// The result in one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// Whether that is good.
    pub tone: Tone,
    /// One word for it.
    pub word: &'static str,
    /// The sentence.
    pub text: String,
    /// What to do next, with code in backticks.
    pub next: Option<&'static str>,
}

/// A port, with all paths on which the same sources get in by the same line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// How open it is.
    pub standing: Standing,
    /// The port as a policy writes it.
    pub port: String,
    /// The container or service behind it.
    pub title: String,
    /// Who gets in.
    pub who: String,
    /// How many addresses get in, of each family that has a path.
    pub counts: Vec<Count>,
    /// How many addresses are not judged, where others are.
    pub not_judged: Vec<Count>,
    /// The paths: each kind with its families, ascending.
    pub paths: Vec<(Kind, Vec<Family>)>,
    /// What decides.
    pub by: String,
}

/// How open a port is, the most open first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// To everyone, and no policy says so.
    Exposed,
    /// To everyone, by a line of the policy.
    Open,
    /// dfw's rules do not decide.
    NotJudged,
    /// To some sources.
    Restricted,
    /// To nobody.
    Closed,
}

impl Standing {
    /// All of them, the most open first.
    pub const ALL: [Self; 5] = [
        Self::Exposed,
        Self::Open,
        Self::NotJudged,
        Self::Restricted,
        Self::Closed,
    ];

    fn of(exposure: &Exposure, allowed: &[Count]) -> Self {
        match (exposure.verdict(), &exposure.origin) {
            (Verdict::Allow, None) => Self::Exposed,
            (Verdict::Allow, Some(_)) => Self::Open,
            (Verdict::NotJudged, _) => Self::NotJudged,
            (Verdict::Deny, _) if allowed.iter().all(|count| count.is_zero()) => Self::Closed,
            (Verdict::Deny, _) => Self::Restricted,
        }
    }

    /// Returns its name, which is a class of the style as well.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exposed => "exposed",
            Self::Open => "open",
            Self::NotJudged => "not-judged",
            Self::Restricted => "restricted",
            Self::Closed => "closed",
        }
    }

    /// Returns its name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::NotJudged => "not judged",
            other => other.name(),
        }
    }

    /// Returns what the name means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Exposed => "to everyone, no policy entry",
            Self::Open => "to everyone, by policy",
            Self::NotJudged => "dfw cannot decide",
            Self::Restricted => "to listed sources",
            Self::Closed => "to nobody",
        }
    }

    /// Returns a sign, so that no colour is needed to tell them apart.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Exposed => "▲",
            Self::Open => "●",
            Self::NotJudged => "?",
            Self::Restricted => "◐",
            Self::Closed => "○",
        }
    }
}

/// Returns a text from elsewhere as one that HTML and XML can hold, and that deceives nobody.
#[must_use]
pub fn shown(text: &str) -> String {
    /// Enough for a sentence with some names.
    const LONGEST: usize = 1000;
    // Noncharacters are none of XML's (section 2.2).
    clean_to(text, LONGEST).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

/// Returns the ports of an audit, the most open first, then by the number of addresses that get in and by port.
///
/// Every source is judged, so the elements of all sets must have been read.
#[must_use]
pub fn ports(
    exposures: &[Exposure],
    around: &Surroundings,
    ruleset: Option<&Ruleset>,
) -> Vec<Port> {
    let nothing = Ruleset::default();
    let mut judge = Judge::new(ruleset.unwrap_or(&nothing));
    let mut pool = Pool::default();
    let mut groups: IndexMap<Same, Vec<Group>> = IndexMap::new();
    for exposure in exposures {
        let sources = Sources::of(&mut judge, &mut pool, &exposure.path, around);
        let group = Group::of(exposure, sources);
        let alike = groups.entry(Same::of(exposure)).or_default();
        match alike
            .iter_mut()
            .find(|other| other.sources == group.sources)
        {
            Some(other) => other.add(group),
            None => alike.push(group),
        }
    }
    let mut ports: Vec<(Option<u16>, Port)> = Vec::new();
    for (same, groups) in groups {
        let groups = both_families(groups).into_iter();
        ports.extend(groups.map(|group| (same.number, group.port(&same))));
    }
    ports.sort_by_cached_key(|(number, port)| {
        let counts = Family::ALL.map(|family| {
            let mut counts = port.counts.iter().copied();
            counts.find(|count| count.family() == family && !count.is_zero())
        });
        let Port {
            standing,
            who,
            port,
            title,
            ..
        } = port.clone();
        (standing, Reverse(counts), who, *number, port, title)
    });
    ports.into_iter().map(|(_, port)| port).collect()
}

/// What the paths of one port on a page have in common, beside their sources.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Same {
    number: Option<u16>,
    port: String,
    title: String,
    by: String,
    verdict: &'static str,
    reach: &'static str,
}

impl Same {
    fn of(exposure: &Exposure) -> Self {
        let path = &exposure.path;
        Self {
            number: path.port,
            port: path.port_text(),
            title: shown(&path.title),
            by: shown(&decided_by(exposure)),
            verdict: exposure.verdict().name(),
            reach: path.reach.title(),
        }
    }
}

/// Paths on which the same sources get in.
struct Group<'a> {
    exposure: &'a Exposure,
    sources: BTreeMap<Family, Sources>,
    paths: BTreeSet<(Kind, Family)>,
    /// The sources that are named.
    named: IndexSet<String>,
}

impl<'a> Group<'a> {
    fn of(exposure: &'a Exposure, sources: Sources) -> Self {
        let family = exposure.path.family();
        let named = match &exposure.admits {
            Admits::Some(named) => named.iter().map(|name| shown(name)).collect(),
            Admits::Any | Admits::Nobody | Admits::NotJudged(_) => IndexSet::new(),
        };
        Self {
            exposure,
            sources: BTreeMap::from([(family, sources)]),
            paths: BTreeSet::from([(exposure.path.kind, family)]),
            named,
        }
    }

    fn add(&mut self, other: Self) {
        self.sources.extend(other.sources);
        self.paths.extend(other.paths);
        self.named.extend(other.named);
    }

    fn port(self, same: &Same) -> Port {
        let counts = |of: fn(&Sources) -> &AddressSet| -> Vec<Count> {
            let sources = self.sources.iter();
            sources
                .map(|(family, sources)| Count::of(of(sources), *family))
                .collect()
        };
        let allowed = counts(|sources| &sources.allowed);
        let mut not_judged = counts(|sources| &sources.not_judged);
        let standing = Standing::of(self.exposure, &allowed);
        not_judged.retain(|count| !count.is_zero() && standing != Standing::NotJudged);
        let mut kinds: IndexMap<Kind, Vec<Family>> = IndexMap::new();
        for (kind, family) in self.paths {
            kinds.entry(kind).or_default().push(family);
        }
        let named: Vec<String> = self.named.into_iter().collect();
        let who = match standing {
            Standing::Exposed | Standing::Open if allowed.iter().all(|count| count.is_all()) => {
                format!("everyone{}", same.reach)
            }
            Standing::Exposed | Standing::Open => {
                format!("everyone{}, with exceptions", same.reach)
            }
            Standing::NotJudged => "not judged".to_owned(),
            Standing::Closed => "nobody".to_owned(),
            Standing::Restricted if named.is_empty() => "some addresses".to_owned(),
            Standing::Restricted => named.join(", "),
        };
        Port {
            standing,
            port: same.port.clone(),
            title: same.title.clone(),
            who,
            counts: allowed,
            not_judged,
            paths: kinds.into_iter().collect(),
            by: same.by.clone(),
        }
    }
}

/// Joins the paths over IPv4 with those over IPv6 of the same kinds, or with all if there is one group of each.
fn both_families(groups: Vec<Group<'_>>) -> Vec<Group<'_>> {
    let (mut all, v6): (Vec<Group<'_>>, Vec<Group<'_>>) = groups
        .into_iter()
        .partition(|group| group.sources.contains_key(&Family::V4));
    let is_one = all.len() == 1 && v6.len() == 1;
    let kinds = |group: &Group<'_>| {
        group
            .paths
            .iter()
            .map(|(kind, _)| *kind)
            .collect::<BTreeSet<_>>()
    };
    for group in v6 {
        let other = all
            .iter_mut()
            .find(|other| other.sources.len() == 1 && (is_one || kinds(other) == kinds(&group)));
        match other {
            Some(other) => other.add(group),
            None => all.push(group),
        }
    }
    all
}

/// Returns who gets in by a path, as the table of an audit has it.
#[must_use]
pub fn open_to(exposure: &Exposure) -> String {
    let limits = exposure.limits.clause();
    match &exposure.admits {
        Admits::Any => format!("any{}{limits}", exposure.path.reach.title()),
        Admits::Some(who) => who.join(", ") + &limits,
        Admits::Nobody => "nobody".to_owned(),
        Admits::NotJudged(_) => Verdict::NotJudged.to_string(),
    }
}

/// Returns what decides about strangers on a path: a line of the policy, dfw's table, or nothing.
#[must_use]
pub fn decided_by(exposure: &Exposure) -> String {
    match (&exposure.origin, &exposure.admits) {
        (Some(origin), _) => origin.to_string(),
        (None, Admits::Any) => "no policy".to_owned(),
        (None, Admits::NotJudged(Reason::Service)) => "no policy entry".to_owned(),
        (None, _) => format!("table {TABLE}"),
    }
}
