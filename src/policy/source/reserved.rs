//! Words that are no names of sources: they mean something of their own, or would be read as if they did.

/// What a reserved word may have been meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Reserved {
    /// `any`: everybody.
    Any,
    /// `containers`: whatever comes from a container of this host.
    Containers,
    /// A word for everybody, such as `allow` or `true`.
    Everybody,
    /// A word for nobody, such as `deny` or `no`.
    Nobody,
    /// What lists of those are called who may not: good names, and good under `except`, but at a port
    /// they read as if it were closed.
    Listed,
}

/// The words, in lower case, that mean everybody to some.
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
/// The words, in lower case, that mean nobody to some.
const NOBODY: [&str; 20] = [
    "block",
    "close",
    "closed",
    "deny",
    "disable",
    "disabled",
    "drop",
    "false",
    "forbid",
    "forbidden",
    "no",
    "nobody",
    "none",
    "noone",
    "nothing",
    "null",
    "off",
    "refuse",
    "refused",
    "reject",
];
/// The words, in lower case, that are [`Reserved::Listed`].
const LISTED: [&str; 5] = ["banned", "blocked", "denied", "dropped", "rejected"];

/// Where a word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Place {
    /// It is the name of a source.
    Name,
    /// It is among those who may reach a port.
    Allow,
    /// It is among those who may not.
    Except,
}

/// What is reserved about a word, in whatever case.
pub(in crate::policy) fn reserved(word: &str, place: Place) -> Option<Reserved> {
    match word {
        "any" => return Some(Reserved::Any),
        "containers" => return Some(Reserved::Containers),
        _ => {}
    }
    let folded = word.to_ascii_lowercase();
    let word = folded.as_str();
    if word == "any" || EVERYBODY.contains(&word) {
        Some(Reserved::Everybody)
    } else if NOBODY.contains(&word) {
        Some(Reserved::Nobody)
    } else if place == Place::Allow && LISTED.contains(&word) {
        Some(Reserved::Listed)
    } else {
        None
    }
}

/// A pattern of ECMA 262 that every word matches which is reserved there, and nothing else; at a port
/// without those that may stand there.
pub(in crate::policy) fn pattern(place: Place) -> String {
    let fold = |letter: char| format!("[{}{letter}]", letter.to_ascii_uppercase());
    let listed: &[&str] = if place == Place::Allow { &LISTED } else { &[] };
    let words = EVERYBODY.iter().chain(&NOBODY).chain(listed);
    let words = words.map(|word| word.chars().map(fold).collect::<String>());
    let any = match place {
        Place::Name => "containers|[Aa][Nn][Yy]",
        Place::Allow => "A[Nn][Yy]|aN[Yy]|anY",
        // It would deny everybody.
        Place::Except => "[Aa][Nn][Yy]",
    };
    let words: Vec<String> = words.chain([any.to_owned()]).collect();
    format!("^({})$", words.join("|"))
}
