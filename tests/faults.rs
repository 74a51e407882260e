//! Every fault has its own sentence (what failed, why, what to do), and nothing is lost by it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use keyward_proto::query::{Asker, Reason, Target};
use redb::{Database, TableDefinition};
use serde_json::json;
use support::{Home, KEYWARD, SmallDisk, say, skipped};

/// A user who owns nothing here.
const NOBODY: u32 = 65_534;
const KEY: &str = "key 1:CODEOFKEY1";

/// A stopped daemon's directories, with one key that may do `GET /x`.
fn home() -> Home {
    let home = Home::new();
    let daemon = home.start();
    make_world(&home);
    daemon.stop();
    home
}

fn make_world(home: &Home) {
    home.apply(&json!({
        "agents": [{ "id": 1, "name": "Admin", "permissions": "*" }],
        "endpoints": [{ "method": "GET", "path": "/x", "tags": ["x.get"] }],
        "keys": [{ "id": 1, "code": "CODEOFKEY1", "agent": 1 }],
    }));
}

fn reason(home: &Home, credential: &str) -> Reason {
    let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
    let target = Target::Endpoint { method: b"GET", path: b"/x" };
    Reason::from_number(home.query().check(asker, target).unwrap().reason).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The start was refused as a fault, and the last line says why.
fn assert_refused(case: &str, output: &Output, sentence: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{case}: {said}");
    assert_eq!(said.lines().last(), Some(format!("keyward: {sentence}").as_str()), "{case}");
}

/// Nothing was lost: the next start answers as before.
fn assert_serves(case: &str, home: &Home) {
    let daemon = home.start();
    assert_eq!(reason(home, KEY), Reason::Ok, "{case}");
    daemon.stop();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Writes past Keyward what another version would.
fn set_format(home: &Home, version: u32) {
    let database = Database::open(home.database()).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("meta");
    drop(transaction.open_table(meta).unwrap().insert(&b"format"[..], &version.to_be_bytes()[..]).unwrap());
    transaction.commit().unwrap();
}

/// A case: what is broken, the sentence, and how it is repaired.
struct Case {
    name: &'static str,
    damage: fn(&Home),
    sentence: fn(&Home) -> String,
    repair: fn(&Home),
}

fn put_aside(path: &Path) {
    fs::rename(path, path.with_extension("aside")).unwrap();
}

fn put_back(path: &Path) {
    if path.is_dir() {
        fs::remove_dir(path).unwrap();
    } else {
        let _ = fs::remove_file(path);
    }
    fs::rename(path.with_extension("aside"), path).unwrap();
}

fn pepper(home: &Home) -> PathBuf {
    home.data().join("pepper")
}

fn query_socket(home: &Home) -> PathBuf {
    home.runtime().join("query.sock")
}

/// Puts something else in a file's place, closed to others.
fn replace(path: &Path, content: &[u8]) {
    put_aside(path);
    fs::write(path, content).unwrap();
    set_mode(path, 0o600);
}

fn damaged(home: &Home, what: &str) -> String {
    let path = home.database().display().to_string();
    format!("the database {path} is damaged: {what}; restore a backup, and keep the damaged file for examination")
}

const PEPPER_CASES: &[Case] = &[
    Case {
        name: "another pepper",
        damage: |home| replace(&pepper(home), "ab".repeat(32).as_bytes()),
        sentence: |home| {
            let path = home.database().display().to_string();
            format!(
                "the database {path} was made with another pepper: no code would ever match; put the pepper back that \
                 belongs to it"
            )
        },
        repair: |home| put_back(&pepper(home)),
    },
    Case {
        name: "no pepper",
        damage: |home| put_aside(&pepper(home)),
        sentence: |home| {
            let path = pepper(home).display().to_string();
            format!(
                "there is a database but no pepper {path}: without it no code can match; put back the one that belongs \
                 to the database (it is not in backups)"
            )
        },
        repair: |home| put_back(&pepper(home)),
    },
    Case {
        name: "a pepper that is none",
        damage: |home| replace(&pepper(home), b"not a pepper"),
        sentence: |home| {
            let path = pepper(home).display().to_string();
            format!("the pepper {path} is not 64 hexadecimal digits; put back the one that belongs to the database")
        },
        repair: |home| put_back(&pepper(home)),
    },
    Case {
        name: "a pepper that others may read",
        damage: |home| set_mode(&pepper(home), 0o644),
        sentence: |home| {
            let path = pepper(home).display().to_string();
            format!("the pepper {path} is open to others (mode 644): it must be 600; run: chmod 600 {path}")
        },
        repair: |home| set_mode(&pepper(home), 0o600),
    },
];

const DATABASE_CASES: &[Case] = &[
    Case {
        name: "a newer format",
        damage: |home| set_format(home, 3),
        sentence: |home| {
            let path = home.database().display().to_string();
            format!(
                "the database {path} has format 3: this keyward reads formats up to 2; install the version that wrote \
                 it, or a later one"
            )
        },
        repair: |home| set_format(home, 2),
    },
    Case {
        name: "an older format",
        damage: |home| set_format(home, 1),
        sentence: |home| {
            let path = home.database().display().to_string();
            format!(
                "the database {path} has format 1: this keyward reads format 2 only; serve it with the version that \
                 wrote it, or move it away and apply your records anew"
            )
        },
        repair: |home| set_format(home, 2),
    },
    Case {
        name: "a database that others may read",
        damage: |home| set_mode(&home.database(), 0o644),
        sentence: |home| {
            let path = home.database().display().to_string();
            format!("the database {path} is open to others (mode 644): it must be 600; run: chmod 600 {path}")
        },
        repair: |home| set_mode(&home.database(), 0o600),
    },
    Case {
        name: "an empty database",
        damage: |home| replace(&home.database(), b""),
        sentence: |home| damaged(home, "it is empty"),
        repair: |home| {
            assert_eq!(fs::read(home.database()).unwrap(), b"", "it was left as it was");
            put_back(&home.database());
        },
    },
    Case {
        name: "something else than a database",
        damage: |home| replace(&home.database(), "garbage ".repeat(1000).as_bytes()),
        sentence: |home| damaged(home, "Not a redb database: magic number mismatch"),
        repair: |home| {
            assert_eq!(fs::read(home.database()).unwrap(), "garbage ".repeat(1000).as_bytes());
            put_back(&home.database());
        },
    },
];

const PLACE_CASES: &[Case] = &[
    Case {
        name: "a data directory that anybody may write in",
        damage: |home| set_mode(&home.data(), 0o777),
        sentence: |home| {
            let path = home.data().display().to_string();
            format!("anybody may write in {path}, and so put another database or socket there; run: chmod o-w {path}")
        },
        repair: |home| set_mode(&home.data(), 0o700),
    },
    Case {
        name: "a file in the data directory's place",
        damage: |home| replace(&home.data(), b""),
        sentence: |home| format!("{} is no directory; name another with --data or --runtime", home.data().display()),
        repair: |home| put_back(&home.data()),
    },
    Case {
        name: "a file in the query socket's place",
        damage: |home| fs::write(query_socket(home), "precious").unwrap(),
        sentence: |home| {
            format!(
                "{} is there and is no socket; it was left as it is; move it away, or give another --runtime",
                query_socket(home).display()
            )
        },
        repair: |home| {
            assert_eq!(fs::read(query_socket(home)).unwrap(), b"precious");
            fs::remove_file(query_socket(home)).unwrap();
        },
    },
    Case {
        name: "a directory in the query socket's place",
        damage: |home| fs::create_dir(query_socket(home)).unwrap(),
        sentence: |home| {
            format!(
                "{} is there and is no socket; it was left as it is; move it away, or give another --runtime",
                query_socket(home).display()
            )
        },
        repair: |home| fs::remove_dir(query_socket(home)).unwrap(),
    },
];

#[test]
fn every_fault_at_the_start_has_its_sentence_and_loses_nothing() {
    let home = home();
    for case in PEPPER_CASES.iter().chain(DATABASE_CASES).chain(PLACE_CASES) {
        (case.damage)(&home);
        assert_refused(case.name, &home.refused_start(), &(case.sentence)(&home));
        (case.repair)(&home);
        assert_serves(case.name, &home);
    }
}

#[test]
fn a_truncated_database_is_refused_as_damaged_at_any_length() {
    let home = home();
    let whole = fs::read(home.database()).unwrap();
    for length in [1, 64, 319, 320, 4_096, 8_192, whole.len() / 2, whole.len() - 4_096, whole.len() - 1] {
        replace(&home.database(), &whole[..length]);
        let output = home.refused_start();
        let said = text(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(4), "{length}: {said}");
        let begin = format!("keyward: the database {} is damaged: ", home.database().display());
        assert!(last.starts_with(&begin) && last.contains("; restore a backup"), "{length}: {said}");
        put_back(&home.database());
    }
    assert_serves("after all of them", &home);
}

#[test]
fn a_socket_path_that_is_too_long_is_refused_with_its_length() {
    let home = home();
    let runtime = home.path().join("r".repeat(120));
    let mut command = Command::new(KEYWARD);
    command.arg("serve").arg("--data").arg(home.data()).arg("--runtime").arg(&runtime).stdin(Stdio::null());
    let path = runtime.join("query.sock").display().to_string();
    let sentence =
        format!("the socket path {path} has {} bytes, at most 107 are possible; give a shorter --runtime", path.len());
    assert_refused("too long", &command.output().unwrap(), &sentence);
    assert_serves("too long", &home);
}

#[test]
fn a_socket_that_a_killed_daemon_left_is_replaced() {
    let home = home();
    home.start().kill();
    for name in ["query.sock", "admin.sock"] {
        assert!(fs::metadata(home.runtime().join(name)).unwrap().file_type().is_socket(), "{name} was left behind");
    }
    assert_serves("stale sockets", &home);
    assert!(!query_socket(&home).exists(), "a stop in order leaves none");
}

#[test]
fn a_second_daemon_on_the_same_data_or_the_same_runtime_is_refused() {
    let (home, other) = (home(), Home::new());
    fs::create_dir(other.data()).unwrap();
    let daemon = home.start();
    let serve = |data: &Path, runtime: &Path| {
        let mut command = Command::new(KEYWARD);
        command.arg("serve").arg("--data").arg(data).arg("--runtime").arg(runtime).stdin(Stdio::null());
        command.output().unwrap()
    };
    let in_use = |path: &Path| {
        let advice = "stop that one first, or name other directories with --data and --runtime";
        format!("another keyward uses {}; {advice}", path.display())
    };
    assert_refused("the same data", &serve(&home.data(), &other.runtime()), &in_use(&home.data()));
    assert_refused("the same runtime", &serve(&other.data(), &home.runtime()), &in_use(&home.runtime()));
    assert_eq!(reason(&home, KEY), Reason::Ok, "the first one serves on");
    daemon.stop();
    assert_serves("after both", &home);
}

#[test]
fn a_data_directory_that_the_user_may_not_read_is_refused_with_that_reason() {
    if !nix::unistd::Uid::effective().is_root() {
        return skipped("not root: no other user can be taken on");
    }
    let home = Home::new();
    // The build's directory may be closed to that user.
    let binary = home.path().join("keyward");
    fs::copy(KEYWARD, &binary).unwrap();
    set_mode(home.path(), 0o755);
    fs::create_dir(home.data()).unwrap();
    fs::create_dir(home.runtime()).unwrap();
    chown(home.runtime(), Some(NOBODY), Some(NOBODY)).unwrap();
    set_mode(&home.data(), 0o700);
    let mut command = Command::new(binary);
    command.arg("serve").arg("--data").arg(home.data()).arg("--runtime").arg(home.runtime()).stdin(Stdio::null());
    let output = match command.uid(NOBODY).gid(NOBODY).output() {
        Ok(output) => output,
        Err(error) => return skipped(&format!("the binary can't be run as user {NOBODY} here: {error}")),
    };
    let sentence = format!(
        "cannot use the directory {}: Permission denied (os error 13); make it, give it to the daemon's user, or name \
         another with --data or --runtime",
        home.data().display()
    );
    assert_refused("another user's directory", &output, &sentence);
}

/// Adds keys until a change is refused as unavailable. Returns the credentials that were acknowledged.
fn add_until_unavailable(home: &Home) -> Vec<String> {
    let mut added = Vec::new();
    // Each has a large set of its own, so that pages are used up.
    let filling: String = (0..250).map(|n| format!(", filling.{n:0>20}.*")).collect();
    for number in 0..2_000 {
        let (label, tags) = (format!("number {number}"), format!("x.*, y{number}.*{filling}"));
        let output = home.run(&["--json", "key", "add", &label, "--agent", "1", "--tags", &tags]);
        if output.status.success() {
            let key: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            added.push(key["credential"].as_str().unwrap().to_string());
            continue;
        }
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("the database could not be read or written"), "{said}");
        return added;
    }
    panic!("the disk was never full");
}

#[test]
fn a_full_disk_refuses_changes_answers_questions_and_loses_nothing() {
    let home = Home::new();
    // Before the disk, so that it is dropped, and the daemon ended, after it.
    let Some(disk) = SmallDisk::mount(6, home.data()) else {
        return skipped("no file system can be mounted here: a full disk can't be made");
    };
    let daemon = home.start();
    make_world(&home);
    let filler = home.data().join("filler");
    // Full but for a few commits.
    let _ = fs::write(&filler, vec![1; 6 * 1024 * 1024]);
    let length = fs::metadata(&filler).unwrap().len();
    fs::File::options().write(true).open(&filler).unwrap().set_len(length - 256 * 1024).unwrap();
    let mut keys = add_until_unavailable(&home);
    say(&format!("disk full after {} keys", keys.len()));
    let still_right = |keys: &[String], when: &str| {
        assert_eq!(reason(&home, KEY), Reason::Ok, "{when}");
        for key in keys {
            assert_eq!(reason(&home, key), Reason::Ok, "{when}");
        }
        assert_eq!(reason(&home, "key 99999:NOSUCHKEY"), Reason::BadCredential, "{when}");
    };
    still_right(&keys, "on a full disk");
    assert_eq!(home.json(&["status"])["writable"], json!(false));
    // A smaller change may still find room. Whatever it is told, the answers agree with it.
    let revocations: Vec<String> = keys.iter().take(3).cloned().collect();
    let mut revoked = Vec::new();
    for key in revocations {
        let id = key.trim_start_matches("key ").split(':').next().unwrap().to_string();
        match home.run(&["key", "revoke", &id]).status.code() {
            Some(0) => {
                keys.retain(|other| *other != key);
                revoked.push(key);
            }
            status => assert_eq!(status, Some(4)),
        }
        still_right(&keys, "after a revocation on a full disk");
        assert!(revoked.iter().all(|key| reason(&home, key) == Reason::Revoked));
    }
    fs::remove_file(&filler).unwrap();
    let added = home.json(&["key", "add", "after", "--agent", "1"]);
    keys.push(added["credential"].as_str().unwrap().to_string());
    still_right(&keys, "with room again");
    assert_eq!(home.json(&["status"])["writable"], json!(true));
    assert!(home.run(&["key", "add", "more", "--agent", "1"]).status.success());
    daemon.kill();
    let daemon = home.start();
    still_right(&keys, "after a restart");
    assert!(revoked.iter().all(|key| reason(&home, key) == Reason::Revoked));
    assert_audit_and_keys_agree(&home);
    daemon.stop();
    drop(disk);
}

/// Where there was no room for the change or for its audit record, there is neither.
fn assert_audit_and_keys_agree(home: &Home) {
    assert_eq!(home.json(&["audit", "verify"])["whole"], json!(true));
    let audit = text(&home.run(&["--json", "audit", "--after", "1"]).stdout);
    let told = |action: &str| -> BTreeSet<u64> {
        let records = audit.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let records = records.filter(|record| record["action"] == json!(action));
        records.map(|record| record["changes"][0]["id"].as_u64().unwrap()).collect()
    };
    let there = |revoked: bool| -> BTreeSet<u64> {
        let keys = home.json(&["key", "list"]);
        let keys = keys.as_array().unwrap().iter().filter(|key| !revoked || key["state"] == json!("revoked"));
        keys.map(|key| key["id"].as_u64().unwrap()).filter(|id| *id != 1).collect()
    };
    assert_eq!((told("add"), told("remove")), (there(false), there(true)));
}
