//! Promise 2.5: an acknowledged change is durable and seen by every question that comes after; a change is seen whole.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    reason = "a test may panic, names one arm of many, and counts low"
)]

mod support;

use std::fmt::Display;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use keyward::model::record::AgentName;
use keyward::model::{
    AgentEdit, Code, CredentialEdit, Edit, Id, Kind, Mode, Pepper, Reason, Record, RecordName, Verdict,
};
use keyward::registry::{
    Apply, Asker, DATABASE_FILE, Observer, Order, Origin, Outcome, Refusal, Registry, Stage, Target as Asked,
};
use keyward::tags::TagSet;
use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, Apply as WireApply, CredentialPatch, EndpointPatch, Patch, Secret, Selector,
    SetText,
};
use keyward_proto::client::{AdminClient, ApplyOutcome, QueryClient};
use keyward_proto::query::{
    Asker as WireAsker, Check, Mode as WireMode, QueryReply, QueryRequest, Reason as WireReason, Target,
};
use support::Home;
use tempfile::TempDir;

/// Keys that are revoked one after another.
const REVOCATIONS: usize = 50_000;
/// Keys that nobody revokes.
const SPARED: usize = 500;
/// Keys in one apply.
const FILE_KEYS: usize = 10_000;
const READERS: usize = 8;
/// Connections that revoke, so that commits are shared.
const REVOKERS: usize = 48;
/// Questions that a pipelining reader sends at once.
const PIPELINED: usize = 16;

const ENDPOINT: Target<'_> = Target::Endpoint { method: b"GET", path: b"/tickets" };

fn agent_patch(permissions: &str) -> Patch {
    Patch::Agent(AgentPatch {
        id: Some(1),
        name: Some("Ada".into()),
        permissions: Some(SetText::Text(permissions.into())),
        ..AgentPatch::default()
    })
}

fn endpoint_patch(path: &str, tag: &str) -> Patch {
    Patch::Endpoint(EndpointPatch {
        method: "GET".into(),
        path: path.into(),
        tags: Some(vec![tag.into()]),
        modes: None,
    })
}

fn key_patch(id: usize, tags: &str) -> Patch {
    Patch::Credential(CredentialPatch {
        agent: Some(1),
        code: Some(Secret::new(code_of(id).into_bytes())),
        tags: Some(SetText::Text(tags.into())),
        ..CredentialPatch::new(WireMode::Key, Some(id as u64))
    })
}

fn code_of(id: impl Display) -> String {
    format!("SECRET{id:08}")
}

fn credential_of(id: impl Display + Copy) -> Vec<u8> {
    format!("key {id}:{}", code_of(id)).into_bytes()
}

fn asker(credential: &[u8]) -> WireAsker<'_> {
    WireAsker { credential: Some(credential), ..WireAsker::default() }
}

/// Uploads patches and commits them as one transaction.
fn apply(admin: &mut AdminClient, patches: Vec<Patch>) {
    let parts = admin.upload(patches).unwrap();
    let outcome = admin.apply(&WireApply { parts, sections: vec![], prune: false, dry_run: false }).unwrap();
    assert!(matches!(outcome, ApplyOutcome::Report(_)), "{outcome:?}");
}

/// What is known of the keys of one revoker, `revoker + 1`, `revoker + 1 + REVOKERS`, …: how many of them, in this
/// order, were ordered to be revoked and how many of these orders were acknowledged.
#[derive(Default)]
struct Progress {
    ordered: AtomicUsize,
    acknowledged: AtomicUsize,
}

struct Storm<'h> {
    home: &'h Home,
    progress: [Progress; REVOKERS],
    questions: AtomicU64,
    /// Questions on keys whose revocation was acknowledged before the question was sent.
    on_revoked: AtomicU64,
    over: AtomicBool,
}

impl Storm<'_> {
    /// How many keys this revoker has.
    fn share(revoker: usize) -> usize {
        (REVOCATIONS - revoker).div_ceil(REVOKERS)
    }

    fn key(revoker: usize, place: usize) -> usize {
        1 + revoker + place * REVOKERS
    }

    fn revoke(&self, revoker: usize) {
        let (mut admin, mut query) = (self.home.admin(), self.home.query());
        for place in 0..Self::share(revoker) {
            let key = Self::key(revoker, place);
            self.progress[revoker].ordered.store(place + 1, Ordering::SeqCst);
            let order = AdminRequest::Remove(Selector::Credential(WireMode::Key, key as u64));
            let reply = admin.call(&order).unwrap();
            assert!(matches!(reply, AdminReply::Done(_)), "key {key} was not revoked");
            self.progress[revoker].acknowledged.store(place + 1, Ordering::SeqCst);
            // The sharpest question: on another socket, at once.
            let credential = credential_of(key);
            let verdict = query.check(asker(&credential), ENDPOINT).unwrap();
            assert_eq!(verdict.reason, WireReason::Revoked.number(), "key {key}, asked at once");
            self.questions.fetch_add(1, Ordering::Relaxed);
            self.on_revoked.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks until the revokers are done, of keys around the latest acknowledged ones and of spared ones.
    fn read(&self, reader: usize) {
        let mut query = self.home.query();
        let at_once = if reader.is_multiple_of(2) { 1 } else { PIPELINED };
        let mut turn = reader;
        while !self.over.load(Ordering::SeqCst) {
            let mut keys = Vec::new();
            for _ in 0..at_once {
                turn += 1;
                keys.push(self.choose(turn));
            }
            self.ask(&mut query, &keys);
        }
    }

    /// The key to ask of, and whether its revocation is known to be acknowledged by now.
    fn choose(&self, turn: usize) -> (usize, Known) {
        if turn.is_multiple_of(4) {
            return (REVOCATIONS + 1 + turn % SPARED, Known::Spared);
        }
        let revoker = turn % REVOKERS;
        let acknowledged = self.progress[revoker].acknowledged.load(Ordering::SeqCst);
        match turn % 3 {
            // On its way now, or long before its time.
            0 => {
                let ahead = if turn.is_multiple_of(2) { 0 } else { turn % 1000 };
                let place = (acknowledged + ahead).min(Self::share(revoker) - 1);
                let known = if place < acknowledged { Known::Revoked } else { Known::NotYet(revoker, place) };
                (Self::key(revoker, place), known)
            }
            _ if acknowledged == 0 => (REVOCATIONS + 1, Known::Spared),
            // The latest, or any before it.
            1 => (Self::key(revoker, acknowledged - 1), Known::Revoked),
            _ => (Self::key(revoker, turn % acknowledged), Known::Revoked),
        }
    }

    fn ask(&self, query: &mut QueryClient, keys: &[(usize, Known)]) {
        let credentials: Vec<Vec<u8>> = keys.iter().map(|(key, _)| credential_of(*key)).collect();
        let requests: Vec<QueryRequest<'_>> = credentials
            .iter()
            .map(|credential| QueryRequest::Check(Check { asker: asker(credential), target: ENDPOINT }))
            .collect();
        let replies = query.check_all(&requests).unwrap();
        assert_eq!(replies.len(), keys.len());
        for ((key, known), reply) in keys.iter().zip(replies) {
            let QueryReply::Verdict(verdict) = reply else { panic!("no verdict on key {key}") };
            let (ok, revoked) = (verdict.reason == 0, verdict.reason == WireReason::Revoked.number());
            let fits = match *known {
                Known::Spared => ok,
                Known::Revoked => revoked,
                Known::NotYet(revoker, place) => {
                    let ordered = self.progress[revoker].ordered.load(Ordering::SeqCst);
                    ok || (revoked && place < ordered)
                }
            };
            assert!(fits, "key {key}, {known:?} before the question was sent, got reason {}", verdict.reason);
            self.questions.fetch_add(1, Ordering::Relaxed);
            if matches!(known, Known::Revoked) {
                self.on_revoked.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What a reader knew of a key before it sent its question.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// Its revocation was acknowledged.
    Revoked,
    /// The revoker's key at this place was not known to be revoked.
    NotYet(usize, usize),
    /// Nobody revokes it.
    Spared,
}

#[test]
fn no_question_sent_after_a_revocation_was_acknowledged_is_answered_from_before() {
    let home = Home::in_memory();
    let _daemon = home.start();
    let mut admin = home.admin();
    apply(&mut admin, vec![agent_patch("*"), endpoint_patch("/tickets", "tickets.list")]);
    let keys: Vec<usize> = (1..=REVOCATIONS + SPARED).collect();
    for file in keys.chunks(FILE_KEYS) {
        apply(&mut admin, file.iter().map(|id| key_patch(*id, "*")).collect());
    }
    let storm = Storm {
        home: &home,
        progress: std::array::from_fn(|_| Progress::default()),
        questions: AtomicU64::new(0),
        on_revoked: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let storm = &storm;
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|reader| scope.spawn(move || storm.read(reader))).collect();
        let revokers: Vec<_> = (0..REVOKERS).map(|revoker| scope.spawn(move || storm.revoke(revoker))).collect();
        let revoked: Vec<_> = revokers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        // Whatever became of the revokers, the readers must end.
        storm.over.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.join().unwrap();
        }
        assert!(revoked.iter().all(Result::is_ok));
    });
    let mut query = home.query();
    for ids in keys.chunks(1000) {
        let expected = |id| if id <= REVOCATIONS { Known::Revoked } else { Known::Spared };
        storm.ask(&mut query, &ids.iter().map(|id| (*id, expected(*id))).collect::<Vec<_>>());
    }
    let (questions, on_revoked) = (storm.questions.load(Ordering::SeqCst), storm.on_revoked.load(Ordering::SeqCst));
    let line = format!("{REVOCATIONS} revocations, {questions} questions, {on_revoked} of them on acknowledged ones");
    writeln!(std::io::stderr(), "{line}").unwrap();
    assert!(questions > REVOCATIONS as u64 * 2, "{line}");
}

/// Waits in the observer at the stages it is told to hold, until it is let go.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
    commits: AtomicU32,
}

#[derive(Default)]
struct GateState {
    holds: bool,
    parked: Option<Stage>,
    latest: Option<Stage>,
}

impl Gate {
    fn observer(self: &Arc<Self>) -> Observer {
        let gate = Arc::clone(self);
        Box::new(move |stage| {
            if stage == Stage::Committed {
                gate.commits.fetch_add(1, Ordering::SeqCst);
            }
            let mut state = gate.state.lock().unwrap();
            state.latest = Some(stage);
            gate.changed.notify_all();
            if state.holds {
                state.parked = Some(stage);
                drop(gate.changed.wait_while(state, |state| state.parked.is_some()).unwrap());
            }
        })
    }

    /// From now on the writer waits at every stage.
    fn hold(&self) -> Held<'_> {
        self.state.lock().unwrap().holds = true;
        Held(self)
    }

    fn commits(&self) -> u32 {
        self.commits.load(Ordering::SeqCst)
    }
}

/// A held gate. It opens when dropped, so that a test that fails ends.
struct Held<'g>(&'g Gate);

impl Held<'_> {
    /// Waits until the writer is parked, and says where.
    fn parked(&self) -> Stage {
        let state = self.0.state.lock().unwrap();
        self.0.changed.wait_while(state, |state| state.parked.is_none()).unwrap().parked.unwrap()
    }

    fn go_on(&self) {
        self.0.state.lock().unwrap().parked = None;
        self.0.changed.notify_all();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().holds = false;
        self.go_on();
    }
}

fn pepper() -> Pepper {
    Pepper::new([7; 32].into())
}

fn id(id: u64) -> Id {
    Id::new(id).unwrap()
}

fn agent_edit(id_: u64) -> Edit {
    Edit::Agent(AgentEdit {
        id: Some(id(id_)),
        name: Some(AgentName::parse("Ada").unwrap()),
        permissions: Some(TagSet::everything().into()),
        ..AgentEdit::default()
    })
}

fn key_edit(key: u64) -> Edit {
    Edit::Credential(CredentialEdit {
        agent: Some(id(1)),
        code: Some(Code::parse(Mode::Key, code_of(key).as_bytes()).unwrap()),
        ..CredentialEdit::new(Mode::Key, Some(id(key)))
    })
}

fn disabled(key: u64) -> Order {
    Order::Set(Edit::Credential(CredentialEdit {
        enabled: Some(false),
        ..CredentialEdit::new(Mode::Key, Some(id(key)))
    }))
}

fn revoked(key: u64) -> Order {
    Order::Remove(RecordName::Credential(Mode::Key, id(key)))
}

fn file(edits: Vec<Edit>) -> Order {
    Order::Apply(Apply { edits, sections: vec![Kind::Agent], prune: false, dry_run: false })
}

type Answer = Result<Outcome, Refusal>;

/// One step of an order, on this thread: whether the writer has acknowledged it.
fn poll<F: Future<Output = Answer>>(order: Pin<&mut F>) -> Poll<Answer> {
    order.poll(&mut Context::from_waker(Waker::noop()))
}

fn run<F: Future<Output = Answer>>(order: F) -> Answer {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(order)
}

/// A registry with agent 1 and the keys 1 to `keys`.
fn registry(directory: &Path, gate: &Arc<Gate>, keys: u64) -> Registry {
    let registry = Registry::open(directory, pepper(), gate.observer()).unwrap();
    let edits = [agent_edit(1)].into_iter().chain((1..=keys).map(key_edit)).collect();
    assert!(run(registry.order(file(edits), Origin::Daemon)).is_ok());
    // Whoever ordered knows a little before the observer is told so.
    let state = gate.state.lock().unwrap();
    drop(gate.changed.wait_while(state, |state| state.latest != Some(Stage::Acknowledged)).unwrap());
    registry
}

/// `None` for an allow.
fn denial(registry: &Registry, key: u64) -> Option<Reason> {
    let credential = credential_of(key);
    let asker = Asker { credential: Some(&credential), ..Asker::default() };
    match registry.view().check(&asker, &Asked::Nobody) {
        Verdict::Allow(_) => None,
        Verdict::Deny(reason) => Some(reason),
        Verdict::Unavailable => panic!("unavailable"),
    }
}

/// What a daemon would find that started on what the database's file holds at this moment.
fn denial_after_a_crash(directory: &Path, key: u64) -> Option<Reason> {
    let copy = TempDir::with_prefix("kw").unwrap();
    fs::copy(directory.join(DATABASE_FILE), copy.path().join(DATABASE_FILE)).unwrap();
    let registry = Registry::open(copy.path(), pepper(), Box::new(|_| {})).unwrap();
    denial(&registry, key)
}

#[test]
fn a_change_is_committed_then_published_then_acknowledged() {
    let directory = TempDir::with_prefix("kw").unwrap();
    let gate = Arc::new(Gate::default());
    let registry = registry(directory.path(), &gate, 1);
    let held = gate.hold();
    let mut order = pin!(registry.order(revoked(1), Origin::Daemon));
    assert!(poll(order.as_mut()).is_pending());

    assert_eq!(held.parked(), Stage::Committed);
    assert_eq!(denial_after_a_crash(directory.path(), 1), Some(Reason::Revoked), "committed is durable");
    assert_eq!(denial(&registry, 1), None, "committed and not yet published: the state before");
    assert!(poll(order.as_mut()).is_pending(), "committed and not yet published: not acknowledged");
    held.go_on();

    assert_eq!(held.parked(), Stage::Published);
    assert_eq!(denial(&registry, 1), Some(Reason::Revoked), "published: seen by every new question");
    assert!(poll(order.as_mut()).is_pending(), "published: not yet acknowledged");
    held.go_on();

    assert_eq!(held.parked(), Stage::Acknowledged);
    let Poll::Ready(Ok(outcome)) = poll(order.as_mut()) else { panic!("not acknowledged") };
    assert!(matches!(outcome.record, Some(Record::Credential(key)) if key.revoked));
    drop(held);
}

#[test]
fn a_view_keeps_the_state_it_began_with() {
    let directory = TempDir::with_prefix("kw").unwrap();
    let registry = registry(directory.path(), &Arc::default(), 1);
    let credential = credential_of(1);
    let asker = Asker { credential: Some(&credential), ..Asker::default() };
    let view = registry.view();
    assert!(run(registry.order(revoked(1), Origin::Daemon)).is_ok());
    assert!(matches!(view.check(&asker, &Asked::Nobody), Verdict::Allow(_)));
    assert_eq!(registry.view().check(&asker, &Asked::Nobody), Verdict::Deny(Reason::Revoked));
}

#[test]
fn orders_that_wait_share_one_commit_and_each_gets_its_own_answer() {
    const CALLERS: u64 = 100;
    let directory = TempDir::with_prefix("kw").unwrap();
    let gate = Arc::new(Gate::default());
    let registry = registry(directory.path(), &gate, CALLERS);
    let (commits, revision) = (gate.commits(), registry.summary().revision.0);
    let held = gate.hold();
    let mut first = pin!(registry.order(revoked(1), Origin::Daemon));
    assert!(poll(first.as_mut()).is_pending());
    assert_eq!(held.parked(), Stage::Committed);

    // They come while the writer is busy. One of them is not acceptable: it spoils only itself.
    let mut waiting: Vec<_> = (2..=CALLERS).map(|key| Box::pin(registry.order(revoked(key), Origin::Daemon))).collect();
    waiting.push(Box::pin(registry.order(Order::Add(key_edit(CALLERS)), Origin::Daemon)));
    for order in &mut waiting {
        assert!(poll(order.as_mut()).is_pending());
    }
    drop(held);
    let answers: Vec<Answer> = waiting.into_iter().map(run).collect();
    assert!(run(first).is_ok());

    let (added, revocations) = answers.split_last().unwrap();
    assert!(matches!(added, Err(Refusal::Invalid { .. })), "key {CALLERS} is there already");
    assert!(revocations.iter().all(Result::is_ok));
    assert!((1..=CALLERS).all(|key| denial(&registry, key) == Some(Reason::Revoked)));
    assert_eq!(registry.summary().revision.0 - revision, CALLERS, "every change is a revision");
    assert_eq!(gate.commits() - commits, 2, "the first one's commit, and one for all that waited");
}

#[test]
fn an_order_that_is_judged_by_all_records_shares_no_commit() {
    let directory = TempDir::with_prefix("kw").unwrap();
    let gate = Arc::new(Gate::default());
    let registry = registry(directory.path(), &gate, 4);
    let commits = gate.commits();
    let held = gate.hold();
    let mut first = pin!(registry.order(revoked(1), Origin::Daemon));
    assert!(poll(first.as_mut()).is_pending());
    assert_eq!(held.parked(), Stage::Committed);
    let orders = [disabled(2), disabled(3), file(vec![agent_edit(2)]), disabled(4), revoked(4)];
    let mut waiting = orders.map(|order| Box::pin(registry.order(order, Origin::Daemon)));
    for order in &mut waiting {
        assert!(poll(order.as_mut()).is_pending());
    }
    drop(held);
    for order in waiting {
        assert!(run(order).is_ok());
    }
    assert_eq!(gate.commits() - commits, 1 + 3, "two changes, the file, two changes");
    let expected = [Reason::Revoked, Reason::Disabled, Reason::Disabled, Reason::Revoked];
    assert_eq!([1, 2, 3, 4].map(|key| denial(&registry, key)), expected.map(Some));
}

/// Changes a daemon back and forth while `ask` is called, until every one of `sights` sights was had often enough.
fn while_it_changes<const SIGHTS: usize>(
    home: &Home,
    states: [fn() -> Vec<Patch>; 2],
    ask: impl Fn(&mut QueryClient) -> usize + Sync,
) -> [u32; SIGHTS] {
    const READERS: usize = 2;
    const SEEN_OFTEN: u32 = 100;
    const CHANGES_MAX: usize = 20_000;
    let over = AtomicBool::new(false);
    let seen: [AtomicU32; SIGHTS] = std::array::from_fn(|_| AtomicU32::new(0));
    let often = || seen.iter().all(|count| count.load(Ordering::SeqCst) >= SEEN_OFTEN);
    thread::scope(|scope| {
        let readers = [(); READERS].map(|()| {
            scope.spawn(|| {
                let mut query = home.query();
                while !over.load(Ordering::SeqCst) {
                    seen[ask(&mut query)].fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        let mut admin = home.admin();
        let changes = (0..CHANGES_MAX).take_while(|_| !often() && !readers.iter().any(|reader| reader.is_finished()));
        for change in changes {
            apply(&mut admin, states[change % 2]());
        }
        over.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert!(often(), "not every state was seen often enough: {seen:?}");
    seen.map(AtomicU32::into_inner)
}

fn reasons(query: &mut QueryClient, key: usize, targets: &[Target<'_>]) -> Vec<WireReason> {
    let credential = credential_of(key);
    let batch = query.batch(asker(&credential), targets).unwrap();
    assert_eq!(batch.verdicts.len(), targets.len());
    batch.verdicts.iter().map(|verdict| WireReason::from_number(verdict.reason).unwrap()).collect()
}

#[test]
fn a_batch_reads_one_state() {
    let home = Home::in_memory();
    let _daemon = home.start();
    apply(
        &mut home.admin(),
        vec![agent_patch("*"), endpoint_patch("/tickets", "tickets.list"), key_patch(1, "tickets.*")],
    );
    let targets = vec![ENDPOINT; 1024];
    let states: [fn() -> Vec<Patch>; 2] = [|| vec![key_patch(1, "people.*")], || vec![key_patch(1, "tickets.*")]];
    while_it_changes::<2>(&home, states, |query| {
        let reasons = reasons(query, 1, &targets);
        assert!(reasons.iter().all(|reason| *reason == reasons[0]), "a batch saw two states");
        let states = [WireReason::Ok, WireReason::TagNotGranted];
        states.iter().position(|state| *state == reasons[0]).unwrap()
    });
}

#[test]
fn an_apply_is_seen_whole_or_not_at_all() {
    let home = Home::in_memory();
    let _daemon = home.start();
    // The key allows what the agent doesn't: one without the other would let something through.
    let before: fn() -> Vec<Patch> = || {
        vec![key_patch(1, "a.*"), agent_patch("b.*, z.*"), endpoint_patch("/one", "a.x"), endpoint_patch("/two", "b.x")]
    };
    let after: fn() -> Vec<Patch> = || {
        vec![key_patch(1, "b.*"), agent_patch("a.*, z.*"), endpoint_patch("/one", "b.x"), endpoint_patch("/two", "c.x")]
    };
    let admin = &mut home.admin();
    apply(admin, vec![agent_patch("*"), endpoint_patch("/one", "a.x"), endpoint_patch("/two", "b.x")]);
    apply(admin, before());
    let endpoint = |path| Target::Endpoint { method: b"GET", path };
    let targets = [Target::Tags(vec![b"a.x"]), Target::Tags(vec![b"b.x"]), endpoint(b"/one"), endpoint(b"/two")];
    let (no_tag, no_agent) = (WireReason::TagNotGranted, WireReason::AgentNotPermitted);
    while_it_changes::<2>(&home, [after, before], |query| {
        let reasons = reasons(query, 1, &targets);
        if reasons == [no_agent, no_tag, no_agent, no_tag] {
            0
        } else if reasons == [no_tag, no_agent, no_agent, no_tag] {
            1
        } else {
            panic!("a mix of two states: {reasons:?}")
        }
    });
}
