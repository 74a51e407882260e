//! A Debian of its own in a directory, without systemd running in it.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::unistd::Uid;
use tempfile::TempDir;

use super::support::{has_program, skipped};
use super::{run, text, try_run};

/// What the package needs besides what every Debian has. systemd itself would be ten times that.
const INCLUDED: &str = "--include=systemd-standalone-sysusers,systemd-standalone-tmpfiles";

/// The root of a minimal Debian; removed when dropped.
pub(super) struct Root(TempDir);

impl Root {
    /// `None`, after saying why, where it can't be made.
    pub(super) fn new() -> Option<Self> {
        match archive() {
            Ok(archive) => {
                let root = TempDir::with_prefix("kw").unwrap();
                run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(root.path()));
                Some(Self(root))
            }
            Err(why) => {
                skipped(&format!("the package is not installed anywhere: {why}"));
                None
            }
        }
    }

    pub(super) fn path(&self, absolute: &str) -> PathBuf {
        self.0.path().join(absolute.trim_start_matches('/'))
    }

    /// A command inside, with /proc, in a mount namespace of its own: nothing stays mounted. The process is the command's.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" \"$@\""]);
        command.arg(self.0.path()).args(words).env_clear();
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        command
    }

    pub(super) fn try_run(&self, words: &[&str]) -> Output {
        try_run(&mut self.command(words))
    }

    /// What it printed, on both; it must succeed.
    pub(super) fn run(&self, words: &[&str]) -> String {
        let output = self.try_run(words);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        said
    }

    /// Installs the package, or upgrades to it.
    pub(super) fn install(&self, package: &Path) -> String {
        std::fs::copy(package, self.path("/keyward.deb")).unwrap();
        self.run(&["dpkg", "--install", "/keyward.deb"])
    }

    pub(super) fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Whether something has this name, a dangling link included.
    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Mode, and names of owner and group as they are inside.
    pub(super) fn owned(&self, path: &str) -> (u32, String) {
        let metadata = self.path(path).symlink_metadata().unwrap_or_else(|error| panic!("{path}: {error}"));
        let owner = self.run(&["stat", "-c", "%U:%G", path]);
        (metadata.permissions().mode() & 0o7777, owner.trim().to_owned())
    }

    /// The id of a user inside.
    pub(super) fn uid(&self, user: &str) -> Option<String> {
        let output = self.try_run(&["id", "-u", user]);
        output.status.success().then(|| text(&output.stdout).trim().to_owned())
    }
}

/// The root as it is before anything is installed, made once and kept between runs; or why it can't be made.
fn archive() -> Result<PathBuf, String> {
    if !Uid::effective().is_root() {
        return Err("only root can make a root directory of Debian's".to_owned());
    }
    let (suite, site) = mirror()?;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let archive = directory.join(format!("debian-{suite}.tar"));
    let lock = File::create(directory.join("debian.lock")).map_err(|error| error.to_string())?;
    // Tests of this process, or of another one, make it once.
    lock.lock().map_err(|error| error.to_string())?;
    if archive.exists() {
        return Ok(archive);
    }
    if !has_program("debootstrap") {
        return Err("debootstrap is missing".to_owned());
    }
    let root = TempDir::with_prefix_in("kw", directory).map_err(|error| error.to_string())?;
    let mut command = Command::new("timeout");
    command.args(["600", "debootstrap", "--variant=minbase", INCLUDED, &suite]).arg(root.path()).arg(site);
    let output = try_run(&mut command);
    if !output.status.success() {
        return Err(format!("debootstrap: {}", text(&output.stdout).lines().last().unwrap_or("it failed")));
    }
    let whole = archive.with_extension("new");
    run(Command::new("tar")
        .arg("-cf")
        .arg(&whole)
        .args(["--exclude=./var/cache/apt/*", "-C"])
        .arg(root.path())
        .arg("."));
    std::fs::rename(&whole, &archive).map_err(|error| error.to_string())?;
    Ok(archive)
}

/// The host's own suite, and where the host gets it from.
fn mirror() -> Result<(String, String), String> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field =
        |name: &str| release.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_matches('"'));
    if field("ID=") != Some("debian") {
        return Err("this host is no Debian, and names no mirror of it".to_owned());
    }
    let suite = field("VERSION_CODENAME=").ok_or("this Debian has no code name")?.to_owned();
    let targets = ["indextargets", "--format", "$(CODENAME) $(COMPONENT) $(SITE)", "Created-By: Packages"];
    let listed = text(&try_run(Command::new("apt-get").args(targets)).stdout);
    let start = format!("{suite} main ");
    let site = listed.lines().find_map(|line| line.strip_prefix(&start));
    site.map(|site| (suite.clone(), site.to_owned())).ok_or(format!("apt knows no mirror of {suite}"))
}
