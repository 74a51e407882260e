//! Whoever alters, removes or moves a record, in the database or in a file of them, is found out.

use super::{AUDIT, assert_whole, home_of_many, records, text, verify, world, write};
use crate::support::Home;
use redb::Database;
use redb::ReadableTable as _;
use serde_json::json;

#[test]
fn any_record_of_a_file_that_is_altered_removed_or_moved_is_found_in_its_line() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    for label in ["a", "b", "c", "d"] {
        assert!(home.run(&["key", "set", "2", "--label", label]).status.success());
    }
    let exported = text(&home.run(&["--json", "audit"]).stdout);
    let lines: Vec<&str> = exported.lines().collect();
    assert_eq!(lines.len(), 5);
    let verdict = assert_whole(&home);
    daemon.stop();
    // Without the daemon from here on.
    let judge = |lines: &[&str]| verify(&home, Some(&write(&home, "audit", &(lines.join("\n") + "\n"))));
    let (status, whole) = judge(&lines);
    assert_eq!((status, &whole), (Some(0), &verdict), "the file says what the daemon says");
    for place in 0..lines.len() {
        let broken_at = |lines: &[&str], line: usize, what: &str| {
            let (status, verdict) = judge(lines);
            let found = (status, &verdict["whole"], &verdict["faults"][0]["line"]);
            assert_eq!(found, (Some(4), &json!(false), &json!(line)), "{what} of line {}: {verdict}", place + 1);
        };
        for (what, from, to) in [
            ("user", "\"uid\":", "\"uid\":9"),
            ("time", "\"at\":1", "\"at\":2"),
            ("word", "\"action\":\"", "\"action\":\"x"),
        ] {
            let mut altered = lines.clone();
            let line = lines[place].replacen(from, to, 1);
            assert_ne!(line, lines[place]);
            altered[place] = &line;
            broken_at(&altered, place + 1, what);
        }
        let mut garbled = lines.clone();
        garbled[place] = "";
        broken_at(&garbled, place + 1, "text");
        if place > 0 {
            let mut moved = lines.clone();
            moved.swap(place - 1, place);
            // What begins with the second line may be an export from there on; the next one tells.
            broken_at(&moved, if place == 1 { 2 } else { place }, "place");
        }
        if (1..lines.len() - 1).contains(&place) {
            let mut removed = lines.clone();
            removed.remove(place);
            broken_at(&removed, place + 1, "removal");
        }
    }
    // What lies before the first line and behind the last is not in the file, and the verdict says so.
    let (status, part) = judge(&lines[1..4]);
    assert_eq!((status, &part["first"], &part["last"]), (Some(0), &json!(2), &json!(4)));
    let cut = &exported[..exported.len() - 20];
    assert_eq!(verify(&home, Some(&write(&home, "cut", cut))).0, Some(4));
    let said = home.run_with_stdin(&["audit", "verify", "-"], exported.as_bytes());
    assert!(said.status.success() && text(&said.stdout).contains("5 records, 1 to 5"), "{}", text(&said.stdout));
    let said =
        home.run_with_stdin(&["audit", "verify", "-"], lines[1..].join("\n").replace("\"b\"", "\"x\"").as_bytes());
    assert_eq!(said.status.code(), Some(4));
    assert!(text(&said.stderr).starts_with("keyward: the audit is broken: line 2: "), "{}", text(&said.stderr));
    for (file, status) in [("empty", 2), ("missing", 2)] {
        if file == "empty" {
            write(&home, file, "");
        }
        assert_eq!(
            home.run(&["audit", "verify", home.path().join(file).to_str().unwrap()]).status.code(),
            Some(status)
        );
    }
}

/// Alters the stopped daemon's rows of the audit.
pub(super) fn alter(home: &Home, alter: impl FnOnce(&mut redb::Table<'_, &[u8], &[u8]>)) {
    let database = Database::open(home.database()).unwrap();
    let transaction = database.begin_write().unwrap();
    alter(&mut transaction.open_table(AUDIT).unwrap());
    transaction.commit().unwrap();
}

fn row(table: &redb::Table<'_, &[u8], &[u8]>, number: u64) -> Vec<u8> {
    table.get(&number.to_be_bytes()[..]).unwrap().unwrap().value().to_vec()
}

fn put(table: &mut redb::Table<'_, &[u8], &[u8]>, number: u64, row: &[u8]) {
    table.insert(&number.to_be_bytes()[..], row).unwrap();
}

fn remove(table: &mut redb::Table<'_, &[u8], &[u8]>, number: u64) {
    table.remove(&number.to_be_bytes()[..]).unwrap();
}

/// What is done to the rows, the numbers that the check names, and whether a start sees it without a check.
type Tampering = (&'static str, fn(&mut redb::Table<'_, &[u8], &[u8]>), &'static [u64], bool);

const TAMPERINGS: &[Tampering] = &[
    (
        "a bit of a row",
        |table| {
            let mut row = row(table, 1_200);
            let place = row.len() - 30;
            row[place] ^= 1;
            put(table, 1_200, &row);
        },
        &[1_200],
        false,
    ),
    ("a row is taken away", |table| remove(table, 1_000), &[1_000], true),
    ("the oldest is taken away", |table| remove(table, 1), &[1], true),
    ("the last is taken away", |table| remove(table, 2_500), &[2_500], true),
    (
        "two are exchanged",
        |table| {
            let (one, other) = (row(table, 7), row(table, 1_001));
            put(table, 7, &other);
            put(table, 1_001, &one);
        },
        &[7, 1_001],
        false,
    ),
    (
        "one is put in the place of another",
        |table| {
            let other = row(table, 8);
            put(table, 9, &other);
        },
        &[9],
        false,
    ),
    (
        "one is put behind the last",
        |table| {
            let other = row(table, 2_500);
            put(table, 2_501, &other);
        },
        &[2_501],
        true,
    ),
    ("a row that is none", |table| drop(table.insert(&b"x"[..], &b"y"[..]).unwrap()), &[], true),
    (
        "all are gone",
        |table| {
            (1..=2_500).for_each(|number| remove(table, number));
        },
        &[1],
        true,
    ),
];

#[test]
fn rows_that_are_altered_removed_or_moved_in_the_database_are_named() {
    let (home, _) = home_of_many();
    let aside = home.path().join("aside");
    std::fs::copy(home.database(), &aside).unwrap();
    for (what, tamper, numbers, seen_at_start) in TAMPERINGS {
        std::fs::copy(&aside, home.database()).unwrap();
        // It would tell that this is not the last state, which is not what is looked at here.
        std::fs::remove_file(home.data().join("watermark")).unwrap();
        alter(&home, tamper);
        let doctor = home.run(&["doctor", "--json", "--data", home.data().to_str().unwrap()]);
        assert_eq!(doctor.status.code(), Some(4), "{what}: doctor walks along the chain");
        let daemon = home.start();
        let (status, verdict) = verify(&home, None);
        if numbers.is_empty() {
            assert!(home.json(&["status"])["alarms"].to_string().contains("audit"), "{what}");
        } else {
            assert_eq!((status, &verdict["whole"]), (Some(4), &json!(false)), "{what}: {verdict}");
            let named: Vec<u64> =
                verdict["faults"].as_array().unwrap().iter().map(|fault| fault["seq"].as_u64().unwrap()).collect();
            assert_eq!(named, *numbers, "{what}: {verdict}");
        }
        let alarms = home.json(&["status"])["alarms"].as_array().unwrap().len();
        assert_eq!(alarms, usize::from(*seen_at_start), "{what}: whether a start sees it");
        // Nothing else rests on it: changes go on, and their records with them.
        assert!(home.run(&["key", "disable", "2"]).status.success(), "{what}");
        daemon.stop();
    }
}

#[test]
fn a_damaged_record_does_not_hide_those_around_it() {
    let (home, count) = home_of_many();
    alter(&home, TAMPERINGS[0].1);
    let _daemon = home.start();
    let output = home.run(&["--json", "audit"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(4), 1_199));
    assert!(text(&output.stderr).contains("1200"), "{}", text(&output.stderr));
    assert_eq!(records(&home, &["--after", "1200"]).len() as u64, count - 1_200);
    let newest = records(&home, &["--after", "2499"])[0]["at"].clone();
    let since = records(&home, &["--after", "1200", "--since", &newest.to_string()]);
    assert!(!since.is_empty() && since.iter().all(|record| record["at"] == newest));
}
