//! Installing, upgrading, removing and purging, in a Debian of its own without systemd running.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::built::next_version;
use super::package;
use super::root::Root;
use super::support::wait_until;

const PEPPER: &str = "/etc/keyward/pepper";
const CONFIGURATION: &str = "/etc/keyward/keyward.toml";
const DATABASE: &str = "/var/lib/keyward/keyward.redb";
/// Links that enable the units, and what they are made of.
const ENABLED: [&str; 5] = [
    "sockets.target.wants/keyward-query.socket",
    "sockets.target.wants/keyward-admin.socket",
    "sockets.target.wants/keyward-http.socket",
    "multi-user.target.wants/keyward.service",
    "timers.target.wants/keyward-backup.timer",
];

fn wants(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}")
}

/// The package under a higher version, and with another program.
fn another_program(package: &Path) -> (TempDir, PathBuf) {
    next_version(package, |tree| {
        std::fs::write(tree.join("usr/bin/keyward"), "#!/bin/sh\necho keyward 99.0\n").unwrap()
    })
}

/// Stands for systemd: notes what it is told to do in /told, and every unit is enabled.
fn pretend_systemd(root: &Root) {
    root.write(
        "/usr/bin/systemctl",
        "#!/bin/sh\necho \"$*\" >>/told\ncase \"$*\" in *is-enabled*) echo enabled ;; esac\n",
    );
    std::fs::set_permissions(root.path("/usr/bin/systemctl"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(root.path("/run/systemd/system")).unwrap();
}

/// What systemd was told since the last time, but for questions, and for links that it makes where it need not run.
fn told(root: &Root) -> Vec<String> {
    let told = root.read("/told");
    root.write("/told", "");
    let orders = told.lines().filter(|line| !line.contains(" is-") && !line.contains("--root="));
    let mut told: Vec<_> = orders.map(|line| line.replace("--system ", "").replace("--quiet ", "")).collect();
    // deb-systemd-helper has it read anew, too.
    told.dedup();
    told
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The installed daemon as its own user, with the pepper passed as systemd does.
fn serve(root: &Root) -> Running {
    root.run(&["install", "-d", "-o", "keyward", "-m", "0700", "/credentials"]);
    root.run(&["install", "-o", "keyward", "-m", "0400", PEPPER, "/credentials/pepper"]);
    let mut command =
        root.command(&["setpriv", "--reuid=keyward", "--regid=keyward", "--clear-groups", "keyward", "serve"]);
    let log = std::fs::File::create(root.path("/log")).unwrap();
    command.env("CREDENTIALS_DIRECTORY", "/credentials").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut daemon = Running(command.spawn().unwrap());
    wait_until("the installed daemon answers", || {
        assert!(daemon.0.try_wait().unwrap().is_none(), "{}", root.read("/log"));
        root.try_run(&["keyward", "status"]).status.success()
    });
    daemon
}

#[test]
fn a_package_is_installed_used_upgraded_removed_installed_again_and_purged() {
    let Some(package) = package() else { return };
    let Some(root) = Root::new() else { return };
    let said = root.install(package);
    assert!(said.contains("a new pepper was made") && said.contains("keep a copy"), "{said}");
    is_installed(&root);
    let pepper = root.read(PEPPER);
    assert!(pepper.len() == 65 && pepper.trim().bytes().all(|b| b.is_ascii_hexdigit()));

    let id = {
        let _daemon = serve(&root);
        root.run(&["keyward", "agent", "add", "Admin", "--permissions", "*"]);
        let unit = root.read("/lib/systemd/system/keyward-backup.service");
        let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = vec!["setpriv", "--reuid=keyward", "--regid=keyward", "--clear-groups"];
        words.extend(command.split(' '));
        root.run(&words);
        root.uid("keyward").unwrap()
    };
    let backups = || root.path("/var/backups/keyward").read_dir().unwrap().count();
    assert_eq!(backups(), 1);
    restore_as_documented(&root);

    // Changed by the operator.
    root.write(CONFIGURATION, "log = 'debug'\n");
    for unit in [ENABLED[2], ENABLED[4]] {
        std::fs::remove_file(root.path(&wants(unit))).unwrap();
    }
    let (_directory, next) = another_program(package);
    root.install(&next);
    assert_eq!(root.run(&["keyward", "--version"]), "keyward 99.0\n");
    assert_eq!((root.read(PEPPER), root.read(CONFIGURATION)), (pepper.clone(), "log = 'debug'\n".to_owned()));
    assert!(root.has(DATABASE) && root.has(&wants(ENABLED[0])));
    assert!(!root.has(&wants(ENABLED[2])) && !root.has(&wants(ENABLED[4])), "what was disabled stays so");

    root.run(&["dpkg", "--remove", "keyward"]);
    assert!(!root.has("/usr/bin/keyward") && !root.has("/lib/systemd/system/keyward.service"));
    assert!(root.has(DATABASE) && root.read(PEPPER) == pepper && root.read(CONFIGURATION).contains("debug"));
    assert_eq!(root.run(&["readlink", "/etc/systemd/system/keyward.service"]), "/dev/null\n", "masked");

    root.install(package);
    assert!(root.has(DATABASE) && root.read(PEPPER) == pepper && root.read(CONFIGURATION).contains("debug"));
    assert!(!root.has("/etc/systemd/system/keyward.service") && root.has(&wants(ENABLED[3])));
    assert!(root.has(DATABASE) && root.uid("keyward") == Some(id.clone()));
    {
        let _daemon = serve(&root);
        assert!(root.run(&["keyward", "agent", "list"]).contains("Admin"), "the pepper is still the database's");
    }

    let said = root.run(&["dpkg", "--purge", "keyward"]);
    assert!(said.contains("with it the pepper") && said.contains("no backup is of any use"), "{said}");
    assert!(said.contains("with it the database") && said.contains("/var/backups/keyward stay"), "{said}");
    for gone in ["/etc/keyward", "/var/lib/keyward", "/run/keyward", "/etc/systemd/system/keyward.service"] {
        assert!(!root.has(gone), "{gone}");
    }
    assert!(ENABLED.iter().all(|unit| !root.has(&wants(unit))));
    assert_eq!((backups(), root.uid("keyward")), (1, Some(id)), "backups stay, and their owner's id is nobody else's");

    root.install(package);
    assert_ne!(root.read(PEPPER), pepper, "each installation has a pepper of its own");
}

/// The commands of the document, but for those to systemd, on the backup that is there.
fn restore_as_documented(root: &Root) {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/backup.md")).unwrap();
    let block =
        document.split("```").find(|block| block.contains("keyward restore /run/keyward-restore/backup")).unwrap();
    let commands: Vec<_> = block.lines().skip(1).filter(|line| !line.starts_with("systemctl ")).collect();
    let script = commands.join("\n").replace("keyward-20261122T030405Z.backup", "*.backup");
    let said = root.run(&["sh", "-euc", &script]);
    assert!(said.contains("all verified"), "{said}");
    assert_eq!(root.owned(DATABASE), (0o600, "keyward:keyward".to_owned()));
    let _daemon = serve(root);
    assert!(root.run(&["keyward", "agent", "list"]).contains("Admin"));
}

fn is_installed(root: &Root) {
    let keyward = |mode| (mode, "keyward:keyward".to_owned());
    let own = |mode| (mode, "root:root".to_owned());
    for (path, owned) in [
        ("/var/lib/keyward", keyward(0o700)),
        ("/var/backups/keyward", keyward(0o700)),
        ("/run/keyward", keyward(0o755)),
        ("/etc/keyward", own(0o755)),
        (CONFIGURATION, own(0o644)),
        (PEPPER, own(0o600)),
        ("/usr/bin/keyward", own(0o755)),
    ] {
        assert_eq!(root.owned(path), owned, "{path}");
    }
    for unit in ENABLED {
        assert!(root.has(&wants(unit)), "{unit} is not enabled");
    }
    assert!(root.read("/etc/passwd").contains("Keyward auth daemon:/var/lib/keyward:/usr/sbin/nologin"));
    assert!(!root.has(&format!("{PEPPER}.new")));
}

#[test]
fn systemd_is_told_to_restart_the_service_only_and_to_stop_all_at_once() {
    let Some(package) = package() else { return };
    let Some(root) = Root::new() else { return };
    pretend_systemd(&root);
    let sockets = "keyward-query.socket keyward-admin.socket keyward-http.socket";
    let start = [
        "daemon-reload".to_owned(),
        format!("start {sockets} keyward-backup.timer"),
        "restart keyward.service".to_owned(),
    ];
    root.install(package);
    assert_eq!(told(&root), start);
    let (_directory, next) = another_program(package);
    root.install(&next);
    assert_eq!(told(&root), start, "nothing is stopped, and a start lets be what listens already");
    root.run(&["dpkg", "--remove", "keyward"]);
    let stop = format!("stop keyward-backup.timer keyward-backup.service {sockets} keyward.service");
    assert_eq!(told(&root), [stop, "daemon-reload".to_owned()]);
    root.run(&["dpkg", "--purge", "keyward"]);
    assert_eq!(told(&root), ["daemon-reload"]);
}

#[test]
fn a_pepper_that_is_there_is_taken_over_and_none_is_made_for_a_database_that_has_lost_its_own() {
    let Some(package) = package() else { return };
    let Some(root) = Root::new() else { return };
    let pepper = format!("{}\n", "0123abcd".repeat(8));
    root.write("/var/lib/keyward/pepper", &pepper);
    root.write(DATABASE, "");
    let said = root.install(package);
    assert!(said.contains("the pepper was moved from"), "{said}");
    assert_eq!((root.read(PEPPER), root.owned(PEPPER)), (pepper.clone(), (0o600, "root:root".to_owned())));
    assert!(!root.has("/var/lib/keyward/pepper"));

    // Whoever can write in the data directory can't have another file taken for it.
    for lost in ["missing", "link", "no pepper"] {
        std::fs::remove_file(root.path(PEPPER)).unwrap();
        match lost {
            "link" => {
                root.write("/root/secret", &pepper);
                symlink("/root/secret", root.path("/var/lib/keyward/pepper")).unwrap();
            }
            "no pepper" => root.write("/var/lib/keyward/pepper", &pepper.replace('a', "x")),
            _ => {}
        }
        let said = root.install(package);
        assert!(said.contains("no pepper: put back the one that belongs to it"), "{lost}: {said}");
        assert!(!root.has(PEPPER) && !root.has(&format!("{PEPPER}.new")), "{lost}");
        let _ = std::fs::remove_file(root.path("/var/lib/keyward/pepper"));
        root.write(PEPPER, &pepper);
    }
    // One that an operator put there is left as it is.
    root.install(package);
    assert_eq!(root.read(PEPPER), pepper);
}
