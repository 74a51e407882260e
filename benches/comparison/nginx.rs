//! nginx with `auth_request`, to Keyward's HTTP door and to a hyper server that says 204 to everything.

use std::convert::Infallible;
use std::fs::File;
use std::future::ready;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use keyward::bench::exchange::{Answer, Exchange, Reply, Requests};
use keyward::bench::picks::Picks;

use crate::keyward_server::Keyward;
use crate::server::{Subject, connect, folder, on_server_core, program, start};

/// The word that makes this program the 204 server.
pub const MODE: &str = "serve-204";

struct Http {
    socket: PathBuf,
    requests: Requests,
}

impl Exchange for Http {
    fn open(&self) -> io::Result<File> {
        connect(&self.socket)
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }

    /// A 204 has no body.
    fn reply(&self, input: &[u8], _number: usize) -> Reply {
        let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else { return Reply::Incomplete };
        let is_204 = input.starts_with(b"HTTP/1.1 204 ");
        // Another answer may have one, which can't be told from the next answer here.
        if is_204 { Reply::Whole { bytes: end + 4, answer: Answer::Allowed } } else { Reply::Broken }
    }
}

pub fn version() -> Option<String> {
    let mut command = std::process::Command::new(program("nginx")?);
    let output = command.arg("-v").output().ok()?;
    Some(String::from_utf8_lossy(&output.stderr).trim().rsplit('/').next()?.to_owned())
}

/// Through nginx to the guard that listens at `guard`, or to none.
fn behind_nginx(
    name: &'static str,
    guard: Option<&Path>,
    keyward: &Keyward<'_>,
    count: usize,
    held: impl Sized + 'static,
) -> Subject {
    let folder = folder();
    let socket = folder.path().join("nginx.sock");
    let config = folder.path().join("nginx.conf");
    std::fs::write(&config, configuration(folder.path(), guard)).unwrap();
    let mut command = on_server_core();
    command.arg(program("nginx").expect("it was looked for")).arg("-p").arg(folder.path()).arg("-c").arg(&config);
    let server = start(&mut command, &socket);
    let mut requests = Requests::default();
    let mut picks = Picks::uniform(keyward.world.sizes().keys, 1);
    for pick in 0..count as u64 {
        let id = picks.pick();
        let (ask, credential) = (keyward.world.allowed(id, pick), keyward.credential(id));
        let (method, path) = (ask.method, ask.path);
        // Requests with a body would measure something else.
        requests.push(|out| {
            write!(out, "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: {credential}\r\n").unwrap();
            out.extend_from_slice(if method == "GET" { b"\r\n" } else { b"Content-Length: 0\r\n\r\n" });
        });
    }
    Subject::new(name, Http { socket, requests }, None, (server, folder, held))
}

/// nginx answers by itself behind the guard: an application's own time is not what is asked for.
fn configuration(folder: &Path, guard: Option<&Path>) -> String {
    let socket = folder.join("nginx.sock");
    let (upstream, guarded) = match guard {
        None => (String::new(), ""),
        Some(guard) => (
            format!(
                "upstream guard {{ server unix:{}; keepalive 64; keepalive_requests 1000000000; }}",
                guard.display()
            ),
            "auth_request /_guard;",
        ),
    };
    let location = if guard.is_none() { "" } else { GUARD_LOCATION };
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
         events {{ worker_connections 4096; }}
         http {{
             access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body;
             proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
             scgi_temp_path {folder}/scgi;
             {upstream}
             server {{
                 listen unix:{socket};
                 location / {{ {guarded} try_files /none @application; }}
                 location @application {{ return 204; }}
                 {location}
             }}
         }}",
        folder = folder.display(),
        socket = socket.display(),
    )
}

/// As the README has it.
const GUARD_LOCATION: &str = "location = /_guard {
    internal;
    proxy_pass http://guard/auth/nginx;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_pass_request_body off;
    proxy_set_header Content-Length \"\";
    proxy_set_header X-Original-Method $request_method;
    proxy_set_header X-Original-URI $request_uri;
    proxy_set_header X-Real-IP $remote_addr;
}";

pub fn subjects(keyward: &Keyward<'_>, count: usize) -> Vec<Subject> {
    let nothing = folder();
    let socket = nothing.path().join("204.sock");
    let mut command = on_server_core();
    let server = start(command.arg(std::env::current_exe().unwrap()).arg(MODE).arg(&socket), &socket);
    let http = keyward.home().runtime().join("http.sock");
    vec![
        behind_nginx("nginx alone", None, keyward, count, ()),
        behind_nginx("nginx to a 204 server", Some(&socket), keyward, count, (server, nothing)),
        behind_nginx("nginx to Keyward", Some(&http), keyward, count, ()),
    ]
}

/// What the started process does.
pub fn serve(socket: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = |_: Request<Incoming>| {
                let mut reply = Response::new(Empty::<Bytes>::new());
                *reply.status_mut() = StatusCode::NO_CONTENT;
                ready(Ok::<_, Infallible>(reply))
            };
            let io = hyper_util::rt::TokioIo::new(stream);
            let service = hyper::service::service_fn(answer);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
}
