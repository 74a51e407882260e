//! A request's head: no panic, the same reading however much follows it, and the one that another parser has.
#![no_main]

use keyward::serve::http::head::{HEADER_LINES_MAX, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut headers = Vec::new();
    let Ok(Some((head, used))) = read(bytes, |name, value| headers.push((name, value))) else { return };
    assert!(used <= bytes.len() && bytes[..used].ends_with(b"\r\n\r\n"));
    assert_eq!(read(&bytes[..used], |_, _| {}), Ok(Some((head, used))), "what follows is another request's");
    assert_eq!(read(&bytes[..used - 1], |_, _| {}), Ok(None), "a head ends where it ends");
    let mut room = [httparse::EMPTY_HEADER; HEADER_LINES_MAX];
    let mut other = httparse::Request::new(&mut room);
    assert_eq!(other.parse(bytes), Ok(httparse::Status::Complete(used)));
    assert_eq!(other.method.map(str::as_bytes), Some(head.method));
    let theirs: Vec<_> = other.headers.iter().map(|line| (line.name.as_bytes(), line.value)).collect();
    assert_eq!(headers, theirs);
});
