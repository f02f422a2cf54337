//! The words of a line, as `iptables-restore` splits it.

use crate::text::{FileId, Span};

/// A word without quotes, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) span: Span,
}

/// Splits a line into words; `start` is its offset in the file. Double quotes enclose white space; a backslash
/// in them escapes the next character.
pub(super) fn words(file: FileId, line: &str, start: usize) -> Vec<Word> {
    let mut words = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut quoted = false;
    let mut escaped = false;
    for (at, character) in line.char_indices() {
        if character.is_ascii_whitespace() && !quoted {
            if let Some((from, text)) = open.take() {
                let span = Span::new(file, start + from, start + at);
                words.push(Word { text, span });
            }
            continue;
        }
        let (_, text) = open.get_or_insert_with(|| (at, String::new()));
        match character {
            _ if escaped => {
                text.push(character);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => text.push(character),
        }
    }
    if let Some((from, text)) = open {
        let span = Span::new(file, start + from, start + line.len());
        words.push(Word { text, span });
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let words = words(FileId(0), line, 0);
        words.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(
            texts(r#"-A X  -m comment --comment "a \"b\" c" -j Y"#),
            [
                "-A",
                "X",
                "-m",
                "comment",
                "--comment",
                r#"a "b" c"#,
                "-j",
                "Y"
            ]
        );
        assert_eq!(texts(r#"a "" b"#), ["a", "", "b"]);
        assert_eq!(texts(r#"a "never closed"#), ["a", "never closed"]);
        assert_eq!(texts(" \t"), Vec::<String>::new());
    }

    #[test]
    fn each_word_knows_its_place() {
        let line = "-s ü \"x y\"";
        let spans: Vec<_> = words(FileId(0), line, 0)
            .into_iter()
            .map(|word| &line[word.span.range()])
            .collect();
        assert_eq!(spans, ["-s", "ü", "\"x y\""]);
    }
}
