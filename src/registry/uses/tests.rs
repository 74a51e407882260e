use std::cell::Cell;

use super::*;
use crate::model::AgentTerms;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn mark(byte: u8) -> CodeMark {
    CodeMark::from_bytes([byte; 8])
}

fn identity(agent: &AgentTerms, id: u64, code: CodeSlot, code_mark: CodeMark) -> Identity<'_> {
    Identity {
        mode: Mode::Key,
        credential_id: id,
        code,
        code_mark,
        expires_at: None,
        app_id: None,
        agent,
        switched: false,
    }
}

fn last(code: u8, at: UnixSeconds, address: Option<&str>) -> LastUse {
    LastUse { code: mark(code), at, address: address.map(|text| text.parse().unwrap()) }
}

/// All that a round stores, with the codes that the credentials have.
fn round(book: &UseBook, code: u8, store: bool) -> Vec<(u64, LastUse)> {
    let mut place = Place::default();
    let mut all = Vec::new();
    while let Some(part) = book.next_part(&mut place, NOW, |_, _| Some(mark(code))) {
        for (_, id, uses) in &part.uses {
            all.extend(uses.iter().map(|used| (id.get(), used)));
        }
        if store { book.stored(&part) } else { book.put_back(part) }
    }
    all
}

#[test]
fn a_use_is_stored_once_with_its_first_address_of_a_second_wherever_it_is_kept() {
    let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
    let uses: [(u64, CodeSlot, &str); 5] = [
        (1, CodeSlot::Current, "10.0.0.1"),
        (DENSE_IDS - 1, CodeSlot::Current, "255.255.255.255"),
        (2, CodeSlot::Current, "2001:db8::1"),
        (3, CodeSlot::Retiring, "10.0.0.3"),
        (DENSE_IDS, CodeSlot::Current, "10.0.0.4"),
    ];
    for (id, slot, address) in uses {
        let identity = identity(&agent, id, slot, mark(9));
        book.note(&identity, NOW, Some(address.as_bytes()));
        book.note(&identity, NOW, Some(b"10.9.9.9"));
        book.note(&identity, UnixSeconds(NOW.0 - 1), Some(b"10.8.8.8"));
    }
    let mut expected: Vec<_> = uses.map(|(id, _, address)| (id, last(9, NOW, Some(address)))).into();
    // The second address of id 2 fits its word; whichever is stored first stays.
    expected.push((2, last(9, NOW, Some("10.9.9.9"))));
    expected.sort_by_key(|(id, used)| (*id, used.address));
    for store in [false, true] {
        let mut found = round(&book, 9, store);
        found.sort_by_key(|(id, used)| (*id, used.address));
        assert_eq!(found, expected);
    }
    assert_eq!(round(&book, 9, true), []);
}

#[test]
fn a_later_use_while_the_round_stores_waits_for_the_next() {
    let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
    let identity = identity(&agent, 7, CodeSlot::Current, mark(9));
    book.note(&identity, UnixSeconds(NOW.0 - 5), None);
    let part = book.next_part(&mut Place::default(), NOW, |_, _| Some(mark(9))).unwrap();
    book.note(&identity, NOW, Some(b"unix:"));
    book.stored(&part);
    assert_eq!(round(&book, 9, true), [(7, last(9, NOW, None))]);
}

#[test]
fn a_use_of_a_code_that_was_replaced_meanwhile_is_let_go() {
    let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
    book.note(&identity(&agent, 7, CodeSlot::Current, mark(1)), NOW, None);
    assert_eq!(round(&book, 2, true), []);
    assert_eq!(round(&book, 1, true), []);
}

#[test]
fn a_round_takes_parts_of_bounded_size_and_leaves_none_out() {
    let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
    let ids: Vec<u64> = (1..=3 * USES_PER_PART as u64 + 7).map(|n| n * 300 % DENSE_IDS).collect();
    for id in &ids {
        book.note(&identity(&agent, *id, CodeSlot::Current, mark(9)), NOW, None);
    }
    let parts = Cell::new(0);
    let mut place = Place::default();
    let mut found = Vec::new();
    while let Some(part) = book.next_part(&mut place, NOW, |_, _| Some(mark(9))) {
        assert!(part.uses.len() <= USES_PER_PART);
        parts.set(parts.get() + 1);
        found.extend(part.uses.iter().map(|(_, id, _)| id.get()));
        book.stored(&part);
    }
    assert_eq!(parts.get(), 4);
    let mut ids = ids;
    ids.sort_unstable();
    assert_eq!(found, ids);
}

#[test]
fn with_no_room_for_words_uses_are_kept_aside() {
    let (book, agent) = (UseBook::with_leaves(2), AgentTerms::new(1, "Admin", []));
    let ids = [5, 6, 1_000, 2_000, 60_000_000];
    for id in ids {
        book.note(&identity(&agent, id, CodeSlot::Current, mark(9)), NOW, None);
    }
    assert_eq!(book.aside.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>(), 2);
    let mut found = round(&book, 9, true);
    found.sort_by_key(|(id, _)| *id);
    assert_eq!(found, ids.map(|id| (id, last(9, NOW, None))));
}

#[test]
fn a_words_time_is_read_back_around_every_turn_of_its_bits() {
    for base in [0, 1, time_mask(), time_mask() + 1, NOW.0, NOW.0 | time_mask()] {
        let at = UnixSeconds(base + 100);
        let word = Word::new(mark(3), at);
        for now in [at.0, at.0 + 1, at.0 + 3_000_000, at.0 - 1] {
            assert_eq!(word.last_use(mark(3), UnixSeconds(now)).map(|used| used.at), Some(at), "{base} {now}");
        }
        let later = Word::new(mark(3), UnixSeconds(at.0 + 1));
        assert!(later.is_same_or_later(word) && word.is_same_or_later(word) && !word.is_same_or_later(later));
        assert!(!word.is_same_or_later(Word::new(mark(4), at)));
    }
    assert!(!Word(0).is_same_or_later(Word::new(mark(0), UnixSeconds(0))));
}

/// What is taken of first uses when every credential's current code is `code`.
fn first(book: &UseBook, code: u8) -> Vec<(u64, LastUse)> {
    let taken = book.take_first(NOW, |_, _| Some(mark(code)));
    taken.iter().flat_map(|(_, id, uses)| uses.iter().map(|used| (id.get(), used))).collect()
}

#[test]
fn a_code_is_offered_once_as_used_for_the_first_time_and_its_use_waits_on_for_the_round() {
    let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
    for id in [7, DENSE_IDS] {
        let identity = identity(&agent, id, CodeSlot::Current, mark(9));
        let expected = [(id, last(9, NOW, None))];
        book.note(&identity, UnixSeconds(NOW.0 - 1), None);
        book.note(&identity, NOW, None);
        assert_eq!(first(&book, 9), expected);
        book.note(&identity, NOW, Some(b"10.0.0.1"));
        assert_eq!(first(&book, 9), [], "it is no first use any more");
        assert_eq!(round(&book, 9, true), expected);
    }
    book.note(&identity(&agent, 7, CodeSlot::Current, mark(9)), UnixSeconds(NOW.0 + 1), None);
    assert_eq!(first(&book, 9), [], "nor after it was stored");
    book.note(&identity(&agent, 7, CodeSlot::Current, mark(8)), UnixSeconds(NOW.0 + 2), None);
    assert_eq!(first(&book, 8), [(7, last(8, UnixSeconds(NOW.0 + 2), None))], "a new code is another one");
}

#[test]
fn a_burst_of_first_uses_is_taken_in_bounded_parts_and_the_rest_waits_for_the_round() {
    let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
    let ids = 1..=3 * FIRST_USES_MAX as u64;
    for id in ids.clone() {
        book.note(&identity(&agent, id, CodeSlot::Current, mark(9)), NOW, None);
    }
    assert_eq!(first(&book, 9).len(), FIRST_USES_MAX);
    assert_eq!(first(&book, 9), []);
    assert_eq!(round(&book, 9, true).len() as u64, *ids.end());
}

#[test]
fn what_was_noted_of_a_replaced_code_is_not_taken_for_a_use_of_one_that_looks_alike() {
    let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
    let [old, alike] = [0, 1].map(|last| CodeMark::from_bytes([5, 5, 5, 5, 5, 5, 5, last]));
    book.note(&identity(&agent, 7, CodeSlot::Current, old), NOW, None);
    book.take_first(NOW, |_, _| Some(old));
    book.set_aside((Mode::Key, Id::new(7).unwrap()), old, NOW);
    let noted: Vec<CodeMark> = book.waiting((Mode::Key, 7), alike, NOW).iter().map(|used| used.code).collect();
    assert_eq!(noted, [old]);
    book.note(&identity(&agent, 7, CodeSlot::Current, alike), NOW, None);
    assert_eq!(book.take_first(NOW, |_, _| Some(alike)).len(), 1, "and its first use is one");
}

#[test]
fn what_was_noted_of_a_code_that_is_retiring_now_stays_known_beside_the_new_ones_use() {
    let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
    let (old, new) = (mark(1), mark(2));
    book.note(&identity(&agent, 7, CodeSlot::Current, old), NOW, Some(b"10.0.0.1"));
    book.set_aside((Mode::Key, Id::new(7).unwrap()), old, NOW);
    book.note(&identity(&agent, 7, CodeSlot::Current, new), NOW, Some(b"10.0.0.2"));
    let mut found = round(&book, 2, true);
    found.sort_by_key(|(_, used)| used.address);
    assert_eq!(found, [(7, last(1, NOW, Some("10.0.0.1"))), (7, last(2, NOW, Some("10.0.0.2")))]);
}

#[test]
fn the_oldest_use_that_waits_is_known_until_it_is_stored_and_again_when_that_failed() {
    let (book, agent) = (UseBook::new(), AgentTerms::new(1, "Admin", []));
    assert_eq!(book.oldest_waiting(), None);
    for (id, slot, at) in
        [(7, CodeSlot::Current, NOW.0), (8, CodeSlot::Retiring, NOW.0 - 9), (9, CodeSlot::Current, NOW.0 - 5)]
    {
        book.note(&identity(&agent, id, slot, mark(9)), UnixSeconds(at), None);
    }
    let oldest = Some(UnixSeconds(NOW.0 - 9));
    assert_eq!(book.oldest_waiting(), oldest);
    round(&book, 9, false);
    assert_eq!(book.oldest_waiting(), oldest, "nothing was stored");
    round(&book, 9, true);
    assert_eq!(book.oldest_waiting(), None);
    book.note(&identity(&agent, 7, CodeSlot::Current, mark(9)), UnixSeconds(NOW.0 + 1), None);
    assert_eq!(book.oldest_waiting(), Some(UnixSeconds(NOW.0 + 1)));
}
