//! The audit: every change leaves its record in its own transaction, and whoever alters the records is found out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod following;
mod retention;
#[path = "../support/mod.rs"]
mod support;
mod tampering;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use keyward_proto::admin::{AdminReply, AdminRequest, AuditVerdict, CredentialPatch, Patch, Secret, Selector, SetText};
use keyward_proto::client::{AdminClient, ClientError};
use keyward_proto::query::Mode;
use nix::unistd::{Uid, User, getgid, getuid};
use redb::TableDefinition;
use serde_json::{Value, json};
use support::{Dice, Home};

const AUDIT: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("audit");
/// Kills of one daemon that is written to.
const KILLS: u64 = 12;
const MODES: [Mode; 3] = [Mode::Key, Mode::Token, Mode::Session];

fn records(home: &Home, words: &[&str]) -> Vec<Value> {
    let output = home.run(&[&["--json", "audit"], words].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn world() -> Value {
    json!({
        "agents": [{ "id": 1, "name": "Admin", "permissions": "*" },
                   { "id": 4, "name": "Matthew", "permissions": "tickets.*" }],
        "endpoints": [{ "method": "GET", "path": "/x", "tags": ["x.get"] }],
        "keys": [{ "id": 2, "label": "first", "code": "CODEOFKEY2", "agent": 1 }],
    })
}

fn write(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// `keyward audit verify`, with a file or without.
fn verify(home: &Home, file: Option<&Path>) -> (Option<i32>, Value) {
    let words = ["--json", "audit", "verify"].into_iter().chain(file.map(|file| file.to_str().unwrap()));
    let output = home.run(&words.collect::<Vec<_>>());
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| json!(text(&output.stderr))))
}

fn assert_whole(home: &Home) -> Value {
    let (status, verdict) = verify(home, None);
    assert_eq!((status, &verdict["whole"], &verdict["faults"]), (Some(0), &json!(true), &json!([])), "{verdict}");
    verdict
}

fn file_of(home: &Home, name: &str, value: &Value) -> String {
    write(home, name, &value.to_string()).to_str().unwrap().to_owned()
}

/// A command, the action that its record names, and the changes; null where they hold a time.
type Case<'w> = (Vec<&'w str>, &'static str, Value);

fn of_agents_and_endpoints() -> Vec<Case<'static>> {
    vec![
        (
            vec!["agent", "add", "New", "--permissions", "a.*", "--attribute", "k=v"],
            "add",
            json!([{"kind": "agent", "id": 5, "from": null,
                "to": {"name": "New", "permissions": "a.*", "enabled": true, "attributes": {"k": "v"}}}]),
        ),
        (
            vec!["agent", "set", "5", "--permissions", "b.*", "--attribute", "none"],
            "set",
            json!([{"kind": "agent", "id": 5, "from": {"permissions": "a.*", "attributes": {"k": "v"}},
                "to": {"permissions": "b.*", "attributes": {}}}]),
        ),
        (
            vec!["agent", "disable", "5"],
            "set",
            json!([{"kind": "agent", "id": 5, "from": {"enabled": true}, "to": {"enabled": false}}]),
        ),
        (
            vec!["agent", "remove", "5"],
            "remove",
            json!([{"kind": "agent", "id": 5,
                "from": {"name": "New", "permissions": "b.*", "enabled": false, "attributes": {}}, "to": null}]),
        ),
        (
            vec!["endpoint", "add", "POST", "/y/{id}", "--tags", "y.post", "--modes", "key"],
            "add",
            json!([{"kind": "endpoint", "id": "POST /y/{id}", "from": null,
                "to": {"path": "/y/{id}", "tags": ["y.post"], "modes": ["key"]}}]),
        ),
        (
            vec!["endpoint", "remove", "POST", "/y/{name}"],
            "remove",
            json!([{"kind": "endpoint", "id": "POST /y/{id}",
                "from": {"path": "/y/{id}", "tags": ["y.post"], "modes": ["key"]}, "to": null}]),
        ),
    ]
}

fn of_credentials<'w>(more: &'w str, pruned: &'w str) -> Vec<Case<'w>> {
    vec![
        (
            vec!["key", "add", "bound", "--agent", "4", "--expires", "1893456000", "--allow-ip", "10.0.0.0/8"],
            "add",
            json!([{"kind": "key", "id": 3, "from": null, "to": {"label": "bound", "superuser": false, "agent": 4,
                "tags": "*", "enabled": true, "revoked": false, "expires_at": 1_893_456_000,
                "allow_ip": ["10.0.0.0/8"]}}]),
        ),
        (
            vec!["key", "set", "3", "--expires", "never", "--superuser", "--default-agent", "1", "--label", "l"],
            "set",
            json!([{"kind": "key", "id": 3,
                "from": {"label": "bound", "superuser": false, "agent": 4, "default_agent": null,
                    "expires_at": 1_893_456_000},
                "to": {"label": "l", "superuser": true, "agent": null, "default_agent": 1, "expires_at": null}}]),
        ),
        (
            vec!["key", "revoke", "3"],
            "remove",
            json!([{"kind": "key", "id": 3, "from": {"revoked": false}, "to": {"revoked": true}}]),
        ),
        (
            vec!["token", "issue", "t", "--agent", "4", "--app", "9"],
            "add",
            json!([{"kind": "token", "id": 1, "from": null, "to": {"label": "t", "superuser": false, "agent": 4,
                "app_id": 9, "tags": "*", "enabled": true, "revoked": false}}]),
        ),
        (
            vec!["apply", more],
            "apply",
            json!([{"kind": "key", "id": 2, "from": {"label": "first", "code": "(hidden)"},
                "to": {"label": "b", "code": "(hidden)"}}]),
        ),
        (vec!["session", "open", "--agent", "4", "--ttl", "1h"], "add", Value::Null),
        (
            vec!["apply", pruned, "--prune"],
            "apply",
            json!([{"kind": "session", "id": 1, "from": {"revoked": false}, "to": {"revoked": true}}]),
        ),
    ]
}

#[test]
fn every_kind_of_change_leaves_one_record_that_says_who_what_before_and_after() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let more = file_of(&home, "more.json", &json!({"keys": [{"id": 2, "label": "b", "code": "ANOTHERCODE"}]}));
    let pruned = file_of(&home, "pruned.json", &json!({"sessions": []}));
    let cases = of_agents_and_endpoints().into_iter().chain(of_credentials(&more, &pruned));
    let mut seen = records(&home, &[]).len();
    assert_eq!(seen, 1, "the world was one apply");
    for (words, action, changes) in cases {
        let before = now();
        assert!(home.run(&words).status.success(), "{words:?}");
        let all = records(&home, &[]);
        assert_eq!(all.len(), seen + 1, "{words:?} leaves one record");
        seen += 1;
        let record = &all[seen - 1];
        assert_eq!(record["seq"], json!(seen), "{words:?}");
        assert_eq!(record["revision"], json!(seen), "{words:?}: each was a revision of its own");
        assert!((before..=now()).contains(&record["at"].as_u64().unwrap()), "{words:?}");
        assert_eq!((&record["uid"], &record["gid"]), (&json!(getuid().as_raw()), &json!(getgid().as_raw())));
        assert!(record["pid"].as_u64().is_some_and(|pid| pid > 0), "{words:?}");
        assert_eq!((&record["action"], &record["part"], &record["more"]), (&json!(action), &json!(1), &json!(false)));
        if !changes.is_null() {
            assert_eq!(record["changes"], changes, "{words:?}");
        }
    }
    assert_whole(&home);
    daemon.stop();
    let daemon = home.start();
    assert_eq!(records(&home, &[]).len(), seen, "a restart changes nothing");
    assert_whole(&home);
    daemon.stop();
}

fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[test]
fn a_record_names_the_process_that_connected() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let patch = CredentialPatch { enabled: Some(false), ..CredentialPatch::new(Mode::Key, Some(2)) };
    assert!(matches!(home.admin().call(&AdminRequest::Set(Patch::Credential(patch))), Ok(AdminReply::Done(_))));
    assert_eq!(records(&home, &[])[1]["pid"], json!(std::process::id()));
}

#[test]
fn what_is_refused_or_changes_nothing_or_is_only_tried_leaves_no_record() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    assert!(home.run(&["key", "revoke", "2"]).status.success());
    let dry = file_of(&home, "dry.json", &json!({"agents": [{"id": 9, "name": "New", "permissions": "*"}]}));
    let dangling = file_of(&home, "dangling.json", &json!({"keys": [{"id": 9, "code": "CODEOFKEY9", "agent": 99}]}));
    let same = file_of(&home, "same.json", &json!({"agents": [{"id": 1, "name": "Admin", "permissions": "*"}]}));
    for (words, status) in [
        (&["key", "revoke", "2"][..], 0),
        (&["apply", &same], 0),
        (&["apply", &dry, "--dry-run"], 0),
        (&["agent", "set", "1", "--name", "Admin"], 0),
        (&["key", "enable", "2"], 2),
        (&["key", "add", "x", "--agent", "99"], 2),
        (&["agent", "add", "x", "--permissions", "*", "--id", "1"], 2),
        (&["agent", "remove", "77"], 2),
        (&["apply", &dangling], 2),
        (&["check", "--credential", "key 2:CODEOFKEY2"], 1),
        (&["key", "show", "2"], 0),
    ] {
        assert_eq!(home.run(words).status.code(), Some(status), "{words:?}");
        assert_eq!(records(&home, &[]).len(), 2, "{words:?}");
    }
    let imported = import(&mut home.admin(), [credential(Mode::Key, 50)], true);
    assert_eq!((imported, records(&home, &[]).len()), (1, 2), "an import that is only tried");
}

fn credential(mode: Mode, id: u64) -> Patch {
    Patch::Credential(CredentialPatch {
        label: Some(format!("label {id}")),
        code: Some(Secret::new(format!("CODE{id:021}").into_bytes())),
        agent: Some(1),
        ..CredentialPatch::new(mode, Some(id))
    })
}

fn import(admin: &mut AdminClient, patches: impl IntoIterator<Item = Patch>, dry_run: bool) -> u64 {
    let mut added = 0;
    admin.import(patches, dry_run, |part| added += part.imported.added).unwrap();
    added
}

#[test]
fn a_long_change_is_split_into_numbered_records_and_nothing_of_it_is_lost() {
    const KEYS: u64 = 3_000;
    let home = Home::in_memory();
    let _daemon = home.start();
    home.apply(&world());
    let keys: Vec<Value> = (100..100 + KEYS)
        .map(|id| json!({"id": id, "label": format!("label {id}"), "code": format!("CODE{id:021}"), "agent": 1}))
        .collect();
    home.apply(&json!({ "keys": keys }));
    let parts = records(&home, &["--after", "1"]);
    assert!(parts.len() > 5, "{}", parts.len());
    let mut ids = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        assert_eq!((&part["revision"], &part["part"]), (&json!(2), &json!(place + 1)));
        assert_eq!(part["more"], json!(place + 1 < parts.len()));
        assert!(part.to_string().len() < 40_000);
        ids.extend(part["changes"].as_array().unwrap().iter().map(|change| change["id"].as_u64().unwrap()));
    }
    assert_eq!(ids, (100..100 + KEYS).collect::<Vec<_>>());
    // One change that is longer than a part is one part.
    let attributes = |filling: char| -> Value {
        (0..32).map(|number| (format!("name {number}"), json!(filling.to_string().repeat(1024)))).collect()
    };
    for filling in ['\u{1}', '\u{2}'] {
        home.apply(&json!({"agents": [{"id": 1, "attributes": attributes(filling)}]}));
    }
    let last = parts.last().unwrap()["seq"].to_string();
    let long = records(&home, &["--after", &last]);
    assert_eq!((long.len(), &long[1]["more"]), (2, &json!(false)));
    assert_eq!(long[1]["changes"][0]["from"]["attributes"], attributes('\u{1}'));
    assert_eq!(long[1]["changes"][0]["to"]["attributes"], attributes('\u{2}'));
    // An import tells less of what is new, and as much of what is changed.
    let odd = CredentialPatch {
        superuser: Some(true),
        agent: None,
        default_agent: Some(Some(1)),
        tags: Some(SetText::Text("a.*".into())),
        enabled: Some(false),
        label: Some("other".into()),
        code: Some(Secret::new(b"CODEOFANODDONE".to_vec())),
        ..CredentialPatch::new(Mode::Key, Some(9_001))
    };
    let last = long[1]["seq"].to_string();
    let relabelled = CredentialPatch { label: Some("z".into()), ..CredentialPatch::new(Mode::Key, Some(100)) };
    let patches = [credential(Mode::Token, 9), Patch::Credential(odd), Patch::Credential(relabelled)];
    assert_eq!(import(&mut home.admin(), patches, false), 2);
    let imported = records(&home, &["--after", &last]);
    assert_eq!((imported.len(), &imported[0]["action"]), (1, &json!("import")));
    assert_eq!(
        imported[0]["changes"],
        json!([{"kind": "key", "id": 100, "from": {"label": "label 100"}, "to": {"label": "z"}},
               {"kind": "key", "id": 9001, "from": null,
                "to": {"superuser": true, "default_agent": 1, "tags": "a.*", "enabled": false}},
               {"kind": "token", "id": 9, "from": null, "to": {"agent": 1}}])
    );
    assert_whole(&home);
}

/// A home with 2,500 changes: more than a page, and more than a check reads at once.
fn home_of_many() -> (Home, u64) {
    let home = Home::in_memory();
    let daemon = home.start();
    home.apply(&world());
    let mut admin = home.admin();
    for id in 10..2_509 {
        assert!(matches!(admin.call(&AdminRequest::Add(credential(Mode::Key, id))), Ok(AdminReply::Done(_))));
    }
    drop(admin);
    daemon.stop();
    (home, 2_500)
}

#[test]
fn an_audit_of_many_pages_is_listed_and_checked_whole() {
    let (home, count) = home_of_many();
    let _daemon = home.start();
    let all = records(&home, &[]);
    let numbers: Vec<u64> = all.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
    let verdict = assert_whole(&home);
    assert_eq!((&verdict["first"], &verdict["last"], &verdict["records"]), (&json!(1), &json!(count), &json!(count)));
    assert_eq!(verdict["hash"], all.last().unwrap()["hash"]);
    // Parts of it, by number and by time.
    assert_eq!(records(&home, &["--after", "2498"]).len(), 2);
    assert_eq!(records(&home, &["--after", "2500"]), Vec::<Value>::new());
    assert_eq!(records(&home, &["--after", "999999"]), Vec::<Value>::new());
    let middle = all[1_000]["at"].as_u64().unwrap();
    let since = records(&home, &["--since", &middle.to_string()]);
    let expected: Vec<&Value> = all.iter().filter(|record| record["at"].as_u64() >= Some(middle)).collect();
    assert_eq!(since.iter().collect::<Vec<_>>(), expected);
    assert_eq!(records(&home, &["--since", &(now() + 1_000).to_string()]), Vec::<Value>::new());
    assert_eq!(records(&home, &["--since", "1h"]).len() as u64, count);
    assert_eq!(home.run(&["audit", "--since", "yesterday"]).status.code(), Some(2));
}

#[test]
fn people_read_who_did_what_on_one_line_and_no_terminal_is_moved() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    assert!(
        home.run(&["key", "set", "2", "--label", "\u{1b}[31m\u{9b}x\ny\u{202e}", "--tags", "a.*"]).status.success()
    );
    assert!(home.run(&["endpoint", "remove", "GET", "/x"]).status.success());
    let output: Output = home.run(&["audit"]);
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    let who = User::from_uid(Uid::current()).unwrap().map_or_else(String::new, |user| user.name);
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].contains(&format!("  1  {who} ({})  apply  + agent 1: ", getuid())), "{said}");
    assert!(lines[0].ends_with(" and 1 more"), "{said}");
    assert!(
        lines[1]
            .contains("  set  ~ key 2: label \"first\" -> \"\\u001b[31m\\u{9b}x\\ny\\u{202e}\", tags \"*\" -> \"a.*\""),
        "{said}"
    );
    assert!(lines[2].contains("  remove  - endpoint GET /x: "), "{said}");
    assert!(!said.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{said}");
}

/// What became of a change that was sent.
fn alive<T>(result: Result<T, ClientError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(ClientError::Closed | ClientError::Io(_) | ClientError::Connect { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Adds and revokes until the daemon dies; returns what was acknowledged, as `add 5` and `remove 5`.
fn write_until_death(home: &Home, mode: Mode, first: u64) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let Ok(mut admin) = AdminClient::connect(&home.runtime().join("admin.sock")) else { return acknowledged };
    for id in first.. {
        let (name, remove) = (mode.name(), id % 3 == 0);
        if alive(admin.call(&AdminRequest::Add(credential(mode, id)))).is_none() {
            break;
        }
        acknowledged.push(format!("add {name} {id}"));
        if remove {
            if alive(admin.call(&AdminRequest::Remove(Selector::Credential(mode, id)))).is_none() {
                break;
            }
            acknowledged.push(format!("remove {name} {id}"));
        }
    }
    acknowledged
}

#[test]
fn after_kills_in_the_middle_of_writes_every_change_has_its_record_and_every_record_its_change() {
    let home = Home::new();
    let mut daemon = home.start();
    home.apply(&world());
    let mut acknowledged = BTreeSet::new();
    let mut dice = Dice::roll("kills under the audit");
    for cycle in 0..KILLS {
        let pause = Duration::from_millis(5 + dice.below(60));
        let first = 1_000 * (cycle + 1);
        let done: Vec<String> = std::thread::scope(|scope| {
            let writers: Vec<_> = MODES
                .map(|mode| {
                    scope.spawn({
                        let home = &home;
                        move || write_until_death(home, mode, first)
                    })
                })
                .into();
            std::thread::sleep(pause);
            daemon.kill();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        acknowledged.extend(done);
        daemon = home.start();
        assert_whole(&home);
        let recorded: BTreeSet<String> = records(&home, &["--after", "1"])
            .iter()
            .map(|record| {
                let change = &record["changes"][0];
                format!("{} {} {}", record["action"].as_str().unwrap(), change["kind"].as_str().unwrap(), change["id"])
            })
            .collect();
        let missing: Vec<_> = acknowledged.difference(&recorded).collect();
        assert!(missing.is_empty(), "cycle {cycle}: no record of {missing:?}");
        // And the other way round: what is recorded is there.
        let mut there = BTreeSet::new();
        for mode in MODES {
            for record in home.json(&[mode.name(), "list"]).as_array().unwrap() {
                there.insert(format!("add {} {}", mode.name(), record["id"]));
                if record["state"] == json!("revoked") {
                    there.insert(format!("remove {} {}", mode.name(), record["id"]));
                }
            }
        }
        there.remove("add key 2");
        assert_eq!(recorded, there, "cycle {cycle}");
    }
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    daemon.stop();
}

#[test]
fn the_audit_can_be_checked_over_the_socket_while_changes_go_on() {
    let (home, count) = home_of_many();
    let _daemon = home.start();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut admin = home.admin();
            for id in 5_000..5_300 {
                assert!(matches!(admin.call(&AdminRequest::Add(credential(Mode::Key, id))), Ok(AdminReply::Done(_))));
            }
        });
        let mut admin = home.admin();
        while !writer.is_finished() {
            let Ok(AdminReply::AuditVerdict(AuditVerdict { fault_count, last, records, .. })) =
                admin.call(&AdminRequest::VerifyAudit)
            else {
                panic!("no verdict");
            };
            assert_eq!(fault_count, 0);
            assert!(last >= count && records == last, "{last} {records}");
        }
    });
}
