//! A real systemd, booted as the first process of a machine in namespaces of its own, runs what is shipped.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

#[path = "../support/package.rs"]
mod built;
#[path = "../support/mod.rs"]
mod support;

mod doors;
mod host;
mod life;
mod load;
mod machine;
mod root;
mod sandbox;
mod starting;
