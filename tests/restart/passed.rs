//! Listening sockets that outlive the daemons, as a service manager keeps and passes them (sd_listen_fds(3)).

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use command_fds::{CommandFdExt as _, FdMapping};

use crate::support::{Daemon, Home, KEYWARD, wait_until};

/// The first descriptor that is passed.
const FIRST: i32 = 3;

/// A descriptor with the name under which it is passed.
pub type Named = (&'static str, OwnedFd);

/// The doors' sockets, in the runtime directory and on a loopback port.
pub struct Sockets {
    query: UnixListener,
    admin: UnixListener,
    http: UnixListener,
    loopback: TcpListener,
    pub port: u16,
}

impl Sockets {
    pub fn bind(home: &Home) -> Self {
        Self::bind_in(&home.runtime())
    }

    pub fn bind_in(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let unix = |name| UnixListener::bind(directory.join(name)).unwrap();
        let loopback = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = loopback.local_addr().unwrap().port();
        Self { query: unix("query.sock"), admin: unix("admin.sock"), http: unix("http.sock"), loopback, port }
    }

    pub fn query(&self) -> Named {
        ("query", self.query.try_clone().unwrap().into())
    }

    pub fn admin(&self) -> Named {
        ("admin", self.admin.try_clone().unwrap().into())
    }

    pub fn http(&self) -> Named {
        ("http", self.http.try_clone().unwrap().into())
    }

    pub fn loopback(&self) -> Named {
        ("http", self.loopback.try_clone().unwrap().into())
    }

    pub fn all(&self) -> Vec<Named> {
        vec![self.query(), self.admin(), self.http(), self.loopback()]
    }
}

/// `keyward serve` that is passed these, in this order. What its environment says of them can be changed by `adjust`.
pub fn command(home: &Home, binary: &Path, passed: Vec<Named>, adjust: impl FnOnce(&mut Command)) -> Command {
    let serve = home.serve_command();
    // The names' process must be told its own id, which only it knows.
    let mut command = Command::new("sh");
    command.args(["-c", r#"LISTEN_PID="${LISTEN_PID:-$$}" exec "$0" "$@""#]).arg(binary).args(serve.get_args());
    let log = home.append_log();
    command.stdin(std::process::Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let names: Vec<&str> = passed.iter().map(|(name, _)| *name).collect();
    command.env_remove("LISTEN_PID").env("LISTEN_FDS", passed.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let mapped = passed.into_iter().zip(FIRST..);
    let mapped = mapped.map(|((_, parent_fd), child_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mapped).unwrap();
    adjust(&mut command);
    command
}

/// Starts a daemon on these and waits until it answers a question.
pub fn start<'h>(home: &'h Home, binary: &Path, passed: Vec<Named>) -> Daemon<'h> {
    let daemon = Daemon { home, child: command(home, binary, passed, |_| {}).spawn().unwrap() };
    // One that was passed is there in any case: who connects waits until somebody answers.
    wait_until("the socket listens", || UnixStream::connect(home.runtime().join("query.sock")).is_ok());
    home.query().who(keyward_proto::query::Asker::default()).unwrap();
    daemon
}

/// The binary under test.
pub fn binary() -> PathBuf {
    PathBuf::from(KEYWARD)
}
