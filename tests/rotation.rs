//! Rotation under one id: two codes for a while, told apart by every door, and an end of the old one that nothing delays.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::process::Output;

use keyward_proto::admin::{AdminReply, AdminRequest, Record, Rotate, Rotation, Secret};
use keyward_proto::client::{AdminClient, QueryClient};
use keyward_proto::query::{Asker, CodeSlot, Mode, Reason, Target, Verdict};
use serde_json::{Value, json};
use support::http::{Place, get};
use support::{Home, wait_until};

const OLD: &str = "the-old-code-of-3";
const ENDPOINT: Target<'_> = Target::Endpoint { method: b"GET", path: b"/tickets" };

fn world() -> Value {
    json!({
        "agents": [{ "id": 4, "name": "Matthew", "permissions": "*" }],
        "endpoints": [{ "method": "GET", "path": "/tickets", "tags": ["tickets.list"] }],
        "keys": [{ "id": 3, "code": OLD, "agent": 4, "label": "sample", "tags": "tickets.*" }],
        "tokens": [{ "id": 3, "code": OLD, "agent": 4 }],
        "sessions": [{ "id": 3, "code": OLD, "agent": 4 }],
    })
}

fn with_world(test: impl FnOnce(&Home)) {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    test(&home);
    daemon.stop();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    text(&output.stderr)
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Rotates on the command line and returns the record and the new credential.
fn rotate(home: &Home, words: &[&str]) -> (Value, String) {
    let record = home.json(&[&["key", "rotate", "3"], words].concat());
    let credential = record["credential"].as_str().unwrap().to_owned();
    (record, credential)
}

fn asker(credential: &str) -> Asker<'_> {
    Asker { credential: Some(credential.as_bytes()), ..Asker::default() }
}

fn ask(query: &mut QueryClient, credential: &str) -> Verdict {
    query.check(asker(credential), ENDPOINT).unwrap()
}

fn reason(home: &Home, credential: &str) -> Reason {
    Reason::from_number(ask(&mut home.query(), credential).reason).unwrap()
}

fn old() -> String {
    format!("key 3:{OLD}")
}

#[test]
fn both_codes_are_accepted_under_one_id_and_every_door_tells_them_apart_until_the_old_one_is_dropped() {
    with_world(|home| {
        let before = home.json(&["key", "show", "3"]);
        let (record, new) = rotate(home, &[]);
        assert!(new.starts_with("key 3:") && new.len() == "key 3:".len() + 25, "{new}");
        let until = record["retiring_until"].as_u64().unwrap();
        assert!(now() + 86_400 - until < 60, "a day when nothing is said: {until}");
        for field in ["id", "label", "agent", "tags", "enabled", "expires_at", "allow_ip", "state"] {
            assert_eq!(record[field], before[field], "{field}");
        }

        let mut query = home.query();
        for (credential, code, expires_at) in
            [(&old(), CodeSlot::Retiring, Some(until)), (&new, CodeSlot::Current, None)]
        {
            let told = |verdict: &Verdict| {
                let identity = verdict.identity.as_ref().unwrap();
                (identity.credential_id, identity.code, identity.expires_at)
            };
            assert_eq!(told(&ask(&mut query, credential)), (3, code, expires_at));
            assert_eq!(told(&query.who(asker(credential)).unwrap()), (3, code, expires_at));
            let batch = query.batch(asker(credential), &[ENDPOINT, ENDPOINT]).unwrap();
            assert!(batch.verdicts.iter().all(|verdict| verdict.reason == 0));
            assert_eq!(batch.identity.unwrap().code, code);
            let printed = home.json(&["check", "--credential", credential, "GET", "/tickets"]);
            assert_eq!(printed["code"], json!(code.name()));
            assert_eq!(printed["expires_at"], json!(expires_at));
            assert_eq!(http_statuses(home, credential), [200; 3]);
        }
        home.json(&["key", "rotate", "3", "--drop-old"]);
        assert_eq!(reason(home, &old()), Reason::BadCredential);
        assert_eq!(http_statuses(home, &old()), [401; 3]);
        assert_eq!(reason(home, &new), Reason::Ok, "the new code stays as it is");
        let record = home.json(&["key", "rotate", "3", "--drop-old"]);
        assert_eq!(
            (&record["retiring_until"], record.get("credential")),
            (&Value::Null, None),
            "once more is no fault"
        );
    });
}

fn http_statuses(home: &Home, credential: &str) -> [u16; 3] {
    let place = Place::Unix(home.runtime().join("http.sock"));
    let authorization = format!("Authorization: {credential}");
    [
        get("/auth/nginx", &[&authorization, "X-Original-Method: GET", "X-Original-URI: /tickets"]),
        get("/auth/forward", &[&authorization, "X-Forwarded-Method: GET", "X-Forwarded-Uri: /tickets"]),
        get("/me", &[&authorization]),
    ]
    .map(|request| place.ask(request).status)
}

fn rotated(admin: &mut AdminClient, mode: Mode, rotation: Rotation) -> (Option<u64>, Option<String>) {
    let AdminReply::Done(done) = admin.call(&AdminRequest::Rotate(Rotate { mode, id: 3, rotation })).unwrap() else {
        panic!("it was not rotated");
    };
    let Some(Record::Credential(record)) = done.record else { panic!("no record came") };
    (record.retiring_until, done.credential.map(|credential| text(credential.expose())))
}

#[test]
fn with_now_the_old_code_ends_at_the_acknowledgement_on_every_socket() {
    with_world(|home| {
        let (mut admin, mut query) = (home.admin(), home.query());
        let mut before = old();
        for _ in 0..100 {
            let (until, new) = rotated(&mut admin, Mode::Key, Rotation::Now { code: None });
            let new = new.unwrap();
            assert_eq!(until, None);
            assert_eq!(ask(&mut query, &before).reason, Reason::BadCredential.number());
            assert_eq!(ask(&mut query, &new).reason, 0);
            before = new;
        }
    });
}

#[test]
fn a_second_rotation_ends_the_retiring_code_at_once_and_leaves_two() {
    with_world(|home| {
        let (_, second) = rotate(home, &[]);
        let (_, third) = rotate(home, &["--grace", "1h"]);
        assert_eq!(reason(home, &old()), Reason::BadCredential);
        assert_eq!([reason(home, &second), reason(home, &third)], [Reason::Ok; 2]);
        let (_, fourth) = rotate(home, &["--now"]);
        for ended in [&second, &third] {
            assert_eq!(reason(home, ended), Reason::BadCredential);
        }
        assert_eq!(reason(home, &fourth), Reason::Ok);
        let revision = || home.json(&["status"])["revision"].clone();
        let before = revision();
        home.json(&["key", "rotate", "3", "--drop-old"]);
        assert_eq!(revision(), before, "--now has left nothing that a clock which is set back could revive");
    });
}

#[test]
fn the_old_code_is_accepted_no_longer_than_its_grace() {
    with_world(|home| {
        let (record, new) = rotate(home, &["--grace", "1s"]);
        let mut query = home.query();
        wait_until("the grace is over", || ask(&mut query, &old()).reason == Reason::BadCredential.number());
        assert!(now() >= record["retiring_until"].as_u64().unwrap());
        assert_eq!(reason(home, &new), Reason::Ok);
        assert_eq!(home.json(&["key", "show", "3"])["retiring_until"], Value::Null, "it is gone from what is shown");
    });
}

#[test]
fn the_grace_never_outlives_the_credential_also_when_its_end_is_brought_forward() {
    with_world(|home| {
        let at = now() + 7200;
        home.json(&["key", "set", "3", "--expires", &at.to_string()]);
        let (record, _) = rotate(home, &[]);
        assert_eq!(record["retiring_until"], json!(at));
        let set = |expires: String| home.json(&["key", "set", "3", "--expires", &expires])["retiring_until"].clone();
        assert_eq!(set((at - 3600).to_string()), json!(at - 3600));
        assert_eq!(set("never".into()), json!(at - 3600), "what was cut is not given back");
        assert_eq!(ask(&mut home.query(), &old()).identity.unwrap().expires_at, Some(at - 3600));

        home.apply(&json!({ "keys": [{ "id": 3, "expires_at": at - 5400 }] }));
        assert_eq!(home.json(&["key", "show", "3"])["retiring_until"], json!(at - 5400));
        let (record, _) = rotate(home, &["--grace", "365d"]);
        assert_eq!(record["retiring_until"], json!(at - 5400));
    });
}

#[test]
fn what_can_and_what_can_not_be_rotated() {
    with_world(|home| {
        let revision = || home.json(&["status"])["revision"].clone();
        let before = revision();
        for (words, stdin, said) in [
            (&["key", "rotate", "9"][..], "", "there is no key 9"),
            (&["key", "rotate", "3", "--grace", "366d"], "", "365 days at most"),
            (&["key", "rotate", "3", "--code-stdin"], OLD, "has this code already"),
            (&["key", "rotate", "3", "--code-stdin"], "short", "code"),
            (&["key", "rotate", "3", "--now", "--code-stdin"], "with blank in it", "code"),
        ] {
            let why = refused(&home.run_with_stdin(words, stdin.as_bytes()));
            assert!(why.contains(said) && (stdin.is_empty() || !why.contains(stdin)), "{words:?}: {why}");
        }
        assert_eq!(revision(), before, "what is refused leaves no trace");
        let (record, _) = rotate(home, &["--grace", "365d"]);
        assert!(record["retiring_until"].as_u64().unwrap() > now() + 364 * 86_400);

        home.json(&["key", "disable", "3"]);
        let (record, new) = rotate(home, &["--now"]);
        assert_eq!((record["state"].as_str(), reason(home, &new)), (Some("disabled"), Reason::Disabled));
        home.json(&["key", "enable", "3"]);
        home.json(&["key", "set", "3", "--expires", "1000"]);
        let (record, newer) = rotate(home, &[]);
        assert_eq!(record["retiring_until"], Value::Null, "nothing of an expired key is accepted");
        assert_eq!([reason(home, &new), reason(home, &newer)], [Reason::BadCredential, Reason::Expired]);

        home.json(&["key", "revoke", "3"]);
        for words in [&["key", "rotate", "3"][..], &["key", "rotate", "3", "--drop-old"]] {
            assert!(refused(&home.run(words)).contains("revoked, for ever"));
        }
    });
}

#[test]
fn a_given_code_is_never_printed_and_people_are_told_what_to_do_next() {
    with_world(|home| {
        let output = home.run_with_stdin(&["key", "rotate", "3", "--code-stdin"], b"a-code-of-my-own\n");
        let said = text(&output.stdout);
        assert!(output.status.success() && !said.contains("a-code-of"), "{said}");
        assert!(said.contains("key show 3") && said.contains("rotate 3 --drop-old"), "{said}");
        assert!(said.contains("old code        no use of it is known"), "{said}");
        assert_eq!(reason(home, "key 3:a-code-of-my-own"), Reason::Ok);

        let said = text(&home.run(&["key", "rotate", "3", "--now"]).stdout);
        assert!(said.contains("credential  key 3:") && said.contains("refused from now on"), "{said}");
        home.json(&["key", "disable", "3"]);
        let said = text(&home.run(&["key", "rotate", "3"]).stdout);
        assert!(said.contains("key itself is disabled"), "{said}");
        let said = text(&home.run(&["key", "rotate", "3", "--drop-old"]).stdout);
        assert!(!said.contains("old code") && said.contains("disabled"), "{said}");
    });
}

#[test]
fn tokens_and_sessions_rotate_too() {
    with_world(|home| {
        let token = home.json(&["token", "rotate", "3", "--grace", "1h"]);
        assert_eq!(reason(home, &format!("token 3:{OLD}")), Reason::Ok);
        assert_eq!(reason(home, token["credential"].as_str().unwrap()), Reason::Ok);
        assert_eq!(reason(home, &old()), Reason::Ok, "key 3 is another one");

        let mut admin = home.admin();
        let (until, session) = rotated(&mut admin, Mode::Session, Rotation::Grace { seconds: 60, code: None });
        assert!(until.is_some());
        assert_eq!(reason(home, &session.unwrap()), Reason::Ok);
        let code = Some(Secret::new(b"no+cookie=takes;this".to_vec()));
        let request = Rotate { mode: Mode::Session, id: 3, rotation: Rotation::Now { code } };
        assert!(matches!(admin.call(&AdminRequest::Rotate(request)).unwrap(), AdminReply::Refused(_)));
        assert_eq!(rotated(&mut admin, Mode::Session, Rotation::DropOld), (None, None));
        assert_eq!(reason(home, &format!("session 3:{OLD}")), Reason::BadCredential);
    });
}

#[test]
fn show_says_of_both_codes_when_and_from_where_each_was_last_used_also_after_a_restart() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let from = |credential: &str, address: &str| {
        let verdict = home.json(&["check", "--credential", credential, "--ip", address, "GET", "/tickets"]);
        assert_eq!(verdict["reason"], "ok");
    };
    from(&old(), "10.0.0.7");
    let (record, new) = rotate(&home, &[]);
    assert_eq!(record["last_used"]["current"], Value::Null, "{record}");
    assert_eq!(record["last_used"]["retiring"]["address"], "10.0.0.7", "{record}");
    let said = text(&home.run(&["key", "show", "3"]).stdout);
    assert!(said.contains("new code        not used yet"), "{said}");
    assert!(said.contains("old code        used ") && said.contains(" ago from 10.0.0.7, "), "{said}");

    from(&new, "10.0.0.8");
    let addresses = || {
        let used = home.json(&["key", "show", "3"])["last_used"].clone();
        (used["current"]["address"].clone(), used["retiring"]["address"].clone())
    };
    assert_eq!(addresses(), (json!("10.0.0.8"), json!("10.0.0.7")), "noted before the rotation was stored");
    daemon.stop();
    let daemon = home.start();
    assert_eq!(addresses(), (json!("10.0.0.8"), json!("10.0.0.7")));
    wait_until("the second is over", || {
        from(&old(), "10.0.0.9");
        addresses().1 == "10.0.0.9"
    });
    daemon.stop();
}

#[test]
fn an_acknowledged_rotation_survives_a_crash() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let (record, new) = rotate(&home, &[]);
    daemon.kill();
    let daemon = home.start();
    assert_eq!([reason(&home, &old()), reason(&home, &new)], [Reason::Ok; 2]);
    assert_eq!(home.json(&["key", "show", "3"])["retiring_until"], record["retiring_until"]);
    let (_, newer) = rotate(&home, &["--now"]);
    daemon.kill();
    let daemon = home.start();
    assert_eq!(
        [&old(), &new, &newer].map(|code| reason(&home, code)),
        [Reason::BadCredential, Reason::BadCredential, Reason::Ok]
    );
    daemon.stop();
}
