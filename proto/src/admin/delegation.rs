//! What a backend asks for at logins, logouts, and before it hands a part of its rights on.

use bincode::{Decode, Encode};

use super::{Secret, SetText};
use crate::query::Mode;

/// Ends all of an agent's sessions, or tokens.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CloseAll {
    /// Session or token; keys are revoked one by one.
    pub mode: Mode,
    /// The agent that they are bound to.
    pub agent: u64,
}

/// Makes a token from a credential, which need not be known by id but must be presented.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Mint {
    /// As a request would present it, `key 2:CODE`.
    pub credential: Secret,
    /// The agent that the token acts as. Left out: the one that the credential acts as.
    pub agent: Option<u64>,
    /// Seconds, at least 1.
    pub ttl: u64,
    /// Default `*`: all that the credential may do.
    pub tags: Option<SetText>,
    /// The application that the token is for.
    pub app_id: Option<u64>,
    /// At most 256 bytes. Default empty.
    pub label: Option<String>,
}
