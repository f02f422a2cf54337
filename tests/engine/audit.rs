//! What `dfw audit` and `dfw init` say and write. The matrix holds the audit against what strangers
//! reach on the paths of every engine.

use std::fs;
use std::os::unix::fs::PermissionsExt;

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
    ("audit::a_page_shows_what_the_text_does", pages),
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

/// A page has every port, as open as the audit says, and what it cannot know.
fn pages(lab: &Lab) -> Result<()> {
    let folder = lab.write_policy(POLICY)?;
    lab.apply(POLICY)?;
    let (html, svg) = (
        format!("{folder}/audit.html"),
        format!("{folder}/audit.svg"),
    );
    let options = ["--html", &html, "--svg", &svg];
    let report = audit(lab, &options, Some(11))?;
    let mode = fs::metadata(&html)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let page = fs::read_to_string(&html)?;
    for exposure in exposures(&report)? {
        let title = exposure["published_for"].as_str().unwrap_or_default();
        ensure!(page.contains(&format!(">{title}</bdi>")), "no {title}");
    }
    for part in [
        "<strong>exposed:</strong>",
        "7001/tcp",
        "all 4,294,967,296 IPv4",
        "Docker ",
        "policy.yaml:",
    ] {
        ensure!(page.contains(part), "no {part} in {page}");
    }
    let picture = fs::read_to_string(&svg)?;
    ensure!(
        picture.starts_with("<?xml") && picture.contains("filtered by dfw"),
        "{picture}"
    );
    // On stdout, and with an engine that does not answer.
    let output = lab.dfw(&["audit", "--docker-host", "/run/nobody.sock", "--html", "-"])?;
    let page = String::from_utf8(output.stdout)?;
    let limits = page.split_once("Limits of this audit");
    let limits = limits.and_then(|(_, rest)| rest.split_once("</section>"));
    ensure!(
        limits.is_some_and(|(limits, _)| limits.contains("/run/nobody.sock")),
        "{page}"
    );
    Ok(())
}
