//! The pepper, wrong settings, reloading, stopping, and a daemon that hangs.

use std::collections::BTreeSet;

use crate::host::{Host, PEPPER, SERVICE};
use crate::machine::text;
use crate::support::wait_until;

#[test]
fn the_pepper_comes_from_the_credential_and_keys_work_after_a_restart() {
    let Some(host) = Host::running() else { return };
    assert!(!host.path("/var/lib/keyward/pepper").exists());
    assert!(host.key_works());
    host.ok(&["systemctl", "restart", SERVICE]);
    assert!(host.key_works());
    assert!(!host.path("/var/lib/keyward/pepper").exists());
}

#[test]
fn the_service_is_active_when_it_has_answered_at_every_door_and_says_how_it_goes() {
    let Some(host) = Host::running() else { return };
    assert_eq!(host.property(SERVICE, "Type"), "notify");
    let journal = host.journal();
    let place = |line: &str| journal.find(line).unwrap_or_else(|| panic!("{line:?} in {journal}"));
    assert!(place("ready") < place("Started keyward.service"), "{journal}");
    host.ok(&["systemctl", "restart", SERVICE]);
    wait_until("the status says how many credentials there are", || {
        host.property(SERVICE, "StatusText").starts_with("1 credentials, 2 sets, ")
    });
    assert!(host.property(SERVICE, "StatusText").ends_with(" q/s"));
}

/// A setting, how it comes to be, and what the daemon says before it refuses to start.
struct Refused {
    what: &'static str,
    make: fn(&Host),
    sentence: &'static str,
}

const REFUSED: [Refused; 7] = [
    Refused {
        what: "no pepper",
        make: |host| std::fs::remove_file(host.path(PEPPER)).unwrap(),
        sentence: "the service manager had no pepper to pass on: the file that LoadCredential=pepper: names in the unit",
    },
    Refused {
        what: "another pepper",
        make: |host| host.put(PEPPER, "a5".repeat(32), 0o600),
        sentence: "was made with another pepper: no code would ever match; put the pepper back that belongs to it",
    },
    Refused {
        what: "half a pepper",
        make: |host| host.put(PEPPER, "5a".repeat(31), 0o600),
        sentence: "is not 64 hexadecimal digits; put back the one that belongs to the database",
    },
    Refused {
        what: "mapped user ids",
        make: |host| host.drop_in(SERVICE, "[Service]\nPrivateUsers=yes\n"),
        sentence: "user ids are mapped in the daemon's namespace (PrivateUsers=yes)",
    },
    Refused {
        what: "a state directory that is open to all",
        make: |host| host.drop_in(SERVICE, "[Service]\nStateDirectoryMode=0777\n"),
        sentence: "anybody may write in /var/lib/keyward, and so put another database or socket there",
    },
    Refused {
        what: "an unknown key in the configuration",
        make: |host| host.put("/etc/keyward/keyward.toml", "conections = 5\n", 0o644),
        sentence: "conections",
    },
    Refused {
        what: "a socket with a wrong name",
        make: |host| host.drop_in("keyward-http.socket", "[Socket]\nFileDescriptorName=web\n"),
        sentence: "a socket was passed under the name \"web\", which no door has",
    },
];

#[test]
fn a_wrong_setting_is_refused_at_start_with_a_sentence_and_loses_nothing() {
    for Refused { what, make, sentence } in REFUSED {
        let Some(host) = Host::running() else { return };
        host.ok(&["systemctl", "stop", SERVICE]);
        make(&host);
        let journal = host.refused_start();
        assert!(journal.contains(sentence), "{what}: {journal}");
        host.undo();
        host.ok(&["systemctl", "start", SERVICE]);
        assert!(host.key_works(), "{what}");
    }
}

#[test]
fn a_reload_takes_a_good_configuration_and_refuses_a_bad_one_whole() {
    let Some(host) = Host::running() else { return };
    let pid = host.main_pid();
    let cookie = |session: &str| format!("[http]\nsession_cookie = \"{session}\"\n");
    let steps = [
        (cookie("one"), true, "the configuration was reloaded"),
        (cookie("a b"), false, "session_cookie"),
        ("conections = 5\n".to_owned(), false, "conections"),
        ("workers = 3\n".to_owned(), true, "the configuration was not reloaded: the one before stays in force"),
        (cookie("two"), true, "the configuration was reloaded"),
    ];
    for (config, is_sound, said) in steps {
        let before = host.journal();
        host.put("/etc/keyward/keyward.toml", &config, 0o644);
        assert_eq!(host.run(&["systemctl", "reload", SERVICE]).status.success(), is_sound, "{config}");
        wait_until("the reload is over", || host.journal()[before.len()..].contains(said));
        assert_eq!(host.property(SERVICE, "ActiveState"), "active", "{config}");
        assert!(host.key_works());
    }
    assert_eq!(host.main_pid(), pid);
}

#[test]
fn a_stop_is_an_orderly_one() {
    let Some(host) = Host::running() else { return };
    host.ok(&["systemctl", "stop", SERVICE]);
    let journal = host.journal();
    assert!(journal.contains("stopping: finishing what was received") && journal.contains("stopped"), "{journal}");
    assert!(journal.contains("Deactivated successfully") && !journal.contains("kill"), "{journal}");
    assert_eq!(host.property(SERVICE, "Result"), "success");
    assert_eq!(host.property(SERVICE, "ExecMainStatus"), "0");
}

#[test]
fn a_daemon_that_hangs_is_killed_and_comes_back_with_all_it_had() {
    let Some(host) = Host::running() else { return };
    host.drop_in(SERVICE, "[Service]\nWatchdogSec=2\n");
    host.ok(&["systemctl", "restart", SERVICE]);
    host.ok(&["keyward", "key", "add", "late", "--agent", "4"]);
    let pid = host.main_pid();
    // While it is well it says so, more often than it must.
    let mut signs = BTreeSet::new();
    wait_until("it has given six signs of life", || {
        signs.insert(host.property(SERVICE, "WatchdogTimestampMonotonic"));
        signs.len() > 6
    });
    assert_eq!(host.main_pid(), pid, "{}", host.journal());
    host.shell(&format!("kill -STOP {pid}"));
    wait_until("another daemon is there", || {
        let now = host.main_pid();
        now != pid && now != "0" && host.property(SERVICE, "ActiveState") == "active"
    });
    assert_eq!(host.property(SERVICE, "NRestarts"), "1");
    assert!(host.journal().contains("Watchdog timeout"), "{}", host.journal());
    assert!(host.key_works());
    assert!(host.ok(&["keyward", "key", "list"]).contains("late"));
}

#[test]
fn of_a_daemon_that_dies_nothing_is_left_in_a_file_and_nobody_reads_its_memory() {
    let Some(host) = Host::running() else { return };
    let pid = host.main_pid();
    let limits = host.ok(&["cat", &format!("/proc/{pid}/limits")]);
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_ascii_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    for (user, file) in [("keyward", "mem"), ("keyward", "environ"), ("www-data", "mem"), ("stranger", "maps")] {
        let output = host.run_as(user, &["head", "--bytes=1", &format!("/proc/{pid}/{file}")]);
        assert!(text(&output.stderr).contains("Permission denied"), "{user} {file}: {}", text(&output.stderr));
    }
    let traced = host.run_as("keyward", &["python3", "-c", ATTACH, &pid]);
    assert!(text(&traced.stdout).contains("Operation not permitted"), "{}", text(&traced.stderr));
    host.shell(&format!("kill -ABRT {pid}"));
    wait_until("another daemon is there", || !["0", &pid].contains(&host.main_pid().as_str()));
    let cores =
        host.shell("find / -xdev -type f '(' -name 'core' -o -name 'core.*' ')' -size +0 -newer /root/world.json");
    assert_eq!(cores, "");
    assert!(!host.journal().contains("dumped core") && !host.journal().contains("core-dump"), "{}", host.journal());
}

const ATTACH: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
print(os.strerror(ctypes.get_errno()) if libc.ptrace(16, int(sys.argv[1]), None, None) else 'attached')
";
