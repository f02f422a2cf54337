//! The clock by which permissions end.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns the time since boot, of which a suspended machine counts, too (`CLOCK_BOOTTIME`). Nobody can set it. The
/// kernel's timeouts, in contrast, stand still while the machine is suspended.
#[must_use]
pub fn since_boot() -> Duration {
    // A positive number of seconds, and less than a second of nanoseconds.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}
