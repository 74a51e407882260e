//! Last use of each code, gathered in memory; the writer stores it once a minute and at stop.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{CodeSlot, Id, Mode, UnixSeconds, client_address};
use crate::store::{LastUse, LastUses};

/// Threads that answer questions seldom meet on one of so many locks.
const SHARDS: u8 = 32;
/// With so many credentials waiting in a shard further ones go unnoted until the next flush: about 100 MB in all.
const SHARD_ENTRIES_MAX: usize = 32 * 1024;

type Shard = HashMap<(Mode, u64), LastUses>;

/// Uses that are not stored yet.
pub(super) struct UseBook {
    shards: [Mutex<Shard>; SHARDS as usize],
}

impl UseBook {
    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, Shard> {
        let [.., low] = id.to_be_bytes();
        self.shards[usize::from(low % SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a code was accepted. Within one second the first address counts.
    pub(super) fn note(&self, (mode, id): (Mode, u64), code: CodeSlot, at: UnixSeconds, address: Option<&[u8]>) {
        let mut shard = self.shard(id);
        if shard.len() >= SHARD_ENTRIES_MAX && !shard.contains_key(&(mode, id)) {
            return;
        }
        let used = &mut shard.entry((mode, id)).or_default()[code as usize];
        if used.is_none_or(|used| used.at < at) {
            *used = Some(LastUse { at, address: address.and_then(client_address) });
        }
    }

    /// What waits for a credential.
    pub(super) fn pending(&self, mode: Mode, id: Id) -> LastUses {
        self.shard(id.get()).get(&(mode, id.get())).copied().unwrap_or_default()
    }

    /// Takes everything that waits.
    pub(super) fn take(&self) -> Vec<(Mode, Id, LastUses)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let taken = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            all.extend(taken.into_iter().filter_map(|((mode, id), uses)| Some((mode, Id::new(id)?, uses))));
        }
        all.sort_unstable_by_key(|(mode, id, _)| (*mode, *id));
        all
    }

    /// Puts back what could not be stored, unless a newer use was noted meanwhile.
    pub(super) fn put_back(&self, uses: Vec<(Mode, Id, LastUses)>) {
        for (mode, id, older) in uses {
            let mut shard = self.shard(id.get());
            let newer = shard.entry((mode, id.get())).or_default();
            for (newer, older) in newer.iter_mut().zip(older) {
                *newer = newer.or(older);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_use_of_each_code_is_kept() {
        let book = UseBook::new();
        let id = Id::new(5).unwrap();
        book.note((Mode::Key, 5), CodeSlot::Current, UnixSeconds(10), Some(b"10.0.0.1"));
        book.note((Mode::Key, 5), CodeSlot::Current, UnixSeconds(12), Some(b"unix:"));
        book.note((Mode::Key, 5), CodeSlot::Retiring, UnixSeconds(11), None);
        book.note((Mode::Token, 5), CodeSlot::Current, UnixSeconds(1), None);
        let [current, retiring] = book.pending(Mode::Key, id);
        assert_eq!(current, Some(LastUse { at: UnixSeconds(12), address: None }));
        assert_eq!(retiring.map(|used| used.at), Some(UnixSeconds(11)));
        let taken = book.take();
        assert_eq!(taken.len(), 2);
        assert_eq!(book.pending(Mode::Key, id), [None, None]);
        book.note((Mode::Key, 5), CodeSlot::Current, UnixSeconds(20), None);
        book.put_back(taken);
        let [current, retiring] = book.pending(Mode::Key, id);
        assert_eq!(current.map(|used| used.at), Some(UnixSeconds(20)));
        assert_eq!(retiring.map(|used| used.at), Some(UnixSeconds(11)));
    }
}
