//! The README and the pages in `docs/`, run as they are written: their commands print what they say.
//!
//! Blocks of ```` ```console ```` are run. With `$` before the commands each page is run in a network
//! namespace of its own, where there is no engine; with `# dfw`, which is what a newcomer types as
//! root, beside a real one. `UPDATE=1` writes the outputs anew. Needs root.

#![expect(
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "a black-box test starts programs and reports to the terminal"
)]

mod newcomer;
#[expect(
    dead_code,
    reason = "what only the engine's trials use of what both of them share"
)]
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Trial};

/// Set to the page in the process that runs one in its own namespace.
const INSIDE: &str = "DFW_PAGE_INSIDE";

fn main() -> Result<ExitCode> {
    if let Some(code) = support::helper_main() {
        return Ok(code);
    }
    if let Some(page) = std::env::var_os(INSIDE) {
        run(Path::new(&page))?;
        return Ok(ExitCode::SUCCESS);
    }
    let missing = newcomer::EDITION.missing();
    let skip = !missing.is_empty() && std::env::var("CI").as_deref() != Ok("true");
    for thing in &missing {
        eprintln!("the pages need {thing}");
    }
    let mut trials = vec![Trial::test("the_shown_policy", || report(shown_policy()))];
    let mut beside_an_engine = Vec::new();
    for page in pages()? {
        let name = page.display().to_string();
        let text = fs::read_to_string(root().join(&page))?;
        let runs = |prompt| text.contains(&format!("\n```console\n{prompt} "));
        if runs("$") {
            let page = page.clone();
            trials.push(Trial::test(name, move || report(alone(&page))));
        }
        if runs("# dfw") {
            beside_an_engine.push(root().join(&page));
        }
    }
    trials.push(Trial::test("pages_beside_an_engine", move || {
        report(newcomer::follow(&beside_an_engine))
    }));
    let trials = trials
        .into_iter()
        .map(|trial| trial.with_ignored_flag(skip))
        .collect();
    Ok(libtest_mimic::run(&Arguments::from_args(), trials).exit_code())
}

fn report(result: Result<()>) -> Result<(), libtest_mimic::Failed> {
    result.map_err(|error| format!("{error:#}").into())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// The README and all of `docs/`.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![PathBuf::from("README.md")];
    for entry in fs::read_dir(root().join("docs"))? {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|end| end == "md") {
            pages.push(Path::new("docs").join(name));
        }
    }
    pages.sort();
    Ok(pages)
}

fn shown_policy() -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let policy = fs::read_to_string(root().join("policies/web.yaml"))?;
    ensure!(
        readme.contains(&format!("```yaml\n{policy}```")),
        "the policy that the README shows is not policies/web.yaml"
    );
    Ok(())
}

/// Runs this very program again for one page, in a new network namespace.
fn alone(page: &Path) -> Result<()> {
    let mut command = Command::new("unshare");
    if update() {
        command.env("TRYCMD", "overwrite");
    }
    let output = command
        .arg("--net")
        .arg(std::env::current_exe()?)
        .env(INSIDE, page)
        .env("DFW_DOCKER_HOST", "none")
        .output()
        .context("util-linux has unshare")?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn run(page: &Path) -> Result<()> {
    let original = root().join(page);
    let text = fs::read_to_string(&original)?;
    // A page shows a time, as a person sees one; every run has its own.
    let (anytime, time) = without_time(&text);
    let name = page.to_string_lossy().replace('/', "-");
    // Two runs at once share the folder above.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string());
    fs::create_dir_all(&folder)?;
    let copy = folder.join(name);
    fs::write(&copy, anytime)?;
    trycmd::TestCases::new()
        .default_bin_name("dfw")
        .env("NO_COLOR", "1")
        .case(&copy)
        .run();
    if update() {
        fs::write(
            &original,
            fs::read_to_string(&copy)?.replace(ANYTIME, &time),
        )?;
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

const ANYTIME: &str = "dfw 0.1.0 at [..] from";

/// The page with a wildcard for the time at which a policy was applied, and what stood there.
fn without_time(page: &str) -> (String, String) {
    let stamp = page.split_once("dfw 0.1.0 at ").and_then(|(_, rest)| {
        let (time, _) = rest.split_once(" from")?;
        Some(format!("dfw 0.1.0 at {time} from"))
    });
    let stamp = stamp.unwrap_or_else(|| ANYTIME.to_owned());
    (page.replace(&stamp, ANYTIME), stamp)
}
