//! Files of public keys.

use std::path::{Path, PathBuf};

use crate::bundle::{Keys, Role};
use crate::file::{self, Accept, Limit};
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::report::failure::Failure;

/// The longest file with a key, in bytes. A key of minisign has about a hundred.
const LONGEST: u64 = 4096;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Policies are shown: of a key that everybody can write to dfw warns.
    Show,
    /// Policies come into force: such a key is an error.
    Enforce,
}

/// Adds the keys in these files and directories, to check policies that are only shown.
pub(super) fn add(keys: &mut Keys, role: Role, places: &[PathBuf]) -> Result<(), Failure> {
    add_all(keys, role, places, Purpose::Show)
}

fn add_all(
    keys: &mut Keys,
    role: Role,
    places: &[PathBuf],
    purpose: Purpose,
) -> Result<(), Failure> {
    for place in places {
        let folder = file::folder(place).map_err(|error| unusable(place, &error.to_string()))?;
        let Some(names) = folder else {
            add_file(keys, role, place, purpose)?;
            continue;
        };
        let mut files: Vec<_> = names
            .into_iter()
            .filter(|(name, is_folder)| {
                !is_folder && Path::new(name).extension().is_some_and(|e| e == "pub")
            })
            .map(|(name, _)| place.join(name))
            .collect();
        files.sort();
        for file in files {
            add_file(keys, role, &file, purpose)?;
        }
    }
    Ok(())
}

/// Adds the keys in these files and directories, or those in the directory for the role if there are none. Not
/// everybody may write to them.
pub(super) fn add_or_default(
    keys: &mut Keys,
    role: Role,
    places: &[PathBuf],
) -> Result<(), Failure> {
    let usual = Path::new(match role {
        Role::Policy => "/etc/dfw/policy.pub.d",
        Role::Operations => "/etc/dfw/operations.pub.d",
    });
    if places.is_empty() && usual.exists() {
        add_all(keys, role, &[usual.to_owned()], Purpose::Enforce)
    } else {
        add_all(keys, role, places, Purpose::Enforce)
    }
}

fn add_file(keys: &mut Keys, role: Role, path: &Path, purpose: Purpose) -> Result<(), Failure> {
    let open = match purpose {
        Purpose::Show => file::open,
        Purpose::Enforce => file::open_protected,
    };
    let read = open(path, Accept::Regular).and_then(|mut opened| {
        let exposed = opened.exposed.take();
        Ok((opened.read(Limit::of(LONGEST))?, exposed))
    });
    let (bytes, exposed) = read.map_err(|error| unusable(path, &error.to_string()))?;
    if let Some(place) = exposed {
        keys.expose(place);
    }
    let text = String::from_utf8(bytes).map_err(|_| unusable(path, "not UTF-8"))?;
    keys.add(role, &text).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, reason: &str) -> Failure {
    let message = format!("cannot use the key {}: {reason}", untrusted::path(path));
    Failure::plain(Diagnostic::error("key", message))
}
