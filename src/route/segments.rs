//! A judged path taken apart at its slashes, quickly: read where it came in, sixteen bytes at a time.

/// Bytes of a path whose slashes are found together: nearly every path is shorter.
pub(super) const LANES: usize = 64;

/// Bytes of [`SegmentText::head`], and of a path that are looked at in one step.
pub(super) const HEAD_BYTES: usize = 16;

/// A bit for each slash among the first [`LANES`] bytes.
#[inline]
fn slashes(path: &[u8]) -> u64 {
    let lanes = &path[..path.len().min(LANES)];
    let Some(last) = lanes.last_chunk() else {
        return lanes.iter().rev().fold(0, |all, byte| all << 1 | u64::from(*byte == b'/'));
    };
    let steps = lanes.as_chunks().0.iter().zip((0..).step_by(HEAD_BYTES));
    // The last step looks at some bytes again.
    steps.fold(step_slashes(last) << (lanes.len() - HEAD_BYTES), |all, (step, at)| all | step_slashes(step) << at)
}

#[inline]
fn step_slashes(step: &[u8; HEAD_BYTES]) -> u64 {
    /// Moves the lowest bit of each byte into the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let lanes = step.map(|byte| u8::from(byte == b'/'));
    let gathered = lanes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word).wrapping_mul(GATHER) >> 56);
    gathered.rev().fold(0, |all, bits| all << 8 | bits)
}

/// What is left of a path to match; a copy remembers a place to come back to.
#[derive(Clone, Copy)]
pub(super) struct Segments<'a> {
    path: &'a [u8],
    /// Of the next segment; beyond the path's end behind the last one.
    start: usize,
    /// Those among the lanes from there on.
    slashes: u64,
}

/// A segment with its beginning in a form that is quick to compare and to hash.
#[derive(Clone, Copy)]
pub(super) struct SegmentText<'a> {
    pub(super) bytes: &'a [u8],
    /// The first sixteen bytes as a little-endian number; zeros behind a shorter segment.
    pub(super) head: u128,
}

impl<'a> SegmentText<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, head: head(bytes) }
    }
}

/// By itself: few paths are so short, and the usual way stays in registers.
#[inline(never)]
fn head(bytes: &[u8]) -> u128 {
    let mut head = [0; HEAD_BYTES];
    let known = bytes.len().min(HEAD_BYTES);
    head[..known].copy_from_slice(&bytes[..known]);
    u128::from_le_bytes(head)
}

impl<'a> Segments<'a> {
    /// Of a path without its leading `/`.
    #[inline]
    pub(super) fn new(path: &'a [u8]) -> Self {
        Self { path, start: 0, slashes: slashes(path) }
    }

    /// From this place on, at which a segment begins; it is one of the lanes.
    #[inline]
    pub(super) fn behind(self, start: usize) -> Self {
        Self { start, slashes: self.slashes & u64::MAX << start, ..self }
    }

    #[inline]
    pub(super) fn next_text(&mut self) -> Option<SegmentText<'a>> {
        let (start, end) = (self.start, self.slash());
        let bytes = self.path.get(start..end)?;
        self.start = end + 1;
        Some(SegmentText { bytes, head: self.head(start) & low_bytes(bytes.len()) })
    }

    /// The sixteen bytes from `start` on, or fewer and zeros at the path's end; anything where none is left.
    #[inline]
    fn head(&self, start: usize) -> u128 {
        // Without a branch for those near the end: which segment is, differs from path to path.
        let begin = self.path.len().checked_sub(HEAD_BYTES).map(|last| start.min(last));
        match begin.and_then(|begin| Some((begin, self.path.get(begin..)?.first_chunk()?))) {
            Some((begin, chunk)) => u128::from_le_bytes(*chunk) >> (8 * (start - begin) % (8 * HEAD_BYTES)),
            None => head(&self.path[start..]),
        }
    }

    /// The next slash, or the path's end.
    #[inline]
    fn slash(&mut self) -> usize {
        if self.slashes != 0 {
            let slash = self.slashes.trailing_zeros() as usize;
            self.slashes &= self.slashes - 1;
            return slash;
        }
        if self.path.len() <= LANES { self.path.len() } else { self.slash_beyond() }
    }

    /// By itself, as [`head`]: few paths are so long.
    #[inline(never)]
    fn slash_beyond(&self) -> usize {
        let from = self.start.max(LANES);
        let found = self.path.get(from..).and_then(|rest| memchr::memchr(b'/', rest));
        found.map_or(self.path.len(), |found| from + found)
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.next_text().map(|segment| segment.bytes)
    }
}

/// A mask of the lowest bytes, all sixteen for more.
#[inline]
fn low_bytes(bytes: usize) -> u128 {
    const MASKS: [u128; HEAD_BYTES + 1] = {
        let mut masks = [u128::MAX; HEAD_BYTES + 1];
        let mut bytes = 0;
        while bytes < HEAD_BYTES {
            masks[bytes] = (1 << (8 * bytes)) - 1;
            bytes += 1;
        }
        masks
    };
    MASKS[bytes.min(HEAD_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slashes at distances that put segments of all lengths at, before and behind the ends of the lanes and heads.
    #[test]
    fn a_path_of_any_length_falls_apart_at_its_slashes_and_nowhere_else() {
        for length in 0..=LANES + 3 * HEAD_BYTES {
            for distance in 1..=length + 1 {
                let byte = |place: usize| if place % distance == distance - 1 { b'/' } else { b'b' };
                let path: Vec<u8> = (0..length).map(byte).collect();
                let mut segments = Segments::new(&path);
                for expected in path.split(|byte| *byte == b'/') {
                    let text = segments.next_text();
                    let found = text.map(|text| (text.bytes, text.head));
                    assert_eq!(found, Some((expected, SegmentText::new(expected).head)), "{length} {distance}");
                }
                assert!(segments.next().is_none() && segments.next().is_none(), "{length} {distance}");
            }
        }
    }
}
