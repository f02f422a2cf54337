//! How much a trial does that could take more than a minute.

/// Whether trials run whole, as `tests/run --long` has it; small otherwise.
pub(crate) fn is_long() -> bool {
    std::env::var("DFW_LONG").as_deref() == Ok("1")
}

/// How often a trial does something: small, unless trials run whole.
pub(crate) fn times(whole: u32, small: u32) -> u32 {
    if is_long() { whole } else { small }
}
