//! The database as the registry uses it: commits, pages, ids, sets, uses, and what damage is confined to.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use keyward::model::record::{AgentName, Attributes, Label};
use keyward::model::{
    Agent, AgentEdit, Binding, Change, CodeHash, CodeMark, Codes, Credential, CredentialEdit, Edit, Id, Kind, LastUse,
    LastUses, Mode, Pepper, Record, RecordKey, Revision, UnixSeconds,
};
use keyward::registry::{Order, Origin, Registry, Stage};
use keyward::store::{DATABASE_FILE, Head, Loaded, Store, StoreFault};
use keyward::tags::TagSet;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tempfile::TempDir;
use zeroize::Zeroizing;

const NOW: UnixSeconds = UnixSeconds(1_000);

fn directory() -> TempDir {
    TempDir::with_prefix("kw").unwrap()
}

fn pepper() -> Pepper {
    Pepper::new(Zeroizing::new([7; 32]))
}

/// Opens it and returns every record that was read.
fn open(directory: &Path) -> (Store, Loaded, Vec<Record>) {
    let mut records = Vec::new();
    let (store, loaded) = Store::open(directory, &pepper(), &mut |stretch| records.extend_from_slice(stretch)).unwrap();
    (store, loaded, records)
}

fn id(id: u64) -> Id {
    Id::new(id).unwrap()
}

fn set(text: &str) -> Arc<TagSet> {
    Arc::new(TagSet::parse(text).unwrap())
}

fn agent(number: u64, permissions: &str) -> Record {
    Record::Agent(Agent {
        id: id(number),
        name: AgentName::parse(&format!("agent {number}")).unwrap(),
        permissions: set(permissions),
        enabled: true,
        removed: false,
        attributes: Attributes::default(),
    })
}

fn key(number: u64, tags: &str) -> Record {
    Record::Credential(Credential {
        mode: Mode::Key,
        id: id(number),
        label: Label::parse(&format!("key {number}")).unwrap(),
        binding: Binding::Agent(id(1)),
        tags: set(tags),
        codes: Codes { current: CodeHash::from_bytes([9; 32]), retiring: None },
        enabled: true,
        revoked: false,
        not_before: None,
        expires_at: None,
        allow_ip: None,
        rate: None,
        parent: None,
        foreign: None,
        app_id: None,
    })
}

fn change(records: Vec<Record>) -> Change {
    Change { records, ..Change::default() }
}

fn commit(store: &Store, head: &Head, records: Vec<Record>) -> Head {
    let mut transaction = store.begin(head).unwrap();
    transaction.put(&change(records)).unwrap();
    transaction.commit(NOW).unwrap()
}

/// Makes a database with these records.
fn made(records: Vec<Record>) -> TempDir {
    let directory = directory();
    let (store, loaded, _) = open(directory.path());
    commit(&store, &loaded.head, records);
    directory
}

fn names(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.key().to_string()).collect()
}

#[test]
fn what_was_committed_is_there_after_opening_again_and_nothing_else() {
    let directory = made(vec![agent(1, "*"), key(5, "*")]);
    let (store, loaded, _) = open(directory.path());
    let mut abandoned = store.begin(&loaded.head).unwrap();
    abandoned.put(&change(vec![key(6, "*")])).unwrap();
    drop(abandoned);
    drop(store);
    let (store, loaded, records) = open(directory.path());
    assert_eq!(names(&records), ["agent 1", "key 5"]);
    assert_eq!((loaded.head.revision(), loaded.head.committed_at()), (Revision(1), NOW));
    assert_eq!(loaded.head.rows(Kind::Credential(Mode::Key)), 1);
    assert!(loaded.damage.is_empty());
    assert!(store.read(&RecordKey::Credential(Mode::Key, id(5))).unwrap().is_some());
    assert!(store.read(&RecordKey::Credential(Mode::Token, id(5))).unwrap().is_none());
}

#[test]
fn the_time_of_a_commit_never_goes_back() {
    let directory = made(vec![agent(1, "*")]);
    let (store, loaded, _) = open(directory.path());
    let mut transaction = store.begin(&loaded.head).unwrap();
    transaction.put(&change(vec![key(5, "*")])).unwrap();
    assert_eq!(transaction.commit(UnixSeconds(3)).unwrap().committed_at(), NOW);
}

#[test]
fn a_change_that_rests_on_another_revision_is_refused_and_leaves_nothing() {
    let directory = made(vec![agent(1, "*"), key(5, "*")]);
    let (store, loaded, _) = open(directory.path());
    let five = RecordKey::Credential(Mode::Key, id(5));
    let six = RecordKey::Credential(Mode::Key, id(6));
    let table = [
        (five.clone(), Revision(1), true),
        (five.clone(), Revision(0), false),
        (five, Revision(2), false),
        (six.clone(), Revision(0), true),
        (six, Revision(1), false),
    ];
    for (expected, revision, fits) in table {
        let mut transaction = store.begin(&loaded.head).unwrap();
        let change = change(vec![key(7, "seven")]);
        let change = Change { expected: vec![(expected.clone(), revision)], ..change };
        match transaction.put(&change) {
            Ok(_) => assert!(fits, "{expected} {revision:?}"),
            Err(StoreFault::Conflict(conflict)) => {
                assert!(!fits && conflict == expected, "{expected} {revision:?}");
                let head = transaction.commit(NOW).unwrap();
                assert_eq!(head.revision(), loaded.head.revision());
            }
            Err(fault) => panic!("{fault}"),
        }
    }
    drop(store);
    let (_, loaded, records) = open(directory.path());
    assert_eq!(names(&records), ["agent 1", "key 5"]);
    assert!(loaded.damage.is_empty() && loaded.unused_sets.is_empty());
}

#[test]
fn a_set_that_nobody_uses_is_found_and_dropped_and_put_back_when_it_is_used_again() {
    let directory = made(vec![agent(1, "*"), key(5, "old.*")]);
    let (store, loaded, _) = open(directory.path());
    commit(&store, &loaded.head, vec![key(5, "new.*")]);
    drop(store);
    let (store, loaded, _) = open(directory.path());
    assert_eq!(loaded.unused_sets, [set("old.*")]);
    // Dropped and taken up again in one transaction.
    let mut transaction = store.begin(&loaded.head).unwrap();
    transaction.drop_sets(&loaded.unused_sets).unwrap();
    transaction.put(&change(vec![key(6, "old.*")])).unwrap();
    let head = transaction.commit(NOW).unwrap();
    let mut transaction = store.begin(&head).unwrap();
    transaction.put(&change(vec![key(6, "new.*")])).unwrap();
    transaction.drop_sets(&[set("old.*")]).unwrap();
    transaction.commit(NOW).unwrap();
    drop(store);
    let (_, loaded, records) = open(directory.path());
    assert_eq!(names(&records), ["agent 1", "key 5", "key 6"]);
    assert!(loaded.unused_sets.is_empty() && loaded.damage.is_empty(), "{:?}", loaded.damage);
}

#[test]
fn pages_follow_each_other_without_a_gap_or_an_overlap() {
    let directory = made((1..=10).map(|number| key(number * 300, "*")).chain([agent(1, "*")]).collect());
    let (store, _, _) = open(directory.path());
    for limit in [1, 3, 5, 9, 10, 11] {
        let (mut found, mut after, mut pages) = (Vec::new(), Vec::new(), 0);
        loop {
            let page = store.page(Kind::Credential(Mode::Key), &after, limit).unwrap();
            assert!(page.records.len() <= limit);
            found.extend(page.records.iter().map(|listed| listed.record.id().unwrap().get()));
            pages += 1;
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(found, (1..=10).map(|number| number * 300).collect::<Vec<_>>());
        assert_eq!(pages, 10_usize.div_ceil(limit), "no empty page at the end");
    }
}

#[test]
fn the_highest_id_of_each_kind_is_remembered_whatever_came_last() {
    let directory = made(vec![agent(3, "*"), key(500, "*")]);
    let (store, loaded, _) = open(directory.path());
    commit(&store, &loaded.head, vec![key(20, "*")]);
    drop(store);
    let (store, loaded, _) = open(directory.path());
    let transaction = store.begin(&loaded.head).unwrap();
    let highest = [
        (Kind::Agent, 3),
        (Kind::Credential(Mode::Key), 500),
        (Kind::Credential(Mode::Token), 0),
        (Kind::Credential(Mode::Session), 0),
        (Kind::Endpoint, 0),
    ];
    for (kind, expected) in highest {
        assert_eq!(transaction.highest_id(kind), expected, "{kind:?}");
    }
}

/// Of the code whose mark is this byte.
fn used(code: u8, at: u64) -> LastUse {
    let code = CodeMark::from_bytes([code; 8]);
    LastUse { code, at: UnixSeconds(at), address: "10.1.2.3".parse().ok() }
}

fn put_uses(store: &Store, head: &Head, uses: &[LastUse]) -> Head {
    let mut noted = LastUses::default();
    uses.iter().for_each(|used| noted.note(*used));
    let mut transaction = store.begin(head).unwrap();
    transaction.put_uses([(Mode::Key, id(5), noted)]).unwrap();
    transaction.commit(NOW).unwrap()
}

fn uses_of_key_5(store: &Store) -> Vec<LastUse> {
    store.read(&RecordKey::Credential(Mode::Key, id(5))).unwrap().unwrap().uses.iter().collect()
}

#[test]
fn uses_of_one_code_leave_those_of_the_other_as_they_were() {
    let directory = made(vec![agent(1, "*"), key(5, "*")]);
    let (store, loaded, _) = open(directory.path());
    let head = put_uses(&store, &loaded.head, &[used(1, 10)]);
    let head = put_uses(&store, &head, &[used(2, 20)]);
    put_uses(&store, &head, &[used(1, 30)]);
    assert_eq!(uses_of_key_5(&store), [used(1, 30), used(2, 20)]);
    drop(store);
    let (store, loaded, _) = open(directory.path());
    assert_eq!(uses_of_key_5(&store), [used(1, 30), used(2, 20)]);
    assert!(loaded.damage.is_empty());
}

type Bytes = &'static [u8];

/// Alters rows of a table past Keyward: `alter` is given each row and its place.
fn alter_rows(directory: &Path, table: &str, alter: impl Fn(usize, &mut Vec<u8>)) {
    let database = Database::open(directory.join(DATABASE_FILE)).unwrap();
    let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(table);
    let rows: Vec<(Vec<u8>, Vec<u8>)> = {
        let reading = database.begin_read().unwrap().open_table(definition).unwrap();
        let entries = reading.iter().unwrap().map(Result::unwrap);
        entries.map(|(key, row)| (key.value().to_vec(), row.value().to_vec())).collect()
    };
    let transaction = database.begin_write().unwrap();
    for (index, (key, mut row)) in rows.into_iter().enumerate() {
        alter(index, &mut row);
        transaction.open_table(definition).unwrap().insert(key.as_slice(), row.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn damage_that_bad_rows_explain_is_confined_to_them_and_stays_so() {
    // Version byte, MAC, body.
    for (what, byte) in [("version", 0), ("MAC", 1), ("end of the MAC", 16), ("body", 17), ("body", 40)] {
        let directory = made((1..=20).map(|number| key(number, "*")).chain([agent(1, "*")]).collect());
        alter_rows(directory.path(), "keys", |index, row| {
            if index == 3 || index == 7 {
                row[byte] ^= 4;
            }
        });
        for round in 0..3 {
            let (store, loaded, records) = open(directory.path());
            let [damage] = loaded.damage.as_slice() else {
                panic!("{what}: {:?}", loaded.damage);
            };
            assert!(!damage.broken && damage.bad_rows == ["4", "8"], "{what}, round {round}: {damage}");
            assert_eq!(records.len(), 19 + round, "{what}");
            let bad = store.read(&RecordKey::Credential(Mode::Key, id(4)));
            assert!(matches!(bad, Err(StoreFault::BadRow { .. })), "{what}");
            // Sound rows of the table can still be written.
            commit(&store, &loaded.head, vec![key(100 + round as u64, "*"), key(5, "other.*")]);
        }
    }
}

#[test]
fn what_many_threads_read_together_is_judged_as_one_table() {
    const KEYS: u64 = 20_000;
    let directory = made((1..=KEYS).map(|number| key(number, "*")).chain([agent(1, "*")]).collect());
    let (store, loaded, records) = open(directory.path());
    let read: BTreeSet<u64> = records.iter().filter_map(Record::id).map(Id::get).collect();
    assert!(read.iter().copied().eq(1..=KEYS) && records.len() as u64 == KEYS + 1);
    assert!(loaded.damage.is_empty());
    drop(store);
    let sound = std::fs::read(directory.path().join(DATABASE_FILE)).unwrap();
    let eight: [usize; 8] = std::array::from_fn(|n| n * 2_500);
    for (which, broken) in [(&eight[..], false), (&[0, 1, 2, 3, 4, 5, 6, 7, 19_999][..], true)] {
        std::fs::write(directory.path().join(DATABASE_FILE), &sound).unwrap();
        alter_rows(directory.path(), "keys", |index, row| row[30] ^= u8::from(which.contains(&index)));
        let (_, loaded, records) = open(directory.path());
        let [damage] = loaded.damage.as_slice() else { panic!("{:?}", loaded.damage) };
        let named: Vec<String> = which.iter().take(8).map(|index| (index + 1).to_string()).collect();
        assert!(damage.broken == broken && damage.bad_rows == named, "{damage:?}");
        assert_eq!(records.len(), usize::try_from(KEYS).unwrap() + 1 - which.len());
    }
}

#[test]
fn damage_that_bad_rows_do_not_explain_breaks_the_table() {
    let directory = made((1..=20).map(|number| key(number, "*")).chain([agent(1, "*")]).collect());
    let sound = std::fs::read(directory.path().join(DATABASE_FILE)).unwrap();
    type Alter = fn(usize, &mut Vec<u8>);
    let table: [(&str, Alter); 4] = [
        ("MAC and body of one row", |index, row| {
            if index == 3 {
                row[5] ^= 1;
                row[30] ^= 1;
            }
        }),
        ("nothing left of a row", |index, row| {
            if index == 3 {
                row.clear();
            }
        }),
        ("more rows than are worked out", |index, row| {
            if index < 9 {
                row[30] ^= 1;
            }
        }),
        ("all rows", |_, row| row[30] ^= 1),
    ];
    for (what, alter) in table {
        std::fs::write(directory.path().join(DATABASE_FILE), &sound).unwrap();
        alter_rows(directory.path(), "keys", alter);
        for _ in 0..2 {
            let (store, loaded, _) = open(directory.path());
            assert!(loaded.damage.len() == 1 && loaded.damage[0].broken, "{what}: {:?}", loaded.damage);
            let mut transaction = store.begin(&loaded.head).unwrap();
            let refused = transaction.put(&change(vec![key(1, "*")]));
            assert!(matches!(refused, Err(StoreFault::BrokenTable(_))), "{what}");
            drop(transaction);
            // Other tables can be written, which must not heal this one.
            commit(&store, &loaded.head, vec![agent(2, "*")]);
        }
    }
}

#[test]
fn a_damaged_set_is_whole_again_when_it_is_used_again() {
    for byte in [1, 20] {
        let directory = made(vec![agent(1, "*"), key(5, "tickets.*")]);
        alter_rows(directory.path(), "tag_sets", |_, row| row[byte] ^= 1);
        let (store, loaded, _) = open(directory.path());
        assert!(loaded.damage.iter().all(|damage| !damage.broken), "{:?}", loaded.damage);
        assert_eq!(loaded.damage.len(), 3, "the sets, and what names them: {:?}", loaded.damage);
        commit(&store, &loaded.head, vec![agent(2, "*"), key(6, "tickets.*")]);
        drop(store);
        let (_, loaded, records) = open(directory.path());
        assert!(loaded.damage.is_empty(), "byte {byte}: {:?}", loaded.damage);
        assert_eq!(names(&records), ["agent 1", "agent 2", "key 5", "key 6"]);
    }
}

#[test]
fn damaged_uses_hinder_nothing_and_get_no_worse() {
    type Alter = fn(usize, &mut Vec<u8>);
    let table: [(&str, bool, Alter); 3] = [
        ("MAC", false, |_, row| row[1] ^= 1),
        ("body", false, |_, row| row[20] ^= 1),
        ("both", true, |_, row| {
            row[1] ^= 1;
            row[20] ^= 1;
        }),
    ];
    for (what, broken, alter) in table {
        let directory = made(vec![agent(1, "*"), key(5, "*")]);
        let (store, loaded, _) = open(directory.path());
        put_uses(&store, &loaded.head, &[used(1, 10)]);
        drop(store);
        alter_rows(directory.path(), "uses", alter);
        for _ in 0..2 {
            let (store, loaded, _) = open(directory.path());
            assert!(loaded.damage.len() == 1 && loaded.damage[0].broken == broken, "{what}: {:?}", loaded.damage);
            put_uses(&store, &loaded.head, &[used(1, 30)]);
            assert_eq!(uses_of_key_5(&store), [], "{what}");
        }
    }
}

fn agent_order(number: u64) -> Order {
    Order::Add(Edit::Agent(AgentEdit {
        id: Some(id(number)),
        name: AgentName::parse("an agent").ok(),
        permissions: TagSet::parse("*").ok().map(Arc::new),
        ..AgentEdit::default()
    }))
}

fn set_tags(number: u64, tags: &str) -> Order {
    let edit = CredentialEdit::new(Mode::Key, Some(id(number)));
    Order::Set(Edit::Credential(CredentialEdit { tags: TagSet::parse(tags).ok().map(Arc::new), ..edit }))
}

#[test]
fn changes_of_one_group_are_shown_in_their_order_and_a_set_that_one_leaves_and_the_next_takes_up_is_kept() {
    let directory = made(vec![agent(1, "*"), key(5, "old.*"), key(6, "other.*")]);
    let (entered, entries) = sync_channel(1);
    let (go_on, gate) = sync_channel::<()>(1);
    let gate = Mutex::new((gate, true));
    // Holds the writer in its first commit, so that the orders behind it make one group.
    let observer = move |stage| {
        let mut gate = gate.lock().unwrap();
        if stage == Stage::Committed && std::mem::take(&mut gate.1) {
            entered.send(()).unwrap();
            gate.0.recv().unwrap();
        }
    };
    let registry = Registry::open(directory.path(), pepper(), Box::new(observer)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        // Polled in this order.
        let (first, (), leaves, again, takes_up, ()) = tokio::join!(
            registry.order(agent_order(2), Origin::Daemon),
            async { entries.recv().unwrap() },
            registry.order(set_tags(5, "new.*"), Origin::Daemon),
            registry.order(set_tags(5, "newer.*"), Origin::Daemon),
            registry.order(set_tags(6, "old.*"), Origin::Daemon),
            async { go_on.send(()).unwrap() },
        );
        assert!(first.is_ok() && leaves.is_ok() && again.is_ok() && takes_up.is_ok());
        // `*`, `newer.*` and `old.*`.
        assert_eq!(registry.summary().counts.tag_sets, 3);
        // Drops the sets that nobody uses.
        assert!(registry.order(agent_order(3), Origin::Daemon).await.is_ok());
    });
    assert_eq!(registry.summary().revision, Revision(6));
    drop(registry);
    let (_, loaded, records) = open(directory.path());
    assert!(loaded.damage.is_empty(), "{:?}", loaded.damage);
    assert_eq!(names(&records), ["agent 1", "agent 2", "agent 3", "key 5", "key 6"]);
}
