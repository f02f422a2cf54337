//! `dfw bundle`: signed, numbered policies.

mod create;
mod renew;
mod verify;

#[cfg(feature = "etcd")]
pub(in crate::cli) use create::failure;
pub(in crate::cli) use create::group;

use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::bundle::head::{LONGEST, SHORTEST};
use crate::bundle::moment::Moment;
use crate::bundle::word::{HostPattern, Word};
use crate::bundle::{Entry, Head, Manifest};
use crate::cli::arguments::BundleArgs;
use crate::cli::report::failure::Failure;
use crate::output::table::count;
use crate::output::terminal::Terminal;
use crate::policy::{describe_time, parse_time};
use crate::store::Location;
use crate::store::bundle::{OpenError, is_bundle, now};
use crate::text::diagnostic::Diagnostic;
use crate::untrusted::{self, is_deceptive};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct BundleVerbs {
    #[command(subcommand)]
    verb: BundleVerb,
}

#[derive(Debug, Subcommand)]
enum BundleVerb {
    /// Make a bundle of a directory, and print the commands that sign it
    ///
    /// Reads the policies as `check` does, for the hosts of each group, and runs their tests. The same input and
    /// the same `--created` make the same bundle.
    Create(create::CreateArgs),
    /// Check the signatures, the digests and the time of a bundle
    Verify(verify::VerifyArgs),
    /// Write a new head for a bundle, valid for longer, and print the command that signs it
    ///
    /// The files stay. The key that signs heads may be another one than the key that signs policies.
    Renew(renew::RenewArgs),
}

// The times of a head.
#[derive(Debug, clap::Args)]
struct TimeArgs {
    /// For how long hosts accept it: from `1m` to `366d`
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = valid)]
    expires_in: Duration,
    /// When it is made, such as 2026-11-29T16:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    created: Option<Moment>,
}

impl TimeArgs {
    fn created(&self) -> Moment {
        self.created.unwrap_or_else(now)
    }
}

pub(in crate::cli) fn valid(text: &str) -> Result<Duration, String> {
    let time = parse_time(text).ok_or("write a time such as `12h`, `7d` or `4w`")?;
    if (SHORTEST..=LONGEST).contains(&time) {
        Ok(time)
    } else {
        let (least, most) = (describe_time(SHORTEST), describe_time(LONGEST));
        Err(format!("must be between {least} and {most}"))
    }
}

pub(in crate::cli) fn run(terminal: Terminal, args: &BundleVerbs) -> Result<(), Failure> {
    match &args.verb {
        BundleVerb::Create(args) => create::run(terminal, args),
        BundleVerb::Verify(args) => verify::run(terminal, args),
        BundleVerb::Renew(args) => renew::run(terminal, args),
    }
}

/// Returns where a bundle is, and the keys that must have signed it.
fn location(args: &BundleArgs, path: &Path) -> Result<Location, Failure> {
    if is_bundle(path) {
        return args.to_enforce(path);
    }
    let error = OpenError::NoBundle(path.to_owned());
    Err(Failure::bundle(&error))
}

/// Returns the document about a bundle; `commands` sign it.
fn document(head: &Head, manifest: &Manifest, warnings: &[Value], commands: &[String]) -> Value {
    let group = |(name, hosts): (&Word, &Vec<HostPattern>)| json!({"name": name, "hosts": hosts});
    let file = |file: &Entry| json!({"name": file.name, "sha256": file.sha256, "size": file.size});
    json!({
        "schema": "dfw/bundle/v1",
        "site": head.site,
        "serial": head.serial,
        "generation": head.generation,
        "created": head.created,
        "expires": head.expires,
        "manifest": head.manifest,
        "requires": manifest.requires,
        "groups": manifest.groups.iter().map(group).collect::<Vec<_>>(),
        "stages": manifest.stages,
        "files": manifest.files.iter().map(file).collect::<Vec<_>>(),
        "commands": commands,
        "warnings": warnings,
    })
}

/// Returns what a bundle is, in a few lines for people.
fn describe(head: &Head, manifest: &Manifest) -> String {
    let size: u64 = manifest.files.iter().map(|file| file.size).sum();
    let mut text = format!(
        "  site {}, generation {}, serial {}, expires {}\n  {}, {size} bytes, for dfw {} and newer\n",
        head.site,
        head.generation,
        head.serial,
        head.expires,
        count(manifest.files.len(), "file", "files"),
        manifest.requires,
    );
    for (group, hosts) in &manifest.groups {
        let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        let line = format!("  group {group}: {}\n", hosts.join(", "));
        text.push_str(&line);
    }
    text
}

/// Returns the command that signs a file.
fn sign(path: &Path, comment: &str) -> Result<String, Failure> {
    let unusable = || {
        let message = format!("{} is no path for a command line", untrusted::path(path));
        Failure::plain(Diagnostic::error("path", message))
    };
    let text = path.to_str().filter(|text| !text.contains(is_deceptive));
    let text = text.ok_or_else(unusable)?;
    let (file, signature) = (quoted(text), quoted(&format!("{text}.minisig")));
    Ok(format!(
        "minisign -S -s KEY -t '{comment}' -m {file} -x {signature} && cat {signature} >>{file} && rm {signature}"
    ))
}

/// Returns a path as a word of a shell, which is no option.
fn quoted(text: &str) -> String {
    let text = if text.starts_with('-') {
        format!("./{text}")
    } else {
        text.to_owned()
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,=@%".contains(c);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Returns the text about the commands that sign a bundle.
fn commands(commands: &[String]) -> String {
    let lines = commands.join("\n  ");
    format!("sign it, with the file of the secret key for KEY:\n  {lines}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_words_of_a_shell() {
        for (path, word) in [
            ("out/head", "out/head"),
            ("my out/head", "'my out/head'"),
            ("it's", r"'it'\''s'"),
            ("-x", "./-x"),
            ("$(reboot)", "'$(reboot)'"),
            ("", ""),
        ] {
            assert_eq!(quoted(path), word);
        }
        assert!(sign(Path::new("a\nb"), "").is_err());
    }
}
