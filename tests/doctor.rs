//! `keyward doctor`: what is wrong is found, named, and comes with what to do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use keyward::model::{Pepper, UnixSeconds};
use keyward::store::Store;
use nix::unistd::{Gid, Group, Uid};
use serde_json::{Value, json};
use support::{Home, KEYWARD, conformance, wait_until};
use zeroize::Zeroizing;

/// A user that every host has, and that is in no group but its own.
const NOBODY: &str = "nobody";

fn doctor(home: &Home, words: &[&str]) -> Output {
    let mut command = std::process::Command::new(KEYWARD);
    command.args(["doctor", "--data"]).arg(home.data()).arg("--runtime").arg(home.runtime()).args(words);
    command.output().unwrap()
}

/// Exit status, and the findings that are not fine: level, check, what, what to do.
fn findings(home: &Home, words: &[&str]) -> (i32, Vec<[String; 4]>) {
    let output = doctor(home, &[&["--json"], words].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = report["findings"].as_array().unwrap().iter();
    let wrong: Vec<_> = all
        .filter(|finding| finding["level"] != "ok")
        .map(|finding| ["level", "check", "what", "do"].map(|key| text(&finding[key])))
        .collect();
    let status = output.status.code().unwrap();
    let has_problem = wrong.iter().any(|finding| finding[0] == "problem");
    assert_eq!(status, if has_problem { 4 } else { 0 }, "{report}");
    assert_eq!(report["health"], if has_problem { "problem" } else { "fine" });
    (status, wrong)
}

/// The one finding on `check` that is not fine.
fn finding(home: &Home, words: &[&str], check: &str) -> [String; 4] {
    let (_, wrong) = findings(home, words);
    let found: Vec<_> = wrong.iter().filter(|finding| finding[1] == check).collect();
    let [found] = &found[..] else { panic!("{check}: {wrong:?}") };
    (*found).clone()
}

fn expect(home: &Home, words: &[&str], check: &str, level: &str, what: &str, remedy: &str) {
    let found = finding(home, words, check);
    assert_eq!(found[0], level, "{found:?}");
    assert!(found[2].contains(what) && found[3].contains(remedy), "{found:?}");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn pepper(home: &Home) -> Pepper {
    let digits = fs::read_to_string(home.data().join("pepper")).unwrap();
    let mut pepper = Zeroizing::new([0; 32]);
    for (byte, pair) in pepper.iter_mut().zip(digits.trim().as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    }
    Pepper::new(pepper)
}

/// A daemon that ran, was given the conformance world, and stopped.
fn stopped() -> Home {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&conformance("world.json"));
    daemon.stop();
    home
}

#[test]
fn a_running_daemon_and_a_stopped_one_are_fine_and_looking_changes_nothing() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&conformance("world.json"));
    assert_eq!(findings(&home, &[]).0, 0);
    let text = String::from_utf8(doctor(&home, &[]).stdout).unwrap();
    for line in ["ok       daemon", "ok       query.sock", "ok       pepper", "ok       integrity", "ok       clock"] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
    }
    daemon.stop();
    let kept = || {
        let (_store, loaded) = Store::open(&home.data(), &pepper(&home), &mut |_| {}).unwrap();
        let mut names: Vec<_> = fs::read_dir(home.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        (loaded.head.revision(), loaded.head.committed_at(), names)
    };
    let before = kept();
    let (status, wrong) = findings(&home, &[]);
    assert_eq!(status, 0);
    assert!(wrong.iter().any(|finding| finding[1] == "daemon" && finding[3].contains("systemctl start")), "{wrong:?}");
    let text = String::from_utf8(doctor(&home, &[]).stdout).unwrap();
    assert!(text.contains("every row proved itself: revision 1"), "{text}");
    assert_eq!(kept(), before);
    home.start().stop();
}

#[test]
fn where_there_is_nothing_yet_nothing_is_made_and_nothing_is_a_problem() {
    let home = Home::new();
    let (status, wrong) = findings(&home, &[]);
    assert_eq!(status, 0);
    assert!(wrong.iter().any(|finding| finding[1] == "data directory" && finding[2].contains("is not there")));
    assert!(!home.data().exists() && !home.runtime().exists());
    expect(&home, &["--user", NOBODY], "user", "problem", "can't connect", "");
}

#[test]
fn a_user_that_cannot_connect_is_told_why_and_what_to_do() {
    let group = if Uid::effective().is_root() {
        ["daemon", "users", "adm"].iter().find_map(|name| Group::from_name(name).ok().flatten())
    } else {
        Group::from_gid(Gid::effective()).ok().flatten()
    };
    let Some(group) = group else { return support::skipped("no group to give sockets to") };
    let home = Home::new();
    let config = home.config(&format!("group = '{}'", group.name));
    let daemon = home.start_with(|command| {
        command.arg("--config").arg(&config);
    });
    let words = ["--config", config.to_str().unwrap(), "--user", NOBODY];
    set_mode(home.path(), 0o700);
    let place = home.path().canonicalize().unwrap();
    let place = place.to_str().unwrap();
    expect(&home, &words, "user", "problem", &format!("nobody can't connect: it may not pass through {place}"), place);
    set_mode(home.path(), 0o755);
    let (status, wrong) = findings(&home, &words);
    let told: Vec<_> = wrong.iter().filter(|finding| finding[1] == "user").collect();
    assert_eq!((status, told.len()), (4, 2), "{wrong:?}");
    for (found, socket) in told.iter().zip(["query.sock", "http.sock"]) {
        assert_eq!(found[2], format!("nobody can't connect to {socket}: it is not in the group {}", group.name));
        assert_eq!(found[3], format!("adduser nobody {}, then restart nobody's service", group.name));
    }
    let own = nix::unistd::User::from_uid(Uid::effective()).unwrap().unwrap().name;
    assert_eq!(findings(&home, &["--config", config.to_str().unwrap(), "--user", &own]).0, 0);
    expect(&home, &["--user", "no-such-user-here"], "user", "problem", "there is no user no-such-user-here", "name");
    set_mode(&home.runtime().join("query.sock"), 0o666);
    let open = finding(&home, &["--config", config.to_str().unwrap()], "query.sock");
    assert!(open[0] == "problem" && open[2].contains("open to everybody"), "{open:?}");
    daemon.stop();
}

#[test]
fn sockets_and_files_that_were_left_behind_or_are_in_the_way_are_told() {
    let home = Home::new();
    home.start().kill();
    expect(&home, &[], "query.sock", "warning", "did not stop in order", "none needed");
    fs::write(home.data().join("keyward.redb.new"), "").unwrap();
    fs::write(home.data().join("pepper.new"), "").unwrap();
    fs::write(home.data().join("watermark.new"), "").unwrap();
    let three = "keyward.redb.new and pepper.new and watermark.new";
    expect(&home, &[], "left-over files", "warning", three, "none needed");
    let admin = home.runtime().join("admin.sock");
    fs::remove_file(&admin).unwrap();
    fs::write(&admin, "").unwrap();
    expect(&home, &[], "admin.sock", "problem", "is no socket", "move it away");
    fs::remove_file(&admin).unwrap();
    let daemon = home.start();
    fs::remove_file(home.runtime().join("http.sock")).unwrap();
    expect(&home, &[], "http.sock", "problem", "not there although the daemon runs", "restart keyward");
    drop(daemon);
    set_mode(&home.runtime(), 0o777);
    expect(&home, &[], "runtime directory", "problem", "anybody may write", "chmod o-w");
}

#[test]
fn a_pepper_or_database_that_can_not_be_used_is_told_before_the_start_fails() {
    let home = stopped();
    let (pepper, database) = (home.data().join("pepper"), home.database());
    set_mode(&pepper, 0o644);
    expect(&home, &[], "pepper", "problem", "open to others", "chmod 600");
    set_mode(&pepper, 0o600);
    let own = fs::read(&pepper).unwrap();
    fs::write(&pepper, "0123\n").unwrap();
    expect(&home, &[], "pepper", "problem", "is not 64 hexadecimal digits", "put back");
    fs::write(&pepper, "00".repeat(32)).unwrap();
    expect(&home, &[], "integrity", "problem", "was made with another pepper", "put the pepper back");
    fs::remove_file(&pepper).unwrap();
    expect(&home, &[], "pepper", "problem", "no code can match", "put back");
    assert!(!pepper.exists(), "none was made");
    fs::write(&pepper, own).unwrap();
    set_mode(&pepper, 0o600);
    set_mode(&database, 0o640);
    expect(&home, &[], "database", "problem", "open to others", "chmod 600");
    set_mode(&database, 0o600);
    fs::write(&database, b"garbage").unwrap();
    expect(&home, &[], "integrity", "problem", "is damaged", "keep the damaged file");
    fs::write(&database, b"").unwrap();
    expect(&home, &[], "integrity", "problem", "it is empty", "keep the damaged file");
}

#[test]
fn a_watermark_that_the_start_would_refuse_is_told() {
    let home = stopped();
    let (watermark, database) = (home.data().join("watermark"), home.database());
    let old = fs::read(&database).unwrap();
    set_mode(&watermark, 0o644);
    expect(&home, &[], "watermark", "problem", "open to others", "chmod 600");
    set_mode(&watermark, 0o600);
    let daemon = home.start();
    assert!(home.run(&["key", "add", "another", "--agent", "1"]).status.success());
    daemon.stop();
    let own = fs::read(&watermark).unwrap();
    fs::write(&watermark, b"rubbish").unwrap();
    expect(&home, &[], "watermark", "problem", "is damaged, or of another pepper", "remove the watermark");
    fs::write(&watermark, own).unwrap();
    assert_eq!(findings(&home, &[]).0, 0);
    fs::write(&database, old).unwrap();
    expect(&home, &[], "watermark", "problem", "is not the last state", "put the last one back");
    fs::remove_file(&database).unwrap();
    expect(&home, &[], "watermark", "problem", "revision 2 of it was acknowledged", "restore a backup");
    fs::remove_file(&watermark).unwrap();
    assert_eq!(findings(&home, &[]).0, 0);
}

#[test]
fn a_row_that_does_not_prove_itself_is_found_offline_and_by_the_running_daemon() {
    let home = stopped();
    let mut bytes = fs::read(home.database()).unwrap();
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"Matthew")).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(home.database(), bytes).unwrap();
    let damaged = || {
        let (_, wrong) = findings(&home, &[]);
        // The name stands in the audit, too, which has its own sentence.
        let of_rows = |finding: &[String; 4]| finding[1] == "integrity" && finding[2].contains("table");
        let of_rows: Vec<_> = wrong.into_iter().filter(of_rows).collect();
        assert!(of_rows.iter().any(|finding| finding[2].contains("damaged rows in table agents: 4")), "{of_rows:?}");
        assert!(
            of_rows.iter().all(|finding| finding[0] == "problem" && finding[3] == "restore a backup"),
            "{of_rows:?}"
        );
        of_rows
    };
    let offline = damaged();
    let daemon = home.start();
    assert_eq!(damaged(), offline, "the daemon tells the same");
    daemon.stop();
}

#[test]
fn a_configuration_that_is_refused_is_the_one_finding() {
    let home = Home::new();
    let config = home.config("colour = 1");
    let (status, wrong) = findings(&home, &["--config", config.to_str().unwrap()]);
    assert_eq!((status, wrong.len()), (4, 1), "{wrong:?}");
    assert!(wrong[0][2].contains("unknown field `colour`") && wrong[0][3] == "correct the line", "{wrong:?}");
    let config = home.config("group = 'root'\n[admin]\ngroup = 'no-such-group-here'");
    expect(&home, &["--config", config.to_str().unwrap()], "group", "problem", "keyward can't start", "groupadd");
}

#[test]
fn a_clock_that_was_ahead_by_mistake_is_accepted_again_by_the_offline_command_only() {
    const AHEAD: u64 = 400 * 86_400;
    let home = stopped();
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    {
        let (store, loaded) = Store::open(&home.data(), &pepper(&home), &mut |_| {}).unwrap();
        store.begin(&loaded.head).unwrap().commit(UnixSeconds(now() + AHEAD)).unwrap();
    }
    expect(&home, &[], "clock", "problem", "s behind the last commit", "--accept-clock");
    let daemon = home.start();
    assert!(home.json(&["status"])["clock_behind"].as_u64().unwrap() > AHEAD - 3600);
    expect(&home, &[], "clock", "problem", "s behind the last commit", "--accept-clock");
    let refused = doctor(&home, &["--accept-clock"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another keyward uses"), "{refused:?}");
    daemon.stop();

    let done = doctor(&home, &["--accept-clock", "--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((done.status.code(), &report["accepted"], &report["revision"]), (Some(0), &json!(true), &json!(2)));
    assert_eq!(findings(&home, &[]).0, 0);
    let again = doctor(&home, &["--accept-clock"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to do"), "{again:?}");
    let daemon = home.start();
    let status = home.json(&["status"]);
    assert_eq!((&status["clock_behind"], &status["revision"]), (&json!(0), &json!(2)));
    let audit = home.run(&["--json", "audit"]);
    let audit = String::from_utf8(audit.stdout).unwrap();
    let last: Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
    let by = (&last["action"], &last["revision"], &last["uid"]);
    assert_eq!(by, (&json!("accept-clock"), &json!(2), &json!(Uid::current().as_raw())));
    assert!(status["now"].as_u64().unwrap() < now() + 3600, "{status}");
    daemon.stop();

    let nothing = Home::new();
    let refused = doctor(&nothing, &["--accept-clock"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(!nothing.data().exists(), "nothing was made");
}

#[test]
fn a_clock_that_may_be_far_ahead_is_a_finding_of_its_own() {
    let home = stopped();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    home.set_last_commit(now - 40 * 86_400);
    let daemon = home.start();
    wait_until("the clock was judged", || home.json(&["status"])["alarms"] != json!([]));
    expect(&home, &[], "clock", "problem", "the system's clock went", "if it is wrong, set it");
    let (_, found) = findings(&home, &[]);
    assert!(found.iter().all(|finding| finding[1] != "integrity"), "the database is whole: {found:?}");
    daemon.stop();
}

#[test]
fn made_by_root_the_lock_belongs_to_whom_the_directory_belongs_to() {
    if !Uid::effective().is_root() {
        return support::skipped("only root can look at another user's directory");
    }
    let home = stopped();
    let lock = home.data().join("keyward.lock");
    fs::remove_file(&lock).unwrap();
    for path in [home.data(), home.data().join("pepper"), home.data().join("watermark"), home.database()] {
        std::os::unix::fs::chown(path, Some(54_321), Some(54_321)).unwrap();
    }
    assert_eq!(findings(&home, &[]).0, 0);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&lock).unwrap()), 54_321);
    std::os::unix::fs::chown(home.database(), Some(0), Some(0)).unwrap();
    expect(&home, &[], "database", "problem", "does not belong to 54321", "chown 54321:");
}
