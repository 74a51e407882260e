//! Backups, restoring them, the watermark and exports, through the real binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod export;
mod restore;
mod taking;
mod watermark;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use keyward_proto::query::{Asker, Reason, Target, Verdict};
use serde_json::{Value, json};
use support::{Home, KEYWARD, conformance};

/// Keys 1 and 2 and token 1 of agent 1, key 3 of agent 2; `GET /x`.
fn world() -> Value {
    json!({
        "agents": [{ "id": 1, "name": "Admin", "permissions": "*" }, { "id": 2, "name": "Second", "permissions": "*" }],
        "endpoints": [{ "method": "GET", "path": "/x", "tags": ["x.get"] }],
        "keys": [{ "id": 1, "code": "CODEOFKEY1", "agent": 1 }, { "id": 2, "code": "CODEOFKEY2", "agent": 1 },
                 { "id": 3, "code": "CODEOFKEY3", "agent": 2 }],
        "tokens": [{ "id": 1, "code": "CODEOFTOKEN1", "agent": 1 }],
    })
}

fn reason(home: &Home, credential: &str) -> Reason {
    let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
    let target = Target::Endpoint { method: b"GET", path: b"/x" };
    Reason::from_number(home.query().check(asker, target).unwrap().reason).unwrap()
}

/// What every question of the conformance cases gets, those of who it is included.
fn answers(home: &Home) -> Vec<Verdict> {
    let mut client = home.query();
    let cases = conformance("decisions.json");
    let ask = |case: &Value| {
        let query = &case["query"];
        let bytes = |field: &str| query[field].as_str().map(str::as_bytes);
        let asker = Asker { credential: bytes("credential"), agent: bytes("agent"), address: bytes("ip") };
        let answer = match (bytes("method").zip(bytes("path")), query["tags"].as_array()) {
            (Some((method, path)), _) => client.check(asker, Target::Endpoint { method, path }),
            (None, Some(tags)) => {
                let tags = tags.iter().map(|tag| tag.as_str().unwrap().as_bytes()).collect();
                client.check(asker, Target::Tags(tags))
            }
            (None, None) => client.who(asker),
        };
        answer.unwrap()
    };
    cases["cases"].as_array().unwrap().iter().map(ask).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Takes a backup into this file, which must succeed, and returns its path.
fn take(home: &Home, name: &str) -> PathBuf {
    let file = home.path().join(name);
    let output = home.run(&["backup", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    file
}

fn restore_command(data: &Path, file: &Path) -> Command {
    let mut command = Command::new(KEYWARD);
    command.arg("restore").arg(file).arg("--data").arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn restore(data: &Path, file: &Path) -> Output {
    restore_command(data, file).output().unwrap()
}

fn accept(data: &Path, file: &Path) -> Output {
    restore_command(data, file).arg("--accept-rollback").output().unwrap()
}

/// A home with nothing but another one's pepper.
fn with_pepper_of(home: &Home) -> Home {
    let other = Home::new();
    std::fs::create_dir(other.data()).unwrap();
    std::fs::copy(home.data().join("pepper"), other.data().join("pepper")).unwrap();
    other
}

/// It was refused with this exit status, this is what it said, and no database was made.
fn assert_refused(case: &str, output: &Output, status: i32, said: &str, data: &Path) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{case}: {stderr}");
    assert!(stderr.contains(said), "{case}: {stderr}");
    assert_nothing_made(case, data);
}

fn assert_nothing_made(case: &str, data: &Path) {
    for name in ["keyward.redb", "keyward.redb.new"] {
        assert!(!data.join(name).exists(), "{case}: {name} is there");
    }
}
