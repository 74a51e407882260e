//! The package in a host that runs systemd: installed, upgraded under load, removed, installed again, purged.

use std::path::Path;

use crate::built::{next_version, package};
use crate::host::{ADMIN, HTTP, Host, PEPPER, QUERY, SERVICE, install_package};
use crate::load::{REQUESTS_MIN, under_load};

const UNITS: [&str; 5] =
    [SERVICE, "keyward-query.socket", "keyward-admin.socket", "keyward-http.socket", "keyward-backup.timer"];
const DATABASE: &str = "/var/lib/keyward/keyward.redb";

#[test]
fn an_upgrade_restarts_the_service_with_the_new_program_and_fails_no_request() {
    let (Some(host), Some(package)) = (Host::running(), package()) else { return };
    // A program that can be told from the one before, and does the same.
    let mark = |tree: &Path| {
        let path = tree.join("usr/bin/keyward");
        let program = std::fs::read(&path).unwrap();
        std::fs::write(&path, [program.as_slice(), b"next"].concat()).unwrap();
    };
    let (_directory, next) = next_version(package, mark);
    let (pid, pepper) = (host.main_pid(), std::fs::read(host.path(PEPPER)).unwrap());
    let asked = under_load(&host, "an upgrade and a way back", || {
        install_package(&host, &next);
        let running = std::fs::read(host.path(&format!("/proc/{}/exe", host.main_pid()))).unwrap();
        assert!(running.ends_with(b"next"), "the old program runs");
        host.put("/root/keyward.deb", std::fs::read(package).unwrap(), 0o644);
        host.ok(&["dpkg", "--install", "--force-downgrade", "/root/keyward.deb"]);
    });
    assert!(asked >= REQUESTS_MIN);
    assert_ne!(host.main_pid(), pid);
    assert_eq!(std::fs::read(host.path(PEPPER)).unwrap(), pepper);
    assert!(host.key_works());
}

#[test]
fn a_removal_stops_everything_and_keeps_the_data_and_a_purge_leaves_none() {
    let (Some(host), Some(package)) = (Host::running(), package()) else { return };
    host.ok(&["dpkg", "--remove", "keyward"]);
    is_gone(&host);
    assert!(host.path(DATABASE).exists() && host.path(PEPPER).exists());

    install_package(&host, package);
    for unit in UNITS {
        assert_eq!(host.property(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(host.property(unit, "UnitFileState"), "enabled", "{unit}");
    }
    assert!(host.key_works());

    host.ok(&["dpkg", "--purge", "keyward"]);
    is_gone(&host);
    assert!(!host.path("/var/lib/keyward").exists() && !host.path("/etc/keyward").exists());

    install_package(&host, package);
    assert_eq!(host.property(SERVICE, "ActiveState"), "active");
    assert!(!host.key_works(), "the keys are gone with the database");
    assert_eq!(host.shell(&format!("stat --format='%U:%G %a' {PEPPER}")), "root:root 600\n");
}

fn is_gone(host: &Host) {
    for unit in UNITS {
        assert_eq!(host.property(unit, "ActiveState"), "inactive", "{unit}");
    }
    for socket in [QUERY, ADMIN, HTTP] {
        assert!(!host.path(socket).exists(), "{socket}");
    }
}

#[test]
fn the_backups_unit_makes_one_that_its_user_alone_can_read_and_the_timer_is_on() {
    let Some(host) = Host::running() else { return };
    assert_eq!(host.property("keyward-backup.timer", "ActiveState"), "active");
    host.shell("rm -f /var/backups/keyward/*");
    host.ok(&["systemctl", "start", "keyward-backup.service"]);
    let made = host.shell("stat --format='%U %a' /var/backups/keyward /var/backups/keyward/*");
    assert_eq!(made, "keyward 700\nkeyward 600\n", "{}", host.ok(&["ls", "-l", "/var/backups/keyward"]));
}
