//! Last use of each code, gathered in memory; the writer stores it once a minute and at stop.
//!
//! Nearly every use fits one word: the current code of a dense id, from an IPv4 address or none. Such words lie in
//! tables by id, so that noting a use is one load and at most one store, without a lock, however many credentials there
//! are. All else (IPv6 addresses, retiring codes, sparse ids) is kept aside in maps behind locks.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use prefetch_index::prefetch_index;

use crate::directory::DENSE_IDS;
use crate::model::{
    CodeMark, CodeSlot, Credential, Id, Identity, LastUse, LastUses, Mode, UnixSeconds, client_address,
};

/// Words that are made together.
const LEAF_WORDS: usize = 64;
const PAGE_LEAVES: usize = 256;
/// Leaves in all, 128 MB of them: enough for 16 million dense ids. What would need more is kept aside.
const LEAVES_MAX: usize = 1 << 18;
/// Uses that one transaction stores, at most: changes wait for it.
const USES_PER_PART: usize = 4096;
/// Threads that answer questions seldom meet on one of so many locks.
const SHARDS: u8 = 32;
/// With so many credentials waiting in a shard further ones go unnoted until it was stored: about 100 MB in all.
const SHARD_ENTRIES_MAX: usize = 32 * 1024;
/// Codes that may be used for the first time and wait to be looked at, at most; of more in one second the others wait for
/// the round. To look one up takes microseconds, to store them all in one transaction tens of milliseconds.
const FIRST_USES_MAX: usize = 512;

/// A credential and its uses.
pub(super) type Used = (Mode, Id, LastUses);

type Shard = HashMap<(Mode, u64), LastUses>;

/// Uses that are not stored yet.
pub(super) struct UseBook {
    words: [Words; 3],
    /// So many leaves may still be made.
    leaves_left: AtomicUsize,
    aside: [Mutex<Shard>; SHARDS as usize],
    /// Credentials of which a code was used that is not known to have been used before.
    first: Mutex<Vec<(Mode, u64)>>,
    /// When the oldest use that waits was made; [`NOTHING_WAITS`] when none does.
    oldest: AtomicU64,
}

const NOTHING_WAITS: u64 = u64::MAX;

/// Where a round of storing has come to.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    mode: usize,
    id: u64,
    shard: usize,
    /// What waited the longest when the round began; `None` before it began.
    oldest: Option<u64>,
}

/// What one transaction is to store.
pub(super) struct Part {
    pub(super) uses: Vec<Used>,
    /// The words that say so; empty for a shard, which was emptied.
    words: Vec<(Mode, Id, Word)>,
    /// As in [`Place`].
    oldest: u64,
}

impl UseBook {
    pub(super) fn new() -> Self {
        Self::with_leaves(LEAVES_MAX)
    }

    fn with_leaves(leaves: usize) -> Self {
        Self {
            words: std::array::from_fn(|_| Words::default()),
            leaves_left: AtomicUsize::new(leaves),
            aside: std::array::from_fn(|_| Mutex::default()),
            first: Mutex::new(Vec::with_capacity(FIRST_USES_MAX)),
            oldest: AtomicU64::new(NOTHING_WAITS),
        }
    }

    /// Notes that a code was accepted. Within one second the first address counts.
    pub(super) fn note(&self, identity: &Identity<'_>, at: UnixSeconds, address: Option<&[u8]>) {
        let (mode, id) = (identity.mode, identity.credential_id);
        if identity.code == CodeSlot::Current
            && let Some(cell) = self.cell(mode, id)
        {
            let known = Word(cell.load(Ordering::Relaxed));
            let used = Word::new(identity.code_mark, at);
            if known.is_same_or_later(used) {
                return;
            }
            if let Some(used) = used.with_address(address) {
                cell.store(used.0, Ordering::Relaxed);
                self.note_waiting(at);
                if !known.knows(used) {
                    self.note_first((mode, id));
                }
                return;
            }
        }
        self.note_aside((mode, id), identity.code_mark, at, address);
    }

    fn note_first(&self, credential: (Mode, u64)) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.len() < FIRST_USES_MAX {
            first.push(credential);
        }
    }

    /// What waits of credentials of which a code may have been used for the first time. It waits on for the round.
    pub(super) fn take_first(&self, now: UnixSeconds, current: impl Fn(Mode, u64) -> Option<CodeMark>) -> Vec<Used> {
        // Made before the lock is taken, and only when it is needed: nothing is allocated by those who note.
        if self.first.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Vec::new();
        }
        let mut taken = Vec::with_capacity(FIRST_USES_MAX);
        std::mem::swap(&mut taken, &mut *self.first.lock().unwrap_or_else(PoisonError::into_inner));
        taken.sort_unstable();
        taken.dedup();
        let waiting = |(mode, id)| Some((mode, Id::new(id)?, self.waiting((mode, id), current(mode, id)?, now)));
        taken.into_iter().filter_map(waiting).collect()
    }

    /// Another code is current now in place of `old`: what was noted of that is kept under its whole mark, and none of it
    /// is taken for a use of the other.
    pub(super) fn set_aside(&self, (mode, id): (Mode, Id), old: CodeMark, now: UnixSeconds) {
        let Some(cell) = self.words[mode.index()].find(id.get()) else { return };
        let word = Word(cell.load(Ordering::Relaxed));
        match word.last_use(old, now) {
            Some(used) => {
                let mut shard = self.shard(id.get());
                if shard.len() < SHARD_ENTRIES_MAX {
                    shard.entry((mode, id.get())).or_default().note(used);
                }
            }
            // The other's already.
            None if word.waits() => return,
            None => {}
        }
        // Failing means that the other code was used just now.
        let _ = cell.compare_exchange(word.0, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The word of a credential, if it may have one.
    fn cell(&self, mode: Mode, id: u64) -> Option<&AtomicU64> {
        let words = &self.words[mode.index()];
        let found = words.find(id);
        if found.is_some() || id >= DENSE_IDS {
            return found;
        }
        let take_one = |left: usize| left.checked_sub(1);
        self.leaves_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).ok()?;
        Some(words.make(id))
    }

    /// Sets on its way from memory what [`UseBook::note`] reads first; [`UseBook::fetch`] goes on.
    pub(super) fn fetch_place(&self, mode: Mode, id: u64) {
        let (page, leaf, _) = split(id);
        if let Some(page) = self.words[mode.index()].page(page) {
            prefetch_index(page, leaf);
        }
    }

    /// Sets the word on its way from memory that notes the use.
    pub(super) fn fetch(&self, mode: Mode, id: u64) {
        let (page, leaf, word) = split(id);
        if let Some(leaf) = self.words[mode.index()].page(page).and_then(|page| page[leaf].get()) {
            prefetch_index(&**leaf, word);
        }
    }

    fn note_aside(&self, credential: (Mode, u64), code: CodeMark, at: UnixSeconds, address: Option<&[u8]>) {
        let mut shard = self.shard(credential.1);
        if shard.len() >= SHARD_ENTRIES_MAX && !shard.contains_key(&credential) {
            return;
        }
        let uses = shard.entry(credential).or_default();
        if uses.knows(code, at) {
            return;
        }
        let is_first = !uses.knows(code, UnixSeconds(0));
        uses.note(LastUse { code, at, address: address.and_then(client_address) });
        drop(shard);
        self.note_waiting(at);
        if is_first {
            self.note_first(credential);
        }
    }

    /// After the use itself was noted: a round that begins in between stores it, and its age is told a minute too long.
    fn note_waiting(&self, at: UnixSeconds) {
        // Nearly always something older waits: read first, so that threads don't take the line from each other.
        if at.0 < self.oldest.load(Ordering::Relaxed) {
            self.oldest.fetch_min(at.0, Ordering::Relaxed);
        }
    }

    /// When the oldest use was made that is not stored yet.
    pub(super) fn oldest_waiting(&self) -> Option<UnixSeconds> {
        let oldest = self.oldest.load(Ordering::Relaxed);
        (oldest != NOTHING_WAITS).then_some(UnixSeconds(oldest))
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, Shard> {
        let [.., low] = id.to_be_bytes();
        self.aside[usize::from(low % SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits for a credential.
    pub(super) fn pending(&self, credential: &Credential, now: UnixSeconds) -> LastUses {
        self.waiting((credential.mode, credential.id.get()), credential.codes.current.mark(), now)
    }

    fn waiting(&self, (mode, id): (Mode, u64), current: CodeMark, now: UnixSeconds) -> LastUses {
        let mut uses = self.shard(id).get(&(mode, id)).copied().unwrap_or_default();
        let word = self.words[mode.index()].find(id).map(|cell| Word(cell.load(Ordering::Relaxed)));
        if let Some(used) = word.and_then(|word| word.last_use(current, now)) {
            uses.note(used);
        }
        uses
    }

    /// What to store next of a round that has come to `place`; `None` when the round is over. `current` tells a
    /// credential's current code: a use of another one was noted while that took its place, and is let go.
    pub(super) fn next_part(
        &self,
        place: &mut Place,
        now: UnixSeconds,
        current: impl Fn(Mode, u64) -> Option<CodeMark>,
    ) -> Option<Part> {
        let oldest = *place.oldest.get_or_insert_with(|| self.oldest.swap(NOTHING_WAITS, Ordering::Relaxed));
        let mut part = Part { uses: Vec::new(), words: Vec::new(), oldest };
        while place.mode < self.words.len() && part.uses.len() < USES_PER_PART {
            let mode = Mode::ALL[place.mode];
            let Some((id, cell)) = self.words[place.mode].next_used(place.id) else {
                (place.mode, place.id) = (place.mode + 1, 0);
                continue;
            };
            place.id = id + 1;
            let word = Word(cell.load(Ordering::Relaxed));
            let used = current(mode, id).and_then(|code| word.last_use(code, now));
            match (used, Id::new(id)) {
                (Some(used), Some(id)) => {
                    let mut uses = LastUses::default();
                    uses.note(used);
                    part.uses.push((mode, id, uses));
                    part.words.push((mode, id, word));
                }
                (None, _) | (_, None) => clear(cell, word),
            }
        }
        while part.uses.is_empty() && place.shard < self.aside.len() {
            let shard = &self.aside[place.shard];
            let taken = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            part.uses.extend(taken.into_iter().filter_map(|((mode, id), uses)| Some((mode, Id::new(id)?, uses))));
            part.uses.sort_unstable_by_key(|(mode, id, _)| (*mode, *id));
            place.shard += 1;
        }
        (!part.uses.is_empty()).then_some(part)
    }

    /// Forgets what was stored, unless it was used again since.
    pub(super) fn stored(&self, part: &Part) {
        for (mode, id, word) in &part.words {
            if let Some(cell) = self.words[mode.index()].find(id.get()) {
                clear(cell, *word);
            }
        }
    }

    /// Keeps what could not be stored.
    pub(super) fn put_back(&self, part: Part) {
        // With it the rest of the round waits on.
        self.oldest.fetch_min(part.oldest, Ordering::Relaxed);
        if !part.words.is_empty() {
            // They were not taken away.
            return;
        }
        for (mode, id, older) in part.uses {
            let mut shard = self.shard(id.get());
            let newer = shard.entry((mode, id.get())).or_default();
            *newer = newer.merged(older);
        }
    }
}

/// Nothing waits in it any more; which code was used is remembered.
fn clear(cell: &AtomicU64, word: Word) {
    // Failing means that it was used again.
    let _ = cell.compare_exchange(word.0, word.0 & !WAITS, Ordering::Relaxed, Ordering::Relaxed);
}

/// A use in one word: a bit that says that it waits to be stored, the lower 23 bits of its time, a byte of the code's
/// mark, and the IPv4 address, 0 for none. Words are stored within minutes, so 97 days tell times apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

const WAITS: u64 = 1 << 63;
const TIME_BITS: u32 = 23;
const TIME_SHIFT: u32 = 40;
const MARK_SHIFT: u32 = 32;

impl Word {
    const fn new(code: CodeMark, at: UnixSeconds) -> Self {
        let [mark, ..] = code.to_bytes();
        Self(WAITS | (at.0 & time_mask()) << TIME_SHIFT | (mark as u64) << MARK_SHIFT)
    }

    /// The word with an address, if that fits.
    fn with_address(self, address: Option<&[u8]>) -> Option<Self> {
        match address.and_then(client_address) {
            None => Some(self),
            Some(IpAddr::V4(v4)) if !v4.is_unspecified() => Some(Self(self.0 | u64::from(v4.to_bits()))),
            Some(IpAddr::V4(_) | IpAddr::V6(_)) => None,
        }
    }

    const fn time(self) -> u64 {
        self.0 >> TIME_SHIFT & time_mask()
    }

    const fn mark(self) -> u8 {
        (self.0 >> MARK_SHIFT & 0xff) as u8
    }

    const fn waits(self) -> bool {
        self.0 & WAITS != 0
    }

    /// Whether the code of `used` was used before, since the start.
    const fn knows(self, used: Self) -> bool {
        self.0 != 0 && self.mark() == used.mark()
    }

    /// Whether there is a use of the same code here that `used` would not bring forward.
    const fn is_same_or_later(self, used: Self) -> bool {
        let ahead = self.time().wrapping_sub(used.time()) & time_mask();
        self.waits() && self.mark() == used.mark() && ahead <= time_mask() / 2
    }

    /// The use, if it is one of `code`; at the time nearest to `now` that the word can mean.
    fn last_use(self, code: CodeMark, now: UnixSeconds) -> Option<LastUse> {
        let [mark, ..] = code.to_bytes();
        if !self.waits() || self.mark() != mark {
            return None;
        }
        let ahead = self.time().wrapping_sub(now.0) & time_mask();
        // It may have been noted a moment after `now` was taken.
        let at = if ahead <= time_mask() / 2 { now.0 + ahead } else { (now.0 + ahead).saturating_sub(time_mask() + 1) };
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the address")]
        let v4 = Ipv4Addr::from_bits(self.0 as u32);
        let address = (!v4.is_unspecified()).then_some(IpAddr::V4(v4));
        Some(LastUse { code, at: UnixSeconds(at), address })
    }
}

const fn time_mask() -> u64 {
    (1 << TIME_BITS) - 1
}

type Leaf = [AtomicU64; LEAF_WORDS];
type Page = [OnceLock<Box<Leaf>>; PAGE_LEAVES];

/// A word for each dense id of a mode, made 64 at a time when the first of them is used.
struct Words {
    pages: Box<[OnceLock<Box<Page>>]>,
}

impl Default for Words {
    fn default() -> Self {
        const PAGES: usize = (DENSE_IDS >> PAGE_BITS) as usize;
        Self { pages: (0..PAGES).map(|_| OnceLock::new()).collect() }
    }
}

/// Ids of a page.
const PAGE_BITS: u32 = 14;
const _: () = assert!(1 << PAGE_BITS == PAGE_LEAVES * LEAF_WORDS);

/// Page, leaf in it, word in that.
const fn split(id: u64) -> (usize, usize, usize) {
    const LEAF_BITS: u32 = LEAF_WORDS.trailing_zeros();
    let low = id & ((1 << PAGE_BITS) - 1);
    ((id >> PAGE_BITS) as usize, (low >> LEAF_BITS) as usize, (low & (LEAF_WORDS as u64 - 1)) as usize)
}

impl Words {
    /// The word of a dense id, made if there is none.
    fn make(&self, id: u64) -> &AtomicU64 {
        let (page, leaf, word) = split(id);
        let page = self.pages[page].get_or_init(|| Box::new([const { OnceLock::new() }; PAGE_LEAVES]));
        &page[leaf].get_or_init(|| Box::new([const { AtomicU64::new(0) }; LEAF_WORDS]))[word]
    }

    fn find(&self, id: u64) -> Option<&AtomicU64> {
        let (page, leaf, word) = split(id);
        Some(&self.page(page)?[leaf].get()?[word])
    }

    fn page(&self, page: usize) -> Option<&Page> {
        self.pages.get(page)?.get().map(|page| &**page)
    }

    /// The first id from `id` on in whose word a use waits.
    fn next_used(&self, mut id: u64) -> Option<(u64, &AtomicU64)> {
        while id < DENSE_IDS {
            let (page, leaf, word) = split(id);
            let Some(page) = self.pages[page].get() else {
                id = (id | ((1 << PAGE_BITS) - 1)) + 1;
                continue;
            };
            let words = page[leaf].get().map_or([].as_slice(), |leaf| &leaf[word..]);
            let found = words.iter().zip(id..).find(|(cell, _)| Word(cell.load(Ordering::Relaxed)).waits());
            if let Some((cell, id)) = found {
                return Some((id, cell));
            }
            id = (id | (LEAF_WORDS as u64 - 1)) + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests;
