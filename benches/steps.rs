//! Each step of the hot path by itself, in process: `cargo bench --bench steps`.
//!
//! Questions are uniformly random ones; a step is timed over all of them in turn, so that what it touches is as cold as
//! in its world. `decision.rs` beside it has the whole, in ratios.

#[path = "support/world.rs"]
#[allow(dead_code, reason = "decision.rs uses the rest")]
mod world;

use std::sync::LazyLock;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use keyward::decide::{Asker, Inquiry, Target};
use keyward::directory::Lookup;
use keyward::model::{Mode, PresentedCredential, TextList, UnixSeconds, Verdict};
use keyward::registry::Reading;
use keyward::route::JudgedPath;
use keyward::serve::query::answer_all;
use keyward::serve::{AskDoor, DenialLog, Notes};
use keyward_proto::frame::{Frame, QUERY_FRAME_BYTES_MAX, split};
use keyward_proto::query::{CodeSlot, IdentityRef, Mode as WireMode, QueryRequest, Target as WireTarget, VerdictRef};
use world::{PEPPER, QUESTIONS, Random, Size, World};

const WORLDS: [usize; 2] = [0, 1];
const NOW: UnixSeconds = UnixSeconds(1);

struct Asked {
    world: World,
    reading: Reading,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// A thousand keys and a million.
static ASKED: [LazyLock<Asked>; 2] =
    [LazyLock::new(|| asked(Size::of(1_000, 1_000))), LazyLock::new(|| asked(Size::of(1_000_000, 10_000)))];

fn asked(size: Size) -> Asked {
    let world = World::new(size);
    let reading = Reading::new(world.compiler.directory().clone());
    let (bytes, ends) = world.questions(1, &mut Random(0x9e37_79b9_7f4a_7c15));
    Asked { world, reading, bytes, ends }
}

impl Asked {
    fn frames(&self) -> Vec<Frame<'_>> {
        let frame = |question| match split(question, QUERY_FRAME_BYTES_MAX) {
            Ok(Some((frame, _))) => frame,
            Ok(None) | Err(_) => unreachable!("every question is a whole frame"),
        };
        self.questions().into_iter().map(frame).collect()
    }

    /// The bytes of every question.
    fn questions(&self) -> Vec<&[u8]> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[*begin..*end]).collect()
    }

    /// Credential header, method and path of every question.
    fn parts(&self) -> Vec<[&[u8]; 3]> {
        self.frames().into_iter().map(parts).collect()
    }
}

fn parts(frame: Frame<'_>) -> [&[u8]; 3] {
    let Ok(QueryRequest::Check(check)) = QueryRequest::decode(&frame) else { unreachable!("all are checks") };
    let WireTarget::Endpoint { method, path } = check.target else { unreachable!("all ask for an endpoint") };
    [check.asker.credential.unwrap_or_default(), method, path]
}

fn main() {
    divan::main();
}

/// Times `step` over all questions, a figure for one.
fn over<T, R>(bencher: Bencher<'_, '_>, items: &[T], mut step: impl FnMut(&T) -> R) {
    bencher.counter(ItemsCount::new(QUESTIONS)).bench_local(|| {
        for item in items {
            black_box(step(black_box(item)));
        }
    });
}

#[divan::bench]
fn a_hash_of_25_bytes(bencher: Bencher<'_, '_>) {
    over(bencher, &[[b'A'; 25]; QUESTIONS], |input| blake3::keyed_hash(&PEPPER, input));
}

#[divan::bench(args = WORLDS)]
fn b_decode(bencher: Bencher<'_, '_>, world: usize) {
    over(bencher, &ASKED[world].frames(), |frame| QueryRequest::decode(frame).is_ok());
}

#[divan::bench(args = WORLDS)]
fn c_parse_credential(bencher: Bencher<'_, '_>, world: usize) {
    over(bencher, &ASKED[world].parts(), |[credential, ..]| PresentedCredential::parse(credential).is_some());
}

#[divan::bench(args = WORLDS)]
fn d_look_up(bencher: Bencher<'_, '_>, world: usize) {
    let directory = ASKED[world].world.compiler.directory();
    let ids: Vec<u64> = ASKED[world]
        .parts()
        .iter()
        .filter_map(|[credential, ..]| PresentedCredential::parse(credential).map(|presented| presented.id))
        .collect();
    over(bencher, &ids, |id| match directory.credential(Mode::Key, *id) {
        Lookup::Found(found) => found.agent(),
        Lookup::Absent | Lookup::Damaged => None,
    });
}

#[divan::bench(args = WORLDS)]
fn e_judge_path(bencher: Bencher<'_, '_>, world: usize) {
    over(bencher, &ASKED[world].parts(), |[_, _, path]| JudgedPath::judge(path).is_ok());
}

#[divan::bench(args = WORLDS)]
fn f_judge_path_and_route(bencher: Bencher<'_, '_>, world: usize) {
    let directory = ASKED[world].world.compiler.directory();
    over(bencher, &ASKED[world].parts(), |[_, method, path]| {
        let Ok(path) = JudgedPath::judge(path) else { return false };
        matches!(directory.endpoint(method, &path), Lookup::Found(_))
    });
}

#[divan::bench(args = WORLDS)]
fn g_decide(bencher: Bencher<'_, '_>, world: usize) {
    let directory = ASKED[world].world.compiler.directory();
    over(bencher, &ASKED[world].parts(), |[credential, method, path]| {
        let asker = Asker { credential: Some(credential), agent: None, address: None };
        let verdict = Inquiry::new(directory, asker, NOW).decide(&Target::Endpoint { method, path });
        matches!(verdict, Verdict::Allow(_))
    });
}

#[divan::bench(args = WORLDS)]
fn h_decide_and_note_the_use(bencher: Bencher<'_, '_>, world: usize) {
    let view = ASKED[world].reading.view();
    over(bencher, &ASKED[world].parts(), |[credential, method, path]| {
        let asker = Asker { credential: Some(credential), agent: None, address: Some(b"10.1.2.3") };
        matches!(view.check(&asker, &Target::Endpoint { method, path }), Verdict::Allow(_))
    });
}

#[divan::bench]
fn i_encode(bencher: Bencher<'_, '_>) {
    let agent = TextList::new("Agent 7", [["team", "team 1"]]);
    let route = TextList::new("/api/v2/area1/resource1/{id}", [["area1.resource1.get"]]);
    let identity = IdentityRef {
        mode: WireMode::Key,
        credential_id: 7,
        code: CodeSlot::Current,
        expires_at: None,
        app_id: None,
        agent_id: 7,
        agent: agent.bytes(),
        switched: false,
    };
    let route = Some(route.bytes());
    let verdict = VerdictRef { reason: 0, status: 200, retry_after: 0, identity: Some(identity), route };
    let mut out = Vec::new();
    over(bencher, &[verdict; QUESTIONS], |verdict| {
        out.clear();
        verdict.put(&mut out, 7);
        black_box(&out);
    });
}

#[divan::bench(args = WORLDS)]
fn j_bytes_to_bytes(bencher: Bencher<'_, '_>, world: usize) {
    let view = ASKED[world].reading.view();
    let mut out = Vec::new();
    let log = DenialLog::default();
    over(bencher, &ASKED[world].questions(), |buffer| {
        out.clear();
        answer_all(&view, buffer, &mut out, &mut Notes::new(AskDoor::Query, &log)).is_ok()
    });
}
