//! A new code under the same id, and the end of the old one.

use bincode::{Decode, Encode};

use super::Secret;
use crate::query::Mode;

/// Rotates the codes of a credential; its id and all else stays.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Rotate {
    /// Which of the three.
    pub mode: Mode,
    /// Its id.
    pub id: u64,
    /// How.
    pub rotation: Rotation,
}

/// What becomes of a credential's codes.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Rotation {
    /// A new code; the current one is accepted beside it for so long. One that was retiring ends.
    Grace {
        /// At most 365 days; cut to the credential's own expiry. 0 is as [`Rotation::Now`].
        seconds: u64,
        /// Left out: one is made and returned once.
        code: Option<Secret>,
    },
    /// A new code; all others end at once.
    Now {
        /// Left out: one is made and returned once.
        code: Option<Secret>,
    },
    /// No new code: a retiring one ends at once.
    DropOld,
}
