//! Requests as the daemon reads them, straight from their bytes: the format of `PROTOCOL.md` and nothing else.
//!
//! [`crate::codec`] reads the same with four times the instructions. It stays the judge of what these functions do not
//! take, for it says why; a test holds the two to the same answers.

use crate::query::{Asker, Batch, Check, Target, Who};

/// Bytes of the shortest target and of a shorter tag: a count can't be larger than what is left holds of them.
const TARGET_BYTES_MIN: usize = 4 + 8;
const TAG_BYTES_MIN: usize = 8;

/// The whole body as a check.
pub(crate) fn check(body: &[u8]) -> Option<Check<'_>> {
    whole(body, |rest| Some(Check { asker: rest.asker()?, target: rest.target()? }))
}

/// The whole body as a batch.
pub(crate) fn batch(body: &[u8]) -> Option<Batch<'_>> {
    whole(body, |rest| {
        let asker = rest.asker()?;
        Some(Batch { asker, targets: rest.list(TARGET_BYTES_MIN, Rest::target)? })
    })
}

/// The whole body as a question who it is.
pub(crate) fn who(body: &[u8]) -> Option<Who<'_>> {
    whole(body, |rest| Some(Who { asker: rest.asker()? }))
}

#[inline]
fn whole<'a, T>(body: &'a [u8], read: impl FnOnce(&mut Rest<'a>) -> Option<T>) -> Option<T> {
    let mut rest = Rest(body);
    let read = read(&mut rest)?;
    rest.0.is_empty().then_some(read)
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    #[inline]
    fn take<const BYTES: usize>(&mut self) -> Option<&'a [u8; BYTES]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn length(&mut self) -> Option<usize> {
        usize::try_from(u64::from_be_bytes(*self.take()?)).ok()
    }

    #[inline]
    fn content(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (content, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    #[inline]
    fn option(&mut self) -> Option<Option<&'a [u8]>> {
        match self.take()? {
            [0] => Some(None),
            [1] => self.content().map(Some),
            [_] => None,
        }
    }

    #[inline]
    fn asker(&mut self) -> Option<Asker<'a>> {
        Some(Asker { credential: self.option()?, agent: self.option()?, address: self.option()? })
    }

    #[inline]
    fn target(&mut self) -> Option<Target<'a>> {
        match u32::from_be_bytes(*self.take()?) {
            0 => Some(Target::Endpoint { method: self.content()?, path: self.content()? }),
            1 => self.list(TAG_BYTES_MIN, Self::content).map(Target::Tags),
            _ => None,
        }
    }

    #[inline]
    fn list<T>(&mut self, bytes_min: usize, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.length().filter(|count| *count <= self.0.len() / bytes_min)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Some(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::frame::{HEADER_BYTES, LENGTH_BYTES};
    use crate::query::QueryRequest;

    fn bodies() -> Vec<Vec<u8>> {
        let asker = Asker { credential: Some(b"key 2:CODECODE"), agent: None, address: Some(b"") };
        let endpoint = Target::Endpoint { method: b"GET", path: b"/a" };
        let tags = Target::Tags(vec![b"a.b", b""]);
        let batch = |targets| QueryRequest::Batch(Batch { asker, targets });
        let requests = [
            QueryRequest::Who(Who { asker }),
            QueryRequest::Check(Check { asker, target: endpoint.clone() }),
            QueryRequest::Check(Check { asker: Asker::default(), target: tags.clone() }),
            batch(vec![endpoint, tags.clone(), Target::Tags(vec![]), tags]),
            batch(vec![]),
        ];
        let body = |request: &QueryRequest<'_>| {
            let mut frame = Vec::new();
            request.put(&mut frame, 7);
            frame.split_off(LENGTH_BYTES + HEADER_BYTES)
        };
        requests.iter().map(body).collect()
    }

    fn assert_read_alike(body: &[u8]) {
        assert!(check(body) == codec::decode(body).ok(), "{body:?}");
        assert!(batch(body) == codec::decode(body).ok(), "{body:?}");
        assert!(who(body) == codec::decode(body).ok(), "{body:?}");
    }

    #[test]
    fn every_body_near_a_request_is_read_as_the_codec_reads_it() {
        for body in bodies() {
            assert_read_alike(&body);
            assert_read_alike(&[&body[..], &[0]].concat());
            for place in 0..body.len() {
                assert_read_alike(&body[..place]);
                for byte in [0, 1, 2, 3, 8, 9, 0x7f, 0xff] {
                    let mut changed = body.clone();
                    changed[place] = byte;
                    assert_read_alike(&changed);
                }
            }
        }
    }
}
