//! Exports, and applying them on another host.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::support::{Home, conformance};
use super::{answers, text, with_pepper_of};

fn export(home: &Home, name: &str, options: &[&str]) -> PathBuf {
    let file = home.path().join(name);
    let output = home.run(&[&["export", "--out", file.to_str().unwrap()], options].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    file
}

fn read(file: &PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The conformance world, with what else there may be.
fn full_world(home: &Home) {
    home.apply(&conformance("world.json"));
    home.apply(&json!({
        "keys": [
            { "id": 500, "label": "limited \"\u{e9}\u{1b}", "code": "LIMITEDLIMITED", "superuser": true, "rate": "100/s",
              "not_before": 1_000, "expires_at": 4_000_000_000_u64, "allow_ip": ["10.0.0.0/8", "::1/128"] },
            { "id": 501, "code": "EXPIREDEXPIRED", "agent": 4, "expires_at": 1_000 },
            { "id": 502, "code": "REVOKEDREVOKED", "agent": 4, "revoked": true },
            { "id": 503, "hash": format!("keyward:{}", "ab".repeat(32)), "agent": 4, "enabled": false,
              "retiring": { "hash": format!("keyward:{}", "cd".repeat(32)), "until": 4_000_000_000_u64 } },
        ],
        "tokens": [{ "id": 900, "code": "TOKENOFAPP9", "agent": 4, "app_id": 9, "tags": "tickets.*, -*.delete" }],
    }));
}

#[test]
fn an_export_with_hashes_gives_the_same_answers_on_another_host_with_the_same_pepper() {
    let home = Home::new();
    let daemon = home.start();
    full_world(&home);
    let file = export(&home, "export.json", &["--with-hashes"]);
    let before = answers(&home);
    // Applied where it comes from it changes nothing.
    assert_eq!(
        home.json(&["apply", file.to_str().unwrap(), "--prune"]),
        json!({ "added": [], "changed": [], "removed": [], "dry_run": false })
    );
    daemon.stop();
    let other = with_pepper_of(&home);
    let _daemon = other.start();
    let report = other.json(&["apply", file.to_str().unwrap()]);
    assert_eq!(report["changed"], json!([]));
    assert_eq!(answers(&other), before);
    let again = export(&other, "again.json", &["--with-hashes"]);
    assert_eq!(read(&file), read(&again));
    for (credential, expected) in [
        ("key 501:EXPIREDEXPIRED", "expired"),
        ("key 502:REVOKEDREVOKED", "revoked"),
        ("key 501:WRONGWRONG", "bad_credential"),
        ("token 900:TOKENOFAPP9", "ok"),
    ] {
        let output = other.run(&["--json", "check", "--credential", credential]);
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(verdict["reason"], expected, "{credential}");
    }
    assert_eq!(other.json(&["key", "show", "503"])["retiring_until"], json!(4_000_000_000_u64));
}

#[test]
fn an_export_holds_everything_but_codes_and_hashes_only_when_they_are_asked_for() {
    let home = Home::new();
    let _daemon = home.start();
    full_world(&home);
    assert!(home.run(&["agent", "add", "gone", "--permissions", "*", "--id", "77"]).status.success());
    assert!(home.run(&["agent", "remove", "77"]).status.success());
    let plain = export(&home, "plain.json", &[]);
    let with_hashes = export(&home, "hashes.json", &["--with-hashes"]);
    assert!(!std::fs::read_to_string(&plain).unwrap().contains("keyward:"));
    let (mut plain, with_hashes) = (read(&plain), read(&with_hashes));
    for section in ["keys", "tokens", "sessions"] {
        let hashes = with_hashes[section].as_array().unwrap();
        assert_eq!(hashes.len(), plain[section].as_array().unwrap().len());
        for (record, hashed) in plain[section].as_array_mut().unwrap().iter_mut().zip(hashes) {
            assert!(hashed["hash"].as_str().unwrap().starts_with("keyward:"));
            assert!(hashed.get("code").is_none() && record.get("hash").is_none());
            record["hash"] = hashed["hash"].clone();
            if let Some(retiring) = hashed.get("retiring") {
                record["retiring"] = retiring.clone();
            }
        }
    }
    assert_eq!(plain, with_hashes, "they differ in nothing else");
    let ids: Vec<u64> = plain["agents"].as_array().unwrap().iter().map(|agent| agent["id"].as_u64().unwrap()).collect();
    assert!(!ids.contains(&77), "{ids:?}");
    let ids: Vec<u64> = plain["keys"].as_array().unwrap().iter().map(|key| key["id"].as_u64().unwrap()).collect();
    assert!([500, 501, 502, 503].iter().all(|id| ids.contains(id)), "{ids:?}");
}

#[test]
fn an_export_without_hashes_changes_nothing_at_home_and_says_elsewhere_what_it_lacks() {
    let home = Home::new();
    let _daemon = home.start();
    full_world(&home);
    let output = home.run(&["export"]);
    assert!(output.status.success());
    let file = home.path().join("export.json");
    std::fs::File::create(&file).unwrap().write_all(&output.stdout).unwrap();
    assert_eq!(home.json(&["apply", file.to_str().unwrap(), "--prune"])["changed"], json!([]));
    let other = with_pepper_of(&home);
    let _daemon = other.start();
    let refused = other.run(&["apply", file.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("it is new and needs a code, or its hash: an export has that only --with-hashes"), "{said}");
}

#[test]
fn hashes_are_not_written_over_a_file_nor_to_a_terminal() {
    let home = Home::new();
    let _daemon = home.start();
    full_world(&home);
    let file = export(&home, "export.json", &["--with-hashes"]);
    let before = std::fs::read(&file).unwrap();
    let again = home.run(&["export", "--with-hashes", "--out", file.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let piped = home.run(&["export", "--with-hashes"]);
    assert_eq!(piped.stdout, before, "a pipe is no terminal");
}

#[test]
fn an_empty_daemon_exports_empty_sections() {
    let home = Home::new();
    let _daemon = home.start();
    let empty = json!({ "agents": [], "endpoints": [], "keys": [], "tokens": [], "sessions": [] });
    assert_eq!(read(&export(&home, "export.json", &[])), empty);
}
