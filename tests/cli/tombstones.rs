//! What is revoked or removed stays so, and no id is ever used twice.

use serde_json::{Value, json};

use super::support::Home;
use super::{
    CODE, OTHER_CODE, apply_with, ids, refused, refused_apply, small_world, text, who, with_daemon, with_small_world,
};

#[test]
fn a_revoked_key_can_not_be_set_enabled_or_added_again_by_anything() {
    with_small_world(|home| {
        let revoked = home.json(&["key", "revoke", "3"]);
        for words in [
            &["key", "set", "3", "--label", "again"][..],
            &["key", "set", "3", "--expires", "+30d"],
            &["key", "enable", "3"],
            &["key", "disable", "3"],
            &["key", "add", "again", "--agent", "4", "--id", "3"],
        ] {
            assert!(refused(home, words).contains("revoked"), "{words:?}");
        }
        let set_code = &["key", "set", "3", "--code-stdin"];
        let said = super::refusal(set_code, &home.run_with_stdin(set_code, b"another-code"));
        assert!(said.contains("revoked"), "{said}");
        let file = |fields: Value| {
            let mut key = json!({"id": 3, "agent": 4});
            key.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            json!({"agents": [{"id": 8, "name": "Not to be", "permissions": "*"}], "keys": [key]})
        };
        for fields in [
            json!({}),
            json!({"code": OTHER_CODE}),
            json!({"revoked": false}),
            json!({"enabled": true}),
            json!({"revoked": true, "label": "changed"}),
            json!({"revoked": true, "enabled": false}),
            json!({"revoked": true, "code": "another-code"}),
        ] {
            let said = refused_apply(home, &file(fields.clone()), &[]);
            assert!(said.starts_with("keyward: keys[0]: key 3 is revoked"), "{fields}: {said}");
        }
        assert_eq!(home.json(&["key", "show", "3"]), revoked, "it is what it was");
        let same = json!({"keys": [{"id": 3, "agent": 4, "revoked": true, "code": OTHER_CODE}]});
        assert_eq!(apply_with(home, &same, &[])["changed"], json!([]), "said to be revoked, it may be listed");
        assert_eq!(who(home, &format!("key 3:{OTHER_CODE}")), "revoked");
        assert_eq!(who(home, "key 3:another-code"), "bad_credential");
    });
}

#[test]
fn a_revoked_token_and_a_closed_session_stay_so_too() {
    with_small_world(|home| {
        home.json(&["token", "issue", "x", "--agent", "4"]);
        home.json(&["session", "open", "--agent", "4", "--ttl", "1h"]);
        home.json(&["token", "revoke", "1"]);
        home.json(&["session", "close", "1"]);
        for section in ["tokens", "sessions"] {
            for fields in [json!({"id": 1, "agent": 4}), json!({"id": 1, "agent": 4, "code": CODE, "revoked": false})] {
                let said = refused_apply(home, &json!({ section: [fields] }), &[]);
                assert!(said.starts_with(&format!("keyward: {section}[0]: ")) && said.contains("revoked"), "{said}");
            }
        }
        assert_eq!(home.json(&["token", "show", "1"])["state"], "revoked");
        assert_eq!(home.json(&["session", "show", "1"])["state"], "revoked");
    });
}

#[test]
fn a_removed_agent_can_not_come_back() {
    with_small_world(|home| {
        home.json(&["key", "revoke", "3"]);
        home.json(&["agent", "remove", "4"]);
        for words in [
            &["agent", "add", "Matthew", "--permissions", "*", "--id", "4"][..],
            &["agent", "set", "4", "--name", "x"],
            &["agent", "enable", "4"],
            &["agent", "remove", "4"],
            &["agent", "show", "4"],
            &["key", "add", "x", "--agent", "4"],
            &["key", "set", "2", "--default-agent", "4"],
        ] {
            assert!(refused(home, words).contains("agent 4"), "{words:?}");
        }
        let file = json!({"agents": [{"id": 1}, {"id": 4, "name": "Matthew", "permissions": "*"}]});
        let said = refused_apply(home, &file, &[]);
        assert!(said.starts_with("keyward: agents[1]: agent 4 was removed"), "{said}");
        assert_eq!(ids(&home.json(&["agent", "list"])), [1]);
        let as_four = home.run(&["check", "--json", "--credential", &format!("key 2:{CODE}"), "--agent", "4"]);
        assert_eq!(text(&as_four.stdout), "{\"reason\":\"agent_unknown\",\"status\":403}\n");
    });
}

#[test]
fn removing_an_agent_is_refused_while_a_credential_names_it_and_lists_them() {
    with_small_world(|home| {
        home.json(&["token", "issue", "x", "--agent", "4"]);
        home.json(&["session", "open", "--agent", "4", "--ttl", "1h"]);
        home.json(&["key", "set", "2", "--default-agent", "4"]);
        let remove = ["agent", "remove", "4"];
        // Each step takes one name from the list; a default agent is a name like any other.
        for (step, left) in [
            (&["status"][..], &["key 2", "key 3", "token 1", "session 1"][..]),
            (&["key", "disable", "3"], &["key 2", "key 3", "token 1", "session 1"]),
            (&["key", "revoke", "3"], &["key 2", "token 1", "session 1"]),
            (&["key", "set", "2", "--default-agent", "none"], &["token 1", "session 1"]),
            (&["token", "revoke", "1"], &["session 1"]),
        ] {
            home.json(step);
            let said = refused(home, &remove);
            for name in ["key 2", "key 3", "token 1", "session 1"] {
                assert_eq!(said.contains(name), left.contains(&name), "after {step:?}: {name}: {said}");
            }
            assert_eq!(home.json(&["agent", "show", "4"])["state"], "enabled");
        }
        home.json(&["session", "close", "1"]);
        assert_eq!(home.json(&remove)["removed"], true);
    });
}

#[test]
fn many_names_are_counted_and_not_all_listed() {
    with_daemon(|home| {
        let keys: Vec<Value> = (1..=50).map(|id| json!({"id": id, "code": CODE, "agent": 1})).collect();
        home.apply(&json!({"agents": [{"id": 1, "name": "A", "permissions": "*"}], "keys": keys}));
        let said = refused(home, &["agent", "remove", "1"]);
        assert!(said.contains("key 1,") && said.contains("and 30 more"), "{said}");
    });
}

/// The ids that the next of each kind gets.
fn next_ids(home: &Home) -> [u64; 4] {
    let id = |words: &[&str]| home.json(words)["id"].as_u64().unwrap();
    [
        id(&["agent", "add", "x", "--permissions", "*"]),
        id(&["key", "add", "x", "--agent", "1"]),
        id(&["token", "issue", "x", "--agent", "1"]),
        id(&["session", "open", "--agent", "1", "--ttl", "1h"]),
    ]
}

fn end(home: &Home, [agent, key, token, session]: [u64; 4]) {
    home.json(&["agent", "remove", &agent.to_string()]);
    home.json(&["key", "revoke", &key.to_string()]);
    home.json(&["token", "revoke", &token.to_string()]);
    home.json(&["session", "close", &session.to_string()]);
}

#[test]
fn a_new_id_is_one_more_than_the_highest_ever_used_of_its_kind() {
    let home = Home::new();
    let daemon = home.start();
    home.json(&["agent", "add", "first", "--permissions", "*"]);
    assert_eq!(next_ids(&home), [2, 1, 1, 1], "kinds count by themselves, from 1");
    end(&home, [2, 1, 1, 1]);
    assert_eq!(next_ids(&home), [3, 2, 2, 2], "ended ones are counted");
    end(&home, [3, 2, 2, 2]);
    daemon.stop();
    let daemon = home.start();
    assert_eq!(next_ids(&home), [4, 3, 3, 3], "after a restart, too");
    home.json(&["key", "add", "x", "--agent", "1", "--id", "1000"]);
    home.json(&["key", "revoke", "1000"]);
    home.json(&["key", "add", "x", "--agent", "1", "--id", "500"]);
    apply_with(&home, &json!({"tokens": [{"id": 70, "code": CODE, "agent": 1}]}), &[]);
    apply_with(&home, &json!({"tokens": []}), &["--prune"]);
    daemon.kill();
    let daemon = home.start();
    assert_eq!(next_ids(&home), [5, 1001, 71, 4], "given ids are counted, and a crash forgets none");
    let last = ((1_u64 << 53) - 1).to_string();
    home.json(&["key", "add", "x", "--agent", "1", "--id", &last]);
    assert!(refused(&home, &["key", "add", "x", "--agent", "1"]).contains("no key id is left"));
    assert_eq!(home.json(&["key", "add", "x", "--agent", "1", "--id", "501"])["id"], 501);
    daemon.stop();
}

#[test]
fn an_id_is_used_up_by_a_file_that_lists_it_as_revoked() {
    with_small_world(|home| {
        let file = json!({"keys": [{"id": 9, "code": "never-valid-code", "agent": 4, "revoked": true}]});
        assert_eq!(apply_with(home, &file, &[])["added"], json!([{"kind": "key", "id": 9}]));
        assert_eq!(who(home, "key 9:never-valid-code"), "revoked");
        assert_eq!(home.json(&["key", "add", "x", "--agent", "4"])["id"], 10);
        assert_eq!(
            home.json(&["agent", "list"]).as_array().unwrap().len(),
            small_world()["agents"].as_array().unwrap().len()
        );
    });
}
