//! Starting servers, each on the core for servers, and ending them with this process.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use keyward::bench::exchange::Exchange;
use keyward::bench::generator::{self, Measured, Plan};
use keyward::bench::process::Pinned;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::support::wait_until;

/// The first two cores that this process may use when it starts: the servers', and the client's unless it shares theirs.
/// With one core alone both are it.
static CORES: LazyLock<(usize, usize)> = LazyLock::new(|| {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap());
    let first = cores.next().expect("a process may use a core");
    (first, cores.next().unwrap_or(first))
});

/// Where servers run. Asked for the first time before anything is held on a core.
pub fn server_core() -> usize {
    CORES.0
}

/// Holds this thread, which asks, on the client's core or on the servers'.
pub fn hold_client(same_core: bool) -> Pinned {
    let core = if same_core { CORES.0 } else { CORES.1 };
    Pinned::this_thread(core).expect("this process may use the core")
}

/// A process that ends with this one, however that ends.
pub struct Started(Child);

impl Started {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // In order: some have children of their own to end.
        let _ = nix::sys::signal::kill(self.pid(), nix::sys::signal::SIGTERM);
        for _ in 0..1_000 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `taskset` with the servers' core, to which a program and its arguments are added.
pub fn on_server_core() -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &server_core().to_string()]);
    command
}

/// Starts a server and waits until it takes connections on `socket`. What it says goes to a file `log` beside that.
pub fn start(command: &mut Command, socket: &Path) -> Started {
    let log = File::create(socket.with_file_name("log")).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut started = Started(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")));
    wait_until("the server takes connections", || {
        if let Some(status) = started.0.try_wait().unwrap() {
            let log = std::fs::read_to_string(socket.with_file_name("log")).unwrap_or_default();
            panic!("{command:?} ended with {status}: {log}");
        }
        UnixStream::connect(socket).is_ok()
    });
    started
}

/// Runs a command to its end; it must succeed.
pub fn must(command: &mut Command, stdin: &[u8]) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A connection to a Unix socket.
pub fn connect(socket: &Path) -> io::Result<File> {
    Ok(File::from(OwnedFd::from(UnixStream::connect(socket)?)))
}

/// Reads exactly so many bytes.
pub fn read_exactly(stream: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    stream.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// One system that is measured, with everything that must live as long.
pub struct Subject {
    pub name: &'static str,
    ask: Box<dyn Fn(&Plan) -> Measured>,
    /// The request to begin with, so that rounds don't repeat each other.
    next: usize,
}

impl Subject {
    /// `server` is the process whose time is told; `held` lives as long as the subject.
    pub fn new<E: Exchange + 'static>(
        name: &'static str,
        exchange: E,
        server: Option<Pid>,
        held: impl Sized + 'static,
    ) -> Self {
        let ask = move |plan: &Plan| {
            let _alive = &held;
            generator::run(&exchange, plan, server).unwrap_or_else(|e| panic!("{name}: {plan:?}: {e}"))
        };
        Self { name, ask: Box::new(ask), next: 0 }
    }

    /// Every answer must have been the expected one.
    pub fn measure(&mut self, plan: Plan) -> Measured {
        let measured = (self.ask)(&Plan { first: self.next, ..plan });
        self.next = measured.next;
        let answers = measured.answers;
        assert!(answers.unexpected == 0 && answers.total() > 0, "{}: wrong answers: {answers:?}", self.name);
        measured
    }
}

/// A directory for one server's files.
pub fn folder() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix("kwc").unwrap()
}

/// Where a program lies, if it is installed.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}
