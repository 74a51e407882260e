//! Sessions and tokens as a backend uses them: opened, closed together, and removed long after they have expired.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keyward::model::{Id, UnixSeconds};
use keyward::registry::{Order, Origin, Registry, Sweep};
use keyward_proto::admin::{
    AdminReply, AdminRequest, CloseAll, CredentialPatch, Done, Kind, List, Patch, Record, RefusalKind, Selector,
    StatusReport,
};
use keyward_proto::client::AdminClient;
use keyward_proto::query::{Asker, Check, Mode, QueryReply, QueryRequest, Reason, Target};
use serde_json::{Value, json};
use support::{Daemon, Dice, Home, has_program, say, wait_until};

/// Long ago.
const PAST: u64 = 1_000_000;
/// Far enough that no test sees it pass.
const LATER: u64 = 4_000_000_000;
const CODE: &str = "SESSIONCODE12";

/// A daemon that removes what expired at once.
fn start_sweeping(home: &Home) -> Daemon<'_> {
    let config = home.config("keep_expired = '0s'\n");
    home.start_with(|command| {
        command.arg("--config").arg(config);
    })
}

fn world() -> Value {
    json!({
        "agents": [{ "id": 1, "name": "Ada", "permissions": "*" }, { "id": 4, "name": "Eve", "permissions": "*" }],
        "endpoints": [{ "method": "GET", "path": "/x", "tags": ["x.get"] }],
        "keys": [{ "id": 2, "code": CODE, "agent": 1 }],
    })
}

fn credential(id: u64, rest: Value) -> Value {
    let mut all = json!({ "id": id, "code": CODE, "agent": 1 });
    all.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    all
}

fn reasons(home: &Home, mode: &str, ids: impl IntoIterator<Item = u64>) -> Vec<&'static str> {
    let credentials: Vec<String> = ids.into_iter().map(|id| format!("{mode} {id}:{CODE}")).collect();
    let questions: Vec<QueryRequest<'_>> = credentials
        .iter()
        .map(|credential| {
            QueryRequest::Check(Check {
                asker: Asker { credential: Some(credential.as_bytes()), ..Asker::default() },
                target: Target::Endpoint { method: b"GET", path: b"/x" },
            })
        })
        .collect();
    let replies = home.query().check_all(&questions).unwrap();
    let name = |reply| match reply {
        QueryReply::Verdict(verdict) => Reason::from_number(verdict.reason).unwrap().name(),
        QueryReply::Batch(_) | QueryReply::Error(_) => panic!("no verdict"),
    };
    replies.into_iter().map(name).collect()
}

fn reason(home: &Home, mode: &str, id: u64) -> &'static str {
    reasons(home, mode, [id])[0]
}

fn status(home: &Home) -> StatusReport {
    let AdminReply::Status(status) = home.admin().call(&AdminRequest::Status).unwrap() else { panic!("no status") };
    status
}

fn records(admin: &mut AdminClient, kind: Kind) -> BTreeMap<u64, String> {
    let (mut found, mut after) = (BTreeMap::new(), Vec::new());
    loop {
        let AdminReply::Page(page) = admin.call(&AdminRequest::List(List::all(kind, after))).unwrap() else {
            panic!("no page")
        };
        found.extend(page.records.into_iter().map(|record| match record {
            Record::Credential(record) => (record.id, record.state),
            Record::Agent(_) | Record::Endpoint(_) => panic!("no credential"),
        }));
        match page.next {
            Some(next) => after = next,
            None => return found,
        }
    }
}

/// What a file in the JSON form is refused with.
fn refused_apply(home: &Home, file: &Value) -> String {
    let path = home.path().join("refused.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let output = home.run(&["apply", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{file}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_expired_stays_for_its_keeping_and_says_so() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    home.apply(&json!({ "sessions": [credential(7, json!({ "expires_at": PAST }))] }));
    assert_eq!(reason(&home, "session", 7), "expired");
    daemon.stop();
    let daemon = home.start();
    assert_eq!(reason(&home, "session", 7), "expired", "a start changes nothing");
    daemon.stop();
    let daemon = start_sweeping(&home);
    wait_until("it is removed", || reason(&home, "session", 7) == "bad_credential");
    daemon.stop();
}

#[test]
fn expired_tokens_and_sessions_go_for_good_and_keys_and_all_else_stays() {
    let home = Home::new();
    let daemon = start_sweeping(&home);
    home.apply(&world());
    home.apply(&json!({
        "keys": [credential(3, json!({ "expires_at": PAST })), credential(4, json!({ "expires_at": PAST, "revoked": true }))],
        "sessions": [
            credential(7, json!({ "expires_at": PAST, "tags": "rare.*" })),
            credential(8, json!({ "expires_at": LATER })),
            credential(9, json!({})),
            credential(10, json!({ "revoked": true })),
            credential(11, json!({ "revoked": true, "expires_at": PAST })),
            credential(12, json!({ "revoked": true, "expires_at": LATER })),
        ],
        "tokens": [
            credential(18, json!({ "expires_at": PAST, "parent": "key 2" })),
            // What it was made from goes, and it with that.
            credential(19, json!({ "expires_at": LATER, "parent": "session 7" })),
            credential(20, json!({ "expires_at": LATER, "parent": "key 3" })),
            credential(1 << 40, json!({ "expires_at": PAST })),
        ],
    }));
    wait_until("all that are to go are gone", || status(&home).sessions + status(&home).tokens == 5);
    let left = |kind| records(&mut home.admin(), kind).into_iter().collect::<Vec<_>>();
    let named = |all: &[(u64, &str)]| all.iter().map(|(id, state)| (*id, (*state).to_string())).collect::<Vec<_>>();
    let check = || {
        assert_eq!(left(Kind::Key), named(&[(2, "enabled"), (3, "expired"), (4, "revoked")]));
        assert_eq!(left(Kind::Session), named(&[(8, "enabled"), (9, "enabled"), (10, "revoked"), (12, "revoked")]));
        assert_eq!(left(Kind::Token), named(&[(20, "expired")]));
        let expected = ["bad_credential", "ok", "ok", "revoked", "bad_credential", "revoked"];
        assert_eq!(reasons(&home, "session", 7..13), expected);
        assert_eq!(
            reasons(&home, "token", [18, 19, 20, 1 << 40]),
            ["bad_credential", "bad_credential", "expired", "bad_credential"]
        );
        assert_eq!(status(&home).alarms, Vec::<String>::new());
        assert_eq!(home.run(&["session", "show", "7"]).status.code(), Some(2));
        assert_eq!(home.run(&["session", "close", "7"]).status.code(), Some(2));
    };
    check();
    assert_eq!(status(&home).tag_sets, 1, "a set that nobody uses any more is gone");
    daemon.stop();
    let daemon = start_sweeping(&home);
    check();
    daemon.stop();
}

#[test]
fn by_a_clock_that_may_be_wrong_nothing_is_removed() {
    const DAY: u64 = 86_400;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (last_commit, expires_at, waits, alarm) in [
        (now - 5 * DAY, now - 6 * DAY, None, None),
        (now - 40 * DAY, now - 6 * DAY, Some("clock went"), Some("the system's clock went")),
        // By the time of decisions it has expired.
        (now + 40 * DAY, now + DAY, Some("clock stands behind"), Some("the system's clock stands")),
    ] {
        let home = Home::new();
        let daemon = home.start();
        home.apply(&world());
        home.apply(&json!({ "sessions": [credential(7, json!({ "expires_at": expires_at }))] }));
        daemon.stop();
        home.set_last_commit(last_commit);
        let daemon = start_sweeping(&home);
        match waits {
            None => wait_until("it is removed", || reason(&home, "session", 7) == "bad_credential"),
            Some(words) => {
                // A round that removes nothing is seen by nothing else.
                let began = Instant::now();
                wait_until("two rounds were due", || began.elapsed() > Duration::from_millis(2500));
                let log = home.log_text();
                let said = |line: &&str| line.contains(words) && line.contains("nothing is deleted for its age");
                assert_eq!(log.lines().filter(said).count(), 1, "{log}");
            }
        }
        let alarms = status(&home).alarms;
        assert_eq!(alarms.len(), usize::from(alarm.is_some()), "{alarms:?}");
        assert!(alarms.iter().all(|found| found.starts_with(alarm.unwrap())), "{alarms:?}");
        // A stop waits for what was ordered.
        daemon.stop();
        let daemon = home.start();
        assert_eq!(status(&home).sessions, u64::from(waits.is_some()), "{last_commit}");
        daemon.stop();
    }
}

#[test]
fn ids_of_what_was_removed_are_never_used_again() {
    let home = Home::new();
    let daemon = start_sweeping(&home);
    home.apply(&world());
    let expired = |id| credential(id, json!({ "expires_at": PAST }));
    home.apply(&json!({ "sessions": [expired(7), expired(20), credential(30, json!({}))] }));
    wait_until("both are removed", || status(&home).sessions == 1);
    let daemon = [daemon].map(|daemon| {
        daemon.stop();
        start_sweeping(&home)
    });
    for id in [7, 8, 20] {
        let said = refused_apply(&home, &json!({ "sessions": [credential(21, json!({})), credential(id, json!({}))] }));
        assert!(said.contains("sessions[1]") && said.contains("no id is used again"), "{said}");
        let patch =
            Patch::Credential(CredentialPatch { agent: Some(1), ..CredentialPatch::new(Mode::Session, Some(id)) });
        for request in [AdminRequest::Add(patch.clone()), AdminRequest::Set(patch)] {
            let AdminReply::Refused(refused) = home.admin().call(&request).unwrap() else { panic!("session {id}") };
            assert_eq!(refused.kind, RefusalKind::Invalid);
        }
    }
    // Ids above were never used, and other modes count by themselves.
    home.apply(&json!({ "sessions": [credential(21, json!({}))], "tokens": [credential(7, json!({}))] }));
    let opened = home.json(&["session", "open", "--agent", "1", "--ttl", "8h"]);
    assert_eq!(opened["id"], 31);
    daemon.into_iter().for_each(Daemon::stop);
}

#[test]
fn an_export_that_lists_what_was_removed_since_is_taken_and_changes_nothing() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    home.apply(&json!({
        "sessions": [
            credential(7, json!({ "expires_at": PAST })),
            credential(9, json!({ "expires_at": PAST, "revoked": true })),
            credential(30, json!({})),
        ],
        "tokens": [
            credential(18, json!({ "expires_at": PAST, "parent": "key 2" })),
            credential(19, json!({ "expires_at": LATER, "parent": "session 7" })),
        ],
    }));
    let exported = home.path().join("world.json");
    let exported = exported.to_str().unwrap();
    assert!(home.run(&["export", "--with-hashes", "--out", exported]).status.success());
    daemon.stop();
    let daemon = start_sweeping(&home);
    wait_until("all are removed", || (status(&home).sessions, status(&home).tokens) == (1, 0));
    let revision = status(&home).revision;
    for command in [&["apply", exported][..], &["apply", exported, "--prune"], &["apply", exported, "--dry-run"]] {
        let report = home.json(command);
        for part in ["added", "changed", "removed"] {
            assert_eq!(report[part], json!([]), "{command:?}");
        }
    }
    let session = |id, expires_at| {
        let rest = CredentialPatch::new(Mode::Session, Some(id));
        Patch::Credential(CredentialPatch { agent: Some(1), expires_at: Some(Some(expires_at)), ..rest })
    };
    let (mut unchanged, mut refused) = (0, Vec::new());
    let told = home.admin().import([session(7, PAST), session(8, LATER)], false, |part| {
        unchanged += part.imported.unchanged;
        refused.extend(part.imported.refusals.iter().map(|refusal| refusal.message.clone()));
    });
    assert!(told.is_ok() && unchanged == 1 && refused.len() == 1, "{unchanged} {refused:?}");
    assert!(refused[0].contains("no id is used again"), "{refused:?}");
    assert_eq!(status(&home).revision, revision);
    // What would be in force is none of those.
    for (section, listed) in [
        ("sessions", credential(7, json!({ "expires_at": LATER }))),
        ("sessions", credential(8, json!({}))),
        ("tokens", credential(18, json!({ "parent": "key 2" }))),
        ("tokens", credential(19, json!({ "parent": "session 30" }))),
    ] {
        let said = refused_apply(&home, &json!({ section: [listed] }));
        assert!(said.contains("no id is used again"), "{said}");
    }
    daemon.stop();
}

#[test]
fn what_is_removed_takes_its_last_uses_along_and_a_later_round_of_uses_brings_nothing_back() {
    let home = Home::new();
    let daemon = start_sweeping(&home);
    home.apply(&world());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let file = json!({ "sessions": [credential(7, json!({ "expires_at": now + 8 }))] });
    home.apply(&file);
    // From an address that isn't kept in the table of words.
    let asked = home.run(&["check", "--credential", &format!("session 7:{CODE}"), "--ip", "2001:db8::1", "GET", "/x"]);
    assert!(asked.status.success());
    wait_until("it is removed", || reason(&home, "session", 7) == "bad_credential");
    // A stop stores what waits of the uses.
    daemon.stop();
    let daemon = home.start();
    assert_eq!((status(&home).alarms, status(&home).sessions), (Vec::new(), 0));
    daemon.stop();
    let database = redb::Database::open(home.database()).unwrap();
    let reading = redb::ReadableDatabase::begin_read(&database).unwrap();
    let uses = reading.open_table(redb::TableDefinition::<&[u8], &[u8]>::new("uses")).unwrap();
    assert_eq!(redb::ReadableTableMetadata::len(&uses).unwrap(), 0);
}

/// Orders the removal of these; who is left then, in the order of the modes.
fn left_after(registry: &Registry, named: &[(keyward::model::Mode, u64)], until: u64) -> Vec<String> {
    let name = |(mode, id): &(keyward::model::Mode, u64)| (*mode, Id::new(*id).unwrap());
    let sweep = Sweep { credentials: named.iter().map(name).collect(), until: UnixSeconds(until) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(registry.order(Order::Sweep(sweep), Origin::Daemon)).map(drop).unwrap();
    let kinds = keyward::model::Mode::ALL.map(keyward::model::Kind::Credential);
    let pages = kinds.map(|kind| registry.page(kind, b"", 100).unwrap());
    pages.iter().flat_map(|page| page.records.iter().map(|listed| listed.record.name().to_string())).collect()
}

#[test]
fn what_was_found_expired_is_judged_once_more_by_its_row_before_it_goes() {
    use keyward::model::Mode::{Key, Session, Token};
    let home = Home::new();
    let mut world = world();
    world["keys"] = json!([credential(2, json!({ "expires_at": 100 }))]);
    world["sessions"] = json!([
        credential(1, json!({ "expires_at": 100 })),
        credential(2, json!({ "expires_at": 200 })),
        credential(3, json!({})),
    ]);
    world["tokens"] =
        json!([credential(1, json!({ "parent": "session 2" })), credential(2, json!({ "parent": "key 2" }))]);
    let registry = home.registry(&world);
    let all = [(Key, 2), (Session, 1), (Session, 2), (Session, 3), (Session, 99), (Token, 1), (Token, 2), (Session, 1)];
    let everything = ["key 2", "token 1", "token 2", "session 1", "session 2", "session 3"];
    assert_eq!(left_after(&registry, &all, 99), everything);
    assert_eq!(left_after(&registry, &[], 1000), everything);
    assert_eq!(left_after(&registry, &all, 100), ["key 2", "token 1", "token 2", "session 2", "session 3"]);
    assert_eq!(left_after(&registry, &all, 199), ["key 2", "token 1", "token 2", "session 2", "session 3"]);
    // With its parent goes a token, also when the parent goes first.
    assert_eq!(left_after(&registry, &all[2..3], 200), ["key 2", "token 1", "token 2", "session 3"]);
    assert_eq!(left_after(&registry, &all, 0), ["key 2", "token 2", "session 3"]);
    assert_eq!(registry.summary().counts.sessions, 1);
}

#[test]
fn where_rows_are_damaged_nothing_is_removed_and_the_rest_is_swept() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let expired = |id| credential(id, json!({ "expires_at": PAST }));
    home.apply(&json!({ "sessions": [expired(7), expired(8)], "tokens": [expired(18)] }));
    daemon.stop();
    {
        let database = redb::Database::open(home.database()).unwrap();
        let writing = database.begin_write().unwrap();
        {
            let mut rows = writing.open_table(redb::TableDefinition::<&[u8], &[u8]>::new("sessions")).unwrap();
            let key = 8_u64.to_be_bytes();
            let mut row = redb::ReadableTable::get(&rows, key.as_slice()).unwrap().unwrap().value().to_vec();
            *row.last_mut().unwrap() ^= 1;
            rows.insert(key.as_slice(), row.as_slice()).unwrap();
        }
        writing.commit().unwrap();
    }
    let daemon = start_sweeping(&home);
    wait_until("a round is over", || home.log_text().contains("expired long ago were removed"));
    assert_eq!((status(&home).tokens, status(&home).sessions), (0, 2));
    assert_eq!(reasons(&home, "session", [7, 8]), ["expired", "unavailable"]);
    assert_eq!(status(&home).alarms.len(), 1);
    daemon.stop();
}

#[test]
fn after_a_kill_in_the_midst_of_a_sweep_the_tables_are_whole_and_the_sweep_goes_on() {
    const SESSIONS: u64 = 6000;
    let home = Home::in_memory();
    let daemon = home.start();
    home.apply(&world());
    let sessions: Vec<Value> = (1..=SESSIONS)
        .map(|id| {
            let lives = id.is_multiple_of(10);
            credential(
                id,
                json!({ "expires_at": if lives { LATER } else { PAST }, "tags": format!("s{}, x.*", id % 7) }),
            )
        })
        .collect();
    home.apply(&json!({ "sessions": sessions }));
    daemon.stop();
    let mut dice = Dice::roll("kills in a sweep");
    let mut kills = 0;
    let mut left = SESSIONS;
    while left > SESSIONS / 10 {
        let daemon = start_sweeping(&home);
        let report = status(&home);
        assert!(report.alarms.is_empty() && report.sessions <= left, "{report:?}");
        left = report.sessions;
        // The round begins a second after the start.
        let aim = left.saturating_sub(1 + dice.below(1200)).max(SESSIONS / 10);
        wait_until("some are gone", || status(&home).sessions <= aim);
        daemon.kill();
        kills += 1;
    }
    say(&format!("{kills} kills"));
    assert!(kills > 2, "the sweep was over too soon to be hit");
    let daemon = home.start();
    let report = status(&home);
    assert_eq!((report.alarms, report.sessions, report.tag_sets), (Vec::new(), SESSIONS / 10, 8));
    let live = reasons(&home, "session", 1..=SESSIONS);
    assert!(live.iter().zip(1_u64..).all(|(reason, id)| (*reason == "ok") == id.is_multiple_of(10)));
    daemon.stop();
}

#[test]
fn all_sessions_of_an_agent_are_closed_together_and_nobody_elses() {
    let home = Home::in_memory();
    let daemon = home.start();
    home.apply(&world());
    let mine = |id: u64| id.is_multiple_of(2);
    let all: Vec<Value> =
        (1..=5000).map(|id| credential(id, json!({ "agent": if mine(id) { 4 } else { 1 } }))).collect();
    home.apply(&json!({ "sessions": all, "tokens": [credential(1, json!({ "agent": 4 })), credential(2, json!({ "agent": 4 }))] }));
    let printed = home.run(&["session", "close", "--agent", "4"]);
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), "closed: 2500 sessions of agent 4\n");
    let found = reasons(&home, "session", 1..=5000);
    assert!(found.iter().zip(1..).all(|(reason, id)| *reason == if mine(id) { "revoked" } else { "ok" }));
    assert_eq!(reason(&home, "token", 1), "ok");
    let again = home.json(&["session", "close", "--agent", "4"]);
    assert_eq!(again["removed"], json!([]));
    let tokens = home.json(&["token", "revoke", "--agent", "4"]);
    assert_eq!(tokens["removed"], json!([{ "kind": "token", "id": 1 }, { "kind": "token", "id": 2 }]));
    for (words, why) in [
        (&["session", "close", "--agent", "77"][..], "there is no agent 77"),
        (&["session", "close"], "required"),
        (&["session", "close", "7", "--agent", "4"], "cannot be used with"),
    ] {
        let output = home.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(why), "{words:?}: {said}");
    }
    for (mode, agent) in [(Mode::Key, 4), (Mode::Session, 0), (Mode::Session, u64::MAX)] {
        let reply = home.admin().call(&AdminRequest::CloseAll(CloseAll { mode, agent })).unwrap();
        assert!(matches!(reply, AdminReply::Refused(refused) if refused.kind == RefusalKind::Invalid));
    }
    daemon.stop();
    let daemon = home.start();
    assert_eq!(reasons(&home, "session", [2, 3]), ["revoked", "ok"]);
    daemon.stop();
}

fn open(admin: &mut AdminClient) -> u64 {
    let patch =
        CredentialPatch { agent: Some(4), expires_at: Some(Some(LATER)), ..CredentialPatch::new(Mode::Session, None) };
    let reply = admin.call(&AdminRequest::Add(Patch::Credential(patch))).unwrap();
    let AdminReply::Done(Done { record: Some(Record::Credential(record)), .. }) = reply else { panic!("not opened") };
    record.id
}

#[test]
fn a_session_that_is_opened_while_all_are_closed_is_closed_or_was_opened_after() {
    let home = Home::in_memory();
    let daemon = home.start();
    home.apply(&world());
    let (over, opened) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut admin = home.admin();
                while !over.load(Ordering::SeqCst) {
                    opened.fetch_max(open(&mut admin), Ordering::SeqCst);
                }
            });
        }
        let mut admin = home.admin();
        // Enough of both kinds, however slow the host.
        for round in 0.. {
            if opened.load(Ordering::SeqCst) > 200 && round > 10 {
                break;
            }
            let known = opened.load(Ordering::SeqCst);
            let close = AdminRequest::CloseAll(CloseAll { mode: Mode::Session, agent: 4 });
            let AdminReply::Report(report) = admin.call(&close).unwrap() else { panic!("no report") };
            assert!(report.removed.iter().all(|name| matches!(name, Selector::Credential(Mode::Session, _))));
            let states = records(&mut admin, Kind::Session);
            // Up to one of them all are closed, and none behind it: those that were opened before are in front.
            let first_open = states.iter().find(|(_, state)| *state == "enabled").map_or(u64::MAX, |(id, _)| *id);
            assert!(first_open > known, "round {round}: {first_open} was opened before, as {known} was");
            assert!(states.range(first_open..).all(|(_, state)| state == "enabled"), "round {round}");
        }
        over.store(true, Ordering::SeqCst);
    });
    say(&format!("{} sessions were opened meanwhile", opened.load(Ordering::SeqCst)));
    daemon.stop();
}

#[test]
fn a_backend_in_python_opens_and_closes_sessions() {
    if !has_program("python3") {
        return support::skipped("there is no python3 here");
    }
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let run = |words: &[&str]| {
        let client = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/clients/keyward_admin.py");
        let socket = home.runtime().join("admin.sock");
        let output = Command::new("python3").args(["-B", client]).arg(socket).args(words).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap().trim_end().to_owned(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, cookie, said) = run(&["open", "4", "28800"]);
    assert_eq!(code, Some(0), "{said}");
    let who = |cookie: &str| home.run(&["check", "--credential", &format!("session {cookie}")]).status.code();
    assert_eq!(who(&cookie), Some(0), "{cookie}");
    let (id, _) = cookie.split_once(':').unwrap();
    assert_eq!(run(&["close", id]), (Some(0), "closed".into(), String::new()));
    assert_eq!(who(&cookie), Some(1));
    let cookies = [run(&["open", "4", "60"]).1, run(&["open", "4", "60"]).1, run(&["open", "1", "60"]).1];
    assert_eq!(run(&["close-all", "4"]), (Some(0), "2".into(), String::new()));
    assert_eq!(cookies.each_ref().map(|cookie| who(cookie)), [Some(1), Some(1), Some(0)]);
    let (code, _, said) = run(&["open", "77", "60"]);
    assert!(code == Some(1) && said.contains("there is no such agent"), "{said}");
    daemon.stop();
}
