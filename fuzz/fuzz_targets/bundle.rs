#![no_main]

#[path = "../../tests/support/encoded.rs"]
mod encoded;
#[path = "../../tests/support/fuzzed.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::bundle(bytes));
