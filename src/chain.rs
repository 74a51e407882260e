//! The audit's chain: what ties each record to the one before it, and the line as which a record leaves the daemon. Pure.
//!
//! A record is one line of JSON that begins with its number, `{"seq":7,`. Its hash is
//! `BLAKE3(hash of the record before, 32 bytes || text of the record)`; the first stands on 32 zero bytes. A line is the
//! text with both hashes as its last members, so that a file of lines can be checked without the daemon.

use std::fmt;

/// The largest number that a record can bear: safe in every language.
const NUMBER_MAX: u64 = (1 << 53) - 1;
/// What every text begins with; the number follows.
const TEXT_START: &str = "{\"seq\":";
/// Both hashes as hexadecimal digits, and what stands around them.
const TAIL_BYTES: usize = ",\"prev\":\"\",\"hash\":\"\"}".len() + 2 * ChainHash::DIGITS;

/// The hash of a record and of all before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainHash([u8; 32]);

impl ChainHash {
    /// What the first record stands on.
    pub const START: Self = Self([0; 32]);
    const DIGITS: usize = 64;

    /// Takes the bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The hash of a record that stands on this one.
    #[must_use]
    pub fn then(self, text: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(text.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// Reads what is displayed: lower case only, so that a line has one form.
    fn parse(digits: &str) -> Option<Self> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() != Self::DIGITS || !digits.bytes().all(is_digit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The number that a record's text begins with.
#[must_use]
pub fn number_of(text: &str) -> Option<u64> {
    let (digits, _) = text.strip_prefix(TEXT_START)?.split_once(',')?;
    let is_plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    if is_plain { digits.parse().ok().filter(|number| *number <= NUMBER_MAX) } else { None }
}

/// The line of a record that stands on `prev`; without the line's end.
#[must_use]
pub fn line(text: &str, prev: ChainHash) -> String {
    let open = text.strip_suffix('}').unwrap_or(text);
    format!("{open},\"prev\":\"{prev}\",\"hash\":\"{}\"}}", prev.then(text))
}

/// Why lines are no chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Break {
    /// It is no record of an audit.
    NoRecord,
    /// The record is not the one that its hash was made of.
    Altered,
    /// The record does not bear the number behind the one before.
    OutOfOrder {
        /// The number behind the one before.
        wanted: u64,
        /// Its number.
        found: u64,
    },
    /// It stands on another record than the one before it.
    OtherPast,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecord => f.write_str("it is no record of an audit, or one that was altered"),
            Self::Altered => f.write_str("the record was altered: it is not the one that its hash was made of"),
            Self::OutOfOrder { wanted, found } => {
                write!(f, "record {found} stands where {wanted} belongs: records were removed or put elsewhere")
            }
            Self::OtherPast => f.write_str("it does not stand on the record before it: that one was put in its place"),
        }
    }
}

/// The lines that were taken so far.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The first one's number.
    pub first: Option<u64>,
    /// The last one's number and hash.
    pub last: Option<(u64, ChainHash)>,
}

impl Lines {
    /// Takes the next line, without its end.
    ///
    /// # Errors
    /// Why it does not follow on the one before.
    pub fn take(&mut self, line: &str) -> Result<(), Break> {
        let (text, prev, hash) = split(line).ok_or(Break::NoRecord)?;
        let number = number_of(&text).ok_or(Break::NoRecord)?;
        if prev.then(&text) != hash {
            return Err(Break::Altered);
        }
        let (wanted, stands_on) = match self.last {
            Some((last, hash)) => (last + 1, hash),
            // What an export begins with stands on what is not in it.
            None if number > 1 => (number, prev),
            None => (1, ChainHash::START),
        };
        if number != wanted {
            return Err(Break::OutOfOrder { wanted, found: number });
        }
        if prev != stands_on {
            return Err(Break::OtherPast);
        }
        self.first.get_or_insert(number);
        self.last = Some((number, hash));
        Ok(())
    }
}

/// A line's text, and its two hashes.
fn split(line: &str) -> Option<(String, ChainHash, ChainHash)> {
    let (open, tail) = line.split_at_checked(line.len().checked_sub(TAIL_BYTES)?)?;
    let (prev, hash) = tail.strip_prefix(",\"prev\":\"")?.strip_suffix("\"}")?.split_once("\",\"hash\":\"")?;
    Some((format!("{open}}}"), ChainHash::parse(prev)?, ChainHash::parse(hash)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64) -> Vec<String> {
        let mut prev = ChainHash::START;
        let line = |number| {
            let text = format!("{{\"seq\":{number},\"action\":\"set\"}}");
            let line = line(&text, prev);
            prev = prev.then(&text);
            line
        };
        (1..=count).map(line).collect()
    }

    /// The place of the first line that does not follow, and why.
    fn broken_at<'l>(lines: impl IntoIterator<Item = &'l String>) -> Option<(usize, Break)> {
        let mut taken = Lines::default();
        lines.into_iter().enumerate().find_map(|(place, line)| Some((place, taken.take(line).err()?)))
    }

    #[test]
    fn whole_lines_are_a_chain_from_wherever_they_begin() {
        let lines = lines(5);
        for start in 0..5 {
            assert_eq!(broken_at(&lines[start..]), None, "{start}");
        }
        let mut taken = Lines::default();
        lines.iter().for_each(|line| taken.take(line).unwrap());
        assert_eq!((taken.first, taken.last.map(|(number, _)| number)), (Some(1), Some(5)));
    }

    #[test]
    fn every_changed_byte_of_every_line_is_found_in_that_line() {
        let lines = lines(3);
        for (place, line) in lines.iter().enumerate() {
            for at in 0..line.len() {
                let mut bytes = line.clone().into_bytes();
                bytes[at] ^= 1;
                let mut altered = lines.clone();
                altered[place] = String::from_utf8(bytes).unwrap();
                assert_eq!(broken_at(&altered).map(|(found, _)| found), Some(place), "{}", altered[place]);
            }
        }
    }

    #[test]
    fn a_line_that_is_removed_doubled_or_moved_is_found_where_the_next_stands() {
        let lines = lines(6);
        for place in 1..5 {
            let mut removed = lines.clone();
            removed.remove(place);
            let (wanted, found) = (place as u64 + 1, place as u64 + 2);
            assert_eq!(broken_at(&removed), Some((place, Break::OutOfOrder { wanted, found })));
            let mut doubled = lines.clone();
            doubled.insert(place, lines[place].clone());
            assert_eq!(broken_at(&doubled).map(|(found, _)| found), Some(place + 1));
            let mut swapped = lines.clone();
            swapped.swap(place, place - 1);
            assert!(broken_at(&swapped).is_some_and(|(found, _)| found <= place), "{place}");
        }
    }

    #[test]
    fn a_record_that_was_made_anew_does_not_bear_what_follows_it() {
        let mut lines = lines(4);
        lines[1] = line("{\"seq\":2,\"action\":\"add\"}", ChainHash::START.then("{\"seq\":1,\"action\":\"set\"}"));
        assert_eq!(broken_at(&lines), Some((2, Break::OtherPast)));
        lines[0] = line("{\"seq\":1,\"action\":\"set\"}", ChainHash::from_bytes([1; 32]));
        assert_eq!(broken_at(&lines), Some((0, Break::OtherPast)), "the first record stands on zeros");
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let good = &lines(1)[0];
        let upper = good.to_uppercase();
        for line in ["", "{}", "é", &"é".repeat(100), &upper, &good[1..], &format!("{good} ")] {
            assert!(matches!(Lines::default().take(line), Err(Break::NoRecord)), "{line}");
        }
        for text in ["{\"seq\":01,", "{\"seq\":,", "{\"seq\":-1,", "{\"seq\":1}", "{\"seq\":18446744073709551615,"] {
            assert_eq!(number_of(text), None, "{text}");
        }
    }
}
