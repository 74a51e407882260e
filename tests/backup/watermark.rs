//! The watermark: an older database, or backup, is not taken for the last one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use keyward_proto::query::Reason;
use serde_json::json;

use super::support::Home;
use super::{accept, assert_refused, reason, restore, take, text, with_pepper_of, world};

fn watermark(home: &Home) -> PathBuf {
    home.data().join("watermark")
}

/// Ends or changes something of every kind, after what a copy or backup has.
fn go_on(home: &Home) {
    for command in [
        &["key", "add", "made since", "--agent", "1", "--id", "9"][..],
        &["key", "revoke", "9"],
        &["key", "revoke", "1"],
        &["key", "disable", "2"],
        &["token", "revoke", "1"],
        &["agent", "disable", "2"],
        &["key", "disable", "3"],
        &["key", "enable", "3"],
    ] {
        assert!(home.run(command).status.success(), "{command:?}");
    }
    let given = home.run_with_stdin(&["key", "set", "3", "--code-stdin"], b"ANOTHERCODE3\n");
    assert!(given.status.success(), "{}", text(&given.stderr));
}

const UNDONE: &str = "in force again would be: agent 2 (disabled), key 1 (revoked), key 2 (disabled), \
                      key 3 (with a code that was replaced), token 1 (revoked)";

#[test]
fn a_backup_that_is_older_is_refused_and_lists_what_it_would_put_in_force_again() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let old = take(&home, "old");
    go_on(&home);
    let new = take(&home, "new");
    daemon.stop();
    std::fs::remove_file(home.database()).unwrap();
    let output = restore(&home.data(), &old);
    assert_refused("older", &output, 2, UNDONE, &home.data());
    let said = text(&output.stderr);
    assert!(said.contains("--accept-rollback") && !said.contains("older ones"), "{said}");
    // The newest is no rollback, and what it has is the last state.
    assert!(restore(&home.data(), &new).status.success());
    home.start().stop();
    std::fs::remove_file(home.database()).unwrap();
    // Accepted: it is told what that means, and it is the last state from now on.
    let output = accept(&home.data(), &old);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.contains("are undone") && told.contains("in force again: key 1 (revoked)\n"), "{told}");
    for _ in 0..2 {
        let daemon = home.start();
        assert_eq!(reason(&home, "key 1:CODEOFKEY1"), Reason::Ok);
        assert_eq!(reason(&home, "key 3:CODEOFKEY3"), Reason::Ok);
        daemon.stop();
    }
}

#[test]
fn an_old_copy_of_the_database_that_was_put_back_is_refused_at_the_start() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    daemon.stop();
    let old = std::fs::read(home.database()).unwrap();
    let daemon = home.start();
    go_on(&home);
    // As a crash: the watermark is written at each commit, not at the stop.
    daemon.kill();
    let last = std::fs::read(home.database()).unwrap();
    std::fs::write(home.database(), &old).unwrap();
    for _ in 0..2 {
        let output = home.refused_start();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("is not the last state") && said.contains(UNDONE), "{said}");
    }
    std::fs::write(home.database(), &last).unwrap();
    let daemon = home.start();
    assert_eq!(reason(&home, "key 1:CODEOFKEY1"), Reason::Revoked);
    daemon.stop();
    // Whoever wants the old one all the same does what the sentence says.
    std::fs::write(home.database(), &old).unwrap();
    std::fs::remove_file(watermark(&home)).unwrap();
    let _daemon = home.start();
    assert_eq!(reason(&home, "key 1:CODEOFKEY1"), Reason::Ok);
}

#[test]
fn a_database_that_is_gone_is_not_replaced_by_an_empty_one() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let file = take(&home, "backup");
    daemon.stop();
    std::fs::remove_file(home.database()).unwrap();
    let output = home.refused_start();
    let said = text(&output.stderr);
    assert!(said.contains("there is no database") && said.contains("was acknowledged"), "{said}");
    assert!(!home.database().exists());
    assert!(restore(&home.data(), &file).status.success());
    let _daemon = home.start();
    assert_eq!(reason(&home, "key 1:CODEOFKEY1"), Reason::Ok);
}

#[test]
fn a_watermark_is_private_and_made_when_there_is_none_and_read_whatever_one_torn_write_left() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    daemon.kill();
    assert_eq!(std::fs::metadata(watermark(&home)).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(watermark(&home)).unwrap();
    home.start().stop();
    let whole = std::fs::read(watermark(&home)).unwrap();
    // The two heads; the last one written has the whole truth, the other is enough to start.
    for (damaged, starts) in [(&[0_usize][..], true), (&[4096], true), (&[0, 4096], false)] {
        let daemon = home.start();
        assert!(home.run(&["key", "set", "1", "--label", &format!("{damaged:?}")]).status.success());
        assert!(home.run(&["key", "set", "1", "--label", "again"]).status.success());
        daemon.stop();
        let mut bytes = std::fs::read(watermark(&home)).unwrap();
        for place in damaged {
            bytes[place + 20] ^= 1;
        }
        std::fs::write(watermark(&home), bytes).unwrap();
        if starts {
            home.start().stop();
        }
    }
    let output = home.refused_start();
    assert!(text(&output.stderr).contains("is damaged, or of another pepper"), "{}", text(&output.stderr));
    std::fs::write(watermark(&home), &whole[..100]).unwrap();
    assert!(text(&home.refused_start().stderr).contains("is damaged, or of another pepper"));
    std::fs::remove_file(watermark(&home)).unwrap();
    home.start().stop();
}

#[test]
fn a_damaged_watermark_is_no_reason_to_restore_anything_unasked() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let file = take(&home, "backup");
    daemon.stop();
    std::fs::remove_file(home.database()).unwrap();
    std::fs::write(watermark(&home), "rubbish").unwrap();
    assert!(text(&home.refused_start().stderr).contains("the watermark"));
    assert!(!home.database().exists());
    assert_refused("damaged", &restore(&home.data(), &file), 2, "--accept-rollback", &home.data());
    assert!(accept(&home.data(), &file).status.success());
    home.start().stop();
}

#[test]
fn what_happened_past_the_watermark_is_told_to_be_unknown() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let old = take(&home, "old");
    let behind = std::fs::read(watermark(&home)).unwrap();
    assert!(home.run(&["key", "revoke", "1"]).status.success());
    daemon.stop();
    // As a loss of power may leave it: the database is ahead of it, which is harmless.
    std::fs::write(watermark(&home), behind).unwrap();
    let daemon = home.start();
    assert!(home.run(&["key", "revoke", "2"]).status.success());
    assert_eq!(home.json(&["status"])["alarms"], json!([]));
    daemon.stop();
    std::fs::remove_file(home.database()).unwrap();
    let said = "in force again would be: key 2 (revoked), and older ones that can't be listed any more";
    assert_refused("a gap", &restore(&home.data(), &old), 2, said, &home.data());
}

/// Sets labels, so many times: a revision each.
fn change(home: &Home, times: usize) {
    for label in 0..times {
        assert!(home.run(&["key", "set", "1", "--label", &format!("label {label}")]).status.success());
    }
}

#[test]
fn a_state_of_another_history_is_refused_although_its_revision_is_not_lower() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let first = take(&home, "first");
    change(&home, 8);
    let left = take(&home, "left");
    daemon.stop();
    let left_database = std::fs::read(home.database()).unwrap();
    std::fs::remove_file(home.database()).unwrap();
    assert!(accept(&home.data(), &first).status.success());
    let daemon = home.start();
    assert!(home.run(&["key", "revoke", "2"]).status.success());
    let last = take(&home, "last");
    daemon.stop();

    std::fs::remove_file(home.database()).unwrap();
    let output = restore(&home.data(), &left);
    let said = "is not a continuation of the last state: it has revision 9, but its audit has not the change that was \
                acknowledged as revision 2";
    assert_refused("another history", &output, 2, said, &home.data());
    let said = text(&output.stderr);
    assert!(said.contains("--accept-rollback") && said.contains("key 2 (revoked)"), "{said}");
    std::fs::write(home.database(), &left_database).unwrap();
    std::fs::set_permissions(home.database(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = home.refused_start();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("is not a continuation of the last state") && said.contains("key 2 (revoked)"), "{said}");

    // What follows from the last state goes on.
    std::fs::remove_file(home.database()).unwrap();
    assert!(restore(&home.data(), &last).status.success());
    let daemon = home.start();
    change(&home, 2);
    daemon.stop();
    home.start().stop();
    // And the other history, where that is wanted.
    std::fs::remove_file(home.database()).unwrap();
    let output = accept(&home.data(), &left);
    let told = text(&output.stdout);
    assert!(told.contains("in another history") && told.contains("in force again: key 2 (revoked)\n"), "{told}");
    let _daemon = home.start();
    assert_eq!(reason(&home, "key 2:CODEOFKEY2"), Reason::Ok);
}

#[test]
fn a_clock_is_not_accepted_in_another_state_than_the_last_one() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    daemon.stop();
    let old = std::fs::read(home.database()).unwrap();
    let daemon = home.start();
    assert!(home.run(&["key", "revoke", "1"]).status.success());
    daemon.stop();
    std::fs::write(home.database(), &old).unwrap();
    for words in [&["--accept-clock"][..], &[]] {
        let mut command = std::process::Command::new(super::KEYWARD);
        command.args(["doctor", "--data"]).arg(home.data()).arg("--runtime").arg(home.runtime()).args(words);
        let output = command.output().unwrap();
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("is not the last state: it has revision 1, and 2 was acknowledged"), "{said}");
        assert!(said.contains("key 1 (revoked)"), "{said}");
    }
    assert!(text(&home.refused_start().stderr).contains("is not the last state"));
}

#[test]
fn a_restore_is_the_last_state_before_any_daemon_has_served_it() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let older = take(&home, "older");
    assert!(home.run(&["key", "revoke", "2"]).status.success());
    let newer = take(&home, "newer");
    daemon.stop();
    let other = with_pepper_of(&home);
    assert!(restore(&other.data(), &newer).status.success());
    std::fs::remove_file(other.database()).unwrap();
    let output = restore(&other.data(), &older);
    assert_refused("older than what was restored", &output, 2, "--accept-rollback", &other.data());
}
