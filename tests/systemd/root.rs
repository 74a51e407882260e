//! The system that is booted: made once, and kept beside what cargo builds.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::say;

/// What lies in it besides what every system has: Python for the probes and the Python client, nginx as a web server.
const PACKAGES: &str = "systemd,python3,nginx";
const SCRIPT: &str = include_str!("root.sh");

/// Where it is; or why it can't be made here.
pub(crate) fn made() -> Result<PathBuf, String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Err("booting a machine in namespaces takes root".to_owned());
    }
    for program in ["debootstrap", "apt-get", "unshare", "nsenter"] {
        if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Err(format!("{program} is not installed"));
        }
    }
    let suite = suite()?;
    let mirror = mirror(&suite)?;
    let key = blake3::hash([SCRIPT, PACKAGES, &suite, &mirror].join("\0").as_bytes()).to_hex();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let root = folder.join(format!("systemd-root-{}", &key[..16]));
    let lock = File::create(folder.join("systemd-root.lock")).map_err(|e| format!("{}: {e}", folder.display()))?;
    lock.lock().map_err(|error| format!("the lock of {}: {error}", root.display()))?;
    if !root.exists() {
        make(&root, &suite, &mirror)?;
    }
    Ok(root)
}

fn make(root: &Path, suite: &str, mirror: &str) -> Result<(), String> {
    say(&format!("making the root {} with debootstrap, once", root.display()));
    let work = TempDir::with_prefix("kw").unwrap();
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--propagation=private",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "bash",
            "-c",
            SCRIPT,
            "root.sh",
        ])
        .args([work.path(), root])
        .args([suite, mirror, PACKAGES])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let tail: Vec<&str> = said.lines().rev().take(3).collect();
    Err(format!("debootstrap of {suite} made no root: {}", tail.join(" / ")))
}

/// This host's release.
fn suite() -> Result<String, String> {
    let text = std::fs::read_to_string("/etc/os-release").map_err(|error| format!("/etc/os-release: {error}"))?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(|name| name.trim_matches('"').to_owned()).ok_or("this host's release has no code name".to_owned())
}

/// Where this host's apt has that release from.
fn mirror(suite: &str) -> Result<String, String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    command.args([format!("Codename: {suite}"), "Component: main".to_owned()]);
    let output = command.output().map_err(|error| format!("apt-get indextargets: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().find(|line| !line.is_empty()).map(str::to_owned);
    first.ok_or(format!("apt knows no source of {suite} (run: apt-get update)"))
}
