//! Whatever arrives on the admin socket, or at a client of it: no panic, and what is accepted is the only way to write it.
#![no_main]

use keyward_proto::admin::{AdminReply, AdminRequest};
use keyward_proto::frame::{self, ADMIN_FRAME_BYTES_MAX, LENGTH_BYTES};
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
    while let Ok(Some((frame, used))) = frame::split(rest, ADMIN_FRAME_BYTES_MAX) {
        if let Ok(request) = AdminRequest::decode(&frame) {
            let mut again = Vec::new();
            request.put(&mut again, frame.header.request_id);
            assert_eq!(again, &rest[..used], "an accepted request is written back as the same bytes");
        }
        // An error reply is put into the words of this version when it is read, so replies are not compared.
        let _ = AdminReply::decode(&frame);
        rest = &rest[used..];
    }
}
