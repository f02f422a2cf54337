//! Text from elsewhere, made safe to show: labels of containers, names of processes and interfaces, file
//! names, comments of other tables, error messages of engines.
//!
//! Clean a text where it is read, and it cannot forge a line of output, hide one or fill a log. A name
//! that identifies something to the kernel or an engine stays exact; only what is shown is cleaned.

use std::path::Path;

/// How many characters [`clean`] returns at most.
pub const LONGEST: usize = 256;

/// Returns the text with a visible escape for each character that could deceive the reader
/// ([`is_deceptive`]), such as `\n` or `\u{202e}`, and at most [`LONGEST`] characters long.
#[must_use]
pub fn clean(text: &str) -> String {
    clean_to(text, LONGEST)
}

/// Returns the same with at most `most` characters, for texts that may be longer than a name. What is
/// cut is counted at the end: `… (120 bytes cut)`.
///
/// The work is bounded by `most`, however long the text is. Cleaning what is clean changes nothing.
#[must_use]
pub fn clean_to(text: &str, most: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(most));
    // How many characters `clean` has; the longest beginning that leaves room for the note, and where
    // the text goes on after that.
    let mut length = 0;
    let room = most.saturating_sub(note(text.len()).chars().count());
    let (mut end, mut rest) = (0, 0);
    for (at, character) in text.char_indices() {
        length += push(&mut clean, character);
        if length > most {
            clean.truncate(end);
            clean.push_str(&note(text.len() - rest));
            break;
        }
        if length <= room {
            (end, rest) = (clean.len(), at + character.len_utf8());
        }
    }
    clean
}

/// Returns a path as text to show, cleaned: other users may have chosen its names.
#[must_use]
pub fn path(path: &Path) -> String {
    /// `PATH_MAX` of `linux/limits.h`.
    const PATH: usize = 4096;
    clean_to(&path.to_string_lossy(), PATH)
}

fn note(bytes: usize) -> String {
    format!("… ({bytes} bytes cut)")
}

/// Appends a character or its escape; returns how many characters that are.
fn push(clean: &mut String, character: char) -> usize {
    if is_deceptive(character) {
        let before = clean.len();
        match character {
            '\n' | '\r' | '\t' => clean.extend(character.escape_default()),
            _ => clean.extend(character.escape_unicode()),
        }
        clean.len() - before
    } else {
        clean.push(character);
        1
    }
}

/// Returns whether a character moves the cursor, breaks the line, changes the direction of writing or cannot be
/// seen: control characters (C0, C1), line and paragraph separators, and what Unicode's
/// `Default_Ignorable_Code_Point` lists (bidirectional controls, zero-width characters, the byte order mark,
/// tags), but for the variation selectors of emoji, which only change how the character before looks.
#[must_use]
pub fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_deceives_is_escaped_and_the_rest_stays() {
        for (text, expected) in [
            ("web-1", "web-1"),
            ("Grüße 世界 🐳", "Grüße 世界 🐳"),
            ("a\ncovered: all", "a\\ncovered: all"),
            ("\r\t\0", "\\r\\t\\u{0}"),
            ("\u{1b}[8mhidden", "\\u{1b}[8mhidden"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("eth\u{202e}0", "eth\\u{202e}0"),
            (
                "\u{2066}\u{2069}\u{200e}\u{200f}",
                "\\u{2066}\\u{2069}\\u{200e}\\u{200f}",
            ),
            ("\u{2028}\u{2029}\u{61c}", "\\u{2028}\\u{2029}\\u{61c}"),
            (
                "\u{200b}\u{200d}\u{2060}\u{feff}",
                "\\u{200b}\\u{200d}\\u{2060}\\u{feff}",
            ),
            ("\u{e0041}\u{e007f}", "\\u{e0041}\\u{e007f}"),
        ] {
            assert_eq!(clean(text), expected);
        }
    }

    #[test]
    fn what_is_cut_is_counted() {
        let text = "ä".repeat(5_000_000);
        let cut = clean(&text);
        let (start, note) = cut.split_once("… (").unwrap();
        assert_eq!(note, format!("{} bytes cut)", text.len() - start.len()));
        assert!(cut.chars().count() <= LONGEST);
        assert!(start.chars().count() > LONGEST - 40);
        let whole = "ä".repeat(LONGEST);
        assert_eq!(clean(&whole), whole);
    }

    proptest! {
        #[test]
        fn a_clean_text_is_short_harmless_and_stays(text in any::<String>(), most in 40..300_usize) {
            let once = clean_to(&text, most);
            prop_assert!(!once.contains(is_deceptive));
            prop_assert!(once.chars().count() <= most);
            prop_assert_eq!(clean_to(&once, most), once);
        }
    }
}
