//! `dfw bundle create`: a directory of policies to a bundle.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::bundle::Stage;
use crate::bundle::version::Version;
use crate::bundle::word::{HostPattern, Word};
use crate::cli::arguments::DEFAULT_PATH;
use crate::cli::load;
use crate::cli::report::failure::Failure;
use crate::output::terminal::{Terminal, Tone};
use crate::store::pack::{Pack, PackError, Statements};
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::{TimeArgs, commands, describe, document, sign};

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// The directory of the policies; files of a group are in the folder with its name
    #[arg(value_name = "DIR", default_value = DEFAULT_PATH)]
    folder: PathBuf,
    /// The site: hosts take only bundles of their site
    #[arg(long, value_name = "NAME")]
    site: Word,
    /// The number of these policies, higher than that of all earlier ones
    #[arg(long, value_name = "NUMBER")]
    generation: u64,
    /// The number of the head, higher than that of all earlier heads
    #[arg(long, value_name = "NUMBER")]
    serial: u64,
    /// A group and its hosts: `web=web-1,web-2` or `web=web-*`. Can be repeated
    #[arg(long, value_name = "NAME=HOSTS", value_parser = group)]
    group: Vec<(Word, Vec<HostPattern>)>,
    /// The hosts that come next in a roll-out: a group, or a share such as `5%`. Can be repeated
    ///
    /// For `dfw fleet`; hosts that follow a web server do not wait. What no stage names comes last.
    #[arg(long, value_name = "GROUP|SHARE")]
    stage: Vec<Stage>,
    /// The oldest dfw that understands the policies [default: this version]
    #[arg(long, value_name = "VERSION")]
    requires: Option<Version>,
    #[command(flatten)]
    time: TimeArgs,
    /// Write the bundle to this directory, which must be new or empty
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

pub(in crate::cli) fn group(text: &str) -> Result<(Word, Vec<HostPattern>), String> {
    let (name, hosts) = text
        .split_once('=')
        .ok_or("expected a name, `=` and hosts, such as `web=web-1,web-2`")?;
    let mut patterns = hosts
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<HostPattern>, _>>()?;
    patterns.sort();
    patterns.dedup();
    Ok((name.parse()?, patterns))
}

impl CreateArgs {
    fn statements(&self) -> Result<Statements, Failure> {
        let mut groups = BTreeMap::new();
        for (name, hosts) in &self.group {
            if groups.insert(name.clone(), hosts.clone()).is_some() {
                let message = format!("the group {name} is there twice");
                return Err(Failure::plain(Diagnostic::error("group", message)));
            }
        }
        Ok(Statements {
            site: self.site.clone(),
            generation: self.generation,
            serial: self.serial,
            created: self.time.created(),
            valid: self.time.expires_in,
            requires: self.requires.unwrap_or_else(Version::own),
            groups,
            stages: self.stage.clone(),
        })
    }
}

pub(super) fn run(terminal: Terminal, args: &CreateArgs) -> Result<(), Failure> {
    let statements = args.statements()?;
    let pack = Pack::of(&args.folder, &statements, load::texts);
    let pack = pack.map_err(|error| failure(error, &args.folder))?;
    let output = &args.output;
    let unwritable = |reason: &str| {
        let message = format!("cannot write to {}: {reason}", untrusted::path(output));
        Failure::plain(Diagnostic::error("unwritable", message))
    };
    let is_empty = fs::read_dir(output)
        .map_or_else(|_| !output.exists(), |mut entries| entries.next().is_none());
    if !is_empty {
        return Err(unwritable("it is not an empty directory"));
    }
    let to_sign = pack.write(output);
    let to_sign = to_sign.map_err(|error| unwritable(&error.to_string()))?;
    let signing = to_sign.iter().map(|(path, comment)| sign(path, comment));
    let signing = signing.collect::<Result<Vec<_>, _>>()?;
    terminal.answer(
        || document(&pack.head, &pack.manifest, &[], &signing),
        || {
            format!(
                "{}: {}\n{}{}",
                terminal.paint(Tone::Good, "created"),
                untrusted::path(output),
                describe(&pack.head, &pack.manifest),
                commands(&signing),
            )
        },
    )?;
    Ok(())
}

pub(in crate::cli) fn failure(error: PackError, folder: &Path) -> Failure {
    match error {
        PackError::Load(wrong) => load::failure(*wrong, folder),
        PackError::File { .. } | PackError::Text(_) | PackError::TooLate => {
            Failure::plain(Diagnostic::error("bundle", error.to_string()))
        }
    }
}
