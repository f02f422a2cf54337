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
/// The words that are [`Reserved::Listed`], in lower case.
const LISTED: [&str; 5] = ["banned", "blocked", "denied", "dropped", "rejected"];

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

/// Returns why a word is reserved in a position; ignores case.
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

/// Returns the pattern (ECMA 262) of exactly the words that are reserved in a position; for a port, without
/// those that are valid there.
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
