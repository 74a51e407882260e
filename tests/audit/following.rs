//! Records as they come.

use super::{now, world};
use crate::support::{Home, KEYWARD};
use keyward_proto::admin::{AdminReply, AdminRequest, Audit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A command that runs on; killed when dropped.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn follow(home: &Home, words: &[&str]) -> (Following, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(KEYWARD)
        .args([&["--json", "audit", "--follow"], words].concat())
        .env("KEYWARD_RUNTIME", home.runtime())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (Following(child), lines)
}

fn next(lines: &mut impl std::io::BufRead) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

#[test]
fn following_prints_each_record_as_it_comes_and_ends_with_a_signal_or_the_daemon() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let (mut first, mut lines) = follow(&home, &[]);
    assert_eq!(next(&mut lines)["seq"], json!(1));
    for (seq, label) in [(2, "a"), (3, "b"), (4, "c")] {
        assert!(home.run(&["key", "set", "2", "--label", label]).status.success());
        let changed = Instant::now();
        let record = next(&mut lines);
        assert!(changed.elapsed() < Duration::from_secs(10), "it does not wait for the wait's end");
        assert_eq!((&record["seq"], &record["changes"][0]["to"]["label"]), (&json!(seq), &json!(label)));
    }
    let (mut second, mut later) = follow(&home, &["--after", "3"]);
    assert_eq!(next(&mut later)["seq"], json!(4));
    // Not SIGINT: who runs the tests in the background ignores that, and so would the command.
    kill(Pid::from_raw(i32::try_from(second.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    let mut rest = String::new();
    later.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "no half line");
    second.0.wait().unwrap();
    // Whoever waits does not hold up the stop, and ends with it.
    daemon.stop();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "no half line");
    let status = first.0.wait().unwrap();
    assert!([Some(3), Some(4)].contains(&status.code()), "{status}");
    let mut said = String::new();
    first.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.starts_with("keyward: "), "{said}");
}

#[test]
fn a_wait_ends_with_nothing_when_nothing_comes() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let began = Instant::now();
    let ask = AdminRequest::Audit(Audit { after: 1, since: 0, wait_seconds: 1 });
    let Ok(AdminReply::AuditPage(page)) = home.admin().call(&ask) else { panic!("no page") };
    assert!(page.lines.is_empty() && page.last == 1 && !page.more);
    assert!((1..10).contains(&began.elapsed().as_secs()));
    // Nor does one spin that wants none of before a time to come, or none at all.
    for (after, since, last) in [(0, now() + 1_000, 1), (u64::MAX, 0, u64::MAX)] {
        let ask = AdminRequest::Audit(Audit { after, since, wait_seconds: 0 });
        let Ok(AdminReply::AuditPage(page)) = home.admin().call(&ask) else { panic!("no page") };
        assert!(page.lines.is_empty() && page.last == last && !page.more, "{after} {since}");
    }
}
