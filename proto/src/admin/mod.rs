//! Changes, listings and explanations: the messages of `admin.sock`.
//!
//! Every change is a *patch*: the fields that are given. A new record takes defaults for the others, an existing one
//! keeps them. `add` wants a new record, `set` an existing one, `apply` takes either.
//!
//! | part | what is in it |
//! |---|---|
//! | here | requests and replies |
//! | `delegation` | what a backend asks for at logouts, and to hand rights on |
//! | `patch` | what an operator gives |
//! | `record` | records as they stand |
//! | `audit` | every change, in a chain of hashes |
//! | `backup` | everything at once |
//! | `what_if` | what a change would come to |
//! | `rotate` | new codes for old |

mod audit;
mod backup;
mod delegation;
mod patch;
mod record;
mod rotate;
mod what_if;

pub use audit::{AUDIT_WAIT_SECONDS_MAX, Audit, AuditFault, AuditPage, AuditVerdict};
pub use backup::{BackupPart, Export, ExportPage, ExportedRecord};
use bincode::{Decode, Encode};
pub use delegation::{CloseAll, Mint};
pub use patch::{
    AgentPatch, Clearable, CredentialName, CredentialPatch, EndpointPatch, Kind, Patch, RetiringPatch, Secret,
    Selector, SetText,
};
pub use record::{AgentRecord, CredentialRecord, EndpointRecord, LastUse, Record};
pub use rotate::{Rotate, Rotation};
pub use what_if::{Consequences, Effect, WhatIf};

use crate::codec;
use crate::frame::{self, Frame, FrameError};
use crate::query::{Mode, Verdict};

/// Type number of [`AdminRequest::Add`].
pub const ADD: u16 = 0x0301;
/// Type number of [`AdminRequest::Set`].
pub const SET: u16 = 0x0302;
/// Type number of [`AdminRequest::Remove`].
pub const REMOVE: u16 = 0x0303;
/// Type number of [`AdminRequest::Show`].
pub const SHOW: u16 = 0x0304;
/// Type number of [`AdminRequest::List`].
pub const LIST: u16 = 0x0305;
/// Type number of [`AdminRequest::Explain`].
pub const EXPLAIN: u16 = 0x0306;
/// Type number of [`AdminRequest::Status`].
pub const STATUS: u16 = 0x0307;
/// Type number of [`AdminRequest::Upload`].
pub const UPLOAD: u16 = 0x0308;
/// Type number of [`AdminRequest::Apply`].
pub const APPLY: u16 = 0x0309;
/// Type number of [`AdminRequest::Reach`].
pub const REACH: u16 = 0x030a;
/// Type number of [`AdminRequest::Import`].
pub const IMPORT: u16 = 0x030b;
/// Type number of [`AdminRequest::Audit`].
pub const AUDIT: u16 = 0x0310;
/// Type number of [`AdminRequest::VerifyAudit`].
pub const VERIFY_AUDIT: u16 = 0x0311;
/// Type number of [`AdminRequest::Backup`].
pub const BACKUP: u16 = 0x0312;
/// Type number of [`AdminRequest::Export`].
pub const EXPORT: u16 = 0x0313;
/// Type number of [`AdminRequest::WhatIf`].
pub const WHAT_IF: u16 = 0x030f;
/// Type number of [`AdminRequest::Rotate`].
pub const ROTATE: u16 = 0x030c;
/// Type number of [`AdminRequest::CloseAll`].
pub const CLOSE_ALL: u16 = 0x030d;
/// Type number of [`AdminRequest::Mint`].
pub const MINT: u16 = 0x030e;

/// Type number of [`AdminReply::Done`].
pub const DONE: u16 = 0x0401;
/// Type number of [`AdminReply::Page`].
pub const PAGE: u16 = 0x0402;
/// Type number of [`AdminReply::Explanation`].
pub const EXPLANATION: u16 = 0x0403;
/// Type number of [`AdminReply::Status`].
pub const STATUS_REPORT: u16 = 0x0404;
/// Type number of [`AdminReply::Received`].
pub const RECEIVED: u16 = 0x0405;
/// Type number of [`AdminReply::Report`].
pub const REPORT: u16 = 0x0406;
/// Type number of [`AdminReply::Imported`].
pub const IMPORTED: u16 = 0x0407;
/// Type number of [`AdminReply::AuditPage`].
pub const AUDIT_PAGE: u16 = 0x0410;
/// Type number of [`AdminReply::AuditVerdict`].
pub const AUDIT_VERDICT: u16 = 0x0411;
/// Type number of [`AdminReply::BackupPart`].
pub const BACKUP_PART: u16 = 0x0412;
/// Type number of [`AdminReply::ExportPage`].
pub const EXPORT_PAGE: u16 = 0x0413;
/// Type number of [`AdminReply::Consequences`].
pub const CONSEQUENCES: u16 = 0x040f;
/// Type number of [`AdminReply::Refused`].
pub const REFUSED: u16 = 0x04fe;

/// Records in one [`Page`], items in one [`Report`] frame and refusals in one [`Imported`], at most.
pub const PAGE_RECORDS_MAX: usize = 1_000;
/// All parts of one upload together, in frame bytes.
pub const UPLOAD_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// One part of an upload.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Upload {
    /// 0, 1, 2, … in order. Part 0 starts anew.
    pub number: u32,
    /// Records of any kinds, in the file's order.
    pub patches: Vec<Patch>,
}

/// Commits what this connection has uploaded as one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Apply {
    /// How many parts were uploaded.
    pub parts: u32,
    /// Sections that the file has, empty ones too: what `prune` may touch.
    pub sections: Vec<Kind>,
    /// Revoke and remove what the file's sections don't list.
    pub prune: bool,
    /// Report the difference and change nothing.
    pub dry_run: bool,
}

/// A part of an import: committed by itself, and each patch carried out or refused by itself.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Import {
    /// Credentials only, each with its id; as if each were ordered after the one before.
    pub patches: Vec<Patch>,
    /// Say what it comes to and change nothing.
    pub dry_run: bool,
}

/// Asks for every step of a decision; no code needed.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Explain {
    /// The credential's mode.
    pub mode: Mode,
    /// Its id.
    pub id: u64,
    /// As in [`crate::query::Asker`].
    pub agent: Option<Vec<u8>>,
    /// As in [`crate::query::Asker`].
    pub address: Option<Vec<u8>>,
    /// `GET`
    pub method: Vec<u8>,
    /// Raw path.
    pub path: Vec<u8>,
}

/// Asks for the endpoints that a credential can reach; no code needed.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Reach {
    /// The credential's mode.
    pub mode: Mode,
    /// Its id.
    pub id: u64,
    /// As in [`crate::query::Asker`].
    pub agent: Option<Vec<u8>>,
    /// The `next` of the page before; empty for the first.
    pub after: Vec<u8>,
}

/// Asks for the records behind `after`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct List {
    /// Which kind.
    pub kind: Kind,
    /// The `next` of the page before; empty for the first.
    pub after: Vec<u8>,
    /// Credentials only: those of which no code was used for so many seconds, or ever.
    pub unused_for: Option<u64>,
    /// Credentials only: those that expire within so many seconds.
    pub expiring_in: Option<u64>,
}

impl List {
    /// All records of a kind.
    #[must_use]
    pub const fn all(kind: Kind, after: Vec<u8>) -> Self {
        Self { kind, after, unused_for: None, expiring_in: None }
    }
}

/// A request on the admin socket.
#[derive(Clone, PartialEq, Eq)]
pub enum AdminRequest {
    /// Type [`ADD`]: a record that must be new.
    Add(Patch),
    /// Type [`SET`]: changes to a record that must exist.
    Set(Patch),
    /// Type [`REMOVE`]: removes an agent or endpoint, revokes a credential.
    Remove(Selector),
    /// Type [`SHOW`].
    Show(Selector),
    /// Type [`LIST`].
    List(List),
    /// Type [`EXPLAIN`].
    Explain(Explain),
    /// Type [`STATUS`]; the body is empty.
    Status,
    /// Type [`UPLOAD`].
    Upload(Upload),
    /// Type [`APPLY`].
    Apply(Apply),
    /// Type [`REACH`].
    Reach(Reach),
    /// Type [`IMPORT`].
    Import(Import),
    /// Type [`AUDIT`].
    Audit(Audit),
    /// Type [`VERIFY_AUDIT`]; the body is empty.
    VerifyAudit,
    /// Type [`BACKUP`]; the body is empty.
    Backup,
    /// Type [`EXPORT`].
    Export(Export),
    /// Type [`WHAT_IF`].
    WhatIf(WhatIf),
    /// Type [`ROTATE`].
    Rotate(Rotate),
    /// Type [`CLOSE_ALL`].
    CloseAll(CloseAll),
    /// Type [`MINT`].
    Mint(Mint),
}

impl AdminRequest {
    /// Decodes a frame: version, type, body, in that order.
    ///
    /// # Errors
    /// The first that applies of `UnsupportedVersion`, `UnknownType`, `MalformedBody`, `TrailingBytes`.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, FrameError> {
        frame.expect_version()?;
        let body = frame.body;
        match frame.header.kind {
            ADD => codec::decode(body).map(Self::Add),
            SET => codec::decode(body).map(Self::Set),
            REMOVE => codec::decode(body).map(Self::Remove),
            SHOW => codec::decode(body).map(Self::Show),
            LIST => codec::decode(body).map(Self::List),
            EXPLAIN => codec::decode(body).map(Self::Explain),
            STATUS => codec::decode(body).map(|()| Self::Status),
            UPLOAD => codec::decode(body).map(Self::Upload),
            APPLY => codec::decode(body).map(Self::Apply),
            REACH => codec::decode(body).map(Self::Reach),
            IMPORT => codec::decode(body).map(Self::Import),
            AUDIT => codec::decode(body).map(Self::Audit),
            VERIFY_AUDIT => codec::decode(body).map(|()| Self::VerifyAudit),
            BACKUP => codec::decode(body).map(|()| Self::Backup),
            EXPORT => codec::decode(body).map(Self::Export),
            WHAT_IF => codec::decode(body).map(Self::WhatIf),
            ROTATE => codec::decode(body).map(Self::Rotate),
            CLOSE_ALL => codec::decode(body).map(Self::CloseAll),
            MINT => codec::decode(body).map(Self::Mint),
            _ => Err(frame.unknown_type()),
        }
    }

    /// Appends the request as a frame to `out`.
    pub fn put(&self, out: &mut Vec<u8>, request_id: u32) {
        match self {
            Self::Add(body) => frame::put(out, ADD, request_id, body),
            Self::Set(body) => frame::put(out, SET, request_id, body),
            Self::Remove(body) => frame::put(out, REMOVE, request_id, body),
            Self::Show(body) => frame::put(out, SHOW, request_id, body),
            Self::List(body) => frame::put(out, LIST, request_id, body),
            Self::Explain(body) => frame::put(out, EXPLAIN, request_id, body),
            Self::Status => frame::put(out, STATUS, request_id, &()),
            Self::Upload(body) => frame::put(out, UPLOAD, request_id, body),
            Self::Apply(body) => frame::put(out, APPLY, request_id, body),
            Self::Reach(body) => frame::put(out, REACH, request_id, body),
            Self::Import(body) => frame::put(out, IMPORT, request_id, body),
            Self::Audit(body) => frame::put(out, AUDIT, request_id, body),
            Self::VerifyAudit => frame::put(out, VERIFY_AUDIT, request_id, &()),
            Self::Backup => frame::put(out, BACKUP, request_id, &()),
            Self::Export(body) => frame::put(out, EXPORT, request_id, body),
            Self::WhatIf(body) => frame::put(out, WHAT_IF, request_id, body),
            Self::Rotate(body) => frame::put(out, ROTATE, request_id, body),
            Self::CloseAll(body) => frame::put(out, CLOSE_ALL, request_id, body),
            Self::Mint(body) => frame::put(out, MINT, request_id, body),
        }
    }
}

/// A change is durable and visible.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Done {
    /// The record as it stands; `None` after the removal of an agent or endpoint.
    pub record: Option<Record>,
    /// A code that was made, as `key 12:CODE`; never shown again.
    pub credential: Option<Secret>,
}

/// A part of a listing, in order of the key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Page {
    /// At most [`PAGE_RECORDS_MAX`].
    pub records: Vec<Record>,
    /// `after` for the next page; `None` on the last.
    pub next: Option<Vec<u8>>,
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Step {
    /// The row of the table in the contract's section 2.4, 1 to 12.
    pub step: u8,
    /// `passed`, `skipped`, or the reason that ended it.
    pub result: String,
    /// In words.
    pub why: String,
}

/// Every step of a decision, and what it came to.
#[derive(Clone, Debug, PartialEq, Eq, Decode, Encode)]
pub struct Explanation {
    /// In the order of the table.
    pub steps: Vec<Step>,
    /// [`crate::query::Reason::number`]
    pub verdict: Verdict,
}

/// The daemon's state in one reply.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StatusReport {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Unix seconds.
    pub started_at: u64,
    /// Unix seconds: the time that decisions use.
    pub now: u64,
    /// How far the system's clock stands behind that time, in seconds.
    pub clock_behind: u64,
    /// The database's path.
    pub database: String,
    /// Of the last commit.
    pub revision: u64,
    /// Not removed.
    pub agents: u64,
    /// Not removed.
    pub endpoints: u64,
    /// All that have a row, revoked ones too.
    pub keys: u64,
    /// The same.
    pub tokens: u64,
    /// The same.
    pub sessions: u64,
    /// Distinct tag sets.
    pub tag_sets: u64,
    /// Open connections on the query socket.
    pub query_connections: u64,
    /// Open connections on the admin socket.
    pub admin_connections: u64,
    /// Verdicts since the start, a batch's each by itself.
    pub questions: u64,
    /// Whether changes are taken: false after a storage fault until the database could be reopened.
    pub writable: bool,
    /// What is wrong, a sentence each; empty when all is well.
    pub alarms: Vec<String>,
    /// Open connections on the HTTP door.
    pub http_connections: u64,
    /// Connections refused since the start, on all doors.
    pub refused_connections: u64,
    /// Verdicts since the start, by door and reason; those that were never given are left out.
    pub verdicts: Vec<VerdictCount>,
    /// Targets judged lately: within `recent_millis`.
    pub recent_questions: u64,
    /// Milliseconds.
    pub recent_millis: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Microseconds that they took together.
    pub commit_micros: u64,
    /// Seconds since the oldest use that is not stored yet; `None` when all are.
    pub unflushed_use_age: Option<u64>,
    /// Size of the database's file; `None` when it can't be told.
    pub database_bytes: Option<u64>,
    /// When the configuration was last reloaded, unix seconds; `None` when it never was.
    pub reloaded_at: Option<u64>,
    /// Why the last reload left the configuration as it was; `None` when it did not.
    pub reload_refused: Option<String>,
}

/// How often a verdict was given.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct VerdictCount {
    /// `query` or `http`.
    pub door: String,
    /// [`crate::query::Reason::number`]
    pub reason: u16,
    /// Targets, each of a batch by itself.
    pub count: u64,
}

/// The value of a field in a difference.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FieldValue {
    /// Nothing set.
    Null,
    /// A switch.
    Bool(bool),
    /// An id or a time.
    Number(u64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<String>),
    /// Attributes.
    Map(Vec<(String, String)>),
    /// A code; never shown.
    Hidden,
}

/// One field of one record that changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FieldChange {
    /// Which record.
    pub record: Selector,
    /// The field's name in the apply file.
    pub field: String,
    /// Before.
    pub from: FieldValue,
    /// After.
    pub to: FieldValue,
}

/// What an apply did, or would do. Long reports come in several frames with the same request id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// New records.
    pub added: Vec<Selector>,
    /// Fields of existing ones.
    pub changed: Vec<FieldChange>,
    /// Removed agents and endpoints, revoked credentials.
    pub removed: Vec<Selector>,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Another frame follows.
    pub more: bool,
}

/// A patch of an import that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RefusedPatch {
    /// Its place in the part, from 0.
    pub index: u64,
    /// What failed, why, what to do.
    pub message: String,
}

/// What a part of an import came to: every patch is counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Imported {
    /// New records.
    pub added: u64,
    /// Existing ones that are different now.
    pub changed: u64,
    /// Existing ones that were so already.
    pub unchanged: u64,
    /// Patches that were not carried out.
    pub refused: u64,
    /// The first [`PAGE_RECORDS_MAX`] of these.
    pub refusals: Vec<RefusedPatch>,
}

/// What kind of no it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RefusalKind {
    /// The input is not acceptable; trying again will not help.
    Invalid,
    /// A fault of the daemon or its storage; trying again later may help. Whether the change was made is not known.
    Unavailable,
}

/// A request that was understood and not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refused {
    /// What kind of no.
    pub kind: RefusalKind,
    /// For an apply: the section and the index in it of the record at fault.
    pub place: Option<(Kind, u64)>,
    /// What failed, why, what to do.
    pub message: String,
}

/// A reply on the admin socket.
#[derive(Clone, PartialEq, Eq)]
pub enum AdminReply {
    /// Type [`DONE`], to add, set, remove, show and rotate.
    /// Type [`DONE`], to add, set, remove, show and mint.
    Done(Done),
    /// Type [`PAGE`], to list and reach.
    Page(Page),
    /// Type [`EXPLANATION`].
    Explanation(Explanation),
    /// Type [`STATUS_REPORT`].
    Status(StatusReport),
    /// Type [`RECEIVED`], to upload: the part's number.
    Received(u32),
    /// Type [`REPORT`], to apply and to close all.
    Report(Report),
    /// Type [`IMPORTED`], to import.
    Imported(Imported),
    /// Type [`AUDIT_PAGE`], to audit.
    AuditPage(AuditPage),
    /// Type [`AUDIT_VERDICT`], to verify the audit.
    AuditVerdict(AuditVerdict),
    /// Type [`BACKUP_PART`], to backup, one or more.
    BackupPart(BackupPart),
    /// Type [`EXPORT_PAGE`], to export, one or more.
    ExportPage(ExportPage),
    /// Type [`CONSEQUENCES`], to what-if.
    Consequences(Consequences),
    /// Type [`REFUSED`], to any.
    Refused(Refused),
    /// Type [`frame::ADMIN_ERROR`], to any.
    Error(FrameError),
}

impl AdminReply {
    /// Decodes a reply frame.
    ///
    /// # Errors
    /// As [`AdminRequest::decode`].
    pub fn decode(frame: &Frame<'_>) -> Result<Self, FrameError> {
        frame.expect_version()?;
        let body = frame.body;
        match frame.header.kind {
            DONE => codec::decode(body).map(Self::Done),
            PAGE => codec::decode(body).map(Self::Page),
            EXPLANATION => codec::decode(body).map(Self::Explanation),
            STATUS_REPORT => codec::decode(body).map(Self::Status),
            RECEIVED => codec::decode(body).map(Self::Received),
            REPORT => codec::decode(body).map(Self::Report),
            IMPORTED => codec::decode(body).map(Self::Imported),
            AUDIT_PAGE => codec::decode(body).map(Self::AuditPage),
            AUDIT_VERDICT => codec::decode(body).map(Self::AuditVerdict),
            BACKUP_PART => codec::decode(body).map(Self::BackupPart),
            EXPORT_PAGE => codec::decode(body).map(Self::ExportPage),
            CONSEQUENCES => codec::decode(body).map(Self::Consequences),
            REFUSED => codec::decode(body).map(Self::Refused),
            frame::ADMIN_ERROR => frame::read_error(body).map(Self::Error),
            _ => Err(frame.unknown_type()),
        }
    }

    /// Appends the reply as a frame to `out`.
    pub fn put(&self, out: &mut Vec<u8>, request_id: u32) {
        match self {
            Self::Done(body) => frame::put(out, DONE, request_id, body),
            Self::Page(body) => frame::put(out, PAGE, request_id, body),
            Self::Explanation(body) => frame::put(out, EXPLANATION, request_id, body),
            Self::Status(body) => frame::put(out, STATUS_REPORT, request_id, body),
            Self::Received(body) => frame::put(out, RECEIVED, request_id, body),
            Self::Report(body) => frame::put(out, REPORT, request_id, body),
            Self::Imported(body) => frame::put(out, IMPORTED, request_id, body),
            Self::AuditPage(body) => frame::put(out, AUDIT_PAGE, request_id, body),
            Self::AuditVerdict(body) => frame::put(out, AUDIT_VERDICT, request_id, body),
            Self::BackupPart(body) => frame::put(out, BACKUP_PART, request_id, body),
            Self::ExportPage(body) => frame::put(out, EXPORT_PAGE, request_id, body),
            Self::Consequences(body) => frame::put(out, CONSEQUENCES, request_id, body),
            Self::Refused(body) => frame::put(out, REFUSED, request_id, body),
            Self::Error(error) => frame::put_error(out, frame::ADMIN_ERROR, request_id, error),
        }
    }
}
