//! What a table's rows come to together: that one is missing, or put back, shows.

use super::{RowKeys, Table};

/// One row's part in its table's tally.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Element(pub(super) [u8; 32]);

/// How many rows a table has and the sum of their elements. The sum itself is never stored, only a keyed seal of it, so
/// that nobody can work out from many states of the file which old rows could be put back unseen.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::store) struct Tally {
    pub(in crate::store) rows: u64,
    sum: [u8; 32],
}

impl Tally {
    pub(in crate::store) fn add(&mut self, element: Element) {
        self.rows += 1;
        self.toggle(element);
    }

    pub(in crate::store) fn remove(&mut self, element: Element) {
        self.rows = self.rows.wrapping_sub(1);
        self.toggle(element);
    }

    /// The tally of two parts of a table.
    pub(in crate::store) fn joined(mut self, other: Self) -> Self {
        self.rows += other.rows;
        self.toggle(Element(other.sum));
        self
    }

    fn toggle(&mut self, element: Element) {
        for (sum, byte) in self.sum.iter_mut().zip(element.0) {
            *sum ^= byte;
        }
    }

    pub(in crate::store) fn seal(&self, keys: &RowKeys, table: Table) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&keys.seal);
        hasher.update(&[table.number()]);
        hasher.update(&self.rows.to_be_bytes());
        hasher.update(&self.sum);
        *hasher.finalize().as_bytes()
    }
}
