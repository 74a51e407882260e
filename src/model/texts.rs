//! Texts that are read together, in one piece of memory.

use std::fmt;
use std::sync::Arc;

/// A list of texts, one behind the other in one allocation: reading all of them touches few cache lines, and cloning
/// copies none.
#[derive(Clone, PartialEq, Eq)]
pub struct TextList {
    text: Arc<str>,
    /// Where each text ends, in bytes.
    ends: Arc<[u32]>,
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
        for texts in [&[][..], &[""], &["a"], &["", "ä", "", "bc", ""]] {
            let list = TextList::new(texts.iter().copied());
            assert_eq!(list.iter().collect::<Vec<_>>(), texts);
            assert_eq!(format!("{list:?}"), format!("{texts:?}"));
        }
    }
}
