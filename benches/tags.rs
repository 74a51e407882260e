//! Which form of a tag set answers fastest: `cargo bench --bench tags`. What it found is in `NOTES.md` beside it.
//!
//! All forms judge the same endpoints, checked to agree beforehand. They take turns, so that a busy host slows them
//! alike; of the rounds the median counts, and what to look at are the ratios.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use keyward::tags::{CompiledSet, Outcome, Tag, TagIndex, TagRef, TagSet};

const SET_SIZES: [usize; 4] = [1, 4, 32, 256];
const ENDPOINT_TAGS: usize = 1_000;
const ROUNDS: usize = 41;

/// The alternative: a set's patterns as a tree of segments, walked once a tag for all patterns together.
#[derive(Default)]
struct Trie {
    children: HashMap<Box<str>, Trie>,
    star: Option<Box<Trie>>,
    allows: bool,
    denies: bool,
}

/// What a walk has found so far.
#[derive(Default)]
struct Found {
    allowed: bool,
    denied: bool,
}

impl Trie {
    fn of(set: &TagSet) -> Self {
        let mut root = Self::default();
        for pattern in set.patterns() {
            let text = pattern.to_string();
            let mut node = &mut root;
            for segment in text.trim_start_matches('-').split('.') {
                node = match segment {
                    "*" => node.star.get_or_insert_default(),
                    literal => node.children.entry(literal.into()).or_default(),
                };
            }
            if pattern.denies() { node.denies = true } else { node.allows = true }
        }
        root
    }

    fn walk(&self, tag: &str, found: &mut Found) {
        self.visit(Some(tag), found);
    }

    /// `rest` is `None` behind the last segment.
    fn visit(&self, rest: Option<&str>, found: &mut Found) {
        if let Some(star) = &self.star {
            let mut left = rest;
            star.visit(left, found);
            while let Some(text) = left {
                left = text.split_once('.').map(|(_, behind)| behind);
                star.visit(left, found);
            }
        }
        match rest {
            None => {
                found.allowed |= self.allows;
                found.denied |= self.denies;
            }
            Some(text) => {
                let (first, behind) = match text.split_once('.') {
                    Some((first, behind)) => (first, Some(behind)),
                    None => (text, None),
                };
                if let Some(child) = self.children.get(first) {
                    child.visit(behind, found);
                }
            }
        }
    }

    fn judge(&self, tags: &[TagRef<'_>]) -> Outcome {
        let mut found = Found::default();
        for tag in tags {
            self.walk(tag.as_str(), &mut found);
        }
        match (found.denied, found.allowed) {
            (true, _) => Outcome::Denied,
            (false, true) => Outcome::Granted,
            (false, false) => Outcome::NotGranted,
        }
    }
}

/// The tag of endpoint `number`: of 20 areas, 10 things in each, 5 verbs for each.
fn endpoint_tag(number: usize) -> Tag {
    const VERBS: [&str; 5] = ["list", "get", "create", "update", "delete"];
    let (area, thing) = (number / 50 % 20, number / 5 % 10);
    let text = format!("area{area}.thing{area}-{thing}-{}.{}", number / 1000, VERBS[number % 5]);
    Tag::parse(&text).expect("the words are segments")
}

/// As roles are written: whole areas, things, single calls, a verb everywhere, and every fourth a denial.
fn set(size: usize) -> TagSet {
    let patterns: Vec<String> = (0..size)
        .map(|n| {
            let tag = endpoint_tag(n * 7 % ENDPOINT_TAGS);
            let segments: Vec<&str> = tag.as_str().split('.').collect();
            match n % 8 {
                0 => format!("{}.*", segments[0]),
                1 => format!("{}.{}.*", segments[0], segments[1]),
                3 => "-*.delete".to_string(),
                7 => format!("-{}.*.{}", segments[0], segments[2]),
                _ => tag.to_string(),
            }
        })
        .collect();
    TagSet::from_items(patterns.iter().map(String::as_str)).expect("the first pattern allows")
}

/// Nanoseconds a call.
fn time(calls: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / calls as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").expect("standard output takes the result");
    say(format!("judging {ENDPOINT_TAGS} endpoints of one tag each, medians of {ROUNDS} rounds, ns a judgement"));
    say("patterns |   bits |  patterns walked (ratio) |  trie walked (ratio)".to_string());
    for size in SET_SIZES {
        say(judge_by_each_form(size));
    }
    say("compiling a set, µs: patterns | 1,000 tags | 10,000 tags | 1 tag more to 10,000 | trie".to_string());
    for size in SET_SIZES {
        say(compile(size));
    }
}

fn judge_by_each_form(size: usize) -> String {
    let tags: Vec<Tag> = (0..ENDPOINT_TAGS).map(endpoint_tag).collect();
    let mut index = TagIndex::default();
    let numbers: Vec<u32> = tags.iter().map(|tag| index.number(tag)).collect();
    let set = Arc::new(set(size));
    let (compiled, trie) = (CompiledSet::compile(Arc::clone(&set), &index), Trie::of(&set));
    for (tag, number) in tags.iter().zip(&numbers) {
        let expected = compiled.judge_numbered(&[*number]);
        assert_eq!(set.judge(&[tag.as_ref()]), expected);
        assert_eq!(trie.judge(&[tag.as_ref()]), expected);
    }
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        // So cheap that one pass is too short for the clock.
        const PASSES: usize = 20;
        times[0].push(time(ENDPOINT_TAGS * PASSES, || {
            for _ in 0..PASSES {
                for number in &numbers {
                    black_box(black_box(&compiled).judge_numbered(black_box(&[*number])));
                }
            }
        }));
        times[1].push(time(ENDPOINT_TAGS, || {
            for tag in &tags {
                black_box(black_box(&set).judge(black_box(&[tag.as_ref()])));
            }
        }));
        times[2].push(time(ENDPOINT_TAGS, || {
            for tag in &tags {
                black_box(black_box(&trie).judge(black_box(&[tag.as_ref()])));
            }
        }));
    }
    let [bits, walk, trie] = times.map(median);
    format!("{size:>8} | {bits:>6.2} | {walk:>13.1} ({:>7.1}x) | {trie:>9.1} ({:>7.1}x)", walk / bits, trie / bits)
}

fn compile(size: usize) -> String {
    let set = Arc::new(set(size));
    let mut times = [const { Vec::new() }; 4];
    let mut index = TagIndex::default();
    for number in 0..ENDPOINT_TAGS {
        index.number(&endpoint_tag(number));
    }
    let mut large = index.clone();
    for number in 0..10 * ENDPOINT_TAGS {
        large.number(&endpoint_tag(number));
    }
    let known = CompiledSet::compile(Arc::clone(&set), &large);
    let mut larger = large.clone();
    larger.number(&Tag::parse("one.tag.more").expect("it is a tag"));
    for _ in 0..ROUNDS / 4 {
        times[0].push(time(1000, || drop(black_box(CompiledSet::compile(Arc::clone(&set), black_box(&index))))));
        times[1].push(time(1000, || drop(black_box(CompiledSet::compile(Arc::clone(&set), black_box(&large))))));
        times[2].push(time(1000, || drop(black_box(known.clone().extended(black_box(&larger))))));
        times[3].push(time(1000, || drop(black_box(Trie::of(black_box(&set))))));
    }
    let [small, large, more, trie] = times.map(median);
    format!("{size:>31} | {small:>10.1} | {large:>11.1} | {more:>20.1} | {trie:>4.1}")
}
