//! Everything at once, as one state has it.

use bincode::{Decode, Encode};

use super::{Record, RetiringPatch, Secret};

/// A part of a backup. The parts come one after the other, each in a frame with the request's id.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct BackupPart {
    /// To be written behind those before. Holds hashes: close the file to others.
    pub bytes: Vec<u8>,
    /// Nothing follows: the backup is whole.
    pub last: bool,
}

/// Asks for every record of one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Export {
    /// With the hashes of codes.
    pub with_hashes: bool,
}

/// A record as an apply takes it.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct ExportedRecord {
    /// As it stands.
    pub record: Record,
    /// A credential's, when hashes were asked for.
    pub hash: Option<Secret>,
    /// Of its retiring code, while that is accepted.
    pub retiring: Option<RetiringPatch>,
}

/// A part of an export. The parts come one after the other, each in a frame with the request's id.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct ExportPage {
    /// Agents, endpoints, keys, tokens, sessions, each in the order of the key.
    pub records: Vec<ExportedRecord>,
    /// Nothing follows: the export is whole.
    pub last: bool,
}
