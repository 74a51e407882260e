//! Last use of each code, gathered in memory; the writer stores it once a minute and at stop.
//!
//! Nearly every use fits one word: the current code of a dense id, from an IPv4 address or none. Such words lie in
//! tables by id, so that noting a use is one load and at most one store, without a lock, however many credentials there
//! are. All else (IPv6 addresses, retiring codes, sparse ids) is kept aside in maps behind locks.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

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

/// A credential and its uses.
pub(super) type Used = (Mode, Id, LastUses);

type Shard = HashMap<(Mode, u64), LastUses>;

/// Uses that are not stored yet.
pub(super) struct UseBook {
    words: [Words; 3],
    /// So many leaves may still be made.
    leaves_left: AtomicUsize,
    aside: [Mutex<Shard>; SHARDS as usize],
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
                return;
            }
        }
        self.note_aside((mode, id), identity.code_mark, at, address);
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

    /// Sets on its way from memory what [`UseBook::note`] will read.
    pub(super) fn look_ahead(&self, mode: Mode, id: u64) {
        black_box(self.words[mode.index()].find(id).map(|cell| cell.load(Ordering::Relaxed)));
    }

    fn note_aside(&self, credential: (Mode, u64), code: CodeMark, at: UnixSeconds, address: Option<&[u8]>) {
        let mut shard = self.shard(credential.1);
        if shard.len() >= SHARD_ENTRIES_MAX && !shard.contains_key(&credential) {
            return;
        }
        let uses = shard.entry(credential).or_default();
        if !uses.knows(code, at) {
            uses.note(LastUse { code, at, address: address.and_then(client_address) });
            self.note_waiting(at);
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
        let (mode, id) = (credential.mode, credential.id.get());
        let mut uses = self.shard(id).get(&(mode, id)).copied().unwrap_or_default();
        let word = self.words[mode.index()].find(id).map(|cell| Word(cell.load(Ordering::Relaxed)));
        let current = credential.codes.current.mark();
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

fn clear(cell: &AtomicU64, word: Word) {
    // Failing means that it was used again.
    let _ = cell.compare_exchange(word.0, 0, Ordering::Relaxed, Ordering::Relaxed);
}

/// A use in one word: one bit that says there is one, the lower 23 bits of its time, a byte of the code's mark, and the
/// IPv4 address, 0 for none. Words are stored and cleared within minutes, so 97 days tell times apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

const USED: u64 = 1 << 63;
const TIME_BITS: u32 = 23;
const TIME_SHIFT: u32 = 40;
const MARK_SHIFT: u32 = 32;

impl Word {
    const fn new(code: CodeMark, at: UnixSeconds) -> Self {
        let [mark, ..] = code.to_bytes();
        Self(USED | (at.0 & time_mask()) << TIME_SHIFT | (mark as u64) << MARK_SHIFT)
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

    /// Whether there is a use of the same code here that `used` would not bring forward.
    const fn is_same_or_later(self, used: Self) -> bool {
        let ahead = self.time().wrapping_sub(used.time()) & time_mask();
        self.0 & USED != 0 && self.mark() == used.mark() && ahead <= time_mask() / 2
    }

    /// The use, if it is one of `code`; at the time nearest to `now` that the word can mean.
    fn last_use(self, code: CodeMark, now: UnixSeconds) -> Option<LastUse> {
        let [mark, ..] = code.to_bytes();
        if self.0 & USED == 0 || self.mark() != mark {
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
        Some(&self.pages.get(page)?.get()?[leaf].get()?[word])
    }

    /// The first id from `id` on whose word tells a use.
    fn next_used(&self, mut id: u64) -> Option<(u64, &AtomicU64)> {
        while id < DENSE_IDS {
            let (page, leaf, word) = split(id);
            let Some(page) = self.pages[page].get() else {
                id = (id | ((1 << PAGE_BITS) - 1)) + 1;
                continue;
            };
            let words = page[leaf].get().map_or([].as_slice(), |leaf| &leaf[word..]);
            let found = words.iter().zip(id..).find(|(cell, _)| cell.load(Ordering::Relaxed) != 0);
            if let Some((cell, id)) = found {
                return Some((id, cell));
            }
            id = (id | (LEAF_WORDS as u64 - 1)) + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::model::AgentTerms;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn mark(byte: u8) -> CodeMark {
        CodeMark::from_bytes([byte; 8])
    }

    fn identity(agent: &AgentTerms, id: u64, code: CodeSlot, code_mark: CodeMark) -> Identity<'_> {
        Identity {
            mode: Mode::Key,
            credential_id: id,
            code,
            code_mark,
            expires_at: None,
            app_id: None,
            agent,
            switched: false,
        }
    }

    fn last(code: u8, at: UnixSeconds, address: Option<&str>) -> LastUse {
        LastUse { code: mark(code), at, address: address.map(|text| text.parse().unwrap()) }
    }

    /// All that a round stores, with the codes that the credentials have.
    fn round(book: &UseBook, code: u8, store: bool) -> Vec<(u64, LastUse)> {
        let mut place = Place::default();
        let mut all = Vec::new();
        while let Some(part) = book.next_part(&mut place, NOW, |_, _| Some(mark(code))) {
            for (_, id, uses) in &part.uses {
                all.extend(uses.iter().map(|used| (id.get(), used)));
            }
            if store { book.stored(&part) } else { book.put_back(part) }
        }
        all
    }

    #[test]
    fn a_use_is_stored_once_with_its_first_address_of_a_second_wherever_it_is_kept() {
        let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
        let uses: [(u64, CodeSlot, &str); 5] = [
            (1, CodeSlot::Current, "10.0.0.1"),
            (DENSE_IDS - 1, CodeSlot::Current, "255.255.255.255"),
            (2, CodeSlot::Current, "2001:db8::1"),
            (3, CodeSlot::Retiring, "10.0.0.3"),
            (DENSE_IDS, CodeSlot::Current, "10.0.0.4"),
        ];
        for (id, slot, address) in uses {
            let identity = identity(&agent, id, slot, mark(9));
            book.note(&identity, NOW, Some(address.as_bytes()));
            book.note(&identity, NOW, Some(b"10.9.9.9"));
            book.note(&identity, UnixSeconds(NOW.0 - 1), Some(b"10.8.8.8"));
        }
        let mut expected: Vec<_> = uses.map(|(id, _, address)| (id, last(9, NOW, Some(address)))).into();
        // The second address of id 2 fits its word; whichever is stored first stays.
        expected.push((2, last(9, NOW, Some("10.9.9.9"))));
        expected.sort_by_key(|(id, used)| (*id, used.address));
        for store in [false, true] {
            let mut found = round(&book, 9, store);
            found.sort_by_key(|(id, used)| (*id, used.address));
            assert_eq!(found, expected);
        }
        assert_eq!(round(&book, 9, true), []);
    }

    #[test]
    fn a_later_use_while_the_round_stores_waits_for_the_next() {
        let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
        let identity = identity(&agent, 7, CodeSlot::Current, mark(9));
        book.note(&identity, UnixSeconds(NOW.0 - 5), None);
        let part = book.next_part(&mut Place::default(), NOW, |_, _| Some(mark(9))).unwrap();
        book.note(&identity, NOW, Some(b"unix:"));
        book.stored(&part);
        assert_eq!(round(&book, 9, true), [(7, last(9, NOW, None))]);
    }

    #[test]
    fn a_use_of_a_code_that_was_replaced_meanwhile_is_let_go() {
        let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
        book.note(&identity(&agent, 7, CodeSlot::Current, mark(1)), NOW, None);
        assert_eq!(round(&book, 2, true), []);
        assert_eq!(round(&book, 1, true), []);
    }

    #[test]
    fn a_round_takes_parts_of_bounded_size_and_leaves_none_out() {
        let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
        let ids: Vec<u64> = (1..=3 * USES_PER_PART as u64 + 7).map(|n| n * 300 % DENSE_IDS).collect();
        for id in &ids {
            book.note(&identity(&agent, *id, CodeSlot::Current, mark(9)), NOW, None);
        }
        let parts = Cell::new(0);
        let mut place = Place::default();
        let mut found = Vec::new();
        while let Some(part) = book.next_part(&mut place, NOW, |_, _| Some(mark(9))) {
            assert!(part.uses.len() <= USES_PER_PART);
            parts.set(parts.get() + 1);
            found.extend(part.uses.iter().map(|(_, id, _)| id.get()));
            book.stored(&part);
        }
        assert_eq!(parts.get(), 4);
        let mut ids = ids;
        ids.sort_unstable();
        assert_eq!(found, ids);
    }

    #[test]
    fn the_oldest_use_that_waits_is_known_until_it_is_stored_and_again_when_that_failed() {
        let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
        assert_eq!(book.oldest_waiting(), None);
        for (id, slot, at) in
            [(7, CodeSlot::Current, NOW.0), (8, CodeSlot::Retiring, NOW.0 - 9), (9, CodeSlot::Current, NOW.0 - 5)]
        {
            book.note(&identity(&agent, id, slot, mark(9)), UnixSeconds(at), None);
        }
        let oldest = Some(UnixSeconds(NOW.0 - 9));
        assert_eq!(book.oldest_waiting(), oldest);
        round(&book, 9, false);
        assert_eq!(book.oldest_waiting(), oldest, "nothing was stored");
        round(&book, 9, true);
        assert_eq!(book.oldest_waiting(), None);
        book.note(&identity(&agent, 7, CodeSlot::Current, mark(9)), UnixSeconds(NOW.0 + 1), None);
        assert_eq!(book.oldest_waiting(), Some(UnixSeconds(NOW.0 + 1)));
    }

    #[test]
    fn with_no_room_for_words_uses_are_kept_aside() {
        let (book, agent) = (UseBook::with_leaves(2), AgentTerms::new(1, "Admin", []));
        let ids = [5, 6, 1_000, 2_000, 60_000_000];
        for id in ids {
            book.note(&identity(&agent, id, CodeSlot::Current, mark(9)), NOW, None);
        }
        assert_eq!(book.aside.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>(), 2);
        let mut found = round(&book, 9, true);
        found.sort_by_key(|(id, _)| *id);
        assert_eq!(found, ids.map(|id| (id, last(9, NOW, None))));
    }

    #[test]
    fn a_words_time_is_read_back_around_every_turn_of_its_bits() {
        for base in [0, 1, time_mask(), time_mask() + 1, NOW.0, NOW.0 | time_mask()] {
            let at = UnixSeconds(base + 100);
            let word = Word::new(mark(3), at);
            for now in [at.0, at.0 + 1, at.0 + 3_000_000, at.0 - 1] {
                assert_eq!(word.last_use(mark(3), UnixSeconds(now)).map(|used| used.at), Some(at), "{base} {now}");
            }
            let later = Word::new(mark(3), UnixSeconds(at.0 + 1));
            assert!(later.is_same_or_later(word) && word.is_same_or_later(word) && !word.is_same_or_later(later));
            assert!(!word.is_same_or_later(Word::new(mark(4), at)));
        }
        assert!(!Word(0).is_same_or_later(Word::new(mark(0), UnixSeconds(0))));
    }
}
