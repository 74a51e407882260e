//! The unit of the daily backup. Those of the daemon: `tests/units.rs`.

use std::path::Path;
use std::process::Command;

use super::support::{has_program, skipped};
use super::{run, text, try_run};

/// systemd's own measure, ten times its "exposure level", as for the daemon's unit: 0.5.
const EXPOSURE_MAX: &str = "--threshold=5";

fn unit(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name).display().to_string()
}

#[test]
fn the_units_of_the_backup_are_understood_by_systemd_and_as_closed_as_the_daemons() {
    if !has_program("systemd-analyze") {
        return skipped("the backup's units are not checked, because systemd-analyze is missing");
    }
    let service = unit("keyward-backup.service");
    run(Command::new("systemd-analyze").args(["security", "--offline=true", EXPOSURE_MAX, &service]));
    for unit in [service, unit("keyward-backup.timer")] {
        let said = text(&try_run(Command::new("systemd-analyze").args(["verify", "--man=no", &unit])).stderr);
        // The binary is installed by the package, not by a checkout.
        let complaints: Vec<_> = said.lines().filter(|line| !line.contains("is not executable")).collect();
        assert!(complaints.is_empty(), "{unit}: {complaints:?}");
    }
}

#[test]
fn the_backup_may_write_where_it_belongs_and_nowhere_else() {
    let text = std::fs::read_to_string(unit("keyward-backup.service")).unwrap();
    let value = |key: &str| text.lines().filter_map(|line| line.strip_prefix(key)).collect::<Vec<_>>();
    assert_eq!(value("ReadWritePaths="), ["/var/backups/keyward"]);
    assert_eq!(value("ProtectSystem="), ["strict"]);
    assert_eq!(value("ExecStart="), ["/usr/bin/keyward backup --into /var/backups/keyward --keep 7"]);
    // What others of the same user have must not go when a backup ends: the daemon is one of them.
    assert_eq!(value("RemoveIPC="), Vec::<&str>::new());
    assert!(
        std::fs::read_to_string(unit("keyward.tmpfiles"))
            .unwrap()
            .contains("/var/backups/keyward 0700 keyward keyward")
    );
}
