//! What is too old or too much is dropped, and the rest can still be verified.

use super::tampering::alter;
use super::{AUDIT, assert_whole, records, verify, world};
use crate::support::{Home, wait_until};
use keyward::model::RecordName;
use keyward::registry::{Registry, Retention};
use redb::Database;
use redb::ReadableTable as _;
use serde_json::{Value, json};
use std::time::Duration;

fn audit_bytes(home: &Home) -> u64 {
    let database = Database::open(home.database()).unwrap();
    let transaction = redb::ReadableDatabase::begin_read(&database).unwrap();
    let table = transaction.open_table(AUDIT).unwrap();
    table.iter().unwrap().map(|row| row.unwrap().1.value().len() as u64).sum()
}

#[test]
fn retention_by_size_drops_the_oldest_and_leaves_the_rest_verifiable() {
    let home = Home::in_memory();
    let daemon = home.start();
    home.apply(&world());
    let keys = |label: &str| -> Value {
        let key = |id| json!({"id": id, "label": format!("{label} {id}"), "code": format!("CODE{id:021}"), "agent": 1});
        json!({ "keys": (100..2_600).map(key).collect::<Vec<Value>>() })
    };
    for round in 0..6 {
        home.apply(&keys(&format!("{round} {}", "x".repeat(200))));
    }
    let (all, whole) = (records(&home, &[]), assert_whole(&home));
    daemon.stop();
    let before = audit_bytes(&home);
    assert!(before > 3 * 1024 * 1024, "{before}");
    let config = home.config("[audit]\nmax_mib = 1\n");
    let daemon = home.start_with(|command| {
        command.arg("--config").arg(config);
    });
    wait_until("the oldest records are dropped", || {
        let verdict = assert_whole(&home);
        verdict["first"] != json!(1) && verdict["records"].as_u64().unwrap() <= 40
    });
    let verdict = assert_whole(&home);
    assert_eq!((&verdict["last"], &verdict["hash"]), (&whole["last"], &whole["hash"]), "the end is as it was");
    let kept = records(&home, &[]);
    assert_eq!(kept[..], all[all.len() - kept.len()..], "what is kept is as it was");
    assert_eq!(verdict["first"], kept[0]["seq"]);
    // The oldest of those that are kept can't be taken away unseen either.
    assert!(home.run(&["key", "disable", "2"]).status.success());
    daemon.stop();
    assert!(audit_bytes(&home) <= 1024 * 1024 + 1024, "{}", audit_bytes(&home));
    alter(&home, |table| {
        let first = table.first().unwrap().unwrap().0.value().to_vec();
        table.remove(first.as_slice()).unwrap();
    });
    let daemon = home.start();
    assert_eq!(verify(&home, None).0, Some(4));
    daemon.stop();
}

fn last_verdict(registry: &Registry) -> (u64, u64, u64) {
    let mut check = registry.begin_audit_check().unwrap();
    while registry.check_audit(&mut check).unwrap() {}
    (check.first, check.last, check.fault_count)
}

#[test]
fn retention_by_age_drops_all_but_the_newest_record() {
    let home = Home::in_memory();
    let registry = home.registry(&world());
    // One record is written: the newest, which stays however old.
    registry.set_retention(Retention { age: Duration::ZERO, bytes: u64::MAX });
    let order = |enabled| {
        let id = keyward::model::Id::new(2).unwrap();
        let edit = keyward::model::CredentialEdit {
            enabled: Some(enabled),
            ..keyward::model::CredentialEdit::new(keyward::model::Mode::Key, Some(id))
        };
        keyward::registry::Order::Set(keyward::model::Edit::Credential(edit))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for turn in 0..20 {
        runtime.block_on(registry.order(order(turn % 2 == 1), keyward::registry::Origin::Daemon)).ok().unwrap();
    }
    assert_eq!(last_verdict(&registry).1, 21);
    registry.set_retention(Retention { age: Duration::ZERO, bytes: u64::MAX });
    wait_until("all but the newest are dropped", || last_verdict(&registry) == (21, 21, 0));
    registry.set_retention(Retention { age: Duration::from_secs(3600), bytes: u64::MAX });
    runtime.block_on(registry.order(order(false), keyward::registry::Origin::Daemon)).ok().unwrap();
    assert_eq!(last_verdict(&registry), (21, 22, 0));
}

#[test]
fn by_a_clock_that_may_be_wrong_no_audit_record_is_too_old_and_some_may_be_too_many() {
    const DAY: u64 = 86_400;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let day = Duration::from_secs(DAY);
    for (last_commit, keep, dropped) in [
        (now - 5 * DAY, Retention { age: Duration::ZERO, bytes: u64::MAX }, true),
        (now - 40 * DAY, Retention { age: Duration::ZERO, bytes: u64::MAX }, false),
        (now - 40 * DAY, Retention { age: Duration::ZERO, bytes: 0 }, true),
        (now + 40 * DAY, Retention { age: day, bytes: u64::MAX }, false),
        (now + 40 * DAY, Retention { age: day, bytes: 0 }, true),
    ] {
        let home = Home::in_memory();
        let registry = home.registry(&world());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let id = |id| keyward::model::Id::new(id).unwrap();
        let remove = |registry: &Registry, name| {
            let order = keyward::registry::Order::Remove(name);
            runtime.block_on(registry.order(order, keyward::registry::Origin::Daemon)).ok().unwrap();
        };
        remove(&registry, RecordName::Agent(id(4)));
        drop(registry);
        home.set_last_commit(last_commit);
        let registry = home.open_registry();
        registry.set_retention(keep);
        // Behind it the old ones are dropped.
        remove(&registry, RecordName::Credential(keyward::model::Mode::Key, id(2)));
        let (first, last, faults) = last_verdict(&registry);
        assert_eq!((first > 1, last, faults), (dropped, 3, 0), "{last_commit} {keep:?}");
    }
}
