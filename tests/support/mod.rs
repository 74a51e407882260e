//! Starts the real binary on directories of its own and talks to it.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

pub mod http;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use keyward::model::{Pepper, UnixSeconds};
use keyward::registry::Registry;
use keyward::store::Store;
use keyward_proto::client::{AdminClient, QueryClient};
use serde_json::Value;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// The binary under test.
pub const KEYWARD: &str = env!("CARGO_BIN_EXE_keyward");
/// A daemon that is not ready, or not gone, after so long never will be.
const PATIENCE: Duration = Duration::from_secs(60);

/// Directories of one daemon; removed when dropped.
pub struct Home {
    directory: TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { directory: TempDir::with_prefix("kw").unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn runtime(&self) -> PathBuf {
        self.path().join("run")
    }

    pub fn database(&self) -> PathBuf {
        self.data().join("keyward.redb")
    }

    pub fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    pub fn append_log(&self) -> File {
        File::options().create(true).append(true).open(self.log()).unwrap()
    }

    /// `keyward serve` on these directories, not started yet; its log is appended to [`Home::log`].
    pub fn serve_command(&self) -> Command {
        let log = self.append_log();
        let mut command = Command::new(KEYWARD);
        command.args(["serve", "--data"]).arg(self.data()).arg("--runtime").arg(self.runtime());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// Writes a configuration file and returns its path.
    pub fn config(&self, text: &str) -> PathBuf {
        let path = self.path().join("keyward.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn start(&self) -> Daemon<'_> {
        self.start_with(|_| {})
    }

    /// Starts the daemon with what `adjust` adds to its command and waits until it answers.
    pub fn start_with(&self, adjust: impl FnOnce(&mut Command)) -> Daemon<'_> {
        let mut command = self.serve_command();
        adjust(&mut command);
        let mut daemon = Daemon { home: self, child: command.spawn().unwrap() };
        daemon.wait_ready();
        daemon
    }

    /// Runs `keyward serve`, which is expected to refuse, to its end.
    pub fn refused_start(&self) -> Output {
        self.refused(self.serve_command())
    }

    /// The same with a command of one's own.
    pub fn refused(&self, mut command: Command) -> Output {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // Killed when dropped: one that starts against all expectation is not left behind.
        let mut daemon = Daemon { home: self, child: command.spawn().unwrap() };
        wait_until("the daemon refuses to start", || daemon.child.try_wait().unwrap().is_some());
        let mut output = Output { status: daemon.child.wait().unwrap(), stdout: Vec::new(), stderr: Vec::new() };
        daemon.child.stdout.take().unwrap().read_to_end(&mut output.stdout).unwrap();
        daemon.child.stderr.take().unwrap().read_to_end(&mut output.stderr).unwrap();
        output
    }

    pub fn query(&self) -> QueryClient {
        QueryClient::connect(&self.runtime().join("query.sock")).unwrap()
    }

    pub fn admin(&self) -> AdminClient {
        AdminClient::connect(&self.runtime().join("admin.sock")).unwrap()
    }

    /// Runs a command of the CLI against this daemon.
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_with_stdin(args, b"")
    }

    pub fn run_with_stdin(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new(KEYWARD)
            .args(args)
            .env("KEYWARD_RUNTIME", self.runtime())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that doesn't read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        wait_output(child)
    }

    /// Runs a command with `--json` that must succeed, and parses what it prints.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[&["--json"], args].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Applies a file in the JSON form; it must be accepted.
    pub fn apply(&self, file: &Value) -> Value {
        let path = self.path().join("apply.json");
        std::fs::write(&path, file.to_string()).unwrap();
        self.json(&["apply", path.to_str().unwrap()])
    }
}

fn wait_output(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

/// A running daemon; killed when dropped.
pub struct Daemon<'h> {
    pub home: &'h Home,
    pub child: Child,
}

impl Daemon<'_> {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn wait_ready(&mut self) {
        let socket = self.home.runtime().join("admin.sock");
        wait_until("the daemon answers", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{}", self.home.log_text());
            }
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Stops it in order and waits; it must end well.
    pub fn stop(mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.home.log_text());
    }

    /// `kill -9`, as a crash.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition, and fails with its name when it does not come true.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A file of `tests/conformance/`.
pub fn conformance(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

impl Home {
    /// Directories in memory where the host has such a place, else as [`Home::new`]: many commits without many fsyncs.
    pub fn in_memory() -> Self {
        TempDir::with_prefix_in("kw", "/dev/shm").map_or_else(|_| Self::new(), |directory| Self { directory })
    }

    /// A registry in this process, on what a real daemon wrote.
    pub fn registry(&self, world: &Value) -> Registry {
        let daemon = self.start();
        self.apply(world);
        daemon.stop();
        self.open_registry()
    }

    /// A registry in this process, on what is there.
    pub fn open_registry(&self) -> Registry {
        Registry::open(&self.data(), self.pepper(), Box::new(|_| {})).unwrap()
    }

    fn pepper(&self) -> Pepper {
        let digits = std::fs::read_to_string(self.data().join("pepper")).unwrap();
        let mut pepper = Zeroizing::new([0; 32]);
        for (byte, pair) in pepper.iter_mut().zip(digits.trim().as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        Pepper::new(pepper)
    }

    /// Makes the time of the last commit be `time`, while nothing runs.
    pub fn set_last_commit(&self, time: u64) {
        let (store, loaded) = Store::open(&self.data(), &self.pepper(), &mut |_| {}).unwrap();
        store.begin(&loaded.head).unwrap().set_clock_back(UnixSeconds(time)).unwrap();
    }
}

/// Random numbers that a seed repeats (splitmix64).
pub struct Dice(u64);

impl Dice {
    /// The seed of `KEYWARD_TEST_SEED`, or a new one; it is printed, so that a failure can be repeated.
    pub fn roll(what: &str) -> Self {
        Self::roll_from(what, None)
    }

    /// The same, with a seed to take when none is given.
    pub fn roll_from(what: &str, usual: Option<u64>) -> Self {
        let given = std::env::var("KEYWARD_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).or(usual);
        let new = || u64::from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos());
        let seed = given.unwrap_or_else(new);
        say(&format!("{what}: KEYWARD_TEST_SEED={seed}"));
        Self(seed)
    }

    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

impl Dice {
    /// A place in something of this length.
    pub fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

/// A line on standard error, past the test runner's capture.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Says why a test can't run here.
pub fn skipped(reason: &str) {
    say(&format!("SKIPPED: {reason}"));
}

/// Whether a program can be started here.
pub fn has_program(name: &str) -> bool {
    Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// A small file system of its own; unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// In memory, of so many mebibytes; `None` where mounting is not allowed.
    pub fn mount(mebibytes: u32, path: PathBuf) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={mebibytes}m,mode=700");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then_some(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
