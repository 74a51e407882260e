//! Whatever arrives on the query socket, or at a client of it: no panic, and what is accepted is the only way to write it.
#![no_main]

use keyward_proto::frame::{self, QUERY_FRAME_BYTES_MAX};
use keyward_proto::query::{QueryReply, QueryRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((frame, used))) = frame::split(rest, QUERY_FRAME_BYTES_MAX) {
        if let Ok(request) = QueryRequest::decode(&frame) {
            let mut again = Vec::new();
            request.put(&mut again, frame.header.request_id);
            assert_eq!(again, &rest[..used], "an accepted request is written back as the same bytes");
        }
        let _ = QueryReply::decode(&frame);
        rest = &rest[used..];
    }
});
