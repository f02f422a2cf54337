//! No text does harm, whatever it says.

use std::path::Path;

use dfw::output::diagnostic::{render, to_json};
use dfw::policy;
use dfw::text::SourceMap;
use dfw::text::diagnostic::Severity;
use proptest::prelude::*;

const DESIGN: &str = include_str!("../policies/valid/design.yaml");

/// Whatever the files say: no panic, and every place that is pointed at exists.
fn harmless(files: &[(&str, &[u8])]) {
    let mut sources = SourceMap::in_memory(files.iter().map(|(path, text)| (*path, *text)));
    let files = dfw::store::read_policies(&mut sources, Path::new("p")).unwrap();
    let outcome = policy::read(&mut sources, &files);
    let diagnostics = match outcome {
        Ok((_, warnings)) => {
            assert!(warnings.iter().all(|d| d.severity == Severity::Warning));
            warnings
        }
        Err(errors) => {
            assert!(errors.iter().any(|d| d.severity == Severity::Error));
            errors
        }
    };
    for diagnostic in &diagnostics {
        for label in diagnostic.primary.iter().chain(&diagnostic.related) {
            let text = sources.text(label.span.file);
            assert!(text.get(label.span.range()).is_some(), "{label:?}");
        }
        assert!(!diagnostic.message.contains(char::is_control));
        let shown = render(diagnostic, &sources, false);
        assert!(!shown.contains('\u{1b}'));
        assert!(to_json(diagnostic, &sources).is_object());
    }
}

/// Pieces that make texts interesting to a YAML parser and to dfw.
fn pieces() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(vec![
        "default",
        ": ",
        "deny",
        "ports",
        "sources",
        "grants",
        "max-time",
        "8h",
        "settings",
        "tests",
        "allow",
        "except",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "80",
        "8000-8010",
        "/udp",
        "any",
        "office",
        "containers",
        "203.0.113.0/24",
        "2001:db8::/32",
        "file",
        "#",
        "\"",
        "'",
        "|",
        ">",
        "&a",
        "*a",
        "!t",
        "<<",
        "?",
        "---",
        "...",
        "%",
        "\t",
        "\r\n",
        "\u{feff}",
        "ü",
        "\0",
        "~",
        "null",
        "interface",
        "log",
        "true",
        "priority",
        "-4",
        "from",
        "to",
        "expect",
        ":",
        "::",
        "-",
        "@",
    ]);
    let known = known.prop_map(str::to_owned);
    proptest::collection::vec(prop_oneof![20 => known, 1 => any::<String>()], 0..60)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_do_harm(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        harmless(&[("p/a.yaml", &text)]);
    }

    #[test]
    fn no_text_does_harm(first in pieces(), second in pieces(), list in pieces()) {
        let first = format!("{first}\nsources: {{office: {{file: list}}}}\n");
        harmless(&[
            ("p/a.yaml", first.as_bytes()),
            ("p/b.yaml", second.as_bytes()),
            ("p/list", list.as_bytes()),
        ]);
    }

    #[test]
    fn no_change_of_a_policy_does_harm(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..20_usize, pieces()), 1..4),
        list in pieces(),
    ) {
        let mut text: Vec<char> = DESIGN.chars().collect();
        for (at, length, piece) in changes {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, piece.chars().take(8));
        }
        let text: String = text.into_iter().collect();
        harmless(&[("p/a.yaml", text.as_bytes()), ("p/lists/partners.txt", list.as_bytes())]);
    }
}
