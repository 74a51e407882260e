//! A second, naive reading of section 2.3, compared with the router and the path judgement on generated cases.
//!
//! The words are few and made to collide: prefixes of each other, escapes of each other, empty segments, braces.

use std::cmp::Ordering;

use keyward::route::{JudgedPath, Method, Router, Template};
use proptest::prelude::*;

/// What a template's segment is, read straight from its text.
#[derive(Clone, PartialEq, Debug)]
enum Piece {
    Literal(String),
    Parameter(String, String),
    Rest,
}

fn pieces(template: &str) -> Vec<Piece> {
    let piece = |segment: &str| match (segment.find('{'), segment.find('}')) {
        (Some(_), Some(_)) if segment.ends_with("...}") => Piece::Rest,
        (Some(open), Some(close)) => Piece::Parameter(segment[..open].to_owned(), segment[close + 1..].to_owned()),
        (None, None) => Piece::Literal(segment.to_owned()),
        (Some(_), None) | (None, Some(_)) => unreachable!("only whole parameters are generated"),
    };
    template[1..].split('/').map(piece).collect()
}

fn matches(template: &[Piece], path: &[String]) -> bool {
    for (at, piece) in template.iter().enumerate() {
        let Some(segment) = path.get(at) else { return false };
        let good = match piece {
            Piece::Literal(text) => text == segment,
            Piece::Parameter(prefix, suffix) => {
                segment.len() > prefix.len() + suffix.len() && segment.starts_with(prefix) && segment.ends_with(suffix)
            }
            Piece::Rest => return !segment.is_empty(),
        };
        if !good {
            return false;
        }
    }
    template.len() == path.len()
}

/// The better one is less. Only for two templates that match the same path.
fn compare(one: &[Piece], other: &[Piece]) -> Ordering {
    let rank = |piece: &Piece| match piece {
        Piece::Literal(_) => (0, 0, 0),
        Piece::Parameter(prefix, suffix) => (1, usize::MAX - prefix.len(), usize::MAX - suffix.len()),
        Piece::Rest => (2, 0, 0),
    };
    let first = one.iter().zip(other).find(|(a, b)| a != b);
    first.map_or(Ordering::Equal, |(a, b)| rank(a).cmp(&rank(b)))
}

fn naive_find<'e>(endpoints: &'e [(String, String)], method: &str, path: &[String]) -> Option<&'e (String, String)> {
    let candidates =
        endpoints.iter().filter(|(its_method, template)| its_method == method && matches(&pieces(template), path));
    let best = candidates.min_by(|(_, a), (_, b)| compare(&pieces(a), &pieces(b)));
    if best.is_none() && method == "HEAD" {
        return naive_find(endpoints, "GET", path);
    }
    best
}

/// The decoded segments, or `None` for an ambiguous path: cut, split, decode, look, in the order of the contract's words.
fn naive_judge(raw: &[u8]) -> Option<Vec<String>> {
    let end = raw.iter().position(|byte| b"?#".contains(byte)).unwrap_or(raw.len());
    let raw = &raw[..end];
    if raw.first() != Some(&b'/') || raw.contains(&b'\\') {
        return None;
    }
    let segments: Vec<&[u8]> = raw[1..].split(|byte| *byte == b'/').collect();
    if segments[..segments.len() - 1].iter().any(|segment| segment.is_empty()) {
        return None;
    }
    segments.into_iter().map(naive_segment).collect()
}

fn naive_segment(raw: &[u8]) -> Option<String> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        if raw[at] == b'%' {
            let digits = raw.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            decoded.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            at += 3;
        } else {
            decoded.push(raw[at]);
            at += 1;
        }
    }
    let text = String::from_utf8(decoded).ok()?;
    let forbidden = |c: char| matches!(c, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '/' | '\\' | ';');
    if text == "." || text == ".." || text.contains(forbidden) {
        return None;
    }
    let still_escaped = text.split('%').skip(1).any(|behind| {
        let mut two = behind.chars().take(2).filter(char::is_ascii_hexdigit);
        two.next().is_some() && two.next().is_some()
    });
    (!still_escaped).then_some(text)
}

fn template_segment() -> impl Strategy<Value = String> {
    let literal = prop::sample::select(vec!["a", "b", "ab", "aba", "a.c", "é"]);
    let prefix = prop::sample::select(vec!["", "", "a", "ab", "b", "é"]);
    let suffix = prop::sample::select(vec!["", "", "a", "ba", ".c", "c"]);
    let name = prop::sample::select(vec!["x", "y"]);
    prop_oneof![
        literal.prop_map(str::to_owned),
        (prefix, name, suffix).prop_map(|(prefix, name, suffix)| format!("{prefix}{{{name}}}{suffix}")),
    ]
}

fn template() -> impl Strategy<Value = String> {
    let last = prop_oneof![
        4 => template_segment(),
        1 => Just("{rest...}".to_owned()),
        1 => Just(String::new()),
    ];
    (prop::collection::vec(template_segment(), 0..4), last)
        .prop_map(|(before, last)| before.iter().chain([&last]).map(|segment| format!("/{segment}")).collect())
}

fn method() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["GET", "GET", "HEAD", "POST"]).prop_map(str::to_owned)
}

/// Unlike names of the same parameter make the same endpoint; the first one is kept, as a caller's table would.
fn endpoints() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((method(), template()), 0..40).prop_map(|mut endpoints| {
        let mut seen = Vec::new();
        endpoints.retain(|(method, template)| {
            let key = (method.clone(), pieces(template));
            let new = !seen.contains(&key);
            seen.push(key);
            new
        });
        endpoints
    })
}

/// Mostly clear, with segments that several templates take.
fn path() -> impl Strategy<Value = String> {
    let words =
        vec!["a", "b", "ab", "aba", "abba", "a.c", "ab.c", ".c", "c", "aa", "é", "éa", "%61", "%61b", "%C3%A9", ".%63"];
    let last = prop_oneof![8 => prop::sample::select(words.clone()), 1 => Just(""), 1 => Just("a?/b"), 1 => Just("b#")];
    (prop::collection::vec(prop::sample::select(words), 0..5), last)
        .prop_map(|(before, last)| before.iter().chain([&last]).map(|segment| format!("/{segment}")).collect())
}

/// Mostly close to ambiguous.
fn odd_path() -> impl Strategy<Value = Vec<u8>> {
    let bits: Vec<&[u8]> = vec![
        b"/",
        b"/",
        b"/",
        b"a",
        b".",
        b"..",
        b"%",
        b"%2",
        b"%2e",
        b"%2F",
        b"%25",
        b"%252",
        b"2",
        b"f",
        b"g",
        b"%41",
        b"%5c",
        b"%3b",
        b"%00",
        b"%1f",
        b"%20",
        b"%7F",
        b"%80",
        b"%c2",
        b"\xc2",
        b"\x85",
        b"\xa0",
        b"\xff",
        b"\x7f",
        b"\n",
        b"\\",
        b";",
        b"?",
        b"#",
        b"+",
        "é".as_bytes(),
        "\u{85}".as_bytes(),
        b"%C2%9f",
        b"%c2%A0",
    ];
    let made = prop::collection::vec(prop::sample::select(bits), 0..8);
    prop_oneof![
        5 => made.prop_map(|bits| [b"/", bits.concat().as_slice()].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

fn judged(raw: &[u8]) -> Option<Vec<String>> {
    let path = JudgedPath::judge(raw).ok()?;
    Some(path.segments().map(|segment| String::from_utf8(segment.to_vec()).expect("judged to be UTF-8")).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_router_finds_what_the_naive_reading_finds(endpoints in endpoints(), asked in prop::collection::vec((method(), path()), 1..40)) {
        let parsed: Vec<_> = endpoints
            .iter()
            .map(|(method, template)| (Method::parse(method).unwrap(), Template::parse(template).unwrap()))
            .collect();
        let router = Router::build(parsed.iter().map(|(method, template)| (method, template)));
        for (method, raw) in &asked {
            let path = JudgedPath::judge(raw.as_bytes()).unwrap();
            let found = router.find(method.as_bytes(), &path).map(|index| &endpoints[index as usize]);
            let expected = naive_find(&endpoints, method, &naive_judge(raw.as_bytes()).unwrap());
            prop_assert_eq!(found, expected, "{} {}", method, raw);
        }
    }

    #[test]
    fn a_path_is_judged_as_the_naive_reading_judges_it(raws in prop::collection::vec(odd_path(), 32)) {
        for raw in raws {
            prop_assert_eq!(judged(&raw), naive_judge(&raw), "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn two_templates_have_one_shape_exactly_when_they_differ_only_in_names(one in template(), other in template()) {
        let shapes = [&one, &other].map(|text| Template::parse(text).unwrap().shape().to_owned());
        prop_assert_eq!(shapes[0] == shapes[1], pieces(&one) == pieces(&other), "{} {}", one, other);
    }

    #[test]
    fn a_template_of_any_text_is_parsed_or_refused_and_a_literal_one_takes_itself(text in "/?([a.%2{}/;?\\\\é\u{85}]|\\{x\\}|\\{y\\.\\.\\.\\}){0,8}") {
        let Ok(template) = Template::parse(&text) else { return Ok(()) };
        prop_assert_eq!(template.as_str(), &text);
        if !text.contains('{') {
            let escaped = text.replace('%', "%25");
            let router = Router::build([(&Method::parse("GET").unwrap(), &template)]);
            let path = JudgedPath::judge(escaped.as_bytes()).unwrap();
            prop_assert_eq!(router.find(b"GET", &path), Some(0));
        }
    }
}
