//! An immutable table of records by id that shares structure with the table it was made from.
//!
//! Ids are mostly dense: leaves hold up to 256 neighbouring ids, packed, and a leaf's bitmap lies beside the pointer to
//! it, so that a look-up touches one cache line of records. Changing a record copies its leaf and the pointers on the way
//! to it, 64 at each level; everything else is shared with the table before. Ids from [`DENSE_IDS`] on are kept
//! one by one in a persistent hash trie: correct and small, if slower.

use std::slice;
use std::sync::Arc;

use prefetch_index::prefetch_index;
use rpds::HashTrieMapSync;

/// Ids below this lie in leaves. Then there are at most 64 branches, too.
pub const DENSE_IDS: u64 = 1 << 26;

const LEAF_BITS: u32 = 8;
/// A copy of so few pointers touches so few reference counts, each on a cache line of its own.
const FANOUT: usize = 64;
const FANOUT_BITS: u32 = FANOUT.trailing_zeros();
const BITMAP_WORDS: usize = (1 << LEAF_BITS) / 64;

/// See the module's doc.
#[derive(Clone)]
pub(super) struct Slots<T> {
    branches: Vec<Option<Arc<Branch<T>>>>,
    sparse: HashTrieMapSync<u64, T>,
}

struct Branch<T> {
    pages: [Option<Arc<Page<T>>>; FANOUT],
}

impl<T> Clone for Branch<T> {
    fn clone(&self) -> Self {
        Self { pages: self.pages.clone() }
    }
}

struct Page<T> {
    leaves: [Leaf<T>; FANOUT],
}

impl<T> Clone for Page<T> {
    fn clone(&self) -> Self {
        Self { leaves: self.leaves.clone() }
    }
}

/// In one cache line.
#[repr(align(64))]
struct Leaf<T> {
    /// Which of the 256 ids are there; the records lie packed in their order.
    present: [u64; BITMAP_WORDS],
    /// How many of them lie before each word of `present`.
    before: [u8; BITMAP_WORDS],
    records: Arc<[T]>,
}

impl<T> Clone for Leaf<T> {
    fn clone(&self) -> Self {
        Self { present: self.present, before: self.before, records: Arc::clone(&self.records) }
    }
}

impl<T> Leaf<T> {
    /// The place of `offset` among the packed records.
    fn rank(&self, offset: u8) -> Option<usize> {
        let (word, bit) = (usize::from(offset) / 64, u32::from(offset) % 64);
        if self.present[word] >> bit & 1 == 0 {
            return None;
        }
        let below = self.present[word] & ((1 << bit) - 1);
        Some(usize::from(self.before[word]) + below.count_ones() as usize)
    }
}

impl<T: Clone> Leaf<T> {
    /// Takes changes in order of their offsets; `None` takes a record away.
    fn merge(&mut self, changes: &mut impl Iterator<Item = (u8, Option<T>)>) {
        let mut changes = changes.peekable();
        let mut old = self.records.iter();
        let mut merged = Vec::with_capacity(self.records.len() + changes.size_hint().0);
        let mut present = self.present;
        for offset in 0..=u8::MAX {
            let (word, bit) = (usize::from(offset) / 64, u32::from(offset) % 64);
            let kept = if self.present[word] >> bit & 1 == 1 { old.next() } else { None };
            let mut record = kept.cloned();
            while let Some((_, changed)) = changes.next_if(|(at, _)| *at == offset) {
                record = changed;
            }
            match record {
                Some(record) => {
                    present[word] |= 1 << bit;
                    merged.push(record);
                }
                None => present[word] &= !(1 << bit),
            }
        }
        self.present = present;
        for word in 1..BITMAP_WORDS {
            // At most 192: the last word's own are not counted.
            #[expect(clippy::cast_possible_truncation, reason = "a word has 64 bits")]
            let ones = present[word - 1].count_ones() as u8;
            self.before[word] = self.before[word - 1] + ones;
        }
        self.records = merged.into();
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { branches: Vec::new(), sparse: HashTrieMapSync::new_sync() }
    }
}

impl<T: Clone> Slots<T> {
    /// The record with this id.
    pub(super) fn get(&self, id: u64) -> Option<&T> {
        if id >= DENSE_IDS {
            return self.sparse.get(&id);
        }
        let leaf = self.leaf(id)?;
        leaf.rank(Place::of(id).offset).map(|rank| &leaf.records[rank])
    }

    /// The leaf of a dense id.
    fn leaf(&self, id: u64) -> Option<&Leaf<T>> {
        let Place { branch, page, leaf, .. } = Place::of(id);
        Some(&self.branches.get(branch)?.as_ref()?.pages[page].as_ref()?.leaves[leaf])
    }

    /// Sets on its way from memory what tells where the record of a dense id lies: the first step to it.
    pub(super) fn fetch_place(&self, id: u64) {
        if let Some(leaf) = self.leaf(id) {
            prefetch_index(slice::from_ref(leaf), 0);
        }
    }

    /// The second step: the record itself.
    pub(super) fn fetch_record(&self, id: u64) {
        if let Some(leaf) = self.leaf(id)
            && let Some(rank) = leaf.rank(Place::of(id).offset)
        {
            prefetch_index(&leaf.records, rank);
        }
    }

    /// Puts records; of several with one id the last counts. Each touched leaf is copied once.
    pub(super) fn put(&mut self, changes: Vec<(u64, T)>) {
        self.change(changes.into_iter().map(|(id, record)| (id, Some(record))).collect());
    }

    /// Takes records away, and the pages that are left empty.
    pub(super) fn remove(&mut self, ids: &[u64]) {
        self.change(ids.iter().filter(|id| self.get(**id).is_some()).map(|id| (*id, None)).collect());
        for id in ids.iter().filter(|id| **id < DENSE_IDS) {
            let Place { branch, page, .. } = Place::of(*id);
            let Some(Some(branch)) = self.branches.get_mut(branch) else { continue };
            let is_empty = |page: &Arc<Page<T>>| page.leaves.iter().all(|leaf| leaf.records.is_empty());
            if branch.pages[page].as_ref().is_some_and(is_empty) {
                Arc::make_mut(branch).pages[page] = None;
            }
        }
    }

    fn change(&mut self, mut changes: Vec<(u64, Option<T>)>) {
        changes.sort_by_key(|(id, _)| *id);
        let dense_end = changes.partition_point(|(id, _)| *id < DENSE_IDS);
        for (id, record) in changes.split_off(dense_end) {
            match record {
                Some(record) => self.sparse.insert_mut(id, record),
                None => drop(self.sparse.remove_mut(&id)),
            }
        }
        let mut changes = changes.into_iter().peekable();
        while let Some((id, _)) = changes.peek() {
            let place = Place::of(*id);
            let leaf_number = id >> LEAF_BITS;
            let of_leaf = std::iter::from_fn(|| changes.next_if(|(id, _)| id >> LEAF_BITS == leaf_number));
            self.leaf_mut(&place).merge(&mut of_leaf.map(|(id, record)| (Place::of(id).offset, record)));
        }
    }

    fn leaf_mut(&mut self, place: &Place) -> &mut Leaf<T> {
        if self.branches.len() <= place.branch {
            self.branches.resize_with(place.branch + 1, || None);
        }
        let branch = self.branches[place.branch]
            .get_or_insert_with(|| Arc::new(Branch { pages: std::array::from_fn(|_| None) }));
        let page = Arc::make_mut(branch).pages[place.page].get_or_insert_with(|| {
            let empty = Leaf { present: [0; BITMAP_WORDS], before: [0; BITMAP_WORDS], records: Arc::from([]) };
            Arc::new(Page { leaves: std::array::from_fn(|_| empty.clone()) })
        });
        &mut Arc::make_mut(page).leaves[place.leaf]
    }

    /// All records with their ids, in no promised order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let branches = self.branches.iter().enumerate();
        let pages = branches.flat_map(|(number, branch)| {
            let pages = branch.iter().flat_map(|branch| branch.pages.iter().enumerate());
            pages.filter_map(move |(page, found)| Some((number << FANOUT_BITS | page, found.as_ref()?)))
        });
        let dense = pages.flat_map(|(page_number, page)| {
            page.leaves.iter().enumerate().flat_map(move |(leaf_number, leaf)| {
                let first = ((page_number << FANOUT_BITS | leaf_number) << LEAF_BITS) as u64;
                let offsets = (0..=u8::MAX).filter(|&offset| leaf.rank(offset).is_some());
                offsets.zip(leaf.records.iter()).map(move |(offset, record)| (first + u64::from(offset), record))
            })
        });
        dense.chain(self.sparse.iter().map(|(id, record)| (*id, record)))
    }
}

/// The way to a dense id.
struct Place {
    branch: usize,
    page: usize,
    leaf: usize,
    offset: u8,
}

impl Place {
    const fn of(id: u64) -> Self {
        let leaf = (id >> LEAF_BITS) as usize;
        let page = leaf >> FANOUT_BITS;
        let branch = page >> FANOUT_BITS;
        Self { branch, page: page % FANOUT, leaf: leaf % FANOUT, offset: (id & 0xff) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..600_u64,
            0..DENSE_IDS,
            (DENSE_IDS - 3)..(DENSE_IDS + 3),
            0..=crate::model::ID_MAX,
            Just(u64::MAX)
        ]
    }

    proptest! {
        // Listing sparse ids walks whole pages, which is slow without optimisation.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn slots_are_a_map_and_leave_their_ancestors_alone(
            batches in proptest::collection::vec(
                (proptest::collection::vec((ids(), any::<u32>()), 0..40), proptest::collection::vec(ids(), 0..40)),
                0..12,
            ),
            probes in proptest::collection::vec(ids(), 20),
        ) {
            let (mut slots, mut map) = (Slots::default(), BTreeMap::new());
            let mut ancestors = Vec::new();
            for (batch, gone) in batches {
                ancestors.push((slots.clone(), map.clone()));
                slots.put(batch.clone());
                map.extend(batch);
                ancestors.push((slots.clone(), map.clone()));
                slots.remove(&gone);
                map.retain(|id, _| !gone.contains(id));
            }
            ancestors.push((slots, map));
            for (slots, map) in ancestors {
                for id in map.keys().chain(&probes) {
                    prop_assert_eq!(slots.get(*id), map.get(id));
                }
                let all: BTreeMap<u64, u32> = slots.iter().map(|(id, record)| (id, *record)).collect();
                prop_assert_eq!(all, map);
            }
        }
    }
}
