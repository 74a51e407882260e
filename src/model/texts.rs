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

/// Ends of texts that lie in the list itself: with them an agent of two attributes fits one cache line.
const ENDS_NEAR: usize = 6;

/// A list of texts, one behind the other in one allocation: reading all of them touches few cache lines, and cloning
/// copies none.
#[derive(Clone, PartialEq, Eq)]
pub struct TextList {
    text: Arc<str>,
    /// Where each text ends, in bytes.
    ends: ShortList<u32, ENDS_NEAR>,
}

impl TextList {
    /// The list of these texts.
    ///
    /// # Panics
    /// Over 4 GiB; what records hold is bounded far below.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut text = String::new();
        let ends = texts
            .into_iter()
            .map(|item| {
                text.push_str(item);
                u32::try_from(text.len()).expect("records are bounded far below 4 GiB")
            })
            .collect();
        Self { text: text.into(), ends }
    }

    /// The texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let item = &self.text[start..*end as usize];
            start = *end as usize;
            item
        })
    }

    /// Sets the texts on their way from memory.
    pub fn fetch(&self) {
        let text = self.text.as_bytes();
        prefetch_index(text, 0);
        prefetch_index(text, text.len().saturating_sub(1));
    }

    /// All texts as one, and where each ends.
    #[must_use]
    pub fn parts(&self) -> (&str, &[u32]) {
        (&self.text, &self.ends)
    }
}

impl fmt::Debug for TextList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_back_its_texts() {
        for texts in [&[][..], &[""], &["a"], &["", "ä", "", "bc", ""], &["a"; ENDS_NEAR], &["a"; ENDS_NEAR + 1]] {
            let list = TextList::new(texts.iter().copied());
            assert_eq!(list.iter().collect::<Vec<_>>(), texts);
            assert_eq!(format!("{list:?}"), format!("{texts:?}"));
        }
    }
}
