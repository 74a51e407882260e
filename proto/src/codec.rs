//! The only module that names bincode: fixed-width integers, big-endian, the whole body consumed.
//!
//! bincode 2.0.1 is finished and unmaintained (RUSTSEC-2025-0141). The byte format is specified in `PROTOCOL.md` and
//! pinned by golden frames, so that another codec can take its place behind these functions.

use bincode::config::{BigEndian, Configuration, Fixint, Limit};
use bincode::de::BorrowDecode;
use bincode::enc::write::{SizeWriter, Writer};
use bincode::enc::{Encode, EncoderImpl};
use bincode::error::{DecodeError, EncodeError};

use crate::frame::{ErrorCode, FrameError};

type Bounded<const LIMIT: usize> = Configuration<BigEndian, Fixint, Limit<LIMIT>>;

/// A decoded value may claim at most this many times its frame's bytes: an absent field of a patch is one byte on the
/// wire and up to 32 in memory, and a patch with nothing given has some forty times its bytes. The bound is a compile-time constant in bincode, hence the tiers.
const CLAIM_PER_BYTE: usize = 48;

const TIER_SMALL: usize = 1 << 10;
const TIER_MEDIUM: usize = 64 << 10;
const TIER_LARGE: usize = 1 << 20;
const TIER_FULL: usize = crate::frame::ADMIN_FRAME_BYTES_MAX;

/// Decodes `body` as one `T`, whole.
///
/// # Errors
/// [`ErrorCode::MalformedBody`] when it is no `T`, [`ErrorCode::TrailingBytes`] when something follows the value.
pub(crate) fn decode<'a, T: BorrowDecode<'a, ()>>(body: &'a [u8]) -> Result<T, FrameError> {
    match body.len() {
        bytes if bytes <= TIER_SMALL => decode_within::<T, { TIER_SMALL * CLAIM_PER_BYTE }>(body),
        bytes if bytes <= TIER_MEDIUM => decode_within::<T, { TIER_MEDIUM * CLAIM_PER_BYTE }>(body),
        bytes if bytes <= TIER_LARGE => decode_within::<T, { TIER_LARGE * CLAIM_PER_BYTE }>(body),
        _ => decode_within::<T, { TIER_FULL * CLAIM_PER_BYTE }>(body),
    }
}

fn decode_within<'a, T: BorrowDecode<'a, ()>, const LIMIT: usize>(body: &'a [u8]) -> Result<T, FrameError> {
    let config: Bounded<LIMIT> =
        bincode::config::standard().with_big_endian().with_fixed_int_encoding().with_limit::<LIMIT>();
    let (value, read) = bincode::borrow_decode_from_slice(body, config)
        .map_err(|e| FrameError::new(ErrorCode::MalformedBody, format!("the body is not of its type: {}", why(&e))))?;
    if read != body.len() {
        return Err(FrameError::new(
            ErrorCode::TrailingBytes,
            format!("{} bytes follow the message", body.len() - read),
        ));
    }
    Ok(value)
}

/// In words of our own: bincode's hold bytes of the body, which may be a code's.
fn why(error: &DecodeError) -> &'static str {
    if matches!(error, DecodeError::UnexpectedEnd { .. }) {
        "it ends too early"
    } else if matches!(error, DecodeError::LimitExceeded | DecodeError::OutsideUsizeRange(_)) {
        "a length in it is more than the body can hold"
    } else if matches!(error, DecodeError::UnexpectedVariant { .. }) {
        "a tag or variant number in it is not known"
    } else if matches!(error, DecodeError::InvalidBooleanValue(_)) {
        "a boolean in it is neither 0 nor 1"
    } else if matches!(error, DecodeError::Utf8 { .. }) {
        "a text in it is not UTF-8"
    } else {
        "it cannot be read"
    }
}

/// Appends `value` to `out`.
pub(crate) fn encode<T: Encode>(value: &T, out: &mut Vec<u8>) {
    let config = bincode::config::standard().with_big_endian().with_fixed_int_encoding();
    bincode::encode_into_writer(value, Appending(out), config)
        .expect("appending to a Vec does not fail and every message type is encodable");
}

/// The bytes that [`encode`] would append, without making them.
pub(crate) fn size<T: Encode>(value: &T) -> usize {
    let config = bincode::config::standard().with_big_endian().with_fixed_int_encoding();
    let mut counter = EncoderImpl::new(SizeWriter::default(), config);
    value.encode(&mut counter).expect("counting does not fail and every message type is encodable");
    counter.into_writer().bytes_written
}

struct Appending<'a>(&'a mut Vec<u8>);

impl Writer for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
