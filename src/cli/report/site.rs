//! The site that guard follows, as its status has it.

use serde_json::Value;

use crate::output::terminal::{Terminal, Tone};
use crate::untrusted::clean_to;

use super::stale::age;

/// The longest text of guard that is shown, in characters.
const LINE: usize = 4096;

/// Returns a line about the site; nothing if none is followed.
pub(in crate::cli) fn text(terminal: Terminal, site: &Value) -> String {
    let clean = |value: &Value| clean_to(value.as_str().unwrap_or_default(), LINE);
    if !site.is_object() {
        return String::new();
    }
    let state = clean(&site["state"]);
    let is_good = state == "in-force";
    let tone = if is_good { Tone::Good } else { Tone::Warning };
    let word = terminal.paint(tone, "site");
    let in_force = match (site["generation"].as_u64(), site["serial"].as_u64()) {
        (Some(generation), Some(serial)) => {
            format!("generation {generation} is in force, the last serial is {serial}")
        }
        _ => "no generation is in force".to_owned(),
    };
    let fetched = site["age"].as_u64().map_or_else(
        || "never fetched".to_owned(),
        |seconds| format!("fetched {} ago", age(seconds)),
    );
    let address = clean(&site["address"]);
    format!("{word}: {address}: {in_force}, {fetched}\n")
}

/// Returns a sentence for each problem of the site; nothing if none is followed.
pub(in crate::cli) fn problems(site: &Value) -> Vec<String> {
    let clean = |value: &Value| clean_to(value.as_str().unwrap_or_default(), LINE);
    let mut problems = Vec::new();
    if !site.is_object() {
        return problems;
    }
    let state = clean(&site["state"]);
    match site["reason"].as_str() {
        Some(_) => problems.push(format!("{state}: {}", clean(&site["reason"]))),
        None if !matches!(&*state, "in-force" | "nothing" | "stale") => problems.push(state),
        None => {}
    }
    if site["stale"] == true {
        let expires = clean(&site["expires"]);
        problems.push(format!(
            "stale: the last head expired at {expires}; what is in force stays"
        ));
    }
    if site["failure"].is_string() {
        problems.push(format!("not fetched: {}", clean(&site["failure"])));
    }
    problems
}
