//! The blocking client of `admin.sock`.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::connection::{Connection, Live, Resend};
use super::{ClientError, judge_request};
use crate::admin::{
    AdminReply, AdminRequest, Apply, Export, ExportedRecord, Import, Imported, Patch, Refused, Report, Upload,
};
use crate::codec;
use crate::frame::ADMIN_FRAME_BYTES_MAX;

/// Encoded patches in one part of an upload: a sixteenth of what a frame may hold, so that neither side keeps much at
/// once and the round trip that each part costs is still nothing beside its bytes.
const PART_BYTES: usize = 1024 * 1024;
/// Patches in one part, the other bound on what the daemon takes in one piece.
const PART_PATCHES_MAX: usize = 8 * 1024;
/// Parts of an import that are sent before the first of them is answered: the daemon reads one while it commits another.
const IMPORT_PARTS_IN_FLIGHT: usize = 2;
/// A record with its code fits, so that growing leaves no copy of the code behind.
const REQUEST_CAPACITY: usize = 4 * 1024;

/// What became of an apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// It was made, or with `dry_run` would be: the whole difference.
    Report(Report),
    /// It was not, and nothing has changed (unless the refusal is of the kind `Unavailable`: then it is not known).
    Refused(Refused),
}

/// A part of an import that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedPart {
    /// Place of its first patch among all, from 0; the indices of its refusals count from here.
    pub first: u64,
    /// How many patches it had.
    pub patches: u64,
    /// What it came to.
    pub imported: Imported,
}

/// Makes and shows changes, one connection, one call at a time.
pub struct AdminClient {
    connection: Connection,
    /// Wiped when dropped: patches hold codes.
    out: Zeroizing<Vec<u8>>,
}

impl AdminClient {
    /// Connects to the admin socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let connection = Connection::open(path, ADMIN_FRAME_BYTES_MAX)?;
        Ok(Self { connection, out: Zeroizing::new(Vec::with_capacity(REQUEST_CAPACITY)) })
    }

    /// How long each read and write, and opening another connection, may take; `None`, the default, waits for ever.
    ///
    /// # Errors
    /// [`ClientError::Io`] when the system does not take it, as for a duration of zero.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.connection.set_timeout(timeout)
    }

    /// Sends one request and returns its reply, a [`Refused`] included; the frames of a long report come joined. When the
    /// connection turns out dead, a reading is sent once more on a new one; a change only when it is certain that it was
    /// not carried out: it could not be sent, or the daemon said that it is stopping.
    ///
    /// # Errors
    /// When there is no reply, or an error frame. Whether a change was made is then not known, except when it was not
    /// sent ([`ClientError::Connect`], [`ClientError::RequestTooLarge`]) or not served ([`ClientError::Refused`]).
    pub fn call(&mut self, request: &AdminRequest) -> Result<AdminReply, ClientError> {
        let id = self.connection.next_id();
        self.out.clear();
        request.put(&mut self.out, id);
        judge_request(self.out.len(), self.connection.bytes_max())?;
        self.connection.exchange(&self.out, resend(request), |live| read_reply(live, id))
    }

    /// Uploads patches in as many parts as they need, for an [`Apply`] to commit, and returns how many those were.
    ///
    /// # Errors
    /// As [`Self::call`], and [`ClientError::UploadRefused`]. Nothing was changed then: what a connection has uploaded
    /// is gone with it.
    pub fn upload(&mut self, patches: impl IntoIterator<Item = Patch>) -> Result<u32, ClientError> {
        let mut patches = patches.into_iter().peekable();
        let mut number = 0;
        while let Some(patches) = next_part(&mut patches) {
            self.send_part(Upload { number, patches })?;
            number += 1;
        }
        Ok(number)
    }

    fn send_part(&mut self, part: Upload) -> Result<(), ClientError> {
        let number = part.number;
        let reply = self.call(&AdminRequest::Upload(part))?;
        if let AdminReply::Refused(refused) = reply {
            return Err(ClientError::UploadRefused(refused));
        }
        let AdminReply::Received(received) = reply else {
            return Err(ClientError::wrong_type("receipt of a part", reply.name()));
        };
        if received != number {
            return Err(ClientError::UnexpectedReply {
                wanted: format!("receipt of part {number}"),
                got: format!("that of part {received}"),
            });
        }
        Ok(())
    }

    /// Imports credentials in as many parts as they need; `each` is told of every part that was committed, in order.
    ///
    /// # Errors
    /// As [`Self::call`], and [`ClientError::UploadRefused`]. What `each` was told of stands; of the one or two parts
    /// that follow it is not known. To send parts again does no harm.
    pub fn import(
        &mut self,
        patches: impl IntoIterator<Item = Patch>,
        dry_run: bool,
        mut each: impl FnMut(ImportedPart),
    ) -> Result<(), ClientError> {
        let mut patches = patches.into_iter().fuse().peekable();
        let Self { connection, out } = self;
        connection.converse(|live, ids| {
            let mut sent = VecDeque::with_capacity(IMPORT_PARTS_IN_FLIGHT);
            let mut first = 0;
            loop {
                let part = next_part(&mut patches);
                if sent.len() == IMPORT_PARTS_IN_FLIGHT || part.is_none() {
                    let Some((id, first, patches)) = sent.pop_front() else { return Ok(()) };
                    each(ImportedPart { first, patches, imported: read_imported(live, id)? });
                }
                let Some(patches) = part else { continue };
                let (id, count) = (ids.next(), patches.len() as u64);
                out.clear();
                AdminRequest::Import(Import { patches, dry_run }).put(out, id);
                judge_request(out.len(), ADMIN_FRAME_BYTES_MAX)?;
                live.write(out)?;
                sent.push_back((id, first, count));
                first += count;
            }
        })
    }

    /// Takes a backup: hands each part to `take`, in order, until the last. Whatever ends it before that, what was taken
    /// is no backup.
    ///
    /// # Errors
    /// As [`Self::call`], [`ClientError::UploadRefused`] when the daemon gave up, and what `take` says.
    pub fn backup<E: From<ClientError>>(&mut self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.stream(&AdminRequest::Backup, |reply| {
            let AdminReply::BackupPart(part) = reply else {
                return Err(ClientError::wrong_type("a part of a backup", reply.name()).into());
            };
            take(&part.bytes).map(|()| part.last)
        })
    }

    /// Takes an export: hands the records of one state to `take`, in order, until the last. Whatever ends it before that,
    /// what was taken is not all of it.
    ///
    /// # Errors
    /// As [`Self::backup`].
    pub fn export<E: From<ClientError>>(
        &mut self,
        export: Export,
        mut take: impl FnMut(Vec<ExportedRecord>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.stream(&AdminRequest::Export(export), |reply| {
            let AdminReply::ExportPage(page) = reply else {
                return Err(ClientError::wrong_type("a part of an export", reply.name()).into());
            };
            take(page.records).map(|()| page.last)
        })
    }

    /// Sends a request with many replies; `take` says which is the last.
    fn stream<E: From<ClientError>>(
        &mut self,
        request: &AdminRequest,
        mut take: impl FnMut(AdminReply) -> Result<bool, E>,
    ) -> Result<(), E> {
        let Self { connection, out } = self;
        connection.converse(|live, ids| {
            let id = ids.next();
            out.clear();
            request.put(out, id);
            live.write(out)?;
            while !take(not_refused(read_one(live, id)?)?)? {}
            Ok(())
        })
    }

    /// Commits what was uploaded, or with `dry_run` reports what that would change.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn apply(&mut self, apply: &Apply) -> Result<ApplyOutcome, ClientError> {
        let reply = self.call(&AdminRequest::Apply(apply.clone()))?;
        if let AdminReply::Refused(refused) = reply {
            return Ok(ApplyOutcome::Refused(refused));
        }
        let AdminReply::Report(report) = reply else {
            return Err(ClientError::wrong_type("a report", reply.name()));
        };
        Ok(ApplyOutcome::Report(report))
    }
}

/// The next patches that go in one part; `None` at the end.
fn next_part(patches: &mut Peekable<impl Iterator<Item = Patch>>) -> Option<Vec<Patch>> {
    let mut part = vec![patches.next()?];
    let mut bytes = codec::size(&part[0]);
    while let Some(patch) = patches.next_if(|patch| {
        bytes += codec::size(patch);
        bytes <= PART_BYTES && part.len() < PART_PATCHES_MAX
    }) {
        part.push(patch);
    }
    Some(part)
}

/// A refusal is an error here.
fn not_refused(reply: AdminReply) -> Result<AdminReply, ClientError> {
    if let AdminReply::Refused(refused) = reply { Err(ClientError::UploadRefused(refused)) } else { Ok(reply) }
}

fn read_imported(live: &mut Live, id: u32) -> Result<Imported, ClientError> {
    let reply = not_refused(read_reply(live, id)?)?;
    let AdminReply::Imported(imported) = reply else {
        return Err(ClientError::wrong_type("what became of a part", reply.name()));
    };
    Ok(imported)
}

fn resend(request: &AdminRequest) -> Resend {
    match request {
        AdminRequest::Show(_)
        | AdminRequest::List(_)
        | AdminRequest::Explain(_)
        | AdminRequest::Status
        | AdminRequest::Reach(_)
        | AdminRequest::Audit(_)
        | AdminRequest::VerifyAudit
        | AdminRequest::Backup
        | AdminRequest::Export(_)
        | AdminRequest::WhatIf(_) => Resend::Once,
        AdminRequest::Add(_)
        | AdminRequest::Set(_)
        | AdminRequest::Remove(_)
        | AdminRequest::Import(_)
        | AdminRequest::Rotate(_)
        | AdminRequest::CloseAll(_)
        | AdminRequest::Mint(_) => Resend::Unserved,
        // What was uploaded before is gone with its connection.
        AdminRequest::Upload(Upload { number: parts, .. }) | AdminRequest::Apply(Apply { parts, .. }) => {
            if *parts == 0 { Resend::Unserved } else { Resend::Never }
        }
    }
}

fn read_reply(live: &mut Live, id: u32) -> Result<AdminReply, ClientError> {
    let mut reply = read_one(live, id)?;
    if let AdminReply::Report(report) = &mut reply {
        while report.more {
            let next = read_one(live, id)?;
            let AdminReply::Report(next) = next else {
                return Err(ClientError::wrong_type("the rest of a report", next.name()));
            };
            join(report, next);
        }
    }
    Ok(reply)
}

fn read_one(live: &mut Live, id: u32) -> Result<AdminReply, ClientError> {
    let (got, reply) = live.read(AdminReply::decode)?;
    if let AdminReply::Error(error) = reply {
        let ours = got == id || got == 0;
        return Err(if ours { ClientError::Refused(error) } else { ClientError::wrong_id(id, got) });
    }
    if got == id { Ok(reply) } else { Err(ClientError::wrong_id(id, got)) }
}

fn join(report: &mut Report, next: Report) {
    report.added.extend(next.added);
    report.changed.extend(next.changed);
    report.removed.extend(next.removed);
    report.more = next.more;
}

impl AdminReply {
    fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Page(_) => "a page",
            Self::Explanation(_) => "an explanation",
            Self::Status(_) => "the status",
            Self::Received(_) => "receipt of a part",
            Self::Report(_) => "a report",
            Self::Imported(_) => "what became of a part",
            Self::AuditPage(_) => "a page of the audit",
            Self::AuditVerdict(_) => "what the audit is",
            Self::BackupPart(_) => "a part of a backup",
            Self::ExportPage(_) => "a part of an export",
            Self::Consequences(_) => "consequences",
            Self::Refused(_) => "a refusal",
            Self::Error(_) => "an error frame",
        }
    }
}
