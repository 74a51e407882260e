//! Tags, patterns and tag sets: section 2.1 of the contract. Pure.
//!
//! A [`TagSet`] is judged in one of two forms. [`TagSet::judge`] walks its patterns and serves tags that are asked
//! directly. [`CompiledSet`] holds one bit a known tag for *granted* and one for *denied*, and serves endpoints, whose
//! tags are all known beforehand: a bit test instead of a walk (measured in `benches/NOTES.md`).

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use prefetch_index::prefetch_index;

/// Segments of a tag or pattern.
pub const SEGMENTS_MAX: usize = 16;
/// Bytes of a tag, or of a pattern without its leading `-`.
pub const TAG_BYTES_MAX: usize = 128;
/// Patterns of one set.
pub const PATTERNS_MAX: usize = 256;
/// Tags of one endpoint or question.
pub const TAGS_MAX: usize = 16;

/// A dotted name of what an endpoint does, `tickets.tickets.list`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

impl Tag {
    /// Reads a tag as it is: nothing is folded or trimmed into shape.
    ///
    /// # Errors
    /// When it is not 1 to 16 segments `[a-z0-9][a-z0-9_-]*` joined by `.`, in at most 128 bytes.
    pub fn parse(text: &str) -> Result<Self, TagError> {
        TagRef::parse(text.as_bytes()).map(|tag| Self(tag.0.into()))
    }

    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> TagRef<'_> {
        TagRef(&self.0)
    }
}

impl Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag that borrows its text: one that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagRef<'a>(&'a str);

impl<'a> TagRef<'a> {
    /// As [`Tag::parse`], without a copy.
    ///
    /// # Errors
    /// As [`Tag::parse`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TagError> {
        check_length(bytes)?;
        let mut segments = 0;
        for segment in bytes.split(|&b| b == b'.') {
            segments += 1;
            check_segment(segment)?;
        }
        check_count(segments)?;
        let text = std::str::from_utf8(bytes).map_err(|_| TagError::BadCharacter)?;
        Ok(Self(text))
    }

    /// The tag as text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// Why a text is no tag, or no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagError {
    /// Nothing there.
    Empty,
    /// Over [`TAG_BYTES_MAX`].
    TooLong(usize),
    /// Over [`SEGMENTS_MAX`].
    TooManySegments(usize),
    /// Two dots in a row, or one at an end.
    EmptySegment,
    /// A segment begins with `_` or `-`.
    BadStart,
    /// Something outside `a-z 0-9 _ -`.
    BadCharacter,
    /// A `*` that is not a whole segment, or stands in a tag.
    Wildcard,
}

impl fmt::Display for TagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong(bytes) => write!(f, "it has {bytes} bytes, at most {TAG_BYTES_MAX} are allowed"),
            Self::TooManySegments(count) => {
                write!(f, "it has {count} segments, at most {SEGMENTS_MAX} are allowed")
            }
            Self::EmptySegment => f.write_str("a segment is empty (two dots in a row, or a dot at an end)"),
            Self::BadStart => f.write_str("a segment must begin with a letter a-z or a digit"),
            Self::BadCharacter => f.write_str("only a-z, 0-9, '_' and '-' are allowed in a segment"),
            Self::Wildcard => {
                f.write_str("'*' stands for whole segments, alone between dots (tickets.*), never for part of one")
            }
        }
    }
}

impl std::error::Error for TagError {}

fn check_length(bytes: &[u8]) -> Result<(), TagError> {
    match bytes.len() {
        0 => Err(TagError::Empty),
        1..=TAG_BYTES_MAX => Ok(()),
        len => Err(TagError::TooLong(len)),
    }
}

fn check_count(segments: usize) -> Result<(), TagError> {
    if segments > SEGMENTS_MAX {
        return Err(TagError::TooManySegments(segments));
    }
    Ok(())
}

fn check_segment(segment: &[u8]) -> Result<(), TagError> {
    let Some((first, rest)) = segment.split_first() else {
        return Err(TagError::EmptySegment);
    };
    if segment.contains(&b'*') {
        return Err(TagError::Wildcard);
    }
    match first {
        b'a'..=b'z' | b'0'..=b'9' => {}
        b'_' | b'-' => return Err(TagError::BadStart),
        _ => return Err(TagError::BadCharacter),
    }
    if rest.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')) {
        Ok(())
    } else {
        Err(TagError::BadCharacter)
    }
}

/// A tag with `*` segments, optionally with a leading `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    denies: bool,
    /// Without the leading `-`.
    text: Box<str>,
    /// Bytes of `text` before the first `*`: all of it when there is none.
    head: usize,
    stars: Stars,
}

/// How many `*` a pattern has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stars {
    None,
    One,
    Many,
}

impl Pattern {
    /// Reads a pattern: optional `-`, then segments, each a literal or exactly `*`.
    ///
    /// # Errors
    /// As [`Tag::parse`]; a `*` inside a segment is [`TagError::Wildcard`].
    pub fn parse(text: &str) -> Result<Self, TagError> {
        let (denies, body) = match text.strip_prefix('-') {
            Some(body) => (true, body),
            None => (false, text),
        };
        check_length(body.as_bytes())?;
        let mut segments = 0;
        for segment in body.split('.') {
            segments += 1;
            if segment != "*" {
                check_segment(segment.as_bytes())?;
            }
        }
        check_count(segments)?;
        let stars = match body.bytes().filter(|&byte| byte == b'*').count() {
            0 => Stars::None,
            1 => Stars::One,
            _ => Stars::Many,
        };
        Ok(Self { denies, text: body.into(), head: body.find('*').unwrap_or(body.len()), stars })
    }

    /// Whether it has a leading `-`.
    #[must_use]
    pub const fn denies(&self) -> bool {
        self.denies
    }

    /// Whether it covers `tag`; `*` stands for any number of whole segments, none included.
    #[must_use]
    pub fn covers(&self, tag: TagRef<'_>) -> bool {
        // Patterns with at most one `*`, nearly all, need no walk: they fix a tag's beginning and its end.
        let (head, stars) = self.text.as_bytes().split_at(self.head);
        let bytes = tag.0.as_bytes();
        let Some(behind) = bytes.strip_prefix(head) else {
            // `a.*` covers `a`, which lacks the dot.
            let lacks_the_dot = bytes.len() + 1 == head.len() && head.starts_with(bytes);
            return lacks_the_dot && stars.split(|&byte| byte == b'.').all(|segment| segment == b"*");
        };
        match self.stars {
            Stars::None => behind.is_empty(),
            // What stands behind it is the tag's end, or all of it.
            Stars::One => {
                let tail = &stars[1..];
                behind.ends_with(tail) || tail.strip_prefix(b".") == Some(behind)
            }
            Stars::Many => walk(&self.text[self.head..], &tag.0[self.head..]),
        }
    }
}

/// Whether a pattern covers a tag, segment by segment.
fn walk(pattern: &str, tag: &str) -> bool {
    // The classic glob walk: on a mismatch, let the latest `*` take one more segment and go on from there.
    let (mut pattern, mut rest) = (pattern.split('.'), tag.split('.'));
    let mut retry: Option<(Segments<'_>, Segments<'_>)> = None;
    loop {
        match (pattern.clone().next(), rest.clone().next()) {
            (None, None) => return true,
            (Some("*"), _) => {
                pattern.next();
                retry = Some((pattern.clone(), rest.clone()));
                continue;
            }
            (Some(literal), Some(segment)) if literal == segment => {
                pattern.next();
                rest.next();
                continue;
            }
            (Some(_) | None, _) => {}
        }
        let Some((after_star, taken)) = retry.as_mut() else {
            return false;
        };
        if taken.next().is_none() {
            return false;
        }
        (pattern, rest) = (after_star.clone(), taken.clone());
    }
}

type Segments<'a> = std::str::Split<'a, char>;

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.denies { "-" } else { "" }, self.text)
    }
}

/// What a tag set says of an endpoint's tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An allowing pattern covers a tag and no denying one does.
    Granted,
    /// A denying pattern covers a tag.
    Denied,
    /// Nothing allows.
    NotGranted,
}

/// A list of patterns, in the order they were written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TagSet(Box<[Pattern]>);

/// Why a list is no tag set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// An item is no pattern.
    Pattern(String, TagError),
    /// Over [`PATTERNS_MAX`].
    TooMany(usize),
    /// No pattern without `-`, or no pattern at all.
    AllowsNothing,
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(text, error) => write!(f, "{text:?} is no pattern: {error}"),
            Self::TooMany(count) => write!(f, "{count} patterns are too many, at most {PATTERNS_MAX} are allowed"),
            Self::AllowsNothing => {
                f.write_str("the list can allow nothing: it needs at least one pattern without '-' (such as '*')")
            }
        }
    }
}

impl std::error::Error for SetError {}

/// Characters of a refused pattern that an error repeats.
const QUOTED_CHARS_MAX: usize = 80;

impl TagSet {
    /// Reads patterns separated by commas or newlines; blanks around them and empty items are ignored.
    ///
    /// # Errors
    /// When an item is no pattern, when there are over 256, or when none can allow.
    pub fn parse(text: &str) -> Result<Self, SetError> {
        const BLANKS: [char; 3] = [' ', '\t', '\r'];
        let items = text.split([',', '\n']).map(|item| item.trim_matches(BLANKS)).filter(|item| !item.is_empty());
        Self::from_items(items)
    }

    /// Takes each item as one pattern, as it is.
    ///
    /// # Errors
    /// As [`TagSet::parse`].
    pub fn from_items<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Self, SetError> {
        let mut patterns = Vec::new();
        for item in items {
            let pattern = Pattern::parse(item)
                .map_err(|error| SetError::Pattern(item.chars().take(QUOTED_CHARS_MAX).collect(), error))?;
            patterns.push(pattern);
            if patterns.len() > PATTERNS_MAX {
                return Err(SetError::TooMany(patterns.len()));
            }
        }
        if patterns.iter().all(Pattern::denies) {
            return Err(SetError::AllowsNothing);
        }
        Ok(Self(patterns.into()))
    }

    /// The set that covers everything: `*`.
    #[must_use]
    pub fn everything() -> Self {
        Self(Box::new([Pattern { denies: false, text: "*".into(), head: 0, stars: Stars::One }]))
    }

    /// The patterns, in the order they were written.
    #[must_use]
    pub fn patterns(&self) -> &[Pattern] {
        &self.0
    }

    /// Judges `tags` as one endpoint's.
    #[must_use]
    pub fn judge(&self, tags: &[TagRef<'_>]) -> Outcome {
        self.deciding(tags).0
    }

    /// As [`TagSet::judge`], with the pattern that decided: the first denying one that covers a tag, else the first
    /// allowing one.
    #[must_use]
    pub fn deciding(&self, tags: &[TagRef<'_>]) -> (Outcome, Option<&Pattern>) {
        let mut granting = None;
        for pattern in &self.0 {
            if !pattern.denies && granting.is_some() {
                continue;
            }
            if tags.iter().any(|&tag| pattern.covers(tag)) {
                if pattern.denies {
                    return (Outcome::Denied, Some(pattern));
                }
                granting = Some(pattern);
            }
        }
        match granting {
            Some(pattern) => (Outcome::Granted, Some(pattern)),
            None => (Outcome::NotGranted, None),
        }
    }
}

impl fmt::Display for TagSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pattern) in self.0.iter().enumerate() {
            write!(f, "{}{pattern}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// The tags that endpoints have, numbered from 0 in order of arrival. Grows only, so that a number keeps its meaning.
#[derive(Clone, Debug, Default)]
pub struct TagIndex {
    /// Sorted, so that the tags with one beginning stand together.
    numbers: BTreeMap<Tag, u32>,
    tags: Vec<Tag>,
}

impl TagIndex {
    /// The tag's number, a new one when it was not known.
    pub fn number(&mut self, tag: &Tag) -> u32 {
        if let Some(&number) = self.numbers.get(tag) {
            return number;
        }
        let number = u32::try_from(self.tags.len()).expect("endpoints do not have 2^32 distinct tags");
        self.numbers.insert(tag.clone(), number);
        self.tags.push(tag.clone());
        number
    }

    /// The tags that begin with `head`, with their numbers.
    fn beginning_with<'i>(&'i self, head: &'i str) -> impl Iterator<Item = (&'i Tag, usize)> {
        let from = (Bound::Included(head), Bound::Unbounded);
        let found = self.numbers.range::<str, _>(from).take_while(move |(tag, _)| tag.as_str().starts_with(head));
        found.map(|(tag, &number)| (tag, number as usize))
    }

    /// How many tags are numbered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }
}

/// A tag set with the outcome for every numbered tag worked out beforehand: two bits a tag. Cloning one shares them.
#[derive(Clone, Debug)]
pub struct CompiledSet {
    set: Arc<TagSet>,
    known: usize,
    /// For 64 tags each: granted, denied. Side by side, so that judging a tag touches one cache line.
    bits: Arc<[[u64; 2]]>,
}

const GRANTED: usize = 0;
const DENIED: usize = 1;

impl CompiledSet {
    /// Works the outcome out for every tag of `index`.
    #[must_use]
    pub fn compile(set: Arc<TagSet>, index: &TagIndex) -> Self {
        Self::not_compiled(set).extended(index)
    }

    /// The set with the outcome for no tag yet.
    #[must_use]
    pub fn not_compiled(set: Arc<TagSet>) -> Self {
        Self { set, known: 0, bits: Arc::default() }
    }

    /// The same set with the tags that `index` has gained since.
    #[must_use]
    pub fn extended(mut self, index: &TagIndex) -> Self {
        let mut bits = self.bits.to_vec();
        bits.resize(index.len().div_ceil(64), [0; 2]);
        for pattern in &self.set.0 {
            let outcome = if pattern.denies { DENIED } else { GRANTED };
            let mut judge = |(tag, number): (&Tag, usize)| {
                if pattern.covers(tag.as_ref()) {
                    bits[number / 64][outcome] |= 1 << (number % 64);
                }
            };
            let family = pattern.text[..pattern.head].trim_end_matches('.');
            if self.known == 0 && !family.is_empty() {
                index.beginning_with(family).for_each(judge);
            } else {
                (self.known..).zip(&index.tags[self.known..]).for_each(|(number, tag)| judge((tag, number)));
            }
        }
        self.bits = bits.into();
        self.known = index.len();
        self
    }

    /// How many tags of the index it knows.
    #[must_use]
    pub const fn known(&self) -> usize {
        self.known
    }

    /// The set it was compiled from.
    #[must_use]
    pub fn set(&self) -> &Arc<TagSet> {
        &self.set
    }

    /// Judges numbered tags as one endpoint's: the outcome of [`TagSet::judge`] for the tags they number.
    ///
    /// # Panics
    /// When a number is not below [`CompiledSet::known`]; a directory compiles its sets before it publishes endpoints.
    #[must_use]
    pub fn judge_numbered(&self, numbers: &[u32]) -> Outcome {
        if numbers.iter().any(|&n| self.bit(DENIED, n)) {
            return Outcome::Denied;
        }
        if numbers.iter().any(|&n| self.bit(GRANTED, n)) {
            return Outcome::Granted;
        }
        Outcome::NotGranted
    }

    /// Sets on its way from memory what [`CompiledSet::judge_numbered`] reads for the first of these tags.
    pub fn fetch(&self, numbers: &[u32]) {
        if let Some(number) = numbers.first() {
            prefetch_index(&*self.bits, *number as usize / 64);
        }
    }

    fn bit(&self, outcome: usize, number: u32) -> bool {
        self.bits[number as usize / 64][outcome] & (1 << (number % 64)) != 0
    }
}

#[cfg(test)]
mod tests;
