//! The systemd unit says what it means and is closed to all but what the daemon needs.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

/// systemd's own measure, ten times its "exposure level": 0.5.
const EXPOSURE_MAX: &str = "--threshold=5";

fn unit() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/keyward.service").display().to_string()
}

fn systemd_analyze(args: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(args).arg(unit()).output() {
        Ok(output) => Some(output),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED: the unit is not checked: systemd-analyze: {error}");
            None
        }
    }
}

#[test]
fn the_unit_is_exposed_to_half_a_point_at_most() {
    let Some(output) = systemd_analyze(&["security", "--offline=true", EXPOSURE_MAX]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let Some(output) = systemd_analyze(&["verify", "--man=no"]) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    // The binary and the manual page are installed by a package, not by a checkout.
    let complaints: Vec<&str> = said.lines().filter(|line| !line.contains("is not executable")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn the_unit_does_not_map_user_ids() {
    let text = std::fs::read_to_string(unit()).unwrap();
    assert!(text.contains("PrivateUsers=no"));
}
