//! What the HTTP door costs: `cargo bench --bench http`.
//!
//! Against a hyper server that says 204 to everything on the same kind of socket, and, where nginx and wrk are installed,
//! through nginx with and without `auth_request`. Ratios within one run count; the figures are this machine's.
#![allow(missing_docs, reason = "a program")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    unreachable_pub,
    reason = "a measurement that can't go on ends, and its numbers are small"
)]

#[path = "../tests/proxies/rig.rs"]
mod rig;
#[path = "../tests/support/mod.rs"]
mod support;

use std::convert::Infallible;
use std::future::ready;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};

use rig::{Rig, installed, run};
use support::http::{free_port, get};
use support::{Home, wait_until};

const SECONDS: u64 = 3;
const ROUNDS: usize = 3;
const KEY: &str = "Authorization: key 2:YWK2PGCS8CNW62SR8TBTBKWMY";

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("serve-204") {
        return serve_204(&PathBuf::from(arguments.next().unwrap()));
    }
    let home = Home::new();
    let rig = Rig::start(&home);
    let nothing = home.path().join("204.sock");
    let server = Command::new(std::env::current_exe().unwrap()).arg("serve-204").arg(&nothing).spawn().unwrap();
    let _server = Ended(server);
    wait_until("the 204 server answers", || UnixStream::connect(&nothing).is_ok());
    println!("{ROUNDS} rounds of {SECONDS} s each, medians; clients share the machine with the servers");
    direct(&rig.keyward, &nothing);
    through_nginx(rig, &nothing);
}

/// A process that ends with this one, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers 204 to everything: what hyper, tokio and the socket cost by themselves.
fn serve_204(path: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = |_: Request<Incoming>| {
                let mut reply = Response::new(Empty::<Bytes>::new());
                *reply.status_mut() = hyper::StatusCode::NO_CONTENT;
                ready(Ok::<_, Infallible>(reply))
            };
            let io = hyper_util::rt::TokioIo::new(stream);
            let service = hyper::service::service_fn(answer);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn direct(keyward: &Path, nothing: &Path) {
    let request =
        get("/auth/nginx", &[KEY, "X-Original-Method: GET", "X-Original-URI: /api/v2/tickets/9", "X-Real-IP: ::1"]);
    println!("\nover the Unix socket, one request at a time on each connection, requests/s");
    println!("{:>12} {:>12} {:>12} {:>8}", "connections", "Keyward", "204 server", "ratio");
    for connections in [1, 8, 64] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(per_second(keyward, &request, connections));
            theirs.push(per_second(nothing, &request, connections));
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!("{connections:>12} {ours:>12.0} {theirs:>12.0} {:>8.2}", ours / theirs);
    }
}

fn per_second(socket: &Path, request: &[u8], connections: usize) -> f64 {
    let began = Instant::now();
    let deadline = began + Duration::from_secs(SECONDS);
    let total: usize = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..connections).map(|_| scope.spawn(move || client(socket, request, deadline))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    total as f64 / began.elapsed().as_secs_f64()
}

fn client(socket: &Path, request: &[u8], deadline: Instant) -> usize {
    let mut stream = UnixStream::connect(socket).unwrap();
    let (mut count, mut buffer) = (0, [0; 4096]);
    while Instant::now() < deadline {
        stream.write_all(request).unwrap();
        let mut read = 0;
        // Neither server's answer has a body.
        while !buffer[..read].ends_with(b"\r\n\r\n") {
            let more = stream.read(&mut buffer[read..]).unwrap();
            assert!(more > 0, "the connection was closed");
            read += more;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&buffer[..read]));
        count += 1;
    }
    count
}

/// Without `auth_request`, with it and the 204 server, with it and Keyward.
fn through_nginx(mut rig: Rig<'_>, nothing: &Path) {
    let (Some(nginx), Some(wrk)) = (installed("nginx"), installed("wrk")) else { return };
    let keyward = rig.keyward.clone();
    let variants =
        [("none", &keyward, false), ("204 server", &nothing.to_path_buf(), true), ("Keyward", &keyward, true)];
    let mut proxies = Vec::new();
    for (name, socket, guarded) in variants {
        let port = free_port();
        let folder = rig.home.path().join(format!("nginx-{port}"));
        std::fs::create_dir(&folder).unwrap();
        rig.keyward.clone_from(socket);
        let mut config = rig.nginx_config(&folder, port);
        if !guarded {
            config = config.replace("auth_request /_keyward;", "");
        }
        // nginx answers by itself: the application's own time is not what is asked for.
        config = config.replace("proxy_pass http://application;", "try_files /none @app;");
        config = config.replace("location @unauth", "location @app { return 204; }\nlocation @unauth");
        proxies.push((name, run(rig.nginx(&nginx, &folder, &config), &folder, port), Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (_, proxy, figures) in &mut proxies {
            figures.push(wrk_per_second(&wrk, proxy.port));
        }
    }
    println!("\nthrough nginx, wrk with 32 connections, nginx itself answers 204 behind the guard");
    println!("{:>12} {:>12} {:>8}", "guard", "requests/s", "ratio");
    let mut bare = None;
    for (name, _, figures) in proxies {
        let figure = median(figures);
        let bare = *bare.get_or_insert(figure);
        println!("{name:>12} {figure:>12.0} {:>8.2}", figure / bare);
    }
}

fn wrk_per_second(wrk: &Path, port: u16) -> f64 {
    let url = format!("http://127.0.0.1:{port}/api/v2/tickets/9");
    let output =
        Command::new(wrk).args(["-t1", "-c32", "-d", &format!("{SECONDS}s"), "-H", KEY, &url]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).expect("wrk says its figure");
    line.trim().parse().unwrap()
}
