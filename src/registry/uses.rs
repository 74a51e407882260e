//! Last use of each code, gathered in memory; the writer stores it once a minute and at stop.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{CodeMark, Id, LastUse, LastUses, Mode, UnixSeconds, client_address};

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
    pub(super) fn note(&self, (mode, id): (Mode, u64), code: CodeMark, at: UnixSeconds, address: Option<&[u8]>) {
        let mut shard = self.shard(id);
        if shard.len() >= SHARD_ENTRIES_MAX && !shard.contains_key(&(mode, id)) {
            return;
        }
        let uses = shard.entry((mode, id)).or_default();
        if !uses.knows(code, at) {
            uses.note(LastUse { code, at, address: address.and_then(client_address) });
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

    /// Puts back what could not be stored.
    pub(super) fn put_back(&self, uses: Vec<(Mode, Id, LastUses)>) {
        for (mode, id, older) in uses {
            let mut shard = self.shard(id.get());
            let newer = shard.entry((mode, id.get())).or_default();
            *newer = newer.merged(older);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_taken_once_and_put_back_beside_what_came_since() {
        let book = UseBook::new();
        let id = Id::new(5).unwrap();
        let [old, new] = [1, 2].map(|byte| CodeMark::from_bytes([byte; 8]));
        book.note((Mode::Key, 5), old, UnixSeconds(10), Some(b"10.0.0.1"));
        book.note((Mode::Key, 5), old, UnixSeconds(10), Some(b"10.0.0.2"));
        book.note((Mode::Token, 5), old, UnixSeconds(1), None);
        let first: Vec<LastUse> = book.pending(Mode::Key, id).iter().collect();
        assert_eq!(first, [LastUse { code: old, at: UnixSeconds(10), address: client_address(b"10.0.0.1") }]);
        let taken = book.take();
        assert_eq!(taken.len(), 2);
        assert_eq!(book.pending(Mode::Key, id), LastUses::default());
        book.note((Mode::Key, 5), new, UnixSeconds(20), Some(b"unix:"));
        book.put_back(taken);
        let both = book.pending(Mode::Key, id);
        assert!(both.knows(old, UnixSeconds(10)) && both.knows(new, UnixSeconds(20)));
    }
}
