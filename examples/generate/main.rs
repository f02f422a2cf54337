//! Generates the manual pages and shell completions of `dfw`, which packages install.
//!
//! ```text
//! cargo run --example generate -- DIR    writes DIR/man and DIR/completions
//! ```
//!
//! An example, so that the program itself needs none of the crates that do this.

mod files;
mod manual;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.context("usage: cargo run --example generate -- DIR")?;
    for (name, text) in files::files()? {
        let path = dir.join(name);
        let parent = path.parent().unwrap_or(&dir);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
