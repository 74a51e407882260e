//! A request's path and an endpoint's template: no panic, a clear path holds nothing ambiguous, and the router finds it
//! the same way when it is asked with the plain form.
#![no_main]

use keyward::route::{JudgedPath, Method, Router, Template};
use libfuzzer_sys::fuzz_target;

const TEMPLATES: [&str; 7] =
    ["/", "/a", "/a/{x}", "/a/{x}/b", "/api/v2/tickets/{id}", "/pre-{x}.json", "/files/{rest...}"];

fuzz_target!(|bytes: &[u8]| {
    // The path up to the first zero byte, a template behind it.
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let path = parts.next().unwrap_or_default();
    let own = parts.next().and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| Template::parse(text).ok());
    let get = Method::parse("GET").expect("it is one");
    let templates = TEMPLATES.map(|text| Template::parse(text).expect("it is one"));
    let router = Router::build(own.iter().chain(&templates).map(|template| (&get, template)));
    let Ok(judged) = JudgedPath::judge(path) else { return };
    let segments: Vec<&[u8]> = judged.segments().collect();
    for (place, segment) in segments.iter().enumerate() {
        let text = std::str::from_utf8(segment).expect("a clear path is UTF-8");
        assert!(!text.is_empty() || place + 1 == segments.len());
        assert!(text != "." && text != ".." && !text.contains(['/', '\\', ';']) && !text.contains(char::is_control));
    }
    let found = router.find(b"GET", &judged);
    assert_eq!(found, router.find(b"HEAD", &judged), "HEAD falls back to GET");
    assert_eq!(router.find(b"POST", &judged), None);
    let plain = [b"/", segments.join(&b'/').as_slice()].concat();
    if !plain.iter().any(|byte| matches!(byte, b'%' | b'?' | b'#')) {
        let again = JudgedPath::judge(&plain).expect("the plain form of a clear path is clear");
        assert_eq!(router.find(b"GET", &again), found);
    }
});
