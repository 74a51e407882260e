//! The text of a tag set: no panic, and what is accepted is written back as the same set.
#![no_main]

use keyward::tags::{Tag, TagRef, TagSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The set up to the first zero byte, a tag behind it.
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let set = parts.next().and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| TagSet::parse(text).ok());
    let tag = parts.next().and_then(|text| TagRef::parse(text).ok());
    if let Some(tag) = tag {
        assert!(Tag::parse(tag.as_str()).is_ok_and(|owned| owned.as_str() == tag.as_str()));
    }
    let Some(set) = set else { return };
    let written: Vec<String> = set.patterns().iter().map(ToString::to_string).collect();
    assert!(TagSet::parse(&written.join("\n")).is_ok_and(|again| again == set), "it is written back as the same set");
    if let Some(tag) = tag {
        let reversed = TagSet::from_items(written.iter().rev().map(String::as_str)).expect("the same patterns");
        assert_eq!(set.judge(&[tag]), reversed.judge(&[tag]), "order does not matter");
        assert_eq!(set.judge(&[tag]), set.deciding(&[tag]).0);
    }
});
