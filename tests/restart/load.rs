//! Clients that ask without a pause while daemons come and go. Whatever gets no answer, or a wrong one, is a failure.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::admin::{AdminReply, AdminRequest, AgentPatch, Patch, Record, SetText};
use keyward_proto::client::{AsyncQueryClient, ClientError, QueryClient};
use keyward_proto::query::{Asker, Check, QueryReply, QueryRequest, Target, Verdict, Who};

use crate::KILLS;
use crate::support::Home;
use crate::support::http::{Connection, Place, get};

pub const KEY: &str = "key 2:YWK2PGCS8CNW62SR8TBTBKWMY";
const ASKER: Asker<'static> = Asker { credential: Some(KEY.as_bytes()), agent: None, address: None };
const ME: Target<'static> = Target::Endpoint { method: b"GET", path: b"/api/v2/me" };
const QUERY: &str = "query.sock";
/// A request that was not answered after so long never will be: the longest wait is a daemon's start.
const PATIENCE: Duration = Duration::from_secs(60);
/// Questions that are written together: the frames of several reads.
const PIPELINED: usize = 64;

/// One client's count, and the signal to end.
#[derive(Default)]
pub struct Progress {
    answered: AtomicU64,
    slowest_millis: AtomicU64,
    marked: AtomicU64,
}

impl Progress {
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    pub fn mark(&self) {
        self.marked.store(self.answered(), Ordering::SeqCst);
    }

    pub fn since_mark(&self) -> u64 {
        self.answered() - self.marked.load(Ordering::SeqCst)
    }

    pub fn slowest(&self) -> Duration {
        Duration::from_millis(self.slowest_millis.load(Ordering::SeqCst))
    }

    fn count(&self, requests: u64, since: Instant) {
        self.answered.fetch_add(requests, Ordering::SeqCst);
        let millis = u64::try_from(since.elapsed().as_millis()).unwrap();
        self.slowest_millis.fetch_max(millis, Ordering::SeqCst);
    }

    /// Asks until it is told to end; `ask` says how many requests were answered.
    fn repeat(&self, over: &AtomicBool, mut ask: impl FnMut(u64) -> u64) {
        let mut round = 0;
        while !over.load(Ordering::SeqCst) {
            let began = Instant::now();
            self.count(ask(round), began);
            round += 1;
        }
    }
}

#[track_caller]
fn allowed(verdict: Result<Verdict, ClientError>) -> u64 {
    let verdict = verdict.unwrap_or_else(|error| panic!("a request failed: {error}"));
    assert!(verdict.is_allowed(), "{verdict:?}");
    1
}

pub fn blocking(runtime: &Path, progress: &Progress, over: &AtomicBool) {
    let mut client = QueryClient::connect(&runtime.join(QUERY)).unwrap();
    client.set_timeout(Some(PATIENCE)).unwrap();
    progress.repeat(over, |round| match round % 3 {
        0 => allowed(client.check(ASKER, ME)),
        1 => allowed(client.who(ASKER)),
        _ => {
            let batch = client.batch(ASKER, &[ME, ME]).unwrap();
            assert!(batch.verdicts.len() == 2 && batch.verdicts.iter().all(|verdict| verdict.reason == 0));
            1
        }
    });
}

/// Connects, asks a few questions, and comes again: so that stops meet connections in all their ages.
pub fn coming_and_going(runtime: &Path, progress: &Progress, over: &AtomicBool) {
    progress.repeat(over, |_| {
        let mut client = QueryClient::connect(&runtime.join(QUERY)).unwrap();
        client.set_timeout(Some(PATIENCE)).unwrap();
        (0..3).map(|_| allowed(client.check(ASKER, ME))).sum()
    });
}

pub fn asynchronous(runtime: &Path, progress: &Progress, over: &AtomicBool) {
    let inside = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = inside.block_on(AsyncQueryClient::connect(&runtime.join(QUERY))).unwrap();
    progress.repeat(over, |_| {
        let asked = inside.block_on(async { tokio::time::timeout(PATIENCE, client.check(ASKER, ME)).await });
        allowed(asked.expect("an answer in time"))
    });
}

pub fn pipelining(runtime: &Path, progress: &Progress, over: &AtomicBool) {
    let mut client = QueryClient::connect(&runtime.join(QUERY)).unwrap();
    client.set_timeout(Some(PATIENCE)).unwrap();
    let ask = |number| match number % 2 {
        0 => QueryRequest::Check(Check { asker: ASKER, target: ME }),
        _ => QueryRequest::Who(Who { asker: ASKER }),
    };
    let requests: Vec<QueryRequest<'_>> = (0..PIPELINED).map(ask).collect();
    progress.repeat(over, |_| {
        let replies = client.check_all(&requests).unwrap_or_else(|error| panic!("a request failed: {error}"));
        assert_eq!(replies.len(), requests.len());
        assert!(replies.iter().all(|reply| matches!(reply, QueryReply::Verdict(verdict) if verdict.is_allowed())));
        1
    });
}

/// Two threads that share one client; each line says how many more were answered.
const PYTHON: &str = r#"
import sys, threading, keyward
auth, over, failed = keyward.Keyward(sys.argv[1], timeout=60), threading.Event(), []
def ask():
    try:
        while not over.is_set():
            for _ in range(5):
                assert auth.check("GET", "/api/v2/me", credential=sys.argv[2])
                assert auth.who(credential=sys.argv[2]).identity.agent_id == 1
            sys.stdout.write("10\n")
            sys.stdout.flush()
    except BaseException as error:
        failed.append(error)
        over.set()
        raise
threads = [threading.Thread(target=ask) for _ in range(2)]
for thread in threads: thread.start()
sys.stdin.read()
over.set()
for thread in threads: thread.join()
sys.exit(bool(failed))
"#;

pub fn python(runtime: &Path, progress: &Progress, over: &AtomicBool) {
    let mut child = Command::new("python3")
        .args(["-B", "-c", PYTHON])
        .arg(runtime.join(QUERY))
        .arg(KEY)
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/proto/clients"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    progress.repeat(over, |_| lines.next().map_or(0, |line| line.unwrap().parse().unwrap()));
    drop(child.stdin.take());
    lines.for_each(drop);
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert!(child.wait().unwrap().success() && words.is_empty(), "a request failed: {words}");
}

/// HTTP on a kept connection, as a careful client: a request that finds its connection ended is sent once more.
pub fn http(place: &Place, progress: &Progress, over: &AtomicBool) {
    let mut kept: Option<Connection> = None;
    progress.repeat(over, |_| {
        let answer = (0..2).find_map(|_| {
            let mut connection = kept.take().unwrap_or_else(|| place.connect());
            connection.send(get("/me", &[&format!("Authorization: {KEY}"), "X-Real-IP: 10.0.0.1"]));
            let answer = connection.answer()?;
            // As HTTP says: what is to be closed is not used again.
            let closes = answer.header("connection").is_some_and(|value| value == "close");
            kept = (!closes).then_some(connection);
            Some(answer)
        });
        let answer = answer.expect("a request failed");
        assert_eq!(answer.status, 200);
        1
    });
}

/// A client of a proxy, which knows nothing of the restarts behind it.
pub fn through_proxy(place: &Place, progress: &Progress, over: &AtomicBool) {
    let mut connection = place.connect();
    progress.repeat(over, |round| {
        // nginx ends a connection of its own accord after so many requests.
        if round % 500 == 499 {
            connection = place.connect();
        }
        assert!(connection.send(get("/api/v2/me", &[&format!("Authorization: {KEY}")])));
        let answer = connection.answer().expect("an answer of the proxy");
        assert_eq!(answer.status, 200, "{answer:?}");
        1
    });
}

/// Adds agents. One whose reply was lost may be there; every acknowledged one must be, and no other.
pub fn changing(home: &Home, progress: &Progress, over: &AtomicBool) {
    let mut client = home.admin();
    client.set_timeout(Some(PATIENCE)).unwrap();
    let agent = AgentPatch {
        name: Some("A".to_owned()),
        permissions: Some(SetText::Text("*".to_owned())),
        ..AgentPatch::default()
    };
    let add = AdminRequest::Add(Patch::Agent(agent));
    let before = agents(home).len();
    let (mut acknowledged, mut unknown) = (Vec::new(), 0);
    progress.repeat(over, |_| {
        match client.call(&add) {
            Ok(AdminReply::Done(done)) => match done.record {
                Some(Record::Agent(agent)) => acknowledged.push(agent.id),
                Some(Record::Endpoint(_) | Record::Credential(_)) | None => panic!("not the agent"),
            },
            Ok(_) => panic!("another reply"),
            Err(ClientError::Closed | ClientError::Io(_)) => unknown += 1,
            Err(error) => panic!("a change failed: {error}"),
        }
        1
    });
    let there = agents(home);
    assert!(acknowledged.iter().all(|id| there.contains(id)), "what was acknowledged is there");
    let surplus = there.len() - before - acknowledged.len();
    assert!(surplus <= unknown, "{surplus} changes were made that nobody acknowledged, {unknown} are unknown");
    // An orderly stop leaves nobody in doubt.
    assert!(unknown <= KILLS, "{unknown} changes without a reply, of {KILLS} kills");
}

fn agents(home: &Home) -> Vec<u64> {
    let listed = home.json(&["agent", "list"]);
    listed.as_array().unwrap().iter().map(|agent| agent["id"].as_u64().unwrap()).collect()
}
