//! `dfw fetch` as root: it becomes the user that owns the cache, and needs no right to what leads there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use anyhow::{Result, ensure};

use crate::Named;
use crate::fetched::NOBODY;
use crate::namespace::{Report, Sandbox};
use crate::servers::Servers;

pub(crate) const TRIALS: &[Named] = &[
    (
        "root_fetches_below_a_closed_folder",
        root_fetches_below_a_closed_folder,
    ),
    (
        "root_fetches_as_the_owner_of_the_cache",
        root_fetches_as_the_owner_of_the_cache,
    ),
    (
        "nobody_else_chooses_whose_folder_is_written_to",
        nobody_else_chooses_whose_folder_is_written_to,
    ),
];

/// A user that systemd makes for a service, and two others.
const DYNAMIC: u32 = 61_234;
const ALICE: u32 = 60_001;
const BOB: u32 = 60_002;
const LIST: &str = "name-home.example.com";

struct Host {
    sandbox: Sandbox,
    servers: Servers,
}

impl Host {
    fn new() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let servers = Servers::start(&sandbox, &["--host-record=home.example.com,192.0.2.7"], "")?;
        sandbox.write(
            "policies/a.yaml",
            "default: deny\nsources: {home: {name: home.example.com}}\nports: {80: [home]}\n",
        )?;
        Ok(Self { sandbox, servers })
    }

    fn folder(&self, path: &str, mode: u32, owner: u32) -> Result<()> {
        let path = self.sandbox.dir().join(path);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        Ok(chown(path, Some(owner), Some(owner))?)
    }

    /// Fetches into a cache: the lists of policies, or the bundle of a site.
    fn fetch(&self, cache: &str, what: &[&str]) -> Result<Report> {
        let mut dfw = self.servers.dfw(&self.sandbox);
        dfw.arg("fetch").args(what);
        if what.is_empty() {
            dfw.arg(self.sandbox.dir().join("policies"));
        }
        Report::of(dfw.env("DFW_CACHE", self.sandbox.dir().join(cache)))
    }

    /// Fetches a list, and takes it away; it must belong to this user.
    fn has_fetched(&self, cache: &str, owner: u32) -> Result<()> {
        let report = self.fetch(cache, &[])?;
        ensure!(report.code == Some(0), "{report:?}");
        let list = self.sandbox.dir().join(cache).join(LIST);
        ensure!(fs::read_to_string(&list)?.ends_with("\n192.0.2.7\n"));
        owned(&list, owner)?;
        Ok(fs::remove_file(list)?)
    }

    /// Asks for a bundle, which the server does not have.
    fn asks_for_site(&self, cache: &str, owner: u32) -> Result<()> {
        let address = "https://lists.example.com/prod/";
        let report = self.fetch(cache, &[address, "--host-id", "web-1"])?;
        ensure!(report.stderr.contains("404"), "{report:?}");
        let folder = self.sandbox.dir().join(cache).join("site/manifests");
        owned(&folder, owner)
    }
}

fn owned(path: &Path, owner: u32) -> Result<()> {
    let found = fs::metadata(path)?;
    ensure!(
        (found.uid(), found.gid()) == (owner, NOBODY),
        "{} belongs to {}:{}",
        path.display(),
        found.uid(),
        found.gid()
    );
    Ok(())
}

fn root_fetches_below_a_closed_folder() -> Result<()> {
    let host = Host::new()?;
    host.folder("closed", 0o700, 0)?;
    // The folder is made, and is there the next time.
    for _ in 0..2 {
        host.has_fetched("closed/cache", NOBODY)?;
    }
    owned(&host.sandbox.dir().join("closed/cache"), NOBODY)?;
    host.asks_for_site("closed/cache", NOBODY)?;
    host.asks_for_site("closed/other", NOBODY)
}

/// As systemd makes it for `DynamicUser`: `/var/cache/dfw` leads to `/var/cache/private/dfw`.
fn root_fetches_as_the_owner_of_the_cache() -> Result<()> {
    let host = Host::new()?;
    host.folder("private", 0o700, 0)?;
    host.folder("private/dfw", 0o755, DYNAMIC)?;
    symlink("private/dfw", host.sandbox.dir().join("dfw"))?;
    host.has_fetched("dfw", DYNAMIC)?;
    host.asks_for_site("dfw", DYNAMIC)?;
    // A user's own folder, below another one of theirs.
    host.folder("alice", 0o700, ALICE)?;
    host.folder("alice/cache", 0o755, ALICE)?;
    host.has_fetched("alice/cache", ALICE)?;
    // One that root makes there.
    host.has_fetched("alice/new", NOBODY)?;
    host.has_fetched("alice/new", NOBODY)
}

fn nobody_else_chooses_whose_folder_is_written_to() -> Result<()> {
    let host = Host::new()?;
    host.folder("alice", 0o755, ALICE)?;
    host.folder("bob", 0o755, BOB)?;
    host.folder("root", 0o755, 0)?;
    for (name, target) in [("to-bob", "../bob"), ("to-root", "../root")] {
        let link = host.sandbox.dir().join("alice").join(name);
        symlink(target, &link)?;
        lchown(link, Some(ALICE), Some(ALICE))?;
    }
    // A folder of root's that alice has moved here.
    host.folder("alice/moved", 0o755, 0)?;
    for cache in ["alice/to-bob", "alice/to-root", "alice/moved"] {
        for what in [
            &[][..],
            &["https://lists.example.com/prod/", "--host-id", "web-1"],
        ] {
            let report = host.fetch(cache, what)?;
            ensure!(report.code == Some(1), "{cache}: {report:?}");
            ensure!(
                report
                    .stderr
                    .contains("could have dfw write files of others"),
                "{cache}: {report:?}"
            );
        }
    }
    for folder in ["bob", "root", "alice/moved"] {
        let mut entries = fs::read_dir(host.sandbox.dir().join(folder))?;
        ensure!(
            entries.next().is_none(),
            "something was written to {folder}"
        );
    }
    Ok(())
}
