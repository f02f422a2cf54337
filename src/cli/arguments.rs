//! Arguments shared by several commands: the path of the policies and the engines to query.

use std::io;
use std::path::{Path, PathBuf};

use crate::bundle::word::Word;
use crate::bundle::{Address, Keys, Role};
use crate::fetch::site;
use crate::host::docker::{Ask, System};
use crate::store::Location;
use crate::store::bundle::{HEAD, Trust, is_bundle};
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::keys;
use super::report::failure::Failure;

/// The default path of policies.
pub(super) const DEFAULT_PATH: &str = "/etc/dfw/policies";

/// The default directories; the environment and the service manager override them.
const STATE: &str = "/var/lib/dfw";
const CACHE: &str = "/var/cache/dfw";

/// Returns the state directory: the last good policies, and the accepted lists.
pub(super) fn state() -> PathBuf {
    folder("STATE_DIRECTORY", STATE)
}

/// Returns the cache: the directory that `dfw fetch` writes to.
pub(super) fn cache() -> PathBuf {
    folder("DFW_CACHE", CACHE)
}

/// Returns the first directory in a variable of the environment, or the default.
pub(super) fn folder(variable: &str, usual: &str) -> PathBuf {
    let folders = std::env::var(variable).unwrap_or_default();
    let first = folders.split(':').find(|folder| !folder.is_empty());
    Path::new(first.unwrap_or(usual)).to_owned()
}

// The argument with the path of the policies.
#[derive(Debug, clap::Args)]
pub(super) struct PolicyPath {
    /// A directory, a file, or a bundle
    ///
    /// All *.yaml files of a directory are one policy. <https://HOST/SITE/> and <etcd://HOST,HOST,HOST/SITE>
    /// are addresses of a bundle: `guard` follows it, `fetch` fetches it, others read what was fetched.
    #[arg(default_value = DEFAULT_PATH)]
    pub(super) path: PathBuf,
    #[command(flatten)]
    bundle: BundleArgs,
}

impl PolicyPath {
    /// Returns the address of a site, if one is named in place of a path.
    pub(super) fn address(&self) -> Result<Option<Address>, Failure> {
        address(&self.path)
    }

    /// Returns the name of this host, if one is given.
    pub(super) fn host(&self) -> Option<&Word> {
        self.bundle.host_id.as_ref()
    }

    /// Returns where the fetched bundle of a site is.
    pub(super) fn to_follow(&self, address: &Address) -> Result<Location, Failure> {
        self.bundle.to_follow(address)
    }

    /// Returns where the policies are, for a verb that only shows what they mean.
    pub(super) fn to_show(&self) -> Result<Location, Failure> {
        self.bundle.to_show(&self.path)
    }

    /// Returns where the policies are, for a verb that puts them in force.
    pub(super) fn to_enforce(&self) -> Result<Location, Failure> {
        self.bundle.to_enforce(&self.path)
    }
}

/// Returns the address of a site, if it is one and no path.
fn address(path: &Path) -> Result<Option<Address>, Failure> {
    let text = path.to_str().filter(|text| Address::is_meant(text));
    let address = text.map(str::parse).transpose();
    address.map_err(|reason: &str| {
        let message = format!(
            "{} is no address of a site: {reason}",
            untrusted::path(path)
        );
        Failure::plain(Diagnostic::error("address", message))
    })
}

/// Returns where `dfw fetch` puts the bundle of a site.
pub(super) fn fetched() -> PathBuf {
    cache().join(site::FOLDER)
}

/// The heading of these options in the help.
const BUNDLES: &str = "Options for bundles";

// The options for policies that are a bundle.
#[derive(Debug, clap::Args)]
pub(super) struct BundleArgs {
    /// Trust this key of minisign: a file, or a directory of *.pub files [default: /etc/dfw/policy.pub.d]
    ///
    /// It may sign which policies come into force. Can be repeated. `apply`, `plan`, `guard` and `fetch` take only
    /// bundles that a trusted key signed; others check the signature if a key is given.
    #[arg(long, value_name = "KEY", hide_short_help = true, help_heading = BUNDLES)]
    trusted_key: Vec<PathBuf>,
    /// Trust this key for heads only [default: /etc/dfw/operations.pub.d]
    ///
    /// It may renew the time until which a bundle is valid. Can be repeated.
    #[arg(long, value_name = "KEY", hide_short_help = true, help_heading = BUNDLES)]
    operations_key: Vec<PathBuf>,
    /// Take only a bundle of this site
    #[arg(long, value_name = "SITE", hide_short_help = true, help_heading = BUNDLES)]
    site: Option<Word>,
    /// The name of the host, which decides its groups
    #[arg(long, value_name = "NAME", hide_short_help = true, help_heading = BUNDLES)]
    host_id: Option<Word>,
}

impl BundleArgs {
    /// Returns the place of policies that are only shown: a signature is checked if a key is given, and that of what
    /// was fetched always.
    pub(super) fn to_show(&self, path: &Path) -> Result<Location, Failure> {
        if let Some(address) = address(path)? {
            return self.to_read(&address);
        }
        let keys = if self.has_keys() {
            let mut keys = Keys::default();
            keys::add(&mut keys, Role::Policy, &self.trusted_key)?;
            keys::add(&mut keys, Role::Operations, &self.operations_key)?;
            Some(keys)
        } else {
            None
        };
        Ok(self.location(path, keys))
    }

    fn has_keys(&self) -> bool {
        !(self.trusted_key.is_empty() && self.operations_key.is_empty())
    }

    /// Returns the place of policies that come into force: only a trusted key may have signed them.
    pub(super) fn to_enforce(&self, path: &Path) -> Result<Location, Failure> {
        if let Some(address) = address(path)? {
            let mut location = self.to_read(&address)?;
            location.trust.is_enforced = true;
            return Ok(location);
        }
        let mut keys = Keys::default();
        // A damaged key does not stop policies that are no bundle.
        let is_bundle = is_bundle(path);
        if is_bundle {
            keys::add_or_default(&mut keys, Role::Policy, &self.trusted_key)?;
            keys::add_or_default(&mut keys, Role::Operations, &self.operations_key)?;
        }
        let mut location = self.location(path, Some(keys));
        location.trust.is_enforced = true;
        location.trust.is_required = is_bundle || self.has_keys();
        if is_bundle {
            let checked = location.trust.check_keys(path);
            checked.map_err(|error| Failure::bundle(&error))?;
        }
        Ok(location)
    }

    /// Returns the place of the bundle of a site in the cache. Guard decides itself what has expired.
    fn to_follow(&self, address: &Address) -> Result<Location, Failure> {
        let mut keys = Keys::default();
        keys::add_or_default(&mut keys, Role::Policy, &self.trusted_key)?;
        keys::add_or_default(&mut keys, Role::Operations, &self.operations_key)?;
        let mut location = self.location(&fetched(), Some(keys));
        location.trust.is_required = true;
        location
            .trust
            .site
            .get_or_insert_with(|| address.site().clone());
        let checked = location.trust.check_keys(Path::new(&address.to_string()));
        checked.map_err(|error| Failure::bundle(&error))?;
        Ok(location)
    }

    /// Returns the same for verbs that follow nothing: the bundle must have been fetched before.
    fn to_read(&self, address: &Address) -> Result<Location, Failure> {
        let location = self.to_follow(address)?;
        match location.path.join(HEAD).symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = format!("nothing was fetched from {address}");
                let error = Diagnostic::error("not-fetched", message);
                Err(Failure::plain(
                    error.help(format!("`dfw fetch {address}` fetches it")),
                ))
            }
            _ => Ok(location),
        }
    }

    fn location(&self, path: &Path, keys: Option<Keys>) -> Location {
        Location {
            path: path.to_owned(),
            trust: Trust {
                keys,
                site: self.site.clone(),
                host: self.host_id.clone(),
                ..Trust::default()
            },
        }
    }
}

// The option with the engines to query.
#[derive(Debug, clap::Args)]
pub(super) struct EngineArgs {
    /// Engine to query: PATH, tcp://HOST:PORT, system, running or none
    ///
    /// Can be repeated, or a comma-separated list. `system`, the default, queries Docker at
    /// /run/docker.sock and Podman at /run/podman/podman.sock; `running` only those that already run,
    /// because a query starts a socket-activated Podman.
    #[arg(
        long,
        value_name = "ENGINE",
        env = "DFW_DOCKER_HOST",
        value_delimiter = ',',
        hide_env_values = true
    )]
    docker_host: Option<Vec<String>>,
}

impl EngineArgs {
    pub(super) fn ask(&self) -> Ask {
        let Some(given) = &self.docker_host else {
            return Ask {
                system: System::All,
                ..Ask::default()
            };
        };
        let mut ask = Ask::default();
        for engine in given {
            match engine.trim() {
                "none" | "" => {}
                "running" => ask.system = System::Running,
                "system" => ask.system = System::All,
                address if ask.names(address) => {}
                address => ask.named.push(address.to_owned()),
            }
        }
        ask
    }
}

/// Returns the command to type for a verb, without the path if it is the default.
pub(super) fn command(verb: &str, path: &Path) -> String {
    if path == Path::new(DEFAULT_PATH) {
        format!("`dfw {verb}`")
    } else {
        format!("`dfw {verb} {}`", untrusted::path(path))
    }
}
