//! `admin.sock`: every change and listing. One request at a time, in order; whoever connects was judged at accept.

mod audit;
mod delegation;
mod streams;
mod what_if;

use std::io;
use std::sync::Arc;

use keyward_proto::admin::{
    AdminReply, AdminRequest, Apply as WireApply, Done, Explain, Explanation, Import, Kind as WireKind, List,
    PAGE_RECORDS_MAX, Page, Patch, Reach, RefusalKind, Refused, Report, Rotate, Secret, Selector, StatusReport,
    UPLOAD_BYTES_MAX, Upload,
};
use keyward_proto::frame::{ADMIN_ERROR, ADMIN_FRAME_BYTES_MAX, Frame, FrameError};
use tokio::net::UnixStream;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::connection::{Connection, Filled};
use super::{Door, Serving, convert};
use crate::model::{Code, Kind, LastUses, Record};
use crate::registry::{
    Apply, Asker, Listed, Order, Origin, Outcome, Refusal, Registry, Sent, StoreFault, Unreached, Wanted,
};

/// A frame of so many bytes is decoded in about a tenth of a millisecond.
const BYTES_AT_ONCE: usize = 32 * 1024;

/// Serves one connection until it is over.
pub(super) async fn serve(stream: UnixStream, serving: Arc<Serving>, origin: Origin, stop: CancellationToken) {
    let deadlines = serving.control.rules().deadlines;
    let mut connection = Connection::new(stream, ADMIN_FRAME_BYTES_MAX, deadlines, stop.clone());
    let mut desk = Desk { serving, origin, stop, upload: None, importing: None };
    loop {
        let filled = desk.fill(&mut connection).await;
        match filled {
            Filled::More | Filled::Last => {}
            Filled::Late => return connection.say_late(ADMIN_ERROR).await,
            Filled::Over => return,
        }
        loop {
            let (request_id, request, used) = match connection.next_frame() {
                Ok(Some((frame, used))) => (frame.header.request_id, decode(&frame), used),
                Ok(None) => break,
                Err(error) => {
                    connection.refuse(ADMIN_ERROR, 0, &error);
                    let _ = connection.flush().await;
                    return;
                }
            };
            connection.consume(used);
            if !matches!(request, Ok(AdminRequest::Import(_))) {
                desk.settle(connection.output()).await;
            }
            let answered = match request {
                Ok(request) => desk.answer(request, request_id, used, &mut connection).await,
                Err(error) => {
                    connection.refuse(ADMIN_ERROR, request_id, &error);
                    Ok(())
                }
            };
            if answered.is_err() || connection.flush().await.is_err() {
                return;
            }
            connection.restart_deadlines();
        }
        if matches!(filled, Filled::Last) {
            desk.settle(connection.output()).await;
            connection.say_stopping(ADMIN_ERROR).await;
            return;
        }
    }
}

fn decode(frame: &Frame<'_>) -> Result<AdminRequest, FrameError> {
    at_length(frame.body.len(), || AdminRequest::decode(frame))
}

/// Does what takes its time with so many bytes. With many, questions are answered by another thread meanwhile.
fn at_length<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > BYTES_AT_ONCE { block_in_place(work) } else { work() }
}

/// A part of an import that is with the writer.
struct Importing {
    request_id: u32,
    sent: Sent,
}

impl Importing {
    async fn answer(&mut self, out: &mut Vec<u8>) {
        let reply = match self.sent.outcome().await {
            Ok(outcome) => AdminReply::Imported(convert::imported(outcome.imported)),
            Err(refusal) => AdminReply::Refused(refused(refusal, &[])),
        };
        reply.put(out, self.request_id);
    }
}

/// What a connection has uploaded and not yet applied. It goes with the connection.
struct Uploaded {
    parts: u32,
    frame_bytes: usize,
    patches: Vec<Patch>,
}

/// One connection's requests, and what it has uploaded.
struct Desk {
    serving: Arc<Serving>,
    /// Whose changes these are.
    origin: Origin,
    stop: CancellationToken,
    upload: Option<Uploaded>,
    importing: Option<Importing>,
}

impl Desk {
    /// Answers one request.
    ///
    /// # Errors
    /// When the peer is gone, or does not take a long reply in time.
    async fn answer(
        &mut self,
        request: AdminRequest,
        request_id: u32,
        frame_bytes: usize,
        connection: &mut Connection,
    ) -> io::Result<()> {
        let out = connection.output();
        let reply = match request {
            AdminRequest::Add(patch) => self.add(patch).await,
            AdminRequest::Set(patch) => self.set(patch).await,
            AdminRequest::Remove(selector) => self.remove(&selector).await,
            AdminRequest::Show(selector) => self.show(&selector).await,
            AdminRequest::List(list) => self.list(list).await,
            AdminRequest::Explain(explain) => Ok(self.explain(&explain)),
            AdminRequest::Reach(reach) => self.reach(&reach),
            AdminRequest::WhatIf(what_if) => what_if::answer(&self.serving.registry, self.origin, what_if).await,
            AdminRequest::Status => Ok(AdminReply::Status(self.status())),
            AdminRequest::Rotate(rotate) => self.rotate(&rotate).await,
            AdminRequest::Upload(upload) => self.upload(upload, frame_bytes),
            AdminRequest::Audit(ask) => self.audit(ask).await,
            AdminRequest::VerifyAudit => self.verify_audit().await,
            AdminRequest::Import(import) => match self.import(import, request_id, frame_bytes, out).await {
                Ok(()) => return Ok(()),
                Err(refused) => Err(refused),
            },
            AdminRequest::Backup => return self.backup(request_id, connection).await,
            AdminRequest::Export(export) => return self.export(export, request_id, connection).await,
            AdminRequest::Apply(apply) => match self.apply(apply).await {
                Ok(report) => {
                    put_report(report, request_id, out);
                    return Ok(());
                }
                Err(refused) => Err(refused),
            },
            AdminRequest::CloseAll(close) => match self.close_all(&close).await {
                Ok(report) => {
                    put_report(report, request_id, out);
                    return Ok(());
                }
                Err(refused) => Err(refused),
            },
            AdminRequest::Mint(mint) => self.mint(mint).await,
        };
        reply.unwrap_or_else(AdminReply::Refused).put(out, request_id);
        Ok(())
    }

    /// Waits for bytes, and meanwhile answers the part that is being committed.
    async fn fill(&mut self, connection: &mut Connection) -> Filled {
        if let Some(importing) = &mut self.importing {
            let mut reply = Vec::new();
            tokio::select! {
                () = importing.answer(&mut reply) => {}
                filled = connection.fill() => return filled,
            }
            self.importing = None;
            connection.output().append(&mut reply);
            if connection.flush().await.is_err() {
                return Filled::Over;
            }
            connection.restart_deadlines();
        }
        connection.fill().await
    }

    /// Waits for the part that is being committed and answers it.
    async fn settle(&mut self, out: &mut Vec<u8>) {
        if let Some(mut importing) = self.importing.take() {
            importing.answer(out).await;
        }
    }

    /// Hands a part to the writer, without waiting for what becomes of it: so the next one is read and taken apart while
    /// this one is committed.
    async fn import(
        &mut self,
        import: Import,
        request_id: u32,
        frame_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let order = Order::Import(at_length(frame_bytes, || convert::import(import)));
        self.settle(out).await;
        let sent = self.serving.registry.send(order, self.origin).map_err(|refusal| refused(refusal, &[]))?;
        self.importing = Some(Importing { request_id, sent });
        Ok(())
    }

    async fn add(&self, patch: Patch) -> Result<AdminReply, Refused> {
        let edit = convert::edit(patch, &mut convert::Sets::default()).map_err(invalid)?;
        let outcome = self.order(Order::Add(edit)).await?;
        // It is new, so nothing is stored aside of it.
        let listed = outcome.record.map(|record| Listed { record, uses: LastUses::default() });
        Ok(self.done(listed, outcome.new_code.as_ref()))
    }

    async fn set(&self, patch: Patch) -> Result<AdminReply, Refused> {
        let edit = convert::edit(patch, &mut convert::Sets::default()).map_err(invalid)?;
        let outcome = self.order(Order::Set(edit)).await?;
        Ok(self.done(self.read_again(outcome.record).await, None))
    }

    async fn remove(&self, selector: &Selector) -> Result<AdminReply, Refused> {
        let name = convert::record_name(selector).map_err(invalid)?;
        let outcome = self.order(Order::Remove(name)).await?;
        Ok(self.done(self.read_again(outcome.record).await, None))
    }

    async fn rotate(&self, rotate: &Rotate) -> Result<AdminReply, Refused> {
        let outcome = self.order(Order::Rotate(convert::rotate(rotate).map_err(invalid)?)).await?;
        Ok(self.done(self.read_again(outcome.record).await, outcome.new_code.as_ref()))
    }

    async fn order(&self, order: Order) -> Result<Outcome, Refused> {
        self.serving.registry.order(order, self.origin).await.map_err(|refusal| refused(refusal, &[]))
    }

    /// A record that was changed, with what is stored aside of it.
    async fn read_again(&self, record: Option<Record>) -> Option<Listed> {
        let record = record?;
        let name = record.name();
        // The change stands, whether or not the disk can be read now.
        match self.blocking(move |registry| registry.show(&name)).await {
            Ok(Some(listed)) => Some(listed),
            Ok(None) | Err(_) => Some(Listed { record, uses: LastUses::default() }),
        }
    }

    /// The reply to a change: the record as it stands.
    fn done(&self, listed: Option<Listed>, new_code: Option<&Code>) -> AdminReply {
        let credential =
            listed.as_ref().zip(new_code).and_then(|(listed, code)| written_credential(&listed.record, code));
        let record = listed.map(|listed| convert::told(&listed, &self.serving.registry.view()));
        AdminReply::Done(Done { record, credential })
    }

    async fn show(&self, selector: &Selector) -> Result<AdminReply, Refused> {
        let name = convert::record_name(selector).map_err(invalid)?;
        let words = name.to_string();
        let found = self.blocking(move |registry| registry.show(&name)).await?;
        let listed = found.filter(is_shown).ok_or_else(|| invalid(format!("there is no {words}")))?;
        Ok(self.done(Some(listed), None))
    }

    async fn list(&self, list: List) -> Result<AdminReply, Refused> {
        let kind = convert::kind(list.kind);
        let wanted = Wanted { unused_for: list.unused_for, expiring_in: list.expiring_in };
        if !wanted.is_everything() && matches!(kind, Kind::Agent | Kind::Endpoint) {
            return Err(invalid("only keys, tokens and sessions are used and expire: list these".to_string()));
        }
        let page = self.blocking(move |registry| registry.page(kind, &list.after, PAGE_RECORDS_MAX)).await?;
        let now = self.serving.registry.view().now();
        let shown = page.records.iter().filter(|listed| is_shown(listed) && wanted.takes(listed, now));
        let view = self.serving.registry.view();
        let records = shown.map(|listed| convert::told(listed, &view)).collect();
        Ok(AdminReply::Page(Page { records, next: page.next }))
    }

    fn explain(&self, explain: &Explain) -> AdminReply {
        let view = self.serving.registry.view();
        let asker = Asker { credential: None, agent: explain.agent.as_deref(), address: explain.address.as_deref() };
        let credential = (convert::mode(explain.mode), explain.id);
        let explained = view.explain(credential, &asker, (&explain.method, &explain.path));
        let verdict = convert::owned_verdict(&explained.verdict);
        let steps = explained.steps.into_iter().map(convert::step).collect();
        AdminReply::Explanation(Explanation { steps, verdict })
    }

    fn reach(&self, reach: &Reach) -> Result<AdminReply, Refused> {
        let view = self.serving.registry.view();
        let credential = (convert::mode(reach.mode), reach.id);
        let page = view.reach(credential, reach.agent.as_deref(), (&reach.after, PAGE_RECORDS_MAX));
        let page = page.map_err(|unreached| match unreached {
            Unreached::NotInForce(reason, why) => {
                let ((mode, id), reason) = (credential, convert::reason(reason).name());
                invalid(format!("{mode} {id} reaches nothing but public endpoints: {reason}: {why}"))
            }
            Unreached::Damaged(why) => unavailable(why),
        })?;
        let records = page.endpoints.iter().map(convert::reachable).collect();
        Ok(AdminReply::Page(Page { records, next: page.next }))
    }

    fn upload(&mut self, part: Upload, frame_bytes: usize) -> Result<AdminReply, Refused> {
        if part.number == 0 {
            self.upload = Some(Uploaded { parts: 0, frame_bytes: 0, patches: Vec::new() });
        }
        let Some(mut upload) = self.upload.take().filter(|upload| upload.parts == part.number) else {
            return Err(invalid(format!(
                "part {} of the upload is out of order: parts are numbered 0, 1, 2, …; begin again with part 0",
                part.number
            )));
        };
        upload.frame_bytes += frame_bytes;
        if upload.frame_bytes > UPLOAD_BYTES_MAX {
            return Err(invalid(format!(
                "the upload is over {UPLOAD_BYTES_MAX} bytes: nothing of it was kept; apply it in several files"
            )));
        }
        upload.parts += 1;
        upload.patches.extend(part.patches);
        self.upload = Some(upload);
        Ok(AdminReply::Received(part.number))
    }

    async fn apply(&mut self, apply: WireApply) -> Result<Report, Refused> {
        let upload = self.upload.take();
        let patches = match upload {
            Some(upload) if upload.parts == apply.parts => upload.patches,
            None if apply.parts == 0 => Vec::new(),
            found => {
                let found = found.map_or(0, |upload| upload.parts);
                let announced = apply.parts;
                return Err(invalid(format!(
                    "{announced} parts are to be applied, {found} were received: nothing was changed; upload again"
                )));
            }
        };
        let places = places(&patches);
        let mut sets = convert::Sets::default();
        let edits = patches.into_iter().enumerate().map(|(index, patch)| {
            convert::edit(patch, &mut sets).map_err(|message| Refused {
                kind: RefusalKind::Invalid,
                place: places.get(index).copied(),
                message,
            })
        });
        let order = Order::Apply(Apply {
            edits: edits.collect::<Result<_, _>>()?,
            sections: apply.sections.into_iter().map(convert::kind).collect(),
            prune: apply.prune,
            dry_run: apply.dry_run,
        });
        let outcome =
            self.serving.registry.order(order, self.origin).await.map_err(|refusal| refused(refusal, &places))?;
        Ok(Report {
            added: outcome.added.iter().map(convert::selector).collect(),
            changed: outcome.changed.into_iter().map(convert::field_change).collect(),
            removed: outcome.removed.iter().map(convert::selector).collect(),
            dry_run: apply.dry_run,
            more: false,
        })
    }

    fn status(&self) -> StatusReport {
        let summary = self.serving.registry.summary();
        let reload = self.serving.control.last_reload();
        let (recent_questions, recent_time) = self.serving.meters.recent();
        let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            started_at: self.serving.started_at.0,
            now: summary.now.0,
            clock_behind: summary.clock_behind,
            database: self.serving.registry.database_path().display().to_string(),
            revision: summary.revision.0,
            agents: summary.agents,
            endpoints: summary.counts.endpoints,
            keys: summary.counts.keys,
            tokens: summary.counts.tokens,
            sessions: summary.counts.sessions,
            tag_sets: summary.counts.tag_sets,
            query_connections: self.serving.open(Door::Query),
            admin_connections: self.serving.open(Door::Admin),
            questions: self.serving.meters.questions(),
            writable: summary.writable,
            alarms: summary.alarms,
            http_connections: self.serving.open(Door::Http),
            refused_connections: self.serving.refused_connections(),
            verdicts: convert::verdict_counts(&self.serving.meters.verdicts()),
            recent_questions,
            recent_millis: whole(recent_time.as_millis()),
            commits: summary.commits.count(),
            commit_micros: summary.commits.nanos / 1000,
            unflushed_use_age: summary.unflushed_use_age,
            database_bytes: summary.database_bytes,
            reloaded_at: reload.as_ref().map(|reload| reload.at.0),
            reload_refused: reload.and_then(|reload| reload.refused),
        }
    }

    /// Runs what waits for the disk aside of the threads that answer questions.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Registry) -> Result<T, StoreFault> + Send + 'static,
    ) -> Result<T, Refused> {
        let registry = Arc::clone(&self.serving.registry);
        let outcome = tokio::task::spawn_blocking(move || read(&registry)).await;
        outcome
            .map_err(|_| unavailable("reading the database ended with a panic".to_string()))?
            .map_err(|fault| unavailable(fault.to_string()))
    }
}

/// Removed agents and endpoints are not shown; revoked credentials are.
fn is_shown(listed: &Listed) -> bool {
    match &listed.record {
        Record::Agent(_) | Record::Endpoint(_) => !listed.record.is_ended(),
        Record::Credential(_) => true,
    }
}

/// `key 12:CODE`, to be shown once.
fn written_credential(record: &Record, code: &Code) -> Option<Secret> {
    let Record::Credential(credential) = record else {
        return None;
    };
    let mut text = Zeroizing::new(format!("{} {}:", credential.mode, credential.id).into_bytes());
    text.reserve_exact(code.expose().len());
    text.extend_from_slice(code.expose());
    Some(Secret::new(std::mem::take(&mut *text)))
}

/// The section of each patch and its index in that section.
fn places(patches: &[Patch]) -> Vec<(WireKind, u64)> {
    let mut counts = [0; WireKind::ALL.len()];
    let place = |patch: &Patch| {
        let kind = match patch {
            Patch::Agent(_) => WireKind::Agent,
            Patch::Endpoint(_) => WireKind::Endpoint,
            Patch::Credential(patch) => WireKind::from(patch.mode),
        };
        let count = &mut counts[kind as usize];
        *count += 1;
        (kind, *count - 1)
    };
    patches.iter().map(place).collect()
}

const fn invalid(message: String) -> Refused {
    Refused { kind: RefusalKind::Invalid, place: None, message }
}

const fn unavailable(message: String) -> Refused {
    Refused { kind: RefusalKind::Unavailable, place: None, message }
}

fn refused(refusal: Refusal, places: &[(WireKind, u64)]) -> Refused {
    match refusal {
        Refusal::Invalid { index, message } => {
            let place = index.and_then(|index| places.get(index).copied());
            Refused { kind: RefusalKind::Invalid, place, message }
        }
        Refusal::Unavailable(message) => unavailable(message),
    }
}

/// A long report goes in several frames with the same request id.
fn put_report(report: Report, request_id: u32, out: &mut Vec<u8>) {
    let Report { added, changed, removed, dry_run, more: _ } = report;
    let (mut added, mut changed, mut removed) = (added.into_iter(), changed.into_iter(), removed.into_iter());
    loop {
        let mut room = PAGE_RECORDS_MAX;
        let part = Report {
            added: take_front(&mut added, &mut room),
            changed: take_front(&mut changed, &mut room),
            removed: take_front(&mut removed, &mut room),
            dry_run,
            more: added.len() + changed.len() + removed.len() > 0,
        };
        let more = part.more;
        AdminReply::Report(part).put(out, request_id);
        if !more {
            return;
        }
    }
}

/// What is left stays where it is: a report may be of millions.
fn take_front<T>(items: &mut std::vec::IntoIter<T>, room: &mut usize) -> Vec<T> {
    let front: Vec<T> = items.by_ref().take(*room).collect();
    *room -= front.len();
    front
}
