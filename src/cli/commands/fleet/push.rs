//! `dfw fleet push` and `rollback`: a new generation.

use std::collections::{BTreeMap, BTreeSet};

use crate::bundle::moment::Moment;
use crate::bundle::version::Version;
use crate::bundle::word::{HostPattern, Word};
use crate::bundle::{Digest, Head, Keys, Manifest, Role, Stage, signed};
use crate::cli::load;
use crate::cli::report::failure::Failure;
use crate::fleet::Error;
use crate::fleet::keys::Signer;
use crate::fleet::members;
use crate::fleet::push::{self, Generation, Numbers};
use crate::fleet::site::{Site, Snapshot};
use crate::output::terminal::{Terminal, Tone};
use crate::store::bundle::{Bundle, Trust, is_bundle, now};
use crate::store::pack::{Pack, Statements};
use crate::text::diagnostic::Diagnostic;

use super::open::Own;
use super::{PushArgs, RollbackArgs, SecretArgs, StoreArgs, WaitArgs, drive};

/// The keys that sign manifests, and heads with their roll-outs.
struct Signers {
    policy: Signer,
    operations: Option<Signer>,
}

impl Signers {
    fn read(args: &SecretArgs) -> Result<Self, Error> {
        let operations = args.operations_secret_key.as_deref().map(Signer::read);
        Ok(Self {
            policy: Signer::read(&args.secret_key)?,
            operations: operations.transpose()?,
        })
    }

    fn operations(&self) -> &Signer {
        self.operations.as_ref().unwrap_or(&self.policy)
    }

    fn open(&self, store: &StoreArgs) -> Result<Site, Failure> {
        let operations = self
            .operations
            .iter()
            .map(|signer| (signer, Role::Operations));
        let signers: Vec<_> = [(&self.policy, Role::Policy)]
            .into_iter()
            .chain(operations)
            .collect();
        store.open(&signers)
    }
}

/// What a push needs, whatever it pushes.
struct Push<'a> {
    terminal: Terminal,
    secret: &'a SecretArgs,
    wait: &'a WaitArgs,
    is_detached: bool,
    signers: Signers,
    site: Site,
    snapshot: Snapshot,
    numbers: Numbers,
}

pub(super) fn run(terminal: Terminal, args: &PushArgs) -> Result<(), Failure> {
    let push = Push::begin(
        terminal,
        (&args.store, &args.secret),
        &args.wait,
        args.detach,
    )?;
    if is_bundle(&args.policies) {
        let (generation, head) = push.bundle(args)?;
        return push.finish(&generation, Some(head));
    }
    let generation = push.pack(args)?;
    push.finish(&generation, None)
}

pub(super) fn roll_back(terminal: Terminal, args: &RollbackArgs) -> Result<(), Failure> {
    let mut push = Push::begin(
        terminal,
        (&args.store, &args.secret),
        &args.wait,
        args.detach,
    )?;
    let head = push.snapshot.head.as_ref().ok_or_else(push::nothing)?;
    let current = head.statement.generation;
    let mut known = BTreeMap::new();
    for digest in push.site.manifests()? {
        if let Ok(manifest) = push.site.manifest(&digest) {
            known.insert(manifest.generation, manifest);
        }
    }
    let wanted = match args.to {
        Some(number) => known.remove(&number),
        None => known
            .into_iter()
            .rev()
            .find(|(number, _)| *number < current)
            .map(|(_, manifest)| manifest),
    };
    let missing = || {
        Error::Refused("the store has no such generation any more: push its policies".to_owned())
    };
    let manifest = wanted.ok_or_else(missing)?;
    let generation = push.sign(manifest, BTreeMap::new())?;
    push.finish(&generation, None)
}

impl<'a> Push<'a> {
    fn begin(
        terminal: Terminal,
        (store, secret): (&StoreArgs, &'a SecretArgs),
        wait: &'a WaitArgs,
        is_detached: bool,
    ) -> Result<Self, Failure> {
        let signers = Signers::read(secret)?;
        let mut site = signers.open(store)?;
        let snapshot = site.read()?;
        for warning in &snapshot.warnings {
            terminal.say(Tone::Warning, "warning", warning);
        }
        check_space(&mut site, secret.quota)?;
        let own = Own::read(&Own::path(secret.record.as_ref(), site.name()))?;
        let numbers = push::next(&snapshot, own);
        Ok(Self {
            terminal,
            secret,
            wait,
            is_detached,
            signers,
            site,
            snapshot,
            numbers,
        })
    }

    /// Reads the policies of a directory, for the hosts of all groups.
    fn pack(&self, args: &PushArgs) -> Result<Generation, Failure> {
        let mut groups: BTreeMap<Word, Vec<HostPattern>> = args.group.iter().cloned().collect();
        if args.group.is_empty()
            && let Some(former) = &self.snapshot.manifest
        {
            groups.clone_from(&former.groups);
        }
        let stages = if args.stage.is_empty() {
            usual_stages(&groups)
        } else {
            args.stage.clone()
        };
        let statements = Statements {
            site: self.site.name().clone(),
            generation: self.numbers.generation,
            serial: self.numbers.serial,
            created: now(),
            valid: self.secret.expires_in,
            requires: Version::own(),
            groups,
            stages,
        };
        let pack = Pack::of(&args.policies, &statements, load::texts);
        let pack =
            pack.map_err(|error| crate::cli::commands::bundle::failure(error, &args.policies))?;
        self.check_members(&pack)?;
        let (manifest, blobs) = pack.into_files();
        Ok(self.signed(manifest, blobs)?)
    }

    /// Refuses policies that shut the store out.
    fn check_members(&self, pack: &Pack) -> Result<(), Error> {
        let members = self
            .site
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.address.ip());
        match members.into_iter().find(|member| pack.excepts(*member)) {
            Some(member) => Err(Error::Refused(format!(
                "an `except` contains the store's member {member}: no host could follow it any more"
            ))),
            None => Ok(()),
        }
    }

    /// Reads a bundle that is signed already.
    fn bundle(&self, args: &PushArgs) -> Result<(Generation, (Head, Vec<u8>)), Failure> {
        let mut keys = Keys::default();
        crate::cli::keys::add_or_default(&mut keys, Role::Policy, &args.store.trusted_key)?;
        crate::cli::keys::add_or_default(&mut keys, Role::Operations, &args.store.operations_key)?;
        self.signers.policy.trust(&mut keys, Role::Policy)?;
        let trust = Trust {
            keys: Some(keys),
            site: Some(self.site.name().clone()),
            is_enforced: true,
            ..Trust::default()
        };
        let denied = |error| Failure::bundle(&error);
        let bundle = Bundle::open(&args.policies, &trust).map_err(denied)?;
        let texts = bundle.texts(&args.policies).map_err(denied)?;
        let blobs = bundle.contents.blobs().map_err(denied)?;
        let Numbers { generation, serial } = self.numbers;
        let head = self.snapshot.head.as_ref();
        let is_known = head.is_some_and(|head| head.statement.manifest == bundle.head.manifest);
        if !is_known && (bundle.head.generation < generation || bundle.head.serial < serial) {
            let message = format!(
                "the numbers of the bundle were used already: create it with `--generation {generation} --serial {serial}`"
            );
            return Err(Failure::plain(Diagnostic::error("fleet", message)));
        }
        let generation = Generation {
            digest: bundle.head.manifest,
            manifest: bundle.contents.manifest,
            signed: texts.1,
            blobs,
        };
        Ok((generation, (bundle.head, texts.0)))
    }

    /// Returns the files of an earlier manifest under the next number.
    fn sign(
        &self,
        former: Manifest,
        blobs: BTreeMap<Digest, Vec<u8>>,
    ) -> Result<Generation, Error> {
        let manifest = Manifest {
            generation: self.numbers.generation,
            created: now(),
            ..former
        };
        self.signed(manifest, blobs)
    }

    fn signed(
        &self,
        manifest: Manifest,
        blobs: BTreeMap<Digest, Vec<u8>>,
    ) -> Result<Generation, Error> {
        let digest = Digest::of(signed::write(&manifest)?.as_bytes());
        let signed = self.signers.policy.sign(&manifest)?;
        Ok(Generation {
            manifest,
            signed,
            digest,
            blobs,
        })
    }

    /// Writes a generation, unless its files are those of the head, and rolls it out.
    fn finish(
        mut self,
        generation: &Generation,
        head: Option<(Head, Vec<u8>)>,
    ) -> Result<(), Failure> {
        let former = self.snapshot.manifest.as_ref();
        let is_same = former.is_some_and(|former| is_same(former, &generation.manifest));
        let path = Own::path(self.secret.record.as_ref(), self.site.name());
        let own = match self.snapshot.head.as_ref().filter(|_| is_same) {
            Some(head) => Numbers {
                generation: head.statement.generation,
                ..self.numbers
            },
            None => self.numbers,
        };
        Own::write(&path, own)?;
        match self.snapshot.head.clone().filter(|_| is_same) {
            Some(former) => {
                let number = former.statement.generation;
                let text =
                    format!("generation {number}: the policies are the same, valid for longer");
                let head = former
                    .statement
                    .renew(now(), self.secret.expires_in)
                    .map_err(Error::from)?;
                let head = Head {
                    serial: self.numbers.serial,
                    ..head
                };
                let signed = self.signers.operations().sign(&head)?;
                self.renew(&head, &signed)?;
                self.terminal.say(Tone::Good, "renewed", &text);
            }
            None => self.publish(generation, head)?,
        }
        if self.is_detached {
            return super::status::show(self.terminal, &mut self.site);
        }
        drive::roll_out(
            self.terminal,
            &mut self.site,
            self.wait,
            self.signers.operations(),
        )
    }

    fn publish(
        &mut self,
        generation: &Generation,
        head: Option<(Head, Vec<u8>)>,
    ) -> Result<(), Failure> {
        let written = push::upload(&mut self.site, &self.snapshot, generation)?;
        let (head, text) = if let Some(head) = head {
            head
        } else {
            let created = now();
            let expires = created.after(self.secret.expires_in).unwrap_or_default();
            let head = head_of(
                &generation.manifest,
                generation.digest,
                (self.numbers.serial, created, expires),
            );
            let text = self.signers.operations().sign(&head)?;
            (head, text)
        };
        let stages = u32::try_from(generation.manifest.stages.len()).unwrap_or(u32::MAX) + 1;
        let open = if self.wait.now { stages } else { 1 };
        let signer = self.signers.operations();
        push::publish(
            &mut self.site,
            &self.snapshot,
            (&head, &text),
            (open, signer),
        )?;
        let number = head.generation;
        let text = format!("generation {number}, {written} bytes");
        self.terminal.say(Tone::Good, "pushed", &text);
        let snapshot = self.site.read()?;
        if let Err(error) = push::collect(&mut self.site, &snapshot, &head.manifest) {
            let text = format!("old generations were not removed: {error}");
            self.terminal.say(Tone::Warning, "warning", &text);
        }
        Ok(())
    }

    /// Writes a new head for the same files, with the roll-out as it is.
    fn renew(&mut self, head: &Head, signed: &[u8]) -> Result<(), Error> {
        let open = self
            .snapshot
            .rollout
            .as_ref()
            .map_or(0, |rollout| rollout.open);
        let stopped = self
            .snapshot
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.stopped.clone());
        let rollout = push::rollout(head, open, stopped, &self.snapshot);
        let rollout = self.signers.operations().sign(&rollout)?;
        let record = self.snapshot.record.clone();
        self.site.publish(&self.snapshot, signed, &rollout, &record)
    }
}

fn head_of(
    manifest: &Manifest,
    digest: Digest,
    (serial, created, expires): (u64, Moment, Moment),
) -> Head {
    Head {
        site: manifest.site.clone(),
        serial,
        generation: manifest.generation,
        manifest: digest,
        created,
        expires,
    }
}

/// Returns whether two manifests mean the same for all hosts.
fn is_same(a: &Manifest, b: &Manifest) -> bool {
    (&a.files, &a.groups, &a.stages, a.requires) == (&b.files, &b.groups, &b.stages, b.requires)
}

/// Returns the stages if none are named: the group `canary`, if there is one, and two shares.
fn usual_stages(groups: &BTreeMap<Word, Vec<HostPattern>>) -> Vec<Stage> {
    let names: BTreeSet<&str> = groups.keys().map(Word::as_str).collect();
    let canary = names.contains("canary").then_some("canary");
    let stages = canary.into_iter().chain(["5%", "25%"]);
    stages.filter_map(|stage| stage.parse().ok()).collect()
}

/// Refuses to push to a database that is more than half full, or whose alarm is on.
fn check_space(site: &mut Site, quota: u64) -> Result<(), Error> {
    if members::is_full(site)? {
        return Err(crate::etcd::Error::Full.into());
    }
    let members = members::ask(site);
    let sizes = members
        .iter()
        .filter_map(|member| member.state.as_ref().ok());
    let largest = sizes.map(|state| state.size).max().unwrap_or_default();
    if largest > quota.saturating_mul(1 << 20) / 2 {
        let mebibytes = largest >> 20;
        return Err(Error::Refused(format!(
            "the database has {mebibytes} MiB, more than half of its quota: `dfw fleet repair` frees space"
        )));
    }
    Ok(())
}
