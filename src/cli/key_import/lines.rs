//! Lines of a file of any size, one at a time, in a buffer that is wiped: they hold codes.

use std::io::{self, Read};

use zeroize::Zeroizing;

/// A key with everything it can have fits several times.
pub(super) const LINE_BYTES_MAX: usize = 256 * 1024;

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    Text(&'l [u8]),
    /// Over [`LINE_BYTES_MAX`]; it was skipped.
    TooLong,
}

pub(super) struct Lines<R> {
    input: R,
    buffer: Zeroizing<Vec<u8>>,
    /// What of the buffer is read and not handed out.
    held: std::ops::Range<usize>,
    /// Of the line handed out last.
    number: u64,
    at_end: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        let buffer = Zeroizing::new(vec![0; LINE_BYTES_MAX + 1]);
        Self { input, buffer, held: 0..0, number: 0, at_end: false }
    }

    /// The next line and its number, from 1.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        let mut skipped = false;
        let mut searched = 0;
        let line = loop {
            let unread = &self.buffer[self.held.clone()];
            if let Some(length) = memchr::memchr(b'\n', &unread[searched..]) {
                let start = self.held.start;
                let end = start + searched + length;
                self.held.start = end + 1;
                break start..end;
            }
            searched = unread.len();
            if self.at_end {
                if unread.is_empty() && !skipped {
                    return Ok(None);
                }
                let rest = self.held.clone();
                self.held.start = self.held.end;
                break rest;
            }
            if searched > LINE_BYTES_MAX {
                (self.held, searched, skipped) = (0..0, 0, true);
            }
            self.read()?;
        };
        self.number += 1;
        let text = &self.buffer[line];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = if self.number == 1 { text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text) } else { text };
        Ok(Some((self.number, if skipped { Line::TooLong } else { Line::Text(text) })))
    }

    fn read(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.held.clone(), 0);
        self.held = 0..self.held.len();
        loop {
            match self.input.read(&mut self.buffer[self.held.end..]) {
                Ok(0) => self.at_end = true,
                Ok(bytes) => self.held.end += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Trickle<'t>(&'t [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            (out[0], self.0) = (*first, rest);
            Ok(1)
        }
    }

    fn all(input: impl Read) -> Vec<Option<String>> {
        let mut lines = Lines::new(input);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            found.push(match line {
                Line::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
                Line::TooLong => None,
            });
            assert_eq!(number, found.len() as u64);
        }
        found
    }

    #[test]
    fn lines_come_without_their_ends_however_they_arrive() {
        let table: [(&str, &[&str]); 7] = [
            ("", &[]),
            ("\n", &[""]),
            ("a", &["a"]),
            ("a\n", &["a"]),
            ("a\r\nb\r\n\r\nc", &["a", "b", "", "c"]),
            ("\u{feff}id,code\n\u{feff}", &["id,code", "\u{feff}"]),
            ("a\rb\n\n", &["a\rb", ""]),
        ];
        for (text, wanted) in table {
            let wanted: Vec<_> = wanted.iter().map(|line| Some((*line).to_owned())).collect();
            assert_eq!(all(text.as_bytes()), wanted, "{text:?}");
            assert_eq!(all(Trickle(text.as_bytes())), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_in_bounded_memory() {
        let longest = "x".repeat(LINE_BYTES_MAX);
        for (length, is_taken) in [(0, true), (1, false), (3 * LINE_BYTES_MAX, false)] {
            let line = format!("{longest}{}", "y".repeat(length));
            let wanted = [Some("a".to_owned()), is_taken.then(|| line.clone()), Some("b".to_owned())];
            assert_eq!(all(format!("a\n{line}\nb").as_bytes()), wanted, "{length}");
            assert_eq!(all(format!("a\n{line}").as_bytes()), wanted[..2], "{length}, the last one");
        }
    }
}
