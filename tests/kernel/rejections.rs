//! A transaction with one invalid message changes nothing, and the error names the message.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dfw::kernel::{Batch, Error, FinishedBatch, Kernel, Outcome, Rejection, What};
use dfw::plan;
use dfw::ruleset::{
    Elements, Expression, Interval, MapTo, Origin, Rule, Ruleset, Set, Until, Verdict,
};

use crate::Named;
use crate::encoded;
use crate::namespace::{Sandbox, compiled, install};
use crate::property::same;

pub(crate) const TRIALS: &[Named] = &[
    ("each_message_can_fail", each_message_can_fail),
    ("each_rule_can_be_rejected", each_rule_can_be_rejected),
    ("each_set_can_be_rejected", each_set_can_be_rejected),
    ("each_chain_can_be_rejected", each_chain_can_be_rejected),
    ("every_rejection_is_reported", every_rejection_is_reported),
    (
        "each_message_of_a_change_can_fail",
        each_message_of_a_change_can_fail,
    ),
    (
        "a_rejected_change_is_rolled_back",
        a_rejected_change_is_rolled_back,
    ),
];

/// What is in force while others are refused.
const IN_FORCE: &str = "examples/only-web";
/// What is refused once one thing in it is wrong: addresses, maps and rules of all kinds.
const REFUSED: &str = "tests/policies/valid/design.yaml";

/// A place with a policy in force and a table of somebody else's.
fn prepared() -> Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    sandbox.install(&compiled(IN_FORCE)?)?;
    sandbox.nft(
        "add table ip foreign; add chain ip foreign c; add rule ip foreign c counter accept",
    )?;
    Ok(sandbox)
}

fn batch(kernel: &Kernel, ruleset: &Ruleset) -> Result<FinishedBatch> {
    let generation = kernel.snapshot()?.generation;
    Ok(encoded::replacing(ruleset, "a test", generation))
}

/// Sends what must be refused; whatever is said, nothing may have changed.
fn refused(sandbox: &Sandbox, kernel: &Kernel, batch: &FinishedBatch) -> Result<Vec<Rejection>> {
    let before = (kernel.snapshot()?, sandbox.listing()?);
    let refusals = match kernel.commit(batch) {
        Err(Error::Rejected(refusals)) => refusals,
        other => bail!("{other:?}"),
    };
    same(&(kernel.snapshot()?, sandbox.listing()?), &before)?;
    Ok(refusals)
}

/// The messages of a batch as ranges of its bytes.
fn messages(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut messages = Vec::new();
    let mut at = 0;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_ne_bytes([length[0], length[1], length[2], length[3]]) as usize;
        messages.push(at..at + length);
        at += length;
    }
    messages
}

/// Far from any type that nf_tables will ever have.
const NO_TYPE: u8 = 0xfe;

/// One message after the other is made one that no kernel knows.
fn each_message_can_fail() -> Result<()> {
    let sandbox = prepared()?;
    let ruleset = compiled(REFUSED)?;
    sandbox.kernel(|kernel| {
        let count = messages(&batch(kernel, &ruleset)?.bytes).len() - 1;
        ensure!(count > 40, "only {count} messages");
        // The first is the beginning of the transaction, and the end comes behind the last.
        for position in 1..count {
            let mut batch = batch(kernel, &ruleset)?;
            let message = messages(&batch.bytes)[position].clone();
            batch.bytes[message.start + 4] = NO_TYPE;
            let sequence = u32::try_from(position)? + 1;
            let expected = batch.subject(sequence).context("no subject")?.clone();
            let refusals = refused(&sandbox, kernel, &batch)
                .with_context(|| format!("message {position}: {expected:?}"))?;
            // What builds on it may fail too, and comes later.
            let first = refusals.first().context("no refusal")?;
            same(&first.subject, &expected)?;
        }
        // Nothing is broken: the same goes through unharmed.
        install(kernel, &ruleset)?;
        same(
            &kernel.snapshot()?.installed.map(|i| i.ruleset),
            &Some(ruleset.clone()),
        )
    })
}

/// The one refusal of a ruleset with one mistake.
fn refusal_of(sandbox: &Sandbox, ruleset: &Ruleset) -> Result<Rejection> {
    sandbox.kernel(|kernel| {
        let refusals = refused(sandbox, kernel, &batch(kernel, ruleset)?)?;
        let [refusal] = &refusals[..] else {
            bail!("more than one: {refusals:?}")
        };
        Ok(refusal.clone())
    })
}

/// The place of the policy that a comment tells.
fn origin(comment: Option<&String>) -> Option<Origin> {
    let (file, line) = comment?.rsplit_once(':')?;
    let line = line.parse().ok()?;
    Some(Origin {
        file: file.to_owned(),
        line,
    })
}

fn each_rule_can_be_rejected() -> Result<()> {
    let sandbox = prepared()?;
    let good = compiled(REFUSED)?;
    let (mut rules, mut with_origin) = (0, 0);
    for (name, chain) in &good.chains {
        for (index, rule) in chain.rules.iter().enumerate() {
            let mut broken = good.clone();
            let chain = broken.chains.get_mut(name).context("no chain")?;
            chain.rules[index].expressions.insert(
                0,
                Expression::Unknown {
                    name: "no-such-expression".to_owned(),
                    data: Vec::new(),
                },
            );
            let text = chain.rules[index].to_string();
            let refusal = refusal_of(&sandbox, &broken)?;
            same(
                &refusal.subject.what,
                &What::Rule {
                    chain: name.clone(),
                    text,
                },
            )?;
            same(&refusal.subject.origin, &origin(rule.comment.as_ref()))?;
            ensure!(refusal.errno == libc::ENOENT, "{refusal:?}");
            rules += 1;
            with_origin += usize::from(refusal.subject.origin.is_some());
        }
    }
    ensure!(
        rules > 20 && with_origin > 10,
        "{rules} rules, {with_origin} with an origin"
    );
    Ok(())
}

/// Later than the time since boot.
const HOUR: Duration = Duration::from_hours(24 * 365);

/// An element of a set that cannot be: two ranges that overlap, or a way to nowhere.
fn spoil(elements: &mut Elements) -> Option<i32> {
    let nowhere = || Verdict::Goto("no-such-chain".to_owned());
    match elements {
        Elements::Ipv4Ranges(all) => {
            *all = vec![Interval::new(10, 20), Interval::new(15, 30)];
            Some(libc::EEXIST)
        }
        Elements::Ipv6Ranges(all) => {
            *all = vec![Interval::new(10, 20), Interval::new(15, 30)];
            Some(libc::EEXIST)
        }
        Elements::Ipv4Until(all) => {
            let until = |first, last| Until::new(Interval::new(first, last), HOUR);
            *all = vec![until(10, 20), until(15, 30)];
            Some(libc::EEXIST)
        }
        Elements::Ipv6Until(all) => {
            let until = |first, last| Until::new(Interval::new(first, last), HOUR);
            *all = vec![until(10, 20), until(15, 30)];
            Some(libc::EEXIST)
        }
        Elements::PortVerdicts(all) => {
            all.push(MapTo::new(Interval::new(u16::MAX, u16::MAX), nowhere()));
            Some(libc::ENOENT)
        }
        Elements::PortIpv4Verdicts(all) => {
            all.push(MapTo::new((u16::MAX, u32::MAX), nowhere()));
            Some(libc::ENOENT)
        }
        Elements::PortIpv6Verdicts(all) => {
            all.push(MapTo::new((u16::MAX, u128::MAX), nowhere()));
            Some(libc::ENOENT)
        }
        Elements::Ipv4Verdicts(all) => {
            all.push(MapTo::new(u32::MAX, nowhere()));
            Some(libc::ENOENT)
        }
        Elements::Ipv6Verdicts(all) => {
            all.push(MapTo::new(u128::MAX, nowhere()));
            Some(libc::ENOENT)
        }
        // Any address and any name will do, and twice the same is once the same.
        _ => None,
    }
}

fn each_set_can_be_rejected() -> Result<()> {
    let sandbox = prepared()?;
    let mut good = compiled(REFUSED)?;
    let extra = [
        ("zz-v4", Elements::Ipv4Ranges(Vec::new())),
        ("zz-v6", Elements::Ipv6Ranges(Vec::new())),
        ("zz-until-v4", Elements::Ipv4Until(Vec::new())),
        ("zz-until-v6", Elements::Ipv6Until(Vec::new())),
        (
            "zz-to-v4",
            Elements::Ipv4Verdicts(vec![MapTo::new(1, Verdict::Drop)]),
        ),
        (
            "zz-to-v6",
            Elements::Ipv6Verdicts(vec![MapTo::new(1, Verdict::Drop)]),
        ),
        (
            "zz-port-v4",
            Elements::PortIpv4Verdicts(vec![MapTo::new((1, 1), Verdict::Drop)]),
        ),
        (
            "zz-port-v6",
            Elements::PortIpv6Verdicts(vec![MapTo::new((1, 1), Verdict::Drop)]),
        ),
    ];
    for (name, elements) in extra {
        let comment = Some("other.yaml:12".to_owned());
        good.sets.insert(name.to_owned(), Set { elements, comment });
    }
    let mut tried = 0;
    for (name, set) in &good.sets {
        let mut broken = good.clone();
        let elements = &mut broken.sets.get_mut(name).context("no set")?.elements;
        let Some(errno) = spoil(elements) else {
            continue;
        };
        let refusal = refusal_of(&sandbox, &broken).with_context(|| name.clone())?;
        same(&refusal.subject.what, &What::Elements(name.clone()))?;
        same(&refusal.subject.origin, &origin(set.comment.as_ref()))?;
        same(&refusal.errno, &errno)?;
        tried += 1;
    }
    ensure!(tried > 8, "only {tried} sets");
    Ok(())
}

/// A name that is too long, which nothing else refers to.
fn each_chain_can_be_rejected() -> Result<()> {
    let sandbox = prepared()?;
    let good = compiled(REFUSED)?;
    let name = "x".repeat(300);
    let mut broken = good.clone();
    broken
        .chains
        .insert(name.clone(), dfw::ruleset::Chain::default());
    same(
        &refusal_of(&sandbox, &broken)?.subject.what,
        &What::Chain(name.clone()),
    )?;
    let mut broken = good;
    let elements = Elements::Ipv4(Vec::new());
    let comment = Some("a.yaml:3".to_owned());
    broken.sets.insert(name.clone(), Set { elements, comment });
    let refusal = refusal_of(&sandbox, &broken)?;
    same(&refusal.subject.what, &What::Set(name))?;
    same(
        &refusal.subject.origin,
        &Some(Origin {
            file: "a.yaml".to_owned(),
            line: 3,
        }),
    )
}

/// Reports every error, in order.
fn every_rejection_is_reported() -> Result<()> {
    let sandbox = prepared()?;
    let mut ruleset = compiled(REFUSED)?;
    let bad = |line: u32| {
        let name = "no-such-expression".to_owned();
        let unknown = Expression::Unknown {
            name,
            data: Vec::new(),
        };
        Rule::new(vec![unknown], format!("web.yaml:{line}"))
    };
    for chain in ["input", "to-container"] {
        let rules = &mut ruleset.chains.get_mut(chain).context("no chain")?.rules;
        rules.insert(0, bad(7));
        rules.push(bad(8));
    }
    let refusals = sandbox.kernel(|kernel| refused(&sandbox, kernel, &batch(kernel, &ruleset)?))?;
    let place_of = |refusal: &Rejection| match (&refusal.subject.what, &refusal.subject.origin) {
        (What::Rule { chain, .. }, Some(origin)) => Ok((chain.clone(), origin.line)),
        _ => bail!("{refusal:?}"),
    };
    let report = refusals.iter().map(place_of).collect::<Result<Vec<_>>>()?;
    let expected = [
        ("to-container", 7),
        ("to-container", 8),
        ("input", 7),
        ("input", 8),
    ];
    same(
        &report,
        &expected
            .map(|(chain, line)| (chain.to_owned(), line))
            .to_vec(),
    )
}

/// The same of the messages that change one ruleset to another, in each of its transactions.
fn each_message_of_a_change_can_fail() -> Result<()> {
    let sandbox = prepared()?;
    let desired = compiled(REFUSED)?;
    sandbox.kernel(|kernel| {
        let snapshot = kernel.survey()?;
        let plan = plan::diff(snapshot.installed.as_ref(), &desired, 7);
        ensure!(!plan.before.is_empty(), "nothing to be made first");
        for (operations, least) in [(&plan.before, 10), (&plan.main, 10), (&plan.after, 1)] {
            let batch = || -> Result<FinishedBatch> {
                let mut batch = Batch::new(kernel.outline()?.generation);
                for operation in operations {
                    batch.operation(operation, "a test");
                }
                Ok(batch.finish()?)
            };
            let count = messages(&batch()?.bytes).len() - 1;
            ensure!(count > least, "only {count} messages");
            for position in 1..count {
                let mut batch = batch()?;
                let message = messages(&batch.bytes)[position].clone();
                batch.bytes[message.start + 4] = NO_TYPE;
                let subject = batch.subject(u32::try_from(position)? + 1).cloned();
                let refusals = refused(&sandbox, kernel, &batch)
                    .with_context(|| format!("message {position}: {subject:?}"))?;
                let first = refusals.first().context("no refusal")?;
                same(&Some(first.subject.clone()), &subject)?;
            }
            ensure!(kernel.commit(&batch()?)? == Outcome::Done);
        }
        same(
            &kernel.snapshot()?.installed.map(|i| i.ruleset),
            &Some(desired.clone()),
        )
    })
}

/// What was made first goes again if the rest is refused, be it the first apply or a later one.
fn a_rejected_change_is_rolled_back() -> Result<()> {
    let desired = compiled(REFUSED)?;
    let rule = Rule::new(
        vec![Expression::Unknown {
            name: "no-such-expression".to_owned(),
            data: Vec::new(),
        }],
        None,
    );
    for sandbox in [Sandbox::new()?, prepared()?] {
        sandbox.kernel(|kernel| {
            let snapshot = kernel.survey()?;
            let mut plan = plan::diff(snapshot.installed.as_ref(), &desired, 7);
            ensure!(!plan.before.is_empty(), "nothing to be made first");
            plan.main.push(plan::Operation::NewRule {
                chain: "input",
                rule: std::borrow::Cow::Borrowed(&rule),
                place: plan::Place::Last,
                counter: None,
            });
            let before = (kernel.snapshot()?.installed, sandbox.listing()?);
            match kernel.carry_out(&plan, "a test", snapshot.generation) {
                Err(Error::Rejected(refusals)) => same(&refusals.len(), &1)?,
                other => bail!("{other:?}"),
            }
            same(&(kernel.snapshot()?.installed, sandbox.listing()?), &before)
        })?;
    }
    Ok(())
}
