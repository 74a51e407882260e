//! Section 2.3: which endpoint does a request line mean?
//!
//! A [`Template`] is parsed where an endpoint is written, a [`JudgedPath`] where a question arrives; both obey the same
//! rules for a segment, so what one accepts the other can match. [`Router`] brings them together.
//!
//! Pure: no clock, no I/O, no lock.

mod edges;
mod path;
mod router;
mod segments;
mod template;

use std::error::Error;
use std::fmt;

pub use path::{AmbiguousPath, JudgedPath};
pub use router::Router;
pub use template::{TEMPLATE_SEGMENTS_MAX, Template, TemplateError};

/// Longest path in a question, without its query string, which never matters; and longest template.
pub const PATH_BYTES_MAX: usize = 8 * 1024;

/// Longest method. The longest one registered for HTTP has 17 bytes.
pub const METHOD_BYTES_MAX: usize = 32;

/// A request method, `[A-Z][A-Z-]{0,31}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Method(Box<str>);

impl Method {
    /// Takes a method as written; nothing is trimmed or folded to upper case.
    pub fn parse(text: &str) -> Result<Method, MethodError> {
        if text.is_empty() {
            return Err(MethodError::Empty);
        }
        if text.len() > METHOD_BYTES_MAX {
            return Err(MethodError::TooLong);
        }
        if !is_method(text.as_bytes()) {
            return Err(MethodError::Malformed);
        }
        Ok(Method(text.into()))
    }

    /// The method, `GET`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Is this a well-formed method? For questions: no allocation.
pub fn is_method(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    bytes.len() <= METHOD_BYTES_MAX
        && first.is_ascii_uppercase()
        && rest.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
}

/// Why a text is no method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MethodError {
    /// Nothing there.
    Empty,
    /// Longer than [`METHOD_BYTES_MAX`].
    TooLong,
    /// Something else than capital letters and `-`, or a `-` in front.
    Malformed,
}

impl fmt::Display for MethodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MethodError::Empty => f.write_str("the method is empty; write one such as GET"),
            MethodError::TooLong => write!(f, "the method is longer than {METHOD_BYTES_MAX} bytes"),
            MethodError::Malformed => f.write_str(
                "a method consists of capital letters and `-` and begins with a letter; write it as in GET or M-SEARCH",
            ),
        }
    }
}

impl Error for MethodError {}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_capital_letters_and_dashes_beginning_with_a_letter() {
        let longest = "A".repeat(METHOD_BYTES_MAX);
        let too_long = "A".repeat(METHOD_BYTES_MAX + 1);
        let table = [
            ("GET", None),
            ("A", None),
            ("M-SEARCH", None),
            ("A-", None),
            (longest.as_str(), None),
            ("", Some(MethodError::Empty)),
            (too_long.as_str(), Some(MethodError::TooLong)),
            ("get", Some(MethodError::Malformed)),
            ("Get", Some(MethodError::Malformed)),
            ("-GET", Some(MethodError::Malformed)),
            (" GET", Some(MethodError::Malformed)),
            ("GET ", Some(MethodError::Malformed)),
            ("GE_T", Some(MethodError::Malformed)),
            ("GET1", Some(MethodError::Malformed)),
            ("GET\n", Some(MethodError::Malformed)),
            ("GÉT", Some(MethodError::Malformed)),
        ];
        for (text, expected) in table {
            assert_eq!(Method::parse(text).err(), expected, "{text:?}");
            assert_eq!(is_method(text.as_bytes()), expected.is_none(), "{text:?}");
        }
        assert_eq!(Method::parse("M-SEARCH").unwrap().to_string(), "M-SEARCH");
    }
}
