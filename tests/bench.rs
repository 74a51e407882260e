//! `keyward bench` against the real daemon.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use keyward::bench::world::World;
use keyward_proto::query::{Asker, Target};
use serde_json::{Value, json};
use support::{Home, wait_until};

const SIZES: [&str; 8] = ["--keys", "500", "--agents", "40", "--endpoints", "400", "--sets", "30"];

fn world_file(home: &Home) -> String {
    home.path().join("world.json").to_str().unwrap().to_owned()
}

fn load(home: &Home) -> std::process::Output {
    let world = world_file(home);
    home.run(&[&["--json", "bench", "load", "--world", &world], &SIZES[..]].concat())
}

#[test]
fn a_loaded_daemon_gives_the_answers_that_the_world_foretells() {
    let home = Home::new();
    let daemon = home.start();
    let output = load(&home);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
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

/// A quarter of a second, on whatever cores there are.
fn bench(home: &Home, words: &[&str]) -> std::process::Output {
    bench_for(home, "0.25", words)
}

fn bench_for(home: &Home, seconds: &str, words: &[&str]) -> std::process::Output {
    let world = world_file(home);
    let fixed = ["--json", "bench", "--world", &world, "--warm-up", "0s", "--connections", "4", "--seconds", seconds];
    home.run(&[&fixed[..], words].concat())
}

fn measured(home: &Home, words: &[&str]) -> Value {
    let output = bench(home, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn with_world(test: impl FnOnce(&Home)) {
    let home = Home::new();
    let daemon = home.start();
    assert!(load(&home).status.success());
    test(&home);
    daemon.stop();
}

#[test]
fn every_mix_gets_its_answers() {
    with_world(|home| {
        for (mix, kinds) in [
            ("100,0,0,0", [true, false, false]),
            ("0,100,0,0", [false, true, false]),
            ("0,0,100,0", [false, false, true]),
            ("0,0,0,100", [false, false, true]),
            ("70,10,10,10", [true, true, true]),
        ] {
            let result = measured(home, &["--mix", mix, "--depth", "8"]);
            let answers = &result["answers"];
            let counts = ["allowed", "refused", "bad_credential"].map(|kind| answers[kind].as_u64().unwrap());
            assert_eq!(counts.map(|count| count > 0), kinds, "{mix}: {result}");
            assert_eq!(result["requests"], counts.iter().sum::<u64>());
            assert_eq!(result["mix"], mix);
        }
    });
}

#[test]
fn what_was_measured_is_told_for_people_and_for_programs() {
    with_world(|home| {
        let result = measured(home, &["--zipf", "0.99"]);
        let figure = |pointer: &str| result.pointer(pointer).unwrap().as_f64().unwrap();
        assert!(figure("/requests_per_second") > 100.0);
        assert!(figure("/latency_us/p50") <= figure("/latency_us/p99"));
        assert!(figure("/latency_us/p99") <= figure("/latency_us/max"));
        assert!(figure("/server/cpu_us_per_request") > 0.0 && figure("/client/cpu_us_per_request") > 0.0);
        assert!(figure("/server/resident_bytes") > 1e6);
        assert_eq!(result["server"]["pid"], home.json(&["status"])["pid"]);
        let world = world_file(home);
        let table = home.run(&["bench", "--world", &world, "--seconds", "0.1", "--connections", "1"]);
        let table = String::from_utf8(table.stdout).unwrap();
        for word in ["requests/s", "p99.9", "allowed", "MiB resident", "µs of CPU a request"] {
            assert!(table.contains(word), "{word}: {table}");
        }
    });
}

#[test]
fn a_rate_is_kept_and_a_core_is_held() {
    with_world(|home| {
        let result = measured(home, &["--rate", "2000", "--pin", "0", "--pin-server", "0"]);
        let rate = result["requests_per_second"].as_f64().unwrap();
        assert!((1_500.0..=2_500.0).contains(&rate), "{result}");
        let output = bench(home, &["--pin", "1023"]);
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

#[test]
fn wrong_answers_are_no_speed() {
    with_world(|home| {
        // The last of 500 keys is asked for a hundred times in 65,536 questions.
        home.json(&["key", "revoke", "500"]);
        let output = bench_for(home, "1", &["--depth", "64"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(4), 0), "{said}");
        assert!(said.contains("not what the world foretells"), "{said}");
    });
}

#[test]
fn without_a_daemon_or_a_world_nothing_is_measured() {
    let home = Home::new();
    assert_eq!(bench(&home, &[]).status.code(), Some(2), "there is no such file");
    std::fs::write(world_file(&home), "{}").unwrap();
    assert_eq!(bench(&home, &[]).status.code(), Some(2), "it is no world");
    World::new([1; 16], keyward::bench::world::Sizes::of_keys(9)).unwrap().write(&home.path().join("w")).unwrap();
    std::fs::rename(home.path().join("w"), world_file(&home)).unwrap();
    assert_eq!(bench(&home, &[]).status.code(), Some(3), "there is no daemon");
    let daemon = home.start();
    assert_eq!(bench(&home, &[]).status.code(), Some(4), "the daemon does not hold that world");
    daemon.kill();
    assert_eq!(bench(&home, &[]).status.code(), Some(3), "the daemon is gone");
}

#[test]
fn a_daemon_that_goes_meanwhile_ends_the_measuring() {
    let home = Home::new();
    let daemon = home.start();
    assert!(load(&home).status.success());
    let outcome = std::thread::scope(|scope| {
        let bench = scope.spawn(|| bench_for(&home, "30", &[]));
        wait_until("the generator has connected", || home.json(&["status"])["query_connections"] == 4);
        daemon.kill();
        bench.join().unwrap()
    });
    assert_eq!(outcome.status.code(), Some(4), "{}", String::from_utf8_lossy(&outcome.stderr));
}
