//! Texts that are read together, in one piece of memory.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arrayvec::ArrayVec;
use prefetch_index::prefetch_index;

/// A list that lies where it is used while it is short, as most are: reading it costs no further wait for memory.
#[derive(Clone, PartialEq, Eq)]
pub enum ShortList<T, const FEW: usize> {
    /// At most `FEW`.
    Few(ArrayVec<T, FEW>),
    /// More.
    Many(Arc<[T]>),
}

impl<T: Copy, const FEW: usize> FromIterator<T> for ShortList<T, FEW> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items: Vec<T> = items.into_iter().collect();
        match ArrayVec::try_from(items.as_slice()) {
            Ok(few) => Self::Few(few),
            Err(_) => Self::Many(items.into()),
        }
    }
}

impl<T, const FEW: usize> Deref for ShortList<T, FEW> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Few(items) => items,
            Self::Many(items) => items,
        }
    }
}

/// Bytes that lie in the list itself: a name with two or three attributes, a path with two tags. With them an agent, and an
/// endpoint, is three cache lines in a row, and none of them has to be waited for before the next.
const BYTES_NEAR: usize = 144;
const CACHE_LINE_BYTES: usize = 64;
/// Bytes of a length or a count.
const NUMBER_BYTES: usize = 8;

/// A text and a list of further ones, as a message has them (PROTOCOL.md, section 2), so that a reply copies all of them
/// at once: the first text, the number of the list's items, the texts of each item; before each text its length in bytes.
/// Numbers are `u64`, big-endian.
#[derive(Clone, PartialEq, Eq)]
pub struct TextList(ShortList<u8, BYTES_NEAR>);

impl TextList {
    /// The list of these texts, of which each item has as many.
    pub fn new<'a, const TEXTS: usize>(first: &'a str, items: impl IntoIterator<Item = [&'a str; TEXTS]>) -> Self {
        let mut bytes = Vec::new();
        let put = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        put(&mut bytes, first);
        let (count_at, mut count) = (bytes.len(), 0_u64);
        bytes.extend_from_slice(&[0; NUMBER_BYTES]);
        for item in items {
            item.iter().for_each(|text| put(&mut bytes, text));
            count += 1;
        }
        bytes[count_at..count_at + NUMBER_BYTES].copy_from_slice(&count.to_be_bytes());
        Self(bytes.into_iter().collect())
    }

    /// The first text.
    #[must_use]
    pub fn first(&self) -> &str {
        Rest(&self.0).text().unwrap_or_default()
    }

    /// The texts of all items in order.
    pub fn items(&self) -> impl Iterator<Item = &str> {
        let mut rest = Rest(&self.0);
        // The first text and the count.
        let _ = (rest.text(), rest.number());
        std::iter::from_fn(move || rest.text())
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Sets on their way from memory what lies behind the list's beginning.
    pub fn fetch(&self) {
        let bytes = self.bytes();
        for line in (0..bytes.len()).step_by(CACHE_LINE_BYTES) {
            prefetch_index(bytes, line + CACHE_LINE_BYTES - 1);
        }
    }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<NUMBER_BYTES>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(str::from_utf8(text).expect("the list was made of texts"))
    }
}

impl fmt::Debug for TextList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entry(&self.first()).entries(self.items()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_back_its_texts() {
        let long = "a".repeat(BYTES_NEAR);
        for items in [&[][..], &[""], &["a"], &["", "ä", "", "bc", ""], &[&long]] {
            for first in ["", "first"] {
                let list = TextList::new(first, items.iter().map(|item| [*item]));
                assert_eq!((list.first(), list.items().collect::<Vec<_>>()), (first, items.to_vec()));
                let all: Vec<&str> = std::iter::once(first).chain(items.iter().copied()).collect();
                assert_eq!(format!("{list:?}"), format!("{all:?}"));
            }
        }
    }

    #[test]
    fn its_bytes_are_those_of_a_message() {
        let list = TextList::new("ä", [["b", "cde"]]);
        let expected: [&[u8]; 6] = [
            &[0, 0, 0, 0, 0, 0, 0, 2, 0xc3, 0xa4],
            &[0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0, 0, 1],
            b"b",
            &[0, 0, 0, 0, 0, 0, 0, 3],
            b"cde",
        ];
        assert_eq!(list.bytes(), expected.concat());
    }
}
