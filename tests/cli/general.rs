//! What holds for all commands: exit statuses, where options may stand, and the commands that need no daemon.

use std::os::unix::fs::FileExt;
use std::process::Command;

use serde_json::{Value, json};

use super::support::{Home, KEYWARD};
use super::{CODE, OTHER_CODE, small_world, text, with_daemon, with_small_world};

#[test]
fn the_exit_status_says_how_it_ended() {
    with_small_world(|home| {
        let key = format!("key 2:{CODE}");
        let nowhere = home.path().join("nowhere");
        let nowhere = nowhere.to_str().unwrap();
        let table: &[(&[&str], i32)] = &[
            (&["check", "--credential", &key, "GET", "/tickets"], 0),
            (&["agent", "set", "4", "--name", "M"], 0),
            (&["explain", "--key", "3", "DELETE", "/tickets/7"], 0),
            (&["tags", "test", "*", "a"], 0),
            (&["--help"], 0),
            (&["key", "add", "--help"], 0),
            (&["--version"], 0),
            (&["check", "--credential", &key, "GET", "/nothing"], 1),
            (&["check", "--credential", &key, "--agent", "x"], 1),
            (&["check"], 1),
            (&["tags", "test", "*, -a", "a"], 1),
            (&[], 2),
            (&["kye", "list"], 2),
            (&["key", "add", "x"], 2),
            (&["key", "show", "99"], 2),
            (&["tags", "test", "-a", "a"], 2),
            (&["apply", "/nonexistent.json"], 2),
            (&["--runtime", nowhere, "check"], 3),
            (&["--runtime", nowhere, "key", "list"], 3),
            (&["--runtime", nowhere, "tags", "test", "*", "a"], 0),
        ];
        for (words, status) in table {
            let output = home.run(words);
            assert_eq!(output.status.code(), Some(*status), "{words:?}: {}", text(&output.stderr));
            let fails = *status >= 2;
            assert_eq!(output.stderr.is_empty(), !fails, "{words:?}: errors go to standard error, nothing else does");
            assert_eq!(output.stdout.is_empty(), fails, "{words:?}: {}", text(&output.stdout));
        }
        let help = home.run(&["--help"]);
        assert!(text(&help.stdout).contains("Exit status: 0 done or allowed, 1 denied, 2"), "help says it");
    });
}

/// Changes one byte of a label where it lies on the disk.
fn damage(home: &Home, label: &[u8]) {
    let bytes = std::fs::read(home.database()).unwrap();
    let file = std::fs::File::options().write(true).open(home.database()).unwrap();
    let mut found = 0;
    for (offset, _) in bytes.windows(label.len()).enumerate().filter(|(_, window)| *window == label) {
        file.write_all_at(b"X", offset as u64).unwrap();
        found += 1;
    }
    assert!(found > 0, "the label lies in the file");
}

#[test]
fn what_can_not_be_told_is_unavailable_and_exit_status_4() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&small_world());
    home.json(&["key", "set", "3", "--label", "a-label-to-be-damaged"]);
    daemon.stop();
    damage(&home, b"a-label-to-be-damaged");
    let daemon = home.start();
    let output = home.run(&["--json", "check", "--credential", &format!("key 3:{OTHER_CODE}"), "GET", "/tickets"]);
    assert_eq!(text(&output.stdout), "{\"reason\":\"unavailable\",\"status\":503}\n");
    assert_eq!(output.status.code(), Some(4), "neither a yes nor a no");
    let explained = home.run(&["--json", "explain", "--key", "3", "GET", "/tickets"]);
    assert_eq!(explained.status.code(), Some(4), "{}", text(&explained.stdout));
    assert!(!home.json(&["status"])["alarms"].as_array().unwrap().is_empty());
    let status = home.run(&["status"]);
    assert!(text(&status.stdout).contains("ALARM"), "{}", text(&status.stdout));
    let set = home.run(&["key", "set", "3", "--label", "x"]);
    assert_eq!((set.status.code(), text(&set.stdout)), (Some(4), ""), "{}", text(&set.stderr));
    daemon.stop();
}

#[test]
fn runtime_and_json_are_accepted_anywhere() {
    with_small_world(|home| {
        let run = home.runtime();
        let run = run.to_str().unwrap();
        let assigned = format!("--runtime={run}");
        for words in [
            &["--runtime", run, "--json", "key", "show", "3"][..],
            &["key", "--json", "--runtime", run, "show", "3"],
            &["key", "show", "--runtime", run, "3", "--json"],
            &["key", "show", "3", "--json", &assigned],
        ] {
            // Only the option says where the daemon is.
            let output = Command::new(KEYWARD).args(words).env("KEYWARD_RUNTIME", "/nonexistent").output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
            let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(shown["id"], 3, "{words:?}");
        }
    });
}

#[test]
fn lists_are_arrays_even_when_they_are_empty() {
    with_daemon(|home| {
        for kind in ["agent", "endpoint", "key", "token", "session"] {
            assert_eq!(home.json(&[kind, "list"]), json!([]), "{kind}");
        }
    });
}

#[test]
fn status_tells_the_daemons_state() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&small_world());
    home.json(&["key", "revoke", "3"]);
    home.run(&["check"]);
    let status = home.json(&["status"]);
    let (start, now) = (status["started_at"].as_u64().unwrap(), status["now"].as_u64().unwrap());
    assert!(start <= now && now <= super::now() && super::now() - start < 600, "{status}");
    let wanted = json!({
        "version": env!("CARGO_PKG_VERSION"), "pid": daemon.pid(), "started_at": start, "now": now, "clock_behind": 0,
        "database": home.database(), "revision": 2, "agents": 2, "endpoints": 3, "keys": 2, "tokens": 0, "sessions": 0,
        "tag_sets": status["tag_sets"], "query_connections": status["query_connections"],
        "admin_connections": status["admin_connections"], "questions": 1, "writable": true, "alarms": [],
        "http_connections": 0, "refused_connections": 0,
        "verdicts": [{ "door": "query", "reason": "missing_credential", "count": 1 }],
        "recent_questions": 1, "recent_millis": status["recent_millis"],
        "commits": 2, "commit_micros": status["commit_micros"], "unflushed_use_age": null,
        "database_bytes": std::fs::metadata(home.database()).unwrap().len(), "reloaded_at": null, "reload_refused": null
    });
    assert_eq!(status, wanted);
    let said = home.run(&["status"]);
    let said = text(&said.stdout);
    assert!(said.contains("keyward.redb") && said.contains("taken") && !said.contains("ALARM"), "{said}");
    daemon.stop();
}

#[test]
fn config_check_says_what_is_wrong_with_a_file() {
    let home = Home::new();
    let file = home.config("data = '/d'\n[limits]\nidle_timeout = '10m'\n");
    let words = ["config", "check", "--config", file.to_str().unwrap()];
    assert_eq!(home.json(&words), json!({"ok": true, "file": file}));
    assert!(text(&home.run(&words).stdout).ends_with("keyward.toml: ok\n"));
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/keyward.toml");
    assert_eq!(home.json(&["config", "check", "--config", example])["ok"], true);
    for text in ["dta = '/d'\n", "data = \n", "[limits]\nidle_timeout = 'soon'\n"] {
        home.config(text);
        assert!(super::refused(&home, &words).contains("keyward.toml"), "{text}");
    }
    let missing = home.path().join("missing.toml");
    assert!(
        super::refused(&home, &["config", "check", "--config", missing.to_str().unwrap()]).contains("missing.toml")
    );
}

/// Every command of the contract that exists so far.
const COMMANDS: [&str; 14] = [
    "serve",
    "quickstart",
    "agent",
    "key",
    "token",
    "session",
    "endpoint",
    "tags",
    "check",
    "explain",
    "apply",
    "status",
    "config",
    "completions",
];

#[test]
fn completions_and_manual_pages_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = home.run(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        for command in COMMANDS {
            assert!(text(&output.stdout).contains(command), "{shell}: {command}");
        }
    }
    let pages = home.path().join("man");
    let output = home.run(&["man", pages.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for page in COMMANDS.iter().map(|command| format!("keyward-{command}.1")).chain(["keyward.1".to_owned()]) {
        let text = std::fs::read_to_string(pages.join(&page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(pages.join("keyward-key-add.1").exists());
    let unwritable = home.run(&["man", "/proc/nothing"]);
    assert_eq!(unwritable.status.code(), Some(2), "{}", text(&unwritable.stderr));
}

#[test]
fn nothing_but_serve_touches_the_data_directory() {
    let home = Home::new();
    for words in [&["check"][..], &["key", "list"], &["tags", "test", "*", "a"], &["status"]] {
        home.run(words);
    }
    assert!(!home.data().exists() && !home.runtime().exists());
}

#[test]
fn a_listing_into_a_closed_pipe_is_no_error() {
    with_small_world(|home| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(KEYWARD);
        command.args(["key", "list"]).env("KEYWARD_RUNTIME", home.runtime()).stdout(writer);
        let output = command.output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    });
}
