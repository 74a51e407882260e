//! The Debian package: what is in it, what Debian's checker says, and what becomes of a host that installs, upgrades and
//! removes it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod contents;
mod life;
mod root;
mod units;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use support::{KEYWARD, skipped};
use tempfile::TempDir;

/// What `packaging/build-deb` ends with when a tool that it needs is neither there nor to be had.
const TOOL_MISSING: i32 = 3;

/// The package, built once for all tests of this process; `None` where it can't be built.
fn package() -> Option<&'static Path> {
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
        skipped(&format!("the Debian package: {}", text(&output.stderr).trim().replace('\n', "; ")));
        return None;
    }
    assert!(output.status.success(), "{}", text(&output.stderr));
    let package = PathBuf::from(text(&output.stdout).lines().last().unwrap());
    Some((directory, package))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command printed, which must succeed.
fn run(command: &mut Command) -> String {
    let output = try_run(command);
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn try_run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}
