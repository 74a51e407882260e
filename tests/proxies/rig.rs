//! What a proxy stands between: an application that notes what it gets, and the real daemon.
#![allow(dead_code, reason = "the measurement uses its own part of this")]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keyward_proto::client::QueryClient;
use keyward_proto::query::{Asker, Reason, Target, Verdict};

use crate::support::http::{Place, free_port};
use crate::support::{Daemon, Home, conformance, wait_until};

/// A request as it reached the application.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub method: String,
    pub target: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// Everything that PHP, WSGI or CGI would hand on as an identity, sorted; empty values are nobody's.
    pub fn identity(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase().replace('_', "-"), String::from_utf8_lossy(value)))
            .filter(|(name, value)| name.starts_with("x-keyward-") && !value.is_empty())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        found.sort();
        found
    }
}

/// The application: answers 200 to whatever comes.
pub struct Application {
    pub port: u16,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Application {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, notes) = (stream.unwrap(), Arc::clone(&notes));
                std::thread::spawn(move || serve(stream, &notes));
            }
        });
        Self { port, received }
    }

    /// What came since the last time.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.received.lock().unwrap())
    }

    pub fn take_one(&self) -> Received {
        let mut all = self.take();
        assert_eq!(all.len(), 1, "{all:?}");
        all.pop().unwrap()
    }
}

fn serve(mut stream: TcpStream, notes: &Mutex<Vec<Received>>) {
    let mut read = Vec::new();
    while let Some(request) = receive(&mut stream, &mut read) {
        let head = request.method == "HEAD";
        notes.lock().unwrap().push(request);
        let body = if head { "" } else { "ok" };
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}").as_bytes());
    }
}

fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer) {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            read.extend_from_slice(&buffer[..count]);
            Some(())
        }
    }
}

fn receive(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Received> {
    let end = loop {
        if let Some(at) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        more(stream, read)?;
    };
    let head: Vec<u8> = read.drain(..end + 4).take(end).collect();
    let mut lines = head.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let mut line = lines.next()?.splitn(2, |b| *b == b' ');
    let method = String::from_utf8_lossy(line.next()?).into_owned();
    let rest = line.next()?;
    let target = rest[..rest.iter().rposition(|b| *b == b' ')?].to_vec();
    let pair = |line: &[u8]| {
        let at = line.iter().position(|b| *b == b':').unwrap();
        (String::from_utf8_lossy(&line[..at]).into_owned(), line[at + 1..].trim_ascii().to_vec())
    };
    let mut request = Received { method, target, headers: lines.map(pair).collect(), body: Vec::new() };
    if let Some(length) = request.header("content-length") {
        let length: usize = length.parse().unwrap();
        while read.len() < length {
            more(stream, read)?;
        }
        request.body = read.drain(..length).collect();
    } else if request.header("transfer-encoding").is_some() {
        while !read.ends_with(b"0\r\n\r\n") {
            more(stream, read)?;
        }
        request.body = std::mem::take(read);
    }
    Some(request)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Caddy,
    CaddyOverTcp,
    HaProxy,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Nginx, Self::Caddy, Self::CaddyOverTcp, Self::HaProxy];

    const fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy | Self::CaddyOverTcp => "caddy",
            Self::HaProxy => "haproxy",
        }
    }
}

/// The path of an installed program; otherwise says what is skipped.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    if found.is_none() {
        // Not by eprintln!, which the harness keeps to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: tests through a real {program}, because it is not installed");
    }
    found
}

/// A proxy that runs with the shipped example; ended when dropped.
pub struct Proxy {
    child: Child,
    pub port: u16,
}

impl Proxy {
    /// Something else behind it that must end as a proxy does.
    pub const fn of(child: Child) -> Self {
        Self { child, port: 0 }
    }

    pub fn place(&self) -> Place {
        Place::Tcp(([127, 0, 0, 1], self.port).into())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // In order, so that nginx's and HAProxy's workers end with their master.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A shipped example with other paths and ports; each must stand in it.
pub fn example(name: &str, replaced: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in replaced {
        assert!(text.contains(from), "{name} holds {from:?}");
        text = text.replace(from, to);
    }
    text
}

/// Where Keyward is reached, and the application behind the proxy.
pub struct Rig<'h> {
    pub home: &'h Home,
    pub keyward: PathBuf,
    pub keyward_port: u16,
    pub application: Application,
    _daemon: Option<Daemon<'h>>,
}

impl<'h> Rig<'h> {
    /// The daemon with the conformance world, and the application.
    pub fn start(home: &'h Home) -> Self {
        let keyward_port = free_port();
        let config = home.config(&format!("[http]\nlisten = '127.0.0.1:{keyward_port}'\n"));
        let daemon = home.start_with(|command| {
            command.arg("--config").arg(&config);
        });
        home.apply(&conformance("world.json"));
        let keyward = home.runtime().join("http.sock");
        Self { home, keyward, keyward_port, application: Application::start(), _daemon: Some(daemon) }
    }

    /// The application alone, where daemons come and go.
    pub fn without_daemon(home: &'h Home, keyward_port: u16) -> Self {
        let keyward = home.runtime().join("http.sock");
        Self { home, keyward, keyward_port, application: Application::start(), _daemon: None }
    }

    /// The proxy with its example, once it answers; `None` when it is not installed.
    pub fn proxy(&self, kind: Kind) -> Option<Proxy> {
        let program = installed(kind.program())?;
        let port = free_port();
        let folder = self.home.path().join(format!("{kind:?}{port}"));
        std::fs::create_dir(&folder).unwrap();
        let command = match kind {
            Kind::Nginx => self.nginx(&program, &folder, &self.nginx_config(&folder, port)),
            Kind::Caddy | Kind::CaddyOverTcp => self.caddy(kind, &program, &folder, port),
            Kind::HaProxy => self.haproxy(&program, &folder, port),
        };
        Some(run(command, &folder, port))
    }

    pub fn nginx_config(&self, folder: &Path, port: u16) -> String {
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].iter().fold(String::new(), |mut text, name| {
                writeln!(text, "{name}_temp_path {}/{name};", folder.display()).unwrap();
                text
            });
        let user = if nix::unistd::Uid::effective().is_root() { "user root;" } else { "" };
        example(
            "nginx.conf",
            &[
                ("user www-data;", user),
                ("/run/nginx.pid", &format!("{}/pid", folder.display())),
                ("http {\n", &format!("http {{\naccess_log off;\n{temporary}")),
                ("/run/keyward/http.sock", self.keyward.to_str().unwrap()),
                ("listen 80;", &format!("listen 127.0.0.1:{port};")),
                ("127.0.0.1:8080", &format!("127.0.0.1:{}", self.application.port)),
            ],
        )
    }

    pub fn nginx(&self, program: &Path, folder: &Path, config: &str) -> Command {
        let (file, log) = (folder.join("nginx.conf"), folder.join("error.log"));
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(folder).arg("-e").arg(log).arg("-c").arg(file).args(["-g", "daemon off;"]);
        command
    }

    fn caddy(&self, kind: Kind, program: &Path, folder: &Path, port: u16) -> Command {
        let keyward = match kind {
            Kind::CaddyOverTcp => format!("127.0.0.1:{}", self.keyward_port),
            Kind::Nginx | Kind::Caddy | Kind::HaProxy => format!("unix/{}", self.keyward.display()),
        };
        let config = example(
            "Caddyfile",
            &[
                ("http://:80 {", &format!("{{\nadmin off\n}}\nhttp://:{port} {{\nbind 127.0.0.1")),
                ("unix//run/keyward/http.sock", &keyward),
                ("127.0.0.1:8080", &format!("127.0.0.1:{}", self.application.port)),
            ],
        );
        let file = folder.join("Caddyfile");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
        command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder).env("HOME", folder);
        command
    }

    fn haproxy(&self, program: &Path, folder: &Path, port: u16) -> Command {
        let (file, script) = (folder.join("haproxy.cfg"), folder.join("haproxy.lua"));
        let keyward = format!("ipv4@127.0.0.1:{}", self.keyward_port);
        std::fs::write(&script, example("haproxy.lua", &[("ipv4@127.0.0.1:7979", &keyward)])).unwrap();
        let config = example(
            "haproxy.cfg",
            &[
                ("/etc/haproxy/haproxy.lua", script.to_str().unwrap()),
                ("bind :80", &format!("bind 127.0.0.1:{port}")),
                ("127.0.0.1:8080", &format!("127.0.0.1:{}", self.application.port)),
            ],
        );
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("-f").arg(file);
        command
    }

    /// What Keyward says to a request line, asked over its other socket.
    pub fn judge(query: &mut QueryClient, asker: Asker<'_>, received: &Received) -> (Reason, Verdict) {
        let target = Target::Endpoint { method: received.method.as_bytes(), path: &received.target };
        let verdict = query.check(asker, target).unwrap();
        (Reason::from_number(verdict.reason).unwrap(), verdict)
    }
}

/// The identity headers that must reach the application with this verdict.
pub fn expected_identity(verdict: &Verdict) -> Vec<String> {
    let Some(who) = &verdict.identity else { return Vec::new() };
    let name = who.agent_name.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ => write!(text, "%{byte:02X}").unwrap(),
        }
        text
    });
    let mut expected = vec![
        format!("x-keyward-agent-id={}", who.agent_id),
        format!("x-keyward-agent-name={name}"),
        format!("x-keyward-credential-id={}", who.credential_id),
        format!("x-keyward-mode={}", who.mode.name()),
    ];
    expected.extend(who.app_id.map(|id| format!("x-keyward-app-id={id}")));
    expected.sort();
    expected
}

/// Starts it and waits until it listens.
pub fn run(mut command: Command, folder: &Path, port: u16) -> Proxy {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut proxy = Proxy { child: command.spawn().unwrap(), port };
    wait_until("the proxy listens", || {
        if let Some(status) = proxy.child.try_wait().unwrap() {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            panic!("the proxy ended with {status}: {log}");
        }
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    proxy
}

/// Passes connections on to a socket and counts them.
pub struct Counter {
    pub path: PathBuf,
    accepted: Arc<AtomicUsize>,
}

impl Counter {
    pub fn before(socket: &Path, path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, socket) = (Arc::clone(&accepted), socket.to_path_buf());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (near, far) = (stream.unwrap(), UnixStream::connect(&socket).unwrap());
                count.fetch_add(1, Ordering::SeqCst);
                pump(near.try_clone().unwrap(), far.try_clone().unwrap());
                pump(far, near);
            }
        });
        Self { path, accepted }
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

fn pump(mut from: UnixStream, mut to: UnixStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
