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
use crate::registry::{BATCH_TARGETS_MAX, Inquiry, Target, View};

/// Questions that are begun before the first of them is decided. With more, what was fetched first is pushed out of the
/// nearest cache again.
const TOGETHER_MAX: usize = 16;

/// Serves one connection until it is over. What the daemon asks itself is not `counted`.
pub(super) async fn serve(stream: UnixStream, serving: Arc<Serving>, counted: bool, stop: CancellationToken) {
    let deadlines = serving.control.rules().deadlines;
    let mut connection = Connection::new(stream, QUERY_FRAME_BYTES_MAX, deadlines, stop);
    let meter = serving.meters.of(AskDoor::Query);
    let share = meter.share();
    let denials = if counted { &serving.meters.denials } else { &serving.meters.unlogged };
    let mut settled = None;
    loop {
        let filled = connection.fill().await;
        match filled {
            Filled::More | Filled::Last => {}
            Filled::Late => return connection.say_late(QUERY_ERROR).await,
            Filled::Over => return,
        }
        let mut began = connection.last_read();
        loop {
            let mut notes = Notes::new(AskDoor::Query, denials);
            // The state is taken after the bytes have come: promise 2.5.
            let view = serving.registry.view().with(settled.take());
            let outcome = connection.answer(|input, out| answer_all(&view, input, out, &mut notes));
            let wanted = view.take_wanted();
            drop(view);
            if counted {
                meter.add(share, &notes, began.elapsed());
            }
            if let Err(error) = &outcome {
                connection.refuse(QUERY_ERROR, 0, error);
            }
            if connection.flush().await.is_err() || outcome.is_err() {
                return;
            }
            if let Some(wanted) = wanted {
                // Replies keep their order, so this connection waits; then the question is asked anew, of what is the
                // state then.
                settled = Some(serving.registry.settle(*wanted).await);
                connection.restart_deadlines();
                continue;
            }
            if matches!(outcome, Ok(false)) {
                break;
            }
            began = Instant::now();
        }
        if matches!(filled, Filled::Last) {
            connection.say_stopping(QUERY_ERROR).await;
            return;
        }
    }
}

/// Answers every whole frame of `input` with a frame in `out`, until it is used up or `out` holds
/// as much as is gathered for one write. Counts the verdicts in `notes`. Returns the bytes used, and whether whole frames
/// may be left. Where the view [wants a proof](View::wants_proof) it ends before the frame that needs it.
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
        let (began, mut frames) = (used, ArrayVec::<_, TOGETHER_MAX>::new());
        let mut next = Ok(None);
        while !frames.is_full() {
            next = split(&input[used..], QUERY_FRAME_BYTES_MAX);
            let Ok(Some((frame, bytes))) = next else { break };
            used += bytes;
            frames.push((frame, used));
        }
        let held = match &*frames {
            [(frame, _)] => {
                let request = QueryRequest::decode(frame);
                let mut begun = begin(view, &request);
                if let Begun::Question(inquiry, _) = &begun {
                    view.fetch_credential(inquiry);
                }
                let answered = answer(&mut begun, frame.header.request_id, view, out, notes);
                if answered { None } else { Some(0) }
            }
            frames => answer_together(view, frames, out, notes),
        };
        if let Some(held) = held {
            return Ok((if held == 0 { began } else { frames[held - 1].1 }, true));
        }
        if next?.is_none() {
            return Ok((used, false));
        }
    }
    Ok((used, true))
}

/// A request with the beginning of its answer.
#[expect(clippy::large_enum_variant, reason = "it never leaves the stack, and nearly all are questions")]
enum Begun<'r> {
    Question(Inquiry<'r, 'r>, Target<'r>),
    Batch(&'r Batch<'r>),
    Refused(&'r FrameError),
}

fn begin<'r>(view: &'r View<'_>, request: &'r Result<QueryRequest<'r>, FrameError>) -> Begun<'r> {
    let (asker, target) = match request {
        Ok(QueryRequest::Check(check)) => (&check.asker, target(&check.target)),
        Ok(QueryRequest::Who(who)) => (&who.asker, Target::Nobody),
        Ok(QueryRequest::Batch(batch)) => return Begun::Batch(batch),
        Err(error) => return Begun::Refused(error),
    };
    Begun::Question(view.inquire(convert::asker(asker)), target)
}

/// Takes all questions through each look-up before the next, so that the waits for memory overlap. Returns the place of
/// the frame that wants a proof; those before it are answered.
fn answer_together(
    view: &View<'_>,
    frames: &[(Frame<'_>, usize)],
    out: &mut Vec<u8>,
    notes: &mut Notes<'_>,
) -> Option<usize> {
    let requests: ArrayVec<_, TOGETHER_MAX> = frames.iter().map(|(frame, _)| QueryRequest::decode(frame)).collect();
    let mut begun: ArrayVec<_, TOGETHER_MAX> = requests.iter().map(|request| begin(view, request)).collect();
    each_question(&mut begun, |inquiry, _| view.fetch_credential(inquiry));
    each_question(&mut begun, |inquiry, target| inquiry.seek(target));
    each_question(&mut begun, |inquiry, _| inquiry.fetch_agent());
    each_question(&mut begun, |inquiry, _| inquiry.fetch_texts());
    let mut all = begun.iter_mut().zip(frames);
    all.position(|(begun, (frame, _))| !answer(begun, frame.header.request_id, view, out, notes))
}

fn each_question<'r>(begun: &mut [Begun<'r>], step: impl Fn(&mut Inquiry<'r, 'r>, &Target<'r>)) {
    for begun in begun {
        if let Begun::Question(inquiry, target) = begun {
            step(inquiry, target);
        }
    }
}

/// False, and nothing is answered, when the view wants a proof.
fn answer<'r>(
    begun: &mut Begun<'r>,
    request_id: u32,
    view: &'r View<'_>,
    out: &mut Vec<u8>,
    notes: &mut Notes<'_>,
) -> bool {
    match begun {
        Begun::Question(inquiry, target) => {
            let verdict = view.answer(inquiry, target);
            if view.wants_proof() {
                return false;
            }
            let verdict = convert::verdict(&verdict);
            notes.note(verdict.reason, inquiry, target);
            verdict.put(out, request_id);
        }
        Begun::Batch(batch) => return answer_batch(view, batch, out, request_id, notes),
        Begun::Refused(error) => put_error(out, QUERY_ERROR, request_id, error),
    }
    true
}

fn answer_batch(view: &View<'_>, batch: &Batch<'_>, out: &mut Vec<u8>, request_id: u32, notes: &mut Notes<'_>) -> bool {
    if !(1..=BATCH_TARGETS_MAX).contains(&batch.targets.len()) {
        let (reason, status) = (WireReason::BadRequest.number(), 400);
        notes.count(reason);
        BatchVerdictsRef { reason, status, identity: None, verdicts: &[] }.put(out, request_id);
        return true;
    }
    let mut verdicts: Vec<TargetVerdict> = Vec::with_capacity(batch.targets.len());
    let targets = batch.targets.iter().map(target);
    let identity = view.check_all(convert::asker(&batch.asker), targets, |judged| {
        verdicts.push(convert::target_verdict(judged));
    });
    if view.wants_proof() {
        return false;
    }
    note_batch(view, batch, &verdicts, notes);
    let identity = identity.as_ref().map(convert::identity);
    BatchVerdictsRef { reason: WireReason::Ok.number(), status: 200, identity, verdicts: &verdicts }
        .put(out, request_id);
    true
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
