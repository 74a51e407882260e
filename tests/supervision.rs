//! What the service manager is told, and what it is told of the daemon's life: readiness, signs of life, reloads, the stop;
//! and the units that are refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGCONT, SIGHUP, SIGSTOP, SIGTERM};
use support::{Daemon, Home, wait_until};

/// Nothing comes after so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// The watchdog's time: signs of life come four times as often.
const WATCHDOG_MICROS: &str = "400000";

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// Listens in `home`, and starts the daemon under itself.
    fn start<'h>(home: &'h Home, config: &str) -> (Self, Daemon<'h>) {
        let path = home.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = home.config(config);
        let daemon = home.start_with(|command| {
            command.arg("--config").arg(config);
            command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG_MICROS);
        });
        (Self { socket }, daemon)
    }

    fn hear(&self) -> String {
        let mut buffer = [0; 4096];
        let bytes = self.socket.recv(&mut buffer).expect("a message comes");
        String::from_utf8(buffer[..bytes].to_vec()).unwrap()
    }

    /// Listens until a message has this line.
    fn wait_for(&self, line: &str) -> String {
        loop {
            let message = self.hear();
            if message.lines().any(|said| said == line) {
                return message;
            }
        }
    }

    /// Takes what was said so far.
    fn forget(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 4096]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn ready_is_said_first_then_signs_of_life_then_the_stop() {
    let home = Home::new();
    let (manager, daemon) = Manager::start(&home, "");
    assert_eq!(manager.hear(), "READY=1\n", "nothing comes before it");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    daemon.signal(SIGTERM);
    manager.wait_for("STOPPING=1");
    daemon.stop();
}

#[test]
fn what_the_daemon_asks_itself_is_counted_nowhere_and_commits_nothing() {
    let home = Home::new();
    let (manager, _daemon) = Manager::start(&home, "");
    home.apply(&raw::world());
    let before = home.json(&["status"]);
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    let after = home.json(&["status"]);
    for field in ["questions", "verdicts", "revision", "commits", "unflushed_use_age", "query_connections"] {
        assert_eq!(before[field], after[field], "{field}");
        assert!(!after[field].is_null() || field == "unflushed_use_age", "{field} is told: {after}");
    }
    assert_eq!(after["questions"], 0);
    assert!(!home.log_text().contains("denied"), "{}", home.log_text());
}

#[test]
fn a_daemon_that_hangs_gives_no_sign_of_life() {
    let home = Home::new();
    let (manager, daemon) = Manager::start(&home, "");
    manager.wait_for("WATCHDOG=1");
    daemon.signal(SIGSTOP);
    let state = format!("/proc/{}/stat", daemon.pid());
    wait_until("it is stopped", || std::fs::read_to_string(&state).unwrap().contains(") T "));
    manager.forget();
    // Silence has no event: three times of the watchdog's are long enough to hear twelve signs.
    manager.socket.set_read_timeout(Some(Duration::from_millis(1_200))).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err(), "it is silent");
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    daemon.signal(SIGCONT);
    manager.wait_for("WATCHDOG=1");
}

#[test]
fn users_who_take_every_connection_do_not_take_the_daemons_own() {
    let home = Home::new();
    let (manager, _daemon) = Manager::start(&home, "[limits]\nconnections = 1");
    let query = home.runtime().join("query.sock");
    let _taken = raw::Wire::connect(&query);
    wait_until("the only place is taken", || home.json(&["status"])["query_connections"] == 1);
    manager.forget();
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
}

#[test]
fn a_service_manager_that_does_not_listen_holds_nothing_up() {
    let home = Home::new();
    let (_manager, daemon) = Manager::start(&home, "");
    // The system keeps some ten messages, the daemon some more; four times a watchdog's time bring sixteen each.
    let enough = Instant::now() + Duration::from_secs(4);
    while Instant::now() < enough {
        home.json(&["status"]);
    }
    daemon.stop();
}

#[test]
fn the_status_text_tells_credentials_sets_and_questions() {
    let home = Home::new();
    let (manager, daemon) = Manager::start(&home, "");
    home.apply(&raw::world());
    daemon.stop();
    drop(manager);
    std::fs::remove_file(home.path().join("notify")).unwrap();
    let (manager, _daemon) = Manager::start(&home, "");
    let status = loop {
        let message = manager.hear();
        if let Some(text) = message.strip_prefix("STATUS=") {
            break text.trim_end().to_owned();
        }
    };
    let report = home.json(&["status"]);
    let words: Vec<&str> = status.split(", ").collect();
    assert!(words.len() == 3 && words[0].ends_with(" credentials") && words[0] != "0 credentials", "{status}");
    assert_eq!(words[1], format!("{} sets", report["tag_sets"]), "{status}");
    assert!(words[2].ends_with(" q/s"), "{status}");
}

#[test]
fn a_reload_is_said_at_its_beginning_and_at_its_end_also_when_it_is_refused() {
    let home = Home::new();
    let (manager, daemon) = Manager::start(&home, "");
    manager.wait_for("READY=1");
    for (config, said) in [("log = 'debug'", "was reloaded"), ("no_such_key = 1", "was not reloaded")] {
        home.config(config);
        daemon.signal(SIGHUP);
        let message = manager.wait_for("RELOADING=1");
        assert!(message.contains("MONOTONIC_USEC="), "{message}");
        manager.wait_for("READY=1");
        wait_until("the log says what came of it", || home.log_text().contains(said));
    }
}

#[test]
fn a_credential_that_could_not_be_loaded_is_refused_and_no_pepper_made() {
    let home = Home::new();
    let credentials = home.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("pepper"), "none").unwrap();
    let mut command = home.serve_command();
    command.env("CREDENTIALS_DIRECTORY", &credentials).stderr(std::process::Stdio::piped());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let said = errors(&output);
    assert!(
        said.contains("LoadCredential=") && said.contains("/etc/keyward/pepper") && said.contains("missing"),
        "{said}"
    );
    assert!(!home.data().join("pepper").exists() && !home.database().exists());
}

#[test]
fn a_unit_with_private_users_is_refused() {
    let home = Home::new();
    let serve = home.serve_command();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).arg(serve.get_program()).args(serve.get_args());
    command.env("INVOCATION_ID", "0123456789abcdef");
    let made = Command::new("unshare").args(["--user", "--map-root-user", "true"]).output();
    if !made.is_ok_and(|output| output.status.success()) {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: a unit with mapped user ids, because no user namespace can be made here"
        );
        return;
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(errors(&output).contains("PrivateUsers=no"), "{}", errors(&output));
    assert!(!home.data().exists(), "nothing was made");
}
