//! Whatever arrives on the admin socket, or at a client of it: no panic, and what is accepted is the only way to write it.
#![no_main]

use keyward_proto::admin::{AdminReply, AdminRequest};
use keyward_proto::frame::{self, ADMIN_FRAME_BYTES_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
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
});
