//! The texts that other systems write hashes in.

const HEX: &[u8] = b"0123456789abcdef";
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BCRYPT: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Characters of a bcrypt salt of 16 bytes.
const BCRYPT_SALT_CHARS: usize = 22;
/// And of a hash of 23.
const BCRYPT_HASH_CHARS: usize = 31;

/// Bits written in characters that stand for `bits` each, into all of `out`. What is left of the last character's bits
/// does not matter: not every system clears them.
fn decode(digits: &[u8], alphabet: &[u8], bits: u32, out: &mut [u8]) -> Option<()> {
    if digits.len() != (out.len() * 8).div_ceil(bits as usize) {
        return None;
    }
    let (mut gathered, mut held) = (0_u32, 0);
    let mut out = out.iter_mut();
    for digit in digits {
        let value = alphabet.iter().position(|known| known == digit)?;
        gathered = gathered << bits | u32::try_from(value).ok()?;
        held += bits;
        if held >= 8 {
            held -= 8;
            // No byte is left for what would come after the last.
            if let Some(byte) = out.next() {
                *byte = u8::try_from(gathered >> held & 0xff).ok()?;
            }
        }
    }
    Some(())
}

/// A digest of `out`'s length in hexadecimal digits or base64, either alphabet, padded or not.
pub(super) fn digest(digits: &[u8], out: &mut [u8]) -> Option<()> {
    if digits.len() == 2 * out.len() {
        return decode(&digits.to_ascii_lowercase(), HEX, 4, out);
    }
    let padding = digits.iter().rev().take_while(|&&byte| byte == b'=').count();
    if padding > 2 || padding > 0 && !digits.len().is_multiple_of(4) {
        return None;
    }
    let digits = &digits[..digits.len() - padding];
    decode(digits, STANDARD, 6, out).or_else(|| decode(digits, URL, 6, out))
}

/// `$2b$12$` and 53 characters.
pub(super) struct BcryptText {
    pub(super) cost: u32,
    pub(super) salt: [u8; 16],
    pub(super) hash: [u8; 23],
}

impl BcryptText {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = ["$2a$", "$2b$", "$2y$"].into_iter().find_map(|start| text.strip_prefix(start))?;
        let (cost, rest) = rest.split_once('$')?;
        let [_, _] = cost.as_bytes() else { return None };
        let (salt_digits, hash_digits) = rest.as_bytes().split_at_checked(BCRYPT_SALT_CHARS)?;
        if hash_digits.len() != BCRYPT_HASH_CHARS {
            return None;
        }
        let (mut salt, mut hash) = ([0; 16], [0; 23]);
        decode(salt_digits, BCRYPT, 6, &mut salt)?;
        decode(hash_digits, BCRYPT, 6, &mut hash)?;
        Some(Self { cost: number(cost)?, salt, hash })
    }
}

/// `$argon2id$v=19$m=65536,t=3,p=4$SALT$HASH`.
pub(super) struct Argon2Text {
    pub(super) memory: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
    pub(super) salt: Vec<u8>,
    pub(super) hash: Vec<u8>,
}

impl Argon2Text {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (costs, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let mut costs = costs.split(',');
        let mut cost = |name: &str| costs.next().and_then(|cost| cost.strip_prefix(name)).and_then(number);
        let (memory, passes, lanes) = (cost("m=")?, cost("t=")?, cost("p=")?);
        if costs.next().is_some() {
            return None;
        }
        Some(Self { memory, passes, lanes, salt: bytes(salt)?, hash: bytes(hash)? })
    }
}

/// Base64 without padding, as long as it is.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let mut out = vec![0; digits.len() * 6 / 8];
    decode(digits.as_bytes(), STANDARD, 6, &mut out)?;
    Some(out)
}

/// Digits and nothing else.
fn number(digits: &str) -> Option<u32> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}
