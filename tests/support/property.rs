//! Properties of random rulesets; a failure prints the seed.

use std::hash::{BuildHasher, RandomState};

use anyhow::{Context, Result, anyhow};
use proptest::prelude::*;
use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng, TestRunner,
};

/// Whether some value of so many refutes a property that is wrong on purpose.
pub(crate) fn is_refuted<S: Strategy>(
    cases: u32,
    values: &S,
    holds: impl Fn(S::Value) -> Result<()>,
) -> Result<bool> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    Ok(run(seed()?, config, values, holds).is_err())
}

/// Tries a property on random values; what fails is made as small as it can be.
pub(crate) fn property<S: Strategy>(
    cases: u32,
    values: &S,
    holds: impl Fn(S::Value) -> Result<()>,
) -> Result<()> {
    property_kept(None, cases, values, holds)
}

/// The same; what has failed before is in a file, where what fails is added, and is tried first.
pub(crate) fn property_kept<S: Strategy>(
    failures: Option<&'static str>,
    cases: u32,
    values: &S,
    holds: impl Fn(S::Value) -> Result<()>,
) -> Result<()> {
    let config = Config {
        cases,
        failure_persistence: failures
            .map(|file| Box::new(FileFailurePersistence::Direct(file)) as _),
        max_shrink_iters: 400,
        max_shrink_time: 30_000,
        ..Config::default()
    };
    run(seed()?, config, values, holds)
}

fn run<S: Strategy>(
    seed: u64,
    config: Config,
    values: &S,
    holds: impl Fn(S::Value) -> Result<()>,
) -> Result<()> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(config, rng)
        .run(values, |value| {
            holds(value).map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .map_err(|error| anyhow!("DFW_SEED={seed}: {error}"))
}

/// What chance begins with.
pub(crate) fn seed() -> Result<u64> {
    match std::env::var("DFW_SEED") {
        Ok(seed) => seed.parse().context("DFW_SEED"),
        Err(_) => Ok(RandomState::new().hash_one(0)),
    }
}

/// An error that shows both, each line by line, if they differ.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(left: &T, right: &T) -> Result<()> {
    if left == right {
        return Ok(());
    }
    let (left, right) = (format!("{left:#?}"), format!("{right:#?}"));
    let lines = |text: &str| text.replace("\\n", "\n").replace("\\t", "\t");
    let (left, right) = (lines(&left), lines(&right));
    let both = left.lines().zip(right.lines());
    let first = both.clone().take_while(|(l, r)| l == r).count();
    let from = first.saturating_sub(6);
    let excerpt = |text: &str| {
        text.lines()
            .skip(from)
            .take(20)
            .collect::<Vec<_>>()
            .join("\n")
    };
    Err(anyhow!(
        "differs at line {first}:\n{}\n--- is not\n{}",
        excerpt(&left),
        excerpt(&right)
    ))
}
