//! A directory of policies: its policy files, and similar files that are not read.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::bundle::OpenError;
use crate::file::Accept;
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, Problem, SourceMap, Unreadable};
use crate::untrusted;

/// The number and depth of subdirectories searched for policies that are not read.
const FOLDERS: usize = 64;
const DEPTH: u32 = 4;

/// Reasons why policies cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The directory or one of its files cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The directory is a bundle that is not taken.
    #[error(transparent)]
    Bundle(#[from] OpenError),
    /// The directory holds no file whose name ends in `.yaml`.
    #[error(
        "no policies in {}: no file name ends in `.yaml`",
        untrusted::path(path)
    )]
    NoPolicies {
        /// The directory.
        path: PathBuf,
        /// The warnings about similar files.
        neglected: Vec<Diagnostic>,
    },
}

/// Reads the policies at `path`: a file, or the `*.yaml` files of a directory, sorted by name.
///
/// Files that begin with a dot are left out. Files such as `x.yml`, which a user would expect
/// to be read, are among the result and carry a [`Problem`]; of others the source map warns.
///
/// # Errors
/// See [`ReadError`].
pub fn read_policies(texts: &mut SourceMap, path: &Path) -> Result<Vec<FileId>, ReadError> {
    let Some(entries) = texts.folder(path)? else {
        return Ok(vec![texts.read_policy(path, Accept::Pipes, None)?]);
    };
    let folder = Folder {
        path,
        entries,
        known: &[],
    };
    read_folders(texts, &[folder])
}

/// A folder of policies, and folders in it that may hold others.
struct Folder<'a> {
    path: &'a Path,
    entries: Vec<(PathBuf, bool)>,
    known: &'a [PathBuf],
}

/// Reads the policies of a folder and of others in it as one policy. The others may be missing. Of other policies in
/// folders the source map warns, but not of those in the `known` ones.
///
/// # Errors
/// See [`ReadError`].
pub fn read_groups(
    texts: &mut SourceMap,
    path: &Path,
    others: &[PathBuf],
    known: &[PathBuf],
) -> Result<Vec<FileId>, ReadError> {
    let mut folders = Vec::new();
    for folder in std::iter::once(path).chain(others.iter().map(PathBuf::as_path)) {
        match texts.folder(folder) {
            Ok(entries) => folders.push(Folder {
                path: folder,
                entries: entries.unwrap_or_default(),
                known,
            }),
            Err(error) if error.error.kind() == io::ErrorKind::NotFound && folder != path => {}
            Err(error) => return Err(error.into()),
        }
    }
    read_folders(texts, &folders)
}

fn read_folders(texts: &mut SourceMap, folders: &[Folder<'_>]) -> Result<Vec<FileId>, ReadError> {
    let path = folders.first().map_or(Path::new(""), |folder| folder.path);
    let (mut files, mut neglected) = (Vec::new(), Vec::new());
    for folder in folders {
        read_folder(texts, folder, &mut files, &mut neglected)?;
    }
    if files.is_empty() {
        return Err(ReadError::NoPolicies {
            path: path.to_path_buf(),
            neglected: neglected.iter().map(Neglected::warning).collect(),
        });
    }
    for neglected in &neglected {
        texts.warn(neglected.warning());
    }
    Ok(files)
}

fn read_folder(
    texts: &mut SourceMap,
    folder: &Folder<'_>,
    files: &mut Vec<FileId>,
    neglected: &mut Vec<Neglected>,
) -> Result<(), ReadError> {
    let mut folders = FOLDERS;
    for (path, is_folder) in folder.entries.iter().cloned() {
        let kind = judge_name(&path);
        if is_folder && folder.known.contains(&path) {
            continue;
        }
        if is_folder {
            let inside = inside(texts, &path, &mut folders, DEPTH);
            neglected.extend(inside.map(|kind| match kind {
                Inside::Policies => Neglected::Folder(path.clone()),
                Inside::Json => Neglected::JsonFolder(path.clone()),
            }));
        }
        let problem = match kind {
            Kind::Policy => None,
            Kind::Misnamed => Some(Problem::WrongExtension),
            Kind::Json if !is_folder => {
                neglected.push(Neglected::Json(path));
                continue;
            }
            Kind::Text if !is_folder => {
                neglected.push(Neglected::Text(path));
                continue;
            }
            Kind::Json | Kind::Text | Kind::Other => continue,
        };
        files.push(texts.read_policy(&path, Accept::Regular, problem)?);
    }
    Ok(())
}

/// Reads these files as one policy.
///
/// # Errors
/// If one cannot be read.
pub(super) fn read_named(
    texts: &mut SourceMap,
    paths: &[PathBuf],
) -> Result<Vec<FileId>, ReadError> {
    let files = paths.iter();
    let files = files.map(|path| Ok(texts.read_policy(path, Accept::Regular, None)?));
    files.collect()
}

/// Files and folders beside policies that look like policies and are not read.
enum Neglected {
    /// A folder with files named like policies.
    Folder(PathBuf),
    /// A folder with `.json` files, and without files named like policies.
    JsonFolder(PathBuf),
    /// A `.json` file.
    Json(PathBuf),
    /// A file such as `web.yaml.txt`.
    Text(PathBuf),
}

impl Neglected {
    /// Returns the warning.
    fn warning(&self) -> Diagnostic {
        match self {
            Self::Folder(path) => {
                let message = format!(
                    "the policies in the folder {} are not read",
                    untrusted::path(path)
                );
                Diagnostic::warning("not-read", message).help(
                "subdirectories are not read: move the files up, pass their folder to dfw, or start the \
                 folder's name with a dot",
            )
            }
            Self::JsonFolder(path) => {
                let message = format!(
                    "the `.json` files in the folder {} are not read",
                    untrusted::path(path)
                );
                Diagnostic::warning("not-read", message).help(
                    "if they are policies, move them up and rename them to `.yaml` (JSON is YAML); if not, move \
                 the folder elsewhere, or start its name with a dot",
                )
            }
            Self::Json(path) => misnamed(
                path,
                "if it is a policy, rename it to `.yaml` (JSON is YAML); if not, move it elsewhere",
            ),
            Self::Text(path) => misnamed(
                path,
                "if it is a policy, rename it without `.txt`; if not, move it elsewhere",
            ),
        }
    }
}

fn misnamed(path: &Path, help: &'static str) -> Diagnostic {
    let path = untrusted::path(path);
    let message = format!("{path} is not read: its name does not end in `.yaml`");
    Diagnostic::warning("not-read", message).help(help)
}

/// Searches a folder and its subdirectories, within bounds, for files named like policies.
fn inside(texts: &SourceMap, folder: &Path, left: &mut usize, depth: u32) -> Option<Inside> {
    if is_hidden(folder) || depth == 0 || *left == 0 {
        return None;
    }
    *left -= 1;
    // Folders that cannot be read are skipped.
    let entries = texts.folder(folder).ok().flatten().unwrap_or_default();
    let mut found = None;
    for (path, is_folder) in entries {
        let this = if is_folder {
            inside(texts, &path, left, depth - 1)
        } else {
            match judge_name(&path) {
                Kind::Policy | Kind::Misnamed => Some(Inside::Policies),
                Kind::Json => Some(Inside::Json),
                Kind::Text | Kind::Other => None,
            }
        };
        match this {
            Some(Inside::Policies) => return this,
            Some(Inside::Json) => found = this,
            None => {}
        }
    }
    found
}

/// The kinds of subdirectories beside policies.
#[derive(Clone, Copy)]
enum Inside {
    Policies,
    Json,
}

/// Kinds of files in a directory of policies, by name.
enum Kind {
    Policy,
    /// A policy by its contents, probably; see [`Problem::WrongExtension`].
    Misnamed,
    Json,
    /// A policy by the part of its name before `.txt`.
    Text,
    Other,
}

fn is_hidden(path: &Path) -> bool {
    let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    path.file_name().is_none_or(hidden)
}

fn judge_name(path: &Path) -> Kind {
    if is_hidden(path) {
        return Kind::Other;
    }
    let extension = |name: &Path| {
        let extension = name.extension()?.to_str()?;
        Some(extension.to_ascii_lowercase())
    };
    match extension(path).as_deref().map(str::trim) {
        Some("yaml") if path.extension().is_some_and(|e| e == "yaml") => Kind::Policy,
        Some("yaml" | "yml") => Kind::Misnamed,
        Some("json") => Kind::Json,
        // An editor's, which hides that it adds this.
        Some("txt") => match extension(&path.with_extension("")).as_deref() {
            Some("yaml" | "yml") => Kind::Text,
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn memory(files: &[(&str, &str)]) -> SourceMap {
        SourceMap::in_memory(files.iter().map(|(path, text)| (*path, *text)))
    }

    #[test]
    fn a_directory_is_its_yaml_files_sorted() {
        let mut sources = memory(&[
            ("p/b.yaml", "b"),
            ("p/a.yaml", "a"),
            ("p/.hidden.yaml", ""),
            ("p/README.md", ""),
            ("p/sub/c.yaml", ""),
        ]);
        let files = read_policies(&mut sources, Path::new("p")).unwrap();
        let names: Vec<_> = files.iter().map(|&f| sources.name(f)).collect();
        assert_eq!(names, ["p/a.yaml", "p/b.yaml"]);
    }

    #[test]
    fn a_missing_file_and_a_missing_policy_are_different_errors() {
        let mut sources = memory(&[("p/list.txt", "")]);
        let error = read_policies(&mut sources, Path::new("q")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read q: No such file"));
        let error = read_policies(&mut sources, Path::new("p")).unwrap_err();
        assert!(error.to_string().starts_with("no policies in p"));
    }

    #[test]
    fn a_file_with_a_near_name_is_not_left_out_silently() {
        let names = ["p/a.yml", "p/b.YAML", "p/c.yaml ", "p/d.yaml.txt"];
        let mut sources = memory(&names.map(|name| (name, "")));
        let files = read_policies(&mut sources, Path::new("p")).unwrap();
        assert_eq!(files.len(), 3);
        let warnings: Vec<_> = sources.warnings().collect();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].message.starts_with("p/d.yaml.txt is not read"));
        for file in files {
            assert_eq!(sources.problem(file), Some(&Problem::WrongExtension));
        }
    }

    #[test]
    fn the_file_system_reads_the_same_way() {
        let folder = std::env::temp_dir().join(format!("dfw-source-{}", std::process::id()));
        fs::create_dir_all(folder.join("d.yaml")).unwrap();
        let mut sources = SourceMap::new();
        let error = read_policies(&mut sources, &folder)
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("d.yaml: not a regular file: a folder"),
            "{error}"
        );
        fs::remove_dir(folder.join("d.yaml")).unwrap();
        fs::write(folder.join("a.yaml"), "a").unwrap();
        let files = read_policies(&mut sources, &folder).unwrap();
        assert_eq!(sources.text(files[0]), "a");
        fs::remove_dir_all(&folder).unwrap();
    }
}
