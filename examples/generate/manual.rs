//! Manual pages: a page for each command from its help, and dfw-policy(5) from `docs/policy.md`.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// The document of the language, which is its manual page, too.
const POLICY: &str = include_str!("../../docs/policy.md");
const MANUAL: &str = "dfw";
/// The same input makes the same page on any day; an empty word would be left out.
const NO_DATE: &str = " ";
const SOURCE: &str = concat!("dfw ", env!("CARGO_PKG_VERSION"));

/// Returns every manual page with its file name, for example `dfw-plan.1`.
pub(super) fn pages(mut dfw: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    dfw = dfw.disable_help_subcommand(true);
    dfw.build();
    let verbs: Vec<_> = dfw
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .map(|verb| format!("dfw-{}", verb.get_name()))
        .collect();
    let mut pages = Vec::new();
    for verb in dfw.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = format!("dfw-{}", verb.get_name());
        pages.push(page(verb, &name, &["dfw".to_owned()])?);
    }
    pages.push(page(&dfw, "dfw", &verbs)?);
    pages.push(("dfw-policy.5".to_owned(), language()?));
    Ok(pages)
}

fn page(command: &Command, name: &str, related: &[String]) -> io::Result<(String, Vec<u8>)> {
    let file = format!("{name}.1");
    let mut text = Vec::new();
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .date(NO_DATE)
        .source(SOURCE)
        .manual(MANUAL);
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(examples) = command.get_after_help() {
        let mut roff = Roff::new();
        roff.control("SH", ["EXAMPLES"]).control("nf", []);
        for line in examples.to_string().lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []).to_writer(&mut text)?;
    }
    let related = related.iter().map(|page| (page.as_str(), 1));
    see_also(related.chain([("dfw-policy", 5)])).to_writer(&mut text)?;
    Ok((file, text))
}

fn see_also<'a>(pages: impl Iterator<Item = (&'a str, u8)>) -> Roff {
    let mut line = Vec::new();
    for (page, section) in pages {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(page), roman(format!("({section})"))]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]).text(line);
    roff
}

/// The page of the language.
fn language() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut roff = Roff::new();
    roff.control("TH", ["DFW-POLICY", "5", NO_DATE, SOURCE, MANUAL])
        .control("SH", ["NAME"])
        .text([roman(
            "dfw-policy - who may reach which published port of this host",
        )])
        .control("SH", ["DESCRIPTION"]);
    roff.to_writer(&mut text)?;
    let mut page = Page::default();
    for event in Parser::new_ext(POLICY, Options::ENABLE_TABLES) {
        page.take(event);
    }
    page.roff.to_writer(&mut text)?;
    let related = [
        "dfw",
        "dfw-check",
        "dfw-test",
        "dfw-plan",
        "dfw-apply",
        "dfw-guard",
    ];
    see_also(related.into_iter().map(|page| (page, 1))).to_writer(&mut text)?;
    Ok(text)
}

#[derive(Clone, Copy, Default)]
enum Face {
    #[default]
    Roman,
    Bold,
    Italic,
}

/// A document in Markdown on its way to a page.
#[derive(Default)]
struct Page {
    roff: Roff,
    /// What is not written yet of the paragraph, heading or cell.
    line: Vec<Inline>,
    face: Face,
    /// Inside of code that stands as it is.
    code: bool,
    /// The heading of the whole, which the name of the page says.
    title: bool,
    /// Which cell of a row comes next; none in the head of a table.
    cell: Option<usize>,
    /// Inside of an item, whose first paragraph stands beside its bullet.
    bullet: bool,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.code => self.verbatim(&text),
            Event::Text(text) => self.words(&text),
            Event::Code(text) => self.line.push(bold(&*text)),
            Event::SoftBreak | Event::HardBreak => self.line.push(roman(" ")),
            _ => {}
        }
    }

    fn words(&mut self, text: &str) {
        self.line.push(match self.face {
            Face::Roman => roman(text),
            Face::Bold => bold(text),
            Face::Italic => italic(text),
        });
    }

    fn verbatim(&mut self, text: &str) {
        for line in text.lines() {
            self.roff.text([roman(line)]);
        }
    }

    fn flush(&mut self) {
        self.roff.text(std::mem::take(&mut self.line));
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => self.title = *level == HeadingLevel::H1,
            Tag::Paragraph if !std::mem::take(&mut self.bullet) => {
                self.roff.control("PP", []);
            }
            Tag::CodeBlock(_) => {
                self.roff.control("PP", []);
                self.roff.control("RS", ["4"]).control("nf", []);
                self.code = true;
            }
            Tag::Item => {
                // A list without paragraphs in it ends an item where the next begins.
                self.roff.control("IP", ["\\(bu", "2"]);
                self.bullet = true;
            }
            Tag::TableHead => self.cell = None,
            Tag::TableRow => self.cell = Some(0),
            Tag::TableCell if self.cell == Some(0) => {
                self.roff.control("TP", []);
            }
            Tag::Strong => self.face = Face::Bold,
            Tag::Emphasis => self.face = Face::Italic,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let words: String = std::mem::take(&mut self.line)
                    .iter()
                    .map(|inline| match inline {
                        Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text,
                        Inline::LineBreak => " ",
                    })
                    .collect();
                match level {
                    _ if self.title => {}
                    HeadingLevel::H2 => {
                        self.roff.control("SH", [words.to_uppercase().as_str()]);
                    }
                    _ => {
                        self.roff.control("SS", [words.as_str()]);
                    }
                }
                self.title = false;
            }
            TagEnd::Paragraph | TagEnd::Item => {
                self.flush();
                self.bullet = false;
            }
            TagEnd::CodeBlock => {
                self.roff.control("fi", []).control("RE", []);
                self.code = false;
            }
            TagEnd::TableHead => self.line.clear(),
            TagEnd::TableCell if self.cell.is_some() => {
                self.flush();
                self.cell = self.cell.map(|cell| cell + 1);
            }
            TagEnd::Strong | TagEnd::Emphasis => self.face = Face::Roman,
            _ => {}
        }
    }
}
