//! Diagnostics as text and as JSON.

use std::ops::Range;
use std::path::Path;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use crate::text::diagnostic::{Diagnostic, Label, Severity};
use crate::text::{SourceMap, Span};
use crate::untrusted;

/// The distance in lines up to which places share a snippet.
const TOGETHER: u32 = 50;

/// The distance in columns up to which places share a snippet: it is as wide as the places are far apart.
const CLOSE: u32 = 400;

/// The distance in bytes up to which places share a snippet.
const SHORT: usize = 20_000;

/// The number of bytes shown after the place; the rest of a longer line is cut.
const BEHIND: usize = 200;

/// Renders a diagnostic in the style of rustc, ending in a line break.
///
/// With `colour` it holds ANSI escapes; without, it is plain ASCII art. Control characters of the
/// files never reach the terminal.
#[must_use]
pub fn render(diagnostic: &Diagnostic, sources: &SourceMap, colour: bool) -> String {
    render_within(diagnostic, sources, colour, None)
}

/// Renders a diagnostic for a terminal of this width: longer lines of a file are cut around the place.
#[must_use]
pub fn render_within(
    diagnostic: &Diagnostic,
    sources: &SourceMap,
    colour: bool,
    width: Option<usize>,
) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.slug);
    let mut group = Group::with_title(title);
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let renderer = width.map_or(renderer.clone(), |width| renderer.term_width(width));
    let mut text = String::new();
    if diagnostic.primary.is_some() {
        for excerpt in excerpts(diagnostic, sources) {
            group = excerpt.add_to(group);
        }
        for note in &diagnostic.notes {
            group = group.element(Level::NOTE.message(note.as_str()));
        }
        for help in &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        text.push_str(&renderer.render(&[group]));
    } else {
        // Without a snippet there is no gutter; print each help on its own.
        text.push_str(&renderer.render(&[group]));
        for note in &diagnostic.notes {
            let note = Group::with_title(Level::NOTE.secondary_title(note.as_str()));
            text.push('\n');
            text.push_str(&renderer.render(&[note]));
        }
        for help in &diagnostic.help {
            let help = Group::with_title(Level::HELP.secondary_title(help.as_str()));
            text.push('\n');
            text.push_str(&renderer.render(&[help]));
        }
    }
    text.push('\n');
    text
}

/// A part of a file with places in it.
struct Excerpt<'a> {
    name: String,
    /// The number of the first line.
    line: u32,
    source: String,
    /// The offset of the snippet in the file.
    start: usize,
    places: Vec<(AnnotationKind, Range<usize>, &'a str)>,
}

impl<'a> Excerpt<'a> {
    fn add_to(self, group: Group<'a>) -> Group<'a> {
        if self.source.is_empty() {
            return group.element(Origin::path(self.name));
        }
        let line = usize::try_from(self.line).unwrap_or(1);
        let annotations: Vec<Annotation<'a>> = self
            .places
            .into_iter()
            .map(|(kind, range, text)| {
                let range = range.start - self.start..range.end - self.start;
                let label = (!text.is_empty()).then_some(text);
                kind.span(range).label(label)
            })
            .collect();
        group.element(
            Snippet::source(self.source)
                .line_start(line)
                .path(self.name)
                .annotations(annotations),
        )
    }
}

/// Returns the snippets of a diagnostic, the place of the problem first.
fn excerpts<'a>(diagnostic: &'a Diagnostic, sources: &'a SourceMap) -> Vec<Excerpt<'a>> {
    let Some(primary) = &diagnostic.primary else {
        return Vec::new();
    };
    let near = |label: &&Label| {
        let [this, other] = [label, primary].map(|label| sources.line_column(&label.span));
        label.span.file == primary.span.file
            && this.0.abs_diff(other.0) <= TOGETHER
            && this.1.abs_diff(other.1) <= CLOSE
            && label.span.bytes.0.abs_diff(primary.span.bytes.0) <= SHORT
    };
    let (here, elsewhere): (Vec<&Label>, Vec<&Label>) = diagnostic.related.iter().partition(near);
    let mut places = vec![(AnnotationKind::Primary, primary)];
    places.extend(
        here.into_iter()
            .map(|label| (AnnotationKind::Context, label)),
    );
    let first = excerpt(sources, &places);
    let others = elsewhere
        .into_iter()
        .map(|label| excerpt(sources, &[(AnnotationKind::Context, label)]));
    std::iter::once(first).chain(others).flatten().collect()
}

/// Returns the snippets of `places`, which are in one file.
fn excerpt<'a>(
    sources: &'a SourceMap,
    places: &[(AnnotationKind, &'a Label)],
) -> Option<Excerpt<'a>> {
    let file = places.first()?.1.span.file;
    let text = sources.text(file);
    let first_lines = places
        .iter()
        .map(|(kind, label)| (*kind, first_line(sources, &label.span), label.text.as_str()));
    let places: Vec<_> = first_lines.collect();
    let start = places.iter().map(|(_, range, _)| range.start).min()?;
    let end = places.iter().map(|(_, range, _)| range.end).max()?;
    let (line, _) = sources.position(file, start);
    let start = sources.line_span(file, line).bytes.0;
    let (last, _) = sources.position(file, end);
    let cut = (end.saturating_add(BEHIND)..text.len())
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(text.len());
    let end = sources.line_span(file, last).bytes.1.min(cut).max(end);
    Some(Excerpt {
        name: untrusted::path(Path::new(sources.name(file))),
        line,
        source: text.get(start..end)?.to_owned(),
        start,
        places,
    })
}

/// Returns the part of a span on its first line: a mapping is not shown completely.
fn first_line(sources: &SourceMap, span: &Span) -> Range<usize> {
    let (line, _) = sources.line_column(span);
    let end = sources.line_span(span.file, line).bytes.1;
    let (start, stop) = span.bytes;
    start..stop.min(end).max(start)
}

/// Converts a diagnostic to JSON: `severity`, `slug`, `message`, its place (`file`, `line`, `column`,
/// `end_line`, `end_column`, all `null` if it has none; from 1, columns in characters, the end
/// exclusive), `label`, `related` places, `notes` if there are any, and `help`.
#[must_use]
pub fn to_json(diagnostic: &Diagnostic, sources: &SourceMap) -> Value {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut value = json!({
        "severity": severity,
        "slug": diagnostic.slug,
        "message": diagnostic.message,
        "file": null,
        "line": null,
        "column": null,
        "end_line": null,
        "end_column": null,
        "label": null,
        "related": diagnostic.related.iter().map(|label| place(label, sources)).collect::<Vec<_>>(),
        "help": diagnostic.help,
    });
    if let (Some(primary), Some(object)) = (&diagnostic.primary, value.as_object_mut())
        && let Value::Object(mut place) = place(primary, sources)
    {
        object.append(&mut place);
    }
    if let (false, Some(object)) = (diagnostic.notes.is_empty(), value.as_object_mut()) {
        object.insert("notes".to_owned(), json!(diagnostic.notes));
    }
    value
}

fn place(label: &Label, sources: &SourceMap) -> Value {
    let file = label.span.file;
    let (line, column) = sources.position(file, label.span.bytes.0);
    let (end_line, end_column) = sources.position(file, label.span.bytes.1);
    json!({
        "file": sources.name(file),
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
        "label": label.text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    fn sources(text: &str) -> (SourceMap, crate::text::FileId) {
        let mut sources = SourceMap::in_memory([("a.yaml", text)]);
        let file = crate::store::read_policies(&mut sources, Path::new("a.yaml")).unwrap()[0];
        (sources, file)
    }

    #[test]
    fn places_of_one_file_share_a_snippet() {
        let (sources, file) = sources("80: any\n443: any\n80: []\n");
        let diagnostic = Diagnostic::error("twice", "written twice")
            .at(Span::new(file, 17, 19), "again")
            .related(Span::new(file, 0, 2), "first")
            .help("keep one");
        let expected = "\
error[twice]: written twice
 --> a.yaml:3:1
  |
1 | 80: any
  | -- first
2 | 443: any
3 | 80: []
  | ^^ again
  |
  = help: keep one
";
        assert_eq!(render(&diagnostic, &sources, false), expected);
        assert!(render(&diagnostic, &sources, true).contains("\u{1b}["));
    }

    #[test]
    fn json_has_every_field() {
        let (sources, file) = sources("a: ü\nb: [1,\n 2]\n");
        let diagnostic = Diagnostic::warning("slug", "message")
            .at(Span::new(file, 9, 15), "here")
            .related(Span::new(file, 3, 5), "there")
            .help("help");
        let expected = json!({
            "severity": "warning", "slug": "slug", "message": "message",
            "file": "a.yaml", "line": 2, "column": 4, "end_line": 3, "end_column": 3,
            "label": "here", "help": ["help"],
            "related": [{
                "file": "a.yaml", "line": 1, "column": 4, "end_line": 1, "end_column": 5,
                "label": "there",
            }],
        });
        assert_eq!(to_json(&diagnostic, &sources), expected);
        let nowhere = to_json(&Diagnostic::error("slug", "message"), &sources);
        assert!(nowhere["file"].is_null() && nowhere["line"].is_null());
    }

    #[test]
    fn a_line_of_a_million_characters_is_cut() {
        let text = format!("a: {}X{}", "ü".repeat(500_000), "b".repeat(500_000));
        let (sources, file) = sources(&text);
        let at = text.find('X').unwrap();
        let diagnostic = Diagnostic::error("x", "x").at(Span::new(file, at, at + 1), "this");
        let shown = render(&diagnostic, &sources, false);
        assert!(shown.contains("a.yaml:1:500004"), "{shown}");
        assert!(shown.chars().count() < 500, "{shown}");
        let whole = Diagnostic::error("x", "x").at(Span::new(file, 3, text.len()), "this");
        let shown = render(&whole, &sources, false);
        assert!(shown.chars().count() < 1000, "{} {shown}", shown.len());
    }

    #[test]
    fn places_far_apart_in_a_line_have_snippets_of_their_own() {
        let text = format!("a: X{}Y\nb: 1\n", " ".repeat(500_000));
        let (sources, file) = sources(&text);
        let at = |c| text.find(c).map(|at| Span::new(file, at, at + 1)).unwrap();
        let twice = Diagnostic::error("x", "x")
            .at(at('Y'), "again")
            .related(at('X'), "first")
            .related(at('b'), "behind it");
        let shown = render(&twice, &sources, false);
        assert!(shown.chars().count() < 2_000, "{}", shown.len());
        for text in [
            "a.yaml:1:500005",
            "a.yaml:1:4",
            "again",
            "first",
            "behind it",
        ] {
            assert!(shown.contains(text), "{text}: {shown}");
        }
    }

    #[test]
    fn a_files_name_is_one_line() {
        let mut sources = SourceMap::in_memory([("p/a\ncovered: all.yaml", "a: b\n")]);
        let file = crate::store::read_policies(&mut sources, Path::new("p")).unwrap()[0];
        let diagnostic = Diagnostic::error("x", "x").at(Span::new(file, 3, 4), "");
        let shown = render(&diagnostic, &sources, false);
        assert!(shown.contains("--> p/a\\ncovered: all.yaml:1:4"), "{shown}");
        let message = Diagnostic::error("x", "`a\nb`").help("`\u{202e}`");
        assert_eq!(message.message, "`a\\nb`");
        assert_eq!(message.help, ["`\\u{202e}`"]);
    }

    #[test]
    fn nothing_of_a_file_reaches_the_terminal_raw() {
        let (sources, file) = sources("a: \u{1b}[31m\u{7}\u{202e}b\n");
        let diagnostic = Diagnostic::error("x", "x").at(Span::new(file, 3, 5), "");
        let shown = render(&diagnostic, &sources, false);
        assert!(
            !shown.contains(['\u{1b}', '\u{7}', '\u{202e}']),
            "{shown:?}"
        );
    }
}
