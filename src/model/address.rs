//! Client addresses and the blocks that a credential may be used from.

use std::fmt;
use std::net::IpAddr;

/// Blocks of one credential, at most (section 2.2).
pub const BLOCKS_MAX: usize = 64;

/// An address block. A v4-mapped v6 block is held as its v4 block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CidrError {
    /// The part before `/` is no address.
    Address,
    /// The part behind `/` is no prefix length of the address's family.
    Prefix,
    /// Bits beyond the prefix are set; holds the block that was probably meant.
    HostBits(Cidr),
}

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("it is no IPv4 or IPv6 address"),
            Self::Prefix => f.write_str("the prefix length must be 0 to 32 (IPv4) or 0 to 128 (IPv6)"),
            Self::HostBits(meant) => write!(f, "bits behind the prefix are set; the block is written {meant}"),
        }
    }
}

impl std::error::Error for CidrError {}

impl Cidr {
    /// Reads `10.1.0.0/16`, `2001:db8::/32` or a bare address.
    ///
    /// # Errors
    /// See [`CidrError`]; host bits that are set are refused, not cleared.
    pub fn parse(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let written_width = width(written);
        let prefix = match prefix {
            None => written_width,
            Some(digits) if is_plain_number(digits) => digits.parse().map_err(|_| CidrError::Prefix)?,
            Some(_) => return Err(CidrError::Prefix),
        };
        if prefix > written_width {
            return Err(CidrError::Prefix);
        }
        // A mapped block of /96 or longer lies wholly within the v4 addresses; a shorter one is a v6 block.
        let base = written.to_canonical();
        let mapped_bits = written_width - width(base);
        let (base, prefix) = match prefix.checked_sub(mapped_bits) {
            Some(prefix) => (base, prefix),
            None => (written, prefix),
        };
        let block = Self { base: masked(base, prefix), prefix };
        if block.base == base { Ok(block) } else { Err(CidrError::HostBits(block)) }
    }

    /// Whether `address`, canonical as from [`client_address`], lies in the block.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.prefix) == self.base
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

fn is_plain_number(digits: &str) -> bool {
    digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'))
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

/// The address as the trusted caller passed it, v4-mapped ones as v4; `None` when it is none.
#[must_use]
pub fn client_address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// 1 to 64 blocks: where a credential may be used from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList(Box<[Cidr]>);

/// Why a list of texts is no [`AllowList`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowListError {
    /// Not 1 to 64 blocks.
    Count(usize),
    /// One is no block.
    Block(String, CidrError),
}

impl fmt::Display for AllowListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(0) => f.write_str("an empty list would allow no address; give null for no limit"),
            Self::Count(count) => write!(f, "{count} blocks are too many, at most {BLOCKS_MAX} are allowed"),
            Self::Block(text, error) => write!(f, "{text:?} is no address block: {error}"),
        }
    }
}

impl std::error::Error for AllowListError {}

impl AllowList {
    /// Reads the blocks.
    ///
    /// # Errors
    /// See [`AllowListError`].
    pub fn parse<'a>(blocks: impl ExactSizeIterator<Item = &'a str>) -> Result<Self, AllowListError> {
        if !(1..=BLOCKS_MAX).contains(&blocks.len()) {
            return Err(AllowListError::Count(blocks.len()));
        }
        blocks
            .map(|text| {
                Cidr::parse(text).map_err(|error| AllowListError::Block(text.chars().take(60).collect(), error))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The blocks.
    #[must_use]
    pub fn blocks(&self) -> &[Cidr] {
        &self.0
    }

    /// Whether the presented address lies in a block. No address, or one that doesn't parse, does not.
    #[must_use]
    pub fn allows(&self, presented: Option<&[u8]>) -> bool {
        presented.and_then(client_address).is_some_and(|address| self.0.iter().any(|block| block.contains(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_strictly() {
        let table = [
            ("10.1.0.0/16", Some("10.1.0.0/16")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("::1", Some("::1/128")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::/0", Some("::/0")),
            ("::ffff:10.1.0.0/112", Some("10.1.0.0/16")),
            ("::ffff:10.1.2.3", Some("10.1.2.3/32")),
            ("10.1.2.3/16", None),
            ("10.1.0.0/33", None),
            ("10.1.0.0/016", None),
            ("10.1.0.0/+16", None),
            ("10.1.0.0/", None),
            ("10.1/16", None),
            ("010.1.0.0/16", None),
            (" 10.1.0.0/16", None),
            ("localhost", None),
            ("2001:db8::1/32", None),
            ("::/129", None),
        ];
        for (text, expected) in table {
            let block = Cidr::parse(text).ok().map(|block| block.to_string());
            assert_eq!(block.as_deref(), expected, "{text}");
        }
        let error = Cidr::parse("10.1.2.3/16").unwrap_err().to_string();
        assert!(error.contains("10.1.0.0/16"), "{error}");
    }

    #[test]
    fn an_address_must_lie_in_a_block() {
        let office = AllowList::parse(["10.1.0.0/16", "2001:db8::/32"].into_iter()).unwrap();
        let table: [(Option<&str>, bool); 9] = [
            (Some("10.1.2.3"), true),
            (Some("::ffff:10.1.2.3"), true),
            (Some("2001:db8::7"), true),
            (Some("10.2.0.1"), false),
            (Some("::1"), false),
            (Some("unix:"), false),
            (Some(""), false),
            (Some("10.1.2.3, 10.1.2.4"), false),
            (None, false),
        ];
        for (address, expected) in table {
            assert_eq!(office.allows(address.map(str::as_bytes)), expected, "{address:?}");
        }
    }

    #[test]
    fn everything_of_one_family_says_nothing_of_the_other() {
        let v6 = AllowList::parse(["::/0"].into_iter()).unwrap();
        assert!(v6.allows(Some(b"2001:db8::1")));
        assert!(!v6.allows(Some(b"10.0.0.1")));
        assert!(!v6.allows(Some(b"::ffff:10.0.0.1")));
    }
}
