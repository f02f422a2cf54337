//! What `dfw audit` and `dfw init` say and write. The matrix holds the audit against what strangers
//! reach on the paths of every engine.

use anyhow::{Result, ensure};

use crate::Named;
use crate::paths::trusted_reaches_all;
use crate::support::audit::{agrees, audit, exposures};
use crate::support::lab::Lab;
use crate::support::paths::POLICY;

pub(crate) const TRIALS: &[Named] = &[
    ("audit::is_there_before_any_policy", without_dfw),
    ("audit::finds_what_the_policy_leaves_open", with_dfw),
    ("audit::a_first_policy_covers_everything", first_policy),
    (
        "audit::a_policy_is_audited_before_it_is_applied",
        beforehand,
    ),
];

fn without_dfw(lab: &Lab) -> Result<()> {
    let audit = audit(lab, &[], Some(11))?;
    ensure!(audit["guarded"] == false && audit["exposed"] == true);
    ensure!(
        audit["engines"][0]["kind"] == "docker",
        "the engine is not among {}",
        audit["engines"]
    );
    agrees(lab, &audit, [])
}

fn with_dfw(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    // One container in the host's network serves a port that the policy does not name.
    let audit = audit(lab, &[], Some(11))?;
    let open: Vec<_> = exposures(&audit)?
        .filter(|exposure| exposure["open_to"] == "any")
        .map(|exposure| (exposure["port"].clone(), exposure["path"].clone()))
        .collect();
    ensure!(
        open == [
            (7001.into(), "host-network".into()),
            (7001.into(), "host-network".into())
        ],
        "open to any: {open:?}"
    );
    agrees(lab, &audit, [])?;
    lab.apply(&format!("{POLICY}  7001: []\n  4444: any\n"))?;
    let audit = crate::support::audit::audit(lab, &[], Some(0))?;
    ensure!(
        audit["not_published"] == serde_json::json!(["4444/tcp"]),
        "{}",
        audit["not_published"]
    );
    agrees(lab, &audit, [])
}

/// From exposed to covered by what `init` has written, and by nothing else; never twice.
fn first_policy(lab: &Lab) -> Result<()> {
    let dir = lab.fresh_folder()?;
    let init = lab.dfw(&["init", &dir, "--allow", "203.0.113.20,2001:db8:1::20"])?;
    ensure!(init.status.success(), "{init:?}");
    let again = lab.dfw(&["init", &dir])?;
    ensure!(again.status.code() == Some(1), "{again:?}");
    let applied = lab.dfw(&["apply", &dir])?;
    ensure!(applied.status.success(), "{applied:?}");
    let audit = audit(lab, &[], Some(0))?;
    ensure!(
        exposures(&audit)?.all(|exposure| exposure["open_to"] != "any"),
        "{audit:#}"
    );
    agrees(lab, &audit, [])?;
    trusted_reaches_all(lab)
}

/// The same answer, before and after.
fn beforehand(lab: &Lab) -> Result<()> {
    let path = lab.write_policy(POLICY)?;
    let before = audit(lab, &["--policy", &path], None)?;
    lab.apply(POLICY)?;
    let after = audit(lab, &[], None)?;
    ensure!(before["paths"] == after["paths"]);
    Ok(())
}
