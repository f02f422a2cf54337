//! The fuzz targets for a moment: the whole corpus, and small damage to it. `PROPTEST_CASES` does
//! more; `cargo fuzz run` in `fuzz/` does it with a compiler that watches.

use std::fs;
use std::path::{Path, PathBuf};

use dfw::compile::compile;
use dfw::host::HostView;
use dfw::policy;
use dfw::ruleset::Origin;
use dfw::text::SourceMap;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::fuzzed;

/// What can happen to a text.
#[derive(Debug, Clone)]
enum Damage {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index, usize),
    Repeat(Index, usize),
    /// A piece of another file.
    Graft(Index, Index, Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), prop::collection::vec(any::<u8>(), 1..5)).prop_map(|(at, b)| Damage::Insert(at, b)),
        (at(), 1..40_usize).prop_map(|(at, length)| Damage::Cut(at, length)),
        (at(), 1..40_usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        (at(), at(), at(), 1..200_usize).prop_map(|(at, f, b, n)| Damage::Graft(at, f, b, n)),
    ]
}

impl Damage {
    fn to(&self, bytes: &mut Vec<u8>, all: &[Vec<u8>]) {
        // What is replaced, and by what.
        let (at, cut, piece) = match self {
            Self::Set(at, byte) => (at, 1, vec![*byte]),
            Self::Insert(at, piece) => (at, 0, piece.clone()),
            Self::Cut(at, length) => (at, *length, Vec::new()),
            Self::Repeat(at, length) => (at, 0, piece(bytes, *at, *length)),
            Self::Graft(at, file, begin, length) => {
                (at, 0, piece(&all[file.index(all.len())], *begin, *length))
            }
        };
        let at = at.index(bytes.len() + 1);
        bytes.splice(at..bytes.len().min(at + cut), piece);
    }
}

fn piece(bytes: &[u8], at: Index, length: usize) -> Vec<u8> {
    let at = at.index(bytes.len() + 1);
    bytes[at..bytes.len().min(at + length)].to_vec()
}

/// Every file below some folders of the repository.
fn files(folders: &[&str]) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let mut inside: Vec<_> = fs::read_dir(path)
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect();
            inside.sort();
            waiting.extend(inside);
        } else {
            found.push(fs::read(path).unwrap());
        }
    }
    found
}

/// The messages that install the policies of the repository.
fn batches() -> Vec<Vec<u8>> {
    let compiled = |bytes: Vec<u8>| {
        let mut sources = SourceMap::in_memory([("policy.yaml", bytes)]);
        let files = dfw::store::read_policies(&mut sources, Path::new("policy.yaml")).unwrap();
        let (policy, _) = policy::read(&mut sources, &files).ok()?;
        let origin = |_: &_| Origin {
            file: "p".to_owned(),
            line: 1,
        };
        Some(fuzzed::batch(&compile(
            &policy,
            &HostView::default(),
            &origin,
        )))
    };
    let all: Vec<_> = files(&["tests/golden", "policies"])
        .into_iter()
        .filter_map(compiled)
        .collect();
    assert!(all.len() > 10);
    all
}

/// Damaged files, and now and then a whole one.
fn damaged(all: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (any::<Index>(), prop::collection::vec(damage(), 0..6)).prop_map(move |(file, damages)| {
        let mut bytes = file.get(&all).clone();
        for damage in damages {
            damage.to(&mut bytes, &all);
        }
        bytes
    })
}

fn corpus(folders: &[&str], target: fn(&[u8])) -> Vec<Vec<u8>> {
    let all = files(folders);
    assert!(all.len() > 5, "no corpus in {folders:?}");
    for bytes in &all {
        target(bytes);
    }
    all
}

macro_rules! fuzz {
    ($($name:ident: $all:expr;)*) => { $(
        #[test]
        fn $name() {
            let damaged = damaged($all);
            proptest!(|(bytes in damaged)| fuzzed::$name(&bytes));
        }
    )* };
}

fuzz! {
    policy: corpus(&["fuzz/corpus/policy", "tests/policies", "tests/golden", "policies"], fuzzed::policy);
    addresses: corpus(&["fuzz/corpus/addresses", "tests/policies/valid/lists"], fuzzed::addresses);
    loose: corpus(&["fuzz/corpus/formats", "fuzz/corpus/addresses"], fuzzed::loose);
    json: corpus(&["fuzz/corpus/formats"], fuzzed::json);
    bundle: corpus(&["fuzz/corpus/bundle"], fuzzed::bundle);
    json_lines: corpus(&["fuzz/corpus/formats"], fuzzed::json_lines);
    import: corpus(&["fuzz/corpus/import", "tests/import"], fuzzed::import);
    netlink: [corpus(&["fuzz/corpus/netlink"], fuzzed::netlink), batches()].concat();
}
