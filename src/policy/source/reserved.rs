//! Words that are no names of sources: they mean something of their own, or would be read as if they did.

/// The probable meaning of a reserved word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Reserved {
    /// `any`: everybody.
    Any,
    /// `containers`: packets from containers of this host.
    Containers,
    /// A word that suggests everyone, such as `allow` or `true`.
    Everybody,
    /// A word that suggests nobody, such as `deny` or `no`.
    Nobody,
    /// A name of a deny list: valid as a name and under `except`, but misleading as an allowed source.
    Listed,
    /// A word for this host, such as `localhost`: its own processes always reach the port.
    ThisHost,
}

/// The words that suggest everyone, in lower case.
const EVERYBODY: [&str; 19] = [
    "accept",
    "accepted",
    "all",
    "allow",
    "allowed",
    "anybody",
    "anyone",
    "enable",
    "enabled",
    "everybody",
    "everyone",
    "internet",
    "on",
    "open",
    "opened",
    "permit",
    "permitted",
    "true",
    "yes",
];
/// The words that suggest nobody, in lower case.
const NOBODY: [&str; 34] = [
    "block",
    "blockall",
    "close",
    "closed",
    "deny",
    "denyall",
    "denyany",
    "disable",
    "disabled",
    "discard",
    "drop",
    "dropall",
    "except",
    "false",
    "forbid",
    "forbidden",
    "locked",
    "never",
    "no",
    "no-one",
    "no_one",
    "nobody",
    "none",
    "noone",
    "not",
    "nothing",
    "null",
    "off",
    "prohibit",
    "prohibited",
    "refuse",
    "refused",
    "reject",
    "rejectall",
];
/// The words that are [`Reserved::Listed`], in lower case.
const LISTED: [&str; 12] = [
    "ban",
    "banlist",
    "banned",
    "blacklist",
    "blacklisted",
    "block-list",
    "blocked",
    "blocklist",
    "denied",
    "denylist",
    "dropped",
    "rejected",
];
/// The words for this host, in lower case.
const THIS_HOST: [&str; 2] = ["localhost", "loopback"];
/// What may stand between reserved words: `deny-all` decides as `deny` does.
const BETWEEN: [char; 2] = ['-', '_'];

/// The position of a word in a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Place {
    /// The word is the name of a source.
    Name,
    /// The word is an allowed source.
    Allow,
    /// The word is an excluded source.
    Except,
}

/// Returns why a word, or several with `-` or `_` between them, is reserved in a position; ignores case.
pub(in crate::policy) fn reserved(word: &str, place: Place) -> Option<Reserved> {
    if word == "any" {
        return Some(Reserved::Any);
    }
    let folded = word.to_ascii_lowercase();
    let word = folded.as_str();
    if word == "containers" {
        Some(Reserved::Containers)
    } else if word == "any" || EVERYBODY.contains(&word) {
        Some(Reserved::Everybody)
    } else if NOBODY.contains(&word) {
        Some(Reserved::Nobody)
    } else if THIS_HOST.contains(&word) {
        Some(Reserved::ThisHost)
    } else if place == Place::Allow && LISTED.contains(&word) {
        Some(Reserved::Listed)
    } else {
        several(word)
    }
}

/// Returns the meaning of several words in lower case, if all of them decide something.
fn several(words: &str) -> Option<Reserved> {
    let words = words.split(BETWEEN);
    let decides = |word| word == "any" || EVERYBODY.contains(&word) || NOBODY.contains(&word);
    let nobody = |word| NOBODY.contains(&word);
    (words.clone().count() > 1 && words.clone().all(decides)).then(|| {
        if words.clone().any(nobody) {
            Reserved::Nobody
        } else {
            Reserved::Everybody
        }
    })
}

/// Returns the pattern (ECMA 262) of exactly the words that are reserved in a position; for a port, without
/// those that are valid there.
pub(in crate::policy) fn pattern(place: Place) -> String {
    let fold = |letter: char| match letter.to_ascii_uppercase() {
        upper if upper == letter => letter.to_string(),
        upper => format!("[{upper}{letter}]"),
    };
    let fold = |word: &str| word.chars().map(fold).collect::<String>();
    // All spellings of a word but the one in lower case.
    let miscased = |word: &str| {
        let at = |at: usize| {
            let (before, rest) = word.split_at(at);
            let (first, after) = rest.split_at(1);
            format!("{before}{}{}", first.to_ascii_uppercase(), fold(after))
        };
        (0..word.len()).map(at).collect::<Vec<_>>().join("|")
    };
    let decisions: Vec<String> = EVERYBODY
        .iter()
        .chain(&NOBODY)
        .map(|word| fold(word))
        .collect();
    let decisions = decisions.join("|");
    let decision = format!("({decisions}|{})", fold("any"));
    let several = format!("{decision}([_-]{decision})+");
    let listed: &[&str] = if place == Place::Allow { &LISTED } else { &[] };
    let others = listed.iter().chain(&THIS_HOST).map(|word| fold(word));
    let any = match place {
        Place::Allow => miscased("any"),
        // Under `except` it would deny everybody.
        Place::Name | Place::Except => fold("any"),
    };
    let containers = match place {
        Place::Name => fold("containers"),
        Place::Allow | Place::Except => miscased("containers"),
    };
    // One address each, and not everybody.
    let unspecified: &[&str] = match place {
        Place::Except => &["0\\.0\\.0\\.0", "::"],
        Place::Name | Place::Allow => &[],
    };
    let words: Vec<String> = others
        .chain([decisions, any, containers, several])
        .chain(unspecified.iter().map(|&text| text.to_owned()))
        .collect();
    format!("^({})$", words.join("|"))
}
