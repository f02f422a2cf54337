//! The table in `docs/doors.md`.
use crate::Finding;
use anyhow::Result;
pub(crate) fn compare(_: &[Vec<Finding>]) -> Result<()> {
    Ok(())
}
