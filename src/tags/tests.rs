use super::*;

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

#[test]
fn a_star_stands_for_any_number_of_whole_segments() {
    let table = [
        ("tickets.*", "tickets", true),
        ("tickets.*", "tickets.tickets.list", true),
        ("tickets.*", "tickets-old.x", false),
        ("*.delete", "delete", true),
        ("*.delete", "a.b.delete", true),
        ("*.delete", "a.delete.b", false),
        ("a.*.c", "a.c", true),
        ("a.*.c", "a.c.c", true),
        ("a.*.c", "a.b.c.d", false),
        ("*.b.*", "a.b.b", true),
        ("*.*", "a", true),
        ("a.*.b.*.c", "a.b.x.b.c", true),
        ("a.*.b.*.c", "a.c.b", false),
        ("a", "a.a", false),
    ];
    for (pattern, text, expected) in table {
        assert_eq!(Pattern::parse(pattern).unwrap().covers(tag(text).as_ref()), expected, "{pattern} {text}");
    }
}

#[test]
fn a_partial_wildcard_is_refused_and_told_why() {
    let error = TagSet::parse("tick*").unwrap_err().to_string();
    assert!(error.contains("whole segments"), "{error}");
}

#[test]
fn a_set_that_can_allow_nothing_is_refused() {
    for text in ["", " , \n", "-a", "-*, -b"] {
        assert_eq!(TagSet::parse(text).unwrap_err(), SetError::AllowsNothing, "{text:?}");
    }
}

#[test]
fn the_bounds_are_exact() {
    let segments = |n: usize| vec!["a"; n].join(".");
    assert!(Tag::parse(&segments(16)).is_ok());
    assert_eq!(Tag::parse(&segments(17)), Err(TagError::TooManySegments(17)));
    assert!(Tag::parse(&"a".repeat(128)).is_ok());
    assert_eq!(Tag::parse(&"a".repeat(129)), Err(TagError::TooLong(129)));
    assert!(Pattern::parse(&format!("-{}", "a".repeat(128))).is_ok());
    assert!(TagSet::parse(&vec!["a"; 256].join(",")).is_ok());
    assert_eq!(TagSet::parse(&vec!["a"; 257].join(",")), Err(SetError::TooMany(257)));
}

#[test]
fn the_pattern_that_decides_is_named() {
    let set = TagSet::parse("tickets.*, *.list, -*.delete").unwrap();
    let deciding = |text: &str| set.deciding(&[tag(text).as_ref()]).1.map(ToString::to_string);
    assert_eq!(deciding("tickets.tickets.list").as_deref(), Some("tickets.*"));
    assert_eq!(deciding("people.list").as_deref(), Some("*.list"));
    assert_eq!(deciding("tickets.delete").as_deref(), Some("-*.delete"));
    assert_eq!(deciding("people.get"), None);
}

#[test]
fn a_compiled_set_follows_an_index_that_grows() {
    let mut index = TagIndex::default();
    let list = index.number(&tag("tickets.tickets.list"));
    let compiled = CompiledSet::compile(Arc::new(TagSet::parse("tickets.*, -*.delete").unwrap()), &index);
    let delete = index.number(&tag("tickets.tickets.delete"));
    let people = (0..200).map(|n| index.number(&tag(&format!("people.p{n}")))).last().unwrap();
    let compiled = compiled.extended(&index);
    assert_eq!(compiled.judge_numbered(&[list]), Outcome::Granted);
    assert_eq!(compiled.judge_numbered(&[list, delete]), Outcome::Denied);
    assert_eq!(compiled.judge_numbered(&[people]), Outcome::NotGranted);
    assert_eq!(compiled.judge_numbered(&[people, list]), Outcome::Granted);
}
