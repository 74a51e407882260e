//! `keyward apply`: what it refuses and where, what it keeps, what it prunes, what it reports.

use std::time::Instant;

use serde_json::{Value, json};

use super::{CODE, OTHER_CODE, apply_with, refused_apply, small_world, text, who, with_daemon, with_small_world};

#[test]
fn a_file_is_refused_with_the_place_of_what_is_wrong() {
    let key = |id: u64| json!({"id": id, "code": "long-enough", "agent": 4});
    let with = |mut record: Value, field: &str, value: Value| {
        record[field] = value;
        record
    };
    let keys = |fourth: Value| json!({"keys": [key(11), key(12), key(13), fourth]});
    let table = [
        (keys(with(key(14), "agent", json!(99))), "keys[3]: key 14 names agent 99: there is no such agent"),
        (keys(key(12)), "keys[3]: key 12 is listed twice"),
        (keys(json!({"id": 14, "agent": 4})), "keys[3]: key 14: it is new and needs a code"),
        (keys(json!({"id": 14, "code": "long-enough"})), "keys[3]: key 14: it needs an agent, or superuser true"),
        (keys(with(key(14), "superuser", json!(true))), "keys[3]: key 14: a superuser key is bound to no agent"),
        (keys(with(key(14), "default_agent", json!(4))), "keys[3]: key 14: only superuser keys have a default_agent"),
        (keys(with(key(14), "tags", json!("-a"))), "keys[3]: tags: the list can allow nothing"),
        (keys(with(key(14), "tags", json!(["a", "b,c"]))), "keys[3]: tags: \"b,c\" is no pattern"),
        (keys(with(key(14), "tags", json!([]))), "keys[3]: tags: the list can allow nothing"),
        (keys(with(key(14), "allow_ip", json!([]))), "keys[3]: allow_ip: an empty list"),
        (keys(with(key(14), "allow_ip", json!(["10.0.0.1/8"]))), "keys[3]: allow_ip: "),
        (keys(with(key(14), "code", json!("short"))), "keys[3]: code: "),
        (keys(with(key(14), "label", json!("x".repeat(257)))), "keys[3]: label: "),
        (keys(with(key(14), "id", json!(0))), "keys[3]: 0 is no id"),
        (keys(with(key(14), "id", json!(1_u64 << 53))), "keys[3]: 9007199254740992 is no id"),
        (keys(with(key(14), "expires_at", json!(1_u64 << 53))), "keys[3]: expires_at: 9007199254740992 is no time"),
        (json!({"tokens": [{"id": 1, "code": "long-enough"}]}), "tokens[0]: token 1: it needs an agent"),
        (json!({"tokens": [key(1), key(1)]}), "tokens[1]: token 1 is listed twice"),
        (json!({"sessions": [{"id": 1, "code": "long-enough"}]}), "sessions[0]: session 1: it needs an agent"),
        (json!({"agents": [{"id": 9, "permissions": "*"}]}), "agents[0]: agent 9: a new agent needs a name"),
        (json!({"agents": [{"id": 9, "name": "A"}]}), "agents[0]: agent 9: a new agent needs permissions"),
        (json!({"agents": [{"id": 1}, {"id": 9, "name": ""}]}), "agents[1]: name: "),
        (json!({"endpoints": [{"method": "GET", "path": "/x"}]}), "endpoints[0]: "),
        (json!({"endpoints": [{"method": "GET", "path": "/x", "tags": []}]}), "endpoints[0]: tags: "),
        (json!({"endpoints": [{"method": "GET", "path": "/x", "tags": ["*"]}]}), "endpoints[0]: tags: "),
        (json!({"endpoints": [{"method": "get", "path": "/x", "tags": ["x"]}]}), "endpoints[0]: method: "),
        (
            json!({"endpoints": [{"method": "GET", "path": "/{a}", "tags": ["x"]},
                              {"method": "GET", "path": "/{b}", "tags": ["x"]}]}),
            "endpoints[1]: ",
        ),
        (json!({"keys": [key(11)], "key": []}), "file refused: -: line 1, column "),
        (keys(with(key(14), "labl", json!("x"))), "unknown field `labl`"),
        (keys(with(key(14), "app_id", json!(1))), "unknown field `app_id`"),
        (json!({"sessions": [with(key(1), "superuser", json!(true))]}), "unknown field `superuser`"),
        (keys(with(key(14), "expires_at", json!("+30d"))), "expected u64"),
        (keys(with(key(14), "enabled", Value::Null)), "expected a boolean"),
    ];
    with_small_world(|home| {
        for (file, wanted) in table {
            let said = refused_apply(home, &file, &[]);
            let is_place = wanted.contains('[') || wanted.starts_with("file refused");
            let found = if is_place { said.starts_with(&format!("keyward: {wanted}")) } else { said.contains(wanted) };
            assert!(found, "{file}\n  wanted: {wanted}\n  said: {said}");
        }
        let doubled = r#"{"keys": [{"id": 3, "id": 3, "agent": 4}]}"#;
        let output = home.run_with_stdin(&["apply", "-"], doubled.as_bytes());
        assert!(
            text(&output.stderr).contains("line 1, column") && text(&output.stderr).contains("duplicate field `id`")
        );
    });
}

#[test]
fn references_are_judged_after_the_change() {
    with_small_world(|home| {
        let together = json!({"keys": [{"id": 9, "code": "long-enough", "agent": 9}, {"id": 3, "agent": 9}],
                              "agents": [{"id": 1}, {"id": 9, "name": "New", "permissions": "*"}]});
        let said = refused_apply(home, &json!({"keys": [together["keys"][0]]}), &[]);
        assert!(said.starts_with("keyward: keys[0]: key 9 names agent 9"), "{said}");
        let report = apply_with(home, &together, &["--prune"]);
        let removed = report["removed"].as_array().unwrap();
        assert!(
            removed.contains(&json!({"kind": "agent", "id": 4})),
            "the agent that key 3 left can go with it: {report}"
        );
        assert_eq!(who(home, "key 9:long-enough"), "ok");
        assert_eq!(home.json(&["key", "show", "3"])["agent"], 9);

        let orphan = json!({"agents": [{"id": 1}]});
        let said = refused_apply(home, &orphan, &["--prune"]);
        assert!(said.contains("agent 9") && said.contains("key 3, key 9"), "{said}");
        let with_keys = json!({"agents": [{"id": 1}], "keys": [{"id": 3, "agent": 1}]});
        apply_with(home, &with_keys, &["--prune"]);
        assert_eq!(home.json(&["key", "show", "9"])["state"], "revoked", "pruned together with its agent");
        assert_eq!(home.json(&["agent", "list"]).as_array().unwrap().len(), 1);
    });
}

#[test]
fn of_many_agents_that_are_pruned_the_first_that_is_in_use_is_named_with_its_own() {
    with_small_world(|home| {
        let agents: Vec<Value> =
            (1..=40).map(|id| json!({"id": id, "name": format!("Agent {id}"), "permissions": "*"})).collect();
        let key = |id: u64, agent: u64| json!({"id": id, "code": "long-enough", "agent": agent});
        apply_with(home, &json!({"agents": agents, "keys": [key(31, 20), key(30, 21), key(32, 20), key(33, 22)]}), &[]);
        home.json(&["key", "revoke", "31"]);
        home.json(&["key", "set", "3", "--agent", "1"]);
        let mut keep = json!({"agents": [{"id": 1}]});
        let said = refused_apply(home, &keep, &["--prune"]);
        assert!(said.contains("agent 20 can't be removed: key 32 would be left"), "{said}");
        keep["agents"] = json!([{"id": 1}, {"id": 20}, {"id": 21}]);
        let said = refused_apply(home, &keep, &["--prune"]);
        assert!(said.contains("agent 22 can't be removed: key 33 would be left"), "{said}");
        keep["keys"] = json!([{"id": 33, "agent": 20}]);
        let report = apply_with(home, &keep, &["--prune"]);
        let removed = report["removed"].as_array().unwrap();
        assert_eq!(removed.iter().filter(|name| name["kind"] == "agent").count(), 37, "{report}");
    });
}

#[test]
fn many_agents_beside_many_keys_are_pruned_in_less_time_than_it_took_to_make_them() {
    with_small_world(|home| {
        let agents: Vec<Value> =
            (1..=5000).map(|id| json!({"id": id, "name": format!("Agent {id}"), "permissions": "*"})).collect();
        let keys: Vec<Value> = (100..20_100).map(|id| json!({"id": id, "code": "long-enough", "agent": 1})).collect();
        let began = Instant::now();
        apply_with(home, &json!({"agents": agents, "keys": keys}), &[]);
        let making = began.elapsed();
        home.json(&["key", "set", "3", "--agent", "1"]);
        let began = Instant::now();
        apply_with(home, &json!({"agents": [{"id": 1}]}), &["--prune"]);
        // A walk along the keys for each agent would take several times as long.
        assert!(began.elapsed() < making, "{:?}, and to make them {making:?}", began.elapsed());
    });
}

#[test]
fn a_revoked_credential_holds_no_agent() {
    with_small_world(|home| {
        home.json(&["key", "revoke", "3"]);
        home.json(&["agent", "remove", "4"]);
        let file = json!({"keys": [{"id": 3, "agent": 4, "revoked": true}]});
        assert_eq!(apply_with(home, &file, &[])["changed"], json!([]));
    });
}

#[test]
fn what_an_existing_record_is_not_given_it_keeps() {
    with_daemon(|home| {
        let rich = json!({
            "agents": [{"id": 4, "name": "M", "permissions": "tickets.*", "enabled": false, "attributes": {"a": "b"}}],
            "endpoints": [{"method": "GET", "path": "/x", "tags": ["a", "b"], "modes": ["session"]}],
            "keys": [{"id": 3, "label": "l", "code": CODE, "agent": 4, "tags": "a.*, -b", "enabled": false,
                      "not_before": 5, "expires_at": 4_102_444_800_u64, "allow_ip": ["10.0.0.0/8"]},
                     {"id": 2, "label": "s", "code": CODE, "superuser": true, "default_agent": 4}],
            "tokens": [{"id": 3, "label": "t", "code": CODE, "agent": 4, "app_id": 7, "tags": "c"}],
            "sessions": [{"id": 3, "label": "z", "code": CODE, "agent": 4, "expires_at": 4_102_444_800_u64}]
        });
        home.apply(&rich);
        let shown = |home: &super::Home| {
            ["agent", "endpoint", "key", "token", "session"].map(|kind| home.json(&[kind, "list"]))
        };
        let before = shown(home);
        let named = json!({
            "agents": [{"id": 4}], "endpoints": [{"method": "GET", "path": "/x"}],
            "keys": [{"id": 2}, {"id": 3}], "tokens": [{"id": 3}], "sessions": [{"id": 3}]
        });
        let nothing = json!({"added": [], "changed": [], "removed": [], "dry_run": false});
        assert_eq!(apply_with(home, &named, &[]), nothing);
        assert_eq!(apply_with(home, &rich, &[]), nothing, "the same again is no difference");
        assert_eq!(apply_with(home, &json!({}), &["--prune"]), nothing, "no section, nothing to prune");
        assert_eq!(shown(home), before);

        let report = apply_with(home, &json!({"keys": [{"id": 3, "label": "new", "expires_at": null}]}), &[]);
        assert_eq!(
            report["changed"],
            json!([
                {"kind": "key", "id": 3, "field": "label", "from": "l", "to": "new"},
                {"kind": "key", "id": 3, "field": "expires_at", "from": 4_102_444_800_u64, "to": null}
            ])
        );
        let mut wanted = before[2][1].clone();
        wanted["label"] = json!("new");
        wanted["expires_at"] = Value::Null;
        assert_eq!(home.json(&["key", "show", "3"]), wanted);
    });
}

#[test]
fn a_new_record_takes_the_defaults() {
    with_daemon(|home| {
        home.apply(&json!({
            "agents": [{"id": 4, "name": "M", "permissions": "*"}],
            "endpoints": [{"method": "GET", "path": "/x", "tags": ["a"]}],
            "keys": [{"id": 3, "code": CODE, "agent": 4}], "tokens": [{"id": 3, "code": CODE, "agent": 4}],
            "sessions": [{"id": 3, "code": CODE, "agent": 4}]
        }));
        let common = json!({"id": 3, "label": "", "agent": 4, "tags": "*", "enabled": true, "revoked": false,
            "not_before": null, "expires_at": null, "allow_ip": null, "state": "enabled", "retiring_until": null,
            "last_used": null});
        let with = |fields: &Value| {
            let mut form = common.clone();
            form.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            form
        };
        assert_eq!(home.json(&["key", "show", "3"]), with(&json!({"superuser": false, "default_agent": null})));
        assert_eq!(home.json(&["token", "show", "3"]), with(&json!({"app_id": null})));
        assert_eq!(home.json(&["session", "show", "3"]), common);
        let agent = home.json(&["agent", "show", "4"]);
        assert_eq!((&agent["enabled"], &agent["attributes"]), (&json!(true), &json!({})));
        assert_eq!(home.json(&["endpoint", "show", "GET", "/x"])["modes"], json!(["key", "token", "session"]));
    });
}

#[test]
fn a_different_code_replaces_the_current_one_at_once() {
    with_small_world(|home| {
        let file = |code: &str| json!({"keys": [{"id": 3, "code": code}]});
        assert_eq!(apply_with(home, &file(OTHER_CODE), &[])["changed"], json!([]), "the same code is no change");
        let report = apply_with(home, &file("another-code"), &[]);
        let [change] = &report["changed"].as_array().unwrap()[..] else { panic!("{report}") };
        assert_eq!((&change["kind"], &change["id"], &change["field"]), (&json!("key"), &json!(3), &json!("code")));
        assert!(!report.to_string().contains("another-code") && !report.to_string().contains(OTHER_CODE), "{report}");
        assert_eq!(who(home, "key 3:another-code"), "ok");
        assert_eq!(who(home, &format!("key 3:{OTHER_CODE}")), "bad_credential");
        assert_eq!(home.json(&["key", "show", "3"])["retiring_until"], Value::Null);
    });
}

#[test]
fn a_file_can_revoke() {
    with_small_world(|home| {
        let report = apply_with(home, &json!({"keys": [{"id": 3, "revoked": true}]}), &[]);
        assert_eq!(
            report["changed"],
            json!([
                {"kind": "key", "id": 3, "field": "revoked", "from": false, "to": true}
            ])
        );
        assert_eq!(who(home, &format!("key 3:{OTHER_CODE}")), "revoked");
    });
}

#[test]
fn prune_touches_only_the_sections_that_the_file_has() {
    with_small_world(|home| {
        home.json(&["token", "issue", "x", "--agent", "4"]);
        home.json(&["session", "open", "--agent", "4", "--ttl", "1h"]);
        let keys = json!({"keys": [{"id": 2}]});
        assert_eq!(apply_with(home, &keys, &[])["removed"], json!([]), "without --prune what isn't listed stays");
        assert_eq!(who(home, &format!("key 3:{OTHER_CODE}")), "ok");
        assert_eq!(apply_with(home, &keys, &["--prune"])["removed"], json!([{"kind": "key", "id": 3}]));
        assert_eq!(
            who(home, &format!("key 3:{OTHER_CODE}")),
            "revoked",
            "a pruned credential is revoked, not forgotten"
        );
        assert_eq!(
            apply_with(home, &keys, &["--prune"])["removed"],
            json!([]),
            "a second time there is nothing to prune"
        );
        for (kind, state) in [("token", "enabled"), ("session", "enabled")] {
            assert_eq!(home.json(&[kind, "show", "1"])["state"], state);
        }
        assert_eq!(home.json(&["agent", "list"]).as_array().unwrap().len(), 2);
        assert_eq!(home.json(&["endpoint", "list"]).as_array().unwrap().len(), 3);

        let empty = json!({"tokens": [], "endpoints": [{"method": "GET", "path": "/people"}]});
        assert_eq!(
            apply_with(home, &empty, &["--prune"])["removed"],
            json!([
                {"kind": "endpoint", "id": "DELETE /tickets/{id}"}, {"kind": "endpoint", "id": "GET /tickets"},
                {"kind": "token", "id": 1}
            ])
        );
        assert_eq!(home.json(&["session", "show", "1"])["state"], "enabled");
        assert_eq!(home.json(&["token", "show", "1"])["state"], "revoked");
    });
}

#[test]
fn a_file_is_applied_whole_or_not_at_all() {
    with_small_world(|home| {
        let file = json!({
            "agents": [{"id": 1, "name": "Changed"}, {"id": 9, "name": "New", "permissions": "*"}],
            "endpoints": [], "keys": [{"id": 2, "enabled": false}, {"id": 3, "agent": 77}]
        });
        refused_apply(home, &file, &[]);
        refused_apply(home, &file, &["--prune"]);
        assert_eq!(home.json(&["agent", "show", "1"])["name"], "Admin");
        assert_eq!(home.json(&["agent", "list"]).as_array().unwrap().len(), 2);
        assert_eq!(home.json(&["endpoint", "list"]).as_array().unwrap().len(), 3);
        assert_eq!(who(home, &format!("key 2:{CODE}")), "ok");
    });
}

#[test]
fn a_dry_run_reports_the_difference_and_changes_nothing() {
    with_small_world(|home| {
        let file = json!({
            "agents": [{"id": 1, "permissions": "a"}, {"id": 4}, {"id": 9, "name": "New", "permissions": "*"}],
            "keys": [{"id": 3, "code": "another-code", "agent": 9}]
        });
        let revision = home.json(&["status"])["revision"].clone();
        let mut planned = apply_with(home, &file, &["--prune", "--dry-run"]);
        assert_eq!(planned["dry_run"], true);
        assert_eq!(planned["added"], json!([{"kind": "agent", "id": 9}]));
        assert_eq!(planned["removed"], json!([{"kind": "key", "id": 2}]));
        assert_eq!(planned["changed"].as_array().unwrap().len(), 3, "{planned}");
        assert_eq!(home.json(&["status"])["revision"], revision);
        assert_eq!(who(home, &format!("key 2:{CODE}")), "ok");
        assert_eq!(who(home, &format!("key 3:{OTHER_CODE}")), "ok");
        let said = home.run_with_stdin(&["apply", "-", "--dry-run"], file.to_string().as_bytes());
        assert!(text(&said.stdout).contains("nothing was changed"), "{}", text(&said.stdout));

        let done = apply_with(home, &file, &["--prune"]);
        planned["dry_run"] = json!(false);
        assert_eq!(done, planned, "the real run does what the dry one said");
        assert_eq!(who(home, "key 3:another-code"), "ok");
        assert!(refused_apply(home, &json!({"keys": [{"id": 7}]}), &["--dry-run"]).starts_with("keyward: keys[0]: "));
    });
}

#[test]
fn a_file_may_be_toml_and_people_read_what_it_did() {
    with_daemon(|home| {
        let path = home.path().join("world.toml");
        let words = ["apply", path.to_str().unwrap()];
        std::fs::write(
            &path,
            "[[agents]]\nid = 4\nname = 'Matthew'\npermissions = ['tickets.*', '-*.delete']\nattributes = { team = 'x' }\n\
             [[endpoints]]\nmethod = 'GET'\npath = '/tickets'\ntags = ['tickets.list']\n\
             [[keys]]\nid = 3\nagent = 4\ncode = 'YWK2PGCS8CNW62SR8TBTBKWMY'\ntags = '-a, *'\n",
        )
        .unwrap();
        let said = home.run(&words);
        assert_eq!(
            text(&said.stdout),
            "+ agent 4\n+ endpoint GET /tickets\n+ key 3\ndone: 3 added, 0 fields changed, 0 removed\n"
        );
        assert_eq!(super::check(home, &format!("key 3:{CODE}"), &["GET", "/tickets"]), "ok");
        assert_eq!(home.json(&["agent", "show", "4"])["attributes"], json!({"team": "x"}));
        std::fs::write(&path, "[[keys]]\nid = 3\nagnet = 4\n").unwrap();
        let said = super::refused(home, &words);
        assert!(said.contains("world.toml: line 3, column 1: unknown field `agnet`"), "{said}");
    });
}

#[test]
fn a_file_larger_than_a_frame_is_one_change() {
    with_daemon(|home| {
        let label = "x".repeat(250);
        let keys: Vec<Value> =
            (1..=9000).map(|id| json!({"id": id, "label": label, "code": CODE, "agent": 1})).collect();
        let mut file = json!({"agents": [{"id": 1, "name": "A", "permissions": "*"}], "keys": keys});
        let before = home.json(&["status"])["revision"].as_u64().unwrap();
        let report = apply_with(home, &file, &[]);
        assert_eq!(report["added"].as_array().unwrap().len(), 9001, "the whole report comes");
        assert_eq!(home.json(&["status"])["revision"].as_u64().unwrap(), before + 1, "it was one commit");
        assert_eq!(who(home, &format!("key 9000:{CODE}")), "ok");
        assert_eq!(super::ids(&home.json(&["key", "list"])), (1..=9000).collect::<Vec<_>>(), "all pages are listed");
        file["keys"][8999]["agent"] = json!(2);
        file["keys"][0]["enabled"] = json!(false);
        assert!(refused_apply(home, &file, &[]).starts_with("keyward: keys[8999]: "));
        assert_eq!(who(home, &format!("key 1:{CODE}")), "ok");
    });
}

#[test]
fn the_file_may_stand_anywhere() {
    with_daemon(|home| {
        assert_eq!(home.apply(&small_world())["added"].as_array().unwrap().len(), 7);
        let missing = home.path().join("missing.json");
        assert!(super::refused(home, &["apply", missing.to_str().unwrap()]).contains("missing.json"));
        assert!(super::refused(home, &["apply", home.path().to_str().unwrap()]).contains("file refused"));
    });
}
