//! A damaged database never answers wrongly: every verdict is right, or `unavailable` with an alarm, or the start is
//! refused. Never an allow that is not due, never a denial of something that is there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use keyward::model::record::{AgentName, Label};
use keyward::model::{
    AgentEdit, Code, CredentialEdit, Edit, EndpointEdit, Id, Method, Mode, Pepper, PresentedCredential, RecordName,
    Template, UnixSeconds, Verdict,
};
use keyward::registry::{Asker, DATABASE_FILE, OpenError, Order, Origin, Refusal, Registry, Target};
use keyward::store::{WATERMARK_FILE, WatermarkError};
use keyward::tags::{Tag, TagSet};
use keyward_proto::query::Reason;
use redb::{Database, ReadableDatabase as _, TableDefinition};
use serde_json::json;
use support::{Dice, Home, say};
use tempfile::TempDir;
use zeroize::Zeroizing;

/// Keys of the world; the tables have several pages then.
const KEYS: u64 = 60;
/// Bits that are flipped wherever something is stored.
const RANDOM_BITS: u64 = 300;
/// The same bits on every run. Of some 15,000 others about one, in redb's own list of freed pages, has redb panic twice
/// during a commit, which ends the process: no wrong verdict, but no test of one either.
const USUAL_SEED: u64 = 151_008_396;
const PAGE_BYTES: usize = 4096;
/// redb's header: what decides which commit is read.
const HEADER_BYTES: usize = 320;
const FLAGS_BYTE: usize = 9;

/// Which of redb's two commits is the last. After a kill in the middle of a commit it rightly names the older one: in the
/// file of a killed daemon the watermark alone tells a flip of this bit from that. After a stop in order both hold the
/// same records.
const WHICH_COMMIT_BIT: usize = FLAGS_BYTE * 8;

fn pepper() -> Pepper {
    Pepper::new(Zeroizing::new([7; 32]))
}

fn open(directory: &Path) -> Result<Registry, OpenError> {
    Registry::open(directory, pepper(), Box::new(|_| {}))
}

fn carry_out(registry: &Registry, order: Order) -> Result<(), Refusal> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(registry.order(order, Origin::Daemon))
        .map(drop)
}

fn order(registry: &Registry, order: Order) {
    if let Err(refusal) = carry_out(registry, order) {
        panic!("{refusal:?}");
    }
}

fn id(id: u64) -> Id {
    Id::new(id).unwrap()
}

fn code(mode: Mode, id: u64) -> String {
    format!("CODE{}{id:020}", mode.index())
}

fn agent(number: u64, permissions: &str, enabled: bool) -> Edit {
    Edit::Agent(AgentEdit {
        id: Some(id(number)),
        name: Some(AgentName::parse(&format!("agent-{number}")).unwrap()),
        permissions: Some(TagSet::parse(permissions).unwrap().into()),
        enabled: Some(enabled),
        attributes: None,
    })
}

fn endpoint(path: &str, tag: &str) -> Edit {
    Edit::Endpoint(EndpointEdit {
        method: Method::parse("GET").unwrap(),
        template: Template::parse(path).unwrap(),
        tags: Some(vec![Tag::parse(tag).unwrap()]),
        modes: None,
    })
}

fn credential(mode: Mode, number: u64) -> CredentialEdit {
    let sets = ["*", "tickets.*", "tickets.*, -*.delete", "*.list"];
    CredentialEdit {
        label: Some(Label::parse(&label(mode, number)).unwrap()),
        code: Some(Code::parse(mode, code(mode, number).as_bytes()).unwrap()),
        agent: Some(id(1 + number % 3)),
        tags: Some(TagSet::parse(sets[usize::try_from(number).unwrap() % sets.len()]).unwrap().into()),
        expires_at: number.is_multiple_of(7).then_some(Some(UnixSeconds(1_000_000))),
        enabled: Some(!number.is_multiple_of(11)),
        ..CredentialEdit::new(mode, Some(id(number)))
    }
}

fn label(mode: Mode, number: u64) -> String {
    format!("label-of-{mode}-{number:04}")
}

/// Agents, endpoints and credentials in every state, written in many commits, so that old pages are in the file.
fn make_world(directory: &Path) -> Registry {
    let registry = open(directory).unwrap();
    for edit in [agent(1, "*", true), agent(2, "tickets.*, -*.delete", true), agent(3, "*", false)] {
        order(&registry, Order::Add(edit));
    }
    for (path, tag) in [("/tickets", "tickets.list"), ("/tickets/{id}", "tickets.delete"), ("/people", "people.list")] {
        order(&registry, Order::Add(endpoint(path, tag)));
    }
    for number in 1..=KEYS {
        order(&registry, Order::Add(Edit::Credential(credential(Mode::Key, number))));
    }
    for number in 1..=5 {
        order(&registry, Order::Add(Edit::Credential(credential(Mode::Token, number))));
        order(&registry, Order::Add(Edit::Credential(credential(Mode::Session, number))));
    }
    for number in (5..=KEYS).step_by(5) {
        order(&registry, Order::Remove(RecordName::Credential(Mode::Key, id(number))));
    }
    registry
}

/// Every question about the world, and what it gets: `ok as 1`, a reason, or `unavailable`.
fn verdicts(registry: &Registry) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let view = registry.view();
    let credentials = (1..=KEYS).map(|n| (Mode::Key, n)).chain((1..=5).map(|n| (Mode::Token, n)));
    for (mode, number) in credentials.chain((1..=5).map(|n| (Mode::Session, n))) {
        let value = format!("{mode} {number}:{}", code(mode, number));
        let asker = Asker { credential: Some(value.as_bytes()), ..Asker::default() };
        for path in ["/tickets", "/tickets/9", "/people"] {
            let verdict = view.check(&asker, &Target::Endpoint { method: b"GET", path: path.as_bytes() });
            all.insert(format!("{mode} {number} {path}"), shown(&verdict));
        }
    }
    all
}

fn shown(verdict: &Verdict<'_>) -> String {
    match verdict {
        Verdict::Allow(terms) => {
            let agent = terms.identity.map(|identity| identity.agent.id);
            format!("ok as {agent:?} on {:?}", terms.route.map(|route| route.template()))
        }
        Verdict::Deny(reason) => format!("{reason:?}"),
        Verdict::Unavailable => "unavailable".into(),
    }
}

/// Writes a database and its watermark.
fn write_state(directory: &Path, bytes: &[u8], watermark: &[u8]) {
    write_private(&directory.join(DATABASE_FILE), bytes);
    write_private(&directory.join(WATERMARK_FILE), watermark);
}

fn write_private(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// In memory where there is such a place: thousands of databases are made, and none must outlive a power loss.
fn quick_directory() -> TempDir {
    TempDir::with_prefix_in("kw", "/dev/shm").unwrap_or_else(|_| TempDir::with_prefix("kw").unwrap())
}

/// What damage came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Harmless,
    Alarm,
    Refused,
    /// Refused as older than the watermark.
    Older,
}

/// Opens a database with these bytes, changes something, and opens it again; fails when any verdict is wrong.
fn judge(bytes: &[u8], files: &Files) -> Result<Outcome, String> {
    let (directory, right) = (quick_directory(), &files.right);
    write_state(directory.path(), bytes, &files.watermark);
    let registry = match open(directory.path()) {
        Ok(registry) => registry,
        Err(OpenError::Damaged(..) | OpenError::NewerFormat { .. } | OpenError::OlderFormat { .. }) => {
            return Ok(Outcome::Refused);
        }
        Err(OpenError::Watermark(WatermarkError::SetBack { .. })) => return Ok(Outcome::Older),
        Err(error) => return Err(format!("refused with: {error}")),
    };
    let outcome = judge_verdicts(&registry, right)?;
    let unrelated = Order::Add(Edit::Credential(credential(Mode::Token, 1_000)));
    let changed = carry_out(&registry, unrelated);
    if let Err(refusal) = &changed
        && format!("{refusal:?}").contains("stopping")
    {
        return Err("the writer is gone".into());
    }
    judge_verdicts(&registry, right).map_err(|why| format!("after a change: {why}"))?;
    drop(registry);
    match open(directory.path()) {
        Ok(registry) => {
            judge_verdicts(&registry, right).map_err(|why| format!("after a restart: {why}"))?;
            if changed.is_ok() {
                let value = format!("token 1000:{}", code(Mode::Token, 1_000));
                let asker = Asker { credential: Some(value.as_bytes()), ..Asker::default() };
                let verdict = shown(&registry.view().check(&asker, &Target::Nobody));
                if verdict == "BadCredential" {
                    return Err("an acknowledged change is gone".into());
                }
            }
        }
        Err(OpenError::Damaged(..)) => {}
        Err(error) => return Err(format!("refused after a restart with: {error}")),
    }
    Ok(outcome)
}

fn judge_verdicts(registry: &Registry, right: &BTreeMap<String, String>) -> Result<Outcome, String> {
    let alarms = registry.summary().alarms;
    let found = verdicts(registry);
    let wrong: Vec<String> = right
        .iter()
        .filter(|(question, right)| found[*question] != **right && found[*question] != "unavailable")
        .map(|(question, right)| format!("{question}: {} instead of {right}", found[question]))
        .collect();
    if !wrong.is_empty() {
        return Err(format!("{} wrong, alarms {alarms:?}: {}", wrong.len(), wrong[0]));
    }
    if found.values().any(|verdict| verdict == "unavailable") && alarms.is_empty() {
        return Err("unavailable, and no alarm".into());
    }
    Ok(if alarms.is_empty() { Outcome::Harmless } else { Outcome::Alarm })
}

/// Flips each of these bits alone.
fn flip_each(what: &str, bytes: &[u8], bits: impl IntoIterator<Item = usize>, files: &Files) -> BTreeMap<Outcome, u32> {
    let mut flipped = bytes.to_vec();
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    for bit in bits {
        flipped[bit / 8] ^= 1 << (bit % 8);
        match judge(&flipped, files) {
            Ok(outcome) => *counts.entry(outcome).or_insert(0) += 1,
            Err(why) => wrong.push(format!("byte {} bit {}: {why}", bit / 8, bit % 8)),
        }
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    say(&format!("flipped bits of {what}: {counts:?}, wrong {}", wrong.len()));
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    assert!(!counts.is_empty(), "no bit of {what} was found");
    counts
}

/// The world's database as a stop in order leaves it, and as a crash does.
struct Files {
    stopped: Vec<u8>,
    crashed: Vec<u8>,
    watermark: Vec<u8>,
    right: BTreeMap<String, String>,
}

fn files() -> Files {
    let directory = TempDir::with_prefix("kw").unwrap();
    let registry = make_world(directory.path());
    // No answer is noted as a use before this: the state of the file is the state of the world.
    let path = directory.path().join(DATABASE_FILE);
    let crashed = std::fs::read(&path).unwrap();
    let right = verdicts(&registry);
    assert!(right.values().any(|verdict| verdict == "ok as Some(1) on Some(\"/people\")"));
    drop(registry);
    let watermark = std::fs::read(directory.path().join(WATERMARK_FILE)).unwrap();
    let files = Files { stopped: std::fs::read(&path).unwrap(), crashed, watermark, right };
    assert_eq!(judge(&files.stopped, &files), Ok(Outcome::Harmless));
    assert_eq!(judge(&files.crashed, &files), Ok(Outcome::Harmless));
    files
}

fn places(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    bytes.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted).map(|(at, _)| at).collect()
}

#[test]
fn a_flipped_bit_anywhere_in_the_file_never_gives_a_wrong_verdict() {
    let files = files();
    let mut dice = Dice::roll_from("bit flips", Some(USUAL_SEED));
    for (what, bytes) in [("a stopped daemon's file", &files.stopped), ("a killed daemon's file", &files.crashed)] {
        let used: Vec<usize> = (0..bytes.len() / PAGE_BYTES)
            .filter(|page| bytes[page * PAGE_BYTES..][..PAGE_BYTES].iter().any(|byte| *byte != 0))
            .collect();
        let bits: Vec<usize> = (0..RANDOM_BITS)
            .map(|_| {
                let page = used[dice.place(used.len())];
                page * PAGE_BYTES * 8 + dice.place(PAGE_BYTES * 8)
            })
            .collect();
        flip_each(what, bytes, bits, &files);
    }
}

#[test]
fn a_flipped_bit_of_the_header_never_brings_an_older_commit_back() {
    let files = files();
    let bits: Vec<usize> =
        (0..HEADER_BYTES * 8).filter(|bit| bit / 8 == FLAGS_BYTE || bit % 8 == bit / 8 % 8).collect();
    assert!(bits.contains(&WHICH_COMMIT_BIT));
    flip_each("a stopped daemon's header", &files.stopped, bits.iter().copied(), &files);
    let outcomes = flip_each("a killed daemon's header", &files.crashed, bits, &files);
    assert_eq!(outcomes.get(&Outcome::Older), Some(&1), "an older commit is found by the watermark");
}

#[test]
fn a_flipped_bit_of_a_row_is_confined_to_what_rests_on_it() {
    let files = files();
    let (mut labels, mut macs, mut hashes, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in [1, 2, 10, 30, KEYS] {
        for at in places(&files.stopped, label(Mode::Key, number).as_bytes()) {
            labels.push((at + 12) * 8 + 1);
            // Version, MAC of 16 bytes, revision and length of 8 bytes each, label.
            macs.extend([at - 33, at - 32, at - 25, at - 17].map(|byte| byte * 8 + 3));
        }
        let value = format!("key {number}:{}", code(Mode::Key, number));
        let presented = PresentedCredential::parse(value.as_bytes()).unwrap();
        let hash = pepper().hash(Mode::Key, number, presented.code);
        hashes.extend(places(&files.stopped, hash.as_bytes()).into_iter().map(|at| (at + 31) * 8 + 7));
    }
    for number in [1_u64, 4, 20, 40] {
        let neighbours = [number.to_be_bytes(), (number + 1).to_be_bytes()].concat();
        for at in places(&files.stopped, &neighbours) {
            keys.extend([at * 8 + 1, (at + 7) * 8, (at + 7) * 8 + 1, (at + 7) * 8 + 5]);
        }
    }
    flip_each("labels", &files.stopped, labels, &files);
    flip_each("MACs", &files.stopped, macs, &files);
    flip_each("hashes", &files.stopped, hashes, &files);
    flip_each("keys of rows", &files.stopped, keys, &files);
}

const TABLE_OF_KEYS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("keys");

/// Reads the row of a key past Keyward.
fn row_of_key(directory: &Path, number: u64) -> Vec<u8> {
    let database = Database::open(directory.join(DATABASE_FILE)).unwrap();
    let rows = database.begin_read().unwrap().open_table(TABLE_OF_KEYS).unwrap();
    let row = rows.get(number.to_be_bytes().as_slice()).unwrap().unwrap();
    row.value().to_vec()
}

/// Puts or removes the row of a key past Keyward.
fn put_row_of_key(directory: &Path, number: u64, row: Option<&[u8]>) {
    let database = Database::open(directory.join(DATABASE_FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut rows = transaction.open_table(TABLE_OF_KEYS).unwrap();
        match row {
            Some(row) => drop(rows.insert(number.to_be_bytes().as_slice(), row).unwrap()),
            None => drop(rows.remove(number.to_be_bytes().as_slice()).unwrap()),
        }
    }
    transaction.commit().unwrap();
}

/// Keys 1 and 2, and token 1, all of agent 1.
fn small_home() -> Home {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&json!({
        "agents": [{ "id": 1, "name": "Admin", "permissions": "*" }],
        "endpoints": [{ "method": "GET", "path": "/x", "tags": ["x.get"] }],
        "keys": [{ "id": 1, "code": "CODEOFKEY1", "agent": 1 }, { "id": 2, "code": "CODEOFKEY2", "agent": 1 }],
        "tokens": [{ "id": 1, "code": "CODEOFTOKEN1", "agent": 1 }],
    }));
    daemon.stop();
    home
}

fn reason(home: &Home, credential: &str) -> Reason {
    let asker = keyward_proto::query::Asker { credential: Some(credential.as_bytes()), ..Default::default() };
    let target = keyward_proto::query::Target::Endpoint { method: b"GET", path: b"/x" };
    Reason::from_number(home.query().check(asker, target).unwrap().reason).unwrap()
}

const BROKEN_KEYS: &str = "table keys does not hold the rows of the last commit: what rests on it is answered \
                           unavailable; restore a backup";

/// Starts on a table of keys that is not the last commit's, and stops again.
fn assert_keys_are_broken(home: &Home) {
    let daemon = home.start();
    for key in ["key 1:CODEOFKEY1", "key 2:CODEOFKEY2", "key 3:UNKNOWNCODE"] {
        assert_eq!(reason(home, key), Reason::Unavailable, "{key}");
    }
    assert_eq!(reason(home, "token 1:CODEOFTOKEN1"), Reason::Ok);
    assert_eq!(home.json(&["status"])["alarms"], json!([BROKEN_KEYS]));
    assert!(home.log_text().contains(BROKEN_KEYS), "{}", home.log_text());
    // No key can be changed, least of all added where one may be missing; tokens can.
    for change in [&["key", "revoke", "1"][..], &["key", "add", "new", "--agent", "1", "--id", "1"]] {
        assert_eq!(home.run(change).status.code(), Some(4), "{change:?}");
    }
    assert!(home.run(&["token", "revoke", "1"]).status.success());
    assert_eq!(reason(home, "token 1:CODEOFTOKEN1"), Reason::Revoked);
    assert_eq!(home.json(&["status"])["writable"], json!(true));
    daemon.stop();
    let daemon = home.start();
    assert_eq!(home.json(&["status"])["alarms"], json!([BROKEN_KEYS]), "a commit must not heal it");
    daemon.stop();
}

#[test]
fn an_old_row_that_is_put_back_breaks_its_table_and_revives_nothing() {
    let home = small_home();
    let before = row_of_key(&home.data(), 1);
    let daemon = home.start();
    assert!(home.run(&["key", "revoke", "1"]).status.success());
    daemon.stop();
    put_row_of_key(&home.data(), 1, Some(&before));
    assert_keys_are_broken(&home);
}

#[test]
fn a_row_that_is_taken_away_breaks_its_table_and_is_not_silently_absent() {
    let home = small_home();
    put_row_of_key(&home.data(), 1, None);
    assert_keys_are_broken(&home);
}

#[test]
fn a_row_that_is_moved_to_another_id_breaks_its_table() {
    let home = small_home();
    let row = row_of_key(&home.data(), 1);
    put_row_of_key(&home.data(), 2, Some(&row));
    assert_keys_are_broken(&home);
}

#[test]
fn damage_to_one_row_is_confined_to_it_and_named_and_its_id_is_not_given_again() {
    let home = small_home();
    let mut row = row_of_key(&home.data(), 1);
    let last = row.len() - 1;
    row[last] ^= 1;
    put_row_of_key(&home.data(), 1, Some(&row));
    let alarm = "damaged rows in table keys: 1; what rests on them is answered unavailable; restore a backup";
    for _ in 0..2 {
        let daemon = home.start();
        assert_eq!(reason(&home, "key 1:CODEOFKEY1"), Reason::Unavailable);
        assert_eq!(reason(&home, "key 2:CODEOFKEY2"), Reason::Ok);
        assert_eq!(home.json(&["status"])["alarms"], json!([alarm]));
        for change in
            [&["key", "show", "1"][..], &["key", "revoke", "1"], &["key", "add", "n", "--agent", "1", "--id", "1"]]
        {
            let output = home.run(change);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(4), "{change:?}: {said}");
            assert!(said.contains("the row 1 of table keys is damaged; restore a backup"), "{change:?}: {said}");
        }
        // What is sound can be changed and is sound after the next start.
        let added = home.json(&["key", "add", "new", "--agent", "1"]);
        assert!(added["id"].as_u64().unwrap() > 2);
        daemon.stop();
    }
}

#[test]
fn an_id_that_a_damaged_row_may_have_had_is_not_given_again() {
    let home = small_home();
    let row = row_of_key(&home.data(), 1);
    // As if a bit of its key had flipped.
    put_row_of_key(&home.data(), 1, None);
    put_row_of_key(&home.data(), 65, Some(&row));
    let _daemon = home.start();
    assert_eq!(reason(&home, "key 1:CODEOFKEY1"), Reason::Unavailable);
    assert_eq!(reason(&home, "key 2:CODEOFKEY2"), Reason::Ok);
    let refused = home.run(&["key", "add", "new", "--agent", "1", "--id", "1"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(home.run(&["key", "add", "new", "--agent", "1"]).status.success());
}
