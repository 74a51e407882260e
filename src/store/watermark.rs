//! The watermark: which revision was acknowledged last, kept beside the database, so that an older state of it is not
//! taken for the last one: a copy that was put back, or one bit of redb's header, which names the last of its commits.
//!
//! ```text
//!  0      head | 4096  head | 8192  fates of agents and keys, 48 bytes each | fates of tokens and sessions
//!  head:  magic (8) | revision (8) | committed at (8) | fates noted (8), complete since (8) of both halves |
//!         audit (40) | MAC (32)
//!  fate:  how (1) | kind (1) | zeros (6) | id (8) | revision (8) | number (8) | MAC (16)
//! ```
//! Big-endian. The heads are written in turn, each in a block of its own, so that one that is torn by a power loss leaves
//! the other. The writer writes after a commit is durable and before it is acknowledged, and does not wait for the disk:
//! a watermark that is behind is harmless.
//!
//! The fates are two rings of the last times that something was revoked, removed or disabled: what an older state would
//! put in force again. There are two so that a day's logouts don't displace the keys that were revoked.
//!
//! A state whose revision is not lower is the last one, or follows from it, only if its audit holds the record that was
//! last then: its chain of hashes is another's in another history.

mod error;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

pub use error::{Half, Setback, Undone, WatermarkError, Way};

use super::{DATABASE_FILE, Head, Store, StoreFault};
use crate::model::{Id, Mode, Pepper, Record, RecordKey, Revision, UnixSeconds};

/// The watermark's name in the data directory.
pub const WATERMARK_FILE: &str = "watermark";
/// Its name while it is made.
pub const NEW_WATERMARK_FILE: &str = "watermark.new";
/// The last byte is the version.
const MAGIC: &[u8; 8] = b"kwmark\n\x02";
/// No block of a disk that is written whole or not at all is larger.
const HEAD_PLACE_BYTES: u64 = 4096;
const HEAD_BYTES: usize = 8 + 6 * 8 + AUDIT_BYTES + MAC_BYTES;
/// Where the audit's last record stands: its number and the hash of its chain.
const AUDIT_BYTES: usize = 40;
const AUDIT_AT: usize = HEAD_BYTES - MAC_BYTES - AUDIT_BYTES;
const MAC_BYTES: usize = 32;
const FATE_BYTES: usize = 48;
const FATE_MAC_BYTES: usize = 16;
const FATES_AT: u64 = 2 * HEAD_PLACE_BYTES;
const RING_BYTES: u64 = FATES_MAX * FATE_BYTES as u64;
/// Fates that are kept of each half: a day's revocations of a busy host, in 192 KiB.
const FATES_MAX: u64 = 4096;

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

/// The fates of one half.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ring {
    /// Fates noted so far; the next one's number.
    noted: u64,
    /// Every fate of a later revision is in the ring.
    complete_since: u64,
}

/// What a head says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    revision: u64,
    committed_at: u64,
    /// By [`Half`].
    rings: [Ring; 2],
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
        let order = |mark: Mark| (mark.revision, mark.committed_at, mark.rings.map(|ring| ring.noted));
        let later = |a: Mark, b: Mark| order(b) > order(a);
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
        let new = directory.join(NEW_WATERMARK_FILE);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        let revision = head.revision().0;
        let mark = Mark {
            revision,
            committed_at: head.committed_at().0,
            rings: [Ring { noted: 0, complete_since: revision }; 2],
            audit: audit_mark(head),
        };
        let mut watermark = Self { file, path: path.clone(), key: key_of(pepper), mark, turns: 0 };
        // All of it at once, so that no later write needs room.
        let bytes = usize::try_from(FATES_AT + 2 * RING_BYTES).unwrap_or(0);
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

    /// That there is no database may be only where no change of one was acknowledged: an empty one in its place would be
    /// an older state, too.
    ///
    /// # Errors
    /// [`WatermarkError::NoDatabase`]; see also [`Watermark::find`].
    pub fn expect_none(directory: &Path, pepper: &Pepper) -> Result<(), WatermarkError> {
        match Self::find(directory, pepper)? {
            Some(found) if found.revision() > Revision(0) => Err(WatermarkError::NoDatabase {
                database: directory.join(DATABASE_FILE),
                acknowledged: found.revision(),
                watermark: found.path,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes the state over that the database was opened with: refused if that is older, or another's. If it is later, the
    /// fates of what is between are not known.
    ///
    /// # Errors
    /// As [`Watermark::expect_last`], and [`WatermarkError::Io`].
    pub fn take_over(&mut self, store: &Store, head: &Head) -> Result<(), WatermarkError> {
        self.expect_last(store, head)?;
        if head.revision() > self.revision() {
            for ring in &mut self.mark.rings {
                ring.complete_since = head.revision().0;
            }
            self.note(head, &[]).map_err(|error| WatermarkError::Io(self.path.clone(), error))?;
        }
        Ok(())
    }

    /// Whether the state that the database was opened with is the last one, or follows from it.
    ///
    /// # Errors
    /// [`WatermarkError::SetBack`]; [`WatermarkError::Io`] where the database can't be read.
    pub fn expect_last(&self, store: &Store, head: &Head) -> Result<(), WatermarkError> {
        let database = store.path().to_path_buf();
        match self.setback(store, head) {
            Ok(None) => Ok(()),
            Ok(Some(setback)) => {
                let (watermark, setback) = (self.path.clone(), Box::new(setback));
                Err(WatermarkError::SetBack { database, watermark, setback })
            }
            Err(fault) => Err(WatermarkError::Io(database, io::Error::other(fault.to_string()))),
        }
    }

    /// What it would mean to go on from this state, if it is not the last one and does not follow from it.
    ///
    /// # Errors
    /// [`StoreFault::Storage`].
    pub fn setback(&self, store: &Store, head: &Head) -> Result<Option<Setback>, StoreFault> {
        let (found, acknowledged) = (head.revision(), self.revision());
        // From which revision on another history is another can't be told.
        let (way, since) = if found < acknowledged {
            (Way::Older, Some(found))
        } else if self.is_followed_by(store, head)? {
            return Ok(None);
        } else {
            (Way::Another, None)
        };
        // Where a record can't be read there are no names, which is said.
        let undone = self.undone_by(store, since).unwrap_or_else(|_| Undone::unknown());
        Ok(Some(Setback { way, found, acknowledged, undone }))
    }

    /// Whether the last change that was acknowledged is in the state's audit. What retention dropped, or damage made
    /// unreadable, can't be told from it.
    fn is_followed_by(&self, store: &Store, head: &Head) -> Result<bool, StoreFault> {
        let (mark, audit) = (self.mark.audit, head.audit());
        let number = number_at(&mark, 0);
        if number == 0 || number < audit.before {
            return Ok(true);
        }
        if number >= audit.last || head.revision() == self.revision() {
            return Ok(mark == audit_mark(head));
        }
        let hash = if number == audit.before { Some(audit.before_hash) } else { store.audit_hash(number)? };
        Ok(hash.is_none_or(|hash| hash.to_bytes() == mark[8..]))
    }

    /// Notes a commit and what it did to whom, without waiting for the disk.
    ///
    /// # Errors
    /// The system's. The watermark is behind then, which is harmless.
    pub fn note(&mut self, head: &Head, fates: &[(RecordKey, Fate)]) -> io::Result<()> {
        let revision = head.revision().0;
        for half in Half::ALL {
            let fates: Vec<_> = fates.iter().filter(|(key, _)| Half::of(key) == Some(half)).collect();
            self.note_fates(half, &fates, revision).inspect_err(|_| {
                // What is not written now is not written later.
                for ring in &mut self.mark.rings {
                    ring.complete_since = revision;
                }
            })?;
        }
        self.mark.revision = revision;
        self.mark.committed_at = head.committed_at().0;
        self.mark.audit = audit_mark(head);
        self.write_head()
    }

    fn note_fates(&mut self, half: Half, fates: &[&(RecordKey, Fate)], revision: u64) -> io::Result<()> {
        let kept = fates.len().min(usize::try_from(FATES_MAX).unwrap_or(usize::MAX));
        let ring = &mut self.mark.rings[half as usize];
        if kept < fates.len() {
            ring.complete_since = revision;
        }
        for (key, fate) in &fates[fates.len() - kept..] {
            let Some((kind, id)) = kind_and_id(key) else { continue };
            let number = ring.noted;
            if number >= FATES_MAX {
                let old = read_fate(&self.file, &self.key, half, number - FATES_MAX);
                ring.complete_since = ring.complete_since.max(old.map_or(revision, |(old, _)| old.revision));
            }
            let noted = Noted { fate: *fate, kind, id, revision, number };
            self.file.write_all_at(&sealed_fate(&self.key, &noted), fate_at(half, number))?;
            ring.noted += 1;
        }
        Ok(())
    }

    /// Waits until the disk has it.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// What would be in force again in `store`: what was ended or disabled after the revision `since`, which the store's
    /// state is of, and is not there. Without one, all that is known of; which code came last can't be told then.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], [`StoreFault::BadRow`].
    pub fn undone_by(&self, store: &Store, since: Option<Revision>) -> Result<Undone, StoreFault> {
        let mut incomplete = Vec::new();
        let mut fates: BTreeMap<RecordKey, (Option<Fate>, bool)> = BTreeMap::new();
        for half in Half::ALL {
            let ring = self.mark.rings[half as usize];
            let mut complete = ring.complete_since <= since.map_or(0, |since| since.0);
            for number in ring.noted.saturating_sub(FATES_MAX)..ring.noted {
                let Some((noted, key)) = read_fate(&self.file, &self.key, half, number) else {
                    complete = false;
                    continue;
                };
                if since.is_some_and(|since| noted.revision <= since.0) {
                    continue;
                }
                let (last, recoded) = fates.entry(key).or_default();
                match noted.fate {
                    Fate::Recoded if since.is_some() => *recoded = true,
                    Fate::Recoded => complete = false,
                    Fate::Ended | Fate::Disabled | Fate::Enabled => *last = Some(noted.fate),
                }
            }
            if !complete {
                incomplete.push(half);
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
        Ok(Undone { names, incomplete })
    }

    fn write_head(&mut self) -> io::Result<()> {
        let Mark { revision, committed_at, rings: [lasting, passing], audit } = self.mark;
        let rings = [lasting.noted, lasting.complete_since, passing.noted, passing.complete_since];
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        for (place, number) in [revision, committed_at].into_iter().chain(rings).enumerate() {
            bytes[8 + 8 * place..][..8].copy_from_slice(&number.to_be_bytes());
        }
        bytes[AUDIT_AT..AUDIT_AT + AUDIT_BYTES].copy_from_slice(&audit);
        let mac = blake3::keyed_hash(&self.key, &bytes[..HEAD_BYTES - MAC_BYTES]);
        bytes[HEAD_BYTES - MAC_BYTES..].copy_from_slice(mac.as_bytes());
        self.file.write_all_at(&bytes, self.turns % 2 * HEAD_PLACE_BYTES)?;
        self.turns += 1;
        Ok(())
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
    audit.copy_from_slice(&body[AUDIT_AT..]);
    Some(Mark {
        revision: number_at(body, 8),
        committed_at: number_at(body, 16),
        rings: [24, 40].map(|at| Ring { noted: number_at(body, at), complete_since: number_at(body, at + 8) }),
        audit,
    })
}

const fn fate_at(half: Half, number: u64) -> u64 {
    FATES_AT + half as u64 * RING_BYTES + number % FATES_MAX * FATE_BYTES as u64
}

fn fate_mac(key: &[u8; 32], bytes: &[u8; FATE_BYTES]) -> [u8; FATE_MAC_BYTES] {
    let hash = blake3::keyed_hash(key, &bytes[..FATE_BYTES - FATE_MAC_BYTES]);
    let mut mac = [0; FATE_MAC_BYTES];
    mac.copy_from_slice(&hash.as_bytes()[..FATE_MAC_BYTES]);
    mac
}

fn sealed_fate(key: &[u8; 32], noted: &Noted) -> [u8; FATE_BYTES] {
    let mut bytes = [0; FATE_BYTES];
    bytes[0] = noted.fate.number();
    bytes[1] = noted.kind;
    for (place, number) in [noted.id, noted.revision, noted.number].into_iter().enumerate() {
        bytes[8 + 8 * place..][..8].copy_from_slice(&number.to_be_bytes());
    }
    let mac = fate_mac(key, &bytes);
    bytes[FATE_BYTES - FATE_MAC_BYTES..].copy_from_slice(&mac);
    bytes
}

/// The fate of this number and whose it is, if it is there and proves itself.
fn read_fate(file: &File, key: &[u8; 32], half: Half, number: u64) -> Option<(Noted, RecordKey)> {
    let mut bytes = [0; FATE_BYTES];
    file.read_exact_at(&mut bytes, fate_at(half, number)).ok()?;
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
    let record = key_of_record(noted.kind, noted.id).filter(|record| Half::of(record) == Some(half))?;
    is_sound.then_some((noted, record))
}

/// An agent is 0, a credential 1 and its mode.
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
impl Watermark {
    /// So that it can't be written, or can again.
    pub(crate) fn reopen(&mut self, writable: bool) {
        self.file = OpenOptions::new().read(true).write(writable).open(&self.path).expect("it is there");
    }
}

#[cfg(test)]
mod tests;
