//! What other users of the host can plant, and what a member of the group can try: nothing of it may be followed, handed a
//! code, or keep the others from their answers. Each row of `docs/threat-model.md` that names this file is tried here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::query::{Batch, QueryReply, QueryRequest, Target};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};
use raw::{Heard, KEY, Wire, asker, put, world};
use support::{Home, skipped};

/// Nobody on any host.
const STRANGER: u32 = 54_321;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn is_root(what: &str) -> bool {
    let is_root = Uid::effective().is_root();
    if !is_root {
        skipped(&format!("{what}, because the test does not run as root"));
    }
    is_root
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A daemon that ran once and stopped.
fn stopped() -> Home {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    daemon.stop();
    home
}

type Plant<'p> = (&'static str, &'p dyn Fn(&Path, &Path));

/// What may stand in the lock's place, and must be left alone.
const PLANTS: [Plant<'static>; 4] = [
    ("a link", &|lock, victim| symlink(victim, lock).unwrap()),
    ("a second name", &|lock, victim| fs::hard_link(victim, lock).unwrap()),
    ("a pipe", &|lock, _| mkfifo(lock, Mode::from_bits_truncate(0o600)).unwrap()),
    ("a directory", &|lock, _| fs::create_dir(lock).unwrap()),
];

#[test]
fn what_was_planted_in_the_locks_place_is_neither_followed_nor_given_away() {
    let home = stopped();
    let victim = home.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let is_root = is_root("giving a planted lock away");
    if is_root {
        for name in ["", "pepper", "watermark", "keyward.redb"] {
            chown(home.data().join(name), Some(STRANGER), Some(STRANGER)).unwrap();
        }
    }
    let lock = home.data().join("keyward.lock");
    let _ = fs::remove_file(&lock);
    for (what, plant) in PLANTS {
        plant(&lock, &victim);
        // As root it opens the directory of a user who may have planted it.
        let output = home.run(&["doctor", "--data", home.data().to_str().unwrap()]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(4), "{what}: {told}");
        assert!(told.contains("is no plain file with that one name"), "{what}: {told}");
        let found = fs::metadata(&victim).unwrap();
        assert_eq!(found.uid(), Uid::effective().as_raw(), "{what}: the victim was given away");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{what}");
        fs::remove_file(&lock).or_else(|_| fs::remove_dir(&lock)).unwrap();
    }
    if is_root {
        // Moved there, it has one name, and holds something.
        fs::rename(&victim, &lock).unwrap();
        home.run(&["doctor", "--data", home.data().to_str().unwrap()]);
        assert_eq!(fs::metadata(&lock).unwrap().uid(), 0, "a lock holds nothing");
    }
}

#[test]
fn a_directory_in_which_others_may_put_things_is_refused_at_the_start_with_a_sentence() {
    type Case<'c> = (&'static str, PathBuf, &'c dyn Fn(&Path), &'static str);
    let home = stopped();
    let mut cases: Vec<Case<'_>> = Vec::new();
    for directory in [home.data(), home.runtime()] {
        cases.push(("everybody", directory.clone(), &|path| set_mode(path, 0o757), "chmod o-w"));
        cases.push(("everybody, sticky", directory.clone(), &|path| set_mode(path, 0o1777), "chmod o-w"));
        cases.push(("its group", directory.clone(), &|path| set_mode(path, 0o775), "chmod g-w"));
        if is_root("directories of another user") {
            let give: &dyn Fn(&Path) = &|path| chown(path, Some(STRANGER), None).unwrap();
            cases.push(("its owner", directory, give, "belongs to user 54321"));
        }
    }
    for (who, directory, open, sentence) in cases {
        let before = fs::metadata(&directory).unwrap();
        open(&directory);
        let output = home.refused_start();
        let said = errors(&output);
        assert!(!output.status.success() && said.contains(sentence), "{who}, {}: {said}", directory.display());
        assert!(!home.runtime().join("query.sock").exists(), "{who}");
        if Uid::effective().is_root() {
            chown(&directory, Some(before.uid()), None).unwrap();
        }
        set_mode(&directory, before.mode() & 0o7777);
    }
    home.start().stop();
}

#[test]
fn a_command_hands_no_code_to_a_socket_that_a_stranger_may_have_planted() {
    if !is_root("sockets of other users") {
        return;
    }
    let home = Home::new();
    let place = |name: &str, mode: u32| {
        let path = home.path().join(name);
        fs::create_dir(&path).unwrap();
        set_mode(&path, mode);
        path
    };
    // Like /tmp; like /run; open to everybody without the bit that keeps others' things.
    let (sticky, closed, open) = (place("t", 0o1777), place("r", 0o755), place("o", 0o777));
    // Of each runtime directory: where it lies, whose it is, and whether a command may speak to who listens there.
    let table = [
        (sticky.join("own"), 0, true),
        (sticky.join("planted"), STRANGER, false),
        (closed.join("daemons"), STRANGER, true),
        (open.join("own"), 0, false),
    ];
    for (runtime, owner, _) in &table {
        fs::create_dir(runtime).unwrap();
        chown(runtime, Some(*owner), Some(*owner)).unwrap();
    }
    let deeper = sticky.join("planted/run");
    fs::create_dir(&deeper).unwrap();
    let link = sticky.join("link");
    symlink(closed.join("daemons"), &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(STRANGER), Some(STRANGER)).unwrap();
    let own_link = sticky.join("own-link");
    symlink(closed.join("daemons"), &own_link).unwrap();
    let more = [(deeper, STRANGER, false), (link, STRANGER, false), (own_link, 0, true)];
    for (runtime, _, is_spoken_to) in table.into_iter().chain(more) {
        for (socket, words) in [
            ("admin.sock", &["key", "add", "k", "--agent", "1", "--code-stdin"][..]),
            ("query.sock", &["check", "--credential", "-"]),
        ] {
            let path = runtime.join(socket);
            let _ = fs::remove_file(&path);
            let listener = UnixListener::bind(&path).unwrap();
            let words = [&["--runtime", runtime.to_str().unwrap()], words].concat();
            let (output, connections) = while_hanging_up(listener, || home.run_with_stdin(&words, KEY.as_bytes()));
            let (status, said) = (output.status.code(), format!("{}: {}", path.display(), errors(&output)));
            if is_spoken_to {
                assert!(status == Some(4) && connections > 0, "{said}");
            } else {
                assert_eq!((status, connections), (Some(2), 0), "{said}");
                assert!(said.contains("nothing was sent") && said.contains("--runtime"), "{said}");
            }
        }
    }
}

/// Does something while whoever connects is hung up on. How many did.
fn while_hanging_up<R>(listener: UnixListener, act: impl FnOnce() -> R) -> (R, u32) {
    listener.set_nonblocking(true).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hanging_up = scope.spawn(|| {
            let mut connections = 0;
            loop {
                let is_last = over.load(Ordering::Acquire);
                match listener.accept() {
                    Ok(_) => connections += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock && is_last => return connections,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let done = act();
        over.store(true, Ordering::Release);
        (done, hanging_up.join().unwrap())
    })
}

#[test]
fn a_loopback_port_that_somebody_else_holds_refuses_the_start() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = home.config(&format!("[http]\nlisten = '{}'", taken.local_addr().unwrap()));
    let output =
        home.serve_command().arg("--config").arg(config).stderr(std::process::Stdio::piped()).output().unwrap();
    assert!(!output.status.success() && errors(&output).contains("free the port"), "{}", errors(&output));
}

#[test]
fn a_backup_and_an_export_are_not_written_through_a_link() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let victim = home.path().join("victim");
    for (n, words) in [&["backup"][..], &["export", "--with-hashes", "--out"]].into_iter().enumerate() {
        for target in [&victim, &home.path().join("not-there")] {
            fs::write(&victim, "precious").unwrap();
            let link = home.path().join(format!("link-{n}-{}", target.exists()));
            symlink(target, &link).unwrap();
            let output = home.run(&[words, &[link.to_str().unwrap()]].concat());
            assert_eq!(output.status.code(), Some(2), "{words:?}: {}", errors(&output));
            assert!(errors(&output).contains("it exists and is left as it is"), "{}", errors(&output));
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
            assert!(!home.path().join("not-there").exists() && link.is_symlink());
        }
    }
}

#[test]
fn the_largest_batches_of_several_clients_do_not_keep_another_from_its_answer() {
    const FLOODING: usize = 4;
    /// In one write.
    const BATCHES: u32 = 16;
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let socket = home.runtime().join("query.sock");
    let batch = |id| {
        // Each a path that must be decoded and searched for to its end.
        let path = format!("/api/v2/{}tickets", "%61/".repeat(40));
        let target = || Target::Endpoint { method: b"GET", path: path.as_bytes() };
        put(&QueryRequest::Batch(Batch { asker: asker(KEY), targets: (0..1024).map(|_| target()).collect() }), id)
    };
    let over = AtomicBool::new(false);
    let flood = (1..=BATCHES).flat_map(batch).collect::<Vec<u8>>();
    let slowest = std::thread::scope(|scope| {
        let flooding: Vec<_> = (0..FLOODING)
            .map(|_| {
                scope.spawn(|| {
                    let mut wire = Wire::connect(&socket);
                    let mut answered = 0;
                    while !over.load(Ordering::Relaxed) {
                        let mut writer = wire.stream.try_clone().unwrap();
                        std::thread::scope(|both| {
                            both.spawn(|| std::io::Write::write_all(&mut writer, &flood).unwrap());
                            for _ in 0..BATCHES {
                                assert!(matches!(wire.query_reply(), Heard::Reply(_, QueryReply::Batch(_))));
                                answered += 1;
                            }
                        });
                    }
                    answered
                })
            })
            .collect();
        let mut asking = Wire::connect(&socket);
        let (began, mut slowest) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            asking.is_answered();
            slowest = slowest.max(asked.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        assert!(flooding.into_iter().all(|flood| flood.join().unwrap() > 0), "the flood was one");
        slowest
    });
    assert!(slowest < Duration::from_secs(1), "a question took {slowest:?}");
}

#[test]
fn a_member_of_the_group_changes_nothing_whatever_type_of_message_it_sends() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let before = home.json(&["status"])["revision"].clone();
    let mut wire = Wire::connect(&home.runtime().join("query.sock"));
    for kind in (0x0300..=0x03ff).chain(0x0400..=0x04ff) {
        wire.send(&raw::frame(1, kind, 7, b""));
        let (id, error) = wire.error();
        assert_eq!((id, error.code), (7, keyward_proto::ErrorCode::UnknownType), "{kind:#06x}");
    }
    wire.is_answered();
    assert_eq!(home.json(&["status"])["revision"], before);
}
