//! Data directory, pepper, database, clock, left-over files, room on the disk.

use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{Gid, Uid};

use super::doors::Met;
use super::person::{shown, user_name};
use super::{CLOCK_BEHIND_SECONDS, Findings, now};
use crate::config::{Config, Source};
use crate::daemon::files::{DirectoryLock, judge_writers};
use crate::daemon::pepper::PepperError;
use crate::daemon::{StartError, pepper};
use crate::model::{Kind, Mode, Pepper, UnixSeconds};
use crate::registry::{self, DATABASE_FILE, OpenError, Peer};
use crate::store::{Head, Loaded, NEW_WATERMARK_FILE, Store, StoreFault, WATERMARK_FILE, Watermark, WatermarkError};

/// Names that a start or a stop that was cut short leaves behind.
const LEFT_OVERS: [&str; 3] = ["keyward.redb.new", "pepper.new", NEW_WATERMARK_FILE];
/// With less free than this, changes may be refused at any moment.
const ROOM_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// A day's changes of a busy host, and then some.
const ROOM_BYTES_GOOD: u64 = 256 * 1024 * 1024;
const OTHERS: u32 = 0o077;
const HOW_TO_ACCEPT: &str =
    "set the system's clock; if the last commit's time was wrong, stop keyward and run keyward doctor --accept-clock";

/// Looks at what the daemon keeps; `daemon` is one that runs.
pub(super) fn look(config: &Config, daemon: Option<&Met>, findings: &mut Findings) {
    const CHECK: &str = "data directory";
    let data = &config.data;
    let home = match std::fs::metadata(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("{} is not there", data.display());
            findings.warning(CHECK, what, "start keyward, which makes it, or name another with --data");
            return;
        }
        Err(error) => return findings.unseen(CHECK, data, &error),
        Ok(found) if !found.is_dir() => {
            let what = format!("{} is no directory", data.display());
            return findings.problem(CHECK, what, "move it away, or name another with --data");
        }
        Ok(found) => found,
    };
    match judge_writers(data, &home) {
        Ok(()) => findings.ok(CHECK, format!("{} ({})", data.display(), shown(&home))),
        Err(error) => findings.problem_of(CHECK, &error),
    }
    let pepper = look_at_pepper(data, &home, daemon, findings);
    look_at_file("database", &data.join(DATABASE_FILE), &home, findings);
    look_at_file("watermark", &data.join(WATERMARK_FILE), &home, findings);
    match daemon {
        Some(Met { status: Some(status) }) => {
            look_at_alarms(&status.alarms, status.writable, findings);
            let ahead = |alarm: &&String| status.clock_behind <= CLOCK_BEHIND_SECONDS && is_of_clock(alarm);
            match status.alarms.iter().find(ahead) {
                Some(alarm) => findings.problem_of("clock", alarm),
                None => look_at_clock(status.clock_behind, findings),
            }
        }
        Some(Met { status: None }) => {}
        None => look_inside(data, pepper.as_ref(), findings),
    }
    look_at_left_overs(data, daemon.is_some(), findings);
    look_at_room(data, findings);
}

fn look_at_pepper(data: &Path, home: &Metadata, daemon: Option<&Met>, findings: &mut Findings) -> Option<Pepper> {
    const CHECK: &str = "pepper";
    let path = data.join(pepper::PEPPER_FILE);
    match pepper::load_installed(data) {
        Ok(Some(pepper)) => {
            match std::fs::metadata(&path) {
                Ok(found) => look_at_owner(CHECK, &path, &found, home, findings),
                Err(_) => findings.ok(CHECK, format!("a systemd credential, or {}", pepper::INSTALLED_FILE)),
            }
            Some(pepper)
        }
        Ok(None) if daemon.is_some_and(|met| met.status.is_some()) => {
            findings.ok(CHECK, "no file: the daemon has it as a systemd credential");
            None
        }
        Ok(None) if data.join(DATABASE_FILE).exists() => {
            let what = format!("there is a database but no {}: without it no code can match", path.display());
            let remedy = "put back the one that belongs to the database (it is not in backups); where the unit gives it \
                          as a credential, look while keyward runs";
            findings.problem(CHECK, what, remedy);
            None
        }
        Ok(None) => {
            findings.ok(CHECK, "none yet: the first start makes it");
            None
        }
        Err(PepperError::Io(path, error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            findings.unseen(CHECK, &path, &error);
            None
        }
        Err(error) => {
            findings.problem_of(CHECK, &error);
            None
        }
    }
}

/// What is kept must belong to whom the directory belongs to: the daemon runs as that user.
fn look_at_owner(check: &'static str, path: &Path, found: &Metadata, home: &Metadata, findings: &mut Findings) {
    let (shown, path) = (shown(found), path.display());
    if found.uid() != home.uid() {
        let owner = user_name(home.uid());
        let what = format!("{path} ({shown}) does not belong to {owner}, as the data directory does");
        findings.problem(check, what, format!("chown {owner}: {path}"));
    } else if found.mode() & OTHERS != 0 {
        findings.problem(check, format!("{path} ({shown}) is open to others"), format!("chmod 600 {path}"));
    } else {
        findings.ok(check, format!("{path} ({shown}, {} bytes)", found.len()));
    }
}

fn look_at_file(check: &'static str, path: &Path, home: &Metadata, findings: &mut Findings) {
    match std::fs::metadata(path) {
        Ok(found) => look_at_owner(check, path, &found, home, findings),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            findings.ok(check, "none yet: the next start makes it");
        }
        Err(error) => findings.unseen(check, path, &error),
    }
}

/// What a running daemon knows of its own database.
fn look_at_alarms(alarms: &[String], writable: bool, findings: &mut Findings) {
    const CHECK: &str = "integrity";
    // The clock has a finding of its own.
    let of_database = alarms.iter().filter(|alarm| !is_of_clock(alarm));
    let before = findings.0.len();
    for alarm in of_database {
        findings.problem_of(CHECK, alarm);
    }
    if !writable {
        findings.problem(CHECK, "changes are refused: the storage failed", "look at the log and for room on the disk");
    }
    if findings.0.len() == before {
        findings.ok(CHECK, "the daemon proved every row at its start but the audit's (`keyward audit verify` does that), and takes changes");
    }
}

fn is_of_clock(alarm: &str) -> bool {
    alarm.starts_with("the system's clock")
}

fn look_at_clock(behind: u64, findings: &mut Findings) {
    if behind > CLOCK_BEHIND_SECONDS {
        let what =
            format!("the system's clock stands {behind} s behind the last commit: times are judged by the later one");
        findings.problem("clock", what, HOW_TO_ACCEPT);
    } else {
        findings.ok("clock", "not behind the last commit");
    }
}

/// Walks along the whole chain.
fn look_at_audit(store: &Store, findings: &mut Findings) {
    const CHECK: &str = "audit";
    let walk = || {
        let mut check = store.begin_audit_check()?;
        while store.check_audit(&mut check)? {}
        Ok::<_, StoreFault>(check)
    };
    match walk() {
        Ok(check) if check.fault_count == 0 => {
            findings.ok(CHECK, format!("all of its {} records stand on those before them", check.records));
        }
        Ok(check) => {
            let first = check.faults.first().map(|fault| format!("record {}: {}", fault.number, fault.what));
            let what = format!("{} of its records are wrong; {}", check.fault_count, first.unwrap_or_default());
            findings.problem(
                CHECK,
                what,
                "start the daemon and run `keyward audit verify`; keep the database for examination",
            );
        }
        Err(fault) => findings.problem_of(CHECK, &fault),
    }
}

/// Opens the database of a daemon that does not run, and proves every row.
fn look_inside(data: &Path, pepper: Option<&Pepper>, findings: &mut Findings) {
    const CHECK: &str = "integrity";
    let Some(pepper) = pepper else { return };
    if !data.join(DATABASE_FILE).exists() {
        return look_at_watermark(Watermark::expect_none(data, pepper), findings);
    }
    let opened = open(data, pepper);
    let (store, loaded, _lock) = match opened {
        Ok(opened) => opened,
        Err(error) => return findings.problem_of(CHECK, &error),
    };
    for damage in &loaded.damage {
        findings.problem_of(CHECK, damage);
    }
    if loaded.damage.is_empty() {
        let rows = |kind| loaded.head.rows(kind);
        let credentials: u64 = Mode::ALL.into_iter().map(|mode| rows(Kind::Credential(mode))).sum();
        let what = format!(
            "every row proved itself: revision {}, {} agents, {} endpoints, {credentials} credentials, removed and revoked \
             ones too",
            loaded.head.revision().0,
            rows(Kind::Agent),
            rows(Kind::Endpoint)
        );
        findings.ok(CHECK, what);
    }
    look_at_audit(&store, findings);
    let watermark = Watermark::find(data, pepper);
    let told = watermark.and_then(|found| found.map_or(Ok(()), |found| found.expect_last(&store, &loaded.head)));
    look_at_watermark(told, findings);
    look_at_clock(loaded.head.committed_at().0.saturating_sub(now()), findings);
}

/// What is wrong is what the start would say.
fn look_at_watermark(told: Result<(), WatermarkError>, findings: &mut Findings) {
    const CHECK: &str = "watermark";
    let Err(error) = told else { return findings.ok(CHECK, "nothing that was acknowledged is missing") };
    let words = error.to_string();
    // Several things can be done about some.
    let (what, remedy) = words.split_once("; ").unwrap_or((&words, "see keyward help doctor"));
    findings.problem(CHECK, what, remedy);
}

/// Never makes a database: the file is there.
fn open(data: &Path, pepper: &Pepper) -> Result<(Store, Loaded, DirectoryLock), StartError> {
    let lock = DirectoryLock::take(data).map_err(StartError::Directory)?;
    let (store, loaded) = Store::open(data, pepper, &mut |_| {}).map_err(StartError::Database)?;
    Ok((store, loaded, lock))
}

fn look_at_left_overs(data: &Path, runs: bool, findings: &mut Findings) {
    const CHECK: &str = "left-over files";
    if let Err(error) = std::fs::read_dir(data) {
        return findings.unseen(CHECK, data, &error);
    }
    let found: Vec<_> = LEFT_OVERS.iter().filter(|name| data.join(name).exists()).copied().collect();
    if found.is_empty() {
        findings.ok(CHECK, "none");
        return;
    }
    let what = format!("{} in {}, of a start that was cut short", found.join(" and "), data.display());
    let remedy = if runs { "remove it: the daemon runs without it" } else { "none needed: the next start clears it" };
    findings.warning(CHECK, what, remedy);
}

fn look_at_room(data: &Path, findings: &mut Findings) {
    const CHECK: &str = "room";
    const MIB: u64 = 1024 * 1024;
    let room = match statvfs(data) {
        Ok(found) => found.blocks_available() * found.fragment_size(),
        Err(errno) => return findings.unseen(CHECK, data, &errno.into()),
    };
    let what = format!("{} MiB free for {}", room / MIB, data.display());
    let remedy = "make room: a full disk refuses changes, while questions go on being answered";
    if room < ROOM_BYTES_MIN {
        findings.problem(CHECK, what, remedy);
    } else if room < ROOM_BYTES_GOOD {
        findings.warning(CHECK, what, remedy);
    } else {
        findings.ok(CHECK, what);
    }
}

/// `doctor --accept-clock`: lets the time start from the system's clock again, although the last commit was later.
///
/// # Errors
/// A daemon runs, the database can't be opened or written, or it is not the last state.
pub fn accept_clock(source: &Source, json: bool, out: &mut impl Write) -> Result<(), StartError> {
    let config = source.load().map_err(StartError::Config)?;
    crate::daemon::process::harden().map_err(|error| StartError::System("protect the process's memory", error))?;
    let path = config.data.join(DATABASE_FILE);
    if let Err(error) = std::fs::metadata(&path) {
        return Err(StartError::Database(OpenError::Io(path, error)));
    }
    let missing = || PepperError::Missing(config.data.join(pepper::PEPPER_FILE));
    let pepper = pepper::load_installed(&config.data).and_then(|found| found.ok_or_else(missing));
    let pepper = pepper.map_err(StartError::Pepper)?;
    let (store, loaded, _lock) = open(&config.data, &pepper)?;
    let not_last = |error| StartError::Database(OpenError::Watermark(error));
    let mut watermark = Watermark::find(&config.data, &pepper).map_err(not_last)?;
    if let Some(watermark) = &mut watermark {
        watermark.take_over(&store, &loaded.head).map_err(not_last)?;
    }
    let (before, now) = (loaded.head.committed_at().0, now());
    let accepted = before > now;
    let head = if accepted { set_back(&store, &loaded.head, UnixSeconds(now))? } else { loaded.head };
    if let Some(watermark) = watermark.as_mut().filter(|_| accepted) {
        watermark.note(&head, &[]).map_err(|error| StartError::System("write the watermark", error))?;
    }
    let text = if json {
        let value =
            serde_json::json!({ "accepted": accepted, "before": before, "now": now, "revision": head.revision().0 });
        format!("{value}\n")
    } else if accepted {
        format!("done: the time starts from {now} again, {} s before the last commit's\n", before - now)
    } else {
        "nothing to do: the system's clock is not behind the last commit\n".to_string()
    };
    super::write(out, &text)
}

fn set_back(store: &Store, head: &Head, now: UnixSeconds) -> Result<Head, StartError> {
    let (uid, gid) = (Uid::current().as_raw(), Gid::current().as_raw());
    let by = Peer { uid, gid, pid: i32::try_from(std::process::id()).ok() };
    registry::accept_clock(store, head, now, by)
        .map_err(|fault| StartError::System("write the database", io::Error::other(fault.to_string())))
}
