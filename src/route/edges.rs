//! The literal edges of the router's trees.

use std::collections::HashMap;
use std::num::NonZero;

use super::router::NodeIndex;
use super::segments::{HEAD_BYTES, SegmentText};

/// Literal edges while they are gathered: from a node by a text to a node.
pub(super) type Literals = HashMap<(NodeIndex, Box<[u8]>), NodeIndex>;

/// The literal edges of all nodes in one table with open addressing. Most segments are told apart by their first sixteen
/// bytes and their length, which lie in the table: a look-up touches one or two cache lines.
#[derive(Default)]
pub(super) struct Edges {
    /// A power of two, at least a quarter of it free, so that every search ends.
    slots: Box<[Option<Edge>]>,
    /// What is behind the first sixteen bytes of longer texts.
    tails: Box<[u8]>,
}

#[derive(Clone, Copy)]
struct Edge {
    from: NodeIndex,
    to: NonZero<NodeIndex>,
    head: u128,
    /// Of the whole text.
    bytes: u32,
    tail_start: u32,
}

impl Edges {
    pub(super) fn new(literals: Literals) -> Self {
        let slots = (literals.len() * 4 / 3 + 1).next_power_of_two();
        let mut edges = Self { slots: vec![None; slots].into(), tails: Box::default() };
        let mut tails = Vec::new();
        let short = |length: usize| u32::try_from(length).expect("4 GiB of templates do not come in");
        for ((from, text), to) in literals {
            let text = SegmentText::new(&text);
            let to = NonZero::new(to).expect("no edge leads to the first node");
            let (bytes, tail_start) = (short(text.bytes.len()), short(tails.len()));
            tails.extend_from_slice(text.bytes.get(HEAD_BYTES..).unwrap_or_default());
            let mut slot = first_slot(from, text) & (slots - 1);
            while edges.slots[slot].is_some() {
                slot = (slot + 1) & (slots - 1);
            }
            edges.slots[slot] = Some(Edge { from, to, head: text.head, bytes, tail_start });
        }
        edges.tails = tails.into();
        edges
    }

    /// Where the edge leads.
    #[inline]
    pub(super) fn get(&self, from: NodeIndex, text: SegmentText<'_>) -> Option<NodeIndex> {
        if text.bytes.len() > HEAD_BYTES { self.get_longer(from, text) } else { self.search(from, text, |_| true) }
    }

    /// By itself, so that the usual search is a few instructions where it is needed.
    #[inline(never)]
    fn get_longer(&self, from: NodeIndex, text: SegmentText<'_>) -> Option<NodeIndex> {
        self.search(from, text, |edge| self.tail(edge) == &text.bytes[HEAD_BYTES..])
    }

    #[inline]
    fn search(&self, from: NodeIndex, text: SegmentText<'_>, ends_alike: impl Fn(&Edge) -> bool) -> Option<NodeIndex> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut slot = first_slot(from, text);
        loop {
            let edge = self.slots.get(slot & mask)?.as_ref()?;
            if edge.from == from
                && edge.head == text.head
                && edge.bytes as usize == text.bytes.len()
                && ends_alike(edge)
            {
                return Some(edge.to.get());
            }
            slot = slot.wrapping_add(1);
        }
    }

    fn tail(&self, edge: &Edge) -> &[u8] {
        let start = edge.tail_start as usize;
        &self.tails[start..start + edge.bytes as usize - HEAD_BYTES]
    }
}

/// Where the search for an edge begins, but for the mask. A multiplication of the first sixteen bytes, and one for each
/// further eight. Not resistant to chosen keys, and need not be: only who may write endpoints chooses what is in the
/// table; a question only looks up.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "all parts are used, and the mask keeps the lower bits only")]
fn first_slot(from: NodeIndex, text: SegmentText<'_>) -> usize {
    /// Without a pattern, so that neither factor is often 0.
    const HIDE: u64 = 0xd1b5_4a32_d192_ed03;
    let (low, high) = (text.head as u64, (text.head >> 64) as u64);
    let begin = mix(low ^ u64::from(from) << 32 ^ text.bytes.len() as u64 ^ HIDE, high ^ SPREAD);
    let Some(last) = text.bytes.get(HEAD_BYTES..).filter(|tail| !tail.is_empty()).and(text.bytes.last_chunk()) else {
        return begin as usize;
    };
    // The last word may overlap the one before it.
    let between = text.bytes[HEAD_BYTES..].as_chunks().0;
    let hash = between.iter().fold(begin, |hash, word| mix(hash ^ u64::from_le_bytes(*word), SPREAD));
    mix(hash ^ u64::from_le_bytes(*last), SPREAD) as usize
}

/// The golden ratio's bits: odd, and without a pattern.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn mix(word: u64, by: u64) -> u64 {
    let product = u128::from(word) * u128::from(by);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    // Folded, since in the lower half alone a word's last bytes would change nothing but the highest bits.
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_texts_apart_that_differ_in_one_place() {
        // The lowest bits choose the place.
        let mut places: HashMap<usize, usize> = HashMap::new();
        for number in 0..1024 {
            *places
                .entry(first_slot(7, SegmentText::new(format!("abcd{number:04}").as_bytes())) % 1024)
                .or_default() += 1;
        }
        assert!(places.values().all(|count| *count < 16), "{places:?}");
        assert!(places.len() > 512, "{}", places.len());
    }
}
