//! Tokens that are made from a credential: they can do no more than it, and end with it.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

use std::process::Output;

use keyward_proto::query::{Asker, QueryReply, QueryRequest, Reason, Target, Verdict};
use serde_json::{Value, json};
use support::Home;

const SUPERUSER: &str = "key 2:YWK2PGCS8CNW62SR8TBTBKWMY";
const BOUND: &str = "key 3:3A7QXW9ZK2M4N6P8R0S1T5V7Y";
const SESSION: &str = "session 7:SZQ2PGCS8CNW62SR8TBTBKWMY";
/// Far enough that no test sees it pass.
const LATER: u64 = 4_000_000_000;

fn endpoint(method: &str, path: &str, tag: &str) -> Value {
    json!({ "method": method, "path": path, "tags": [tag] })
}

/// Agent 1 may all, agent 4 no deleting. Key 2 may act as any, key 3 and session 7 as agent 4.
fn world() -> Value {
    json!({
        "agents": [
            { "id": 1, "name": "Admin", "permissions": "*" },
            { "id": 4, "name": "Matthew", "permissions": "tickets.*, -*.purge" },
            { "id": 6, "name": "Off", "permissions": "*", "enabled": false },
        ],
        "endpoints": [
            endpoint("GET", "/tickets", "tickets.tickets.list"),
            endpoint("DELETE", "/tickets", "tickets.tickets.delete"),
            endpoint("POST", "/tickets", "tickets.tickets.purge"),
            endpoint("GET", "/people", "people.list"),
        ],
        "keys": [
            { "id": 2, "code": &SUPERUSER[6..], "superuser": true, "default_agent": 1, "tags": "*" },
            { "id": 3, "code": &BOUND[6..], "agent": 4, "tags": "tickets.*, -*.delete" },
            { "id": 5, "code": "NODEFAULTNODEFAULT", "superuser": true },
        ],
        "sessions": [{ "id": 7, "code": &SESSION[10..], "agent": 4, "expires_at": LATER }],
    })
}

fn mint(home: &Home, from: &str, rest: &[&str]) -> Output {
    home.run_with_stdin(&[&["--json", "token", "mint", "--from", "-"], rest].concat(), from.as_bytes())
}

/// The token's id and what to present.
fn minted(home: &Home, from: &str, rest: &[&str]) -> (u64, String) {
    let output = mint(home, from, rest);
    assert!(output.status.success(), "{rest:?}: {}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    (record["id"].as_u64().unwrap(), record["credential"].as_str().unwrap().to_owned())
}

fn ask(home: &Home, credential: &str, (method, path): (&str, &str), address: Option<&str>) -> Verdict {
    let address = address.map(str::as_bytes);
    let asker = Asker { credential: Some(credential.as_bytes()), address, ..Asker::default() };
    home.query().check(asker, Target::Endpoint { method: method.as_bytes(), path: path.as_bytes() }).unwrap()
}

fn reason(home: &Home, credential: &str, line: (&str, &str)) -> &'static str {
    Reason::from_number(ask(home, credential, line, None).reason).unwrap().name()
}

const LIST: (&str, &str) = ("GET", "/tickets");
const DELETE: (&str, &str) = ("DELETE", "/tickets");

#[test]
fn a_token_is_judged_by_its_own_set_then_its_parents_then_its_agents() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let purge = ("POST", "/tickets");
    for (from, rest, line, expected) in [
        (BOUND, &["--tags", "tickets.*.list"][..], LIST, "ok"),
        (BOUND, &["--tags", "tickets.*.list"], DELETE, "tag_not_granted"),
        (BOUND, &[], LIST, "ok"),
        (BOUND, &[], DELETE, "tag_denied"),
        (BOUND, &["--tags", "*, -*.list"], LIST, "tag_denied"),
        // Not granted by its own set: that comes before its parent's denial.
        (BOUND, &["--tags", "people.*"], DELETE, "tag_not_granted"),
        (BOUND, &["--tags", "*"], ("GET", "/people"), "tag_not_granted"),
        (BOUND, &[], purge, "agent_not_permitted"),
        (SUPERUSER, &[], purge, "ok"),
        (SUPERUSER, &["--agent", "4"], purge, "agent_not_permitted"),
        (SESSION, &[], LIST, "ok"),
    ] {
        let (_, token) = minted(&home, from, &[rest, &["--ttl", "15m"]].concat());
        assert_eq!(reason(&home, &token, line), expected, "{from} {rest:?} {line:?}");
    }
    // Narrowing the parent narrows what was made from it before.
    let (_, token) = minted(&home, BOUND, &["--ttl", "15m"]);
    home.run(&["key", "set", "3", "--tags", "people.*"]);
    assert_eq!(reason(&home, &token, LIST), "tag_not_granted");
    daemon.stop();
}

#[test]
fn a_token_acts_as_one_agent_that_its_parent_may_act_as() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    for (from, rest, agent) in
        [(SUPERUSER, &[][..], 1), (SUPERUSER, &["--agent", "4"], 4), (BOUND, &["--agent", "4"], 4), (SESSION, &[], 4)]
    {
        let (_, token) = minted(&home, from, &[rest, &["--ttl", "15m"]].concat());
        let identity = ask(&home, &token, LIST, None).identity.unwrap();
        assert_eq!((identity.agent_id, identity.switched), (agent, false), "{from} {rest:?}");
    }
    // Bound to another agent, the parent could not act so; nor the token.
    let (_, token) = minted(&home, BOUND, &["--ttl", "15m"]);
    home.run(&["key", "set", "3", "--agent", "1"]);
    assert_eq!(reason(&home, &token, LIST), "agent_switch_forbidden");
    home.run(&["key", "set", "3", "--superuser"]);
    assert_eq!(reason(&home, &token, LIST), "ok");
    daemon.stop();
}

#[test]
fn a_token_is_dead_the_moment_its_parent_is_and_own_reasons_come_first() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let (id, token) = minted(&home, BOUND, &["--ttl", "15m"]);
    let parent = |fields: Value| {
        let mut key = json!({ "id": 3 });
        key.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        home.apply(&json!({ "keys": [key] }));
    };
    // Each is undone by the next.
    for (fields, expected) in [
        (json!({ "enabled": false }), "disabled"),
        (json!({ "enabled": true, "not_before": LATER }), "not_yet_valid"),
        (json!({ "not_before": null, "expires_at": 1_000_000 }), "expired"),
        (json!({ "expires_at": null, "allow_ip": ["10.0.0.0/8"] }), "ip_not_allowed"),
        (json!({ "allow_ip": null }), "ok"),
        // A new code is no end.
        (json!({ "code": "ANOTHERCODEANOTHERCODE" }), "ok"),
    ] {
        parent(fields.clone());
        assert_eq!(reason(&home, &token, LIST), expected, "{fields}");
        let state = if ["ok", "ip_not_allowed"].contains(&expected) { "enabled" } else { expected };
        assert_eq!(home.json(&["token", "show", &id.to_string()])["state"], state, "{fields}");
    }
    parent(json!({ "allow_ip": ["10.0.0.0/8"] }));
    assert_eq!(ask(&home, &token, LIST, Some("10.1.2.3")).reason, 0);
    parent(json!({ "enabled": false }));
    let own = |fields: Value| {
        let mut token = json!({ "id": id });
        token.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        home.apply(&json!({ "tokens": [token] }));
    };
    own(json!({ "expires_at": 1_000_000 }));
    assert_eq!(reason(&home, &token, LIST), "expired", "its own reason, not its parent's");
    own(json!({ "expires_at": LATER }));
    home.run(&["key", "revoke", "3"]);
    assert_eq!(reason(&home, &token, LIST), "revoked");
    assert_eq!(reason(&home, "token 999:WRONGWRONGWRONG", LIST), "bad_credential");
    daemon.stop();
}

#[test]
fn a_verdict_says_the_earliest_end_and_a_batch_is_judged_like_a_question() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let (_, token) = minted(&home, BOUND, &["--ttl", "365d"]);
    let expires_at = |home: &Home| ask(home, &token, LIST, None).identity.unwrap().expires_at.unwrap();
    let own = expires_at(&home);
    home.apply(&json!({ "keys": [{ "id": 3, "expires_at": own - 5 }] }));
    assert_eq!(expires_at(&home), own - 5);
    home.apply(&json!({ "keys": [{ "id": 3, "expires_at": own + 5 }] }));
    assert_eq!(expires_at(&home), own);
    let asker = Asker { credential: Some(token.as_bytes()), ..Asker::default() };
    let targets =
        [LIST, DELETE].map(|(method, path)| Target::Endpoint { method: method.as_bytes(), path: path.as_bytes() });
    let batch = |asker: Asker<'_>| {
        let verdicts = home.query().batch(asker, &targets).unwrap().verdicts;
        verdicts.iter().map(|verdict| Reason::from_number(verdict.reason).unwrap().name()).collect::<Vec<_>>()
    };
    assert_eq!(batch(asker), ["ok", "tag_denied"]);
    home.run(&["key", "disable", "3"]);
    assert_eq!(batch(asker), ["disabled", "disabled"]);
    daemon.stop();
}

#[test]
fn what_may_not_be_used_makes_no_token_and_the_refusal_says_why_without_a_code() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let (_, token) = minted(&home, BOUND, &["--ttl", "15m"]);
    home.apply(&json!({ "keys": [
        { "id": 8, "code": "DISABLEDDISABLED", "agent": 4, "enabled": false },
        { "id": 9, "code": "REVOKEDREVOKED", "agent": 4, "revoked": true },
        { "id": 10, "code": "EXPIREDEXPIRED", "agent": 4, "expires_at": 1_000_000 },
        { "id": 11, "code": "OFFOFFOFFOFF", "agent": 6 },
    ] }));
    let before = home.json(&["token", "list"]);
    let long = "x".repeat(257);
    for (from, rest, why) in [
        ("", &["--ttl", "15m"][..], "missing_credential"),
        ("key 3", &["--ttl", "15m"], "malformed_credential"),
        ("key 3:WRONGWRONGWRONG", &["--ttl", "15m"], "bad_credential"),
        ("key 99:WRONGWRONGWRONG", &["--ttl", "15m"], "bad_credential"),
        ("key 8:DISABLEDDISABLED", &["--ttl", "15m"], "disabled"),
        ("key 9:REVOKEDREVOKED", &["--ttl", "15m"], "revoked"),
        ("key 10:EXPIREDEXPIRED", &["--ttl", "15m"], "expired"),
        ("key 11:OFFOFFOFFOFF", &["--ttl", "15m"], "agent_disabled"),
        ("key 5:NODEFAULTNODEFAULT", &["--ttl", "15m"], "agent_required"),
        (SUPERUSER, &["--ttl", "15m", "--agent", "77"], "agent_unknown"),
        (BOUND, &["--ttl", "15m", "--agent", "1"], "agent_switch_forbidden"),
        (&token, &["--ttl", "15m"], "which was made from key 3 itself: make it from key 3"),
        (BOUND, &["--ttl", "0s"], "give a second or more"),
        (BOUND, &["--ttl", "15m", "--tags", "tick*"], "tick*"),
        (BOUND, &["--ttl", "15m", "--label", &long], "label"),
        (BOUND, &["--ttl", "forever"], "duration"),
        (BOUND, &[], "--ttl"),
    ] {
        let output = mint(&home, from, rest);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{from} {rest:?}: {said}");
        assert!(said.contains(why), "{from} {rest:?}: {said}");
        assert!(output.stdout.is_empty() && !said.contains("WRONG") && !said.contains(&BOUND[6..]), "{said}");
    }
    assert_eq!(home.json(&["token", "list"]), before, "nothing was added, and a refusal is no use");
    assert!(home.json(&["key", "show", "3"])["last_used"].is_object(), "that a token was made from it is one");
    daemon.stop();
}

#[test]
fn explain_and_the_list_of_what_it_reaches_speak_of_the_parent() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let (id, _) = minted(&home, BOUND, &["--ttl", "15m", "--label", "a job"]);
    let id = id.to_string();
    let shown = home.json(&["token", "show", &id]);
    assert_eq!((&shown["parent"], &shown["label"], &shown["agent"]), (&json!("key 3"), &json!("a job"), &json!(4)));
    let why = |line: [&str; 2]| {
        let explained = home.run(&["--json", "explain", "--token", &id, line[0], line[1]]);
        let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
        let steps = explained["steps"].as_array().unwrap().clone();
        let last = steps.last().unwrap();
        let told = steps.iter().filter(|step| step["why"].as_str().unwrap().starts_with("its parent key 3")).count();
        (last["step"].clone(), last["result"].clone(), last["why"].as_str().unwrap().to_owned(), told)
    };
    let (step, result, last, told) = why(["DELETE", "/tickets"]);
    assert_eq!((step, result, told), (json!(10), json!("tag_denied"), 4));
    assert_eq!(last, "its parent key 3's set: denied by -*.delete");
    let reached = home.json(&["endpoint", "list", "--allowed-for", &format!("token:{id}")]);
    assert_eq!(reached.as_array().unwrap().len(), 1, "{reached}");
    home.run(&["key", "revoke", "3"]);
    let (step, result, last, _) = why(["GET", "/tickets"]);
    assert_eq!((step, result), (json!(5), json!("revoked")));
    assert!(last.starts_with("its parent key 3: it is revoked"), "{last}");
    let refused = home.run(&["endpoint", "list", "--allowed-for", &format!("token:{id}")]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("its parent key 3: it is revoked"));
    daemon.stop();
}

#[test]
fn a_file_may_give_parents_that_are_there_after_it_and_one_level_of_them() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let token = |id: u64, parent: &str| json!({ "id": id, "code": "TOKENTOKENTOKEN", "agent": 4, "parent": parent });
    // In any order: tokens stand before sessions in a file and name them all the same.
    home.apply(&json!({
        "tokens": [token(21, "session 22"), token(23, "key 3"), token(24, "key 25")],
        "sessions": [{ "id": 22, "code": "SESSIONSESSION", "agent": 4 }],
        "keys": [{ "id": 25, "code": "NEWKEYNEWKEY", "agent": 4 }],
    }));
    assert_eq!(reason(&home, "token 21:TOKENTOKENTOKEN", LIST), "ok");
    for (tokens, place, why) in [
        (json!([token(30, "key 99")]), "tokens[0]", "there is no such key"),
        (json!([token(30, "key 3"), token(31, "session 99")]), "tokens[1]", "there is no such session"),
        (json!([token(30, "token 30")]), "tokens[0]", "names itself"),
        (json!([token(30, "token 21")]), "tokens[0]", "make it from session 22"),
        (json!([token(30, "token 31"), token(31, "key 3")]), "tokens[0]", "make it from key 3"),
        (json!([token(21, "key 3")]), "tokens[0]", "can't be changed"),
    ] {
        let path = home.path().join("refused.json");
        std::fs::write(&path, json!({ "tokens": tokens }).to_string()).unwrap();
        let output = home.run(&["apply", path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{tokens}: {said}");
        assert!(said.contains(place) && said.contains(why), "{tokens}: {said}");
    }
    daemon.stop();
    // And after a start.
    let daemon = home.start();
    home.run(&["session", "close", "22"]);
    assert_eq!(reason(&home, "token 21:TOKENTOKENTOKEN", LIST), "revoked");
    assert_eq!(reason(&home, "token 23:TOKENTOKENTOKEN", LIST), "ok");
    daemon.stop();
}

#[test]
fn a_change_of_the_parent_is_seen_by_every_question_behind_its_acknowledgement() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let (_, token) = minted(&home, BOUND, &["--ttl", "15m"]);
    let mut query = home.query();
    for _ in 0..20 {
        for (word, expected) in [("disable", Reason::Disabled), ("enable", Reason::Ok)] {
            home.run(&["key", word, "3"]);
            let asker = Asker { credential: Some(token.as_bytes()), ..Asker::default() };
            let question = QueryRequest::Check(keyward_proto::query::Check {
                asker,
                target: Target::Endpoint { method: b"GET", path: b"/tickets" },
            });
            let replies = query.check_all(&[question.clone(), question]).unwrap();
            for reply in replies {
                assert!(matches!(reply, QueryReply::Verdict(verdict) if verdict.reason == expected.number()), "{word}");
            }
        }
    }
    daemon.stop();
}
