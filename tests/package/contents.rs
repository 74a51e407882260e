//! Files, modes, configuration, maintainer scripts, licences.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::support::KEYWARD;
use super::support::{has_program, skipped};
use super::{package, run, text, try_run};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Mode, owner and path of everything in it, as tar lists them.
fn listing(package: &Path) -> BTreeMap<String, (String, String)> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (mode, owner) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        (words.nth(3).unwrap().trim_start_matches('.').to_owned(), (mode, owner))
    };
    let listed = run(Command::new("dpkg-deb").arg("--contents").arg(package).env("LC_ALL", "C"));
    listed.lines().map(entry).collect()
}

/// Both trees of it, files and control files, unpacked.
fn unpacked(package: &Path) -> TempDir {
    let directory = TempDir::with_prefix("kw").unwrap();
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(directory.path()));
    directory
}

/// The files of a directory of ours that end so.
fn ours(directory: &str, end: &str) -> Vec<String> {
    let names = Path::new(ROOT).join(directory).read_dir().unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(end)).collect()
}

#[test]
fn every_file_is_at_its_place_with_its_mode_and_belongs_to_root() {
    let Some(package) = package() else { return };
    let listing = listing(package);
    for (path, (mode, owner)) in &listing {
        let wanted = match path.as_str() {
            "/usr/bin/keyward" => "-rwxr-xr-x",
            path if path.ends_with('/') => "drwxr-xr-x",
            _ => "-rw-r--r--",
        };
        assert_eq!((mode.as_str(), owner.as_str()), (wanted, "0/0"), "{path}");
    }
    let man = TempDir::with_prefix("kw").unwrap();
    run(Command::new(KEYWARD).arg("man").arg(man.path()));
    let pages = man.path().read_dir().unwrap().map(|page| page.unwrap().file_name().into_string().unwrap());
    let units = [".service", ".socket", ".timer"].iter().flat_map(|end| ours("systemd", end));
    let doc = "/usr/share/doc/keyward";
    let expected = pages
        .map(|page| format!("/usr/share/man/man1/{page}.gz"))
        .chain(units.map(|unit| format!("/lib/systemd/system/{unit}")))
        .chain(ours("docs", ".md").into_iter().map(|name| format!("{doc}/docs/{name}")))
        .chain(ours("examples", "").into_iter().map(|name| format!("{doc}/examples/{name}")))
        .chain(ours("proto/clients", ".py").into_iter().map(|name| format!("{doc}/proto/clients/{name}")))
        .chain(ours("", ".md").into_iter().filter(|name| name != "CHANGELOG.md").map(|name| format!("{doc}/{name}")))
        .chain(["copyright", "THIRD-PARTY.gz", "changelog.gz", "proto/PROTOCOL.md"].map(|name| format!("{doc}/{name}")))
        .chain([
            "/usr/bin/keyward".to_owned(),
            "/etc/keyward/keyward.toml".to_owned(),
            "/usr/lib/sysusers.d/keyward.conf".to_owned(),
            "/usr/lib/tmpfiles.d/keyward.conf".to_owned(),
            "/usr/share/bash-completion/completions/keyward".to_owned(),
            "/usr/share/zsh/vendor-completions/_keyward".to_owned(),
            "/usr/share/fish/vendor_completions.d/keyward.fish".to_owned(),
        ]);
    let missing: Vec<_> = expected.filter(|path| !listing.contains_key(path)).collect();
    assert_eq!(missing, Vec::<String>::new());
    assert!(!listing.keys().any(|path| path.contains("pepper")), "a pepper is made, never shipped");
}

#[test]
fn the_shipped_configuration_sets_nothing_and_shows_every_default() {
    let Some(package) = package() else { return };
    let tree = unpacked(package);
    let file = tree.path().join("etc/keyward/keyward.toml");
    let shipped = std::fs::read_to_string(&file).unwrap();
    let example = std::fs::read_to_string(Path::new(ROOT).join("examples/keyward.toml")).unwrap();
    assert_eq!(shipped.lines().count(), example.lines().count());
    for (shipped, example) in shipped.lines().zip(example.lines()) {
        let is_key = !example.starts_with(['#', '[']) && !example.is_empty();
        let wanted = if is_key { format!("# {example}") } else { example.to_owned() };
        assert_eq!(shipped, wanted);
    }
    run(Command::new(KEYWARD).args(["config", "check", "--config"]).arg(&file));
    let conffiles = std::fs::read_to_string(tree.path().join("DEBIAN/conffiles")).unwrap();
    assert_eq!(conffiles.trim(), "/etc/keyward/keyward.toml");
}

#[test]
fn the_maintainer_scripts_and_the_scripts_that_build_the_package_are_clean() {
    let Some(package) = package() else { return };
    let tree = unpacked(package);
    let scripts = ["postinst", "prerm", "postrm"].map(|name| tree.path().join("DEBIAN").join(name));
    for script in &scripts {
        run(Command::new("sh").arg("-n").arg(script));
    }
    if !has_program("shellcheck") {
        return skipped("the package's scripts are not looked through, because shellcheck is missing");
    }
    run(Command::new("shellcheck").args(&scripts).arg(Path::new(ROOT).join("packaging/build-deb")));
}

#[test]
fn lintian_has_nothing_to_complain_about() {
    let Some(package) = package() else { return };
    if !has_program("lintian") {
        return skipped("the package is not checked, because lintian is missing");
    }
    let output = try_run(Command::new("lintian").args(["--allow-root", "--profile", "debian"]).arg(package));
    let said = text(&output.stdout);
    let complaints: Vec<_> = said.lines().filter(|line| line.starts_with("E:") || line.starts_with("W:")).collect();
    assert!(output.status.success() && complaints.is_empty(), "{said}{}", text(&output.stderr));
}

#[test]
fn every_crate_in_the_binary_comes_with_its_licence() {
    let Some(package) = package() else { return };
    let tree = unpacked(package);
    let doc = tree.path().join("usr/share/doc/keyward");
    let notices = run(Command::new("gzip").args(["-dc"]).arg(doc.join("THIRD-PARTY.gz")));
    for crate_ in ["redb ", "tokio ", "blake3 ", "clap ", "bincode "] {
        assert!(notices.lines().any(|line| line.starts_with(crate_)), "{crate_}");
    }
    assert!(!notices.contains("texts: none"), "a crate has no licence file: its authors' text is to be added");
    assert!(notices.contains("Permission is hereby granted") && notices.contains("Apache License"));
    let copyright = std::fs::read_to_string(doc.join("copyright")).unwrap();
    let licence = std::fs::read_to_string(Path::new(ROOT).join("LICENSE-MIT")).unwrap();
    for line in licence.lines().skip(2).filter(|line| !line.is_empty()) {
        assert!(copyright.contains(line), "{line}");
    }
}

#[test]
fn the_commands_that_install_by_hand_put_everything_in_its_place() {
    let document = std::fs::read_to_string(Path::new(ROOT).join("docs/packaging.md")).unwrap();
    // What stands between two fences is every second piece.
    let mut blocks = document.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
    let commands = blocks.find(|block| block.starts_with("install -D ")).unwrap();
    // They are run here: each must write below DESTDIR, and nothing else be done.
    let is_confined = |line: &str| line.contains("\"$DESTDIR/");
    assert!(commands.lines().all(is_confined), "{commands}");
    let root = TempDir::with_prefix("kw").unwrap();
    let binary = Path::new(KEYWARD).parent().unwrap().display();
    let path = format!("{binary}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-euc", commands]).env("DESTDIR", root.path()).env("PATH", path).current_dir(ROOT);
    run(&mut shell);
    let mode = |name: &str| root.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("usr/bin/keyward"), 0o755);
    for name in ["lib/sysusers.d/keyward.conf", "lib/tmpfiles.d/keyward.conf", "local/share/man/man1/keyward.1"] {
        assert_eq!(mode(&format!("usr/{name}")), 0o644, "{name}");
    }
    let units = [".service", ".socket", ".timer"].iter().flat_map(|end| ours("systemd", end));
    assert!(units.map(|unit| mode(&format!("etc/systemd/system/{unit}"))).all(|mode| mode == 0o644));
    let pepper = root.path().join("etc/keyward/pepper");
    assert_eq!((mode("etc/keyward/pepper"), std::fs::read(&pepper).unwrap().len()), (0o600, 65));
    // A second time the pepper stays.
    let before = std::fs::read(&pepper).unwrap();
    run(&mut shell);
    assert_eq!(std::fs::read(&pepper).unwrap(), before);
}
