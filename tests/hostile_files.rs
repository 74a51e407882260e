//! Files that somebody else wrote and an operator hands to a command: each is refused in words, within bounded memory and
//! time, and nothing is changed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use raw::world;
use support::{Home, KEYWARD};

/// What a command may take for itself, in KiB: more than the largest file that is taken, with all that is made of it.
const MEMORY_KIB_MAX: u64 = 3 * 1024 * 1024;
/// Unoptimized, and beside other tests.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Deep enough to end any reader that goes down a call a level.
const DEEP: usize = 200_000;

fn run(home: &Home, words: &[&str]) -> Output {
    let limit = format!("ulimit -v {MEMORY_KIB_MAX} && exec \"$@\"");
    let began = Instant::now();
    let output = Command::new("sh")
        .args(["-c", &limit, "sh", KEYWARD])
        .args(words)
        .env("KEYWARD_RUNTIME", home.runtime())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(began.elapsed() < TIME_MAX, "{words:?} took {:?}", began.elapsed());
    output
}

/// Name and content of files that nothing takes.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let nested = |open: &str, close: &str| [open.repeat(DEEP), close.repeat(DEEP)].concat();
    let keys = |text: &str| format!("{{\"keys\": {text}}}");
    let texts = [
        ("lists.json", keys(&nested("[", "]"))),
        ("objects.json", keys(&nested("{\"a\":", "}"))),
        ("unclosed.json", "[".repeat(DEEP)),
        ("attributes.json", format!("{{\"agents\": [{{\"id\": 1, \"attributes\": {}}}]}}", nested("{\"a\":", "}"))),
        ("lists.yaml", nested("[", "]")),
        ("objects.yaml", nested("{a: ", "}")),
        ("blocks.yaml", "- ".repeat(DEEP)),
        ("lists.toml", format!("keys = {}", nested("[", "]"))),
        ("tables.toml", format!("keys = {}", nested("{a = ", "}"))),
        ("dotted.toml", format!("keys.{}a = 1", "a.".repeat(DEEP))),
        ("header.toml", format!("[keys.{}a]", "a.".repeat(DEEP))),
        ("float.json", keys("[{\"id\": 1e400}]")),
        ("digits.json", keys(&format!("[{{\"id\": {}}}]", "9".repeat(DEEP)))),
        ("negative.json", keys("[{\"id\": -1}]")),
        ("beyond.json", keys("[{\"id\": 9007199254740992}]")),
        ("digits.yaml", format!("keys: [{{id: {}}}]", "9".repeat(DEEP))),
        ("digits.toml", format!("keys = [{{id = {}}}]", "9".repeat(DEEP))),
        ("surrogate.json", keys("[{\"id\": 1, \"label\": \"\\ud800\"}]")),
        ("zero.json", keys("[{\"id\": 1, \"label\": \"\0\"}]")),
        ("cycle.json", "{\"openapi\":\"3.0.0\",\"paths\":{\"/a\":{\"$ref\":\"#/components/pathItems/a\"}},\"components\":{\"pathItems\":{\"a\":{\"$ref\":\"#/components/pathItems/a\"}}}}".to_owned()),
    ];
    let mut files: Vec<_> = texts.map(|(name, text)| (name, text.into_bytes())).into();
    for name in ["bytes.json", "bytes.yaml", "bytes.toml"] {
        files.push((name, [b"keys: \"", &[0xff, 0xfe, 0xc0, 0xaf][..], b"\""].concat()));
    }
    files
}

#[test]
fn whatever_a_file_holds_it_is_refused_in_words_and_within_bounds() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let before = home.json(&["status"])["revision"].clone();
    let commands: [&[&str]; 4] = [&["apply"], &["endpoint", "import"], &["key", "import"], &["audit", "verify"]];
    for (name, content) in files() {
        let path = home.path().join(name);
        std::fs::write(&path, content).unwrap();
        for command in commands {
            let output = run(&home, &[command, &[path.to_str().unwrap()]].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            // The audit's own answer to what is no chain is 4; an import tells of each line that it did not take.
            assert!(matches!(output.status.code(), Some(2 | 4)), "{command:?} {name}: {}: {said}", output.status);
            assert!(said.starts_with("keyward: "), "{command:?} {name}: {said}");
            assert!(said.len() < 4096 && !said.contains("panicked"), "{command:?} {name}: {said}");
        }
    }
    assert_eq!(home.json(&["status"])["revision"], before, "nothing was changed");
}

#[test]
fn what_never_ends_and_what_is_no_file_is_refused_within_bounds() {
    let home = Home::new();
    let directory = home.path().to_str().unwrap();
    // `apply` and the import end at their bounds, too, hundreds of mebibytes later.
    let table: [(&[&str], &str); 5] = [
        (&["audit", "verify"], "/dev/zero"),
        (&["config", "check", "--config"], "/dev/zero"),
        (&["apply"], directory),
        (&["endpoint", "import"], directory),
        (&["apply"], "/proc/self/mem"),
    ];
    for (command, path) in table {
        let output = run(&home, &[command, &[path]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(2 | 4)), "{command:?} {path}: {}: {said}", output.status);
        assert!(said.starts_with("keyward: ") && said.len() < 4096, "{command:?} {path}: {said}");
    }
}

#[test]
fn a_backup_that_claims_endless_rows_is_refused_within_bounds() {
    let home = Home::new();
    home.start().stop();
    let other = Home::new();
    std::fs::create_dir(other.data()).unwrap();
    std::fs::copy(home.data().join("pepper"), other.data().join("pepper")).unwrap();
    let magic = b"keyward backup\n\x01";
    // Table, bytes of the key, bytes of the row.
    for claim in [[0xff; 8], *b"\0\0\0\x01\xff\xff\xff\xff", *b"\xff\xff\xff\xff\0\0\0\x01"] {
        let file = other.path().join("backup");
        std::fs::write(&file, [magic, &[0][..], &claim, &[0; 64]].concat()).unwrap();
        let output = run(&other, &["restore", file.to_str().unwrap(), "--data", other.data().to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{claim:?}: {said}");
        assert!(said.contains("nothing was restored"), "{said}");
        assert!(!other.database().exists());
    }
}
