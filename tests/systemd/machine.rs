//! A machine of its own: namespaces in which a real systemd is the first process.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::{NamedTempFile, TempDir};

use crate::support::wait_until;

/// Seconds after which a command in the machine is ended.
const COMMAND_SECONDS_MAX: &str = "120";

pub(crate) struct Machine {
    /// Ends the machine when its standard input ends, so that it outlives no test run, however that ends.
    keeper: Child,
    /// The process id of the machine's systemd, seen from here.
    systemd: u32,
}

impl Machine {
    /// Boots it, up to the point where systemd is content; or says why this host can't.
    pub(crate) fn boot(root: &Path) -> Result<Self, String> {
        let work = TempDir::with_prefix("kw").unwrap().keep();
        let console = NamedTempFile::with_prefix("kw").unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "bash", "-c", include_str!("boot.sh"), "boot.sh"]);
        command.arg(root).arg(&work).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systemd/init.sh"));
        command.stdin(Stdio::piped()).stdout(console.reopen().unwrap()).stderr(console.reopen().unwrap());
        let mut keeper = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let note = PathBuf::from(format!("/proc/{}/root{}/pid", keeper.id(), work.display()));
        let (mut ended, mut systemd) = (false, None);
        wait_until("the machine's first process is systemd", || {
            ended = keeper.try_wait().unwrap().is_some();
            systemd = std::fs::read_to_string(&note).ok().and_then(|pid| pid.trim().parse().ok()).filter(is_systemd);
            ended || systemd.is_some()
        });
        let Some(systemd) = systemd.filter(|_| !ended) else {
            // There still if nobody was there to remove it.
            let _ = std::fs::remove_dir(&work);
            let said = std::fs::read_to_string(console.path()).unwrap_or_default();
            return Err(format!("no machine can be booted in namespaces here: {}", said.trim().replace('\n', " / ")));
        };
        let machine = Self { keeper, systemd };
        let mut state = String::new();
        wait_until("systemd has started what it starts", || {
            state = text(&machine.run(&["systemctl", "is-system-running"]).stdout).trim().to_owned();
            ["running", "degraded"].contains(&state.as_str())
        });
        assert_eq!(state, "running", "{}", machine.ok(&["systemctl", "--failed"]));
        Ok(machine)
    }

    /// A command in the machine, as root.
    pub(crate) fn command(&self, command: &[&str]) -> Command {
        let target = self.systemd.to_string();
        let mut entering = Command::new("timeout");
        entering.args(["--kill-after=5", COMMAND_SECONDS_MAX, "nsenter", "--target", &target]);
        entering.args(["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--wd", "--"]);
        entering.args(command).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        entering
    }

    pub(crate) fn run(&self, command: &[&str]) -> Output {
        self.command(command).output().unwrap()
    }

    /// As a user with all groups that are the user's.
    pub(crate) fn run_as(&self, user: &str, command: &[&str]) -> Output {
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        self.run(&[&["setpriv", &uid, &gid, "--init-groups", "--"], command].concat())
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn ok(&self, command: &[&str]) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The same, for a line of shell.
    pub(crate) fn shell(&self, line: &str) -> String {
        self.ok(&["bash", "-euc", line])
    }

    /// A path of the machine, reached from here. No symbolic link in it may be an absolute one: it would lead out.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.systemd))
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn put(&self, inside: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&["systemctl", "show", "--property", name, "--value", unit]).trim().to_owned()
    }
}

fn is_systemd(pid: &u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("systemd"))
}

/// What a command printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
