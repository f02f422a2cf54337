//! Words that are no names of sources: they mean something of their own, or would be read as if they did.

/// What a reserved word may have been meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserved {
    /// `any`: everybody.
    Any,
    /// `containers`: whatever comes from a container of this host.
    Containers,
    /// A word for everybody, such as `allow` or `true`.
    Everybody,
    /// A word for nobody, such as `deny` or `no`.
    Nobody,
}

/// The words, in lower case, that mean everybody to some.
const EVERYBODY: [&str; 9] = [
    "accept",
    "all",
    "allow",
    "anyone",
    "everybody",
    "everyone",
    "on",
    "true",
    "yes",
];
/// The words, in lower case, that mean nobody to some.
const NOBODY: [&str; 9] = [
    "deny", "drop", "false", "no", "nobody", "none", "null", "off", "reject",
];

/// What is reserved about a word, in whatever case.
pub(super) fn reserved(word: &str) -> Option<Reserved> {
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
    } else {
        None
    }
}

/// A pattern of ECMA 262 that every reserved word matches, and nothing else; with those or without those
/// that may stand at a port.
pub(super) fn pattern(with_sources: bool) -> String {
    let fold = |letter: char| format!("[{}{letter}]", letter.to_ascii_uppercase());
    let words = EVERYBODY.iter().chain(&NOBODY);
    let words = words.map(|word| word.chars().map(fold).collect::<String>());
    let any = if with_sources {
        "containers|[Aa][Nn][Yy]"
    } else {
        "A[Nn][Yy]|aN[Yy]|anY"
    };
    let words: Vec<String> = words.chain([any.to_owned()]).collect();
    format!("^({})$", words.join("|"))
}
