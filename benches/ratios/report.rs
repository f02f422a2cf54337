//! The table that a run ends with.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::goal::Goal;
use crate::race::Row;

pub(crate) fn print(rows: &[Row], goals: &[Goal], slack: f64) -> Result<()> {
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
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    if let Some(target) = target {
        let document = json!({ "schema": "dfw/ratios/v1", "costs": rows, "ratios": goals });
        let path = target.join("ratios.json");
        std::fs::write(&path, serde_json::to_string_pretty(&document)? + "\n")?;
        println!("\nall of it: {}", path.display());
    }
    Ok(())
}
