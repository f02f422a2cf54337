//! The table that a run ends with, and all of it as JSON.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::goal::Goal;
use crate::race::Row;

pub(crate) fn print(goals: &[Goal], slack: f64) {
    println!(
        "\n{:<32} {:<24} {:>10} {:>10}",
        "work", "ratio", "measured", "must be"
    );
    for goal in goals {
        let sign = if goal.at_least { '≥' } else { '≤' };
        let (limit, verdict) = match (goal.binding, goal.is_reached(slack)) {
            (true, true) => (format!("{sign} {}", goal.limit), ""),
            (true, false) => (format!("{sign} {}", goal.limit), "  MISSED"),
            (false, _) => (String::new(), ""),
        };
        println!(
            "{:<32} {:<24} {:>10.2} {limit:>10}{verdict}",
            goal.work, goal.what, goal.value
        );
    }
}

/// Everything that was measured.
pub(crate) fn document(rows: &[Row], goals: &[Goal]) -> Value {
    json!({ "schema": "dfw/ratios/v1", "costs": rows, "ratios": goals })
}

/// Writes it into a folder.
pub(crate) fn save(document: &Value, folder: &Path) -> Result<()> {
    let path = folder.join("ratios.json");
    std::fs::write(&path, serde_json::to_string_pretty(document)? + "\n")?;
    println!("\nall of it: {}", path.display());
    Ok(())
}
