//! Many ports with lists of their own, and few.

use std::fmt::Write;

use anyhow::Result;

use crate::cost::Work;
use crate::goal::Goals;
use crate::race::{Contender, Track};
use crate::raw;
use crate::size::{Scale, short};
use crate::sources::{self, Kind};
use crate::support::command::{output, program};
use crate::support::netns::Namespace;
use crate::{dfw, itself};

/// How many sources each port has.
const SOURCES: usize = 10;
/// As many as a server has.
const FEW: usize = 5;

pub(crate) fn many(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    for &ports in scale.ports() {
        let work = format!("{} ports of {SOURCES} sources", short(ports));
        let forms = Forms::new(track, ports)?;
        let costs = track.race(&work, &forms.contenders()?)?;
        let dfw = costs["dfw"].cpu;
        let limit = |wanted, small| scale.limit(ports == 1_000, wanted, small);
        goals.at_most(&work, "dfw / raw", dfw / costs["raw"].cpu, limit(2.0, 2.0));
        let than = |contender| costs[contender].cpu / dfw;
        goals.at_least(&work, "nft -f / dfw", than("nft -f"), limit(2.0, 1.5));
        let restore = than("iptables-restore");
        goals.at_least(&work, "iptables-restore / dfw", restore, limit(4.0, 3.0));
    }
    Ok(())
}

pub(crate) fn few(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    let forms = Forms::new(track, FEW)?;
    let policy = forms.policy.clone();
    let loaded = |namespace: &Namespace| {
        output(namespace.command(dfw()).arg("apply").arg(&policy))?;
        Ok(())
    };
    let work = format!("{FEW} ports of {SOURCES} sources");
    let mut contenders = forms.contenders()?;
    let again = Work::new([dfw().as_ref(), "apply".as_ref(), policy.as_os_str()]);
    contenders.push(Contender::new("dfw again", again).after(loaded));
    let costs = track.race(&work, &contenders)?;
    let nft = costs["nft -f"].cpu;
    // Half of it is the start of a process, which other work on the machine lengthens.
    let limit = scale.limit(true, 0.55, 0.8);
    for (contender, what) in [("dfw", "dfw / nft -f"), ("dfw again", "dfw again / nft -f")] {
        goals.at_most(&work, what, costs[contender].cpu / nft, limit);
    }
    Ok(())
}

/// The same policy in every form.
struct Forms {
    policy: std::path::PathBuf,
    raw: std::path::PathBuf,
    nft: std::path::PathBuf,
    iptables: std::path::PathBuf,
}

impl Forms {
    fn new(track: &Track, ports: usize) -> Result<Self> {
        let all = sources::sources(Kind::Lists, ports * SOURCES, 3);
        let mut policy = "default: deny\nports:\n".to_owned();
        let mut iptables = "*filter\n:DOCKER-USER - [0:0]\n".to_owned();
        for (port, sources) in (1..=ports).zip(all.chunks(SOURCES)) {
            let _ = writeln!(policy, "  {port}: [{}]", sources.join(", "));
            let rule = format!(
                "-A DOCKER-USER -p tcp -m conntrack --ctorigdstport {port} --ctdir ORIGINAL"
            );
            for source in sources {
                let _ = writeln!(iptables, "{rule} -s {source} -j RETURN");
            }
            let _ = writeln!(iptables, "{rule} -j DROP");
        }
        iptables.push_str("COMMIT\n");
        let policy = track.write("ports.yaml", &policy)?;
        let raw = track.dir().join("raw");
        raw::encode(&policy, &raw)?;
        let nft = output(program(dfw()).args(["show", "--policy"]).arg(&policy))?;
        Ok(Self {
            policy,
            raw,
            nft: track.write("nft", &nft)?,
            iptables: track.write("iptables", &iptables)?,
        })
    }

    fn contenders(&self) -> Result<Vec<Contender<'_>>> {
        let Self {
            policy,
            raw,
            nft,
            iptables,
        } = self;
        Ok(vec![
            Contender::new(
                "dfw",
                Work::new([dfw().as_ref(), "apply".as_ref(), policy.as_os_str()]),
            ),
            Contender::new("raw", itself("raw", raw)?),
            Contender::new(
                "nft -f",
                Work::new(["nft".as_ref(), "-f".as_ref(), nft.as_os_str()]),
            ),
            Contender::new(
                "iptables-restore",
                Work::new(["iptables-nft-restore"]).stdin(iptables),
            ),
        ])
    }
}
