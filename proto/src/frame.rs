//! Frames: `u32` big-endian length, then that many bytes, of which the first eight are a fixed header.
//!
//! ```text
//!  0        4          6       8            12
//!  +--------+----------+-------+------------+---------------
//!  | length | version  | type  | request id | body (bincode)
//!  +--------+----------+-------+------------+---------------
//!    u32        u16       u16       u32
//! ```
//! The header is judged before anything else is decoded, so that any later version can be refused with a numbered error.

use bincode::{Decode, Encode};

use crate::codec;

/// The protocol version these types speak.
pub const VERSION: u16 = 1;
/// Bytes of the length prefix, which does not count itself.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of the fixed header behind the length.
pub const HEADER_BYTES: usize = 8;
/// A credential, an agent and 1024 targets with paths of 200 bytes fit.
pub const QUERY_FRAME_BYTES_MAX: usize = 256 * 1024;
/// An `apply` part of some ten thousand records fits; larger files go in several parts.
pub const ADMIN_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Type number of the error frame on the query socket.
pub const QUERY_ERROR: u16 = 0x02ff;
/// Type number of the error frame on the admin socket.
pub const ADMIN_ERROR: u16 = 0x04ff;

/// Why a frame, or a connection, was not served. The numbers are part of the protocol and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// The header's version is not spoken here.
    UnsupportedVersion = 1,
    /// The header's type is no request of this socket.
    UnknownType = 2,
    /// The body is not of its type.
    MalformedBody = 3,
    /// Bytes follow the body.
    TrailingBytes = 4,
    /// The length is over the socket's maximum; the connection is closed.
    FrameTooLarge = 5,
    /// The length is under the eight bytes of the header; the connection is closed.
    FrameTooShort = 6,
    /// The daemon, or this user, has no connection left; the connection is closed.
    TooManyConnections = 7,
    /// The peer may not use this socket; the connection is closed.
    NotPermitted = 8,
    /// A started frame was not finished in time; the connection is closed.
    FrameDeadline = 9,
    /// The daemon is stopping; the connection is closed.
    Stopping = 10,
}

impl ErrorCode {
    const ALL: [Self; 10] = [
        Self::UnsupportedVersion,
        Self::UnknownType,
        Self::MalformedBody,
        Self::TrailingBytes,
        Self::FrameTooLarge,
        Self::FrameTooShort,
        Self::TooManyConnections,
        Self::NotPermitted,
        Self::FrameDeadline,
        Self::Stopping,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }
}

/// A numbered error with a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// The number's meaning.
    pub code: ErrorCode,
    /// What was wrong, in words; holds no byte of the request's values.
    pub message: String,
}

impl FrameError {
    /// An error of this code.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "protocol error {}: {}", self.code.number(), self.message)
    }
}

impl std::error::Error for FrameError {}

/// The body of an error frame.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ErrorBody {
    pub(crate) code: u16,
    pub(crate) message: String,
}

/// The fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Protocol version.
    pub version: u16,
    /// Message type: `0x01..` query request, `0x02..` query reply, `0x03..` admin request, `0x04..` admin reply.
    pub kind: u16,
    /// Chosen by the client, repeated in every reply to the request.
    pub request_id: u32,
}

/// One frame without its length: the header and the undecoded body.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// The fixed header, not yet judged.
    pub header: Header,
    /// The bytes behind the header.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Refuses a version that is not [`VERSION`].
    ///
    /// # Errors
    /// [`ErrorCode::UnsupportedVersion`], naming both versions.
    pub fn expect_version(&self) -> Result<(), FrameError> {
        if self.header.version == VERSION {
            return Ok(());
        }
        Err(FrameError::new(
            ErrorCode::UnsupportedVersion,
            format!("version {} is not spoken here; this side speaks {VERSION}", self.header.version),
        ))
    }

    pub(crate) fn unknown_type(&self) -> FrameError {
        FrameError::new(
            ErrorCode::UnknownType,
            format!("type {:#06x} is not a message of this socket", self.header.kind),
        )
    }
}

/// Takes the first whole frame off `buffer`: the frame and the bytes it used, or `None` when more bytes are needed.
///
/// # Errors
/// [`ErrorCode::FrameTooLarge`] and [`ErrorCode::FrameTooShort`], judged by the length alone, before the rest arrives.
/// After either the stream cannot be followed and the connection must be closed.
pub fn split(buffer: &[u8], bytes_max: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > bytes_max {
        return Err(FrameError::new(
            ErrorCode::FrameTooLarge,
            format!("a frame of {length} bytes is over this socket's {bytes_max}"),
        ));
    }
    if length < HEADER_BYTES {
        return Err(FrameError::new(
            ErrorCode::FrameTooShort,
            format!("a frame of {length} bytes cannot hold the {HEADER_BYTES} bytes of the header"),
        ));
    }
    let Some(frame) = rest.get(..length) else {
        return Ok(None);
    };
    Ok(Some((parse(frame)?, LENGTH_BYTES + length)))
}

/// Reads header and body of a frame whose length is already stripped.
///
/// # Errors
/// [`ErrorCode::FrameTooShort`].
pub fn parse(frame: &[u8]) -> Result<Frame<'_>, FrameError> {
    let Some((header, body)) = frame.split_first_chunk::<HEADER_BYTES>() else {
        return Err(FrameError::new(ErrorCode::FrameTooShort, "the header is not whole"));
    };
    let [v0, v1, k0, k1, r0, r1, r2, r3] = *header;
    let header = Header {
        version: u16::from_be_bytes([v0, v1]),
        kind: u16::from_be_bytes([k0, k1]),
        request_id: u32::from_be_bytes([r0, r1, r2, r3]),
    };
    Ok(Frame { header, body })
}

/// Appends a frame of type `kind` with `body` to `out`.
pub(crate) fn put<T: Encode>(out: &mut Vec<u8>, kind: u16, request_id: u32, body: &T) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&request_id.to_be_bytes());
    codec::encode(body, out);
    put_length(out, start);
}

/// Writes the length of the frame that begins at `start` and is the last of `out` into its prefix.
pub(crate) fn put_length(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start - LENGTH_BYTES).expect("no message comes near 4 GiB");
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Appends an error frame of type `kind` ([`QUERY_ERROR`] or [`ADMIN_ERROR`]). `request_id` is the request's, 0 when it
/// was not known.
pub fn put_error(out: &mut Vec<u8>, kind: u16, request_id: u32, error: &FrameError) {
    put(out, kind, request_id, &ErrorBody { code: error.code.number(), message: error.message.clone() });
}

/// Reads the body of an error frame. A code of a later version comes back as [`ErrorCode::UnknownType`] with its number
/// in the message.
///
/// # Errors
/// When the body is no error body.
pub fn read_error(body: &[u8]) -> Result<FrameError, FrameError> {
    let body: ErrorBody = codec::decode(body)?;
    Ok(match ErrorCode::from_number(body.code) {
        Some(code) => FrameError::new(code, body.message),
        None => FrameError::new(ErrorCode::UnknownType, format!("error {}: {}", body.code, body.message)),
    })
}
