//! The path of a request: judged, never repaired.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::slice;

use super::segments::Segments;

/// The part of a path that names the endpoint: decoded, without query, every rule of section 2.3 kept.
///
/// It is kept as one text: since no decoded segment holds a `/`, splitting there gives the decoded segments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JudgedPath<'a> {
    /// Without the leading `/`.
    decoded: Cow<'a, [u8]>,
}

impl<'a> JudgedPath<'a> {
    /// Judges the path of a request line, query string and all. Allocates only for a path with escapes.
    ///
    /// Takes any length in time proportional to it; [`PATH_BYTES_MAX`](super::PATH_BYTES_MAX) is for the caller to
    /// hold, since over it the answer is `bad_request` and not `ambiguous_path`.
    pub fn judge(raw: &'a [u8]) -> Result<JudgedPath<'a>, AmbiguousPath> {
        let decoded = match plain(raw) {
            Some(path) => Cow::Borrowed(path),
            None => judge_every_rule(raw)?,
        };
        Ok(JudgedPath { decoded })
    }

    /// The decoded segments, at least one: `/` is one empty segment, and only the last one may be empty.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        Segments::new(&self.decoded)
    }

    /// The segments behind `prefix`, which is empty or ends in a slash; `None` for a path that begins otherwise.
    pub(super) fn segments_behind(&self, prefix: &[u8]) -> Option<Segments<'_>> {
        self.decoded.starts_with(prefix).then(|| Segments::new(&self.decoded).behind(prefix.len()))
    }
}

/// Most paths hold nothing that any rule is about, and one look at each byte shows it: then this is the path up to the
/// query, without its leading `/`. `None` says only that a byte deserves [`judge_every_rule`].
fn plain(raw: &[u8]) -> Option<&[u8]> {
    let path = raw.strip_prefix(b"/")?;
    if !any_byte_odd(raw, path) {
        return Some(path);
    }
    let path = &path[..memchr::memchr2(b'?', b'#', path)?];
    (!any_byte_odd(raw, path)).then_some(path)
}

/// `raw` is one byte behind `path`: pairs of neighbours. Sixteen at a time, without stopping early within them.
#[inline]
fn any_byte_odd(raw: &[u8], path: &[u8]) -> bool {
    match path.last_chunk::<STEP>() {
        None => any_odd(raw, path),
        Some(last) => {
            let pairs = raw.as_chunks::<STEP>().0.iter().zip(path.as_chunks::<STEP>().0);
            let whole = pairs.fold(false, |found, (before, bytes)| found | any_odd(before, bytes));
            whole | any_odd(&raw[path.len() - STEP..], last)
        }
    }
}

/// Bytes that are looked at together.
const STEP: usize = 16;

/// Whether a byte is one that a rule is about, or begins `//` or perhaps a dot segment with the one before it.
#[inline]
fn any_odd(before: &[u8], bytes: &[u8]) -> bool {
    bytes.iter().zip(before).fold(false, |found, (&byte, &before)| {
        found | is_odd(byte) | ((before == b'/') & ((byte == b'/') | (byte == b'.')))
    })
}

const fn is_odd(byte: u8) -> bool {
    let ends_the_path = (byte == b'?') | (byte == b'#');
    ends_the_path | (byte == b'%') | (byte == b'\\') | (byte == b';') | (byte < 0x20) | (byte > 0x7e)
}

/// Every rule in turn, for any path.
fn judge_every_rule(raw: &[u8]) -> Result<Cow<'_, [u8]>, AmbiguousPath> {
    let path = raw.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let path = path.strip_prefix(b"/").ok_or(AmbiguousPath::NoLeadingSlash)?;
    let decoded = decode(path)?;
    // Neither a UTF-8 sequence nor `%` with its digits can reach across a `/`, so the whole is judged like its parts.
    let text = str::from_utf8(&decoded).map_err(|_| AmbiguousPath::NotUtf8)?;
    judge_segments(text)?;
    Ok(decoded)
}

/// The rules about decoded segments, for the text behind the leading `/`. Templates are held to them too.
pub(super) fn judge_segments(text: &str) -> Result<(), AmbiguousPath> {
    if text.starts_with('/') || text.contains("//") {
        return Err(AmbiguousPath::EmptySegment);
    }
    if text.as_bytes().split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")) {
        return Err(AmbiguousPath::DotSegment);
    }
    for c in text.chars() {
        match c {
            '\\' => return Err(AmbiguousPath::Backslash),
            ';' => return Err(AmbiguousPath::Semicolon),
            // Exactly U+0000 to 1F and 7F to 9F.
            _ if c.is_control() => return Err(AmbiguousPath::ControlCharacter),
            _ => {}
        }
    }
    let hex = |byte: &u8| byte.is_ascii_hexdigit();
    if text.as_bytes().windows(3).any(|three| three[0] == b'%' && three[1..].iter().all(hex)) {
        return Err(AmbiguousPath::StillEscaped);
    }
    Ok(())
}

/// Decodes every escape once. An escaped `/` ends it: behind it segments could no longer be told apart.
fn decode(path: &[u8]) -> Result<Cow<'_, [u8]>, AmbiguousPath> {
    if !path.contains(&b'%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let escaped = escaped_byte(&mut bytes).ok_or(AmbiguousPath::BrokenEscape)?;
        if escaped == b'/' {
            return Err(AmbiguousPath::EscapedSlash);
        }
        decoded.push(escaped);
    }
    Ok(Cow::Owned(decoded))
}

fn escaped_byte(bytes: &mut slice::Iter<'_, u8>) -> Option<u8> {
    let high = hex_value(*bytes.next()?)?;
    let low = hex_value(*bytes.next()?)?;
    Some(high << 4 | low)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        0..=b'/' | b':'..=b'@' | b'G'..=b'`' | b'g'..=0xff => None,
    }
}

/// The rule by which a path could be read in two ways; the web server behind may read it in the other one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AmbiguousPath {
    /// Empty, or not beginning with `/`.
    NoLeadingSlash,
    /// An empty segment before the last, `//`.
    EmptySegment,
    /// `%` without two hex digits behind it.
    BrokenEscape,
    /// An escaped `/`, `%2F`.
    EscapedSlash,
    /// A segment that is no UTF-8 when decoded.
    NotUtf8,
    /// A segment that is `.` or `..` when decoded.
    DotSegment,
    /// U+0000 to 1F or 7F to 9F, raw or escaped.
    ControlCharacter,
    /// `\`, raw or escaped.
    Backslash,
    /// `;`, raw or escaped.
    Semicolon,
    /// Decoded once, still `%` with two hex digits behind it.
    StillEscaped,
}

impl fmt::Display for AmbiguousPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AmbiguousPath::NoLeadingSlash => "the path does not begin with `/`",
            AmbiguousPath::EmptySegment => "the path has an empty segment before its last (`//`)",
            AmbiguousPath::BrokenEscape => "the path has a `%` without two hex digits behind it",
            AmbiguousPath::EscapedSlash => "a segment of the path holds an escaped `/`",
            AmbiguousPath::NotUtf8 => "a segment of the path is not valid UTF-8",
            AmbiguousPath::DotSegment => "a segment of the path is `.` or `..`",
            AmbiguousPath::ControlCharacter => "a segment of the path holds a control character",
            AmbiguousPath::Backslash => "a segment of the path holds a `\\`",
            AmbiguousPath::Semicolon => "a segment of the path holds a `;`",
            AmbiguousPath::StillEscaped => {
                "a segment of the path, decoded, still holds an escape (`%` and two hex digits)"
            }
        })
    }
}

impl Error for AmbiguousPath {}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::AmbiguousPath::*;
    use super::*;
    use crate::route::PATH_BYTES_MAX;

    #[test]
    fn a_clear_path_is_its_decoded_segments() {
        let table: &[(&str, &[&str])] = &[
            ("/", &[""]),
            ("/a", &["a"]),
            ("/a/", &["a", ""]),
            ("/api/v2/tickets", &["api", "v2", "tickets"]),
            ("/api/v2/Tickets", &["api", "v2", "Tickets"]),
            ("/api/v2/tick%65ts", &["api", "v2", "tickets"]),
            ("/api/v2/tickets?path=/../x&y=%2f", &["api", "v2", "tickets"]),
            ("/a#b", &["a"]),
            ("/a#b?c", &["a"]),
            ("/a?b#c//..", &["a"]),
            ("/?", &[""]),
            ("/a/?x", &["a", ""]),
            ("/%3f%23", &["?#"]),
            ("/%41%4a%4A", &["AJJ"]),
            ("/100%25", &["100%"]),
            ("/%25zz", &["%zz"]),
            ("/%254", &["%4"]),
            ("/%25/41", &["%", "41"]),
            ("/%257g", &["%7g"]),
            ("/...", &["..."]),
            ("/.a/..b/c./d..", &[".a", "..b", "c.", "d.."]),
            ("/.well-known/x", &[".well-known", "x"]),
            ("/a b", &["a b"]),
            ("/a%20b+c", &["a b+c"]),
            ("/é/%C3%a9", &["é", "é"]),
            ("/%C2%A0", &["\u{a0}"]),
            ("/{id}", &["{id}"]),
            ("/~:@!$&'()*,=\"<>[]^`|", &["~:@!$&'()*,=\"<>[]^`|"]),
        ];
        for (raw, expected) in table {
            let path = JudgedPath::judge(raw.as_bytes()).expect(raw);
            assert!(path.segments().eq(expected.iter().map(|segment| segment.as_bytes())), "{raw:?}: {path:?}");
        }
    }

    #[test]
    fn an_ambiguous_path_is_refused_with_its_rule() {
        let table: &[(&[u8], AmbiguousPath)] = &[
            (b"", NoLeadingSlash),
            (b"?/a", NoLeadingSlash),
            (b"#", NoLeadingSlash),
            (b"api/v2/tickets", NoLeadingSlash),
            (b"*", NoLeadingSlash),
            (b"%2fapi", NoLeadingSlash),
            (b"\\api", NoLeadingSlash),
            (b"http://host/api", NoLeadingSlash),
            (b"//", EmptySegment),
            (b"//a", EmptySegment),
            (b"/a//", EmptySegment),
            (b"/api/v2//tickets", EmptySegment),
            (b"/%41//b", EmptySegment),
            (b"/api/v2/tickets/%zz", BrokenEscape),
            (b"/%", BrokenEscape),
            (b"/%4", BrokenEscape),
            (b"/%4/1", BrokenEscape),
            (b"/%4?1", BrokenEscape),
            (b"/%%41", BrokenEscape),
            (b"/%+1", BrokenEscape),
            (b"/api/v2/tickets%2f9", EscapedSlash),
            (b"/a%2F", EscapedSlash),
            (b"/api/v2/tickets/%ff", NotUtf8),
            (b"/\xff", NotUtf8),
            (b"/%c3", NotUtf8),
            (b"/%c3/%a9", NotUtf8),
            (b"/%c0%af", NotUtf8),
            (b"/%ed%a0%80", NotUtf8),
            (b"/api/v2/tickets/.", DotSegment),
            (b"/api/v2/../v2/tickets", DotSegment),
            (b"/api/v2/%2e%2e/tickets", DotSegment),
            (b"/.", DotSegment),
            (b"/..", DotSegment),
            (b"/./", DotSegment),
            (b"/a/.%2E", DotSegment),
            (b"/..?x", DotSegment),
            (b"/api/v2/tickets/%00", ControlCharacter),
            (b"/api/v2/tickets/%0a", ControlCharacter),
            (b"/api/v2/tickets/%C2%85", ControlCharacter),
            (b"/a\tb", ControlCharacter),
            (b"/a\x00", ControlCharacter),
            (b"/%1F", ControlCharacter),
            (b"/%7f", ControlCharacter),
            (b"/\x7f", ControlCharacter),
            (b"/\xc2\x80", ControlCharacter),
            (b"/%C2%9F", ControlCharacter),
            (b"/api/v2\\tickets", Backslash),
            (b"/api/v2/tickets/%5c", Backslash),
            (b"/api/v2/tickets/counts;x", Semicolon),
            (b"/api/v2/tickets/%3B", Semicolon),
            (b"/;", Semicolon),
            (b"/api/v2/tickets/%252F9", StillEscaped),
            (b"/api/v2/tickets/%252e%252e", StillEscaped),
            (b"/api/v2/tickets/%25%32%66", StillEscaped),
            (b"/%2541", StillEscaped),
            (b"/%25%34%31", StillEscaped),
        ];
        for (raw, expected) in table {
            assert_eq!(JudgedPath::judge(raw), Err(*expected), "{:?}", raw.escape_ascii().to_string());
        }
    }

    #[test]
    fn only_an_escape_costs_an_allocation() {
        for (raw, borrowed) in [("/a/b?c=%41", true), ("/é/.a", true), ("/a/%41", false)] {
            let path = JudgedPath::judge(raw.as_bytes()).unwrap();
            assert_eq!(matches!(path.decoded, Cow::Borrowed(_)), borrowed, "{raw}");
        }
    }

    #[test]
    fn a_path_far_over_its_bound_is_judged_like_any_other() {
        for piece in ["/a", "/%41", "/é"] {
            let raw = piece.repeat(PATH_BYTES_MAX * 4);
            assert_eq!(JudgedPath::judge(raw.as_bytes()).unwrap().segments().count(), PATH_BYTES_MAX * 4);
        }
        let raw = "/".repeat(PATH_BYTES_MAX * 4);
        assert_eq!(JudgedPath::judge(raw.as_bytes()), Err(EmptySegment));
    }
}
