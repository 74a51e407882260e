//! The text of an apply file in each of its forms: no panic, and no refusal shows what stands in the place of a code.
#![no_main]

use std::path::Path;

use keyward::cli::read_apply_text;
use libfuzzer_sys::fuzz_target;

/// In the seeds wherever a code may stand.
const CODE: &str = "7SECRET7";

fuzz_target!(|bytes: &[u8]| {
    for name in ["world.json", "world.toml", "world.yaml"] {
        if let Err(message) = read_apply_text(bytes, Path::new(name)) {
            assert!(!message.contains(CODE), "{message}");
        }
    }
});
