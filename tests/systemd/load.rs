//! Four clients that ask without a pause while something is done to the service: none may notice.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::client::QueryClient;
use keyward_proto::query::{Asker, Target};
use serde_json::Value;

use crate::host::{Host, KEY, QUERY, SERVICE};
use crate::machine::text;
use crate::support::http::{Place, get};
use crate::support::{say, wait_until};

/// Requests in all, at the least.
pub(crate) const REQUESTS_MIN: u64 = 10_000;
const RESTARTS: usize = 20;
const KILLS: usize = 3;
/// An answer that takes longer has waited for the next daemon.
const WAITED: Duration = Duration::from_millis(50);
/// No start and no stop takes so long, not even on a busy host: something of the daemon waited in vain for its deadline.
const LATE: Duration = Duration::from_millis(4_500);
/// A client that saw so many failures needs no more of them.
const FAILURES_MAX: usize = 10;
const PATIENCE: Duration = Duration::from_secs(30);
/// Where nginx listens.
const WEB: &str = "/run/web.sock";
/// The Python client asks until this is there.
const LOAD_STOP: &str = "/run/load.stop";
const PATH: &str = "/api/v2/tickets";

/// What came of one client's requests.
#[derive(Default)]
struct Tally {
    asked: u64,
    waited: u64,
    slowest: Duration,
    failed: Vec<String>,
}

#[test]
fn no_request_fails_while_the_service_is_restarted_and_killed() {
    let Some(host) = Host::running() else { return };
    let asked = under_load(&host, "20 restarts and 3 kills", || {
        for turn in 0..RESTARTS {
            host.ok(&["systemctl", "restart", SERVICE]);
            if turn % (RESTARTS / KILLS) == RESTARTS / KILLS - 1 {
                kill(&host);
            }
        }
    });
    assert!(asked >= REQUESTS_MIN);
    assert_eq!(host.journal().matches("status=9/KILL").count(), KILLS);
}

/// `kill -9`, and waits for the daemon that systemd starts then.
fn kill(host: &Host) {
    let pid = host.main_pid();
    host.shell(&format!("kill -KILL {pid}"));
    wait_until("another daemon is ready", || {
        let now = host.main_pid();
        now != pid && now != "0" && host.property(SERVICE, "ActiveState") == "active"
    });
}

/// Does it while two Rust clients, the Python client and one behind nginx ask, until there were enough requests; none of
/// them may fail. How many there were.
pub(crate) fn under_load(host: &Host, what: &str, act: impl FnOnce()) -> u64 {
    start_nginx(host);
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let python = start_python(host);
    let (query, web) = (host.path(QUERY), host.path(WEB));
    let tallies = std::thread::scope(|scope| {
        let clients = [
            ("Rust", scope.spawn(|| ask_until(&stop, &asked, by_query(&query)))),
            ("Rust", scope.spawn(|| ask_until(&stop, &asked, by_query(&query)))),
            ("nginx", scope.spawn(|| ask_until(&stop, &asked, through_nginx(&web)))),
        ];
        let end = End { host, stop: &stop };
        act();
        wait_until("enough was asked", || asked.load(Ordering::Relaxed) >= REQUESTS_MIN);
        drop(end);
        clients.map(|(name, client)| (name, client.join().unwrap()))
    });
    let said = text(&python.wait_with_output().unwrap().stdout);
    let tallies = tallies.into_iter().chain([("Python", from_python(&said))]);
    tallies.fold(0, |total, (name, Tally { asked, waited, slowest, failed })| {
        say(&format!(
            "{what}, {name}: {asked} requests, {waited} waited, at most {slowest:?}, {} failed",
            failed.len()
        ));
        assert!(failed.is_empty(), "{what}, {name}: {failed:?}");
        assert!(asked > 0, "{name}");
        assert!(slowest < LATE, "{what}, {name}: somebody waited for {slowest:?}");
        total + asked
    })
}

/// Ends all clients, also when what was done failed.
struct End<'a> {
    host: &'a Host,
    stop: &'a AtomicBool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.host.put(LOAD_STOP, "", 0o644);
    }
}

fn ask_until(stop: &AtomicBool, total: &AtomicU64, mut ask: impl FnMut() -> Result<(), String>) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) && tally.failed.len() < FAILURES_MAX {
        let begun = Instant::now();
        tally.failed.extend(ask().err());
        let took = begun.elapsed();
        tally.asked += 1;
        tally.waited += u64::from(took > WAITED);
        tally.slowest = tally.slowest.max(took);
        total.fetch_add(1, Ordering::Relaxed);
    }
    tally
}

fn by_query(socket: &Path) -> impl FnMut() -> Result<(), String> {
    let mut client = QueryClient::connect(socket).unwrap();
    client.set_timeout(Some(PATIENCE)).unwrap();
    move || {
        let asker = Asker { credential: Some(KEY.as_bytes()), ..Asker::default() };
        let target = Target::Endpoint { method: b"GET", path: PATH.as_bytes() };
        let verdict = client.check(asker, target).map_err(|error| error.to_string())?;
        if verdict.is_allowed() { Ok(()) } else { Err(format!("reason {}", verdict.reason)) }
    }
}

/// On a connection that is kept: nginx has its own to the daemon.
fn through_nginx(socket: &Path) -> impl FnMut() -> Result<(), String> {
    let mut connection = Place::Unix(socket.to_owned()).connect();
    let request = get(PATH, &[&format!("Authorization: {KEY}")]);
    let place = Place::Unix(socket.to_owned());
    move || {
        connection.send(&request);
        let answer = match connection.answer() {
            Some(answer) => answer,
            // nginx ends a connection after a thousand requests.
            None => {
                connection = place.connect();
                connection.send(&request);
                connection.answer().ok_or("nginx closed the connection")?
            }
        };
        if answer.status == 200 { Ok(()) } else { Err(format!("status {}", answer.status)) }
    }
}

/// With the shipped example, and an application that says yes to all that is let through to it.
fn start_nginx(host: &Host) {
    let mut config = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/nginx.conf")).unwrap();
    let application = "http {\n    access_log off;\n    server { listen 127.0.0.1:8080; return 200 ok; }\n";
    for (from, to) in [("http {\n", application), ("listen 80;", &format!("listen unix:{WEB};"))] {
        assert!(config.contains(from), "{from}");
        config = config.replace(from, to);
    }
    host.put("/etc/nginx/nginx.conf", config, 0o644);
    host.shell(&format!("systemctl restart nginx; rm -f {LOAD_STOP}"));
}

/// The shipped client, in the machine and in the web workers' group.
fn start_python(host: &Host) -> Child {
    let client = include_str!("../../proto/clients/keyward.py");
    host.put("/usr/lib/keyward-load/keyward.py", client, 0o644);
    host.put("/usr/lib/keyward-load/load.py", include_str!("load.py"), 0o644);
    let user = ["setpriv", "--reuid=www-data", "--regid=www-data", "--init-groups", "--"];
    let program = ["python3", "/usr/lib/keyward-load/load.py", QUERY, KEY, LOAD_STOP];
    host.command(&[&user[..], &program].concat()).stdout(Stdio::piped()).spawn().unwrap()
}

/// What the Python client told.
fn from_python(said: &str) -> Tally {
    let told: Value = serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    Tally {
        asked: told["asked"].as_u64().unwrap(),
        waited: told["waited"].as_u64().unwrap(),
        slowest: Duration::from_secs_f64(told["slowest"].as_f64().unwrap()),
        failed: told["failed"].as_array().unwrap().iter().map(Value::to_string).collect(),
    }
}
