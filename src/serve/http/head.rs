//! A request's head, from its bytes. What two parsers might read in two ways is refused, and so is what is no HTTP/1.
//!
//! The door wants little of HTTP: no body is ever read, and most headers mean nothing to it. So the lines are looked at
//! where they lie, in one pass, and what a general server makes of them (a map of headers, a URI,
//! a body) is never made: that was most of what the door cost.

/// A request line with a long URI, and the longest credential, agent and cookies beside it, fit; nginx takes 32 KiB.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Lines of a head without the request line: as many as other servers take.
pub const HEADER_LINES_MAX: usize = 100;

/// Why a head is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has a shape that two parsers could read in two ways, or is no HTTP/1.
    Malformed,
    /// Over [`HEAD_BYTES_MAX`] or [`HEADER_LINES_MAX`].
    TooLarge,
    /// Not whole in time.
    TooSlow,
}

impl Refusal {
    /// The answer; the connection ends behind it.
    pub const fn answer(self) -> &'static [u8] {
        match self {
            Self::Malformed => b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            Self::TooLarge => {
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            }
            Self::TooSlow => b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        }
    }
}

/// What a connection is after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// Kept, as HTTP/1.1 does by itself.
    Kept,
    /// Kept because the client asked for it, who must be told.
    KeptAsAsked,
    /// Closed.
    Closed,
}

/// What a head says, but for the headers that a question is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'h> {
    /// As it was written.
    pub method: &'h [u8],
    /// Without query string.
    pub path: &'h [u8],
    /// What follows is no request: a body was announced, which nobody reads, or a tunnel.
    pub has_body: bool,
    /// What is to become of the connection.
    pub afterwards: Afterwards,
}

/// Reads the first head of `input` and hands each header to `each`. `None` when it is not whole; then some headers were
/// handed over, too. With it, how many bytes it takes.
///
/// # Errors
/// See [`Refusal`]; before the head is whole, too.
pub fn read<'h>(
    input: &'h [u8],
    mut each: impl FnMut(&'h [u8], &'h [u8]),
) -> Result<Option<(Head<'h>, usize)>, Refusal> {
    let mut lines = Lines { input, used: 0 };
    let Some(line) = lines.next()? else { return Ok(None) };
    let request = request_line(line)?;
    let mut framing = Framing::default();
    for _ in 0..=HEADER_LINES_MAX {
        let Some(line) = lines.next()? else { return Ok(None) };
        if line.is_empty() {
            return Ok(Some((framing.head(&request), lines.used)));
        }
        let (name, value) = header_line(line)?;
        framing.take(name, value, &request)?;
        each(name, value);
    }
    Err(Refusal::TooLarge)
}

struct Lines<'h> {
    input: &'h [u8],
    used: usize,
}

impl<'h> Lines<'h> {
    /// The next line without its end; `None` when it is not whole.
    fn next(&mut self) -> Result<Option<&'h [u8]>, Refusal> {
        let rest = &self.input[self.used..];
        let end = memchr::memchr(b'\n', rest);
        let bytes = end.map_or(rest.len(), |at| at + 1);
        if self.used + bytes > HEAD_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        if end.is_none() {
            return Ok(None);
        }
        self.used += bytes;
        rest[..bytes].strip_suffix(b"\r\n").map(Some).ok_or(Refusal::Malformed)
    }
}

struct RequestLine<'h> {
    method: &'h [u8],
    target: &'h [u8],
    is_1_0: bool,
}

fn request_line(line: &[u8]) -> Result<RequestLine<'_>, Refusal> {
    let method = token(line)?;
    let rest = line[method.len()..].strip_prefix(b" ").ok_or(Refusal::Malformed)?;
    let blank = rest.iter().position(|b| !b.is_ascii_graphic()).unwrap_or(0);
    let (target, version) = rest.split_at(blank);
    if target.is_empty() {
        return Err(Refusal::Malformed);
    }
    let is_1_0 = match version {
        b" HTTP/1.1" => false,
        b" HTTP/1.0" => true,
        _ => return Err(Refusal::Malformed),
    };
    Ok(RequestLine { method, target, is_1_0 })
}

/// The path of a target, be it `/path?query` or `http://host/path?query`; nothing when it is neither.
fn path(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(target.len());
    let target = &target[..end];
    if target.starts_with(b"/") {
        return target;
    }
    let authority = target.windows(3).position(|three| three == b"://").map_or(target.len(), |at| at + 3);
    let path = target[authority..].iter().position(|b| *b == b'/').map_or(target.len(), |at| authority + at);
    &target[path..]
}

/// A name that is a token, a colon at once behind it: so neither a folded line nor a blank before the colon. A value
/// without control characters.
fn header_line(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let name = token(line)?;
    let value = line[name.len()..].strip_prefix(b":").ok_or(Refusal::Malformed)?;
    // Without stopping early: many bytes at a time are looked at so.
    let is_odd = value.iter().fold(false, |odd, b| odd | (*b < b' ' && *b != b'\t') | (*b == 0x7f));
    if is_odd { Err(Refusal::Malformed) } else { Ok((name, value.trim_ascii())) }
}

/// The token that the line begins with.
fn token(line: &[u8]) -> Result<&[u8], Refusal> {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128_u8 {
            table[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let (marks, mut at) = (b"!#$%&'*+-.^_`|~", 0);
        while at < marks.len() {
            table[marks[at] as usize] = true;
            at += 1;
        }
        table
    };
    let bytes = line.iter().position(|b| !TOKEN[usize::from(*b)]).unwrap_or(line.len());
    if bytes == 0 { Err(Refusal::Malformed) } else { Ok(&line[..bytes]) }
}

/// Where a request ends, and what is to become of its connection.
#[derive(Default)]
struct Framing {
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Framing {
    fn take(&mut self, name: &[u8], value: &[u8], request: &RequestLine<'_>) -> Result<(), Refusal> {
        // By length first: most headers are none of these.
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let mut options = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
                self.close |= options.clone().any(|option| option.eq_ignore_ascii_case(b"close"));
                self.keep_alive |= options.any(|option| option.eq_ignore_ascii_case(b"keep-alive"));
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let number = value.iter().all(u8::is_ascii_digit).then_some(value);
                let number = number.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
                if self.chunked || self.content_length.is_some() || number.is_none() {
                    return Err(Refusal::Malformed);
                }
                self.content_length = number;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let plain = value.eq_ignore_ascii_case(b"chunked") && !request.is_1_0;
                if self.chunked || self.content_length.is_some() || !plain {
                    return Err(Refusal::Malformed);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn head<'h>(&self, request: &RequestLine<'h>) -> Head<'h> {
        let has_body =
            self.chunked || self.content_length.is_some_and(|bytes| bytes > 0) || request.method == b"CONNECT";
        let afterwards = if has_body || self.close {
            Afterwards::Closed
        } else if !request.is_1_0 {
            Afterwards::Kept
        } else if self.keep_alive {
            Afterwards::KeptAsAsked
        } else {
            Afterwards::Closed
        };
        Head { method: request.method, path: path(request.target), has_body, afterwards }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BEGUN: Result<Option<Head<'static>>, Refusal> = Ok(None);
    const BAD: Result<Option<Head<'static>>, Refusal> = Err(Refusal::Malformed);

    fn head(bytes: &str) -> Result<Option<Head<'_>>, Refusal> {
        read(bytes.as_bytes(), |_, _| {}).map(|read| read.map(|(head, _)| head))
    }

    fn post(headers: &str) -> String {
        format!("POST /me HTTP/1.1\r\n{headers}\r\n")
    }

    #[test]
    fn a_head_has_one_reading_or_none() {
        let kept = Ok(Some(Head { method: b"POST", path: b"/me", has_body: false, afterwards: Afterwards::Kept }));
        let body = Ok(Some(Head { method: b"POST", path: b"/me", has_body: true, afterwards: Afterwards::Closed }));
        let table = [
            (post(""), kept),
            (post("A: b\r\nC:\r\n"), kept),
            (post("A: \tb \u{fc}\r\n"), kept),
            (post("") + "G", kept),
            (String::new(), BEGUN),
            ("GET /me HTTP/1.0\r\nA: b\r\n".to_string(), BEGUN),
            (post("Content-Length: 0\r\n"), kept),
            (post("Content-Length: 00\r\n"), kept),
            (post("Content-Length: 10\r\n"), body),
            (post("content-length: 3\r\n") + "\n\n\nGET", body),
            (post("Transfer-Encoding: Chunked\r\n"), body),
            (post("A: b\r\n folded: c\r\n"), BAD),
            (post("A : b\r\n"), BAD),
            (post("Content-Length : 3\r\n"), BAD),
            (post(": b\r\n"), BAD),
            (post("no colon\r\n"), BAD),
            (post("A: b\n"), BAD),
            (post("A: b\rC: d\r\n"), BAD),
            (post("A: b\x00\r\n"), BAD),
            (post("A: b\x7f\r\n"), BAD),
            (post("A\u{fc}: b\r\n"), BAD),
            (post("Content-Length: 0\r\nContent-Length: 0\r\n"), BAD),
            (post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), BAD),
            (post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), BAD),
            (post("Transfer-Encoding: gzip, chunked\r\n"), BAD),
            (post("Content-Length: 0x1\r\n"), BAD),
            (post("Content-Length:\r\n"), BAD),
            (post("Content-Length: 18446744073709551616\r\n"), BAD),
            ("GET /me HTTP/1.0\r\nTransfer-Encoding: chunked\r\n".to_string(), BAD),
            ("GET /me\r\n".to_string(), BAD),
            ("GET /me HTTP/2.0\r\n".to_string(), BAD),
            ("GET  /me HTTP/1.1\r\n".to_string(), BAD),
            ("GET /me x HTTP/1.1\r\n".to_string(), BAD),
            ("GET /m\u{fc} HTTP/1.1\r\n".to_string(), BAD),
            ("GE(T /me HTTP/1.1\r\n".to_string(), BAD),
            ("\r\n".to_string(), BAD),
            ("\n".to_string(), BAD),
        ];
        for (bytes, expected) in table {
            assert_eq!(head(&bytes), expected, "{bytes:?}");
            // What is not whole yet is not taken for whole, and nothing is refused later that was taken before.
            let cuts = (0..bytes.len()).filter(|at| bytes.is_char_boundary(*at));
            for early in cuts.map(|at| head(&bytes[..at])) {
                assert!(early == BEGUN || early == expected, "{bytes:?}: {early:?}");
            }
        }
    }

    #[test]
    fn a_head_ends_where_its_empty_line_does_and_hands_its_headers_over() {
        let (first, second) = (post("A: b\r\nA:  c\t\r\n"), post(""));
        let both = format!("{first}{second}");
        let mut headers = Vec::new();
        let (_, bytes) = read(both.as_bytes(), |name, value| headers.push((name, value))).unwrap().unwrap();
        assert_eq!(bytes, first.len());
        assert_eq!(headers, [(b"A".as_slice(), b"b".as_slice()), (b"A", b"c")]);
    }

    #[test]
    fn a_connection_is_kept_as_the_version_and_the_client_say() {
        let (kept, asked, closed) = (Afterwards::Kept, Afterwards::KeptAsAsked, Afterwards::Closed);
        let table = [
            ("GET /me HTTP/1.1\r\n\r\n", kept),
            ("GET /me HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", kept),
            ("GET /me HTTP/1.1\r\nConnection: x, Close\r\n\r\n", closed),
            ("GET /me HTTP/1.1\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n", closed),
            ("GET /me HTTP/1.0\r\n\r\n", closed),
            ("GET /me HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", asked),
            ("GET /me HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", closed),
            ("CONNECT /me HTTP/1.1\r\n\r\n", closed),
        ];
        for (bytes, afterwards) in table {
            assert_eq!(head(bytes).unwrap().unwrap().afterwards, afterwards, "{bytes:?}");
        }
    }

    #[test]
    fn a_target_has_a_path_or_none() {
        let table = [
            ("/me", "/me"),
            ("/me?a/b", "/me"),
            ("/me#a", "/me"),
            ("//me", "//me"),
            ("/a://b/me", "/a://b/me"),
            ("http://host/me", "/me"),
            ("http://host/me?x", "/me"),
            ("http://host", ""),
            ("http://host?/me", ""),
            ("host/me", ""),
            ("host:80", ""),
            ("*", ""),
        ];
        for (target, expected) in table {
            assert_eq!(path(target.as_bytes()), expected.as_bytes(), "{target}");
        }
    }

    #[test]
    fn a_head_is_taken_up_to_its_bounds() {
        let long = "A".repeat(HEAD_BYTES_MAX);
        assert_eq!(head(&long), BEGUN);
        assert_eq!(head(&(long + "A")), Err(Refusal::TooLarge));
        let lines = |count: usize| post(&"A: b\r\n".repeat(count));
        assert!(head(&lines(HEADER_LINES_MAX)).unwrap().is_some());
        assert_eq!(head(&lines(HEADER_LINES_MAX + 1)), Err(Refusal::TooLarge));
    }

    /// Pieces of heads, whole and broken.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: &[&[u8]] = &[
            b"GET /me HTTP/1.1\r\n",
            b"POST http://host/me?a=b HTTP/1.0\r\n",
            b"GET /me HTTP/1.1\n",
            b"Content-Length: 0\r\n",
            b"Connection: close\r\n",
            b"A:\t b \r\n",
            b"A: \xfc\r\n",
            b"A_1: b\r\n",
            b"A: b\n",
            b"A\r\n",
            b" folded\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b":",
            b" ",
        ];
        let whole = (0..PIECES.len()).prop_map(|at| PIECES[at].to_vec());
        prop_oneof![12 => whole, 1 => any::<u8>().prop_map(|byte| vec![byte])]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// With the first line given most of the time, and a byte changed: else hardly any head would be taken.
        #[test]
        fn what_is_taken_another_parser_takes_in_the_same_way(
            first in prop_oneof![9 => Just(&b"PUT /me HTTP/1.1\r\n"[..]), 1 => Just(&b""[..])],
            pieces in prop::collection::vec(piece(), 0..6),
            change in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut input = [first, &*pieces.concat(), b"\r\n"].concat();
            if let Some((at, byte)) = change {
                let at = at.index(input.len());
                input[at] = byte;
            }
            let mut headers = Vec::new();
            let ours = read(&input, |name, value| headers.push((name, value)));
            let mut room = [httparse::EMPTY_HEADER; HEADER_LINES_MAX];
            let mut other = httparse::Request::new(&mut room);
            let others = other.parse(&input);
            match ours {
                Ok(Some((head, bytes))) => {
                    prop_assert_eq!(others, Ok(httparse::Status::Complete(bytes)));
                    prop_assert_eq!(other.method.map(str::as_bytes), Some(head.method));
                    prop_assert_eq!(other.path.map(|target| path(target.as_bytes())), Some(head.path));
                    let theirs: Vec<_> = other.headers.iter().map(|line| (line.name.as_bytes(), line.value)).collect();
                    prop_assert_eq!(headers, theirs);
                }
                Ok(None) => prop_assert!(!matches!(others, Ok(httparse::Status::Complete(_))), "{:?}", others),
                Err(_) => {}
            }
        }
    }
}
