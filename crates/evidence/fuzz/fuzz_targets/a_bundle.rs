#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protected_evidence_fuzz::checks::a_bundle(bytes));
