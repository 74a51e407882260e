//! When and from where codes were last accepted (section 2.2: kept per code, never asked for a verdict).

use std::fmt;
use std::net::IpAddr;

use super::{CodeHash, UnixSeconds};

/// Tells the codes of one credential apart: the first bytes of the hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodeMark([u8; 8]);

impl CodeMark {
    /// The stored form.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// From the stored form.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for CodeMark {
    /// Shows no byte of the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeMark(..)")
    }
}

impl CodeHash {
    /// What tells this code from the credential's others.
    #[must_use]
    pub fn mark(&self) -> CodeMark {
        let [a, b, c, d, e, f, g, h, ..] = *self.as_bytes();
        CodeMark([a, b, c, d, e, f, g, h])
    }
}

/// One code's last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// Which code.
    pub code: CodeMark,
    /// The time.
    pub at: UnixSeconds,
    /// The address, when the trusted caller passed one.
    pub address: Option<IpAddr>,
}

/// The last uses of a credential's codes: of two at most, as many as it can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastUses([Option<LastUse>; 2]);

impl LastUses {
    /// Takes a use, unless a later one of the same code is there. A third code's takes the place of the oldest.
    pub fn note(&mut self, used: LastUse) {
        let of_same = self.0.iter_mut().flatten().find(|known| known.code == used.code);
        if let Some(known) = of_same {
            if known.at < used.at {
                *known = used;
            }
            return;
        }
        let oldest = if self.0[0].map(|known| known.at) <= self.0[1].map(|known| known.at) { 0 } else { 1 };
        if self.0[oldest].is_none_or(|known| known.at <= used.at) {
            self.0[oldest] = Some(used);
        }
    }

    /// Whether a use of this code at this time or later is there.
    #[must_use]
    pub fn knows(&self, code: CodeMark, at: UnixSeconds) -> bool {
        self.0.iter().flatten().any(|known| known.code == code && known.at >= at)
    }

    /// Takes the uses of another set.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        for used in other.iter() {
            self.note(used);
        }
        self
    }

    /// The uses that are known.
    pub fn iter(&self) -> impl Iterator<Item = LastUse> {
        self.0.into_iter().flatten()
    }

    /// The last use of the code with this hash.
    #[must_use]
    pub fn of(&self, hash: &CodeHash) -> Option<LastUse> {
        self.iter().find(|used| used.code == hash.mark())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(code: u8, at: u64) -> LastUse {
        LastUse { code: CodeMark([code; 8]), at: UnixSeconds(at), address: None }
    }

    #[test]
    fn each_code_keeps_its_own_last_use_and_a_third_replaces_the_oldest() {
        let mut uses = LastUses::default();
        for (code, at) in [(1, 10), (2, 20), (1, 30), (1, 5), (3, 40)] {
            uses.note(used(code, at));
        }
        let times: Vec<u64> = uses.iter().map(|used| used.at.0).collect();
        assert_eq!(times, [30, 40]);
        assert!(uses.of(&CodeHash::from_bytes([1; 32])).is_some());
        assert!(uses.of(&CodeHash::from_bytes([2; 32])).is_none(), "code 2 was the oldest");
        uses.note(used(4, 1));
        assert!(uses.of(&CodeHash::from_bytes([4; 32])).is_none(), "an older use takes no place");
    }

    #[test]
    fn merging_keeps_the_later_use_of_each_code_whichever_comes_first() {
        let of = |list: &[(u8, u64)]| {
            list.iter().fold(LastUses::default(), |uses, &(c, at)| {
                let mut uses = uses;
                uses.note(used(c, at));
                uses
            })
        };
        let (one, other) = (of(&[(1, 10), (2, 50)]), of(&[(1, 30)]));
        for merged in [one.merged(other), other.merged(one)] {
            assert!(merged.knows(CodeMark([1; 8]), UnixSeconds(30)));
            assert!(merged.knows(CodeMark([2; 8]), UnixSeconds(50)));
            assert!(!merged.knows(CodeMark([2; 8]), UnixSeconds(51)));
        }
    }
}
