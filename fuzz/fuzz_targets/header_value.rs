//! The credential of a request, an address and an address block: no panic, and one meaning.
#![no_main]

use keyward::model::PresentedCredential;
use keyward::model::address::{Cidr, client_address};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(read) = PresentedCredential::parse(bytes) {
        let colon = bytes.iter().position(|byte| *byte == b':').expect("it has one");
        let written = [format!("{} {}", read.mode, read.id).as_bytes(), &bytes[colon..]].concat();
        let again = PresentedCredential::parse(&written).expect("the canonical form is one");
        assert!(again.mode == read.mode && again.id == read.id);
        assert!((8..=128).contains(&(bytes.len() - colon - 1)));
    }
    let address = client_address(bytes);
    let Some(block) = std::str::from_utf8(bytes).ok().and_then(|text| Cidr::parse(text).ok()) else { return };
    assert_eq!(Cidr::parse(&block.to_string()), Ok(block), "it is written back as the same block");
    if let Some(address) = address {
        assert!(block.contains(address), "a bare address is a block of itself");
    }
});
