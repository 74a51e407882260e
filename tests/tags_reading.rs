//! A second, naive reading of section 2.1, compared with patterns, tag sets and compiled sets on generated cases.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use keyward::tags::{CompiledSet, Outcome, PATTERNS_MAX, Pattern, SetError, Tag, TagIndex, TagRef, TagSet};
use proptest::prelude::*;
use proptest::sample::select;

fn covers(pattern: &[&str], tag: &[&str]) -> bool {
    match pattern.split_first() {
        None => tag.is_empty(),
        Some((&"*", rest)) => (0..=tag.len()).any(|taken| covers(rest, &tag[taken..])),
        Some((first, rest)) => tag.first() == Some(first) && covers(rest, &tag[1..]),
    }
}

fn naive_covers(pattern: &str, tag: &str) -> bool {
    covers(&pattern.split('.').collect::<Vec<_>>(), &tag.split('.').collect::<Vec<_>>())
}

fn naive_judge(patterns: &[String], tags: &[String]) -> Outcome {
    let hits = |pattern: &str| tags.iter().any(|tag| naive_covers(pattern, tag));
    let denied = patterns.iter().filter_map(|pattern| pattern.strip_prefix('-')).any(hits);
    let granted = patterns.iter().filter(|pattern| !pattern.starts_with('-')).any(|pattern| hits(pattern));
    match (denied, granted) {
        (true, _) => Outcome::Denied,
        (false, true) => Outcome::Granted,
        (false, false) => Outcome::NotGranted,
    }
}

/// With the bounds: at most 16 segments and 128 bytes. `stars` are allowed in a pattern.
fn naive_is_valid(text: &str, stars: bool) -> bool {
    let start = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let literal = |segment: &str| segment.starts_with(start) && segment.chars().all(|c| start(c) || "_-".contains(c));
    text.len() <= 128
        && text.split('.').count() <= 16
        && text.split('.').all(|segment| literal(segment) || (stars && segment == "*"))
}

/// Words that are beginnings and ends of each other.
fn word() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "a", "b", "ab", "a-b", "a_", "0"])
}

fn tag() -> impl Strategy<Value = String> {
    prop::collection::vec(word(), 1..7).prop_map(|words| words.join("."))
}

fn pattern_body() -> impl Strategy<Value = String> {
    let segment = prop_oneof![3 => word(), 2 => Just("*")];
    prop::collection::vec(segment, 1..7).prop_map(|segments| segments.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    (prop::bool::weighted(0.3), pattern_body())
        .prop_map(|(denies, body)| format!("{}{body}", if denies { "-" } else { "" }))
}

/// Patterns of which one at least allows.
fn patterns() -> impl Strategy<Value = Vec<String>> {
    (prop::collection::vec(pattern(), 0..8), pattern_body(), any::<prop::sample::Index>()).prop_map(
        |(mut patterns, allowing, place)| {
            patterns.insert(place.index(patterns.len() + 1), allowing);
            patterns
        },
    )
}

/// Mostly close to a tag or a pattern, some at the bounds.
fn odd_text() -> impl Strategy<Value = String> {
    let bits = vec!["a", "b", "0", ".", ".", "*", "-", "_", "A", " ", "é", "\u{0}", "a.", ".*", "-a"];
    let long = (110..140_usize, 0..20_usize).prop_map(|(bytes, segments)| {
        let text = "a.".repeat(segments) + &"b".repeat(bytes);
        text[..bytes].to_string()
    });
    let many = (14..19_usize, select(vec!["a", "*"])).prop_map(|(count, segment)| vec![segment; count].join("."));
    prop_oneof![
        6 => prop::collection::vec(select(bits), 0..8).prop_map(|bits| bits.concat()),
        1 => long,
        1 => many,
        1 => tag(),
    ]
}

fn refs(tags: &[Tag]) -> Vec<TagRef<'_>> {
    tags.iter().map(Tag::as_ref).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pattern_covers_what_the_naive_glob_covers(pattern in pattern_body(), tags in prop::collection::vec(tag(), 16)) {
        let parsed = Pattern::parse(&pattern).unwrap();
        let denying = Pattern::parse(&format!("-{pattern}")).unwrap();
        for tag in &tags {
            let expected = naive_covers(&pattern, tag);
            prop_assert_eq!(parsed.covers(Tag::parse(tag).unwrap().as_ref()), expected, "{} {}", pattern, tag);
            prop_assert_eq!(denying.covers(Tag::parse(tag).unwrap().as_ref()), expected, "-{} {}", pattern, tag);
        }
    }

    #[test]
    fn a_tag_and_a_pattern_are_what_the_grammar_says(text in odd_text()) {
        prop_assert_eq!(Tag::parse(&text).is_ok(), naive_is_valid(&text, false), "{:?}", text);
        prop_assert_eq!(TagRef::parse(text.as_bytes()).is_ok(), naive_is_valid(&text, false), "{:?}", text);
        let body = text.strip_prefix('-').unwrap_or(&text);
        prop_assert_eq!(Pattern::parse(&text).is_ok(), naive_is_valid(body, true), "{:?}", text);
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert_eq!(pattern.to_string(), text.clone());
        }
        if let Ok(tag) = Tag::parse(&text) {
            prop_assert_eq!(tag.to_string(), text);
        }
    }

    #[test]
    fn a_set_judges_as_the_naive_reading_and_order_never_matters(
        (patterns, shuffled) in patterns().prop_flat_map(|patterns| (Just(patterns.clone()), Just(patterns).prop_shuffle())),
        questions in prop::collection::vec(prop::collection::vec(tag(), 1..4), 8),
    ) {
        let [set, other] = [&patterns, &shuffled].map(|list| TagSet::from_items(list.iter().map(String::as_str)).unwrap());
        for question in &questions {
            let expected = naive_judge(&patterns, question);
            let tags: Vec<Tag> = question.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
            prop_assert_eq!(set.judge(&refs(&tags)), expected, "{} {:?}", set, question);
            prop_assert_eq!(other.judge(&refs(&tags)), expected, "{} {:?}", other, question);
            let (outcome, deciding) = set.deciding(&refs(&tags));
            prop_assert_eq!(outcome, expected);
            prop_assert_eq!(deciding.is_some(), expected != Outcome::NotGranted);
            if let Some(pattern) = deciding {
                prop_assert_eq!(pattern.denies(), expected == Outcome::Denied);
                prop_assert!(tags.iter().any(|tag| pattern.covers(tag.as_ref())), "the pattern that decides covers");
            }
        }
    }

    #[test]
    fn a_compiled_set_judges_as_the_set_while_the_index_grows(
        patterns in patterns(),
        stretches in prop::collection::vec(prop::collection::vec(tag(), 0..60), 1..5),
    ) {
        let set = TagSet::from_items(patterns.iter().map(String::as_str)).unwrap();
        let mut index = TagIndex::default();
        let mut compiled = CompiledSet::compile(Arc::new(set.clone()), &index);
        let mut known: Vec<(Tag, u32)> = Vec::new();
        for stretch in &stretches {
            for text in stretch {
                let tag = Tag::parse(text).unwrap();
                let number = index.number(&tag);
                known.push((tag, number));
            }
            compiled = compiled.extended(&index);
            prop_assert_eq!(compiled.known(), index.len());
            for (tag, number) in &known {
                prop_assert_eq!(*number, index.number(tag), "a number keeps its meaning");
                prop_assert_eq!(compiled.judge_numbered(&[*number]), set.judge(&[tag.as_ref()]), "{} {}", set, tag);
            }
            for some in known.chunks(3) {
                let (tags, numbers): (Vec<Tag>, Vec<u32>) = some.iter().cloned().unzip();
                prop_assert_eq!(compiled.judge_numbered(&numbers), set.judge(&refs(&tags)));
            }
        }
        let afresh = CompiledSet::compile(Arc::new(set), &index);
        for (_, number) in &known {
            prop_assert_eq!(afresh.judge_numbered(&[*number]), compiled.judge_numbered(&[*number]));
        }
    }

    #[test]
    fn a_set_is_read_back_from_what_it_shows_however_it_was_written(
        patterns in patterns(),
        blanks in prop::collection::vec(select(vec!["", " ", "\t", "\r", ",", "\n"]), 18),
    ) {
        let set = TagSet::from_items(patterns.iter().map(String::as_str)).unwrap();
        prop_assert_eq!(TagSet::parse(&set.to_string()), Ok(set.clone()));
        prop_assert_eq!(set.patterns().iter().map(ToString::to_string).collect::<Vec<_>>(), patterns.clone());
        let mut written = String::new();
        for (pattern, around) in patterns.iter().zip(blanks.chunks(2)) {
            written += &format!("{}{pattern}{}{}", around[0], around[1], if pattern.len() % 2 == 0 { "," } else { "\n" });
        }
        prop_assert_eq!(TagSet::parse(&written), Ok(set), "{:?}", written);
    }

    #[test]
    fn a_list_that_can_allow_nothing_is_no_set(bodies in prop::collection::vec(pattern_body(), 0..8)) {
        let denying: Vec<String> = bodies.iter().map(|body| format!("-{body}")).collect();
        prop_assert_eq!(TagSet::from_items(denying.iter().map(String::as_str)), Err(SetError::AllowsNothing));
        let too_many = denying.iter().map(String::as_str).chain(std::iter::repeat_n("a", PATTERNS_MAX + 1));
        prop_assert!(matches!(TagSet::from_items(too_many), Err(SetError::TooMany(_))));
    }
}
