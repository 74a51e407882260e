//! The log: one line an event whatever a peer or a path brings in, denials in samples, levels as the journal wants them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use keyward_proto::query::{Asker, Check, QueryRequest, Target};
use raw::{KEY, check, put};
use support::{Home, wait_until};

/// Denials that a flood brings.
const FLOOD: usize = 100_000;

fn get(path: &[u8]) -> Target<'_> {
    Target::Endpoint { method: b"GET", path }
}

/// Sends frames and waits until as many replies have come.
fn ask(home: &Home, frames: &[u8], count: usize) {
    let mut stream = UnixStream::connect(home.runtime().join("query.sock")).unwrap();
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(frames).unwrap());
        let mut head = [0; 4];
        for _ in 0..count {
            stream.read_exact(&mut head).unwrap();
            let mut body = vec![0; u32::from_be_bytes(head) as usize];
            stream.read_exact(&mut body).unwrap();
        }
    });
}

fn lines_with(home: &Home, words: &str) -> Vec<String> {
    home.log_text().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
}

/// The numbers behind `count=` of the lines that sum up what was not logged.
fn unlogged(home: &Home, words: &str) -> usize {
    let lines = lines_with(home, words);
    let counts = lines.iter().map(|line| line.split_once("count=").unwrap().1);
    counts.map(|rest| rest.split(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

fn with_config<'h>(home: &'h Home, text: &str) -> support::Daemon<'h> {
    let config = home.config(text);
    home.start_with(|command| {
        command.arg("--config").arg(config);
    })
}

#[test]
fn a_flood_of_denials_writes_a_few_lines_and_their_number() {
    let home = Home::new();
    let daemon = with_config(&home, "log_denials = 7");
    home.apply(&raw::world());
    let wrong = check(1, "key 3:WRONGWRONGWRONG", get(b"/api/v2/tickets"));
    ask(&home, &wrong.repeat(FLOOD), FLOOD);
    ask(&home, &check(1, KEY, get(b"/nothing")), 1);
    daemon.stop();
    let logged = lines_with(&home, r#"denied door="query" reason="bad_credential" credential="key 3""#).len();
    // The flood may go on into a second minute.
    assert!((7..=14).contains(&logged), "{logged} lines");
    let unlogged = unlogged(&home, r#"denied, not logged one by one reason="bad_credential""#);
    assert_eq!(logged + unlogged, FLOOD);
    let other = lines_with(&home, r#"reason="no_route" credential="key 3" target="GET /nothing""#);
    assert_eq!(other.len(), 1, "one reason's flood hides no other's denial");
    assert!(home.log_text().lines().count() < 60, "{}", home.log_text());
}

#[test]
fn without_lines_for_denials_none_is_logged_nor_counted_in_the_log() {
    let home = Home::new();
    let daemon = with_config(&home, "log_denials = 0");
    home.apply(&raw::world());
    ask(&home, &check(1, KEY, get(b"/nothing")).repeat(100), 100);
    daemon.stop();
    assert_eq!(lines_with(&home, "denied"), Vec::<String>::new());
}

#[test]
fn a_flood_of_refused_connections_writes_a_few_lines_and_their_number() {
    const REFUSED: usize = 500;
    let home = Home::new();
    let daemon = with_config(&home, "[limits]\nconnections = 1");
    let held = home.query();
    for _ in 0..REFUSED {
        let mut stream = UnixStream::connect(home.runtime().join("query.sock")).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    drop(held);
    daemon.stop();
    let logged = lines_with(&home, "a connection was refused door=\"query\"").len();
    assert!((10..=20).contains(&logged), "{logged} lines");
    let unlogged = unlogged(&home, "connections refused, not logged one by one door=\"query\" cause=\"full\"");
    assert_eq!(logged + unlogged, REFUSED);
}

#[test]
fn nothing_that_a_peer_or_a_path_brings_in_begins_a_line_or_moves_a_cursor() {
    const EVIL: &[u8] = b"x\n2000-01-01T00:00:00Z ERROR keyward: forged\r\x1b[2J\xff\" reason=\"ok\"\xe2\x80\xae";
    let home = Home::new();
    let hidden = home.path().join(OsStr::from_bytes(b"run\nERROR forged\x1b[31m\xff"));
    let mut command = Command::new(support::KEYWARD);
    let log = std::fs::File::create(home.log()).unwrap();
    command.args(["serve", "--data"]).arg(home.data()).arg("--runtime").arg(&hidden).stderr(log);
    let mut child = command.spawn().unwrap();
    let socket = hidden.join("query.sock");
    wait_until("the daemon answers", || UnixStream::connect(&socket).is_ok());
    let mut stream = UnixStream::connect(&socket).unwrap();
    let asker = Asker { credential: Some(EVIL), agent: Some(EVIL), address: Some(EVIL) };
    let target = || Target::Endpoint { method: b"GET", path: EVIL };
    let all = [
        put(&QueryRequest::Check(Check { asker, target: target() }), 1),
        put(&QueryRequest::Check(Check { asker: Asker { agent: None, ..asker }, target: target() }), 2),
        put(&QueryRequest::Check(Check { asker: raw::asker("key 9:WRONGWRONGWRONG"), target: target() }), 3),
        put(
            &QueryRequest::Check(Check {
                asker: raw::asker("key 9:WRONGWRONGWRONG"),
                target: Target::Endpoint { method: EVIL, path: b"/" },
            }),
            4,
        ),
        put(&QueryRequest::Check(Check { asker, target: Target::Tags(vec![EVIL]) }), 5),
    ];
    stream.write_all(&all.concat()).unwrap();
    wait_until("all denials are logged", || lines_with(&home, " denied door=").len() == all.len());
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert!(child.wait().unwrap().success());
    let bytes = std::fs::read(home.log()).unwrap();
    let text = String::from_utf8(bytes).expect("the log is UTF-8");
    for line in text.lines() {
        assert!(line.starts_with("20") && line.contains("Z "), "begins with its time: {line}");
        assert!(!line.starts_with("2000-"), "forged: {line}");
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert!(!line.contains("\" reason=\"ok\""), "looks like a field: {line}");
    }
    assert!(text.contains(r"run\nERROR forged\u{1b}[31m"), "{text}");
}

#[test]
fn an_error_over_an_odd_path_is_one_line_too() {
    let home = Home::new();
    let odd = OsStr::from_bytes(b"/nonexistent/a\nkeyward: forged\x1b[31m\xff");
    for words in [["serve", "--config"], ["serve", "--data"], ["config", "check"], ["doctor", "--config"]] {
        let mut command = Command::new(support::KEYWARD);
        command.args(words).args((words[1] == "check").then_some("--config")).arg(odd);
        let output = command.env("KEYWARD_RUNTIME", home.runtime()).output().unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.contains("\nkeyward: forged") && !text.contains('\u{1b}'), "{words:?}: {text}");
        assert!(text.contains(r"a\nkeyward: forged\u{1b}"), "{words:?}: {text}");
    }
}

#[test]
fn codes_in_the_wrong_place_and_query_strings_are_not_logged() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&raw::world());
    let code = KEY.split_once(':').unwrap().1.as_bytes();
    let path = [b"/reset/".as_slice(), code].concat();
    let query = [b"/nothing?token=secret-in-query&code=".as_slice(), code].concat();
    let frames = [
        check(1, KEY, get(&path)),
        check(2, KEY, get(&query)),
        check(3, KEY, Target::Endpoint { method: code, path: b"/" }),
        check(4, KEY, Target::Tags(vec![code])),
    ];
    ask(&home, &frames.concat(), frames.len());
    daemon.stop();
    let log = home.log_text();
    assert_eq!(lines_with(&home, " denied door=").len(), frames.len(), "{log}");
    assert!(!log.contains(std::str::from_utf8(code).unwrap()) && !log.contains("secret-in-query"), "{log}");
    assert!(log.contains("GET /reset/(hidden)") && log.contains("\"GET /nothing\""), "{log}");
}

#[test]
fn only_where_standard_error_is_the_journal_lines_begin_with_their_level() {
    for is_journal in [true, false] {
        let home = Home::new();
        let daemon = home.start_with(|command| {
            let log = std::fs::metadata(home.log()).unwrap();
            let inode = if is_journal { log.ino() } else { log.ino() + 1 };
            command.env("JOURNAL_STREAM", format!("{}:{inode}", log.dev()));
        });
        ask(&home, &check(1, "key 3:WRONGWRONGWRONG", get(b"/")), 1);
        daemon.stop();
        let log = home.log_text();
        let levels: Vec<_> = log.lines().map(|line| line.get(..3).unwrap_or_default()).collect();
        if is_journal {
            assert!(levels.iter().all(|level| ["<4>", "<6>"].contains(level)), "{log}");
            assert!(log.contains("<6>keyward::daemon: ready"), "{log}");
        } else {
            assert!(levels.iter().all(|level| level.starts_with("20")), "{log}");
        }
    }
}
