//! Dependencies of folders: each folder of `src/` may use what is listed for it and nothing else, and no file is used,
//! directly or indirectly, by a file that it uses. CONTRIBUTING's map matches the tree.
//!
//! The whole tree is parsed: `use` with braces, `super::super::`, and full paths in code and in macros
//! count alike. Tests inside of files may use more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// A module by its path from the root of the crate.
type Module = Vec<String>;

/// What each folder or single file of `src/` may use of the others. A new one may use nothing until it is
/// listed here.
const MAY_USE: &[(&str, &[&str])] = &[
    // The words of all others, and text from elsewhere made fit to be shown.
    ("net", &[]),
    ("untrusted", &[]),
    ("clock", &[]),
    // Texts, places in them, errors as data.
    ("file", &["untrusted"]),
    ("text", &["file", "untrusted"]),
    // Signed policies, as texts.
    ("bundle", &["file", "untrusted"]),
    // Two inputs and one output, as data.
    ("policy", &["file", "net", "text"]),
    ("ruleset", &["net"]),
    ("plan", &["ruleset"]),
    // The wire, which knows no ruleset, and the codec, which knows no plan.
    ("netlink", &["untrusted"]),
    ("nftables", &["net", "netlink", "ruleset", "untrusted"]),
    // It judges what the rules of others do to destinations.
    ("host", &["net", "netlink", "nftables", "untrusted"]),
    // The pure middle.
    (
        "compile",
        &["host", "net", "policy", "ruleset", "text", "untrusted"],
    ),
    (
        "analysis",
        &[
            "compile", "host", "net", "plan", "policy", "ruleset", "text",
        ],
    ),
    ("init", &["host", "net", "policy", "untrusted"]),
    ("import", &["net", "policy", "text"]),
    // Rights are given up by daemons; only the one that has none speaks to the network.
    ("confine", &[]),
    // The store, as calls.
    ("etcd", &["bundle", "file", "untrusted"]),
    // It reads which files a bundle has, and verifies none.
    (
        "fetch",
        &[
            "bundle",
            "confine",
            "etcd",
            "file",
            "net",
            "policy",
            "untrusted",
        ],
    ),
    ("fleet", &["bundle", "etcd", "file", "untrusted"]),
    // The kernel, and what is made of all of it.
    (
        "kernel",
        &[
            "clock",
            "netlink",
            "nftables",
            "plan",
            "ruleset",
            "untrusted",
        ],
    ),
    ("trace", &["netlink", "nftables"]),
    (
        "site",
        &[
            "analysis", "compile", "host", "kernel", "net", "netlink", "nftables", "ruleset",
        ],
    ),
    (
        "store",
        &[
            "analysis",
            "bundle",
            "compile",
            "file",
            "host",
            "net",
            "policy",
            "ruleset",
            "text",
            "untrusted",
        ],
    ),
    (
        "guard",
        &[
            "analysis",
            // The heads that it takes.
            "bundle",
            "clock",
            "compile",
            "confine",
            // What the fetcher says of its sources.
            "fetch",
            "file",
            "host",
            "kernel",
            "net",
            "netlink",
            "nftables",
            "plan",
            "policy",
            "ruleset",
            "site",
            "store",
            "text",
            "untrusted",
        ],
    ),
    (
        "output",
        &["analysis", "host", "net", "ruleset", "text", "untrusted"],
    ),
    // What is shown, computed of what is in force, and laid out.
    (
        "page",
        &["analysis", "fleet", "net", "output", "ruleset", "untrusted"],
    ),
];

/// Who needs not be listed: they put everything together.
const TOP: &[&str] = &["lib", "main", "cli"];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All files below a folder that Rust reads.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The module that a file is.
fn module_of(file: &Path) -> Module {
    let relative = file.strip_prefix(src()).unwrap().with_extension("");
    let mut names: Module = relative
        .components()
        .map(|part| part.as_os_str().to_str().unwrap().to_owned())
        .collect();
    if names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    names
}

/// Collects what a file names of its own crate.
struct Uses<'a> {
    module: &'a Module,
    /// Every path, from the root of the crate.
    paths: BTreeSet<Module>,
}

impl Uses<'_> {
    /// Takes a path as it is written in the module; one that leads into another crate is none.
    fn take(&mut self, written: &[String]) {
        let mut rest = written;
        let mut at = match rest.first().map(String::as_str) {
            Some("crate") => Module::new(),
            Some("self" | "super") => self.module.clone(),
            _ => return,
        };
        while let Some((first, more)) = rest.split_first() {
            match first.as_str() {
                "super" => drop(at.pop()),
                "crate" | "self" => {}
                name => at.push(name.to_owned()),
            }
            rest = more;
        }
        self.paths.insert(at);
    }

    fn take_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.take_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) if name.ident == "self" => self.take(before),
            syn::UseTree::Name(name) => self.take(&with(&name.ident)),
            syn::UseTree::Rename(name) => self.take(&with(&name.ident)),
            syn::UseTree::Glob(_) => self.take(before),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.take_tree(before, tree);
                }
            }
        }
    }

    /// Paths in what a macro is given, which is not parsed.
    fn take_tokens(&mut self, tokens: &str) {
        let mut words = tokens.split_whitespace().peekable();
        while let Some(word) = words.next() {
            if !["crate", "super"].contains(&word) {
                continue;
            }
            let mut path = vec![word.to_owned()];
            while words.next_if(|word| *word == "::").is_some() {
                path.extend(words.next().map(str::to_owned));
            }
            self.take(&path);
        }
    }
}

/// Whether something is there for tests only.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.take_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.take(&names);
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.take_tokens(&item.tokens.to_string());
        syn::visit::visit_macro(self, item);
    }
}

/// Every file, with the files that it uses, as modules.
fn tree() -> BTreeMap<Module, BTreeSet<Module>> {
    let parsed: BTreeMap<Module, syn::File> = files(&src())
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let parsed = syn::parse_file(&text);
            let error = parsed.as_ref().err();
            assert!(error.is_none(), "{}: {error:?}", file.display());
            (module_of(&file), parsed.unwrap())
        })
        .collect();
    let is_file = |module: &Module| parsed.contains_key(module);
    parsed
        .iter()
        .map(|(module, file)| {
            let mut uses = Uses {
                module,
                paths: BTreeSet::new(),
            };
            uses.visit_file(file);
            // A path leads to the last of its parts that is a file.
            let target = |path: &Module| {
                let mut path = path.clone();
                while !path.is_empty() && !is_file(&path) {
                    path.pop();
                }
                path
            };
            let targets = uses.paths.iter().map(target);
            let targets = targets.filter(|target| target != module && !target.is_empty());
            (module.clone(), targets.collect())
        })
        .collect()
}

#[test]
fn folders_use_what_is_listed_for_them() {
    let mut wrong = Vec::new();
    let (mut used, mut known) = (BTreeSet::new(), BTreeSet::new());
    for (module, uses) in tree() {
        let folder = module[0].clone();
        known.insert(folder.clone());
        if TOP.contains(&&*folder) {
            continue;
        }
        let may = MAY_USE.iter().find(|(name, _)| *name == folder);
        let may = may.map_or(&[][..], |(_, may)| may);
        for other in uses.iter().map(|module| &module[0]) {
            used.insert((folder.clone(), other.clone()));
            if *other != folder && !may.contains(&&**other) {
                wrong.push(format!("{} uses {other}", module.join("::")));
            }
        }
    }
    // What is listed and used no more is no permission to keep.
    for (folder, may) in MAY_USE {
        assert!(known.contains(*folder), "there is no {folder}");
        for other in *may {
            if !used.contains(&((*folder).to_owned(), (*other).to_owned())) {
                wrong.push(format!("{folder} does not use {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn folders_do_not_use_each_other() {
    // What uses nothing that is left is taken away, until nothing is left.
    let mut left: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    while !left.is_empty() {
        let names: BTreeSet<&str> = left.keys().copied().collect();
        left.retain(|_, may| may.iter().any(|other| names.contains(other)));
        assert!(left.len() < names.len(), "they use each other: {names:?}");
    }
}

#[test]
fn no_file_is_used_by_what_it_uses() {
    let circles = circles(&tree());
    assert!(circles.is_empty(), "they use each other: {circles:?}");
}

/// The paths that CONTRIBUTING.md names, in backticks, as far as they are of this repository.
fn named_paths(text: &str) -> BTreeSet<&str> {
    let named = text.split('`').skip(1).step_by(2);
    named
        .filter(|name| {
            ["src/", "tests/", "docs/"]
                .iter()
                .any(|top| name.starts_with(top))
        })
        .filter(|name| !name.contains([' ', '*']))
        .collect()
}

#[test]
fn the_map_for_people_is_the_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `src/"));
    let mapped: BTreeSet<&str> = rows
        .flat_map(|row| named_paths(row.split('|').nth(1).unwrap()))
        .collect();
    let there: BTreeSet<String> = fs::read_dir(src())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let end = if entry.path().is_dir() { "/" } else { "" };
            format!("src/{name}{end}")
        })
        .collect();
    let missing: Vec<_> = there
        .iter()
        .filter(|path| !mapped.contains(&***path))
        .collect();
    assert!(missing.is_empty(), "the map lacks {missing:?}");
    // Folders in folders may be left out, and what is named is there.
    let gone: Vec<_> = named_paths(&text)
        .into_iter()
        .filter(|path| !root.join(path).exists())
        .collect();
    assert!(gone.is_empty(), "CONTRIBUTING.md names {gone:?}");
}

/// What the tree is read by: every way to write that something is used.
#[test]
fn every_spelling_is_seen() {
    let text = "use crate::{a, b::{self, c as d}};
        use super::super::e::*;
        #[cfg(test)]
        use crate::unseen;
        fn f() -> crate::g::H { vec![crate::i::J, super::k()] }
        #[cfg(test)]
        mod tests { use crate::unseen; }";
    let module = vec!["x".to_owned(), "y".to_owned(), "z".to_owned()];
    let mut uses = Uses {
        module: &module,
        paths: BTreeSet::new(),
    };
    uses.visit_file(&syn::parse_file(text).unwrap());
    let seen: Vec<String> = uses.paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(seen, ["a", "b", "b::c", "g::H", "i::J", "x::e", "x::y::k"]);
}

/// Files that use each other, in however many steps. What is in the file of a folder is for those below it.
fn circles(tree: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Vec<String>> {
    let is_folder = |module: &Module| src().join(module.join("/")).is_dir();
    let reached = |from: &Module| -> BTreeSet<Module> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            for used in tree.get(&module).into_iter().flatten() {
                if !is_folder(used) && seen.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        seen
    };
    let files = tree.keys().filter(|module| !is_folder(module));
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        files.map(|file| (file, reached(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, reached) in &reach {
        let both = reached.iter().filter(|other| reach[other].contains(*file));
        let circle: Vec<String> = both.map(|module| module.join("::")).collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}
