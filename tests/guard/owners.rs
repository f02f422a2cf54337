//! Whose files dfw reads.

use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::Sandbox;

pub(crate) const TRIALS: &[Named] = &[(
    "the_user_who_controls_a_path_must_own_the_file",
    the_user_who_controls_a_path_must_own_the_file,
)];

const NOBODY: u32 = 65_534;
const OTHER: u32 = 1000;

/// Files, folders and links of several owners.
fn tree(root: &Path) -> Result<()> {
    let at = |path: &str| root.join(path);
    let owned = |path: &str, uid: u32| lchown(at(path), Some(uid), Some(uid));
    let folder = |path: &str, uid, mode| -> Result<()> {
        std::fs::create_dir_all(at(path))?;
        owned(path, uid)?;
        Ok(std::fs::set_permissions(
            at(path),
            PermissionsExt::from_mode(mode),
        )?)
    };
    let file = |path: &str, uid| -> Result<()> {
        std::fs::write(at(path), "203.0.113.7\n")?;
        Ok(owned(path, uid)?)
    };
    let link = |path: &str, target: &str, uid| -> Result<()> {
        symlink(target, at(path))?;
        Ok(owned(path, uid)?)
    };
    folder("", 0, 0o755)?;
    folder("theirs", NOBODY, 0o755)?;
    folder("theirs/inner", OTHER, 0o755)?;
    folder("private", 0, 0o700)?;
    folder("shared", 0, 0o775)?;
    chown(at("shared"), Some(0), Some(NOBODY))?;
    folder("sticky", 0, 0o1777)?;
    folder("open", 0, 0o777)?;
    for (path, uid) in [
        ("own", 0),
        ("of-nobody", NOBODY),
        ("theirs/own", NOBODY),
        ("theirs/of-root", 0),
        ("theirs/inner/own", OTHER),
        ("private/state", NOBODY),
        ("shared/own", 0),
        ("sticky/own", 0),
        ("sticky/of-nobody", NOBODY),
        ("open/own", 0),
    ] {
        file(path, uid)?;
    }
    // systemd's `StateDirectory` of a `DynamicUser`.
    link("state", "private/state", 0)?;
    link("theirs/to-own", "own", NOBODY)?;
    link("theirs/to-root", "../own", NOBODY)?;
    link("theirs/to-absolute", &at("own").to_string_lossy(), NOBODY)?;
    link("theirs/of-roots", "../own", 0)?;
    link("by-nobody", "own", NOBODY)?;
    link("through", "theirs", 0)?;
    link("loop", "loop", 0)?;
    link("sticky/link", "../own", NOBODY)?;
    std::fs::hard_link(at("own"), at("shared/hard"))?;
    std::fs::hard_link(at("own"), at("sticky/hard"))?;
    std::fs::hard_link(at("own"), at("theirs/hard"))?;
    Ok(())
}

/// What dfw reads as root, and as another user, of paths whose parts belong to several.
fn the_user_who_controls_a_path_must_own_the_file() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let root = sandbox.dir().join("tree");
    tree(&root)?;
    let at = |path: &str| root.join(path);
    let open = |path: &str| dfw::file::open(&at(path), dfw::file::Accept::Regular);
    for (path, exposed) in [
        ("own", false),
        ("of-nobody", false),
        ("theirs/own", false),
        ("theirs/to-own", false),
        ("theirs/../own-missing/../own", false),
        ("through/own", false),
        ("state", false),
        ("shared/own", false),
        ("sticky/own", false),
        ("sticky/of-nobody", true),
        ("open/own", true),
    ] {
        if path.contains("missing") {
            ensure!(open(path).is_err());
            continue;
        }
        let opened = open(path).with_context(|| path.to_owned())?;
        ensure!(opened.exposed.is_some() == exposed, "{path}: {opened:?}");
    }
    for (path, error) in [
        ("theirs/of-root", "it belongs to uid 0, and "),
        ("theirs/to-root", "it belongs to uid 0, and "),
        ("theirs/to-absolute", "it belongs to uid 0, and "),
        ("theirs/of-roots", "it belongs to uid 0, and "),
        ("theirs/hard", "it belongs to uid 0, and "),
        ("theirs/../own", "it belongs to uid 0, and "),
        ("by-nobody", "it belongs to uid 0, and "),
        ("sticky/link", "it belongs to uid 0, and "),
        ("through/of-root", "it belongs to uid 0, and "),
        ("theirs/inner/own", "it belongs to uid 1000, and "),
        ("shared/hard", "it has another name"),
        ("sticky/hard", "it has another name"),
        ("loop", "Too many levels of symbolic links"),
        ("own/x", "Not a directory"),
        ("theirs", "not a regular file: a folder"),
    ] {
        let error_of = open(path).err().with_context(|| path.to_owned())?;
        ensure!(error_of.to_string().contains(error), "{path}: {error_of}");
    }
    // An ordinary user reads whatever they may.
    let read = std::thread::scope(|scope| {
        let read = scope.spawn(|| -> Result<Vec<String>> {
            let user = rustix::process::Uid::from_raw(OTHER);
            rustix::thread::set_thread_res_uid(user, user, user)?;
            let paths = [
                "own",
                "theirs/to-root",
                "theirs/of-root",
                "theirs/inner/own",
                "by-nobody",
            ];
            for path in paths {
                open(path).with_context(|| path.to_owned())?;
            }
            let refused = ["state", "private/state"];
            let errors = refused.into_iter().filter_map(|path| open(path).err());
            Ok(errors.map(|error| error.to_string()).collect())
        });
        read.join()
    });
    let errors = read.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    ensure!(errors.len() == 2, "{errors:?}");
    ensure!(
        errors
            .iter()
            .all(|error| error.contains("Permission denied")),
        "{errors:?}"
    );
    Ok(())
}
