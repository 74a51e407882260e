//! Restoring: what comes back, and everything that is refused.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use keyward::model::Pepper;
use keyward::store::{RestoreError, Restored, Store};
use keyward_proto::query::Reason;
use redb::{Database, ReadableDatabase as _, TableHandle as _};
use serde_json::json;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::support::{Home, SmallDisk, conformance, has_program, say, skipped};
use super::{
    accept, answers, assert_nothing_made, assert_refused, reason, restore, restore_command, take, text, with_pepper_of,
    world,
};

#[test]
fn a_restored_daemon_gives_the_same_answers_and_goes_on() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&conformance("world.json"));
    assert!(home.run(&["key", "revoke", "2"]).status.success());
    home.run(&["check", "--credential", "key 3:3A7QXW9ZK2M4N6P8R0S1T5V7Y"]);
    let file = take(&home, "backup");
    let (before, revision) = (answers(&home), home.json(&["status"])["revision"].clone());
    daemon.stop();
    let other = with_pepper_of(&home);
    let output = restore(&other.data(), &file);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&format!("revision {revision} of ")), "{}", text(&output.stdout));
    let daemon = other.start();
    assert_eq!(answers(&other), before);
    assert_eq!(other.json(&["status"])["revision"], revision);
    assert_eq!(other.json(&["status"])["alarms"], json!([]));
    // No id is used again, and changes go on.
    assert_ne!(other.json(&["key", "add", "new", "--agent", "4"])["id"], json!(2));
    daemon.stop();
    other.start().stop();
}

#[test]
fn an_empty_daemon_can_be_backed_up_and_restored() {
    let home = Home::new();
    let daemon = home.start();
    let file = take(&home, "backup");
    daemon.stop();
    let other = with_pepper_of(&home);
    assert!(restore(&other.data(), &file).status.success());
    let _daemon = other.start();
    other.apply(&world());
    assert_eq!(reason(&other, "key 1:CODEOFKEY1"), Reason::Ok);
}

/// A backup of the conformance world, and the home whose pepper it has.
fn backup_of_world() -> (Home, Vec<u8>) {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&conformance("world.json"));
    let backup = std::fs::read(take(&home, "backup")).unwrap();
    daemon.stop();
    (home, backup)
}

fn pepper_of(home: &Home) -> Pepper {
    let digits = std::fs::read_to_string(home.data().join("pepper")).unwrap();
    let mut pepper = Zeroizing::new([0; 32]);
    for (byte, pair) in pepper.iter_mut().zip(digits.trim().as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    }
    Pepper::new(pepper)
}

/// In memory where there is such a place: thousands of databases are begun.
fn quick_directory() -> TempDir {
    TempDir::with_prefix_in("kw", "/dev/shm").unwrap_or_else(|_| TempDir::with_prefix("kw").unwrap())
}

fn read(directory: &Path, pepper: &Pepper, bytes: &[u8]) -> Result<(), RestoreError> {
    let outcome = Restored::read(directory, pepper, bytes).map(drop);
    assert_nothing_made("an outcome that was dropped", directory);
    outcome
}

#[test]
fn a_backup_that_is_cut_off_anywhere_is_refused_as_that() {
    let (home, backup) = backup_of_world();
    let (directory, pepper) = (quick_directory(), pepper_of(&home));
    assert!(read(directory.path(), &pepper, &backup).is_ok());
    for length in (0..backup.len()).step_by(13).chain(backup.len() - 45..backup.len()) {
        match read(directory.path(), &pepper, &backup[..length]) {
            Err(RestoreError::NoBackup) => assert!(length < 16, "{length}"),
            Err(RestoreError::CutOff) => assert!(length >= 16, "{length}"),
            other => panic!("{length}: {other:?}"),
        }
    }
    let more = [&backup[..], b"x"].concat();
    assert!(matches!(read(directory.path(), &pepper, &more), Err(RestoreError::Altered(_))));
}

#[test]
fn a_flipped_bit_anywhere_in_a_backup_is_found() {
    let (home, mut backup) = backup_of_world();
    let (directory, pepper) = (quick_directory(), pepper_of(&home));
    let mut found = [0; 4];
    for byte in (0..backup.len()).step_by(5).chain(0..64).chain(backup.len() - 41..backup.len()) {
        let bit = 1 << (byte % 8);
        backup[byte] ^= bit;
        let kind = match read(directory.path(), &pepper, &backup) {
            Err(RestoreError::NoBackup) => 0,
            Err(RestoreError::CutOff) => 1,
            Err(RestoreError::Altered(_)) => 2,
            // The format's own number.
            Err(RestoreError::NewerFormat(_)) => 3,
            other => panic!("byte {byte}: {other:?}"),
        };
        found[kind] += 1;
        backup[byte] ^= bit;
    }
    say(&format!("flipped bits of a backup: no backup, cut off, altered, newer format: {found:?}"));
    assert!(read(directory.path(), &pepper, &backup).is_ok());
}

#[test]
fn every_reason_to_restore_nothing_has_its_sentence() {
    let (home, backup) = backup_of_world();
    let file = home.path().join("backup");
    let place = Home::new();
    let data = place.data();
    // No pepper yet: none is made that could not fit.
    let nobody = restore(&data, &file);
    assert_refused("no pepper", &nobody, 4, "put the one there that belongs to it (it is not in backups)", &data);
    assert!(!data.join("pepper").exists());
    std::fs::copy(home.data().join("pepper"), data.join("pepper")).unwrap();

    let altered = place.path().join("altered");
    let mut bytes = backup.clone();
    // In the seal: elsewhere it may be a length that changes.
    *bytes.last_mut().unwrap() ^= 1;
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "it is no backup of Keyward's"),
        ("something else", b"{\"keys\": []}, and more than sixteen bytes", "it is no backup of Keyward's"),
        ("cut off", &backup[..backup.len() - 1], "it is cut off: its end is missing"),
        ("altered", &bytes, "it is not what was written"),
    ];
    for (case, bytes, said) in cases {
        std::fs::write(&altered, bytes).unwrap();
        assert_refused(case, &restore(&data, &altered), 2, said, &data);
    }
    assert_refused("none", &restore(&data, Path::new("/nonexistent")), 2, "can't be opened", &data);

    let digits = std::fs::read(data.join("pepper")).unwrap();
    std::fs::write(data.join("pepper"), "ab".repeat(32)).unwrap();
    assert_refused("another pepper", &restore(&data, &file), 2, "it was taken with another pepper", &data);
    std::fs::write(data.join("pepper"), digits).unwrap();

    assert!(restore(&data, &file).status.success());
    let made = std::fs::read(place.database()).unwrap();
    let second = restore(&data, &file);
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("there is a database"), "{}", text(&second.stderr));
    assert_eq!(accept(&data, &file).status.code(), Some(2), "--accept-rollback replaces nothing");
    assert_eq!(std::fs::read(place.database()).unwrap(), made, "it is left as it was");
    let daemon = place.start();
    let third = restore(&data, &file);
    assert!(text(&third.stderr).contains("another keyward uses"), "{}", text(&third.stderr));
    daemon.stop();
}

#[test]
fn of_restores_at_the_same_time_one_makes_the_database() {
    let (home, _) = backup_of_world();
    let file = home.path().join("backup");
    let other = with_pepper_of(&home);
    let started: Vec<_> = (0..6).map(|_| restore_command(&other.data(), &file).spawn().unwrap()).collect();
    let mut done = 0;
    for child in started {
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        let is_refused = said.contains("another keyward uses") || said.contains("there is a database");
        assert!(output.status.success() || is_refused, "{said}");
        done += u32::from(output.status.success());
    }
    assert_eq!(done, 1);
    let _daemon = other.start();
    assert_eq!(other.json(&["status"])["alarms"], json!([]));
}

#[test]
fn a_full_disk_restores_nothing_and_later_there_is_room() {
    let (home, _) = backup_of_world();
    let file = home.path().join("backup");
    let other = Home::new();
    let Some(disk) = SmallDisk::mount(4, other.data()) else {
        return skipped("no file system can be mounted here: a full disk can't be made");
    };
    std::fs::copy(home.data().join("pepper"), other.data().join("pepper")).unwrap();
    let filling = disk.path().join("filling");
    for room in [0, 4 * 1024, 16 * 1024] {
        let mut full = std::fs::File::create(&filling).unwrap();
        while full.write_all(&[1; 4096]).is_ok() {}
        full.set_len(full.metadata().unwrap().len() - room).unwrap();
        let output = restore(&other.data(), &file);
        assert_refused(&format!("{room} bytes left"), &output, 4, "No space left on device", &other.data());
    }
    std::fs::remove_file(&filling).unwrap();
    let output = restore(&other.data(), &file);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let _daemon = other.start();
    assert_eq!(reason(&other, "key 2:WRONGWRONG"), Reason::BadCredential);
}

#[test]
fn a_restore_that_was_killed_leaves_what_the_next_one_clears_away() {
    let (home, _) = backup_of_world();
    let file = home.path().join("backup");
    let other = with_pepper_of(&home);
    std::fs::write(other.data().join("keyward.redb.new"), "half a database").unwrap();
    std::fs::write(other.data().join("watermark.new"), "half a watermark").unwrap();
    assert!(restore(&other.data(), &file).status.success());
    let _daemon = other.start();
    assert_eq!(reason(&other, "key 2:WRONGWRONG"), Reason::BadCredential);
    assert!(!other.data().join("keyward.redb.new").exists() && !other.data().join("watermark.new").exists());
}

/// System calls that leave something behind.
const LASTING_CALLS: &[&str] = &["openat", "pwrite64", "ftruncate", "fsync", "fdatasync", "rename", "unlink"];

#[test]
fn a_restore_may_be_killed_at_any_system_call() {
    if !has_program("strace") {
        return skipped("no strace here: restores can't be killed at chosen system calls");
    }
    let (home, _) = backup_of_world();
    let file = home.path().join("backup");
    let mut killed = Vec::new();
    for call in LASTING_CALLS {
        for when in 1.. {
            let other = with_pepper_of(&home);
            let plain = restore_command(&other.data(), &file);
            let mut traced = Command::new("strace");
            traced.args(["-f", "-o", "/dev/null", "-e", &format!("inject={call}:signal=KILL:when={when}")]);
            let through = traced.arg(plain.get_program()).args(plain.get_args()).output().unwrap().status.success();
            let at = format!("{call} number {when}");
            let again = restore(&other.data(), &file);
            if other.database().exists() && !again.status.success() {
                assert!(text(&again.stderr).contains("there is a database"), "{at}: {}", text(&again.stderr));
            } else {
                assert!(again.status.success(), "{at}: {}", text(&again.stderr));
            }
            if through || when % 7 == 1 {
                let daemon = other.start();
                assert_eq!(other.json(&["status"])["alarms"], json!([]), "{at}");
                assert_eq!(other.json(&["status"])["keys"], json!(10), "{at}");
                daemon.stop();
            }
            if through {
                killed.push(format!("{call} {}", when - 1));
                break;
            }
        }
    }
    say(&format!("restores killed at: {}", killed.join(", ")));
}

#[test]
fn every_table_of_the_database_is_in_a_backup() {
    let (home, backup) = backup_of_world();
    let other = with_pepper_of(&home);
    let file = other.path().join("backup");
    std::fs::write(&file, backup).unwrap();
    assert!(restore(&other.data(), &file).status.success());
    let tables = |home: &Home| {
        let database = Database::open(home.database()).unwrap();
        let reading = database.begin_read().unwrap();
        let mut names: Vec<_> = reading.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(tables(&home), tables(&other));
    // As the library has it: with every row of each.
    let open = |home: &Home| {
        let mut records = 0;
        let count = &mut |stretch: &[keyward::model::Record]| records += stretch.len();
        let (_, loaded) = Store::open(&home.data(), &pepper_of(home), count).unwrap();
        (loaded.damage, loaded.head.revision(), records)
    };
    assert_eq!(open(&home), open(&other));
}
