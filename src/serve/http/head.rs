//! Which bytes are a request's head. This knows where a head begins and ends, and refuses what hyper would let pass and
//! another parser might read in another way; hyper parses it again and refuses the rest (control characters, say).

/// A request line with a long URI, and the longest credential, agent and cookies beside it, fit; nginx takes 32 KiB.
pub(super) const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Lines of a head without the request line: what hyper takes.
pub(super) const HEADER_LINES_MAX: usize = 100;

/// Why a head is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has a shape that two parsers could read in two ways, or is no HTTP/1.
    Malformed,
    /// Over [`HEAD_BYTES_MAX`] or [`HEADER_LINES_MAX`].
    TooLarge,
    /// Not whole in time.
    TooSlow,
}

impl Refusal {
    /// The answer, sent in hyper's place.
    pub(super) const fn answer(self) -> &'static [u8] {
        match self {
            Self::Malformed => b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            Self::TooLarge => {
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            }
            Self::TooSlow => b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        }
    }
}

/// How far the bytes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Between two requests.
    Between,
    /// Within a head.
    Head,
    /// Behind a head that announced a body. What follows is never a request.
    Body,
}

/// Reads along: one head behind the other.
pub(super) struct HeadReader {
    line: Vec<u8>,
    head_bytes: usize,
    lines: usize,
    content_length: Option<bool>,
    chunked: bool,
    http_1_0: bool,
    progress: Progress,
}

impl HeadReader {
    pub(super) const fn new() -> Self {
        Self {
            line: Vec::new(),
            head_bytes: 0,
            lines: 0,
            content_length: None,
            chunked: false,
            http_1_0: false,
            progress: Progress::Between,
        }
    }

    pub(super) const fn progress(&self) -> Progress {
        self.progress
    }

    /// How many bytes of the head that was begun have come.
    pub(super) const fn head_bytes(&self) -> usize {
        self.head_bytes
    }

    /// Takes the next bytes. On a refusal: how many of them, from the first on, belong to whole heads before it.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), (usize, Refusal)> {
        let (mut rest, mut whole) = (bytes, 0);
        while !rest.is_empty() && self.progress != Progress::Body {
            self.progress = Progress::Head;
            let end = memchr::memchr(b'\n', rest);
            let piece = &rest[..end.map_or(rest.len(), |at| at + 1)];
            self.head_bytes += piece.len();
            if self.head_bytes > HEAD_BYTES_MAX {
                return Err((whole, Refusal::TooLarge));
            }
            rest = &rest[piece.len()..];
            if end.is_none() {
                self.line.extend_from_slice(piece);
            } else {
                self.end_line(piece).map_err(|refusal| (whole, refusal))?;
                if self.progress != Progress::Head {
                    whole = bytes.len() - rest.len();
                }
            }
        }
        Ok(())
    }

    /// Takes a line's last piece, which is usually the whole line.
    fn end_line(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let mut begun = std::mem::take(&mut self.line);
        let line = if begun.is_empty() {
            piece
        } else {
            begun.extend_from_slice(piece);
            &begun
        };
        let line = line.strip_suffix(b"\r\n").ok_or(Refusal::Malformed)?;
        if self.lines == 0 {
            self.request_line(line)?;
        } else if line.is_empty() {
            self.end_head();
            return Ok(());
        } else {
            self.header_line(line)?;
        }
        self.lines += 1;
        if self.lines > HEADER_LINES_MAX + 1 {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let mut parts = line.split(|b| *b == b' ');
        let (method, target, version) = (parts.next(), parts.next(), parts.next());
        if parts.next().is_some() || method.is_none_or(<[u8]>::is_empty) || target.is_none_or(<[u8]>::is_empty) {
            return Err(Refusal::Malformed);
        }
        self.http_1_0 = match version {
            Some(b"HTTP/1.0") => true,
            Some(b"HTTP/1.1") => false,
            Some(_) | None => return Err(Refusal::Malformed),
        };
        Ok(())
    }

    /// A name that is a token, a colon at once behind it: so neither a folded line nor a blank before the colon.
    fn header_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let colon = line.iter().position(|b| *b == b':').ok_or(Refusal::Malformed)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        if name.is_empty() || !name.iter().all(token) {
            return Err(Refusal::Malformed);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            if self.content_length.is_some() || self.chunked || !number {
                return Err(Refusal::Malformed);
            }
            self.content_length = Some(value.iter().any(|b| *b != b'0'));
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let plain = value.eq_ignore_ascii_case(b"chunked") && !self.http_1_0;
            if self.chunked || self.content_length.is_some() || !plain {
                return Err(Refusal::Malformed);
            }
            self.chunked = true;
        }
        Ok(())
    }

    fn end_head(&mut self) {
        let body = self.chunked || self.content_length == Some(true);
        *self = Self { progress: if body { Progress::Body } else { Progress::Between }, ..Self::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of these bytes, taken whole and in pieces of every size.
    fn read(bytes: &str) -> Result<Progress, Refusal> {
        let outcomes: Vec<_> = (1..=bytes.len())
            .map(|size| {
                let mut reader = HeadReader::new();
                for piece in bytes.as_bytes().chunks(size) {
                    reader.take(piece).map_err(|(_, refusal)| refusal)?;
                }
                Ok(reader.progress())
            })
            .collect();
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{bytes:?}: {outcomes:?}");
        outcomes[0]
    }

    #[test]
    fn a_head_has_one_reading_or_none() {
        let request = |headers: &str| format!("POST /me HTTP/1.1\r\n{headers}\r\n");
        let bad = Err(Refusal::Malformed);
        let table = [
            (request(""), Ok(Progress::Between)),
            (request("A: b\r\nC:\r\n"), Ok(Progress::Between)),
            (request("").repeat(3), Ok(Progress::Between)),
            (request("") + "G", Ok(Progress::Head)),
            ("GET /me HTTP/1.0\r\nA: b\r\n".to_string(), Ok(Progress::Head)),
            (request("Content-Length: 0\r\n"), Ok(Progress::Between)),
            (request("Content-Length: 00\r\n"), Ok(Progress::Between)),
            (request("Content-Length: 10\r\n"), Ok(Progress::Body)),
            (request("content-length: 3\r\n") + "\n\n\nGET", Ok(Progress::Body)),
            (request("Transfer-Encoding: Chunked\r\n"), Ok(Progress::Body)),
            (request("A: b\r\n folded: c\r\n"), bad),
            (request("A : b\r\n"), bad),
            (request("Content-Length : 3\r\n"), bad),
            (request(": b\r\n"), bad),
            (request("no colon\r\n"), bad),
            (request("A: b\n"), bad),
            (request("Content-Length: 0\r\nContent-Length: 0\r\n"), bad),
            (request("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), bad),
            (request("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), bad),
            (request("Transfer-Encoding: gzip, chunked\r\n"), bad),
            (request("Content-Length: 0x1\r\n"), bad),
            ("GET /me HTTP/1.0\r\nTransfer-Encoding: chunked\r\n".to_string(), bad),
            ("GET /me\r\n".to_string(), bad),
            ("GET /me HTTP/2.0\r\n".to_string(), bad),
            ("GET  /me HTTP/1.1\r\n".to_string(), bad),
            ("GET /me x HTTP/1.1\r\n".to_string(), bad),
            ("\r\n".to_string(), bad),
            ("\n".to_string(), bad),
        ];
        for (bytes, expected) in table {
            assert_eq!(read(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_came_whole_before_a_refusal_is_told() {
        let good = "GET /me HTTP/1.1\r\n\r\n";
        let mut reader = HeadReader::new();
        assert_eq!(
            reader.take(format!("{good}{good}GET /me\r\n").as_bytes()),
            Err((2 * good.len(), Refusal::Malformed))
        );
        let long = "A".repeat(HEAD_BYTES_MAX);
        assert_eq!(HeadReader::new().take(long.as_bytes()), Ok(()));
        assert_eq!(HeadReader::new().take(format!("{good}{long}A").as_bytes()), Err((good.len(), Refusal::TooLarge)));
    }
}
