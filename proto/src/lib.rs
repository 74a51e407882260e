//! Keyward's wire protocol: frames, messages and clients.
//!
//! `PROTOCOL.md` beside this package is the normative text; these types are one implementation of it, and the golden
//! frames in `vectors/` hold the two together.
//!
//! | module | what is in it |
//! |---|---|
//! | [`frame`] | the length prefix, the fixed header, error frames |
//! | [`query`] | questions and verdicts (`query.sock`) |
//! | [`admin`] | changes, listings, explanations (`admin.sock`) |
//! | [`client`] | a blocking client and, with the feature `tokio`, an asynchronous one |

pub mod admin;
pub mod client;
mod codec;
pub mod frame;
pub mod query;
mod reply;
mod request;

pub use frame::{ErrorCode, FrameError};
