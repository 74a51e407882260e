//! Promise 2.5: no code and no pepper is ever printed (but a new code, once), logged, put in an error, a core dump or a
//! file. The loudest daemon there is is put through everything, then all that it and its commands left is searched.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::fmt::{Debug, Display};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use keyward_proto::query::{Asker, Target};
use serde::Serialize;
use serde_json::{Value, json};
use support::{Home, KEYWARD, conformance};
use tempfile::TempDir;

/// What must not be found, with a name that may be printed.
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= 8, "{name} is long enough not to be found by chance");
        self.0.push((name.to_owned(), secret.to_vec()));
    }

    fn assert_not_in(&self, place: &str, bytes: &[u8]) {
        for (name, secret) in &self.0 {
            assert!(!contains(bytes, secret), "{place} holds {name}");
        }
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Runs commands and holds everything they print against the secrets.
struct Runner<'h> {
    home: &'h Home,
    secrets: Secrets,
}

impl Runner<'_> {
    fn run(&self, words: &[&str], stdin: &str) -> Output {
        let output = self.home.run_with_stdin(words, stdin.as_bytes());
        let command = format!("{:?}", &words[..words.len().min(2)]);
        self.secrets.assert_not_in(&format!("standard error of {command}"), &output.stderr);
        self.secrets.assert_not_in(&format!("standard output of {command}"), &output.stdout);
        output
    }

    fn done(&self, words: &[&str], stdin: &str) {
        let output = self.run(words, stdin);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn refused(&self, words: &[&str], stdin: &str) {
        let output = self.run(words, stdin);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{words:?}");
    }

    /// Makes a code: the one place and time that it is printed, and from then on a secret.
    fn make(&mut self, words: &[&str]) -> String {
        let output = self.home.run(words);
        let text = String::from_utf8(output.stdout).unwrap();
        let credential = match serde_json::from_str::<Value>(&text) {
            Ok(json) => json["credential"].as_str().unwrap().to_owned(),
            Err(_) => text.lines().find_map(|line| line.strip_prefix("credential  ")).unwrap().to_owned(),
        };
        let code = credential.split_once(':').unwrap().1;
        assert_eq!(text.matches(code).count(), 1, "{words:?} prints it once");
        self.secrets.add("a made code", code.as_bytes());
        self.secrets.assert_not_in("standard error", &output.stderr);
        credential
    }
}

/// A code as Keyward makes them, where none belongs.
const WRONG_PLACE: &str = "WR0NGP1ACE2PGCS8CNW62SR8T";
/// One that a person thought out: nothing tells it from other text.
const CHOSEN: &str = "chosen-in-wrong-place";
/// Files that are refused for where the code stands, which is `@`; TOML where it begins with `[[`.
const REFUSED_FILES: [&str; 22] = [
    r#"{"keys": [{"id": "@"}]}"#,
    r#"{"keys": [{"id": 3, "agent": "@"}]}"#,
    r#"{"keys": [{"id": 3, "enabled": "@"}]}"#,
    r#"{"keys": [{"id": 3, "expires_at": "@"}]}"#,
    r#"{"keys": [{"id": 3, "allow_ip": "@"}]}"#,
    r#"{"keys": [{"id": 3, "code": ["@"]}]}"#,
    r#"{"keys": [{"id": 3, "code": {"@": "@"}}]}"#,
    r#"{"keys": [{"id": 3, "code": "@ "}]}"#,
    r#"{"keys": [{"id": 3, "code": "@", "code": "@"}]}"#,
    r#"{"keys": [{"id": 3, "code": "@", "agent": 99}]}"#,
    r#"{"keys": [{"id": 3, "code": "@"}, {"id": 3, "code": "@"}]}"#,
    r#"{"keys": [{"id": 3, "code": @}]}"#,
    r#"{"keys": [{"id": 3, "code": "@"#,
    r#"{"keys": [{"id": 3, "code": "@\x"}]}"#,
    r#"{"keys": [{"id": 3, "@": 1}]}"#,
    r#"{"keys": "@"}"#,
    r#"{"agents": [{"id": 9, "attributes": "@"}]}"#,
    r#"{"sessions": [{"id": 9, "agent": 4, "code": "@;"}]}"#,
    "[[keys]]\nid = '@'\n",
    "[[keys]]\nid = 3\ncode = @\n",
    "[[keys]]\nid = 3\ncode = '@\n",
    "[[keys]]\nid = 3\n@ = 1\n",
];

fn refuse_files(runner: &Runner<'_>, inputs: &Path) {
    for (file, code) in REFUSED_FILES.iter().flat_map(|file| [(file, WRONG_PLACE), (file, CHOSEN)]) {
        if code == CHOSEN && (file.contains("\"@\": 1") || file.contains("\n@ = 1")) {
            // The name of a field must be shown, and nothing tells a chosen code from one.
            continue;
        }
        let path = inputs.join(if file.starts_with("[[") { "refused.toml" } else { "refused.json" });
        std::fs::write(&path, file.replace('@', code)).unwrap();
        runner.refused(&["apply", path.to_str().unwrap()], "");
        runner.refused(&["--json", "apply", path.to_str().unwrap()], "");
    }
}

/// Commands that hold a code where none belongs.
fn misuse(runner: &Runner<'_>) {
    let credential = format!("key 2:{WRONG_PLACE}");
    let pair = format!("2:{WRONG_PLACE}");
    let glued = format!("--code-stdin={WRONG_PLACE}");
    let option = format!("--code={WRONG_PLACE}");
    for words in [
        &["check", &credential][..],
        &["check", "GET", "/a", &credential],
        &["check", "GET", "/a", WRONG_PLACE],
        &["check", "GET", "/a", &pair],
        &["key", "show", &credential],
        &["key", "show", &pair],
        &["key", "show", WRONG_PLACE],
        &["key", "set", "3", WRONG_PLACE],
        &["key", "set", "3", "--code", WRONG_PLACE],
        &["key", "set", "3", &option],
        &["key", "set", "3", "--code-stdin", WRONG_PLACE],
        &["key", "set", "3", "--code-stdin", "a-given-code"],
        &["key", "set", "3", &glued],
        &["key", "set", "3", "--expires", WRONG_PLACE],
        &["key", WRONG_PLACE],
        &[WRONG_PLACE],
    ] {
        runner.refused(words, "");
    }
    for stdin in ["short", "a-given-code with a blank", &"a-given-code".repeat(20)] {
        runner.refused(&["key", "set", "3", "--code-stdin"], stdin);
    }
}

/// Questions with right, wrong and malformed codes, to both sockets' clients and the command line.
fn ask(runner: &Runner<'_>, credentials: &[String]) {
    let mut client = runner.home.query();
    for credential in credentials {
        for words in [&["GET", "/api/v2/tickets"][..], &["GET", "/nothing"], &["--tag", "a"], &[]] {
            runner.run(&[&["check", "--credential", credential], words].concat(), "");
            runner.run(&[&["--json", "check", "--credential", "-"], words].concat(), credential);
        }
        let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
        client.check(asker, Target::Endpoint { method: b"GET", path: b"//" }).unwrap();
        client.batch(asker, &[Target::Tags(vec![b"a"]), Target::Tags(vec![])]).unwrap();
        // Where other parts of a question belong.
        let odd = Asker { credential: None, agent: asker.credential, address: asker.credential };
        client.check(odd, Target::Endpoint { method: credential.as_bytes(), path: credential.as_bytes() }).unwrap();
    }
    // Bytes that are no frame, with a code among them.
    let mut stream = std::os::unix::net::UnixStream::connect(runner.home.runtime().join("query.sock")).unwrap();
    let _ = stream.write_all(&[&[0xff; 4][..], credentials[0].as_bytes()].concat());
}

/// All files below a directory; sockets hold nothing.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files.extend(files_below(&entry.path())),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

fn pepper_of(home: &Home, secrets: &mut Secrets) {
    let digits = std::fs::read_to_string(home.data().join("pepper")).unwrap();
    let digits = digits.trim();
    let bytes: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect();
    secrets.add("the pepper in hexadecimal", digits.as_bytes());
    secrets.add("the pepper in upper case", digits.to_uppercase().as_bytes());
    secrets.add("half of the pepper", &bytes[..16]);
    secrets.add("the other half of the pepper", &bytes[16..]);
}

/// The credentials of `world.json`, each of whose codes becomes a secret.
fn world_credentials(secrets: &mut Secrets) -> Vec<String> {
    let world = conformance("world.json");
    let mut credentials = Vec::new();
    for (section, scheme) in [("keys", "key"), ("tokens", "token"), ("sessions", "session")] {
        for record in world[section].as_array().unwrap() {
            let code = record["code"].as_str().unwrap();
            secrets.add("a code of the world", code.as_bytes());
            credentials.push(format!("{scheme} {}:{code}", record["id"]));
        }
    }
    credentials
}

/// A label, no secret: it must be found where a code must not.
const MARKER: &str = "a label that is stored as it is";

/// What was looked through, so that nothing was looked through in vain.
fn search(home: &Home, secrets: &Secrets) {
    let mut names = Vec::new();
    for path in files_below(home.path()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name != "pepper" {
            secrets.assert_not_in(&name, &std::fs::read(&path).unwrap());
        }
        names.push(name);
    }
    for wanted in ["keyward.redb", "log", "pepper"] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} was looked through: {names:?}");
    }
}

/// Nor a hash, in any writing.
fn no_hash_is_in_the_audit(home: &Home, credentials: &[String]) {
    let digits = std::fs::read_to_string(home.data().join("pepper")).unwrap();
    let bytes = std::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap());
    let pepper = keyward::model::Pepper::new(zeroize::Zeroizing::new(bytes));
    let audit = home.run(&["--json", "audit"]).stdout;
    assert!(contains(&audit, MARKER.as_bytes()), "the audit tells of what was changed");
    let mut hashed = 0;
    for presented in credentials.iter().filter_map(|c| keyward::model::PresentedCredential::parse(c.as_bytes())) {
        let hash = pepper.hash(presented.mode, presented.id, presented.code);
        let hex: String = hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        for form in [hash.as_bytes(), &hex.as_bytes()[..16], &hex.to_uppercase().as_bytes()[..16]] {
            assert!(!contains(&audit, form), "the audit holds a hash");
        }
        hashed += 1;
    }
    assert!(hashed > 5);
}

/// Backups, what refuses them, and exports: hashes are in the files that were asked for and nowhere that is printed.
fn keep_copies(runner: &Runner<'_>) {
    let path = |name: &str| runner.home.path().join(name).to_str().unwrap().to_owned();
    let (backup, hashes) = (path("backup"), path("hashes.json"));
    runner.done(&["backup", &backup], "");
    runner.refused(&["backup", &backup], "");
    runner.done(&["export", "--with-hashes", "--out", &hashes], "");
    runner.done(&["export"], "");
    runner.done(&["apply", &hashes], "");
    let exported: Value = serde_json::from_slice(&std::fs::read(&hashes).unwrap()).unwrap();
    let mut printed = Secrets(Vec::new());
    for key in exported["keys"].as_array().unwrap() {
        let hash = key["hash"].as_str().unwrap().strip_prefix("keyward:").unwrap();
        printed.add("a hash", hash.as_bytes());
    }
    printed.assert_not_in("the log", &std::fs::read(runner.home.log()).unwrap());
    let plain = runner.run(&["--json", "export"], "");
    printed.assert_not_in("an export without hashes", &plain.stdout);
    // A file with a hash that is none is refused without it.
    let wrong = json!({"keys": [{"id": 50, "hash": format!("keyward:{WRONG_PLACE}")}]}).to_string();
    runner.refused(&["apply", "-"], &wrong);
    let data = path("restored");
    for data in [&path("data"), &data] {
        let output = runner.run(&["restore", &backup, "--data", data], "");
        assert_eq!(output.status.code(), Some(4), "in use, or without a pepper");
    }
    std::fs::copy(runner.home.data().join("pepper"), runner.home.path().join("restored/pepper")).unwrap();
    runner.refused(&["restore", &hashes, "--data", &data], "");
    runner.done(&["restore", &backup, "--data", &data], "");
}

/// Starts it with the quietest file and the loudest environment, which goes before the file.
fn loud_daemon(home: &Home) -> support::Daemon<'_> {
    let config = home.config("log = 'off'\n");
    home.start_with(|command| {
        command.arg("--config").arg(config).env("KEYWARD_LOG", "trace");
    })
}

#[test]
fn no_code_and_no_pepper_is_found_in_anything_that_is_printed_logged_or_stored() {
    let home = Home::new();
    let daemon = loud_daemon(&home);
    let inputs = TempDir::new().unwrap();
    let mut secrets = Secrets(Vec::new());
    pepper_of(&home, &mut secrets);
    let mut credentials = world_credentials(&mut secrets);
    secrets.add("a code in the wrong place", WRONG_PLACE.as_bytes());
    secrets.add("a chosen code in the wrong place", CHOSEN.as_bytes());
    secrets.add("a given code", b"a-given-code");
    secrets.add("a replacing code", b"a-replacing-code");
    secrets.add("a rotated code", b"a-rotated-code");
    let mut runner = Runner { home: &home, secrets };

    let world = inputs.path().join("world.json");
    std::fs::write(&world, conformance("world.json").to_string()).unwrap();
    let world = world.to_str().unwrap();
    runner.done(&["apply", "--dry-run", world], "");
    runner.done(&["apply", world], "");
    runner.done(&["--json", "apply", world, "--prune"], "");
    runner.done(&["key", "add", "given", "--agent", "4", "--id", "50", "--code-stdin"], "a-given-code\n");
    credentials.push("key 50:a-given-code".to_owned());
    credentials.push(runner.make(&["key", "add", "made", "--agent", "4"]));
    credentials.push(runner.make(&["--json", "key", "add", "made", "--superuser"]));
    credentials.push(runner.make(&["token", "issue", "made", "--agent", "4"]));
    credentials.push(runner.make(&["--json", "session", "open", "--agent", "1", "--ttl", "1h"]));
    let replacing = json!({"keys": [{"id": 50, "code": "a-replacing-code"}]}).to_string();
    runner.done(&["apply", "-", "--dry-run"], &replacing);
    runner.done(&["--json", "apply", "-"], &replacing);
    credentials.push("key 50:a-replacing-code".to_owned());
    runner.done(&["key", "rotate", "50", "--code-stdin"], "a-rotated-code\n");
    credentials.push("key 50:a-rotated-code".to_owned());
    runner.refused(&["key", "rotate", "50", "--code-stdin"], "a-rotated-code\n");
    credentials.push(runner.make(&["key", "rotate", "50", "--grace", "1h"]));
    credentials.push(runner.make(&["--json", "key", "rotate", "50", "--now"]));
    for malformed in
        ["key2:a-given-code", "key 2 :a-given-code", "Bearer a-given-code", "a-given-code", "key 2:a-given-code "]
    {
        credentials.push(malformed.to_owned());
    }
    credentials.push(format!("key 2:{WRONG_PLACE}"));

    ask(&runner, &credentials);
    refuse_files(&runner, inputs.path());
    misuse(&runner);
    for words in [
        &["key", "show", "50"][..],
        &["key", "list"],
        &["--json", "key", "list"],
        &["--json", "token", "list"],
        &["session", "list"],
        &["agent", "list"],
        &["endpoint", "list"],
        &["status"],
        &["--json", "status"],
        &["key", "set", "50", "--label", MARKER],
        &["key", "disable", "50"],
        &["key", "revoke", "50"],
        &["explain", "--key", "50", "GET", "/api/v2/tickets"],
        &["--json", "explain", "--key", "2", "GET", "/"],
        &["audit"],
        &["--json", "audit"],
        &["audit", "verify"],
    ] {
        runner.done(words, "");
    }
    no_hash_is_in_the_audit(&home, &credentials);
    keep_copies(&runner);
    search(&home, &runner.secrets);
    daemon.stop();
    search(&home, &runner.secrets);
    assert!(contains(&std::fs::read(home.database()).unwrap(), MARKER.as_bytes()), "the search finds what is there");
    let daemon = loud_daemon(&home);
    ask(&runner, &credentials[..3]);
    daemon.kill();
    search(&home, &runner.secrets);
    assert!(home.log_text().contains("INFO keyward"), "the log was not off:\n{}", home.log_text());
}

#[test]
fn a_pepper_that_can_not_be_used_is_not_repeated() {
    let home = Home::new();
    let mut secrets = Secrets(Vec::new());
    home.start().stop();
    pepper_of(&home, &mut secrets);
    let pepper = home.data().join("pepper");
    let digits = std::fs::read_to_string(&pepper).unwrap();
    for broken in [format!("{digits}0"), digits.trim()[..63].to_owned(), format!("x{}", &digits[1..])] {
        secrets.add("a broken pepper", &broken.as_bytes()[1..33]);
        std::fs::write(&pepper, &broken).unwrap();
        let output = home.refused_start();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(4), 0));
        assert!(String::from_utf8_lossy(&output.stderr).contains("64 hexadecimal digits"));
        secrets.assert_not_in("standard error", &output.stderr);
    }
    std::fs::write(&pepper, "00".repeat(32)).unwrap();
    let output = home.refused_start();
    assert_eq!(output.status.code(), Some(4), "another pepper");
    secrets.add("the other pepper", "00".repeat(32).as_bytes());
    secrets.assert_not_in("standard error", &output.stderr);
}

fn skip(what: &str, why: &str) {
    // Not by eprintln, whose output the test harness keeps to itself when a test passes.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED: {what}, because {why}").unwrap();
}

fn core_limit(pid: i32) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

#[test]
fn the_daemon_leaves_no_core_dump() {
    let home = Home::new();
    let daemon = home.start();
    assert_eq!(core_limit(daemon.pid()), ["0", "0"], "soft and hard: nobody can raise it");
    daemon.stop();
}

/// Kills a child that is not the daemon's.
struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who owns a process's files below /proc: its user, or root when it can't be dumped (proc(5)).
fn owner_of_files(pid: i32) -> u32 {
    std::fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid()
}

#[test]
fn no_process_of_the_same_user_can_read_the_daemons_memory() {
    const NOBODY: u32 = 65534;
    const WHAT: &str = "whether the daemon's memory is closed to its own user";
    let home = Home::new();
    let is_root = nix::unistd::geteuid().is_root();
    let user = if is_root { NOBODY } else { nix::unistd::geteuid().as_raw() };
    let as_user = |command: &mut Command| {
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
    };
    let mut probe = Command::new(KEYWARD);
    as_user(probe.arg("--version").stdout(Stdio::null()));
    if !probe.status().is_ok_and(|status| status.success()) {
        return skip(WHAT, "the binary can't be run by another user than root where it lies");
    }
    let mut other = Command::new("sleep");
    as_user(other.arg("600"));
    let other = Bystander(other.spawn().unwrap());
    if owner_of_files(i32::try_from(other.0.id()).unwrap()) != user {
        return skip(WHAT, "here the files of any process belong to root");
    }
    if is_root {
        chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let daemon = home.start_with(as_user);
    assert_eq!(owner_of_files(daemon.pid()), 0, "only root may look into it");
    daemon.stop();
}

/// Whether a type has a trait, told when this is compiled: an inherent constant goes before a trait's, and the inherent
/// one exists only where the bound holds.
macro_rules! has {
    ($type:ty, $bound:path) => {{
        #[allow(dead_code, reason = "one of the two is")]
        trait Otherwise {
            const HAS: bool = false;
        }
        struct Probe<T>(std::marker::PhantomData<T>);
        impl<T> Otherwise for Probe<T> {}
        #[allow(dead_code, reason = "one of the two is")]
        impl<T: $bound> Probe<T> {
            const HAS: bool = true;
        }
        Probe::<$type>::HAS
    }};
}

macro_rules! can_be_printed {
    ($($type:ty),+ $(,)?) => {
        [$((stringify!($type), has!($type, Debug) || has!($type, Display) || has!($type, Serialize))),+]
    };
}

#[test]
fn no_type_that_holds_a_secret_can_be_printed() {
    use keyward::{decide, directory, model, registry, store};
    use keyward_proto::{admin, query};

    for (name, printable) in can_be_printed![u64, String, zeroize::Zeroizing<Vec<u8>>, Value] {
        assert!(printable, "the probe sees what can be printed: {name}");
    }
    for (name, printable) in can_be_printed![
        model::Pepper,
        model::Code,
        model::CodeHash,
        model::PresentedCode<'static>,
        model::PresentedCredential<'static>,
        model::RetiringCode,
        model::foreign::Digest,
        model::SlowHash,
        model::GivenHash,
        model::edit::GivenRetiring,
        model::Foreign,
        decide::ProofKey,
        decide::WantedProof,
        decide::Upgrade,
        model::Codes,
        model::Credential,
        model::CredentialEdit,
        model::Edit,
        model::Record,
        model::Change,
        directory::HotCredential,
        decide::Asker<'static>,
        registry::Order,
        registry::Outcome,
        admin::Secret,
        admin::CredentialPatch,
        admin::Patch,
        admin::AdminRequest,
        admin::Done,
        admin::AdminReply,
        Asker<'static>,
        query::Check<'static>,
        query::Batch<'static>,
        query::QueryRequest<'static>,
        keyward_proto::frame::Frame<'static>,
        store::BackupPart,
        store::ExportPart,
        store::Restored,
        store::Watermark,
        admin::BackupPart,
        admin::ExportedRecord,
        admin::ExportPage,
        admin::RetiringPatch,
    ] {
        assert!(!printable, "{name} can be printed");
    }
}
