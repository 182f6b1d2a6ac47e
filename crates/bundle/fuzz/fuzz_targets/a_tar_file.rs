#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protected_bundle_fuzz::checks::a_tar_file(bytes));
