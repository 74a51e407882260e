//! Secrets: the pepper, codes and their hashes. No type here has `Debug`, `Display` or `Serialize`.

use std::fmt;

use zeroize::Zeroizing;

use super::foreign::HashKind;
use super::{Mode, parse_presented_id};

/// Bytes of a code, at least.
pub const CODE_BYTES_MIN: usize = 8;
/// Bytes of a code, at most.
pub const CODE_BYTES_MAX: usize = 128;
/// Characters of a code that Keyward makes: 125 bits.
pub const NEW_CODE_CHARS: usize = 25;
/// Bytes of the pepper.
pub const PEPPER_BYTES: usize = 32;

/// Crockford's base-32 alphabet: no I, L, O, U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The secret that keys every hash; lives outside the database.
pub struct Pepper(Zeroizing<[u8; PEPPER_BYTES]>);

impl Pepper {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; PEPPER_BYTES]>) -> Self {
        Self(bytes)
    }

    /// `BLAKE3-keyed(pepper, mode, id, code)` (section 2.2): the mode's byte, the id big-endian, the code.
    #[must_use]
    pub fn hash(&self, mode: Mode, id: u64, code: PresentedCode<'_>) -> CodeHash {
        #[cfg(test)]
        HASHES_MADE.with(|made| made.set(made.get() + 1));
        const PREFIX_BYTES: usize = 1 + 8;
        let mut input = [0; PREFIX_BYTES + CODE_BYTES_MAX];
        input[0] = mode.number();
        input[1..PREFIX_BYTES].copy_from_slice(&id.to_be_bytes());
        input[PREFIX_BYTES..PREFIX_BYTES + code.0.len()].copy_from_slice(code.0);
        let hash = blake3::keyed_hash(&self.0, &input[..PREFIX_BYTES + code.0.len()]);
        CodeHash { hash, kind: HashKind::Own }
    }

    /// The same over what another system made of a code. The kind stands beside the mode in the first byte, so that none
    /// is ever another's.
    pub(super) fn keyed(&self, kind: HashKind, mode: Mode, id: u64, bytes: &[u8]) -> CodeHash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[kind.number() << 4 | mode.number()]);
        hasher.update(&id.to_be_bytes());
        hasher.update(bytes);
        CodeHash { hash: hasher.finalize(), kind }
    }

    /// A key of its own for another purpose, named by `context`.
    #[must_use]
    pub fn derive(&self, context: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context, self.0.as_slice()))
    }
}

/// What is stored of a code. Comparing takes the same time wherever two of one kind differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodeHash {
    hash: blake3::Hash,
    kind: HashKind,
}

impl CodeHash {
    /// Stands before what was made with the pepper, where hashes are written as text.
    pub(super) const PREFIX: &[u8] = b"keyward";

    /// The stored form.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.hash.as_bytes()
    }

    /// From the stored form, Keyward's own.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self::of_kind(HashKind::Own, bytes)
    }

    /// From the stored form.
    #[must_use]
    pub const fn of_kind(kind: HashKind, bytes: [u8; 32]) -> Self {
        Self { hash: blake3::Hash::from_bytes(bytes), kind }
    }

    /// What was hashed.
    #[must_use]
    pub const fn kind(&self) -> HashKind {
        self.kind
    }

    /// Whether another system's hash was, in place of the code.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        !matches!(self.kind, HashKind::Own)
    }

    /// Reads the form that an export has: `keyward:` or, of a digest, `keyward-sha256:`, …, and 64 hexadecimal digits.
    /// `None` when it has another.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let colon = text.iter().position(|&byte| byte == b':')?;
        let kind = HashKind::from_stored_name(&text[..colon])?;
        blake3::Hash::from_hex(&text[colon + 1..]).ok().map(|hash| Self { hash, kind })
    }

    /// The form that [`CodeHash::parse`] reads; for an export that was asked to hold hashes, and nothing else. `None` of a
    /// slow hash, whose text lies beside it: [`super::Credential::expose_hash`] knows both.
    #[must_use]
    pub fn expose_text(&self) -> Option<Zeroizing<Vec<u8>>> {
        let name = self.kind.stored_name()?;
        Some(Zeroizing::new([name.as_bytes(), b":", self.hash.to_hex().as_bytes()].concat()))
    }
}

/// A code that a request presents: 8 to 128 visible ASCII bytes.
#[derive(Clone, Copy)]
pub struct PresentedCode<'a>(&'a [u8]);

impl<'a> PresentedCode<'a> {
    /// The bytes as a code, if they have its form.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let fits = (CODE_BYTES_MIN..=CODE_BYTES_MAX).contains(&bytes.len());
        // Looks at all bytes without stopping early, many at a time.
        (fits && bytes.iter().fold(true, |all, byte| all & byte.is_ascii_graphic())).then_some(Self(bytes))
    }

    /// The bytes, for the hash that is made of them.
    pub(super) const fn expose(self) -> &'a [u8] {
        self.0
    }

    /// A copy that outlives the request; wiped when dropped.
    #[must_use]
    pub fn to_code(self) -> Code {
        Code(Zeroizing::new(self.0.to_vec()))
    }
}

/// A header value taken apart: `key ID:CODE`.
#[derive(Clone, Copy)]
pub struct PresentedCredential<'a> {
    /// The scheme.
    pub mode: Mode,
    /// Any `u64`, not only one that can be written.
    pub id: u64,
    /// The code.
    pub code: PresentedCode<'a>,
}

impl<'a> PresentedCredential<'a> {
    /// Reads a header value; `None` when it is malformed (section 2.2).
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let scheme_end = value.iter().position(|&b| b == b' ')?;
        let (scheme, rest) = value.split_at(scheme_end);
        let mode = Mode::from_scheme(scheme)?;
        let blanks = rest.iter().take_while(|&&b| b == b' ').count();
        let pair = &rest[blanks..];
        let colon = pair.iter().position(|&b| b == b':')?;
        let id = parse_presented_id(&pair[..colon])?;
        let code = PresentedCode::parse(&pair[colon + 1..])?;
        Some(Self { mode, id, code })
    }
}

/// A code that is to be stored: given by an operator or made here.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Zeroizing<Vec<u8>>);

/// Why bytes are no code. Says nothing of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeError {
    /// Not 8 to 128 visible ASCII bytes.
    Form,
    /// A session's code has a character outside `[A-Za-z0-9_-]`.
    Session,
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => {
                write!(f, "a code has {CODE_BYTES_MIN} to {CODE_BYTES_MAX} visible ASCII characters, no blanks")
            }
            Self::Session => f.write_str("a session's code may hold only A-Z a-z 0-9 _ -, so that it fits a cookie"),
        }
    }
}

impl std::error::Error for CodeError {}

impl Code {
    /// Takes a given code for a credential of `mode`.
    ///
    /// # Errors
    /// See [`CodeError`].
    pub fn parse(mode: Mode, bytes: &[u8]) -> Result<Self, CodeError> {
        PresentedCode::parse(bytes).ok_or(CodeError::Form)?;
        let fits_cookie = bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if mode == Mode::Session && !fits_cookie {
            return Err(CodeError::Session);
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// A new code of 25 characters from 25 random bytes, five bits of each.
    #[must_use]
    pub fn from_random(random: &Zeroizing<[u8; NEW_CODE_CHARS]>) -> Self {
        Self(Zeroizing::new(random.iter().map(|byte| CROCKFORD[usize::from(byte & 31)]).collect()))
    }

    /// The code as presented by a request.
    #[must_use]
    pub fn presented(&self) -> PresentedCode<'_> {
        PresentedCode(&self.0)
    }

    /// The bytes, for the one reply that shows a new code.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
thread_local! {
    /// For tests of what a question costs.
    static HASHES_MADE: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// How many hashes of codes this thread has made.
#[cfg(test)]
pub(crate) fn hashes_made() -> u32 {
    HASHES_MADE.with(std::cell::Cell::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Option<(Mode, u64)> {
        PresentedCredential::parse(value.as_bytes()).map(|c| (c.mode, c.id))
    }

    #[test]
    fn a_header_value_has_one_form() {
        let table = [
            ("key 2:YWK2PGCS8CNW62SR8TBTBKWMY", Some((Mode::Key, 2))),
            ("KEY  2:YWK2PGCS8CNW62SR8TBTBKWMY", Some((Mode::Key, 2))),
            ("tOkEn 18446744073709551615:12345678", Some((Mode::Token, u64::MAX))),
            ("session 7:a:b:c:d:e", Some((Mode::Session, 7))),
            ("key 0:12345678", Some((Mode::Key, 0))),
            (" key 2:12345678", None),
            ("key 2:12345678 ", None),
            ("key\t2:12345678", None),
            ("key 2 :12345678", None),
            ("key 2:1234567", None),
            ("key2:12345678", None),
            ("key", None),
            ("key ", None),
            ("keys 2:12345678", None),
            ("", None),
        ];
        for (value, expected) in table {
            assert_eq!(parsed(value), expected, "{value:?}");
        }
        assert!(parsed(&format!("key 2:{}", "A".repeat(128))).is_some());
        assert!(parsed(&format!("key 2:{}", "A".repeat(129))).is_none());
    }

    #[test]
    fn a_hash_depends_on_pepper_mode_id_and_code() {
        let pepper = |byte| Pepper::new(Zeroizing::new([byte; PEPPER_BYTES]));
        let code = |text: &'static str| PresentedCode::parse(text.as_bytes()).unwrap();
        let first = pepper(1).hash(Mode::Key, 2, code("12345678"));
        assert!(first == pepper(1).hash(Mode::Key, 2, code("12345678")));
        assert!(first != pepper(2).hash(Mode::Key, 2, code("12345678")));
        assert!(first != pepper(1).hash(Mode::Token, 2, code("12345678")));
        assert!(first != pepper(1).hash(Mode::Key, 3, code("12345678")));
        assert!(first != pepper(1).hash(Mode::Key, 2, code("123456789")));
    }

    #[test]
    fn a_hash_is_read_back_from_its_text_and_from_no_other() {
        let hash = CodeHash::from_bytes([0xa7; 32]);
        let text = hash.expose_text().unwrap();
        assert_eq!(text.as_slice(), format!("keyward:{}", "a7".repeat(32)).as_bytes());
        assert!(CodeHash::parse(&text) == Some(hash));
        for wrong in [&text[8..], &text[..text.len() - 1], b"", b"keyward:", &[&text[..], b"0"].concat()] {
            assert!(CodeHash::parse(wrong).is_none());
        }
    }

    #[test]
    fn a_new_code_is_twenty_five_crockford_characters() {
        let mut random = Zeroizing::new([0; NEW_CODE_CHARS]);
        for (byte, value) in random.iter_mut().zip((7..=u8::MAX).step_by(9)) {
            *byte = value;
        }
        let code = Code::from_random(&random);
        assert_eq!(code.expose().len(), 25);
        assert!(code.expose().iter().all(|b| CROCKFORD.contains(b)));
        for mode in Mode::ALL {
            assert!(Code::parse(mode, code.expose()).is_ok());
        }
    }

    #[test]
    fn a_sessions_code_fits_a_cookie() {
        assert!(Code::parse(Mode::Session, b"abc_DEF-123").is_ok());
        assert_eq!(Code::parse(Mode::Session, b"abc;DEF=123").err(), Some(CodeError::Session));
        assert!(Code::parse(Mode::Key, b"abc;DEF=123").is_ok());
        assert_eq!(Code::parse(Mode::Key, b"abc DEF=123").err(), Some(CodeError::Form));
    }
}
