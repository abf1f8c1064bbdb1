#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| bpo_fuzz::gguf(data));
