//! Codes: made and shown once, given, replaced, used.

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::{Home, KEYWARD};
use super::{CODE, OTHER_CODE, check, refusal, refused, text, who, with_daemon, with_small_world};

const CROCKFORD: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn code_of(credential: &str) -> &str {
    credential.split_once(':').unwrap().1
}

#[test]
fn a_new_code_is_printed_once_and_works_at_once() {
    with_small_world(|home| {
        for (words, scheme, show) in [
            (&["key", "add", "x", "--agent", "4"][..], "key 4:", ["key", "show", "4"]),
            (&["token", "issue", "x", "--agent", "4"], "token 1:", ["token", "show", "1"]),
            (&["session", "open", "--agent", "4", "--ttl", "1h"], "session 1:", ["session", "show", "1"]),
        ] {
            let credential = home.json(words)["credential"].as_str().unwrap().to_owned();
            assert!(credential.starts_with(scheme), "{words:?}");
            let code = code_of(&credential);
            assert_eq!((code.len(), code.trim_matches(|c| CROCKFORD.contains(c))), (25, ""), "{words:?}");
            assert_eq!(check(home, &credential, &["GET", "/tickets"]), "ok", "{words:?}");
            let wrong = format!("{scheme}{}", "0".repeat(25));
            assert_eq!(who(home, &wrong), "bad_credential");
            for shown in [home.run(&show), home.run(&[&["--json"], &show[..]].concat()), home.run(&[show[0], "list"])] {
                let shown = text(&shown.stdout);
                assert!(!shown.contains(code) && !shown.contains("credential"), "{show:?}: {shown}");
            }
        }
        let output = home.run(&["key", "add", "for people", "--agent", "4"]);
        let said = text(&output.stdout);
        let credential = said.lines().find_map(|line| line.strip_prefix("credential  ")).unwrap();
        assert_eq!(said.matches(code_of(credential)).count(), 1, "{said}");
        assert!(said.contains("can't be shown again") && output.stderr.is_empty(), "{said}");
        assert_eq!(who(home, credential), "ok");
    });
}

#[test]
fn no_two_codes_are_alike() {
    with_small_world(|home| {
        let add = |_| home.json(&["key", "add", "x", "--agent", "4"])["credential"].as_str().unwrap().to_owned();
        let mut codes: Vec<String> = (0..20).map(add).map(|credential| code_of(&credential).to_owned()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 20);
    });
}

#[test]
fn a_new_code_that_could_not_be_printed_is_an_error() {
    with_small_world(|home| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(KEYWARD)
            .args(["key", "add", "x", "--agent", "4"])
            .env("KEYWARD_RUNTIME", home.runtime())
            .stdin(Stdio::null())
            .stdout(full)
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("code is lost") && said.contains("revoke"), "{said}");
    });
}

#[test]
fn a_code_is_given_on_standard_input_and_not_printed() {
    with_small_world(|home| {
        let add = &["--json", "key", "add", "x", "--agent", "4", "--code-stdin"];
        let output = home.run_with_stdin(add, b"dev-admin-code!\nrest\n");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(!text(&output.stdout).contains("dev-admin") && !text(&output.stdout).contains("credential"));
        assert_eq!(who(home, "key 4:dev-admin-code!"), "ok");

        let set = &["--json", "key", "set", "4", "--code-stdin"];
        assert!(home.run_with_stdin(set, b"another-code").status.success());
        assert_eq!(who(home, "key 4:another-code"), "ok");
        assert_eq!(who(home, "key 4:dev-admin-code!"), "bad_credential", "the old one ended at once");

        for code in ["", "short", "with blank in it", "t\u{fc}r-und-tor", &"x".repeat(129)] {
            let said = refusal(set, &home.run_with_stdin(set, code.as_bytes()));
            assert!(code.is_empty() || !said.contains(code), "{said}");
        }
        assert_eq!(who(home, "key 4:another-code"), "ok");
    });
}

#[test]
fn a_credential_is_read_from_standard_input() {
    with_small_world(|home| {
        let ask = |stdin: String| {
            let output =
                home.run_with_stdin(&["--json", "check", "--credential", "-", "GET", "/tickets"], stdin.as_bytes());
            serde_json::from_slice::<Value>(&output.stdout).unwrap()["reason"].as_str().unwrap().to_owned()
        };
        assert_eq!(ask(format!("key 2:{CODE}\n")), "ok");
        assert_eq!(ask(format!("key 2:{CODE}")), "ok");
        assert_eq!(ask(format!("key 2:{OTHER_CODE}\n")), "bad_credential");
        assert_eq!(ask(format!("key 2:{CODE}\r\n")), "malformed_credential", "nothing is trimmed into shape");
        assert_eq!(ask("\n".to_owned()), "missing_credential");
    });
}

#[test]
fn a_sessions_code_fits_a_cookie() {
    with_small_world(|home| {
        for id in 1..=5 {
            let opened = home.json(&["session", "open", "--agent", "4", "--ttl", "1h"]);
            let code = code_of(opened["credential"].as_str().unwrap()).to_owned();
            assert!(code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "session {id}");
        }
        let given = |code: &str| json!({"sessions": [{"id": 9, "code": code, "agent": 4}]});
        for code in ["has;semicolon", "has=equals", "has,comma1", "has\"quote1", "has:colon1"] {
            let said = super::refused_apply(home, &given(code), &[]);
            assert!(
                said.starts_with("keyward: sessions[0]: ") && said.contains("cookie") && !said.contains(code),
                "{said}"
            );
        }
        super::apply_with(home, &given("fits_A-cookie0"), &[]);
        assert_eq!(who(home, "session 9:fits_A-cookie0"), "ok");
    });
}

#[test]
fn the_last_use_is_shown_and_survives_a_restart() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&super::small_world());
    let used = |home: &Home| home.json(&["key", "show", "3"])["last_used"].clone();
    assert_eq!(used(&home), Value::Null);
    let key = format!("key 3:{OTHER_CODE}");
    assert_eq!(who(&home, "key 3:WRONGWRONGWRONG"), "bad_credential");
    assert_eq!(check(&home, &key, &["GET", "/people"]), "agent_not_permitted");
    home.run(&["explain", "--key", "3", "GET", "/tickets"]);
    assert_eq!(used(&home), Value::Null, "a refused request is no use, and neither is explaining");

    let before = super::now();
    assert_eq!(check(&home, &key, &["--ip", "::ffff:10.1.2.3", "GET", "/tickets"]), "ok");
    let last = used(&home);
    assert_eq!((&last["current"]["address"], &last["retiring"]), (&json!("10.1.2.3"), &Value::Null), "{last}");
    assert!((before..=super::now()).contains(&last["current"]["at"].as_u64().unwrap()), "{last}");
    assert_eq!(home.json(&["key", "list"])[1]["last_used"], last);
    assert_eq!(home.json(&["key", "show", "2"])["last_used"], Value::Null, "nobody used the other one");
    assert!(text(&home.run(&["key", "show", "3"]).stdout).contains("10.1.2.3"));

    daemon.stop();
    let daemon = home.start();
    assert_eq!(used(&home), last);
    daemon.stop();
}

#[test]
fn the_verdict_says_who_it_is_with_every_key() {
    with_small_world(|home| {
        let key = format!("key 2:{CODE}");
        let output = home.run(&["--json", "check", "--credential", &key, "--agent", "4", "GET", "/tickets?page=2"]);
        assert_eq!(
            text(&output.stdout),
            "{\"reason\":\"ok\",\"status\":200,\"mode\":\"key\",\"credential_id\":2,\"code\":\"current\",\"agent_id\":4,\
             \"agent_name\":\"Matthew\",\"attributes\":{},\"switched\":true,\"app_id\":null,\"expires_at\":null,\
             \"template\":\"/tickets\",\"tags\":[\"tickets.tickets.list\"]}\n"
        );
        let known = json!({
            "reason": "ok", "status": 200, "mode": "key", "credential_id": 2, "code": "current", "agent_id": 1,
            "agent_name": "Admin", "attributes": {}, "switched": false, "app_id": null, "expires_at": null,
            "template": null, "tags": []
        });
        assert_eq!(home.json(&["check", "--credential", &key]), known, "who is it");
        for tags in [&["--tag", "a", "b"][..], &["--tag", "a", "--tag", "b"]] {
            let words = [&["check", "--credential", &key], tags].concat();
            assert_eq!(home.json(&words), known, "{words:?}");
        }
        home.json(&["endpoint", "add", "GET", "/open", "--tags", "open", "--modes", "public"]);
        assert_eq!(
            home.json(&["check", "--credential", "nonsense", "GET", "/open"]),
            json!({
                "reason": "ok", "status": 200, "mode": null, "credential_id": null, "code": null, "agent_id": null,
                "agent_name": null, "attributes": {}, "switched": false, "app_id": null, "expires_at": null,
                "template": "/open", "tags": ["open"]
            })
        );
        let denied = home.run(&["check", "--json", "GET", "/tickets"]);
        assert_eq!(text(&denied.stdout), "{\"reason\":\"missing_credential\",\"status\":401}\n");
        home.json(&["key", "set", "2", "--expires", "4102444800"]);
        assert_eq!(home.json(&["check", "--credential", &key])["expires_at"], 4_102_444_800_u64);
    });
}

#[test]
fn several_tags_of_a_question_are_one_endpoints() {
    with_small_world(|home| {
        home.json(&["key", "set", "2", "--tags", "a, -b.c"]);
        let key = format!("key 2:{CODE}");
        for (tags, reason) in [
            (&["--tag", "a"][..], "ok"),
            (&["--tag", "x"], "tag_not_granted"),
            (&["--tag", "a", "x"], "ok"),
            (&["--tag", "a", "--tag", "x"], "ok"),
            (&["--tag", "a", "b.c"], "tag_denied"),
            (&["--tag", "b.c", "--tag", "a"], "tag_denied"),
            (&["--tag", "a", "B"], "bad_request"),
            (&["--tag", "a", "GET", "/tickets"], "bad_request"),
        ] {
            assert_eq!(check(home, &key, tags), reason, "{tags:?}");
        }
    });
}

#[test]
fn agent_and_address_are_sent_as_typed() {
    with_small_world(|home| {
        let key = format!("key 2:{CODE}");
        home.json(&["key", "set", "2", "--allow-ip", "10.0.0.0/8"]);
        for (words, reason) in [
            (&["--ip", "10.1.2.3"][..], "ok"),
            (&["--ip", " 10.1.2.3"], "ip_not_allowed"),
            (&["--ip", "-"], "ip_not_allowed"),
            (&["--ip", ""], "ip_not_allowed"),
            (&["--ip", "10.1.2.3", "--agent", "4"], "ok"),
            (&["--ip", "10.1.2.3", "--agent", " 4"], "bad_request"),
            (&["--ip", "10.1.2.3", "--agent", "-4"], "bad_request"),
            (&["--ip", "10.1.2.3", "--agent", "04"], "bad_request"),
            (&["--ip", "10.1.2.3", "--agent", ""], "bad_request"),
            (&["--ip", "10.1.2.3", "--agent", "18446744073709551615"], "agent_unknown"),
        ] {
            assert_eq!(check(home, &key, words), reason, "{words:?}");
        }
    });
}

#[test]
fn a_code_typed_as_an_argument_is_wrong_usage() {
    with_daemon(|home| {
        let output = home.run(&["key", "add", "x", "--agent", "1", "--code", CODE]);
        assert_eq!(output.status.code(), Some(2));
        assert!(refused(home, &["key", "add", "x", "--agent", "1"]).contains("no such agent"));
    });
}

#[test]
fn a_code_that_replaces_another_has_not_been_used_yet() {
    let home = Home::new();
    let _daemon = home.start();
    home.json(&["agent", "add", "Admin", "--permissions", "*"]);
    home.json(&["key", "add", "first", "--agent", "1", "--id", "5"]);
    let given = |code: &str| {
        let output = home.run_with_stdin(&["--json", "key", "set", "5", "--code-stdin"], code.as_bytes());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let use_of = |code: &str| home.json(&["check", "--credential", &format!("key 5:{code}"), "--ip", "10.0.0.1"]);
    given("first-code-of-5");
    assert_eq!(use_of("first-code-of-5")["reason"], "ok");
    assert_eq!(home.json(&["key", "show", "5"])["last_used"]["current"]["address"], "10.0.0.1");
    given("second-code-of-5");
    assert!(home.json(&["key", "show", "5"])["last_used"].is_null());
    assert_eq!(use_of("second-code-of-5")["reason"], "ok");
    assert!(home.json(&["key", "show", "5"])["last_used"]["current"]["at"].is_u64());
}
