//! Every command that lists or changes records, its JSON form key by key, and what it refuses.

use serde_json::{Value, json};

use super::support::Home;
use super::{CODE, check, ids, now, refused, text, who, with_daemon, with_small_world};

/// The fields of a credential's form that no command below gives.
fn credential_form(fields: &Value) -> Value {
    let mut form = json!({
        "label": "", "tags": "*", "enabled": true, "revoked": false, "not_before": null, "expires_at": null,
        "allow_ip": null, "state": "enabled", "retiring_until": null, "last_used": null
    });
    form.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    form
}

#[test]
fn an_agent_is_added_shown_listed_changed_switched_and_removed() {
    with_daemon(|home| {
        let ann = json!({"id": 1, "name": "Ann", "permissions": "tickets.*, -*.delete", "enabled": true,
                         "attributes": {"a": "b=c", "team": ""}, "state": "enabled"});
        let add = &[
            "agent",
            "add",
            "Ann",
            "--permissions",
            "tickets.*,\n -*.delete",
            "--attribute",
            "team=",
            "--attribute",
            "a=b=c",
        ];
        assert_eq!(home.json(add), ann);
        assert_eq!(home.json(&["agent", "show", "1"]), ann);
        assert_eq!(home.json(&["agent", "add", "Bo", "--permissions", "-x, *", "--id", "40"])["id"], 40);
        assert_eq!(ids(&home.json(&["agent", "list"])), [1, 40]);

        let changed = home.json(&["agent", "set", "1", "--name", "-Anna"]);
        assert_eq!(
            (&changed["name"], &changed["permissions"], &changed["attributes"]["a"]),
            (&json!("-Anna"), &ann["permissions"], &json!("b=c")),
            "what is not given stays"
        );
        assert_eq!(home.json(&["agent", "set", "1", "--permissions", "-a.b, *"])["permissions"], "-a.b, *");
        assert_eq!(home.json(&["agent", "set", "1", "--attribute", "c=d"])["attributes"], json!({"c": "d"}));
        assert_eq!(home.json(&["agent", "set", "1", "--attribute", "none"])["attributes"], json!({}));
        let disabled = home.json(&["agent", "disable", "1"]);
        assert_eq!((&disabled["enabled"], &disabled["state"]), (&json!(false), &json!("disabled")));
        assert_eq!(home.json(&["agent", "enable", "1"])["state"], "enabled");

        assert_eq!(home.json(&["agent", "remove", "40"]), json!({"removed": true, "kind": "agent", "id": 40}));
        assert_eq!(ids(&home.json(&["agent", "list"])), [1]);
        assert!(refused(home, &["agent", "show", "40"]).contains("there is no agent 40"));
    });
}

#[test]
fn a_key_is_added_shown_listed_changed_switched_and_revoked() {
    with_small_world(|home| {
        let mut added = home.json(&[
            "key",
            "add",
            "ci",
            "--agent",
            "4",
            "--tags",
            "-*.delete, tickets.*",
            "--expires",
            "4102444800",
            "--not-before",
            "2020-01-01T00:00:00Z",
            "--allow-ip",
            "10.1.0.0/16",
            "--allow-ip",
            "::1",
        ]);
        let credential = added.as_object_mut().unwrap().remove("credential").unwrap();
        assert!(credential.as_str().unwrap().starts_with("key 4:"), "{added}");
        let form = credential_form(&json!({
            "id": 4, "label": "ci", "superuser": false, "agent": 4, "default_agent": null,
            "tags": "-*.delete, tickets.*", "not_before": 1_577_836_800, "expires_at": 4_102_444_800_u64,
            "allow_ip": ["10.1.0.0/16", "::1/128"]
        }));
        assert_eq!(added, form);
        assert_eq!(home.json(&["key", "show", "4"]), form);
        assert_eq!(ids(&home.json(&["key", "list"])), [2, 3, 4]);
        assert_eq!(home.json(&["key", "list"])[2], form, "a list holds the same forms");

        let superuser = home.json(&["key", "add", "root", "--superuser", "--default-agent", "1", "--id", "70"]);
        assert_eq!(
            (&superuser["superuser"], &superuser["agent"], &superuser["default_agent"]),
            (&json!(true), &Value::Null, &json!(1))
        );
        let disabled = home.json(&["key", "disable", "70"]);
        assert_eq!((&disabled["enabled"], &disabled["state"]), (&json!(false), &json!("disabled")));
        assert_eq!(home.json(&["key", "enable", "70"])["state"], "enabled");
        let revoked = home.json(&["key", "revoke", "70"]);
        assert_eq!((&revoked["revoked"], &revoked["state"]), (&json!(true), &json!("revoked")));
        assert_eq!(home.json(&["key", "show", "70"]), revoked, "its tombstone is shown");
        assert_eq!(ids(&home.json(&["key", "list"])), [2, 3, 4, 70], "and listed");
        assert_eq!(home.json(&["key", "revoke", "70"]), revoked, "revoking twice is no error");
    });
}

#[test]
fn set_changes_one_field_of_a_key_and_has_a_word_that_clears_it() {
    with_small_world(|home| {
        let before = home.json(&["key", "show", "3"]);
        let table: &[(&[&str], &str, Value)] = &[
            (&["--label", "-x"], "label", json!("-x")),
            (&["--tags", "-a, b.*"], "tags", json!("-a, b.*")),
            (&["--tags", "[\"*\", \"-c\"]"], "tags", json!("*, -c")),
            (&["--tags", "*"], "tags", json!("*")),
            (&["--expires", "4102444800"], "expires_at", json!(4_102_444_800_u64)),
            (&["--expires", "never"], "expires_at", Value::Null),
            (&["--not-before", "1"], "not_before", json!(1)),
            (&["--not-before", "never"], "not_before", Value::Null),
            (&["--allow-ip", "10.0.0.1"], "allow_ip", json!(["10.0.0.1/32"])),
            (&["--allow-ip", "any"], "allow_ip", Value::Null),
            (&["--agent", "1"], "agent", json!(1)),
            (&["--agent", "4"], "agent", json!(4)),
            (&["--label", ""], "label", json!("")),
        ];
        let mut wanted = before.clone();
        for (options, field, value) in table {
            let words = [&["key", "set", "3"], *options].concat();
            wanted[*field] = value.clone();
            assert_eq!(home.json(&words), wanted, "{words:?} changes that field alone");
            assert_eq!(home.json(&["key", "show", "3"]), wanted, "{words:?}");
        }
        assert_eq!(wanted, before, "all of it was put back");

        assert_eq!(home.json(&["key", "set", "2", "--default-agent", "4"])["default_agent"], 4);
        assert_eq!(home.json(&["key", "set", "2", "--default-agent", "none"])["default_agent"], Value::Null);
        let bound = home.json(&["key", "set", "2", "--agent", "4"]);
        assert_eq!((&bound["superuser"], &bound["agent"]), (&json!(false), &json!(4)), "a superuser key can be bound");
        let free = home.json(&["key", "set", "2", "--superuser", "--default-agent", "1"]);
        assert_eq!(
            (&free["superuser"], &free["agent"], &free["default_agent"]),
            (&json!(true), &Value::Null, &json!(1))
        );
    });
}

#[test]
fn a_change_counts_for_the_next_question() {
    with_small_world(|home| {
        let key = format!("key 2:{CODE}");
        let table: &[(&[&str], &[&str], &str)] = &[
            (&["key", "disable", "2"], &["GET", "/tickets"], "disabled"),
            (&["key", "enable", "2"], &["GET", "/tickets"], "ok"),
            (&["key", "set", "2", "--expires", "1"], &["GET", "/tickets"], "expired"),
            (&["key", "set", "2", "--expires", "never", "--not-before", "+1d"], &["GET", "/tickets"], "not_yet_valid"),
            (
                &["key", "set", "2", "--not-before", "never", "--allow-ip", "10.0.0.0/8"],
                &["GET", "/tickets"],
                "ip_not_allowed",
            ),
            (&["key", "set", "2", "--allow-ip", "any"], &["--ip", "-", "GET", "/tickets"], "ok"),
            (&["agent", "disable", "1"], &["GET", "/tickets"], "agent_disabled"),
            (&["agent", "enable", "1"], &["GET", "/tickets"], "ok"),
            (&["agent", "set", "1", "--permissions", "people.*"], &["GET", "/tickets"], "agent_not_permitted"),
            (&["agent", "set", "1", "--permissions", "*"], &["GET", "/tickets"], "ok"),
            (&["key", "set", "2", "--tags", "-tickets.*, *"], &["GET", "/tickets"], "tag_denied"),
            (&["key", "set", "2", "--tags", "people.*"], &["GET", "/tickets"], "tag_not_granted"),
            (&["key", "set", "2", "--tags", "*"], &["GET", "/tickets"], "ok"),
            (&["key", "set", "2", "--default-agent", "none"], &["GET", "/tickets"], "agent_required"),
            (&["key", "set", "2", "--default-agent", "4"], &["GET", "/people"], "agent_not_permitted"),
            (&["key", "set", "2", "--agent", "4"], &["--agent", "1", "GET", "/tickets"], "agent_switch_forbidden"),
            (&["endpoint", "add", "GET", "/new", "--tags", "tickets.new"], &["GET", "/new"], "ok"),
            (&["endpoint", "remove", "GET", "/new"], &["GET", "/new"], "no_route"),
            (
                &["endpoint", "add", "GET", "/new", "--tags", "x", "--modes", "session"],
                &["GET", "/new"],
                "mode_not_allowed",
            ),
            (&["key", "revoke", "2"], &["GET", "/tickets"], "revoked"),
        ];
        for (change, question, reason) in table {
            home.json(change);
            assert_eq!(check(home, &key, question), *reason, "after {change:?}");
        }
        assert_eq!(who(home, "key 2:WRONGWRONGWRONG"), "bad_credential", "a wrong code learns nothing of it");
    });
}

#[test]
fn a_token_is_issued_shown_listed_and_revoked() {
    with_small_world(|home| {
        let before = now();
        let mut issued =
            home.json(&["token", "issue", "phone", "--agent", "4", "--app", "12", "--ttl", "30d", "--tags", "-x, *"]);
        let expires = issued["expires_at"].as_u64().unwrap();
        assert!((before..=now()).contains(&(expires - 30 * 86_400)), "{issued}");
        let credential = issued.as_object_mut().unwrap().remove("credential").unwrap();
        let form = credential_form(&json!({
            "id": 1, "label": "phone", "agent": 4, "app_id": 12, "tags": "-x, *", "expires_at": expires
        }));
        assert_eq!(issued, form);
        assert_eq!(home.json(&["token", "show", "1"]), form);
        let plain = home.json(&["token", "issue", "", "--agent", "1"]);
        assert_eq!((&plain["app_id"], &plain["expires_at"], &plain["tags"]), (&Value::Null, &Value::Null, &json!("*")));
        assert_eq!(ids(&home.json(&["token", "list"])), [1, 2]);

        let verdict = home.json(&["check", "--credential", credential.as_str().unwrap(), "GET", "/tickets"]);
        assert_eq!(
            verdict,
            json!({
                "reason": "ok", "status": 200, "mode": "token", "credential_id": 1, "code": "current", "agent_id": 4,
                "agent_name": "Matthew", "attributes": {}, "switched": false, "app_id": 12, "expires_at": expires,
                "template": "/tickets", "tags": ["tickets.tickets.list"]
            })
        );
        assert_eq!(home.json(&["token", "revoke", "1"])["state"], "revoked");
        assert_eq!(who(home, credential.as_str().unwrap()), "revoked");
    });
}

#[test]
fn a_session_is_opened_shown_listed_and_closed() {
    with_small_world(|home| {
        let before = now();
        let mut opened = home.json(&["session", "open", "--agent", "4", "--ttl", "8h"]);
        let expires = opened["expires_at"].as_u64().unwrap();
        assert!((before..=now()).contains(&(expires - 8 * 3600)), "{opened}");
        let credential = opened.as_object_mut().unwrap().remove("credential").unwrap();
        let form = credential_form(&json!({"id": 1, "agent": 4, "expires_at": expires}));
        assert_eq!(opened, form);
        assert_eq!(home.json(&["session", "show", "1"]), form);
        assert_eq!(ids(&home.json(&["session", "list"])), [1]);
        assert_eq!(who(home, credential.as_str().unwrap()), "ok");
        assert_eq!(home.json(&["session", "close", "1"])["state"], "revoked");
        assert_eq!(who(home, credential.as_str().unwrap()), "revoked");
    });
}

#[test]
fn an_endpoint_is_added_shown_listed_and_removed() {
    with_daemon(|home| {
        let ticket = json!({"method": "GET", "path": "/tickets/{id}", "tags": ["tickets.get", "x"],
                            "modes": ["key", "token", "session"]});
        let named = |command| ["endpoint", command, "GET", "/tickets/{id}"];
        assert_eq!(home.json(&[&named("add")[..], &["--tags", "tickets.get,x"]].concat()), ticket);
        assert_eq!(home.json(&named("show")), ticket);
        let open = home.json(&["endpoint", "add", "GET", "/open", "--tags", "open", "--modes", "public"]);
        assert_eq!(open["modes"], json!(["public"]));
        assert_eq!(
            home.json(&["endpoint", "add", "PUT", "/a", "--tags", "a", "--modes", "session,key"])["modes"],
            json!(["key", "session"])
        );
        assert_eq!(home.json(&["endpoint", "list"]).as_array().unwrap().len(), 3);

        let twin = ["endpoint", "add", "GET", "/tickets/{number}", "--tags", "a"];
        assert!(refused(home, &twin).contains("there already"), "only the parameter's name differs");
        assert_eq!(home.json(&["endpoint", "show", "GET", "/tickets/{other}"]), ticket, "it is the same endpoint");
        assert_eq!(
            home.json(&named("remove")),
            json!({"removed": true, "kind": "endpoint", "method": "GET", "path": "/tickets/{id}"})
        );
        assert!(refused(home, &named("show")).contains("there is no endpoint"));
        assert!(refused(home, &named("remove")).contains("there is no endpoint"));
        assert_eq!(
            home.json(&[&named("add")[..], &["--tags", "new"]].concat())["tags"],
            json!(["new"]),
            "a removed endpoint can be added anew"
        );
    });
}

#[test]
fn adding_what_exists_is_refused_and_changes_nothing() {
    with_small_world(|home| {
        let before = (home.json(&["key", "show", "3"]), home.json(&["agent", "show", "4"]));
        for words in [
            &["key", "add", "x", "--agent", "1", "--id", "3"][..],
            &["agent", "add", "x", "--permissions", "*", "--id", "4"],
            &["endpoint", "add", "GET", "/tickets", "--tags", "x"],
        ] {
            assert!(refused(home, words).contains("is there already"), "{words:?}");
        }
        assert_eq!((home.json(&["key", "show", "3"]), home.json(&["agent", "show", "4"])), before);
        assert_eq!(check(home, &format!("key 2:{CODE}"), &["GET", "/tickets"]), "ok");
    });
}

#[test]
fn what_is_not_acceptable_is_refused_with_status_2_and_a_reason() {
    let long = "x".repeat(257);
    let attribute = format!("a={}", "x".repeat(1025));
    let table: &[(&[&str], &str)] = &[
        (&["agent", "add", "", "--permissions", "*"], "name"),
        (&["agent", "add", &long, "--permissions", "*"], "at most 256"),
        (&["agent", "add", "A", "--permissions", "-a"], "can allow nothing"),
        (&["agent", "add", "A", "--permissions", ""], "can allow nothing"),
        (&["agent", "add", "A", "--permissions", "tick*"], "whole segments"),
        (&["agent", "add", "A", "--permissions", "*", "--attribute", &attribute], "at most 1024"),
        (&["agent", "set", "9", "--name", "x"], "there is no agent 9"),
        (&["agent", "disable", "9"], "there is no agent 9"),
        (&["agent", "remove", "9"], "there is no agent 9"),
        (&["key", "show", "9"], "there is no key 9"),
        (&["key", "set", "9", "--label", "x"], "there is no key 9"),
        (&["key", "enable", "9"], "there is no key 9"),
        (&["key", "revoke", "9"], "there is no key 9"),
        (&["key", "set", "3"], "nothing to change"),
        (&["key", "set", "3", "--default-agent", "1"], "superuser"),
        (&["key", "add", &long, "--agent", "4"], "at most 256"),
        (&["key", "add", "x", "--agent", "9"], "no such agent"),
        (&["key", "add", "x", "--superuser", "--default-agent", "9"], "no such agent"),
        (&["key", "add", "x", "--agent", "4", "--tags", "A"], "no pattern"),
        (&["key", "add", "x", "--agent", "4", "--allow-ip", "10.1.2.3/16"], "10.1.0.0/16"),
        (&["token", "issue", "x", "--agent", "9"], "no such agent"),
        (&["token", "show", "3"], "there is no token 3"),
        (&["session", "open", "--agent", "9", "--ttl", "1h"], "no such agent"),
        (&["session", "close", "9"], "there is no session 9"),
        (&["endpoint", "add", "get", "/x", "--tags", "a"], "method"),
        (&["endpoint", "add", "GET", "x", "--tags", "a"], "path"),
        (&["endpoint", "add", "GET", "/x//y", "--tags", "a"], "path"),
        (&["endpoint", "add", "GET", "/x/../y", "--tags", "a"], "path"),
        (&["endpoint", "add", "GET", "/x", "--tags", "a.*"], "tag"),
        (&["endpoint", "add", "GET", "/x", "--tags", ""], "tag"),
        (&["endpoint", "add", "GET", "/x", "--tags", "a", "--modes", "public,key"], "modes"),
        (&["endpoint", "add", "GET", "/x", "--tags", "a", "--modes", "cookie"], "modes"),
    ];
    with_small_world(|home| {
        let before = home.json(&["status"])["revision"].clone();
        for (words, needle) in table {
            let said = refused(home, words);
            assert!(said.contains(needle), "{words:?}: {said}");
        }
        assert_eq!(home.json(&["status"])["revision"], before, "nothing was changed");
    });
}

#[test]
fn times_are_unix_seconds_rfc_3339_with_offset_or_from_now() {
    with_small_world(|home| {
        let set = |time: &str| home.json(&["key", "set", "3", "--expires", time])["expires_at"].as_u64().unwrap();
        for (time, seconds) in [
            ("4102444800", 4_102_444_800),
            ("2100-01-01T00:00:00Z", 4_102_444_800),
            ("2100-01-01T05:30:00+05:30", 4_102_444_800),
            ("2099-12-31T16:00:00-08:00", 4_102_444_800),
        ] {
            assert_eq!(set(time), seconds, "{time}");
        }
        for (time, ahead) in [("+90s", 90), ("+5m", 300), ("+2h", 7200), ("+30d", 30 * 86_400)] {
            let before = now();
            let seconds = set(time);
            assert!((before..=now()).contains(&(seconds - ahead)), "{time}: {seconds}");
        }
        for time in ["30d", "2100-01-01", "2100-01-01T00:00:00", "tomorrow", "-1", "", "+1w", "1.5"] {
            let output = home.run(&["key", "set", "3", "--expires", time]);
            assert_eq!(output.status.code(), Some(2), "{time}");
        }
        assert!(text(&home.run(&["key", "show", "3"]).stdout).contains("T"), "people see a date");
    });
}

#[test]
fn tables_are_for_people_and_no_label_commands_their_terminal() {
    with_small_world(|home| {
        home.json(&["key", "add", "two\nlines \u{1b}[31m", "--agent", "4"]);
        let shown = |home: &Home, words: &[&str]| text(&home.run(words).stdout).to_owned();
        let table = shown(home, &["key", "list"]);
        assert_eq!(table.lines().count(), 4, "a header and a line a key:\n{table}");
        assert!(table.starts_with("ID") && table.contains("two\\nlines \\u{1b}[31m"), "{table}");
        assert!(shown(home, &["key", "show", "4"]).contains("two\\nlines \\u{1b}[31m"));
        assert!(shown(home, &["agent", "list"]).contains("Matthew"));
        assert!(shown(home, &["agent", "show", "4"]).contains("tickets.*, -*.delete"));
        assert!(shown(home, &["endpoint", "list"]).contains("/tickets/{id}"));
        assert!(shown(home, &["endpoint", "show", "GET", "/people"]).contains("people.people.list"));
        let check =
            shown(home, &["check", "--credential", &format!("key 2:{CODE}"), "--agent", "4", "GET", "/tickets"]);
        assert!(check.contains("allowed") && check.contains("Matthew") && check.contains("/tickets"), "{check}");
        let removed = shown(home, &["endpoint", "remove", "GET", "/people"]);
        assert_eq!(removed, "removed: endpoint GET /people\n");
    });
}
