//! Crashes at chosen system calls, and the order of those of a commit, by `strace`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use keyward_proto::admin::{AdminReply, AdminRequest, Patch, Selector};
use keyward_proto::client::AdminClient;
use keyward_proto::query::{Mode, Reason};

use super::support::{Home, has_program, say, skipped, wait_until};
use super::{apply, credential_patch, make_world, reasons, status};

/// System calls that leave something behind, or tell somebody.
const LASTING_CALLS: &[&str] = &[
    "openat",
    "mkdir",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "ftruncate",
    "fallocate",
    "bind",
    "listen",
    "chmod",
    "fchmod",
    "chown",
    "flock",
    "connect",
];

/// The daemon below `strace`; both end when this is dropped.
struct Traced {
    strace: Child,
}

impl Traced {
    fn start(home: &Home, options: &[&str]) -> Self {
        let serve = home.serve_command();
        let mut command = Command::new("strace");
        command.args(["-f", "-o"]).arg(home.path().join("trace")).args(options);
        command.arg(serve.get_program()).args(serve.get_args());
        let log = std::fs::File::options().create(true).append(true).open(home.log()).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { strace: command.spawn().unwrap() }
    }

    /// Waits until the daemon serves (true) or has died (false).
    fn came_through(&mut self, home: &Home) -> bool {
        let mut ended = false;
        wait_until("the traced daemon serves or dies", || {
            ended = self.strace.try_wait().unwrap().is_some();
            ended || home.log_text().contains("ready version")
        });
        !ended
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // Killing the tracer alone would set the daemon free.
        let children = format!("/proc/{0}/task/{0}/children", self.strace.id());
        for child in std::fs::read_to_string(children).unwrap_or_default().split_whitespace() {
            let pid = nix::unistd::Pid::from_raw(child.parse().unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.strace.wait();
    }
}

/// Kills first starts at the first, second, third… `call` until one comes through. Returns how many were killed.
fn kill_first_starts_at(call: &str) -> u64 {
    for when in 1.. {
        let home = Home::new();
        let inject = format!("inject={call}:signal=KILL:when={when}");
        let through = Traced::start(&home, &["-e", &inject]).came_through(&home);
        let at = format!("{call} number {when}");
        let pepper = std::fs::read(home.data().join("pepper")).ok();
        second_start_serves(&home, &at);
        if let Some(pepper) = pepper {
            assert_eq!(std::fs::read(home.data().join("pepper")).unwrap(), pepper, "{at}: another pepper");
        }
        if through {
            return when - 1;
        }
    }
    0
}

/// A start without help takes a change, and the one after it answers a question from that.
fn second_start_serves(home: &Home, at: &str) {
    let daemon = home.start();
    let mut admin = home.admin();
    make_world(&mut admin);
    let key = AdminRequest::Add(Patch::Credential(credential_patch(Mode::Key, None, at, "FIRSTFIRSTFIRST")));
    assert!(matches!(admin.call(&key).unwrap(), AdminReply::Done(_)), "{at}");
    assert!(status(&mut admin).alarms.is_empty(), "{at}");
    daemon.kill();
    let _daemon = home.start();
    assert_eq!(reasons(home, &["key 1:FIRSTFIRSTFIRST".to_string()]), [Reason::Ok], "{at}");
    let mut left: Vec<String> = std::fs::read_dir(home.data())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["keyward.lock", "keyward.redb", "pepper", "watermark"], "{at}");
}

#[test]
fn a_first_start_may_be_killed_at_any_system_call() {
    if !has_program("strace") {
        return skipped("no strace here: first starts can't be killed at chosen system calls");
    }
    let next = std::sync::Mutex::new(LASTING_CALLS.iter());
    let points = std::sync::Mutex::new(String::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(call) = next.lock().unwrap().next() else {
                        return;
                    };
                    let killed = kill_first_starts_at(call);
                    write!(points.lock().unwrap(), " {call} {killed}").unwrap();
                }
            });
        }
    });
    say(&format!("first starts killed at:{}", points.lock().unwrap()));
}

/// System calls that a commit consists of.
const CALLS_OF_A_COMMIT: &[&str] = &["pwrite64", "fdatasync", "fsync", "ftruncate"];

#[test]
fn a_daemon_may_be_killed_at_any_system_call_of_a_commit() {
    if !has_program("strace") {
        return skipped("no strace here: a commit can't be interrupted at chosen system calls");
    }
    let mut points = String::new();
    for call in CALLS_OF_A_COMMIT {
        let home = Home::new();
        let daemon = home.start();
        let mut admin = home.admin();
        make_world(&mut admin);
        let key = |id| Patch::Credential(credential_patch(Mode::Key, Some(id), "to be revoked", "REVOKEDREVOKED"));
        apply(&mut admin, (1..=100).map(key).collect(), None).unwrap();
        daemon.kill();
        write!(points, " {call} {}", kill_commits_at(call, &home)).unwrap();
    }
    say(&format!("commits killed at:{points}"));
}

/// Kills daemons at the first, second, third… `call` until one starts and revokes a key. Returns how many were killed.
fn kill_commits_at(call: &str, home: &Home) -> u64 {
    let mut revoked = Vec::new();
    for when in 1..100 {
        let _ = std::fs::remove_file(home.log());
        let inject = format!("inject={call}:signal=KILL:when={when}");
        let mut traced = Traced::start(home, &["-e", &inject]);
        let acknowledged = traced.came_through(home)
            && AdminClient::connect(&home.runtime().join("admin.sock"))
                .and_then(|mut admin| admin.call(&AdminRequest::Remove(Selector::Credential(Mode::Key, when))))
                .is_ok();
        drop(traced);
        let _daemon = home.start();
        assert!(status(&mut home.admin()).alarms.is_empty(), "{call} number {when}");
        match reasons(home, &[format!("key {when}:REVOKEDREVOKED")])[..] {
            [Reason::Revoked] => revoked.push(format!("key {when}:REVOKEDREVOKED")),
            [Reason::Ok] => assert!(!acknowledged, "{call} number {when}"),
            ref other => panic!("{call} number {when}: {other:?}"),
        }
        assert!(reasons(home, &revoked).iter().all(|reason| *reason == Reason::Revoked), "{call} number {when}");
        if acknowledged {
            return when - 1;
        }
    }
    panic!("no daemon came through {call}");
}

#[test]
fn no_change_is_acknowledged_before_the_database_file_is_synced() {
    if !has_program("strace") {
        return skipped("no strace here: the order of system calls can't be seen");
    }
    let home = Home::new();
    let calls = "trace=pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync,msync,pwritev,pwritev2";
    let mut traced = Traced::start(&home, &["-y", "-e", calls]);
    assert!(traced.came_through(&home), "{}", home.log_text());
    let mut admin = home.admin();
    make_world(&mut admin);
    let trace = || std::fs::read_to_string(home.path().join("trace")).unwrap();
    for round in 0..3 {
        let before = trace().len();
        let add = credential_patch(Mode::Key, None, "synced", "SYNCEDSYNCEDSYNCED");
        assert!(matches!(admin.call(&AdminRequest::Add(Patch::Credential(add))).unwrap(), AdminReply::Done(_)));
        wait_until("the reply is in the trace", || trace()[before..].lines().any(|line| is_reply(&line)));
        let trace = trace();
        let until_reply: Vec<&str> = trace[before..].lines().take_while(|line| !is_reply(line)).collect();
        let database = home.database();
        let last_write = until_reply.iter().rposition(|line| is_call(line, &["pwrite64"], &database));
        let Some(last_write) = last_write else {
            panic!("round {round}: the database was not written before the reply:\n{}", until_reply.join("\n"));
        };
        let synced = is_synced(&until_reply[last_write + 1..], &database);
        assert!(synced, "round {round}: no finished sync before the reply:\n{}", until_reply.join("\n"));
    }
}

/// The reply on the admin socket: the only socket that is written to.
fn is_reply(line: &&str) -> bool {
    ["sendto(", "write(", "writev(", "sendmsg("].iter().any(|call| line.contains(call)) && line.contains("<socket:[")
}

fn is_call(line: &str, calls: &[&str], file: &Path) -> bool {
    let file = format!("<{}>", file.display());
    calls.iter().any(|call| line.contains(&format!("{call}("))) && line.contains(&file)
}

/// A sync of `file` that was begun and finished within these lines.
fn is_synced(lines: &[&str], file: &Path) -> bool {
    let syncs = ["fdatasync", "fsync"];
    lines.iter().enumerate().any(|(i, line)| {
        if !is_call(line, &syncs, file) {
            return false;
        }
        let thread = line.split_whitespace().next().unwrap();
        let resumed = |line: &&&str| line.starts_with(thread) && line.contains("sync resumed") && line.ends_with("= 0");
        line.ends_with("= 0") || lines[i..].iter().any(|line| resumed(&line))
    })
}
