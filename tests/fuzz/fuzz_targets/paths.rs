#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tellwire_fuzz::run(tellwire_fuzz::paths::paths, bytes);
});
