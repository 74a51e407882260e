//! Whatever arrives on the query socket, or at a client of it: no panic, and what is accepted is the only way to write it.
#![no_main]

use keyward_proto::frame::{self, LENGTH_BYTES, QUERY_FRAME_BYTES_MAX};
use keyward_proto::query::{QueryReply, QueryRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    judge(bytes);
    // Again with the length put right: otherwise nearly all that a mutation makes ends at the length.
    let mut whole = bytes.to_vec();
    if let Some(length) = whole.first_chunk_mut::<LENGTH_BYTES>() {
        *length = u32::try_from(bytes.len() - LENGTH_BYTES).expect("inputs are small").to_be_bytes();
        judge(&whole);
    }
});

fn judge(mut rest: &[u8]) {
    while let Ok(Some((frame, used))) = frame::split(rest, QUERY_FRAME_BYTES_MAX) {
        if let Ok(request) = QueryRequest::decode(&frame) {
            let mut again = Vec::new();
            request.put(&mut again, frame.header.request_id);
            assert_eq!(again, &rest[..used], "an accepted request is written back as the same bytes");
        }
        let _ = QueryReply::decode(&frame);
        rest = &rest[used..];
    }
}
