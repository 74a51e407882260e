//! Taking a backup: beside changes and questions, into files, by slow clients, of damaged databases.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use keyward_proto::admin::{AdminReply, AdminRequest, CredentialPatch, Patch};
use keyward_proto::client::ApplyOutcome;
use keyward_proto::frame::{self, ADMIN_FRAME_BYTES_MAX};
use keyward_proto::query::{Mode, Reason};
use redb::{Database, ReadableDatabase as _, TableDefinition};
use serde_json::json;

use super::support::{Home, SmallDisk, skipped, wait_until};
use super::{reason, restore, take, text, with_pepper_of, world};

/// Keys in a backup of several parts.
const MANY: u64 = 6_000;

/// A daemon's world with so many keys that a backup has several parts, and of more than a socket buffers.
fn many_keys(home: &Home, count: u64) {
    let key =
        |id: u64| json!({ "id": id, "label": format!("{:0>100}", id), "code": format!("CODEOFKEY{id}"), "agent": 1 });
    let mut world = world();
    world["keys"] = (1..=count).map(key).collect();
    home.apply(&world);
}

fn set_labels(label: &str) -> Vec<Patch> {
    let patch = |id| CredentialPatch { label: Some(label.to_owned()), ..CredentialPatch::new(Mode::Key, Some(id)) };
    // The first of all rows, and the last.
    [1, MANY].into_iter().map(|id| Patch::Credential(patch(id))).collect()
}

#[test]
fn a_backup_taken_while_changes_and_questions_go_on_is_one_state() {
    let home = Home::in_memory();
    let _daemon = home.start();
    many_keys(&home, MANY);
    let (done, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let files = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut admin = home.admin();
            while !done.load(Ordering::Relaxed) {
                let round = rounds.load(Ordering::Relaxed);
                let parts = admin.upload(set_labels(&format!("round {round}"))).unwrap();
                let apply = keyward_proto::admin::Apply { parts, sections: Vec::new(), prune: false, dry_run: false };
                assert!(matches!(admin.apply(&apply).unwrap(), ApplyOutcome::Report(_)));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let asker = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(reason(&home, "key 5:CODEOFKEY5"), Reason::Ok);
            }
        });
        wait_until("the first change is made", || rounds.load(Ordering::Relaxed) > 0);
        let files: Vec<_> = (0..3).map(|n| take(&home, &format!("backup-{n}"))).collect();
        done.store(true, Ordering::Relaxed);
        asker.join().unwrap();
        writer.join().unwrap();
        assert!(rounds.load(Ordering::Relaxed) > 3, "changes were made meanwhile");
        files
    });
    let mut revisions = Vec::new();
    for file in files {
        assert!(std::fs::metadata(&file).unwrap().len() > 3 * 256 * 1024, "it has several parts");
        let other = with_pepper_of(&home);
        let output = restore(&other.data(), &file);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let daemon = other.start();
        let label = |id: &str| other.json(&["key", "show", id])["label"].as_str().unwrap().to_owned();
        assert_eq!(label("1"), label(&MANY.to_string()), "changed together");
        assert_eq!(reason(&other, "key 5:CODEOFKEY5"), Reason::Ok);
        let status = other.json(&["status"]);
        assert_eq!((&status["alarms"], &status["keys"]), (&json!([]), &json!(MANY)));
        revisions.push(status["revision"].as_u64().unwrap());
        daemon.stop();
    }
    assert!(revisions.is_sorted(), "{revisions:?}");
}

#[test]
fn a_backup_is_closed_to_others_and_never_written_over_something() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let file = take(&home, "backup");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&file).unwrap();
    let again = home.run(&["backup", file.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("it exists and is left as it is"), "{}", text(&again.stderr));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let nowhere = home.run(&["backup", "/nonexistent/backup"]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", text(&nowhere.stderr));
    // The same through a pipe.
    let piped = home.run(&["backup", "-"]);
    assert!(piped.status.success() && piped.stdout == before, "{}", text(&piped.stderr));
    assert_eq!(partial_files(home.path()), Vec::<String>::new());
    assert_eq!(home.json(&["backup", home.path().join("other").to_str().unwrap()])["bytes"], json!(before.len()));
}

fn partial_files(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("partial")).collect()
}

#[test]
fn a_full_disk_leaves_no_backup_and_says_so() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(1, home.path().join("disk")) else {
        return skipped("no file system can be mounted here: a full disk can't be made");
    };
    let _daemon = home.start();
    many_keys(&home, MANY);
    let output = home.run(&["backup", disk.path().join("backup").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("No space left on device"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
    assert_eq!(home.json(&["status"])["alarms"], json!([]));
}

#[test]
fn a_client_that_does_not_take_its_backup_is_cut_off() {
    let home = Home::in_memory();
    let config = home.config("[limits]\nframe_deadline = '1s'\n");
    let _daemon = home.start_with(|command| {
        command.arg("--config").arg(config);
    });
    many_keys(&home, 20_000);
    let mut stuck = UnixStream::connect(home.runtime().join("admin.sock")).unwrap();
    let mut request = Vec::new();
    AdminRequest::Backup.put(&mut request, 1);
    stuck.write_all(&request).unwrap();
    let connections = || home.json(&["status"])["admin_connections"].as_u64().unwrap();
    wait_until("the stuck client's backup has begun", || connections() == 2);
    wait_until("the stuck client is cut off", || connections() == 1);
    let mut received = Vec::new();
    stuck.read_to_end(&mut received).unwrap();
    let mut rest = received.as_slice();
    while let Ok(Some((frame, used))) = frame::split(rest, ADMIN_FRAME_BYTES_MAX) {
        let reply = AdminReply::decode(&frame).unwrap();
        assert!(matches!(reply, AdminReply::BackupPart(part) if !part.last), "no end was sent");
        rest = &rest[used..];
    }
}

#[test]
fn a_stop_does_not_wait_for_a_backup_and_the_backup_is_not_taken_for_whole() {
    let home = Home::in_memory();
    let daemon = home.start();
    many_keys(&home, 20_000);
    let mut slow = UnixStream::connect(home.runtime().join("admin.sock")).unwrap();
    let mut request = Vec::new();
    AdminRequest::Backup.put(&mut request, 1);
    slow.write_all(&request).unwrap();
    wait_until("the backup has begun", || home.json(&["status"])["admin_connections"] == json!(2));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let mut received = Vec::new();
    slow.read_to_end(&mut received).unwrap();
    let mut rest = received.as_slice();
    let (mut last, mut refused) = (false, false);
    while let Ok(Some((frame, used))) = frame::split(rest, ADMIN_FRAME_BYTES_MAX) {
        let reply = AdminReply::decode(&frame).unwrap();
        last |= matches!(&reply, AdminReply::BackupPart(part) if part.last);
        refused |= matches!(&reply, AdminReply::Refused(_));
        rest = &rest[used..];
    }
    assert!(refused && !last, "refused {refused}, last {last}");
}

const KEYS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("keys");

/// Puts another row in the place of key 2's, past Keyward, or takes it away.
fn alter_key_2(home: &Home, alter: fn(Vec<u8>) -> Option<Vec<u8>>) {
    let database = Database::open(home.database()).unwrap();
    let key = 2_u64.to_be_bytes();
    let row = {
        let rows = database.begin_read().unwrap().open_table(KEYS).unwrap();
        rows.get(key.as_slice()).unwrap().unwrap().value().to_vec()
    };
    let transaction = database.begin_write().unwrap();
    {
        let mut rows = transaction.open_table(KEYS).unwrap();
        match alter(row) {
            Some(row) => drop(rows.insert(key.as_slice(), row.as_slice()).unwrap()),
            None => drop(rows.remove(key.as_slice()).unwrap()),
        }
    }
    transaction.commit().unwrap();
}

/// What is done to a row, and what is said of it.
type Damage = (fn(Vec<u8>) -> Option<Vec<u8>>, &'static str);

#[test]
fn damage_is_found_when_it_is_backed_up_or_exported_and_nothing_is_kept() {
    let flip = |mut row: Vec<u8>| {
        row[40] ^= 1;
        Some(row)
    };
    let cases: [Damage; 2] = [
        (flip, "the row 2 of table keys is damaged"),
        (|_| None, "table keys does not hold the rows of the last commit"),
    ];
    for (alter, said) in cases {
        let home = Home::new();
        let daemon = home.start();
        home.apply(&world());
        daemon.stop();
        alter_key_2(&home, alter);
        let _daemon = home.start();
        let file = home.path().join("backup");
        for command in [&["backup", file.to_str().unwrap()][..], &["export", "--out", file.to_str().unwrap()]] {
            let output = home.run(command);
            assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
            assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
            assert!(!file.exists());
        }
        assert_eq!(partial_files(home.path()), Vec::<String>::new());
    }
}

#[test]
fn backups_into_a_directory_are_named_for_the_time_and_the_newest_are_kept() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let directory = home.path().join("backups");
    std::fs::create_dir(&directory).unwrap();
    let old = ["keyward-20200101T000000Z.backup", "keyward-20200102T000000Z.backup", "keyward-20200103T000000Z.backup"];
    let others = ["keyward-20990101T000000Z.backup", "by-hand.backup"];
    let left = "keyward-20200104T000000Z.backup.partial-7";
    for name in old.iter().chain(&others).chain([&left]) {
        std::fs::write(directory.join(name), name).unwrap();
    }
    let words = ["--json", "backup", "--into", directory.to_str().unwrap(), "--keep", "2"];
    let output = home.run(&words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("named for a later time than now: 1;"), "{}", text(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let removed: Vec<_> = [old[0], old[1], left].map(|name| directory.join(name)).to_vec();
    assert_eq!(told["removed"], json!(removed));
    let made = Path::new(told["file"].as_str().unwrap());
    assert_eq!(made.parent().unwrap(), directory);
    assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(restore(&with_pepper_of(&home).data(), made).status.success());
    let names = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let expected = others.iter().chain([&old[2]]).map(|name| directory.join(name)).chain([made.to_owned()]);
    assert_eq!(names.collect::<BTreeSet<_>>(), expected.collect());
}

#[test]
fn no_old_backup_is_removed_when_there_is_no_new_one() {
    let home = Home::new();
    let directory = home.path().join("backups");
    std::fs::create_dir(&directory).unwrap();
    let old = directory.join("keyward-20200101T000000Z.backup");
    std::fs::write(&old, "").unwrap();
    let into = ["backup", "--into", directory.to_str().unwrap(), "--keep", "1"];
    assert_eq!(home.run(&into).status.code(), Some(3), "no daemon runs");
    let daemon = home.start();
    home.apply(&world());
    daemon.stop();
    alter_key_2(&home, |_| None);
    let _daemon = home.start();
    assert_eq!(home.run(&into).status.code(), Some(4), "the database is damaged");
    assert!(old.exists());
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "and nothing else is there");
    for (words, what) in [
        (&["backup"][..], "--into"),
        (&["backup", "/x", "--into", "/y"], "cannot be used with"),
        (&["backup", "/x", "--keep", "3"], "cannot be used with"),
        (&["backup", "--keep", "3"], "--into"),
        (&["backup", "--into", "/y", "--keep", "0"], "--keep"),
    ] {
        let output = home.run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(text(&output.stderr).contains(what), "{words:?}: {}", text(&output.stderr));
    }
}
