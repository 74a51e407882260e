//! `keyward explain`: every step of the table in section 2.4, and the pattern that decides.

use serde_json::{Value, json};

use super::{refused, text, with_small_world};

/// The steps as `number:result`.
fn steps(explained: &Value) -> Vec<String> {
    let steps = explained["steps"].as_array().unwrap();
    for step in steps {
        assert_eq!(step.as_object().unwrap().len(), 3, "{step}");
    }
    steps.iter().map(|step| format!("{}:{}", step["step"], step["result"].as_str().unwrap())).collect()
}

fn why(explained: &Value, step: u64) -> String {
    let steps = explained["steps"].as_array().unwrap();
    steps.iter().rfind(|s| s["step"] == step).unwrap()["why"].as_str().unwrap().to_owned()
}

#[test]
fn every_step_is_told_in_order_up_to_the_one_that_ends_it() {
    const ALL: [&str; 14] = [
        "1:passed",
        "1:passed",
        "2:passed",
        "3:skipped",
        "4:skipped",
        "5:passed",
        "6:passed",
        "7:passed",
        "7:passed",
        "8:passed",
        "9:passed",
        "10:passed",
        "11:passed",
        "12:skipped",
    ];
    with_small_world(|home| {
        home.json(&["endpoint", "add", "GET", "/open", "--tags", "open", "--modes", "public"]);
        home.json(&["endpoint", "add", "GET", "/ui", "--tags", "tickets.ui", "--modes", "session"]);
        let explained = home.json(&["explain", "--key", "3", "GET", "/tickets"]);
        assert_eq!(explained.as_object().unwrap().len(), 2);
        assert_eq!(steps(&explained), ALL);
        assert_eq!(explained["verdict"]["reason"], "ok");
        assert_eq!(explained["verdict"].as_object().unwrap().len(), 13, "the verdict is whole");

        let table: &[(&[&str], &[&str], &str)] = &[
            (&[], &["--agent", "x", "GET", "/tickets"], "1:bad_request"),
            (&[], &["get", "/tickets"], "1:bad_request"),
            (&[], &["GET", "/open"], "2:ok"),
            (&[], &["--agent", "1", "GET", "/tickets"], "7:agent_switch_forbidden"),
            (&[], &["GET", "//tickets"], "8:ambiguous_path"),
            (&[], &["GET", "/nothing"], "8:no_route"),
            (&[], &["GET", "/ui"], "9:mode_not_allowed"),
            (&[], &["GET", "/people"], "11:agent_not_permitted"),
            (&["key", "set", "3", "--tags", "x"], &["GET", "/tickets"], "10:tag_not_granted"),
            (&["key", "set", "3", "--tags", "*, -tickets.*"], &["GET", "/tickets"], "10:tag_denied"),
            (&["agent", "disable", "4"], &["GET", "/tickets"], "7:agent_disabled"),
            (&["key", "set", "3", "--allow-ip", "10.0.0.0/8"], &["GET", "/tickets"], "6:ip_not_allowed"),
            (
                &["key", "set", "3", "--allow-ip", "10.0.0.0/8"],
                &["--ip", "10.1.1.1", "GET", "/tickets"],
                "7:agent_disabled",
            ),
            (&["key", "set", "3", "--expires", "1"], &["GET", "/tickets"], "5:expired"),
            (&["key", "disable", "3"], &["GET", "/tickets"], "5:disabled"),
            (&["key", "revoke", "3"], &["GET", "/tickets"], "5:revoked"),
        ];
        for (change, question, ended) in table {
            if !change.is_empty() {
                home.json(change);
            }
            let explained = home.json(&[&["explain", "--key", "3"], *question].concat());
            let told = steps(&explained);
            let (last, before) = told.split_last().unwrap();
            assert_eq!(last, ended, "{change:?} {question:?}");
            assert!(before.iter().zip(ALL).all(|(told, passed)| told == passed), "{question:?}: {told:?}");
            let reason = ended.split_once(':').unwrap().1;
            assert_eq!(explained["verdict"]["reason"], reason, "{question:?}");
        }
    });
}

#[test]
fn the_pattern_that_decides_is_named() {
    with_small_world(|home| {
        home.json(&["key", "set", "2", "--tags", "people.*, tickets.*, -*.delete"]);
        let explain = |words: &[&str]| home.json(&[&["explain", "--key", "2"], words].concat());
        let listed = explain(&["GET", "/tickets"]);
        assert!(why(&listed, 10).contains("tickets.*") && !why(&listed, 10).contains("people.*"), "{listed}");
        assert!(why(&listed, 11).contains("by *"), "{listed}");
        assert!(why(&explain(&["DELETE", "/tickets/7"]), 10).contains("-*.delete"));
        home.json(&["key", "set", "2", "--tags", "*"]);
        let denied = explain(&["--agent", "4", "DELETE", "/tickets/7"]);
        assert!(why(&denied, 11).contains("denied by") && why(&denied, 11).contains("-*.delete"), "{denied}");
        let nothing = explain(&["--agent", "4", "GET", "/people"]);
        assert!(why(&nothing, 11).contains("tickets.*, -*.delete"), "the whole set is shown: {nothing}");
    });
}

#[test]
fn explaining_a_denial_is_a_command_done() {
    with_small_world(|home| {
        let output = home.run(&["explain", "--key", "3", "DELETE", "/tickets/7"]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.starts_with("STEP") && said.contains("denied  agent_not_permitted (403)"), "{said}");
        let unknown = home.json(&["explain", "--token", "9", "GET", "/tickets"]);
        assert_eq!(unknown["verdict"], json!({"reason": "bad_credential", "status": 401}));
        assert!(why(&unknown, 4).contains("there is no token 9"), "{unknown}");
    });
}

#[test]
fn tokens_and_sessions_are_explained_too() {
    with_small_world(|home| {
        home.json(&["token", "issue", "x", "--agent", "4", "--app", "5"]);
        home.json(&["session", "open", "--agent", "1", "--ttl", "1h"]);
        let token = home.json(&["explain", "--token", "1", "GET", "/tickets"]);
        assert_eq!((&token["verdict"]["mode"], &token["verdict"]["app_id"]), (&json!("token"), &json!(5)));
        let session = home.json(&["explain", "--session", "1", "GET", "/people"]);
        assert_eq!((&session["verdict"]["mode"], &session["verdict"]["agent_id"]), (&json!("session"), &json!(1)));
        for words in [&["explain", "GET", "/x"][..], &["explain", "--key", "1", "--token", "1", "GET", "/x"]] {
            let output = home.run(words);
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{words:?}");
        }
        assert!(refused(home, &["agent", "remove", "1"]).contains("session 1"));
    });
}
