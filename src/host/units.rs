//! Which units of dfw systemd starts at boot, read from its folders.
//!
//! A unit is enabled by links in the folders `*.wants` and `*.requires` of others (systemd.unit(5), "\\[Install\\]
//! Section Options"); these are what `systemctl is-enabled` reads, too.

use std::fs;
use std::path::Path;

/// The units that bring the rules into force, each by itself.
pub const UNITS: [&str; 2] = ["dfw.service", "dfw-apply.service"];

/// The folders of units, by systemd.unit(5), "Unit File Load Path".
const FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// What systemd does with dfw's units at boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Units {
    /// Systemd is not the manager here, or none of the units is installed.
    None,
    /// None of these, which are installed, is enabled.
    Disabled(Vec<&'static str>),
    /// These are enabled.
    Enabled(Vec<&'static str>),
}

impl Units {
    /// Reads the folders below a root, `/` for those of this host.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        // systemd's test for itself, sd_booted(3).
        if !root.join("run/systemd/system").is_dir() {
            return Self::None;
        }
        let is_there = |unit: &str| {
            let folders = FOLDERS.iter();
            folders
                .map(|folder| root.join(folder).join(unit))
                .any(|unit| unit.symlink_metadata().is_ok())
        };
        let installed: Vec<_> = UNITS.into_iter().filter(|unit| is_there(unit)).collect();
        if installed.is_empty() {
            return Self::None;
        }
        let is_enabled = |unit: &&str| {
            FOLDERS
                .iter()
                .any(|folder| is_wanted(&root.join(folder), unit))
        };
        let enabled: Vec<_> = installed.iter().copied().filter(is_enabled).collect();
        if enabled.is_empty() {
            Self::Disabled(installed)
        } else {
            Self::Enabled(enabled)
        }
    }
}

/// Returns whether a folder of units has a unit that wants or requires this one.
fn is_wanted(folder: &Path, unit: &str) -> bool {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            let path = entry.path();
            let is_of_links = path
                .extension()
                .is_some_and(|extension| extension == "wants" || extension == "requires");
            is_of_links && path.join(unit).symlink_metadata().is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn units_are_enabled_by_links() -> std::io::Result<()> {
        let root = tempfile::tempdir()?;
        let root = root.path();
        let system = root.join("etc/systemd/system");
        let library = root.join("usr/lib/systemd/system");
        fs::create_dir_all(&library)?;
        fs::create_dir_all(system.join("multi-user.target.wants"))?;
        fs::write(library.join("dfw.service"), "")?;
        // No systemd.
        assert_eq!(Units::read(root), Units::None);
        fs::create_dir_all(root.join("run/systemd/system"))?;
        assert_eq!(Units::read(root), Units::Disabled(vec!["dfw.service"]));
        let link = system.join("multi-user.target.wants/dfw.service");
        symlink("/usr/lib/systemd/system/dfw.service", &link)?;
        assert_eq!(Units::read(root), Units::Enabled(vec!["dfw.service"]));
        // A link of another unit, and a file beside the folders, enable nothing.
        fs::remove_file(&link)?;
        fs::write(system.join("multi-user.target.wants/dfw-fetch.service"), "")?;
        fs::write(library.join("dfw-apply.service"), "")?;
        assert_eq!(Units::read(root), Units::Disabled(UNITS.to_vec()));
        fs::remove_file(library.join("dfw.service"))?;
        fs::remove_file(library.join("dfw-apply.service"))?;
        assert_eq!(Units::read(root), Units::None);
        Ok(())
    }
}
