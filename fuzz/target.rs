//! Every target: which one, its binary's name says.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| enjambre::fuzz::check(env!("CARGO_BIN_NAME"), data));
