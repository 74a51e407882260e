//! Hashes that other systems made of codes: read from text, keyed once more, checked.
//!
//! The fast ones (SHA-2) are never kept as they came: what is stored is keyed with the pepper, so that a stolen database
//! is no list to try codes against. The slow ones (bcrypt, argon2id) are kept as text, which is made to withstand that,
//! and named by a keyed fingerprint. Either is replaced by Keyward's own hash when the code is first presented.

mod text;

use std::fmt;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

use super::secret::CODE_BYTES_MAX;
use super::{CodeHash, CodeMark, Id, Mode, Pepper, PresentedCode};
use text::{Argon2Text, BcryptText};

/// A text of argon2id with a salt and a hash of 64 bytes each has 213.
const SLOW_TEXT_BYTES_MAX: usize = 256;
/// Doubles the work with each step: 14 is a second for each try, more would hold the pool for those who wait behind it.
const BCRYPT_COST_MAX: u32 = 14;
/// Below this bcrypt is not defined.
const BCRYPT_COST_MIN: u32 = 4;
/// bcrypt itself looks at so many bytes, the zero behind the code counted.
const BCRYPT_BYTES_MAX: usize = 72;
/// Each thread of the pool may need it at once: twice what today's libraries take by default.
const ARGON2_MEMORY_KIB_MAX: u32 = 128 * 1024;
/// Memory times passes: a second for each try.
const ARGON2_WORK_KIB_MAX: u64 = 1024 * 1024;
/// Lanes are worked through one after the other.
const ARGON2_LANES_MAX: u32 = 16;
/// A shorter hash could be met by chance or search.
const ARGON2_HASH_BYTES_MIN: usize = 16;
/// Bytes of an argon2 salt and hash, at most; libraries make 16 and 32.
const ARGON2_BYTES_MAX: usize = 64;
/// And of a salt, at least: argon2's own bound.
const ARGON2_SALT_BYTES_MIN: usize = 8;
/// Of SHA-512, the longer one.
const DIGEST_BYTES_MAX: usize = 64;
/// Digits of an id, at most.
const ID_DIGITS_MAX: usize = 20;

/// What is stored of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKind {
    /// Keyward's own hash of the code.
    Own,
    /// Another system's digest of it, keyed.
    Digest(DigestKind),
    /// The keyed fingerprint of a [`SlowHash`], which lies beside it.
    Slow,
}

impl HashKind {
    const ALL: [Self; 6] = [
        Self::Own,
        Self::Digest(DigestKind::Sha256),
        Self::Digest(DigestKind::Sha512),
        Self::Digest(DigestKind::Sha256IdCode),
        Self::Digest(DigestKind::Sha512IdCode),
        Self::Slow,
    ];

    /// Its byte in rows and in what is hashed.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Own => 0,
            Self::Digest(DigestKind::Sha256) => 1,
            Self::Digest(DigestKind::Sha512) => 2,
            Self::Digest(DigestKind::Sha256IdCode) => 3,
            Self::Digest(DigestKind::Sha512IdCode) => 4,
            Self::Slow => 5,
        }
    }

    /// Its name where it is written as text with the pepper's hash; none for a slow one.
    pub(super) const fn stored_name(self) -> Option<&'static str> {
        match self {
            Self::Own => Some("keyward"),
            Self::Digest(DigestKind::Sha256) => Some("keyward-sha256"),
            Self::Digest(DigestKind::Sha512) => Some("keyward-sha512"),
            Self::Digest(DigestKind::Sha256IdCode) => Some("keyward-sha256-id-code"),
            Self::Digest(DigestKind::Sha512IdCode) => Some("keyward-sha512-id-code"),
            Self::Slow => None,
        }
    }

    pub(super) fn from_stored_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.stored_name().is_some_and(|known| known.as_bytes() == name))
    }

    /// The kind with this byte.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Which digest, of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestKind {
    /// SHA-256 of the code.
    Sha256,
    /// SHA-512 of the code.
    Sha512,
    /// SHA-256 of `id:code`.
    Sha256IdCode,
    /// SHA-512 of `id:code`.
    Sha512IdCode,
}

impl DigestKind {
    const ALL: [Self; 4] = [Self::Sha256, Self::Sha512, Self::Sha256IdCode, Self::Sha512IdCode];

    /// Its name, as it stands before a hash of its kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Sha256IdCode => "sha256-id-code",
            Self::Sha512IdCode => "sha512-id-code",
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Sha256 | Self::Sha256IdCode => 32,
            Self::Sha512 | Self::Sha512IdCode => 64,
        }
    }

    const fn has_id(self) -> bool {
        matches!(self, Self::Sha256IdCode | Self::Sha512IdCode)
    }
}

/// A digest as another system stored it.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    kind: DigestKind,
    bytes: Zeroizing<[u8; DIGEST_BYTES_MAX]>,
}

impl Digest {
    /// The digest that another system would have stored of this code. Allocates nothing.
    #[must_use]
    pub fn of(kind: DigestKind, id: u64, code: PresentedCode<'_>) -> Self {
        let mut input = [0; ID_DIGITS_MAX + 1 + CODE_BYTES_MAX];
        let mut used = 0;
        if kind.has_id() {
            used = put_decimal(&mut input, id);
            input[used] = b':';
            used += 1;
        }
        let code = code.expose();
        input[used..used + code.len()].copy_from_slice(code);
        let input = &input[..used + code.len()];
        let mut bytes = Zeroizing::new([0; DIGEST_BYTES_MAX]);
        match kind {
            DigestKind::Sha256 | DigestKind::Sha256IdCode => bytes[..32].copy_from_slice(&Sha256::digest(input)),
            DigestKind::Sha512 | DigestKind::Sha512IdCode => bytes.copy_from_slice(&Sha512::digest(input)),
        }
        Self { kind, bytes }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.kind.bytes()]
    }
}

/// Writes a number at the beginning of `out` and returns how many digits it has.
fn put_decimal(out: &mut [u8], number: u64) -> usize {
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut rest = number;
    for byte in out[..digits].iter_mut().rev() {
        *byte = b'0' + u8::try_from(rest % 10).expect("a digit is below ten");
        rest /= 10;
    }
    digits
}

/// A bcrypt or argon2id hash as another system stored it: a text that was found well-formed and within the bounds.
#[derive(Clone, PartialEq, Eq)]
pub struct SlowHash(Arc<str>);

impl SlowHash {
    /// Reads `$2b$…` (2a and 2y too) or `$argon2id$v=19$…`.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn parse(text: &[u8]) -> Result<Self, ForeignError> {
        if text.len() > SLOW_TEXT_BYTES_MAX {
            return Err(ForeignError::Unknown);
        }
        let text = str::from_utf8(text).map_err(|_| ForeignError::Unknown)?;
        match SlowText::parse(text)? {
            SlowText::Bcrypt(bcrypt) => judge_bcrypt(&bcrypt)?,
            SlowText::Argon2(argon2) => judge_argon2(&argon2)?,
        }
        Ok(Self(text.into()))
    }

    /// `bcrypt` or `argon2id`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.0.starts_with("$argon2id$") { "argon2id" } else { "bcrypt" }
    }

    /// The text; for a row, and an export that was asked to hold hashes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is this code's. Takes up to a second; `None` when there is no memory for it.
    #[must_use]
    pub fn verify(&self, code: PresentedCode<'_>) -> Option<bool> {
        match SlowText::parse(&self.0).ok()? {
            SlowText::Bcrypt(bcrypt) => {
                let mut input = Zeroizing::new([0; CODE_BYTES_MAX + 1]);
                let code = code.expose();
                input[..code.len()].copy_from_slice(code);
                let input = &input[..(code.len() + 1).min(BCRYPT_BYTES_MAX)];
                let made = bcrypt::bcrypt(bcrypt.cost, bcrypt.salt, input);
                Some(are_equal(&made[..bcrypt.hash.len()], &bcrypt.hash))
            }
            SlowText::Argon2(argon2) => {
                let params = Params::new(argon2.memory, argon2.passes, argon2.lanes, Some(argon2.hash.len())).ok()?;
                let mut made = vec![0; argon2.hash.len()];
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(code.expose(), &argon2.salt, &mut made)
                    .ok()?;
                Some(are_equal(&made, &argon2.hash))
            }
        }
    }
}

/// Takes the same time wherever the two differ.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    blake3::hash(one) == blake3::hash(other)
}

enum SlowText {
    Bcrypt(BcryptText),
    Argon2(Argon2Text),
}

impl SlowText {
    fn parse(text: &str) -> Result<Self, ForeignError> {
        if text.starts_with("$2") {
            return BcryptText::parse(text).map(Self::Bcrypt).ok_or(ForeignError::BcryptForm);
        }
        if text.starts_with("$argon2") {
            return Argon2Text::parse(text).map(Self::Argon2).ok_or(ForeignError::Argon2Form);
        }
        Err(ForeignError::Unknown)
    }
}

fn judge_bcrypt(bcrypt: &BcryptText) -> Result<(), ForeignError> {
    if (BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&bcrypt.cost) {
        Ok(())
    } else {
        Err(ForeignError::BcryptCost(bcrypt.cost))
    }
}

fn judge_argon2(argon2: &Argon2Text) -> Result<(), ForeignError> {
    let Argon2Text { memory, passes, lanes, .. } = *argon2;
    let work = u64::from(memory) * u64::from(passes);
    if memory > ARGON2_MEMORY_KIB_MAX || work > ARGON2_WORK_KIB_MAX || lanes > ARGON2_LANES_MAX {
        return Err(ForeignError::Argon2Cost { memory, passes, lanes });
    }
    let fits = (ARGON2_SALT_BYTES_MIN..=ARGON2_BYTES_MAX).contains(&argon2.salt.len())
        && (ARGON2_HASH_BYTES_MIN..=ARGON2_BYTES_MAX).contains(&argon2.hash.len())
        && Params::new(memory, passes, lanes, Some(argon2.hash.len())).is_ok();
    if fits { Ok(()) } else { Err(ForeignError::Argon2Form) }
}

/// A hash that is given in place of a code.
#[derive(Clone, PartialEq, Eq)]
pub enum GivenHash {
    /// As Keyward stores it, keyed with this daemon's pepper.
    Stored(CodeHash),
    /// Another system's, fast to make.
    Digest(Box<Digest>),
    /// Another system's, slow to make.
    Slow(SlowHash),
}

impl GivenHash {
    /// Reads any of the forms: `keyward:HEX`, `keyward-sha256:HEX`, …; `sha256:…`, …; `$2b$…`; `$argon2id$…`.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn parse(text: &[u8]) -> Result<Self, ForeignError> {
        if text.starts_with(b"$") {
            return SlowHash::parse(text).map(Self::Slow);
        }
        let colon = text.iter().position(|&byte| byte == b':').ok_or(ForeignError::Unknown)?;
        let (name, digits) = (&text[..colon], &text[colon + 1..]);
        if name.starts_with(CodeHash::PREFIX) {
            return CodeHash::parse(text).map(Self::Stored).ok_or(ForeignError::Stored);
        }
        let kind = DigestKind::ALL.into_iter().find(|kind| kind.name().as_bytes() == name);
        let kind = kind.ok_or(ForeignError::Unknown)?;
        let mut bytes = Zeroizing::new([0; DIGEST_BYTES_MAX]);
        text::digest(digits, &mut bytes[..kind.bytes()]).ok_or(ForeignError::Digest(kind))?;
        Ok(Self::Digest(Box::new(Digest { kind, bytes })))
    }

    /// What is stored of it, and what lies beside that.
    #[must_use]
    pub fn stored(self, pepper: &Pepper, mode: Mode, id: Id) -> (CodeHash, Option<SlowHash>) {
        match self {
            Self::Stored(hash) => (hash, None),
            Self::Digest(digest) => (pepper.hash_digest(mode, id.get(), &digest), None),
            Self::Slow(slow) => {
                let fingerprint = pepper.keyed(HashKind::Slow, mode, id.get(), slow.0.as_bytes());
                (fingerprint, Some(slow))
            }
        }
    }
}

impl Pepper {
    /// What is stored in place of a digest.
    #[must_use]
    pub fn hash_digest(&self, mode: Mode, id: u64, digest: &Digest) -> CodeHash {
        self.keyed(HashKind::Digest(digest.kind), mode, id, digest.as_slice())
    }
}

/// What a credential keeps of another system's hash, beside its codes.
#[derive(Clone, PartialEq, Eq)]
pub enum Foreign {
    /// The text whose fingerprint one of its codes is.
    Slow(SlowHash),
    /// Its current code was proven by such a hash: given again, that changes nothing.
    Proven {
        /// The current code.
        own: CodeMark,
        /// What proved it.
        by: CodeMark,
    },
}

impl Foreign {
    /// The text, if there is one.
    #[must_use]
    pub const fn slow(&self) -> Option<&SlowHash> {
        match self {
            Self::Slow(slow) => Some(slow),
            Self::Proven { .. } => None,
        }
    }
}

/// Why a text is no hash that can be taken. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignError {
    /// It begins like none of the forms.
    Unknown,
    /// Not the digits of a stored hash.
    Stored,
    /// Not the digits of the digest.
    Digest(DigestKind),
    /// Not bcrypt's form.
    BcryptForm,
    /// A cost out of bounds.
    BcryptCost(u32),
    /// Not argon2id's form.
    Argon2Form,
    /// Costs over the bounds.
    Argon2Cost {
        /// In KiB.
        memory: u32,
        /// Passes over it.
        passes: u32,
        /// Degree of parallelism.
        lanes: u32,
    },
}

impl fmt::Display for ForeignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str(
                "it is no hash that is known: keyward: as an export has it, sha256:, sha512:, sha256-id-code: or \
                 sha512-id-code: with hex or base64, bcrypt as $2b$…, argon2id as $argon2id$v=19$…",
            ),
            Self::Stored => f.write_str("behind its name a hash of an export has 64 hexadecimal digits"),
            Self::Digest(kind) => {
                let (name, bytes) = (kind.name(), kind.bytes());
                write!(f, "behind {name}: stand {} hexadecimal digits, or {bytes} bytes in base64", 2 * bytes)
            }
            Self::BcryptForm => {
                f.write_str("a bcrypt hash is $2a$, $2b$ or $2y$, two digits of cost, $, 53 characters")
            }
            Self::BcryptCost(cost) => write!(
                f,
                "a bcrypt cost of {cost} is not taken: {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX} are, more would hold \
                 others up for seconds; give the key a new code"
            ),
            Self::Argon2Form => f.write_str(
                "an argon2 hash is taken as $argon2id$v=19$m=…,t=…,p=…$SALT$HASH, with 8 to 64 and 16 to 64 bytes in \
                 base64 without =; of argon2i, argon2d and older versions none is",
            ),
            Self::Argon2Cost { memory, passes, lanes } => write!(
                f,
                "argon2id with m={memory},t={passes},p={lanes} is not taken: m up to {ARGON2_MEMORY_KIB_MAX}, m times t \
                 up to {ARGON2_WORK_KIB_MAX}, p up to {ARGON2_LANES_MAX} are; give the key a new code"
            ),
        }
    }
}

impl std::error::Error for ForeignError {}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test may panic")]
mod tests;
