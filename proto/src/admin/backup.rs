//! Everything at once, as one state has it.

use bincode::{Decode, Encode};

/// A part of a backup. The parts come one after the other, each in a frame with the request's id.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct BackupPart {
    /// To be written behind those before. Holds hashes: close the file to others.
    pub bytes: Vec<u8>,
    /// Nothing follows: the backup is whole.
    pub last: bool,
}
