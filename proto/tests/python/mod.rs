//! Runs scripts that use the clients in Python.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// Whether python3 runs here; says so when it does not.
pub(crate) fn has_python() -> bool {
    let has = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has {
        // Not by eprintln, whose output the test harness keeps to itself when a test passes.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED: the clients in Python, because python3 does not run here").unwrap();
    }
    has
}

/// Runs a script, in this package's folder, that must come to its end.
pub(crate) fn run_python(script: &str, arguments: &[&OsStr]) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = Command::new("python3")
        .args(["-B", "-X", "utf8", "-W", "error", "-c", script])
        .args(arguments)
        .current_dir(package)
        .env("PYTHONPATH", package.join("clients"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}
