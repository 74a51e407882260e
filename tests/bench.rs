//! `keyward bench` against the real daemon.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use keyward::bench::world::World;
use keyward_proto::query::{Asker, Target};
use serde_json::json;
use support::Home;

const SIZES: [&str; 8] = ["--keys", "500", "--agents", "40", "--endpoints", "400", "--sets", "30"];

fn load(home: &Home) -> std::process::Output {
    let world = home.path().join("world.json");
    home.run(&[&["--json", "bench", "load", "--world", world.to_str().unwrap()], &SIZES[..]].concat())
}

#[test]
fn a_loaded_daemon_gives_the_answers_that_the_world_foretells() {
    let home = Home::new();
    let daemon = home.start();
    let output = load(&home);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["records"], 940);
    let status = home.json(&["status"]);
    assert_eq!((&status["keys"], &status["agents"], &status["endpoints"]), (&json!(500), &json!(40), &json!(400)));

    let world = World::read(&home.path().join("world.json")).unwrap();
    let mut client = home.query();
    let mut reason = |id: u64, code: [u8; 25], method: &str, path: &str| {
        let credential = format!("key {id}:{}", str::from_utf8(&code).unwrap());
        let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
        let target = Target::Endpoint { method: method.as_bytes(), path: path.as_bytes() };
        keyward_proto::query::Reason::from_number(client.check(asker, target).unwrap().reason).unwrap()
    };
    for id in (1..=500).step_by(7) {
        for pick in [0, 1, 0x1234_5678_9abc, u64::MAX - id] {
            for ask in [world.allowed(id, pick), world.refused(id, pick)] {
                let got = reason(id, world.code(id), ask.method, &ask.path);
                assert_eq!(got, ask.expected, "key {id}: {} {}", ask.method, ask.path);
            }
        }
        let ask = world.allowed(id, 3);
        assert_eq!(reason(id, world.wrong_code(id), ask.method, &ask.path).name(), "bad_credential");
    }
    daemon.stop();
}

#[test]
fn a_daemon_in_use_is_not_filled_and_no_file_is_left() {
    let home = Home::new();
    let daemon = home.start();
    home.json(&["agent", "add", "Ann", "--permissions", "*"]);
    let output = load(&home);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("daemon of its own"), "{said}");
    assert!(!home.path().join("world.json").exists());
    assert_eq!(home.json(&["status"])["keys"], 0);
    daemon.stop();
}

#[test]
fn what_cannot_be_loaded_is_refused_with_its_status() {
    let home = Home::new();
    let world = home.path().join("world.json");
    let world = world.to_str().unwrap();
    let status = |words: &[&str]| home.run(&[&["bench", "load"], words].concat()).status.code();
    assert_eq!(status(&["--keys", "0", "--world", world]), Some(2));
    assert_eq!(status(&["--keys", "10", "--agents", "11", "--world", world]), Some(2));
    assert_eq!(status(&["--keys", "10"]), Some(2));
    assert_eq!(status(&["--keys", "10", "--world", world]), Some(3), "there is no daemon");
    let daemon = home.start();
    std::fs::write(world, "").unwrap();
    assert_eq!(status(&["--keys", "10", "--world", world]), Some(2), "the file exists");
    assert_eq!(home.json(&["status"])["keys"], 0);
    daemon.stop();
}
