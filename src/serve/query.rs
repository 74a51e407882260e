//! HOT PATH 1/2: `query.sock`. Bytes in, frames out; the deciding is [`crate::decide`].

use std::sync::Arc;

use keyward_proto::frame::{Frame, QUERY_ERROR, QUERY_FRAME_BYTES_MAX, put_error};
use keyward_proto::query::{
    Batch, BatchVerdictsRef, QueryRequest, Reason as WireReason, Target as WireTarget, TargetVerdict,
};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Deadlines, Filled};
use super::convert;
use crate::model::Verdict;
use crate::registry::{BATCH_TARGETS_MAX, Registry, Target, View};

/// Serves one connection until it is over.
pub(super) async fn serve(stream: UnixStream, registry: Arc<Registry>, deadlines: Deadlines, stop: CancellationToken) {
    let mut connection = Connection::new(stream, (QUERY_FRAME_BYTES_MAX, QUERY_ERROR), deadlines, stop);
    loop {
        let filled = connection.fill().await;
        if matches!(filled, Filled::Over) {
            return;
        }
        loop {
            // The state is taken after the bytes have come: promise 2.5.
            let view = registry.view();
            let outcome = connection.answer_frames(|frame, out| answer(&view, frame, out));
            drop(view);
            if connection.flush().await.is_err() || outcome.is_err() {
                return;
            }
            if outcome == Ok(false) {
                break;
            }
        }
        if matches!(filled, Filled::Last) {
            connection.say_stopping().await;
            return;
        }
    }
}

/// For the baseline.
pub fn answer_all(view: &View<'_>, input: &[u8], out: &mut Vec<u8>) -> usize {
    let mut used = 0;
    while let Ok(Some((frame, bytes))) = keyward_proto::frame::split(&input[used..], QUERY_FRAME_BYTES_MAX) {
        answer(view, &frame, out);
        used += bytes;
    }
    used
}

/// Answers one frame.
fn answer(view: &View<'_>, frame: &Frame<'_>, out: &mut Vec<u8>) {
    let request_id = frame.header.request_id;
    match QueryRequest::decode(frame) {
        Ok(QueryRequest::Check(check)) => {
            let verdict = view.check(&convert::asker(&check.asker), &target(&check.target));
            convert::verdict(&verdict).put(out, request_id);
        }
        Ok(QueryRequest::Who(who)) => {
            let verdict = view.check(&convert::asker(&who.asker), &Target::Nobody);
            convert::verdict(&verdict).put(out, request_id);
        }
        Ok(QueryRequest::Batch(batch)) => answer_batch(view, &batch, out, request_id),
        Err(error) => put_error(out, QUERY_ERROR, request_id, &error),
    }
}

fn answer_batch(view: &View<'_>, batch: &Batch<'_>, out: &mut Vec<u8>, request_id: u32) {
    if !(1..=BATCH_TARGETS_MAX).contains(&batch.targets.len()) {
        let (reason, status) = (WireReason::BadRequest.number(), 400);
        BatchVerdictsRef { reason, status, identity: None, verdicts: &[] }.put(out, request_id);
        return;
    }
    let targets: Vec<Target<'_>> = batch.targets.iter().map(target).collect();
    let mut verdicts: Vec<TargetVerdict> = Vec::with_capacity(targets.len());
    let mut identity = None;
    view.check_all(&convert::asker(&batch.asker), &targets, |verdict| {
        if let Verdict::Allow(terms) = &verdict {
            identity = identity.or(terms.identity);
        }
        verdicts.push(convert::target_verdict(&verdict));
    });
    let identity = identity.as_ref().map(convert::identity);
    BatchVerdictsRef { reason: WireReason::Ok.number(), status: 200, identity, verdicts: &verdicts }
        .put(out, request_id);
}

fn target<'a>(target: &'a WireTarget<'a>) -> Target<'a> {
    match target {
        WireTarget::Endpoint { method, path } => Target::Endpoint { method, path },
        WireTarget::Tags(tags) => Target::Tags(tags),
    }
}
