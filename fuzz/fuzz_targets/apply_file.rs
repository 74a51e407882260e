//! The text of an apply file in both its forms: no panic, and no refusal shows what stands in the place of a code.
#![no_main]

use keyward::cli::read_apply_text;
use libfuzzer_sys::fuzz_target;

/// In the seeds wherever a code may stand.
const CODE: &str = "7SECRET7";

fuzz_target!(|bytes: &[u8]| {
    for is_toml in [false, true] {
        if let Err(message) = read_apply_text(bytes, is_toml) {
            assert!(!message.contains(CODE), "{message}");
        }
    }
});
