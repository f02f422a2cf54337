//! Others who write at the same time, and what they own.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use dfw::kernel::{Commit, Error, Kernel};
use dfw::ruleset::Ruleset;
use nftnl::{Batch, Chain, MsgType, ProtoFamily, Table};

use crate::Named;
use crate::libnftnl;
use crate::namespace::{Sandbox, compiled, install};
use crate::property::same;
use crate::support::size::times;

pub(crate) const TRIALS: &[Named] = &[
    (
        "others_may_write_now_and_then",
        others_may_write_now_and_then,
    ),
    (
        "others_may_write_all_the_time",
        others_may_write_all_the_time,
    ),
    (
        "what_others_own_is_left_alone",
        what_others_own_is_left_alone,
    ),
    (
        "a_flush_is_detected_and_corrected",
        a_flush_is_detected_and_corrected,
    ),
];

/// The number of attempts; each takes a second to give up.
const CROWDED_APPLIES: usize = 5;
const POLICIES: [&str; 2] = ["policies/web.yaml", "examples/only-web"];

/// `nft` once after the other, as scripts do. Every apply succeeds.
fn others_may_write_now_and_then() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let applies = times(30, 10) as usize;
    let writes = beside_nft(&sandbox, || {
        for number in 0..applies {
            sandbox.dfw_ok(&["apply", &policy(number)])?;
        }
        Ok(())
    })?;
    same(
        &sandbox.installed()?,
        &compiled(POLICIES[(applies - 1) % 2])?,
    )?;
    let rules = sandbox
        .nft("list table ip foreign")?
        .matches("counter")
        .count();
    same(&rules, &writes)
}

/// Starts `nft` once after the other until `work` has ended; says how often it has written.
pub(crate) fn beside_nft(
    sandbox: &Sandbox,
    work: impl FnOnce() -> Result<()> + Send,
) -> Result<usize> {
    sandbox.nft("add table ip foreign; add chain ip foreign c")?;
    let write = || Ok(sandbox.nft("add rule ip foreign c counter accept")?.len());
    let (done, writes) = beside(write, work)?;
    done?;
    Ok(writes)
}

/// One commit behind the other, without a pause: dfw gets its turn, or says that it did not.
fn others_may_write_all_the_time() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let first = compiled(POLICIES[0])?;
    sandbox.install(&first)?;
    sandbox.nft("add table ip foreign")?;
    let ((applied, busy), writes) = sandbox
        .namespace()
        .run(|| {
            let socket = mnl::Socket::new(mnl::Bus::Netfilter)?;
            let mut number = 0;
            beside(
                || {
                    number += 1;
                    add_chain(&socket, number)
                },
                || {
                    let kernel = sandbox.namespace().run(|| Ok(Kernel::open()?))?;
                    applies(&sandbox, &kernel)
                },
            )
        })
        .and_then(|(counts, writes)| Ok((counts?, writes)))?;
    ensure!(
        applied + busy == CROWDED_APPLIES,
        "{applied} applied, {busy} busy"
    );
    // Whatever the last one reported: the table is complete, and no other table lost anything.
    let installed = sandbox.installed()?;
    ensure!(
        installed == first || installed == compiled(POLICIES[1])?,
        "neither of the two"
    );
    sandbox.dfw_ok(&["apply", &policy(1)])?;
    same(&sandbox.installed()?, &compiled(POLICIES[1])?)?;
    let chains = sandbox
        .nft("list table ip foreign")?
        .matches("chain c")
        .count();
    same(&chains, &writes)
}

fn applies(sandbox: &Sandbox, kernel: &Kernel) -> Result<(usize, usize)> {
    let (mut applied, mut busy) = (0, 0);
    for number in 0..CROWDED_APPLIES {
        let ruleset = compiled(POLICIES[number % 2])?;
        let mut tries = 0..32;
        loop {
            if tries.next().is_none() {
                regardless(kernel, &ruleset)?;
                busy += 1;
                break;
            }
            match kernel.snapshot() {
                Ok(snapshot) => match kernel.replace(&ruleset, "", snapshot.generation)? {
                    Commit::Overtaken => {}
                    Commit::InForce { .. } => {
                        applied += 1;
                        break;
                    }
                },
                Err(Error::Busy) => {
                    regardless(kernel, &ruleset)?;
                    busy += 1;
                    break;
                }
                Err(error) => return Err(error).context(sandbox.listing().unwrap_or_default()),
            }
        }
    }
    Ok((applied, busy))
}

/// Who does not ask what was there before is overtaken by nobody.
fn regardless(kernel: &Kernel, ruleset: &Ruleset) -> Result<()> {
    ensure!(kernel.replace(ruleset, "", None)? != Commit::Overtaken);
    Ok(())
}

/// One commit of another program's, made by another library.
pub(crate) fn add_chain(socket: &mnl::Socket, number: usize) -> Result<usize> {
    let table = Table::new(c"foreign", ProtoFamily::Ipv4);
    let chain = Chain::new(CString::new(format!("c{number}"))?, &table);
    let mut batch = Batch::new();
    batch.add(&chain, MsgType::Add);
    libnftnl::send(socket, batch)?;
    Ok(0)
}

/// Repeats `write` until `work` has ended; says what `work` did and how often `write` was done.
pub(crate) fn beside<T: Send>(
    mut write: impl FnMut() -> Result<usize>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<(Result<T>, usize)> {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let done = work();
            ended.store(true, Ordering::Release);
            done
        });
        let mut writes = 0;
        while !worker.is_finished() && !ended.load(Ordering::Acquire) {
            write()?;
            writes += 1;
        }
        let done = worker
            .join()
            .map_err(|_| anyhow::anyhow!("the worker panicked"))?;
        Ok((done, writes))
    })
}

fn policy(number: usize) -> String {
    format!("{}/{}", env!("CARGO_MANIFEST_DIR"), POLICIES[number % 2])
}

/// Tables of all sorts, some with names that are almost dfw's.
const FOREIGN: &str = "
table inet dfw {
    set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }
    chain forward { type filter hook forward priority -5; policy drop; ip saddr @s accept; }
}
table ip dfw-nft {
    map m { type inet_service : verdict; elements = { 80 : accept }; }
    chain published { type filter hook input priority 0; policy accept; tcp dport vmap @m; }
}
table ip6 filter {
    chain DOCKER-USER { counter packets 3 bytes 7 return; }
}
table inet dfw-nft2 {
    counter c { }
    chain c { counter name c; }
}
table arp a {
    chain c { type filter hook input priority 0; policy accept; }
}
table bridge b {
    chain c { type filter hook forward priority 0; policy accept; }
}
table netdev n {
    chain c { type filter hook ingress device lo priority 0; policy accept; }
}
";

fn what_others_own_is_left_alone() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.nft_load(&["-f"], FOREIGN)?;
    let before = sandbox.listing()?;
    let foreign = |listing: &str| -> Vec<String> {
        let tables = listing.split_inclusive("\n}\n");
        let theirs = tables.filter(|table| !table.starts_with("table inet dfw-nft {"));
        theirs.map(str::to_owned).collect()
    };
    for number in 0..3 {
        sandbox.dfw_ok(&["apply", &policy(number)])?;
        let listing = sandbox.listing()?;
        ensure!(listing.contains("table inet dfw-nft {"), "not applied");
        same(&foreign(&listing), &foreign(&before))?;
    }
    let status = sandbox.dfw_ok(&["status"])?;
    for chain in ["inet dfw forward", "ip dfw-nft published"] {
        ensure!(status.contains(chain), "{chain} is missing from\n{status}");
    }
    ensure!(!status.contains("drift"), "{status}");
    sandbox.dfw_ok(&["remove"])?;
    same(&sandbox.listing()?, &before)?;
    ensure!(sandbox.dfw_ok(&["remove"])?.starts_with("no changes"));
    same(&sandbox.listing()?, &before)
}

fn a_flush_is_detected_and_corrected() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let ruleset = compiled(POLICIES[0])?;
    sandbox.kernel(|kernel| install(kernel, &ruleset))?;
    sandbox.nft("flush ruleset")?;
    ensure!(
        sandbox
            .dfw_ok(&["status"])?
            .starts_with("problems:\n  not installed: ")
    );
    let status: serde_json::Value = serde_json::from_str(&sandbox.dfw_ok(&["status", "--json"])?)?;
    ensure!(status["installed"].is_null(), "{status}");
    same(&status["problems"][0]["kind"], &"not-installed".into())?;
    sandbox.dfw(&["show"])?.expect_failure(1, "not-installed")?;
    ensure!(sandbox.dfw_ok(&["apply", &policy(0)])?.contains("applied"));
    same(&sandbox.installed()?, &ruleset)?;
    ensure!(sandbox.dfw_ok(&["status"])?.contains("\ninstalled: "));
    Ok(())
}
