//! What the documentation shows works as shown, against the real daemon.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Home, conformance};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/clients/ask.py");

/// Whether python3 runs here; says so when it does not.
fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.as_ref().is_ok_and(std::process::ExitStatus::success) {
        return true;
    }
    // Not by eprintln, whose output the test harness keeps to itself when a test passes.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED: the client in Python, because python3 does not run here: {found:?}").unwrap();
    false
}

/// Runs the client as `PROTOCOL.md` says; what it printed and its exit status.
fn ask(home: &Home, words: &[&str]) -> (String, Option<i32>) {
    let output = Command::new("python3")
        .args(["-B", CLIENT])
        .arg(home.runtime().join("query.sock"))
        .args(words)
        .env("PYTHONUTF8", "1")
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap().trim_end().to_owned(), output.status.code())
}

#[test]
fn the_client_in_twenty_five_lines_of_python_is_answered() {
    if !has_python() {
        return;
    }
    let home = Home::new();
    let daemon = home.start();
    home.apply(&conformance("world.json"));
    let superuser = "key 2:YWK2PGCS8CNW62SR8TBTBKWMY";
    // A token has an app_id, a session an expiry: fields of a verdict that move those behind them.
    for (words, printed, status) in [
        (&[superuser, "GET", "/api/v2/me"][..], "ok 200 1 Admin", 0),
        (&[superuser, "GET", "/api/v2/tickets?page=2", "4"], "ok 200 4 Matthew", 0),
        (&[superuser, "GET", "/api/v2/me", "5"], "ok 200 5 Zoë Ångström", 0),
        (&["token 2:TKQ2PGCS8CNW62SR8TBTBKWMY", "GET", "/api/v2/tickets"], "ok 200 4 Matthew", 0),
        (&["session 7:SZQ2PGCS8CNW62SR8TBTBKWMY", "GET", "/api/v2/ui/state"], "ok 200 1 Admin", 0),
        (&["", "GET", "/api/v2/helpdesk/discover"], "ok 200 None", 0),
        (&["anything", "OPTIONS", "/api/v2/tickets"], "ok 200 None", 0),
        (&["key 3:3A7QXW9ZK2M4N6P8R0S1T5V7Y", "DELETE", "/api/v2/tickets/9"], "agent_not_permitted 403 None", 1),
        (&["key 4:4B8RXW9ZK2M4N6P8R0S1T5V7Y", "DELETE", "/api/v2/tickets/9", "1"], "tag_denied 403 None", 1),
        (&["key 2:WRONGWRONGWRONG", "GET", "/api/v2/me"], "bad_credential 401 None", 1),
        (&["", "GET", "/api/v2/me"], "missing_credential 401 None", 1),
        (&[superuser, "get", "/api/v2/me"], "bad_request 400 None", 1),
        (&[superuser, "GET", "/api/v2/../me"], "ambiguous_path 403 None", 1),
    ] {
        assert_eq!(ask(&home, words), (printed.to_owned(), Some(status)), "{words:?}");
    }
    home.apply(&json!({"keys": [{"id": 2, "revoked": true}]}));
    assert_eq!(ask(&home, &[superuser, "GET", "/api/v2/me"]), ("revoked 401 None".to_owned(), Some(1)));
    daemon.stop();
}
