//! Pictures of what a run has measured, for docs/performance.md.
//!
//! A run's figures and its pictures lie in docs/ side by side: `cargo bench -- --publish` writes both,
//! and whenever the bench is called by `cargo test`, it draws the pictures anew and compares them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::report;

/// The pictures, and what is in the names of all work that each shows; the first shows the rest.
const PICTURES: [(&str, &str); 4] = [
    ("change", ""),
    ("load", "load "),
    ("ports", "ports of "),
    ("packets", " packet, "),
];
/// All lengths in pixels.
const WIDTH: u32 = 720;
const LABELS: u32 = 150;
const LONGEST: f64 = 440.0;
const TITLE: u32 = 26;
const BAR: u32 = 18;
const GAP: u32 = 12;

/// The median of what a contender needed.
#[derive(Debug, Deserialize)]
struct Figure {
    work: String,
    contender: String,
    /// Milliseconds of processor time.
    cpu: f64,
}

/// Writes the figures of a run and its pictures into docs/.
pub(crate) fn publish(document: &Value) -> Result<()> {
    std::fs::create_dir_all(folder())?;
    report::save(document, &folder())?;
    for (name, picture) in pictures(document)? {
        std::fs::write(picture_path(name), picture)?;
    }
    Ok(())
}

/// Fails if a picture in docs/ is not of the figures there.
pub(crate) fn compare() -> Result<()> {
    let text = std::fs::read_to_string(folder().join("ratios.json"))?;
    for (name, picture) in pictures(&serde_json::from_str(&text)?)? {
        let path = picture_path(name);
        let there = std::fs::read_to_string(&path);
        let there = there.with_context(|| path.display().to_string())?;
        ensure!(there == picture, "{} is not current", path.display());
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance")
}

fn picture_path(name: &str) -> PathBuf {
    folder().join(format!("{name}.svg"))
}

fn pictures(document: &Value) -> Result<Vec<(&'static str, String)>> {
    let figures = Vec::<Figure>::deserialize(&document["costs"]).context("costs")?;
    let mut pictures = PICTURES.map(|(name, _)| (name, Vec::new()));
    for figure in &figures {
        let of = PICTURES
            .iter()
            .rposition(|(_, part)| figure.work.contains(part));
        pictures[of.unwrap_or_default()].1.push(figure);
    }
    let pictures = pictures.into_iter();
    Ok(pictures
        .map(|(name, figures)| (name, draw(&figures)))
        .collect())
}

/// A block of bars for each work, the longest of which fills the width.
fn draw(figures: &[&Figure]) -> String {
    let mut bars = String::new();
    let mut y = GAP;
    for block in figures.chunk_by(|a, b| a.work == b.work) {
        let longest = block.iter().map(|figure| figure.cpu).fold(0.0, f64::max);
        let middle = y + TITLE / 2 + 4;
        let _ = writeln!(
            bars,
            r#"<text x="{GAP}" y="{middle}" font-weight="bold">{}</text>"#,
            block[0].work
        );
        y += TITLE;
        for figure in block {
            let color = match figure.contender.as_str() {
                name if name.starts_with("dfw") => "#1f6feb",
                "raw" | "no firewall" => "#8c959f",
                _ => "#d4762c",
            };
            let length = (figure.cpu / longest * LONGEST).max(1.0);
            let middle = y + BAR / 2 + 4;
            let _ = writeln!(
                bars,
                r#"<text x="{}" y="{middle}" text-anchor="end">{}</text><rect x="{LABELS}" y="{}" width="{length:.1}" height="{}" fill="{color}"/><text x="{:.1}" y="{middle}">{}</text>"#,
                LABELS - 8,
                figure.contender,
                y + 2,
                BAR - 4,
                f64::from(LABELS) + length + 6.0,
                duration(figure.cpu),
            );
            y += BAR;
        }
        y += GAP;
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12" fill="#1f2328">
<rect width="100%" height="100%" fill="#ffffff"/>
{bars}</svg>
"##
    )
}

/// Three digits that say something.
fn duration(milliseconds: f64) -> String {
    let (value, unit) = match milliseconds {
        ms if ms >= 1000.0 => (ms / 1000.0, "s"),
        ms if ms >= 0.1 => (ms, "ms"),
        ms => (ms * 1000.0, "µs"),
    };
    let decimals = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}
