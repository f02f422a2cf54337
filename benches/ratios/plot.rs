//! Pictures of what a run has measured, for docs/performance.md.
//!
//! A run's figures and its pictures lie in docs/ side by side: `cargo bench -- --publish` writes both,
//! and whenever the bench is called by `cargo test`, it draws the pictures anew and compares them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::growth::GROWTH;
use crate::size::short;
use crate::{page, report};

/// The blocks of the page that have a picture of the same name.
const PICTURES: [&str; 6] = ["change", "load", "ports", "packets", "flood", "growth"];
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

/// Writes the figures of a run and its pictures into docs/; those of parts that it has not measured stay.
pub(crate) fn publish(document: &Value) -> Result<()> {
    std::fs::create_dir_all(folder())?;
    let former = std::fs::read_to_string(folder().join("ratios.json"));
    let former = serde_json::from_str(&former.unwrap_or_default()).unwrap_or_default();
    let document = &page::merged(document, &former);
    report::save(document, &folder())?;
    for (name, picture) in pictures(document)? {
        std::fs::write(picture_path(name), picture)?;
    }
    page::publish(document)
}

/// Draws the pictures and writes the tables of the figures in docs/ anew.
pub(crate) fn again() -> Result<()> {
    let text = std::fs::read_to_string(folder().join("ratios.json"))?;
    publish(&serde_json::from_str(&text)?)
}

/// Fails if a picture in docs/ is not of the figures there.
pub(crate) fn compare() -> Result<()> {
    let text = std::fs::read_to_string(folder().join("ratios.json"))?;
    let document = serde_json::from_str(&text)?;
    for (name, picture) in pictures(&document)? {
        let path = picture_path(name);
        let there = std::fs::read_to_string(&path);
        let there = there.with_context(|| path.display().to_string())?;
        ensure!(there == picture, "{} is not current", path.display());
    }
    page::compare(&document)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance")
}

fn picture_path(name: &str) -> PathBuf {
    folder().join(format!("{name}.svg"))
}

fn pictures(document: &Value) -> Result<Vec<(&'static str, String)>> {
    let figures = Vec::<Figure>::deserialize(&document["costs"]).context("costs")?;
    let pictures = PICTURES.map(|name| {
        let of = figures
            .iter()
            .filter(|figure| page::block(&figure.work) == name);
        let figures: Vec<&Figure> = of.collect();
        let picture = if name == "growth" {
            curves(&figures)
        } else {
            draw(&figures)
        };
        (name, picture)
    });
    Ok(pictures.into())
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
    frame(y.into(), &bars)
}

fn frame(height: f64, parts: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#1f2328">
<rect width="100%" height="100%" fill="#ffffff"/>
{parts}</svg>
"##
    )
}

/// A curve for each series over its sizes, both axes logarithmic: what grows in proportion to the size rises by a
/// decade for each decade.
fn curves(figures: &[&Figure]) -> String {
    const DECADES: (i32, i32) = (0, 6);
    const COSTS: (i32, i32) = (0, 4);
    const DECADE: f64 = 70.0;
    const COLORS: [&str; 5] = ["#1f6feb", "#d4762c", "#1a7f37", "#8250df", "#8c959f"];
    let (left, top) = (f64::from(LABELS) - 70.0, 24.0);
    let height = top + DECADE * f64::from(COSTS.1 - COSTS.0);
    let x = |size: f64| left + DECADE * (size.log10() - f64::from(DECADES.0));
    let y = |cost: f64| height - DECADE * (cost.max(1.0).log10() - f64::from(COSTS.0));
    let mut lines = String::new();
    for decade in DECADES.0..=DECADES.1 {
        let at = x(10_f64.powi(decade));
        let _ = writeln!(
            lines,
            r##"<line x1="{at:.1}" y1="{top}" x2="{at:.1}" y2="{height}" stroke="#d0d7de"/><text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
            height + 18.0,
            short(10_usize.pow(decade.unsigned_abs())),
        );
    }
    for decade in COSTS.0..=COSTS.1 {
        let cost = 10_f64.powi(decade);
        let _ = writeln!(
            lines,
            r##"<line x1="{left}" y1="{0:.1}" x2="{1:.1}" y2="{0:.1}" stroke="#d0d7de"/><text x="{2:.1}" y="{3:.1}" text-anchor="end">{4}</text>"##,
            y(cost),
            x(10_f64.powi(DECADES.1)),
            left - 8.0,
            y(cost) + 4.0,
            duration(cost),
        );
    }
    let points = figures.iter().filter_map(|figure| {
        let (size, series) = figure.work.strip_prefix(GROWTH)?.split_once(' ')?;
        Some((series, number(size)?, figure.cpu))
    });
    let points: Vec<(&str, f64, f64)> = points.collect();
    for (series, color) in points.chunk_by(|a, b| a.0 == b.0).zip(COLORS) {
        let path: Vec<String> = series
            .iter()
            .map(|(_, size, cost)| format!("{:.1},{:.1}", x(*size), y(*cost)))
            .collect();
        let _ = writeln!(
            lines,
            r#"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2"/>"#,
            path.join(" ")
        );
        if let Some((name, size, cost)) = series.last() {
            let _ = writeln!(
                lines,
                r#"<text x="{:.1}" y="{:.1}" fill="{color}">{name}</text>"#,
                x(*size) + 6.0,
                y(*cost) - 4.0
            );
        }
    }
    frame(height + 30.0, &lines)
}

/// Reads what [`short`] writes.
fn number(text: &str) -> Option<f64> {
    let (digits, unit) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1e3),
        None => text
            .strip_suffix('M')
            .map_or((text, 1.0), |digits| (digits, 1e6)),
    };
    Some(digits.parse::<f64>().ok()? * unit)
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
