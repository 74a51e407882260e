//! SIGHUP: the configuration is in force whole or not at all, and nobody is put out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyward_proto::client::QueryClient;
use keyward_proto::query::{Asker, Reason};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::http::{Answer, Place, get};
use support::{Daemon, Home, conformance, wait_until};

const KEY_2: &str = "key 2:YWK2PGCS8CNW62SR8TBTBKWMY";
const SESSION_7: &str = "7:SZQ2PGCS8CNW62SR8TBTBKWMY";

fn start<'h>(home: &'h Home, text: &str) -> Daemon<'h> {
    let config = home.config(text);
    home.start_with(|command| {
        command.arg("--config").arg(config);
    })
}

/// Asks the HTTP door, again while the one place that it may have is still the connection's before.
fn ask_http(home: &Home, path: &str, headers: &[&str]) -> Answer {
    let door = Place::Unix(home.runtime().join("http.sock"));
    let mut answer = None;
    wait_until("the HTTP door has a place", || {
        answer = Some(door.ask(get(path, headers))).filter(|answer| answer.status != 503);
        answer.is_some()
    });
    answer.unwrap()
}

/// Reloads that came to an end, by what they came to.
fn reloads(home: &Home) -> [u64; 2] {
    let text = String::from_utf8(ask_http(home, "/metrics", &[]).body).unwrap();
    ["done", "refused"].map(|outcome| {
        let name = format!("keyward_config_reloads_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    })
}

/// Writes the file, reloads, waits for the end of that, and returns why it was refused.
fn reload(daemon: &Daemon<'_>, text: &str) -> Option<String> {
    let home = daemon.home;
    home.config(text);
    let before: u64 = reloads(home).iter().sum();
    daemon.signal(Signal::SIGHUP);
    wait_until("the reload is over", || reloads(home).iter().sum::<u64>() > before);
    let status = home.json(&["status"]);
    assert!(status["reloaded_at"].is_u64(), "{status}");
    status["reload_refused"].as_str().map(str::to_owned)
}

fn who_by_cookie(home: &Home, name: &str) -> u16 {
    let cookie = format!("Cookie: {name}={SESSION_7}");
    ask_http(home, "/me", &[&cookie]).status
}

fn works(client: &mut QueryClient) -> bool {
    let asker = Asker { credential: Some(KEY_2.as_bytes()), agent: None, address: None };
    client.who(asker).is_ok_and(|verdict| verdict.reason == Reason::Ok.number())
}

/// Whether one more connection to the query socket is served.
fn is_let_in(home: &Home) -> bool {
    QueryClient::connect(&home.runtime().join("query.sock")).is_ok_and(|mut client| works(&mut client))
}

#[test]
fn what_is_live_changes_at_a_reload_and_open_connections_stay() {
    let home = Home::new();
    let daemon = start(&home, "[limits]\nconnections = 2\nconnections_per_uid = 2");
    home.apply(&conformance("world.json"));
    let (mut first, mut second) = (home.query(), home.query());
    assert!(works(&mut first) && works(&mut second) && !is_let_in(&home));
    assert_eq!((who_by_cookie(&home, "keyward_session"), who_by_cookie(&home, "sid")), (200, 401));
    let text = "log = 'debug'\n[http]\nsession_cookie = 'sid'\n[limits]\nconnections = 3\nconnections_per_uid = 3";
    assert_eq!(reload(&daemon, text), None);
    assert!(works(&mut first) && works(&mut second), "nobody was put out");
    assert!(is_let_in(&home), "one more place");
    assert_eq!((who_by_cookie(&home, "keyward_session"), who_by_cookie(&home, "sid")), (401, 200));
    wait_until("what only debug logs is logged", || home.log_text().contains("DEBUG"));
    assert!(home.log_text().contains("the configuration was reloaded changed=log, http.session_cookie, limits"));
    // Narrower than what is open: those stay, new ones wait outside.
    assert_eq!(reload(&daemon, "[limits]\nconnections = 1"), None);
    assert!(works(&mut first) && works(&mut second) && !is_let_in(&home));
    assert_eq!(who_by_cookie(&home, "keyward_session"), 200, "what is left out has its default again");
    daemon.stop();
}

#[test]
fn an_idle_timeout_holds_for_connections_made_after_the_reload() {
    let home = Home::new();
    let daemon = start(&home, "");
    home.apply(&conformance("world.json"));
    let mut before = home.query();
    assert_eq!(reload(&daemon, "[limits]\nidle_timeout = '1s'"), None);
    let mut after = UnixStream::connect(home.runtime().join("query.sock")).unwrap();
    after.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let read = std::io::Read::read(&mut after, &mut [0; 64]).unwrap();
    assert_eq!(read, 0, "closed for its silence");
    assert!(works(&mut before));
    daemon.stop();
}

#[test]
fn a_file_that_is_refused_changes_nothing_and_says_why_in_log_and_status() {
    let home = Home::new();
    let sound = "log = 'info'\n[http]\nsession_cookie = 'sid'";
    let daemon = start(&home, sound);
    home.apply(&conformance("world.json"));
    // Each with a change that alone would be taken.
    let live = "[http]\nsession_cookie = 'other'";
    let elsewhere = home.path().join("elsewhere");
    for (text, why) in [
        (format!("colour = 1\n{live}"), "line 1: `colour = 1`: unknown field `colour`".to_owned()),
        (
            format!("{live}\n[limits]\nconnections = 0"),
            "line 4: `connections = 0`: 0 connections are out of range".into(),
        ),
        (format!("log = ']['\n{live}"), "line 1: `log = ']['`: `][` is no log filter".into()),
        (format!("workers = 3\n{live}"), "workers can only change with a restart".into()),
        (format!("group = 'no-such'\n{live}"), "group can only change with a restart".into()),
        (format!("{live}\nlisten = '127.0.0.1:1'"), "http.listen can only change with a restart".into()),
        (
            format!("workers = 1\n{live}\n[admin]\ngroup = 'x'"),
            "workers, admin.group can only change with a restart; restart keyward".into(),
        ),
        ("\u{1b}[31m = 1".to_owned(), "line 1".into()),
    ] {
        let refused = reload(&daemon, &text).unwrap_or_else(|| panic!("taken: {text}"));
        assert!(refused.contains(&why), "{text}: {refused}");
        assert_eq!((who_by_cookie(&home, "sid"), who_by_cookie(&home, "other")), (200, 401), "{text}");
    }
    let log = home.log_text();
    assert_eq!(log.matches("the configuration was not reloaded: the one before stays in force").count(), 8, "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
    let page = String::from_utf8(home.run(&["status"]).stdout).unwrap();
    assert!(page.contains("REFUSED") && !page.contains('\u{1b}'), "{page}");

    std::fs::rename(home.path().join("keyward.toml"), &elsewhere).unwrap();
    let before = reloads(&home);
    daemon.signal(Signal::SIGHUP);
    wait_until("the missing file was noticed", || reloads(&home)[1] > before[1]);
    let status = home.json(&["status"]);
    assert!(status["reload_refused"].as_str().unwrap().contains("configuration not read"), "{status}");
    assert_eq!(reload(&daemon, sound), None, "and a sound one is taken again");
    assert_eq!(home.json(&["status"])["reload_refused"], Value::Null);
    assert_eq!(who_by_cookie(&home, "sid"), 200);
    daemon.stop();
}

#[test]
fn flags_stay_in_force_over_the_file() {
    let home = Home::new();
    let daemon = start(&home, "");
    let text = "data = '/nonexistent/data'\nruntime = '/nonexistent/run'\nlog_denials = 3";
    assert_eq!(reload(&daemon, text), None, "the flags name both directories, before and after");
    assert_eq!(home.json(&["status"])["database"], json!(home.database()));
    daemon.stop();
}

#[test]
fn admins_are_those_that_the_file_last_named() {
    if !nix::unistd::Uid::effective().is_root() {
        return support::skipped("only root can become another user");
    }
    const STRANGER: u32 = 54_321;
    let home = Home::new();
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = home.path().join("keyward");
    std::fs::copy(support::KEYWARD, &program).unwrap();
    let status = || {
        let mut command = std::process::Command::new(&program);
        std::os::unix::process::CommandExt::uid(&mut command, STRANGER);
        command.arg("status").env("KEYWARD_RUNTIME", home.runtime()).output().unwrap().status.code()
    };
    let daemon = start(&home, "");
    let open = || {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(home.runtime().join("admin.sock"), mode).unwrap();
    };
    open();
    assert_eq!(status(), Some(3));
    assert_eq!(reload(&daemon, &format!("[admin]\nuids = [{STRANGER}]")), None);
    assert_eq!(status(), Some(0));
    assert_eq!(reload(&daemon, ""), None);
    assert_eq!(status(), Some(3));
    daemon.stop();
}

#[test]
fn a_reload_that_comes_while_the_daemon_starts_is_done_when_it_has_started() {
    for _ in 0..5 {
        let home = Home::new();
        let config = home.config("");
        let mut command = home.serve_command();
        let mut child = command.arg("--config").arg(config).spawn().unwrap();
        wait_until("the start has begun", || home.data().exists());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGHUP).unwrap();
        wait_until("the daemon answers or is gone", || {
            child.try_wait().unwrap().is_some() || UnixStream::connect(home.runtime().join("http.sock")).is_ok()
        });
        let daemon = Daemon { home: &home, child };
        wait_until("it has reloaded", || reloads(&home) == [1, 0]);
        daemon.stop();
    }
}

#[test]
fn reloads_one_after_the_other_cost_no_question() {
    let home = Home::new();
    let daemon = start(&home, "");
    home.apply(&conformance("world.json"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut kept, mut asked) = (home.query(), 0);
            while !over.load(Ordering::Relaxed) {
                assert!(works(&mut kept) && is_let_in(&home));
                asked += 1;
            }
            asked
        });
        for round in 0..30 {
            assert_eq!(reload(&daemon, &format!("log_denials = {round}")), None);
        }
        over.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 30);
    });
    daemon.stop();
}
