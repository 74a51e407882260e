use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::model::Pepper;

fn store() -> (TempDir, Store, Head) {
    let directory = TempDir::with_prefix("kw").unwrap();
    let (store, loaded) = Store::open(directory.path(), &pepper(), &mut |_| {}).unwrap();
    (directory, store, loaded.head)
}

fn pepper() -> Pepper {
    Pepper::new(Zeroizing::new([7; 32]))
}

fn text(number: u64) -> String {
    format!("{{\"seq\":{number},\"action\":\"set\",\"changes\":[]}}")
}

/// Records of these times, the first ones.
fn with_records(store: &Store, head: &Head, times: impl IntoIterator<Item = u64>) -> Head {
    let mut transaction = store.begin(head).unwrap();
    for at in times {
        let text = text(transaction.audit().last + 1);
        transaction.append_audit(UnixSeconds(at), &text).unwrap();
    }
    transaction.commit(UnixSeconds(1)).unwrap()
}

fn walked(store: &Store) -> AuditCheck {
    let mut check = store.begin_audit_check().unwrap();
    while store.check_audit(&mut check).unwrap() {}
    check
}

fn faults(store: &Store) -> Vec<u64> {
    walked(store).faults.iter().map(|fault| fault.number).collect()
}

/// Puts a row as only who has the pepper can: it proves itself.
fn forge(store: &Store, head: &Head, number: u64, body: &AuditRow<'_>) {
    let transaction = store.begin(head).unwrap();
    let key = audit_key(number);
    let row = store.keys.seal_row(Table::Audit, &key, body);
    drop(
        transaction
            .transaction
            .open_table(Table::Audit.definition())
            .unwrap()
            .insert(key.as_slice(), row.as_slice())
            .unwrap(),
    );
    transaction.transaction.commit().unwrap();
}

fn prev_of(store: &Store, number: u64) -> [u8; 32] {
    let line = store.audit_page(number - 1, UnixSeconds(0)).unwrap().lines.remove(0);
    let digits = line.split("\"prev\":\"").nth(1).unwrap();
    std::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
}

#[test]
fn a_record_that_was_forged_with_the_pepper_breaks_the_chain_behind_it() {
    let (_directory, store, head) = store();
    let head = with_records(&store, &head, [5; 4]);
    assert_eq!(faults(&store), Vec::<u64>::new());
    let forged = "{\"seq\":2,\"action\":\"add\",\"changes\":[]}";
    forge(&store, &head, 2, &(5, prev_of(&store, 2), forged));
    assert_eq!(faults(&store), [3], "the next stands on another");
    forge(&store, &head, 2, &(5, [1; 32], &text(2)));
    assert_eq!(faults(&store), [2, 3]);
    forge(&store, &head, 2, &(5, prev_of(&store, 3), &text(3)));
    assert_eq!(faults(&store)[0], 2);
}

#[test]
fn a_forged_last_record_is_not_the_one_that_the_head_names() {
    let (_directory, store, head) = store();
    let head = with_records(&store, &head, [5; 4]);
    forge(&store, &head, 4, &(5, prev_of(&store, 4), "{\"seq\":4,\"action\":\"add\"}"));
    assert_eq!(faults(&store), [4]);
    let reading = store.begin_read().unwrap();
    assert!(store.audit_damage(&reading, &head.row.audit).unwrap().is_some(), "a start sees it, too");
}

#[test]
fn faults_are_listed_up_to_a_bound_and_counted_beyond() {
    let (_directory, store, head) = store();
    let records = FAULTS_LISTED_MAX as u64 + 50;
    let head = with_records(&store, &head, vec![5; FAULTS_LISTED_MAX + 50]);
    (1..=records).for_each(|number| forge(&store, &head, number, &(5, [1; 32], &text(number))));
    let check = walked(&store);
    // The last one is not the one that the head names, either.
    assert_eq!((check.faults.len(), check.fault_count), (FAULTS_LISTED_MAX, records + 1));
}

#[test]
fn retention_goes_by_age_and_size_and_past_damaged_rows_and_never_takes_the_newest() {
    let (_directory, store, head) = store();
    let mut head = with_records(&store, &head, (1..=10).map(|number| number * 10));
    let mut dropped = |age: u64, bytes: u64, now: u64| {
        let mut transaction = store.begin(&head).unwrap();
        let keep = Retention { age: Duration::from_secs(age), bytes };
        let rows = transaction.drop_old_audit(UnixSeconds(now), &keep).unwrap();
        head = transaction.commit(UnixSeconds(1)).unwrap();
        (rows, walked(&store).first, faults(&store))
    };
    let whole = |rows, first| (rows, first, Vec::new());
    assert_eq!(dropped(u64::MAX, u64::MAX, 5), whole(0, 1), "a time before the first year");
    assert_eq!(dropped(80, u64::MAX, 99), whole(1, 2));
    assert_eq!(dropped(80, u64::MAX, 100), whole(1, 3));
    let row = store.keys.seal_row(Table::Audit, &audit_key(3), &(30_u64, [0_u8; 32], text(3).as_str())).len() as u64;
    // Records 3 to 9 are as long, the tenth has a digit more.
    assert_eq!(dropped(1_000, 8 * row + 1, 100), whole(0, 3));
    assert_eq!(dropped(1_000, 7 * row, 100), whole(2, 5));
    {
        let transaction = store.begin(&head).unwrap();
        let bad = [0; 40];
        let mut rows = transaction.transaction.open_table(Table::Audit.definition()).unwrap();
        drop(rows.insert(audit_key(6).as_slice(), bad.as_slice()).unwrap());
        drop(rows);
        transaction.transaction.commit().unwrap();
    }
    let mut dropped = |age: u64| {
        let mut transaction = store.begin(&head).unwrap();
        let keep = Retention { age: Duration::from_secs(age), bytes: u64::MAX };
        let rows = transaction.drop_old_audit(UnixSeconds(100), &keep).unwrap();
        head = transaction.commit(UnixSeconds(1)).unwrap();
        (rows, walked(&store).first, faults(&store))
    };
    assert_eq!(dropped(50), (1, 6, vec![6]), "a damaged one goes with what is behind it");
    assert_eq!(dropped(30), whole(2, 8));
    assert_eq!(dropped(0), whole(2, 10), "but the newest stays");
    assert_eq!(dropped(0), whole(0, 10));
}
