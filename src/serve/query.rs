//! HOT PATH 1/2: `query.sock`. Bytes in, frames out; the deciding is [`crate::decide`].

use std::sync::Arc;

use arrayvec::ArrayVec;
use keyward_proto::frame::{Frame, FrameError, QUERY_ERROR, QUERY_FRAME_BYTES_MAX, put_error, split};
use keyward_proto::query::{
    Batch, BatchVerdictsRef, QueryRequest, Reason as WireReason, Target as WireTarget, TargetVerdict,
};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Filled, WRITE_BYTES_MAX};
use super::meters::{AskDoor, Notes};
use super::{Serving, convert};
use crate::model::Verdict;
use crate::registry::{BATCH_TARGETS_MAX, Inquiry, Target, View};

/// Questions that are begun before the first of them is decided. With more, what was fetched first is pushed out of the
/// nearest cache again.
const TOGETHER_MAX: usize = 16;

/// Serves one connection until it is over.
pub(super) async fn serve(stream: UnixStream, serving: Arc<Serving>, stop: CancellationToken) {
    let deadlines = serving.control.rules().deadlines;
    let mut connection = Connection::new(stream, (QUERY_FRAME_BYTES_MAX, QUERY_ERROR), deadlines, stop);
    let meter = serving.meters.of(AskDoor::Query);
    let share = meter.share();
    loop {
        let filled = connection.fill().await;
        if matches!(filled, Filled::Over) {
            return;
        }
        let mut began = connection.last_read();
        loop {
            let mut notes = Notes::new(AskDoor::Query, &serving.meters.denials);
            // The state is taken after the bytes have come: promise 2.5.
            let view = serving.registry.view();
            let outcome = connection.answer(|input, out| answer_all(&view, input, out, &mut notes));
            drop(view);
            meter.add(share, &notes, began.elapsed());
            if connection.flush().await.is_err() || outcome.is_err() {
                return;
            }
            if outcome == Ok(false) {
                break;
            }
            began = Instant::now();
        }
        if matches!(filled, Filled::Last) {
            connection.say_stopping().await;
            return;
        }
    }
}

/// Answers every whole frame of `input` with a frame in `out`, until it is used up or `out` holds
/// as much as is gathered for one write. Counts the verdicts in `notes`. Returns the bytes used, and whether whole frames
/// may be left.
///
/// # Errors
/// When the stream can't be followed further; what came before is answered.
pub fn answer_all(
    view: &View<'_>,
    input: &[u8],
    out: &mut Vec<u8>,
    notes: &mut Notes<'_>,
) -> Result<(usize, bool), FrameError> {
    let mut used = 0;
    while out.len() < WRITE_BYTES_MAX {
        let mut frames = ArrayVec::<_, TOGETHER_MAX>::new();
        let mut next = Ok(None);
        while !frames.is_full() {
            next = split(&input[used..], QUERY_FRAME_BYTES_MAX);
            let Ok(Some((frame, bytes))) = next else { break };
            frames.push(frame);
            used += bytes;
        }
        match &*frames {
            [frame] => {
                answer(&mut begin(view, &QueryRequest::decode(frame)), frame.header.request_id, view, out, notes);
            }
            frames => answer_together(view, frames, out, notes),
        }
        if next?.is_none() {
            return Ok((used, false));
        }
    }
    Ok((used, true))
}

/// A request with the beginning of its answer.
enum Begun<'r> {
    Question(Inquiry<'r, 'r>, Target<'r>),
    Batch(&'r Batch<'r>),
    Refused(&'r FrameError),
}

fn begin<'r>(view: &'r View<'_>, request: &'r Result<QueryRequest<'r>, FrameError>) -> Begun<'r> {
    match request {
        Ok(QueryRequest::Check(check)) => {
            Begun::Question(view.inquire(convert::asker(&check.asker)), target(&check.target))
        }
        Ok(QueryRequest::Who(who)) => Begun::Question(view.inquire(convert::asker(&who.asker)), Target::Nobody),
        Ok(QueryRequest::Batch(batch)) => Begun::Batch(batch),
        Err(error) => Begun::Refused(error),
    }
}

/// What can be fetched before a question is decided, each step from what the one before it found.
const LOOK_UPS: [fn(&View<'_>, &mut Inquiry<'_, '_>); 3] =
    [|view, inquiry| view.find(inquiry), |_, inquiry| inquiry.look_ahead(), |_, inquiry| inquiry.look_further_ahead()];

/// Takes all questions through each look-up before the next, so that the waits for memory overlap.
fn answer_together(view: &View<'_>, frames: &[Frame<'_>], out: &mut Vec<u8>, notes: &mut Notes<'_>) {
    let requests: ArrayVec<_, TOGETHER_MAX> = frames.iter().map(QueryRequest::decode).collect();
    let mut begun: ArrayVec<_, TOGETHER_MAX> = requests.iter().map(|request| begin(view, request)).collect();
    for step in LOOK_UPS {
        for begun in &mut begun {
            if let Begun::Question(inquiry, _) = begun {
                step(view, inquiry);
            }
        }
    }
    for (begun, frame) in begun.iter_mut().zip(frames) {
        answer(begun, frame.header.request_id, view, out, notes);
    }
}

fn answer<'r>(begun: &mut Begun<'r>, request_id: u32, view: &'r View<'_>, out: &mut Vec<u8>, notes: &mut Notes<'_>) {
    match begun {
        Begun::Question(inquiry, target) => {
            let verdict = convert::verdict(&view.answer(inquiry, target));
            notes.note(verdict.reason, inquiry, target);
            verdict.put(out, request_id);
        }
        Begun::Batch(batch) => answer_batch(view, batch, out, request_id, notes),
        Begun::Refused(error) => put_error(out, QUERY_ERROR, request_id, error),
    }
}

fn answer_batch(view: &View<'_>, batch: &Batch<'_>, out: &mut Vec<u8>, request_id: u32, notes: &mut Notes<'_>) {
    if !(1..=BATCH_TARGETS_MAX).contains(&batch.targets.len()) {
        let (reason, status) = (WireReason::BadRequest.number(), 400);
        notes.count(reason);
        BatchVerdictsRef { reason, status, identity: None, verdicts: &[] }.put(out, request_id);
        return;
    }
    let mut verdicts: Vec<TargetVerdict> = Vec::with_capacity(batch.targets.len());
    let mut identity = None;
    view.check_all(convert::asker(&batch.asker), batch.targets.iter().map(target), |verdict| {
        if identity.is_none()
            && let Verdict::Allow(terms) = &verdict
        {
            identity = terms.identity;
        }
        verdicts.push(convert::target_verdict(&verdict));
    });
    note_batch(view, batch, &verdicts, notes);
    let identity = identity.as_ref().map(convert::identity);
    BatchVerdictsRef { reason: WireReason::Ok.number(), status: 200, identity, verdicts: &verdicts }
        .put(out, request_id);
}

/// Counts a batch's verdicts. The inquiry is a new one: only a denial that is logged looks at it.
fn note_batch(view: &View<'_>, batch: &Batch<'_>, verdicts: &[TargetVerdict], notes: &mut Notes<'_>) {
    let mut inquiry = view.inquire(convert::asker(&batch.asker));
    for (verdict, asked) in verdicts.iter().zip(&batch.targets) {
        notes.note(verdict.reason, &mut inquiry, &target(asked));
    }
}

fn target<'a>(target: &'a WireTarget<'a>) -> Target<'a> {
    match target {
        WireTarget::Endpoint { method, path } => Target::Endpoint { method, path },
        WireTarget::Tags(tags) => Target::Tags(tags),
    }
}
