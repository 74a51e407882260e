//! The systemd units say what they mean, and the services are closed to all but what they need.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// systemd's own measure, ten times its "exposure level": 0.5.
const EXPOSURE_MAX: &str = "--threshold=5";

/// All units that are shipped of these kinds.
fn units(kinds: &[&str]) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let mut units: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    units.retain(|path| kinds.iter().any(|kind| path.extension().is_some_and(|extension| extension == *kind)));
    units.sort();
    assert!(!units.is_empty());
    units
}

fn systemd_analyze(args: &[&str], units: &[PathBuf]) -> Option<Output> {
    match Command::new("systemd-analyze").args(args).args(units).output() {
        Ok(output) => Some(output),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED: the units are not checked: systemd-analyze: {error}");
            None
        }
    }
}

#[test]
fn each_service_is_exposed_to_half_a_point_at_most() {
    for unit in units(&["service"]) {
        let Some(output) = systemd_analyze(&["security", "--offline=true", EXPOSURE_MAX], std::slice::from_ref(&unit))
        else {
            return;
        };
        assert!(output.status.success(), "{}: {}", unit.display(), String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn systemd_understands_every_line_of_the_units() {
    let units = units(&["service", "socket", "timer"]);
    let Some(output) = systemd_analyze(&["verify", "--man=no"], &units) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    // The binary and the manual page are installed by a package, not by a checkout.
    let complaints: Vec<&str> = said.lines().filter(|line| !line.contains("is not executable")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn the_daemons_unit_does_not_map_user_ids() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/keyward.service")).unwrap();
    assert!(text.contains("PrivateUsers=no"));
}
