//! Last uses: the first one promptly, none written by a question, and listings by them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::time::{Duration, Instant, SystemTime};

use keyward_proto::query::{Asker, Reason, Target};
use serde_json::{Value, json};
use support::{Home, wait_until};

const ENDPOINT: Target<'_> = Target::Endpoint { method: b"GET", path: b"/tickets" };

fn code(id: u64) -> String {
    format!("the-code-of-{id}")
}

fn world(ids: impl Iterator<Item = u64>) -> Value {
    let keys: Vec<Value> = ids.map(|id| json!({ "id": id, "code": code(id), "agent": 4 })).collect();
    json!({
        "agents": [{ "id": 4, "name": "Matthew", "permissions": "*" }],
        "endpoints": [{ "method": "GET", "path": "/tickets", "tags": ["tickets.list"] }],
        "keys": keys,
    })
}

fn ask(home: &Home, credential: &str, address: &str) -> Reason {
    let credential = Some(credential.as_bytes());
    let asker = Asker { credential, address: Some(address.as_bytes()), agent: None };
    Reason::from_number(home.query().check(asker, ENDPOINT).unwrap().reason).unwrap()
}

fn written_at(home: &Home) -> SystemTime {
    home.database().metadata().unwrap().modified().unwrap()
}

/// Waits until something else than an order has written, and has come to its end.
fn wait_stored(home: &Home, before: SystemTime) {
    wait_until("the first use is stored", || written_at(home) != before);
    // The writer does one thing after the other.
    home.json(&["agent", "set", "4", "--name", &format!("{before:?}")]);
}

fn address(home: &Home, id: u64) -> Value {
    home.json(&["key", "show", &id.to_string()])["last_used"]["current"]["address"].clone()
}

#[test]
fn a_codes_first_use_is_on_disk_after_a_second_and_a_crash_costs_at_most_the_uses_after_it() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world(3..=4));
    for (id, from) in [(3, "10.0.0.7"), (4, "2001:db8::7")] {
        let before = written_at(&home);
        let asked = Instant::now();
        assert_eq!(ask(&home, &format!("key {id}:{}", code(id)), from), Reason::Ok);
        wait_stored(&home, before);
        assert!(asked.elapsed() < Duration::from_secs(20), "long before the minute is over");
    }
    // The next use is no first one: it waits for the minute.
    let later = now_after(home.json(&["key", "show", "3"])["last_used"]["current"]["at"].as_u64().unwrap());
    assert_eq!(ask(&home, &format!("key 3:{}", code(3)), "10.0.0.8"), Reason::Ok);
    assert_eq!(address(&home, 3), "10.0.0.8", "it is shown at once all the same, at {later}");
    daemon.kill();
    let daemon = home.start();
    assert_eq!([address(&home, 3), address(&home, 4)], [json!("10.0.0.7"), json!("2001:db8::7")]);
    daemon.stop();
}

/// Waits until the clock is past `second`.
fn now_after(second: u64) -> u64 {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    wait_until("the second is over", || now() > second);
    now()
}

#[test]
fn refused_requests_write_nothing_and_are_no_use() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world(3..=5));
    home.json(&["key", "disable", "4"]);
    let before = (written_at(&home), std::fs::read(home.database()).unwrap());
    let mut query = home.query();
    for round in 0..300 {
        for (credential, path, expected) in [
            ("key 3:WRONGWRONGWRONG".to_owned(), "/tickets", Reason::BadCredential),
            (format!("key 4:{}", code(4)), "/tickets", Reason::Disabled),
            (format!("key 3:{}", code(3)), "/nothing", Reason::NoRoute),
        ] {
            let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
            let target = Target::Endpoint { method: b"GET", path: path.as_bytes() };
            let reason = query.check(asker, target).unwrap().reason;
            assert_eq!(reason, expected.number(), "{credential} {path} in round {round}");
        }
    }
    // What is to be stored promptly is; when that has happened, the turn of the others is over.
    assert_eq!(before, (written_at(&home), std::fs::read(home.database()).unwrap()), "no question has written");
    assert_eq!(ask(&home, &format!("key 5:{}", code(5)), "10.0.0.5"), Reason::Ok);
    wait_stored(&home, before.0);
    daemon.kill();
    let daemon = home.start();
    let used = |id: u64| home.json(&["key", "show", &id.to_string()])["last_used"].clone();
    assert_eq!([used(3), used(4)], [Value::Null, Value::Null]);
    assert_eq!(address(&home, 5), "10.0.0.5");
    daemon.stop();
}

#[test]
fn a_burst_of_first_uses_is_stored_to_the_last_at_a_stop() {
    const KEYS: u64 = 3000;
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world(1..=KEYS));
    let mut query = home.query();
    for id in 1..=KEYS {
        let credential = format!("key {id}:{}", code(id));
        let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
        assert!(query.check(asker, ENDPOINT).unwrap().is_allowed());
    }
    daemon.stop();
    let daemon = home.start();
    let listed = home.json(&["key", "list"]);
    assert!(listed.as_array().unwrap().iter().all(|key| key["last_used"]["current"]["at"].is_u64()));
    daemon.stop();
}

fn ids(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|record| record["id"].as_u64().unwrap()).collect()
}

#[test]
fn listings_are_narrowed_to_what_is_unused_or_expires_soon() {
    let home = Home::new();
    let daemon = home.start();
    // More than a page, so that pages come empty.
    home.apply(&world(1..=2500));
    for (id, expires) in [(3, "+13d"), (4, "+15d"), (5, "1000"), (2400, "+1d"), (2401, "+1d")] {
        home.json(&["key", "set", &id.to_string(), "--expires", expires]);
    }
    home.json(&["key", "revoke", "2401"]);
    for id in (1..=2500).filter(|id| ![3, 7, 2400].contains(id)) {
        ask(&home, &format!("key {id}:{}", code(id)), "10.0.0.7");
    }
    for (words, expected) in [
        (&["--expiring-in", "14d"][..], vec![3, 2400]),
        (&["--unused-for", "90d"], vec![3, 5, 7, 2400]),
        (&["--unused-for", "90d", "--expiring-in", "2d"], vec![2400]),
        (&["--expiring-in", "0s"], vec![]),
    ] {
        let words = [&["key", "list"], words].concat();
        assert_eq!(ids(&home.json(&words)), expected, "{words:?}");
        let table = String::from_utf8(home.run(&words).stdout).unwrap();
        assert_eq!(table.lines().count(), expected.len() + 1, "a header and a line each: {table}");
    }
    // A listing by use counts what is not stored yet, and after a while everything is unused again.
    wait_until("a second has passed", || ids(&home.json(&["key", "list", "--unused-for", "1s"])).len() == 2499);

    home.json(&["session", "open", "--agent", "4", "--ttl", "1h"]);
    home.json(&["token", "issue", "x", "--agent", "4"]);
    assert_eq!(ids(&home.json(&["session", "list", "--expiring-in", "2h"])), [1]);
    assert_eq!(ids(&home.json(&["token", "list", "--expiring-in", "2h"])), [] as [u64; 0]);
    assert_eq!(ids(&home.json(&["token", "list", "--unused-for", "2h"])), [1]);
    daemon.stop();
}
