//! One booted machine with what is shipped in it, shared by all tests: one uses it at a time, from a known state on.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::built::package;
use crate::machine::Machine;
use crate::support::{say, skipped};

pub(crate) const SERVICE: &str = "keyward.service";
pub(crate) const QUERY: &str = "/run/keyward/query.sock";
pub(crate) const ADMIN: &str = "/run/keyward/admin.sock";
pub(crate) const HTTP: &str = "/run/keyward/http.sock";
pub(crate) const KEY: &str = "key 3:3A7QXW9ZK2M4N6P8R0S1T5V7Y";
pub(crate) const PEPPER: &str = "/etc/keyward/pepper";
const WORLD: &str = r#"{
    "agents": [{ "id": 4, "name": "Matthew", "permissions": "*" }],
    "endpoints": [{ "method": "GET", "path": "/api/v2/tickets", "tags": ["tickets.tickets.list"] }],
    "keys": [{ "id": 3, "agent": 4, "code": "3A7QXW9ZK2M4N6P8R0S1T5V7Y", "tags": "*, -*.delete" }]
}"#;

/// The machine, for one test.
pub(crate) struct Host {
    machine: MutexGuard<'static, Machine>,
    /// Where the journal stood when the test began.
    cursor: String,
}

impl std::ops::Deref for Host {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Host {
    /// The machine as it was after installation: sockets on, service stopped, no data. `None`, and said so, where none can be
    /// booted.
    pub(crate) fn fresh() -> Option<Self> {
        static MACHINE: OnceLock<Option<Mutex<Machine>>> = OnceLock::new();
        let machine = MACHINE.get_or_init(|| boot().map(Mutex::new)).as_ref()?;
        // A test that failed leaves nothing that the next one does not clear.
        let machine = machine.lock().unwrap_or_else(PoisonError::into_inner);
        undo(&machine);
        machine.shell("rm -rf /var/lib/keyward/*");
        let said = machine.ok(&["journalctl", "--quiet", "--lines=0", "--show-cursor"]);
        let cursor = said.trim().trim_start_matches("-- cursor: ").to_owned();
        Some(Self { machine, cursor })
    }

    /// With the service running and one agent, one endpoint and one key in it.
    pub(crate) fn running() -> Option<Self> {
        let host = Self::fresh()?;
        host.put("/root/world.json", WORLD, 0o600);
        host.ok(&["systemctl", "start", SERVICE]);
        host.ok(&["keyward", "apply", "/root/world.json"]);
        Some(host)
    }

    /// Takes back all settings, and keeps the data.
    pub(crate) fn undo(&self) {
        undo(&self.machine);
    }

    /// What the service and systemd said of it since the test began.
    pub(crate) fn journal(&self) -> String {
        self.ok(&["journalctl", "--sync"]);
        self.ok(&["journalctl", "--quiet", "--output=cat", "--after-cursor", &self.cursor, "--unit", SERVICE])
    }

    /// Lines that go after the shipped unit's.
    pub(crate) fn drop_in(&self, unit: &str, lines: &str) {
        self.put(&format!("/etc/systemd/system/{unit}.d/test.conf"), lines, 0o644);
        self.ok(&["systemctl", "daemon-reload"]);
    }

    pub(crate) fn main_pid(&self) -> String {
        self.property(SERVICE, "MainPID")
    }

    /// Whether the key is accepted.
    pub(crate) fn key_works(&self) -> bool {
        self.run(&["keyward", "check", "--credential", KEY, "GET", "/api/v2/tickets"]).status.success()
    }

    /// Starts the service, which must refuse; what it said.
    pub(crate) fn refused_start(&self) -> String {
        let output = self.run(&["systemctl", "start", SERVICE]);
        let said = self.journal();
        assert!(!output.status.success(), "it started: {said}");
        said
    }
}

fn boot() -> Option<Machine> {
    let package = package()?;
    let started = Instant::now();
    let machine = match crate::root::made().and_then(|root| Machine::boot(&root)) {
        Ok(machine) => machine,
        Err(why) => {
            skipped(&format!("tests with a real systemd, because {why}"));
            return None;
        }
    };
    install(&machine, package);
    say(&format!("a systemd is booted and keyward installed after {:.1} s", started.elapsed().as_secs_f32()));
    Some(machine)
}

/// Puts a package in the machine, and what else tests want there.
fn install(machine: &Machine, package: &Path) {
    install_package(machine, package);
    machine.shell("usermod --append --groups keyward www-data; useradd --system stranger");
}

/// Installs it, or upgrades to it.
pub(crate) fn install_package(machine: &Machine, package: &Path) {
    machine.put("/root/keyward.deb", std::fs::read(package).unwrap(), 0o644);
    machine.ok(&["dpkg", "--install", "/root/keyward.deb"]);
}

/// Takes back all settings that a test may have made; the sockets are on and the service is stopped then.
fn undo(machine: &Machine) {
    machine.put(PEPPER, format!("{}\n", "5a".repeat(32)), 0o600);
    machine.shell(
        "systemctl stop keyward.service keyward-{query,admin,http}.socket
         rm -rf /etc/systemd/system/keyward*.d /etc/keyward/keyward.toml
         systemctl daemon-reload
         systemctl reset-failed 'keyward*'
         systemctl start keyward-{query,admin,http}.socket",
    );
}
