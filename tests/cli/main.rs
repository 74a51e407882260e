//! The command line against the real daemon, as a person uses it: section 4 of the contract, to the letter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod apply;
mod codes;
mod explain;
mod general;
mod patterns;
mod records;
mod tombstones;

use std::process::Output;

use serde_json::{Value, json};
use support::Home;

/// A code in files and on standard input.
const CODE: &str = "YWK2PGCS8CNW62SR8TBTBKWMY";
const OTHER_CODE: &str = "3A7QXW9ZK2M4N6P8R0S1T5V7Y";

/// Runs a test on a daemon of its own.
fn with_daemon(test: impl FnOnce(&Home)) {
    let home = Home::new();
    let daemon = home.start();
    test(&home);
    daemon.stop();
}

/// Two agents, three endpoints, a key for each agent: what most tests begin with.
fn small_world() -> Value {
    json!({
        "agents": [{"id": 1, "name": "Admin", "permissions": "*"},
                   {"id": 4, "name": "Matthew", "permissions": "tickets.*, -*.delete"}],
        "endpoints": [{"method": "GET", "path": "/tickets", "tags": ["tickets.tickets.list"]},
                      {"method": "DELETE", "path": "/tickets/{id}", "tags": ["tickets.tickets.delete"]},
                      {"method": "GET", "path": "/people", "tags": ["people.people.list"]}],
        "keys": [{"id": 2, "code": CODE, "superuser": true, "default_agent": 1},
                 {"id": 3, "code": OTHER_CODE, "agent": 4}]
    })
}

fn with_small_world(test: impl FnOnce(&Home)) {
    with_daemon(|home| {
        home.apply(&small_world());
        test(home);
    });
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// Runs a command that the daemon or the command line itself must refuse: status 2, nothing on standard output.
/// Returns what it says.
fn refused(home: &Home, words: &[&str]) -> String {
    refusal(words, &home.run(words))
}

fn refusal(words: &[&str], output: &Output) -> String {
    let said = text(&output.stderr).to_owned();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{words:?}: {said}");
    assert!(said.starts_with("keyward: "), "{words:?}: {said}");
    said
}

/// Applies a file that must be refused, and checks that nothing at all was changed.
fn refused_apply(home: &Home, file: &Value, options: &[&str]) -> String {
    let revision = || home.json(&["status"])["revision"].clone();
    let before = revision();
    let words = [&["apply", "-"], options].concat();
    let said = refusal(&words, &home.run_with_stdin(&words, file.to_string().as_bytes()));
    assert_eq!(revision(), before, "{words:?} {file}: a refused file leaves no trace");
    said
}

fn apply_with(home: &Home, file: &Value, options: &[&str]) -> Value {
    let words = [&["--json", "apply", "-"], options].concat();
    let output = home.run_with_stdin(&words, file.to_string().as_bytes());
    assert!(output.status.success(), "{file}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The reason that `keyward check` prints; its exit status must go with it.
fn check(home: &Home, credential: &str, words: &[&str]) -> String {
    let output = home.run(&[&["--json", "check", "--credential", credential], words].concat());
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let reason = printed["reason"].as_str().unwrap().to_owned();
    assert_eq!(output.status.code(), Some(i32::from(reason != "ok")), "{printed}");
    reason
}

fn who(home: &Home, credential: &str) -> String {
    check(home, credential, &[])
}

fn ids(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|record| record["id"].as_u64().unwrap()).collect()
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
