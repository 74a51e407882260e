//! What Keyward keeps and says: ids, times, records, changes, verdicts. Pure.
//!
//! | part | what is in it |
//! |---|---|
//! | here | ids, times, modes |
//! | [`address`] | CIDR blocks and client addresses |
//! | [`secret`] | the pepper, codes, hashes: nothing here can be printed |
//! | [`record`] | agents, endpoints, credentials; a committed [`Change`] of them |
//! | [`foreign`] | hashes that other systems made of codes |
//! | [`edit`] | what an operator gives of a record |
//! | [`rate`], [`bucket`] | how often a credential may be allowed, and what is left of that |
//! | [`uses`] | last uses of codes |
//! | [`verdict`] | questions' answers |

pub mod address;
pub mod bucket;
pub mod edit;
pub mod foreign;
pub mod rate;
pub mod record;
pub mod secret;
mod texts;
pub mod uses;
pub mod verdict;

use std::fmt;

pub use address::{AllowList, Cidr, client_address};
pub use bucket::{Bucket, RetryAfter, Ticks};
pub use edit::{AgentEdit, CredentialEdit, Edit, EndpointEdit, GivenRetiring};
pub use foreign::{Foreign, GivenHash, HashKind, SlowHash};
pub use rate::Rate;
pub use record::{
    Agent, Binding, Change, Codes, Credential, Endpoint, Kind, Record, RecordKey, RecordName, RetiringCode,
};
pub use secret::{Code, CodeHash, Pepper, PresentedCode, PresentedCredential};
pub use texts::{ShortList, TextList};
pub use uses::{CodeMark, LastUse, LastUses};
pub use verdict::{AgentTerms, CodeSlot, Identity, Reason, Route, Terms, Verdict};

pub use crate::route::{Method, Template};

/// The largest id that can be written: 2^53 − 1 is safe in every language (section 2.2).
pub const ID_MAX: u64 = (1 << 53) - 1;

/// An id of a record: 1 … [`ID_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

impl Id {
    /// The id, if it can be written.
    #[must_use]
    pub const fn new(id: u64) -> Option<Self> {
        if id >= 1 && id <= ID_MAX { Some(Self(id)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads an id as a request presents it: a decimal `u64` without sign or leading zero. It need not be one that can be
/// written; then it names nothing.
#[must_use]
pub fn parse_presented_id(text: &[u8]) -> Option<u64> {
    /// So many digits are below 10^19, which a `u64` holds.
    const DIGITS_ALWAYS_FIT: usize = 19;
    let digit = |digit: &u8| digit.is_ascii_digit().then(|| u64::from(digit - b'0'));
    match text {
        [b'0', _, ..] | [] => None,
        digits if digits.len() <= DIGITS_ALWAYS_FIT => {
            digits.iter().try_fold(0_u64, |id, byte| Some(id * 10 + digit(byte)?))
        }
        digits => digits.iter().try_fold(0_u64, |id, byte| id.checked_mul(10)?.checked_add(digit(byte)?)),
    }
}

/// Seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixSeconds(pub u64);

/// The number of a commit; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// How a credential is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// An API key.
    Key,
    /// An API token.
    Token,
    /// A session.
    Session,
}

impl Mode {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Key, Self::Token, Self::Session];

    /// `key`, `token` or `session`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
            Self::Session => "session",
        }
    }

    /// The mode of a header value's scheme, in any case.
    #[must_use]
    pub fn from_scheme(scheme: &[u8]) -> Option<Self> {
        match scheme.len() {
            3 if scheme.eq_ignore_ascii_case(b"key") => Some(Self::Key),
            5 if scheme.eq_ignore_ascii_case(b"token") => Some(Self::Token),
            7 if scheme.eq_ignore_ascii_case(b"session") => Some(Self::Session),
            _ => None,
        }
    }

    /// Its place in tables of the three.
    #[must_use]
    pub const fn index(self) -> usize {
        self.number() as usize
    }

    /// The mode with this byte.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.number() == number)
    }

    /// Its byte in hashes and row keys.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The modes that may use an endpoint: any of the three, or `public` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes(u8);

/// Why a list of words is no [`Modes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModesError {
    /// Not one of `key`, `token`, `session`, `public`.
    Unknown(String),
    /// `public` beside others.
    PublicAndMore,
    /// None given.
    Empty,
}

impl fmt::Display for ModesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "{word:?} is no mode: give key, token, session, or public alone"),
            Self::PublicAndMore => f.write_str("public stands alone: such an endpoint looks at no credential"),
            Self::Empty => f.write_str("no mode is given: give key, token, session, or public alone"),
        }
    }
}

impl std::error::Error for ModesError {}

impl Modes {
    /// No credential needed, none looked at.
    pub const PUBLIC: Self = Self(0);
    /// Key, token and session: the default.
    pub const ALL: Self = Self(0b111);

    /// Reads words such as `key`.
    ///
    /// # Errors
    /// See [`ModesError`].
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, ModesError> {
        let (mut bits, mut public) = (0, false);
        for word in words {
            match Mode::ALL.into_iter().find(|mode| mode.name() == word) {
                Some(mode) => bits |= 1 << mode.index(),
                None if word == "public" => public = true,
                None => return Err(ModesError::Unknown(word.chars().take(40).collect())),
            }
        }
        match (bits, public) {
            (0, true) => Ok(Self::PUBLIC),
            (_, true) => Err(ModesError::PublicAndMore),
            (0, false) => Err(ModesError::Empty),
            (bits, false) => Ok(Self(bits)),
        }
    }

    /// The bits as stored: one a mode, none for public.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The modes with these bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits <= Self::ALL.0 { Some(Self(bits)) } else { None }
    }

    /// Whether no credential is needed.
    #[must_use]
    pub const fn is_public(self) -> bool {
        self.0 == 0
    }

    /// Whether a credential of this mode may use the endpoint.
    #[must_use]
    pub const fn allows(self, mode: Mode) -> bool {
        self.0 & (1 << mode.index()) != 0
    }

    /// The words, in a fixed order.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        if self.is_public() {
            return vec!["public"];
        }
        Mode::ALL.into_iter().filter(|&mode| self.allows(mode)).map(Mode::name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presented_id_is_a_plain_decimal_number() {
        let table: [(&str, Option<u64>); 12] = [
            ("1", Some(1)),
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("01", None),
            ("00", None),
            ("+1", None),
            ("-1", None),
            (" 1", None),
            ("1x", None),
            ("٣", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_presented_id(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn public_stands_alone_among_the_modes() {
        assert_eq!(Modes::parse(["public"]), Ok(Modes::PUBLIC));
        assert_eq!(Modes::parse(["public", "key"]), Err(ModesError::PublicAndMore));
        assert_eq!(Modes::parse([]), Err(ModesError::Empty));
        assert_eq!(Modes::parse(["key", "token", "session"]), Ok(Modes::ALL));
        assert_eq!(Modes::parse(["session"]).unwrap().names(), ["session"]);
        assert!(Modes::parse(["Key"]).is_err());
    }

    #[test]
    fn ids_that_can_be_written_are_safe_in_every_language() {
        assert_eq!(Id::new(0), None);
        assert!(Id::new(1).is_some());
        assert!(Id::new(ID_MAX).is_some());
        assert_eq!(Id::new(ID_MAX + 1), None);
    }
}
