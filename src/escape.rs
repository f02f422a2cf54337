//! Text of others, such as the name of a file, made fit to be shown.

use std::borrow::Cow;
use std::path::Path;

/// Whether a character could move the cursor, break the line, or reorder what is around it: control
/// characters, the separators U+2028 and U+2029, and the marks of bidirectional text.
#[must_use]
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text with every [unsafe](is_unsafe) character written as Rust escapes it: `\n`, `\u{202e}`.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unsafe(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// The path as it can be shown: escaped, and U+FFFD where it is not UTF-8.
#[must_use]
pub fn path(path: &Path) -> String {
    escaped(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_forges_output_is_escaped() {
        assert_eq!(
            escaped("a\n\u{1b}[8m\u{202e}b\u{2028}"),
            "a\\n\\u{1b}[8m\\u{202e}b\\u{2028}"
        );
        assert!(matches!(escaped("größe-漢字 x"), Cow::Borrowed(_)));
        assert_eq!(
            path(Path::new("lists/a\r\nerror: b")),
            "lists/a\\r\\nerror: b"
        );
    }
}
