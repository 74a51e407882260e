//! The Debian package, built from the binary under test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::support::{KEYWARD, skipped};

/// What `packaging/build-deb` ends with when a tool that it needs is neither there nor to be had.
const TOOL_MISSING: i32 = 3;

/// The package, built once for all tests of this process; `None` where it can't be built.
pub(crate) fn package() -> Option<&'static Path> {
    static PACKAGE: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
    PACKAGE.get_or_init(build).as_ref().map(|(_, package)| package.as_path())
}

fn build() -> Option<(TempDir, PathBuf)> {
    let directory = TempDir::with_prefix("kw").unwrap();
    // cargo-deb is kept there between runs.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let lock = File::create(target.join("build-deb.lock")).unwrap();
    // Another process may be installing it at this moment.
    lock.lock().unwrap();
    let output = Command::new("packaging/build-deb")
        .args(["--fast", "--binary", KEYWARD, "--output"])
        .arg(directory.path())
        .env("CARGO_TARGET_DIR", target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.code() == Some(TOOL_MISSING) {
        skipped(&format!("the Debian package: {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")));
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = PathBuf::from(String::from_utf8_lossy(&output.stdout).lines().last().unwrap());
    Some((directory, package))
}

/// The package under a higher version, with what `adjust` does to its files.
pub(crate) fn next_version(package: &Path, adjust: impl FnOnce(&Path)) -> (TempDir, PathBuf) {
    let directory = TempDir::with_prefix("kw").unwrap();
    let (tree, next) = (directory.path().join("tree"), directory.path().join("next.deb"));
    dpkg_deb(&["--raw-extract"], [package, &tree]);
    let control = tree.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control).unwrap();
    let version = text.lines().find(|line| line.starts_with("Version: ")).unwrap();
    std::fs::write(&control, text.replace(version, "Version: 99.0-1")).unwrap();
    adjust(&tree);
    dpkg_deb(&["-Zgzip", "-z1", "--root-owner-group", "--build"], [&tree, &next]);
    (directory, next)
}

fn dpkg_deb(options: &[&str], paths: [&Path; 2]) {
    let output = Command::new("dpkg-deb").args(options).args(paths).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
