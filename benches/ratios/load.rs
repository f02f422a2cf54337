//! Long lists: loaded, loaded again, and changed.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cost::Work;
use crate::goal::Goals;
use crate::race::{Contender, Track};
use crate::raw;
use crate::size::{Scale, short};
use crate::sources::{self, Kind};
use crate::support::command::output;
use crate::support::netns::Namespace;
use crate::{dfw, itself};

/// The same list in every form.
struct Forms {
    policy: PathBuf,
    raw: PathBuf,
    nft: PathBuf,
    ipset: PathBuf,
}

impl Forms {
    fn new(track: &Track, kind: Kind, all: &[String]) -> Result<Self> {
        let list = track.write("many.txt", &sources::list(all))?;
        let policy = policy(track, &list)?;
        let raw = track.dir().join("raw");
        raw::encode(&policy, &raw)?;
        Ok(Self {
            policy,
            raw,
            nft: track.write("nft", &sources::nft(kind, all))?,
            ipset: track.write("ipset", &sources::ipset(kind, all))?,
        })
    }
}

/// A policy that lets a list reach one port.
pub(crate) fn policy(track: &Track, list: &Path) -> Result<PathBuf> {
    let name = list.file_name().unwrap_or_default().to_string_lossy();
    let text =
        format!("default: deny\nsources: {{many: {{file: {name}}}}}\nports: {{53/udp: [many]}}\n");
    track.write(&format!("{name}.yaml"), &text)
}

fn apply(policy: &Path) -> Work {
    Work::new([dfw().as_ref(), "apply".as_ref(), policy.as_os_str()])
}

fn nft(file: &Path) -> Work {
    Work::new(["nft".as_ref(), "-f".as_ref(), file.as_os_str()])
}

/// Lists of every kind and size: first apply.
pub(crate) fn load(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    for kind in [Kind::Lists, Kind::Singles, Kind::Networks, Kind::Ipv6] {
        for &size in scale.lists() {
            let all = sources::sources(kind, size, 1);
            let forms = Forms::new(track, kind, &all)?;
            let contenders = [
                Contender::new("dfw", apply(&forms.policy)),
                Contender::new("raw", itself("raw", &forms.raw)?),
                Contender::new("nft -f", nft(&forms.nft)),
                Contender::new(
                    "ipset restore",
                    Work::new(["ipset", "restore"]).stdin(&forms.ipset),
                ),
            ];
            let work = format!("load {} {}", short(size), kind.name());
            let costs = track.race(&work, &contenders)?;
            let dfw = costs["dfw"];
            let limit = |wanted, small| scale.limit(size == MANY, wanted, small);
            let to_raw = dfw.cpu / costs["raw"].cpu;
            goals.at_most(&work, "dfw / raw", to_raw, limit(1.3, 1.7));
            let than = |contender| costs[contender].cpu / dfw.cpu;
            let faster = match kind {
                Kind::Lists | Kind::Singles => limit(5.0, 4.0),
                Kind::Networks => limit(2.4, 2.4),
                Kind::Ipv6 => limit(4.0, 4.0),
            };
            goals.at_least(&work, "nft -f / dfw", than("nft -f"), faster);
            let faster = limit(1.8, 1.8).filter(|_| kind == Kind::Lists);
            goals.at_least(&work, "ipset restore / dfw", than("ipset restore"), faster);
            let peak = match kind {
                Kind::Lists => limit(60.0, 10.0),
                Kind::Ipv6 => limit(90.0, 10.0),
                Kind::Singles | Kind::Networks => None,
            };
            goals.at_most(&work, "peak of dfw, MiB", dfw.peak, peak);
        }
    }
    Ok(())
}

/// As many as a list must be able to have.
const MANY: usize = 1_000_000;
/// How many of a list's sources change.
const CHANGED: [usize; 2] = [10, 100];

/// The same list again, and with a handful of changes.
pub(crate) fn change(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    let kind = Kind::Lists;
    for &size in scale.lists().iter().rev().take(2) {
        // New ones come from the same draw: nft takes none that lies in another.
        let mut all = sources::sources(kind, size + CHANGED[1], 1);
        let new = all.split_off(size);
        let forms = Forms::new(track, kind, &all)?;
        let loaded = |namespace: &Namespace| run(namespace, dfw(), &["apply"], &forms.policy);
        let first = format!("first apply of {}", short(size));
        let first = track.race(&first, &[Contender::new("dfw", apply(&forms.policy))])?["dfw"];
        let work = format!("{} again, unchanged", short(size));
        let again = Contender::new("dfw", apply(&forms.policy)).after(loaded);
        let again = track.race(&work, &[again])?["dfw"];
        let limit = |wanted, small| scale.limit(size == MANY, wanted, small);
        let ratio = again.cpu / first.cpu;
        goals.at_most(&work, "again / first apply", ratio, limit(0.2, 0.5));
        for changed in CHANGED {
            let mut other = all.clone();
            let new = &new[..changed];
            // Every so manieth, of singles and networks alike.
            for (number, new) in new.iter().enumerate() {
                other[number * (size / changed)].clone_from(new);
            }
            let list = track.write("changed.txt", &sources::list(&other))?;
            let policy = policy(track, &list)?;
            let add = track.write(
                "add",
                &format!("add element inet bench many {{ {} }}\n", new.join(", ")),
            )?;
            let with_nft = |namespace: &Namespace| run(namespace, "nft", &["-f"], &forms.nft);
            let contenders = [
                Contender::new("dfw", apply(&policy)).after(loaded),
                // In the same rounds: a machine is faster at one time than at another.
                Contender::new("first apply", apply(&policy)),
                Contender::new("nft add element", nft(&add))
                    .after(with_nft)
                    .at_most(1),
            ];
            let work = format!("{changed} changed in {}", short(size));
            let costs = track.race(&work, &contenders)?;
            let dfw = costs["dfw"].cpu;
            let ratio = dfw / costs["first apply"].cpu;
            goals.at_most(&work, "change / first apply", ratio, limit(0.3, 0.8));
            let faster = costs["nft add element"].cpu / dfw;
            goals.at_least(&work, "nft add element / dfw", faster, limit(100.0, 4.0));
        }
    }
    Ok(())
}

fn run(namespace: &Namespace, program: &str, words: &[&str], path: &Path) -> Result<()> {
    output(namespace.command(program).args(words).arg(path))?;
    Ok(())
}
