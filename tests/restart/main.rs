//! Daemons come and go on sockets that stay, and no request fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]
#![allow(unreachable_pub, reason = "its parts are files of one test")]

mod load;
mod naming;
mod passed;
#[path = "../proxies/rig.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use load::Progress;
use nix::sys::signal::Signal::{self, SIGKILL, SIGTERM};
use passed::{Sockets, binary, command, start};
use rig::{Kind, Proxy, Rig, installed, run};
use support::http::{Place, free_port};
use support::{Daemon, Home, conformance, has_program, say, skipped, wait_until};

/// A stop in which nobody is waited for; half of what the daemon waits for an answer of its own.
const STOP_MAX: Duration = Duration::from_millis(2_500);
const RESTARTS: usize = 20;
const KILLS: usize = 3;
const REQUESTS_MIN: u64 = 10_000;
/// Of each client, between two restarts: so that each has left the one behind before the next comes.
const REQUESTS_BETWEEN: u64 = 20;

/// Asks until it is told to end.
type Client<'a> = Box<dyn Fn(&Progress) + Sync + 'a>;

/// Ends the clients, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Stops this daemon, or kills it, and starts the next at once.
fn replace(daemon: &mut Daemon<'_>, signal: Signal, mut next: Command) {
    daemon.signal(signal);
    let status = daemon.child.wait().unwrap();
    assert_eq!(status.success(), signal == SIGTERM, "{status}: {}", daemon.home.log_text());
    daemon.child = next.spawn().unwrap();
}

/// Each of its questions comes on a new connection, which it can't tell from one that was always broken.
fn nginx_that_keeps_none(rig: &Rig<'_>) -> Option<Proxy> {
    let program = installed("nginx")?;
    let (port, folder) = (free_port(), rig.home.path().join("nginx-without"));
    std::fs::create_dir(&folder).unwrap();
    let config = rig.nginx_config(&folder, port);
    let without = config.replace("        keepalive 4;\n", "");
    assert_ne!(config, without);
    Some(run(rig.nginx(&program, &folder, &without), &folder, port))
}

#[test]
fn no_request_fails_while_daemons_are_stopped_killed_and_replaced_by_another_binary() {
    let home = Home::in_memory();
    let sockets = Sockets::bind(&home);
    let newer = home.path().join("keyward-newer");
    std::fs::copy(binary(), &newer).unwrap();
    let binaries = [binary(), newer];
    let mut daemon = start(&home, &binaries[0], sockets.all());
    home.apply(&conformance("world.json"));
    let rig = Rig::without_daemon(&home, sockets.port);
    let proxies: Vec<(&str, Proxy)> = [
        ("nginx", rig.proxy(Kind::Nginx)),
        ("nginx that keeps no connection", nginx_that_keeps_none(&rig)),
        ("caddy", rig.proxy(Kind::Caddy)),
        ("haproxy", rig.proxy(Kind::HaProxy)),
    ]
    .into_iter()
    .filter_map(|(name, proxy)| Some((name, proxy?)))
    .collect();
    let runtime = home.runtime();
    let places = [Place::Unix(runtime.join("http.sock")), Place::Tcp(([127, 0, 0, 1], sockets.port).into())];
    let over = AtomicBool::new(false);
    let mut clients: Vec<(&str, Client<'_>)> = vec![
        ("blocking", Box::new(|progress| load::blocking(&runtime, progress, &over))),
        ("blocking too", Box::new(|progress| load::blocking(&runtime, progress, &over))),
        ("coming and going", Box::new(|progress| load::coming_and_going(&runtime, progress, &over))),
        ("asynchronous", Box::new(|progress| load::asynchronous(&runtime, progress, &over))),
        ("pipelining", Box::new(|progress| load::pipelining(&runtime, progress, &over))),
        ("changing", Box::new(|progress| load::changing(&home, progress, &over))),
        ("http", Box::new(|progress| load::http(&places[0], progress, &over))),
        ("http over tcp", Box::new(|progress| load::http(&places[1], progress, &over))),
    ];
    if has_program("python3") {
        clients.push(("python", Box::new(|progress| load::python(&runtime, progress, &over))));
    } else {
        skipped("the client in Python over restarts: there is no python3 here");
    }
    for (name, proxy) in &proxies {
        clients.push((name, Box::new(|progress| load::through_proxy(&proxy.place(), progress, &over))));
    }
    let progress: Vec<Progress> = clients.iter().map(|_| Progress::default()).collect();
    std::thread::scope(|scope| {
        let _over = Over(&over);
        let running: Vec<_> =
            clients.iter().zip(&progress).map(|((_, run), progress)| scope.spawn(move || run(progress))).collect();
        let all_go_on = |goal: &dyn Fn(&Progress) -> bool| {
            wait_until("every client goes on", || {
                let ended = running.iter().position(std::thread::ScopedJoinHandle::is_finished);
                assert!(ended.is_none(), "a request of a client failed: {}", clients[ended.unwrap_or(0)].0);
                progress.iter().all(goal)
            });
        };
        for number in 0..RESTARTS + KILLS {
            progress.iter().for_each(Progress::mark);
            all_go_on(&|progress| progress.since_mark() >= REQUESTS_BETWEEN);
            let signal = if number % 8 == 3 { SIGKILL } else { SIGTERM };
            let next = command(&home, &binaries[(number + 1) % 2], sockets.all(), |_| {});
            replace(&mut daemon, signal, next);
        }
        all_go_on(&|_| progress.iter().map(Progress::answered).sum::<u64>() >= REQUESTS_MIN);
    });
    for ((name, _), progress) in clients.iter().zip(&progress) {
        say(&format!("{name}: {} answered, the slowest in {:?}", progress.answered(), progress.slowest()));
    }
    daemon.stop();
    assert!(runtime.join("query.sock").exists(), "what was passed is not the daemon's to remove");
}

#[test]
fn a_stop_right_behind_readiness_is_not_held_up_by_what_the_daemon_asks_itself() {
    let home = Home::in_memory();
    let sockets = Sockets::bind(&home);
    let manager = UnixDatagram::bind(home.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(STOP_MAX)).unwrap();
    for round in 0..20 {
        let tell = |command: &mut Command| {
            command.env("NOTIFY_SOCKET", home.path().join("notify"));
        };
        let child = command(&home, &binary(), sockets.all(), tell).spawn().unwrap();
        let mut daemon = Daemon { home: &home, child };
        // Behind readiness in even rounds, before it in the others.
        let mut told = [0; 4096];
        let mut is_ready = || manager.recv(&mut told).is_ok_and(|bytes| told[..bytes].starts_with(b"READY=1"));
        if round % 2 == 0 {
            wait_until("the daemon is ready", &mut is_ready);
        }
        wait_until("signals are listened for", || home.log_text().matches("ready").count() > round);
        let began = Instant::now();
        daemon.signal(SIGTERM);
        assert!(daemon.child.wait().unwrap().success());
        assert!(began.elapsed() < STOP_MAX, "round {round}: {:?}", began.elapsed());
    }
}
