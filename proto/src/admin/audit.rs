//! The audit: every change, in a chain of hashes.

use bincode::{Decode, Encode};

/// The longest that the daemon waits for a record before it answers with none.
pub const AUDIT_WAIT_SECONDS_MAX: u32 = 30;

/// Asks for the audit records behind `after`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Audit {
    /// The `last` of the page before; 0 for the oldest.
    pub after: u64,
    /// Unix seconds: none of before.
    pub since: u64,
    /// When there is none yet: how long to wait for one, at most [`AUDIT_WAIT_SECONDS_MAX`]; 0 not to wait.
    pub wait_seconds: u32,
}

/// Audit records in order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AuditPage {
    /// A JSON object each, as `keyward audit --json` prints them.
    pub lines: Vec<String>,
    /// `after` for the next page: nothing up to this number is left to be read.
    pub last: u64,
    /// Whether the next page has records already.
    pub more: bool,
}

/// What is wrong with an audit record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AuditFault {
    /// Its number.
    pub number: u64,
    /// In words.
    pub what: String,
}

/// What a walk along the whole audit came to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AuditVerdict {
    /// The oldest record's number: those before were dropped, being older than is kept.
    pub first: u64,
    /// The last record's number; one less than `first` when there is none.
    pub last: u64,
    /// The last record's hash as hexadecimal digits; `None` when it can't be read.
    pub hash: Option<String>,
    /// Records that are sound.
    pub records: u64,
    /// The first hundred of what is wrong; empty when the audit is whole.
    pub faults: Vec<AuditFault>,
    /// How much is wrong in all.
    pub fault_count: u64,
}
