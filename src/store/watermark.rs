//! The watermark: which revision was acknowledged last, kept beside the database, so that an older state of it is not
//! taken for the last one: a copy that was put back, or one bit of redb's header, which names the last of its commits.
//!
//! ```text
//!  0      head | 4096  head | 8192  fates, 48 bytes each
//!  head:  magic (8) | revision (8) | committed at (8) | fates noted (8) | complete since (8) | audit (40) | MAC (32)
//!  fate:  how (1) | kind (1) | zeros (6) | id (8) | revision (8) | number (8) | MAC (16)
//! ```
//! Big-endian. The heads are written in turn, each in a block of its own, so that one that is torn by a power loss leaves
//! the other. The writer writes after a commit is durable and before it is acknowledged, and does not wait for the disk:
//! a watermark that is behind is harmless.
//!
//! The fates are a ring of the last times that something was revoked, removed or disabled: what an older state would put
//! in force again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Head, Store, StoreFault};
use crate::model::{Id, Mode, Pepper, Record, RecordKey, Revision, UnixSeconds};

/// The watermark's name in the data directory.
pub const WATERMARK_FILE: &str = "watermark";
const NEW_FILE: &str = "watermark.new";
/// The last byte is the version.
const MAGIC: &[u8; 8] = b"kwmark\n\x01";
/// No block of a disk that is written whole or not at all is larger.
const HEAD_PLACE_BYTES: u64 = 4096;
const HEAD_BYTES: usize = 8 + 4 * 8 + AUDIT_BYTES + MAC_BYTES;
/// Where the audit's last record stands: its number and the hash of its chain.
const AUDIT_BYTES: usize = 40;
const MAC_BYTES: usize = 32;
const FATE_BYTES: usize = 48;
const FATE_MAC_BYTES: usize = 16;
const FATES_AT: u64 = 2 * HEAD_PLACE_BYTES;
/// Fates that are kept: a day's revocations of a busy host, in 192 KiB.
const FATES_MAX: u64 = 4096;
/// Names that a sentence lists before it only counts.
const NAMES_LISTED_MAX: usize = 1000;

/// What happened to a record, as far as an older state would undo it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Revoked, or removed.
    Ended,
    /// Disabled.
    Disabled,
    /// Enabled again.
    Enabled,
    /// Its code was replaced.
    Recoded,
}

impl Fate {
    const ALL: [Self; 4] = [Self::Ended, Self::Disabled, Self::Enabled, Self::Recoded];

    const fn number(self) -> u8 {
        self as u8
    }
}

/// Why a database can't be taken for the last state. Each says what to do.
#[derive(Debug)]
pub enum WatermarkError {
    /// It can't be read or made.
    Io(PathBuf, io::Error),
    /// It does not prove itself.
    Damaged(PathBuf),
    /// The database is older.
    Older {
        /// The database.
        database: PathBuf,
        /// Its revision.
        found: Revision,
        /// The last acknowledged one.
        acknowledged: Revision,
        /// The watermark.
        watermark: PathBuf,
        /// What would be in force again.
        undone: Undone,
    },
    /// There is no database.
    NoDatabase {
        /// Where it should be.
        database: PathBuf,
        /// The last acknowledged revision.
        acknowledged: Revision,
        /// The watermark.
        watermark: PathBuf,
    },
}

impl fmt::Display for WatermarkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(
                f,
                "cannot use the watermark {}: {error}; check that it belongs to the daemon's user",
                path.display()
            ),
            Self::Damaged(path) => write!(
                f,
                "the watermark {} is damaged, or of another pepper: whether the database is the last state can't be \
                 told; if it is, remove the watermark and start again",
                path.display()
            ),
            Self::Older { database, found, acknowledged, watermark, undone } => write!(
                f,
                "the database {} is not the last state: it has revision {}, and {} was acknowledged; put the last one \
                 back, or restore the newest backup; to go on from this one and lose what came after, remove {}; then \
                 {undone}",
                database.display(),
                found.0,
                acknowledged.0,
                watermark.display()
            ),
            Self::NoDatabase { database, acknowledged, watermark } => write!(
                f,
                "there is no database {}, and revision {} of it was acknowledged; put it back, or restore a backup; to \
                 begin with an empty one, remove {}",
                database.display(),
                acknowledged.0,
                watermark.display()
            ),
        }
    }
}

impl std::error::Error for WatermarkError {}

/// What would be in force again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// A few words each: `key 5 (revoked)`.
    pub names: Vec<String>,
    /// There are no others.
    pub complete: bool,
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() {
            let known = if self.complete { "nothing" } else { "what can't be listed any more" };
            return write!(f, "in force again would be: {known}");
        }
        let listed = &self.names[..self.names.len().min(NAMES_LISTED_MAX)];
        write!(f, "in force again would be: {}", listed.join(", "))?;
        if self.names.len() > listed.len() {
            write!(f, ", and {} more", self.names.len() - listed.len())?;
        }
        if self.complete { Ok(()) } else { f.write_str(", and older ones that can't be listed any more") }
    }
}

/// What a head says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    revision: u64,
    committed_at: u64,
    /// Fates noted so far; the next one's number.
    noted: u64,
    /// Every fate of a later revision is in the ring.
    complete_since: u64,
    /// See [`audit_mark`].
    audit: [u8; AUDIT_BYTES],
}

/// A fate with its place in the ring.
#[derive(Clone, Copy)]
struct Noted {
    fate: Fate,
    kind: u8,
    id: u64,
    revision: u64,
    number: u64,
}

/// The open watermark.
pub struct Watermark {
    file: File,
    path: PathBuf,
    key: Zeroizing<[u8; 32]>,
    mark: Mark,
    /// Heads written so far: even ones go to the first place.
    turns: u64,
}

impl Watermark {
    /// Opens the one in `directory`, if there is any.
    ///
    /// # Errors
    /// [`WatermarkError::Io`], [`WatermarkError::Damaged`].
    pub fn find(directory: &Path, pepper: &Pepper) -> Result<Option<Self>, WatermarkError> {
        let path = directory.join(WATERMARK_FILE);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| WatermarkError::Io(path.clone(), error))?,
        };
        let key = key_of(pepper);
        let heads = [0, 1].map(|place| read_head(&file, &key, place));
        let [first, second] = heads;
        let later = |a: Mark, b: Mark| (b.revision, b.committed_at, b.noted) > (a.revision, a.committed_at, a.noted);
        let (mark, turns) = match (first, second) {
            (Some(first), Some(second)) if later(first, second) => (second, 2),
            (Some(first), _) => (first, 1),
            (None, Some(second)) => (second, 2),
            (None, None) => return Err(WatermarkError::Damaged(path)),
        };
        Ok(Some(Self { file, path, key, mark, turns }))
    }

    /// Makes one that begins with `head`, in the place of one that may be there.
    ///
    /// # Errors
    /// [`WatermarkError::Io`].
    pub fn make(directory: &Path, pepper: &Pepper, head: &Head) -> Result<Self, WatermarkError> {
        let path = directory.join(WATERMARK_FILE);
        let failed = |error| WatermarkError::Io(path.clone(), error);
        let new = directory.join(NEW_FILE);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        let revision = head.revision().0;
        let mark = Mark {
            revision,
            committed_at: head.committed_at().0,
            noted: 0,
            complete_since: revision,
            audit: audit_mark(head),
        };
        let mut watermark = Self { file, path: path.clone(), key: key_of(pepper), mark, turns: 0 };
        // All of it at once, so that no later write needs room.
        let bytes = usize::try_from(FATES_AT).unwrap_or(0) + FATE_BYTES * usize::try_from(FATES_MAX).unwrap_or(0);
        watermark.file.write_all_at(&vec![0; bytes], 0).map_err(failed)?;
        watermark.write_head().map_err(failed)?;
        watermark.file.sync_all().map_err(failed)?;
        std::fs::rename(&new, &path).map_err(failed)?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(watermark)
    }

    /// The last acknowledged revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        Revision(self.mark.revision)
    }

    /// When that was committed.
    #[must_use]
    pub const fn committed_at(&self) -> UnixSeconds {
        UnixSeconds(self.mark.committed_at)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the state over that the database was opened with: refused if that is older. If it is later, the fates of
    /// what is between are not known.
    ///
    /// # Errors
    /// [`WatermarkError::Older`], [`WatermarkError::Io`].
    pub fn take_over(&mut self, store: &Store, head: &Head) -> Result<(), WatermarkError> {
        let (found, acknowledged) = (head.revision(), self.revision());
        if found < acknowledged {
            // Where the database can't be read there are no names, which is said.
            let undone = self.undone_by(store, found).unwrap_or(Undone { names: Vec::new(), complete: false });
            let (database, watermark) = (store.path().to_path_buf(), self.path.clone());
            return Err(WatermarkError::Older { database, found, acknowledged, watermark, undone });
        }
        if found > acknowledged {
            self.mark.complete_since = found.0;
            self.note(head, &[]).map_err(|error| WatermarkError::Io(self.path.clone(), error))?;
        }
        Ok(())
    }

    /// Notes a commit and what it did to whom, without waiting for the disk.
    ///
    /// # Errors
    /// The system's. The watermark is behind then, which is harmless.
    pub fn note(&mut self, head: &Head, fates: &[(RecordKey, Fate)]) -> io::Result<()> {
        let revision = head.revision().0;
        let kept = fates.len().min(usize::try_from(FATES_MAX).unwrap_or(usize::MAX));
        if kept < fates.len() {
            self.mark.complete_since = revision;
        }
        for (key, fate) in &fates[fates.len() - kept..] {
            let Some((kind, id)) = kind_and_id(key) else { continue };
            let number = self.mark.noted;
            let noted = Noted { fate: *fate, kind, id, revision, number };
            if number >= FATES_MAX {
                let given_up =
                    read_fate(&self.file, &self.key, number - FATES_MAX).map_or(revision, |old| old.revision);
                self.mark.complete_since = self.mark.complete_since.max(given_up);
            }
            self.file.write_all_at(&self.sealed_fate(&noted), fate_at(number))?;
            self.mark.noted += 1;
        }
        self.mark.revision = revision;
        self.mark.committed_at = head.committed_at().0;
        self.mark.audit = audit_mark(head);
        self.write_head()
    }

    /// Waits until the disk has it.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// What would be in force again in `store`, whose state is of `revision`: what was ended or disabled since and is not
    /// there.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], [`StoreFault::BadRow`].
    pub fn undone_by(&self, store: &Store, revision: Revision) -> Result<Undone, StoreFault> {
        let mut complete = self.mark.complete_since <= revision.0;
        let mut fates: BTreeMap<RecordKey, (Option<Fate>, bool)> = BTreeMap::new();
        for number in self.mark.noted.saturating_sub(FATES_MAX)..self.mark.noted {
            let known = read_fate(&self.file, &self.key, number);
            let Some((noted, key)) = known.and_then(|noted| Some((noted, key_of_record(noted.kind, noted.id)?))) else {
                complete = false;
                continue;
            };
            if noted.revision <= revision.0 {
                continue;
            }
            let (last, recoded) = fates.entry(key).or_default();
            match noted.fate {
                Fate::Recoded => *recoded = true,
                Fate::Ended | Fate::Disabled | Fate::Enabled => *last = Some(noted.fate),
            }
        }
        let mut names = Vec::new();
        for (key, (last, recoded)) in fates {
            // What came after that revision is not there at all.
            let Some(listed) = store.read(&key)? else { continue };
            let words = match last {
                _ if listed.record.is_ended() => None,
                Some(Fate::Ended) if matches!(key, RecordKey::Agent(_)) => Some("removed"),
                Some(Fate::Ended) => Some("revoked"),
                Some(Fate::Disabled) if is_enabled(&listed.record) => Some("disabled"),
                Some(Fate::Disabled | Fate::Enabled | Fate::Recoded) | None => {
                    recoded.then_some("with a code that was replaced")
                }
            };
            names.extend(words.map(|words| format!("{key} ({words})")));
        }
        Ok(Undone { names, complete })
    }

    fn write_head(&mut self) -> io::Result<()> {
        let Mark { revision, committed_at, noted, complete_since, audit } = self.mark;
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        for (place, number) in [revision, committed_at, noted, complete_since].into_iter().enumerate() {
            bytes[8 + 8 * place..][..8].copy_from_slice(&number.to_be_bytes());
        }
        bytes[40..40 + AUDIT_BYTES].copy_from_slice(&audit);
        let mac = blake3::keyed_hash(&self.key, &bytes[..HEAD_BYTES - MAC_BYTES]);
        bytes[HEAD_BYTES - MAC_BYTES..].copy_from_slice(mac.as_bytes());
        self.file.write_all_at(&bytes, self.turns % 2 * HEAD_PLACE_BYTES)?;
        self.turns += 1;
        Ok(())
    }

    fn sealed_fate(&self, noted: &Noted) -> [u8; FATE_BYTES] {
        let mut bytes = [0; FATE_BYTES];
        bytes[0] = noted.fate.number();
        bytes[1] = noted.kind;
        for (place, number) in [noted.id, noted.revision, noted.number].into_iter().enumerate() {
            bytes[8 + 8 * place..][..8].copy_from_slice(&number.to_be_bytes());
        }
        let mac = fate_mac(&self.key, &bytes);
        bytes[FATE_BYTES - FATE_MAC_BYTES..].copy_from_slice(&mac);
        bytes
    }
}

/// Number and hash of the audit's last record.
fn audit_mark(head: &Head) -> [u8; AUDIT_BYTES] {
    let audit = head.audit();
    let mut mark = [0; AUDIT_BYTES];
    mark[..8].copy_from_slice(&audit.last.to_be_bytes());
    mark[8..].copy_from_slice(&audit.hash.to_bytes());
    mark
}

fn key_of(pepper: &Pepper) -> Zeroizing<[u8; 32]> {
    pepper.derive("keyward 2026 watermark")
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(number)
}

fn read_head(file: &File, key: &[u8; 32], place: u64) -> Option<Mark> {
    let mut bytes = [0; HEAD_BYTES];
    file.read_exact_at(&mut bytes, place * HEAD_PLACE_BYTES).ok()?;
    let (body, mac) = bytes.split_at(HEAD_BYTES - MAC_BYTES);
    if &body[..8] != MAGIC || blake3::Hash::from_slice(mac).ok()? != blake3::keyed_hash(key, body) {
        return None;
    }
    let mut audit = [0; AUDIT_BYTES];
    audit.copy_from_slice(&body[40..]);
    Some(Mark {
        revision: number_at(body, 8),
        committed_at: number_at(body, 16),
        noted: number_at(body, 24),
        complete_since: number_at(body, 32),
        audit,
    })
}

const fn fate_at(number: u64) -> u64 {
    FATES_AT + number % FATES_MAX * FATE_BYTES as u64
}

fn fate_mac(key: &[u8; 32], bytes: &[u8; FATE_BYTES]) -> [u8; FATE_MAC_BYTES] {
    let hash = blake3::keyed_hash(key, &bytes[..FATE_BYTES - FATE_MAC_BYTES]);
    let mut mac = [0; FATE_MAC_BYTES];
    mac.copy_from_slice(&hash.as_bytes()[..FATE_MAC_BYTES]);
    mac
}

/// The fate of this number, if it is there and proves itself.
fn read_fate(file: &File, key: &[u8; 32], number: u64) -> Option<Noted> {
    let mut bytes = [0; FATE_BYTES];
    file.read_exact_at(&mut bytes, fate_at(number)).ok()?;
    let fate = Fate::ALL.into_iter().find(|fate| fate.number() == bytes[0])?;
    let noted = Noted {
        fate,
        kind: bytes[1],
        id: number_at(&bytes, 8),
        revision: number_at(&bytes, 16),
        number: number_at(&bytes, 24),
    };
    // No secret hangs on how long this takes: whoever can write the file can take it away.
    let is_sound = noted.number == number && bytes[FATE_BYTES - FATE_MAC_BYTES..] == fate_mac(key, &bytes);
    is_sound.then_some(noted)
}

/// An agent is 0, a credential 1 and its mode. Endpoints are not noted: whoever calls one must have a credential.
fn kind_and_id(key: &RecordKey) -> Option<(u8, u64)> {
    match key {
        RecordKey::Agent(id) => Some((0, id.get())),
        RecordKey::Credential(mode, id) => Some((1 + mode.number(), id.get())),
        RecordKey::Endpoint(..) => None,
    }
}

fn key_of_record(kind: u8, id: u64) -> Option<RecordKey> {
    let id = Id::new(id)?;
    match kind.checked_sub(1) {
        None => Some(RecordKey::Agent(id)),
        Some(number) => {
            Mode::ALL.into_iter().find(|mode| mode.number() == number).map(|m| RecordKey::Credential(m, id))
        }
    }
}

fn is_enabled(record: &Record) -> bool {
    match record {
        Record::Agent(agent) => agent.enabled,
        Record::Credential(credential) => credential.enabled,
        Record::Endpoint(_) => true,
    }
}

#[cfg(test)]
mod tests;
