//! Who can reach the sockets: their modes and owners at every instant, and the kernel's word for who connects.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::{Gid, Group, Uid};
use raw::{has_program, skipped, wrap};
use support::{Daemon, Home, KEYWARD};

/// Users that no host has.
const STRANGER: u32 = 64_001;
const LISTED: u32 = 64_002;
const MEMBER: u32 = 64_003;
const LISTED_GROUP: u32 = 64_010;

/// A group of this host that the test may give sockets to: its name and id.
fn a_group() -> Option<(String, u32)> {
    let group = if Uid::effective().is_root() { Group::from_name("daemon") } else { Group::from_gid(Gid::effective()) };
    let found = group.unwrap().map(|group| (group.name, group.gid.as_raw()));
    if found.is_none() {
        skipped("sockets that belong to a group, because this host has none to use");
    }
    found
}

fn is_root(what: &str) -> bool {
    let is_root = Uid::effective().is_root();
    if !is_root {
        skipped(&format!("{what}, because the test does not run as root"));
    }
    is_root
}

fn query(home: &Home) -> PathBuf {
    home.runtime().join("query.sock")
}

fn admin(home: &Home) -> PathBuf {
    home.runtime().join("admin.sock")
}

/// Mode, owner and group.
fn access(path: &Path) -> (u32, u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

fn start<'h>(home: &'h Home, config: &str) -> Daemon<'h> {
    let config = home.config(config);
    home.start_with(|command| {
        command.arg("--config").arg(config);
    })
}

#[test]
fn the_sockets_have_exactly_the_configured_access_whatever_the_umask_was() {
    let Some((name, gid)) = a_group() else { return };
    let (own, own_group) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let table = [
        (format!("group = '{name}'"), (0o660, own, gid), (0o600, own, own_group)),
        ("group = 'no-such-group-here'".to_owned(), (0o600, own, own_group), (0o600, own, own_group)),
        (format!("group = '{name}'\n[admin]\ngroup = '{name}'"), (0o660, own, gid), (0o660, own, gid)),
        (
            format!("group = 'no-such-group-here'\n[admin]\ngroup = '{name}'"),
            (0o600, own, own_group),
            (0o660, own, gid),
        ),
    ];
    for umask in ["000", "022", "777"] {
        for (config, of_query, of_admin) in &table {
            let home = Home::new();
            let file = home.config(config);
            // These are made before, so that the umask of the test's own shell is not in the way.
            fs::create_dir(home.data()).unwrap();
            fs::create_dir(home.runtime()).unwrap();
            let daemon = home.start_with(|command| {
                command.arg("--config").arg(file);
                wrap(&home, command, &["sh", "-c", &format!("umask {umask} && exec \"$@\""), "sh"]);
            });
            assert_eq!(access(&query(&home)), *of_query, "umask {umask}, {config}");
            assert_eq!(access(&admin(&home)), *of_admin, "umask {umask}, {config}");
            let warned = home.log_text().contains("there is no such group: query.sock and http.sock are open to");
            assert_eq!(warned, config.contains("no-such-group"), "umask {umask}, {config}: {}", home.log_text());
            for secret in ["keyward.redb", "pepper"] {
                assert_eq!(access(&home.data().join(secret)).0 & 0o077, 0, "{secret}");
            }
            daemon.stop();
        }
    }
}

#[test]
fn an_admin_group_that_the_host_does_not_have_refuses_the_start_and_leaves_no_socket_open() {
    let home = Home::new();
    let config = home.config("[admin]\ngroup = 'no-such-group-here'");
    let mut command = home.serve_command();
    let output = command.arg("--config").arg(config).stderr(std::process::Stdio::piped()).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("no-such-group-here") && message.contains("groupadd"), "{message}");
    assert!(!admin(&home).exists());
}

#[test]
fn no_look_at_a_start_ever_finds_a_socket_open_to_others() {
    let Some((name, gid)) = a_group() else { return };
    let home = Home::new();
    fs::create_dir(home.runtime()).unwrap();
    let config = home.config(&format!("group = '{name}'\n[admin]\ngroup = '{name}'"));
    let over = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                for path in [query(&home), admin(&home)] {
                    let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                    let mode = metadata.mode();
                    assert_eq!(mode & 0o007, 0, "{} has mode {mode:o}", path.display());
                    // Two looks, but the group is given before its bits and never taken back.
                    assert!(mode & 0o070 == 0 || metadata.gid() == gid, "{} is open to another group", path.display());
                    looks += 1;
                }
            }
            looks
        });
        for _ in 0..10 {
            let daemon = home.start_with(|command| {
                command.arg("--config").arg(&config);
                wrap(&home, command, &["sh", "-c", "umask 0 && exec \"$@\"", "sh"]);
            });
            daemon.stop();
        }
        over.store(true, Ordering::Relaxed);
        looking.join().unwrap()
    });
    assert!(looks > 100, "{looks} looks");
}

#[test]
fn the_umask_is_closed_before_a_socket_is_bound_and_no_mode_beyond_0660_is_ever_given() {
    if !has_program("strace", "watching the system calls of a start") {
        return;
    }
    let Some((name, _)) = a_group() else { return };
    let home = Home::new();
    let config = home.config(&format!("group = '{name}'\n[admin]\ngroup = '{name}'"));
    let trace = home.path().join("trace");
    let daemon = home.start_with(|command| {
        command.arg("--config").arg(config);
        raw::under_strace(&home, command, "umask,bind,chmod,fchmod,fchmodat,chown,lchown,fchownat", &trace);
    });
    daemon.stop();
    let text = fs::read_to_string(trace).unwrap();
    let calls: Vec<&str> = text.lines().filter(|line| line.contains(".sock") || line.contains("umask(")).collect();
    let place = |what: &str, socket: &str| {
        let found = calls.iter().position(|line| line.contains(what) && line.contains(socket));
        found.unwrap_or_else(|| panic!("no {what} of {socket:?} in {text}"))
    };
    let umasks: Vec<&&str> = calls.iter().filter(|line| line.contains("umask(")).collect();
    assert!(umasks.iter().all(|line| line.contains("umask(077)")), "{text}");
    for socket in ["query.sock", "admin.sock"] {
        let order = [place("umask(077)", ""), place("bind(", socket), place("0600", socket)];
        let given = [place("chown", socket), place("0660", socket)];
        assert!([&order[..], &given].concat().is_sorted(), "{text}");
        let modes = calls.iter().filter(|line| line.contains("chmod") && line.contains(socket)).count();
        assert_eq!(modes, 2, "no other mode is given: {text}");
    }
}

/// The program, and directories, where every user can reach them.
fn reachable(home: &Home) -> PathBuf {
    fs::set_permissions(home.path(), Permissions::from_mode(0o711)).unwrap();
    let program = home.path().join("keyward");
    fs::copy(KEYWARD, &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    program
}

/// Runs a command of the CLI as another user.
fn run_as(home: &Home, program: &Path, (uid, gid): (u32, u32), words: &[&str]) -> Output {
    Command::new(program)
        .args(words)
        .env("KEYWARD_RUNTIME", home.runtime())
        .current_dir("/")
        .uid(uid)
        .gid(gid)
        .output()
        .unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_refused_in_words(output: &Output, uid: u32) {
    let message = errors(output);
    let sentence = format!("user {uid} may not use the admin socket");
    assert!(!output.status.success() && message.contains(&sentence), "{}: {message}", output.status);
    assert!(message.contains("admin.uids and admin.gids"), "{message}");
    assert!(output.stdout.is_empty());
}

#[test]
fn the_admin_socket_takes_whom_the_kernel_names_and_the_configuration_lists_and_nobody_else() {
    if !is_root("connecting as other users") {
        return;
    }
    let Some((name, gid)) = a_group() else { return };
    let home = Home::new();
    let program = reachable(&home);
    let config = format!("group = '{name}'\n[admin]\ngroup = '{name}'\nuids = [{LISTED}]\ngids = [{LISTED_GROUP}]");
    let _daemon = start(&home, &config);
    // The file's mode lets the group in; only then the daemon is asked.
    let status = |who| run_as(&home, &program, who, &["status"]);
    for who in [(0, gid), (0, 0), (LISTED, gid)] {
        let output = status(who);
        assert!(output.status.success(), "{who:?}: {}", errors(&output));
    }
    is_refused_in_words(&status((STRANGER, gid)), STRANGER);
    is_refused_in_words(&status((MEMBER, gid)), MEMBER);
    // Refused means for every request, and nothing was done.
    let words = ["agent", "add", "Mallory", "--permissions", "*"];
    is_refused_in_words(&run_as(&home, &program, (STRANGER, gid), &words), STRANGER);
    assert_eq!(home.json(&["agent", "list"]), serde_json::json!([]));
    // Whom the file's mode keeps out doesn't get so far, listed or not.
    for who in [(STRANGER, STRANGER), (LISTED, STRANGER)] {
        let output = status(who);
        assert_eq!(output.status.code(), Some(3), "{who:?}: {}", errors(&output));
    }
    // The query socket has no list: its group asks.
    let check = |who| run_as(&home, &program, who, &["check"]).status.code();
    assert_eq!(check((STRANGER, gid)), Some(1), "a verdict: no credential");
    assert_eq!(check((STRANGER, STRANGER)), Some(3), "the file's mode keeps it out");
}

#[test]
fn a_listed_primary_group_is_let_in() {
    if !is_root("connecting as other users") || !has_program("setpriv", "connecting with supplementary groups") {
        return;
    }
    let Some((name, gid)) = a_group() else { return };
    let home = Home::new();
    let program = reachable(&home);
    let _daemon = start(&home, &format!("[admin]\ngroup = '{name}'\ngids = [{LISTED_GROUP}]"));
    let status = |uid: u32, primary: u32| status_with_groups(&home, &program, (uid, primary), gid);
    let output = status(MEMBER, LISTED_GROUP);
    assert!(output.status.success(), "{}", errors(&output));
    is_refused_in_words(&status(STRANGER, STRANGER), STRANGER);
}

/// `status` as a user with a primary and one supplementary group.
fn status_with_groups(home: &Home, program: &Path, (uid, primary): (u32, u32), supplementary: u32) -> Output {
    Command::new("setpriv")
        .arg(format!("--reuid={uid}"))
        .arg(format!("--regid={primary}"))
        .arg(format!("--groups={supplementary}"))
        .arg(program)
        .arg("status")
        .env("KEYWARD_RUNTIME", home.runtime())
        .current_dir("/")
        .output()
        .unwrap()
}

#[test]
fn a_listed_group_of_the_hosts_user_database_is_let_in() {
    if !is_root("a user database of its own") || !has_program("setpriv", "connecting with supplementary groups") {
        return;
    }
    if !Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|output| output.status.success()) {
        skipped("supplementary groups, because no mount namespace can be made here");
        return;
    }
    let Some((name, gid)) = a_group() else { return };
    let home = Home::new();
    let program = reachable(&home);
    let more = [
        (
            "passwd",
            format!("kwmember:x:{MEMBER}:{STRANGER}::/:/bin/false\nkwother:x:{STRANGER}:{STRANGER}::/:/bin/false\n"),
        ),
        ("group", format!("kwops:x:{LISTED_GROUP}:kwmember\n")),
    ];
    for (file, lines) in more {
        let text = fs::read_to_string(Path::new("/etc").join(file)).unwrap() + &lines;
        fs::write(home.path().join(file), text).unwrap();
    }
    let config = home.config(&format!("[admin]\ngroup = '{name}'\ngids = [{LISTED_GROUP}]"));
    let bind = |file: &str| format!("mount --bind {} /etc/{file}", home.path().join(file).display());
    let script = format!("{} && {} && exec \"$@\"", bind("passwd"), bind("group"));
    let _daemon = home.start_with(|command| {
        command.arg("--config").arg(config);
        wrap(&home, command, &["unshare", "--mount", "sh", "-c", &script, "sh"]);
    });
    let status = |uid: u32| status_with_groups(&home, &program, (uid, STRANGER), gid);
    let output = status(MEMBER);
    assert!(output.status.success(), "{}", errors(&output));
    is_refused_in_words(&status(STRANGER), STRANGER);
}

#[test]
fn where_user_ids_are_mapped_the_admin_socket_refuses_everybody_and_questions_are_answered() {
    let makes_namespace = |map: &str| {
        let made = Command::new("unshare").args(["--user", map, "true"]).output();
        made.is_ok_and(|output| output.status.success())
    };
    for map in ["--map-root-user", "--map-current-user"] {
        if !makes_namespace(map) {
            skipped(&format!("a daemon under unshare --user {map}, because no user namespace can be made here"));
            continue;
        }
        let home = Home::new();
        let daemon = home.start();
        home.apply(&raw::world());
        daemon.stop();
        let _daemon = home.start_with(|command| wrap(&home, command, &["unshare", "--user", map]));
        assert!(home.log_text().contains("user ids are mapped"), "{}", home.log_text());
        let output = home.run(&["status"]);
        let message = errors(&output);
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(message.contains("user ids are mapped") && message.contains("PrivateUsers="), "{message}");
        raw::Wire::connect(&query(&home)).is_answered();
    }
}

#[test]
fn a_second_daemon_leaves_the_sockets_of_the_first_as_they_are() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&raw::world());
    let inodes = || [query(&home), admin(&home)].map(|path| fs::symlink_metadata(path).unwrap().ino());
    let before = inodes();
    assert!(!home.refused_start().status.success());
    // Nor does one with other data and the same runtime directory.
    let output = Command::new(KEYWARD)
        .args(["serve", "--data"])
        .arg(home.path().join("other"))
        .arg("--runtime")
        .arg(home.runtime())
        .output()
        .unwrap();
    assert!(!output.status.success() && errors(&output).contains("another keyward uses"), "{}", errors(&output));
    assert_eq!(inodes(), before);
    raw::Wire::connect(&query(&home)).is_answered();
}

#[test]
fn a_socket_that_a_crash_left_is_replaced_with_the_right_access_and_nothing_else_is() {
    let home = Home::new();
    home.start().kill();
    for path in [query(&home), admin(&home)] {
        assert!(path.exists(), "a crash leaves its sockets");
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    }
    let daemon = home.start();
    assert_eq!(access(&admin(&home)).0, 0o600);
    assert_eq!(access(&query(&home)).0 & 0o007, 0);
    daemon.stop();

    let elsewhere = home.path().join("precious");
    fs::write(&elsewhere, "precious").unwrap();
    type Make<'m> = (&'static str, &'m dyn Fn(&Path));
    let make: [Make<'_>; 3] = [
        ("a file", &|path| fs::write(path, "precious").unwrap()),
        ("a directory", &|path| fs::create_dir(path).unwrap()),
        ("a symbolic link", &|path| symlink(&elsewhere, path).unwrap()),
    ];
    for (what, make) in make {
        for path in [query(&home), admin(&home)] {
            make(&path);
            let output = home.refused_start();
            assert!(!output.status.success() && errors(&output).contains("no socket"), "{what}: {}", errors(&output));
            let kind = fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) }.unwrap();
            assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
            let _ = fs::remove_file(query(&home));
        }
    }
}

#[test]
fn a_socket_that_somebody_else_serves_is_neither_taken_nor_removed() {
    let home = Home::new();
    home.start().stop();
    for path in [query(&home), admin(&home)] {
        let _other = UnixListener::bind(&path).unwrap();
        let before = fs::symlink_metadata(&path).unwrap().ino();
        let output = home.refused_start();
        assert!(!output.status.success() && errors(&output).contains("answers on"), "{}", errors(&output));
        assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), before);
        fs::remove_file(&path).unwrap();
    }
}
