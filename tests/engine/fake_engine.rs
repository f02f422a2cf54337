//! The engine of the bench, which only answers, beside the real one that it was recorded from.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use dfw::host::docker::{self, Ask};
use dfw::host::engine::Engine;

use crate::Named;
use crate::support::fake_engine::{Answers, FakeEngine};
use crate::support::lab::Lab;

pub(crate) const TRIALS: &[Named] = &[
    ("fake_engine::it_is_read_as_the_real_one", as_the_real_one),
    ("fake_engine::many_are_read", many),
];

/// What dfw reads at a socket, without what tells both engines apart.
fn read(socket: &Path) -> Result<Engine> {
    let answers = docker::ask(&Ask::at(&socket.to_string_lossy()));
    match answers.into_iter().next().context("no engine")? {
        Ok(engine) => Ok(Engine {
            address: String::new(),
            process: None,
            ..engine
        }),
        Err(error) => bail!("{error:?}"),
    }
}

fn as_the_real_one(lab: &Lab) -> Result<()> {
    lab.create("made", "--publish 8090:80", "tcp:80")?;
    let folder = tempfile::tempdir()?;
    let real = lab.engine_socket();
    let compared = Answers::recorded(&real).and_then(|answers| {
        let fake = FakeEngine::start(folder.path().join("engine.sock"), answers)?;
        Ok((read(&real)?, read(fake.socket())?))
    });
    lab.docker("rm --force made")?;
    let (real, fake) = compared?;
    ensure!(real == fake, "{real:#?}\n{fake:#?}");
    ensure!(real.containers.iter().any(|c| !c.published.is_empty()));
    ensure!(real.containers.iter().any(|c| !c.running));
    Ok(())
}

fn many(_: &Lab) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("engine.sock");
    let fake = FakeEngine::start(socket, Answers::many(250)?)?;
    let engine = read(fake.socket())?;
    ensure!(engine.containers.len() == 250 && engine.networks.len() == 3);
    for container in &engine.containers {
        let network = container.endpoints.first().context("no network")?;
        ensure!(engine.network(&network.network).is_some());
        // Of both families.
        ensure!(container.running && container.published.len() == 2);
    }
    Ok(())
}
