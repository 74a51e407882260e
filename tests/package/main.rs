//! The Debian package: what is in it, what Debian's checker says, and what becomes of a host that installs, upgrades and
//! removes it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

#[path = "../support/package.rs"]
mod built;
#[path = "../support/mod.rs"]
mod support;

mod contents;
mod life;
mod root;
mod units;

use std::process::{Command, Output, Stdio};

use built::package;

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
