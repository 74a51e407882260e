//! The fuzzer starts from `fuzz/seeds`: a seed that a format change has made unreadable no longer leads it anywhere.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use keyward_proto::FrameError;
use keyward_proto::admin::{AdminReply, AdminRequest};
use keyward_proto::frame::{self, ADMIN_FRAME_BYTES_MAX, Frame, QUERY_FRAME_BYTES_MAX};
use keyward_proto::query::{QueryReply, QueryRequest};

/// Calls `decode` with every frame of every seed; the file's name says whether they are to be accepted.
fn judge_seeds(target: &str, bytes_max: usize, decode: fn(&Frame<'_>) -> Result<(), FrameError>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let refused = path.file_name().unwrap().to_string_lossy().starts_with("refused_");
        match all_frames(&std::fs::read(&path).unwrap(), bytes_max, decode) {
            Ok(()) => assert!(!refused, "{} is accepted", path.display()),
            Err(error) => assert!(refused, "{} is refused: {error}", path.display()),
        }
        seen += 1;
    }
    assert!(seen >= 10, "{target} has only {seen} seeds");
}

fn all_frames(
    mut bytes: &[u8],
    bytes_max: usize,
    decode: fn(&Frame<'_>) -> Result<(), FrameError>,
) -> Result<(), FrameError> {
    while !bytes.is_empty() {
        let Some((frame, used)) = frame::split(bytes, bytes_max)? else { panic!("the last frame is not whole") };
        decode(&frame)?;
        bytes = &bytes[used..];
    }
    Ok(())
}

#[test]
fn every_query_seed_is_a_message_or_is_named_as_refused() {
    judge_seeds("query_frame", QUERY_FRAME_BYTES_MAX, |frame| {
        QueryRequest::decode(frame).map(drop).or_else(|_| QueryReply::decode(frame).map(drop))
    });
}

#[test]
fn every_admin_seed_is_a_message_or_is_named_as_refused() {
    judge_seeds("admin_frame", ADMIN_FRAME_BYTES_MAX, |frame| {
        AdminRequest::decode(frame).map(drop).or_else(|_| AdminReply::decode(frame).map(drop))
    });
}
