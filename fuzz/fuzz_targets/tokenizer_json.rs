#![no_main]
use std::sync::Once;

static QUIET: Once = Once::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // Panics of the tokenizers crate are caught and no finding: they must not end the process, as libFuzzer's hook would.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    bpo_fuzz::tokenizer_json(data);
});
