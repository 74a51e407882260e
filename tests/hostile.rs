//! Bytes that mean harm: against the decoders and the decision in this process, and against the real daemon.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "a test")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use keyward::cli::read_apply_text;
use keyward::model::{Pepper, PresentedCredential, Verdict, address::Cidr};
use keyward::registry::{Asker, Target, View};
use keyward::route::{JudgedPath, Method, Router, Template};
use keyward::tags::{Tag, TagSet};
use keyward_proto::admin::{AdminReply, AdminRequest};
use keyward_proto::frame::{ADMIN_FRAME_BYTES_MAX, QUERY_FRAME_BYTES_MAX, split};
use keyward_proto::query::{Batch, Check, QueryReply, QueryRequest, Target as WireTarget};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use raw::{KEY, frame};
use serde_json::json;
use support::Home;

/// The world, with a second key, a token, a session and a public endpoint.
fn world() -> serde_json::Value {
    let mut world = raw::world();
    let section = |name: &str, record| (name.to_owned(), json!([record]));
    let more = [
        section("tokens", json!({ "id": 18, "agent": 4, "code": "TOKENTOKENTOKEN" })),
        section("sessions", json!({ "id": 7, "agent": 4, "code": "SESSIONSESSION" })),
    ];
    world.as_object_mut().unwrap().extend(more);
    world["keys"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "id": 2, "superuser": true, "code": "YWK2PGCS8CNW62SR8TBTBKWMY" }));
    world
}

/// Runs a property on so many cases.
fn holds<S: Strategy>(cases: u32, strategy: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(&strategy, property).unwrap_or_else(|error| panic!("{error}"));
}

fn target<'a>(wire: &'a WireTarget<'a>) -> Target<'a> {
    match wire {
        WireTarget::Endpoint { method, path } => Target::Endpoint { method, path },
        WireTarget::Tags(tags) => Target::Tags(tags),
    }
}

/// Everything that the daemon does with the bytes of a peer. True when something was allowed.
fn judge(view: &View<'_>, mut bytes: &[u8]) -> bool {
    let mut allowed = false;
    while let Ok(Some((frame, used))) = split(bytes, QUERY_FRAME_BYTES_MAX) {
        if let Ok(request) = QueryRequest::decode(&frame) {
            let (asker, targets) = match &request {
                QueryRequest::Check(check) => (check.asker, vec![target(&check.target)]),
                QueryRequest::Who(who) => (who.asker, vec![Target::Nobody]),
                QueryRequest::Batch(batch) => (batch.asker, batch.targets.iter().map(target).collect()),
            };
            let asker = Asker { credential: asker.credential, agent: asker.agent, address: asker.address };
            view.check_all(asker, targets.iter().copied(), |judged| allowed |= judged.is_ok());
            for target in &targets {
                allowed |= matches!(view.check(&asker, target), Verdict::Allow(_));
            }
        }
        bytes = &bytes[used..];
    }
    let mut rest = bytes;
    while let Ok(Some((frame, used))) = split(rest, ADMIN_FRAME_BYTES_MAX) {
        let _ = AdminRequest::decode(&frame);
        let _ = AdminReply::decode(&frame);
        let _ = QueryReply::decode(&frame);
        rest = &rest[used..];
    }
    allowed
}

/// Any bytes, bytes with a good length, bytes with a good header.
fn hostile_frames() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![0x0101_u16..=0x0103, 0x0301_u16..=0x0309, any::<u16>()];
    let bodies = prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => 0_u8..4, 2 => any::<u8>()], 0..300);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..400),
        (kinds, any::<u32>(), bodies).prop_map(|(kind, id, body)| frame(1, kind, id, &body)),
    ]
}

/// What could be taken for a credential, but never one of the world's: a code never holds a `!` there.
fn wrong_credentials() -> impl Strategy<Value = Vec<u8>> {
    let code = "[A-Z0-9!]{0,10}!{1}[A-Z0-9!]{0,30}";
    let id = prop_oneof![Just("3".to_owned()), Just("2".into()), Just("18".into()), Just("7".into()), "[0-9]{1,21}"];
    let scheme = prop_oneof!["key", "token", "session", "KEY", "[a-z]{0,8}"];
    prop_oneof![
        (scheme, " {0,3}", id, code)
            .prop_map(|(scheme, blanks, id, code)| format!("{scheme}{blanks}{id}:{code}").into()),
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}

#[test]
fn arbitrary_bytes_neither_panic_nor_are_ever_allowed() {
    let home = Home::new();
    let registry = home.registry(&world());
    let view = registry.view();
    assert!(judge(&view, &raw::who(1, KEY)), "the right code is allowed");
    holds(2_500, hostile_frames(), |bytes| {
        prop_assert!(!judge(&view, &bytes));
        Ok(())
    });
}

#[test]
fn a_mutated_question_with_a_wrong_code_is_never_allowed() {
    let home = Home::new();
    let registry = home.registry(&world());
    let view = registry.view();
    let question = raw::check(
        1,
        "key 3:WRONGWRONGWRONGWRONGWRONG",
        WireTarget::Endpoint { method: b"GET", path: b"/api/v2/tickets" },
    );
    let flips = prop::collection::vec((4..question.len(), any::<u8>()), 1..6);
    holds(2_500, flips, |flips| {
        let mut bytes = question.clone();
        for (place, value) in flips {
            bytes[place] = value;
        }
        prop_assert!(!judge(&view, &bytes));
        Ok(())
    });
}

#[test]
fn a_random_credential_with_random_targets_is_never_allowed() {
    let home = Home::new();
    let registry = home.registry(&world());
    let view = registry.view();
    let odd = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let agent = prop_oneof![Just(None), Just(Some(b"4".to_vec())), odd()];
    let path = prop_oneof![Just(b"/api/v2/tickets".to_vec()), prop::collection::vec(any::<u8>(), 0..60)];
    holds(2_500, (wrong_credentials(), agent, odd(), path), |(credential, agent, address, path)| {
        let asker = keyward_proto::query::Asker {
            credential: Some(&credential),
            agent: agent.as_deref(),
            address: address.as_deref(),
        };
        let tag: &[u8] = b"tickets.tickets.list";
        let targets = vec![WireTarget::Endpoint { method: b"GET", path: &path }, WireTarget::Tags(vec![tag, &path])];
        let check = QueryRequest::Check(Check { asker, target: targets[0].clone() });
        let batch = QueryRequest::Batch(Batch { asker, targets });
        prop_assert!(!judge(&view, &[raw::put(&check, 1), raw::put(&batch, 2)].concat()));
        Ok(())
    });
}

#[test]
fn a_header_value_that_is_read_says_the_same_when_it_is_written_again() {
    let near = "(?i:key|token|session|keys)?[ \t]{0,3}[+0-9 ]{0,22}:{0,2}[!-~ é]{0,140}";
    let values = prop_oneof![near.prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..160)];
    holds(5_000, values, |value| {
        let Some(read) = PresentedCredential::parse(&value) else { return Ok(()) };
        let colon = value.iter().position(|byte| *byte == b':').unwrap();
        let code = &value[colon + 1..];
        let written = [format!("{} {}:", read.mode, read.id).as_bytes(), code].concat();
        let again = PresentedCredential::parse(&written).unwrap();
        prop_assert_eq!((again.mode, again.id), (read.mode, read.id));
        let pepper = Pepper::new(zeroize::Zeroizing::new([7; 32]));
        prop_assert!(pepper.hash(read.mode, read.id, read.code) == pepper.hash(again.mode, again.id, again.code));
        // Nothing but the scheme's case and further blanks was lost.
        let folded = String::from_utf8(value[..colon].to_vec()).unwrap().to_ascii_lowercase();
        prop_assert_eq!(
            folded.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
            format!("{} {}", read.mode, read.id)
        );
        prop_assert!((8..=128).contains(&code.len()) && code.iter().all(u8::is_ascii_graphic));
        Ok(())
    });
}

#[test]
fn a_tag_set_that_is_read_says_the_same_when_it_is_written_again_and_judges_as_patterns_do() {
    let text = prop_oneof!["[-a-c*., \n\t]{0,40}", "(-?[a-b*](\\.[a-b*]){0,3}[,\n] ?){0,6}\\*", ".{0,60}"];
    let tags = prop::collection::vec("[a-b](\\.[a-b]){0,3}", 1..4);
    holds(2_500, (text, tags), |(text, tags)| {
        let Ok(set) = TagSet::parse(&text) else { return Ok(()) };
        let written: Vec<String> = set.patterns().iter().map(ToString::to_string).collect();
        let again = TagSet::parse(&written.join(", ")).unwrap();
        prop_assert_eq!(&again, &set);
        let reversed = TagSet::from_items(written.iter().rev().map(String::as_str)).unwrap();
        let tags: Vec<Tag> = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
        let refs: Vec<_> = tags.iter().map(Tag::as_ref).collect();
        prop_assert_eq!(set.judge(&refs), reversed.judge(&refs), "order does not matter");
        let covered = |denying: bool| {
            set.patterns()
                .iter()
                .any(|pattern| pattern.denies() == denying && refs.iter().any(|tag| pattern.covers(*tag)))
        };
        let expected = match (covered(true), covered(false)) {
            (true, _) => keyward::tags::Outcome::Denied,
            (false, true) => keyward::tags::Outcome::Granted,
            (false, false) => keyward::tags::Outcome::NotGranted,
        };
        prop_assert_eq!(set.judge(&refs), expected);
        Ok(())
    });
}

#[test]
fn a_path_is_clear_only_when_it_holds_nothing_that_two_servers_could_read_in_two_ways() {
    let get = Method::parse("GET").unwrap();
    let templates = ["/", "/a", "/a/{x}", "/a/{rest...}", "/pre-{x}.json"].map(|text| Template::parse(text).unwrap());
    let router = Router::build(templates.iter().map(|template| (&get, template)));
    let near = "/(a|b|\\.|\\.\\.|%2e|%2F|%5c|%25|%41|%|;|//|/|\\?|#|\\\\|é|\u{1}|%00|%7f|%c3%a9|%ff|pre-|json){0,8}";
    let paths = prop_oneof![near.prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..40)];
    holds(5_000, paths, |raw| {
        let Ok(path) = JudgedPath::judge(&raw) else { return Ok(()) };
        let segments: Vec<&[u8]> = path.segments().collect();
        prop_assert!(raw.first() == Some(&b'/') && !segments.is_empty());
        for (place, segment) in segments.iter().enumerate() {
            let text = std::str::from_utf8(segment).unwrap();
            prop_assert!(!text.is_empty() || place + 1 == segments.len());
            prop_assert!(text != "." && text != "..");
            prop_assert!(!text.contains(['/', '\\', ';']) && !text.chars().any(char::is_control));
            let escape = |three: &[u8]| three[0] == b'%' && three[1..].iter().all(u8::is_ascii_hexdigit);
            prop_assert!(!segment.windows(3).any(escape));
        }
        // What is clear stays what it is when its plain form is judged again.
        let plain = [b"/", segments.join(&b'/').as_slice()].concat();
        if !plain.iter().any(|byte| matches!(byte, b'%' | b'?' | b'#')) {
            let again = JudgedPath::judge(&plain).unwrap();
            prop_assert_eq!(again.segments().collect::<Vec<_>>(), segments);
            prop_assert_eq!(router.find(b"GET", &again), router.find(b"GET", &path));
        }
        Ok(())
    });
}

#[test]
fn a_block_that_is_read_says_the_same_when_it_is_written_again() {
    let v4 = (any::<u32>(), 0_u8..=34).prop_map(|(bits, prefix)| {
        let kept = bits & u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        format!("{}/{prefix}", std::net::Ipv4Addr::from(kept))
    });
    let v6 = (any::<u128>(), 0_u8..=130).prop_map(|(bits, prefix)| {
        let kept = bits & u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
        format!("{}/{prefix}", std::net::Ipv6Addr::from(kept))
    });
    let texts = prop_oneof![v4, v6, "(::ffff:)?[0-9.:a-f]{0,20}(/[0-9+]{0,4})?", ".{0,30}"];
    holds(5_000, texts, |text| {
        let Ok(block) = Cidr::parse(&text) else { return Ok(()) };
        let written = block.to_string();
        prop_assert_eq!(Cidr::parse(&written), Ok(block));
        let base = written.split('/').next().unwrap().parse().unwrap();
        prop_assert!(block.contains(base), "{} holds its first address", written);
        Ok(())
    });
}

#[test]
fn a_mutated_apply_file_never_panics_and_a_refusal_shows_no_code() {
    let json = world().to_string();
    let toml = "[[agents]]\nid = 4\nname = 'M'\npermissions = '*'\nattributes = { a = 'b' }\n[[keys]]\nid = 3\nagent = 4\n\
                code = '3A7QXW9ZK2M4N6P8R0S1T5V7Y'\nallow_ip = ['10.0.0.0/8']\nexpires_at = 1893456000\n";
    let names = ["world.json", "world.toml", "world.yaml"].map(Path::new);
    assert_eq!(read_apply_text(json.as_bytes(), names[0]), Ok(6));
    assert_eq!(read_apply_text(toml.as_bytes(), names[1]), Ok(2));
    assert_eq!(read_apply_text(json.as_bytes(), names[2]), Ok(6), "JSON is YAML");
    let pieces = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        prop_oneof![
            "null",
            "\\[",
            "\\{",
            "\\}",
            "\"",
            ",",
            "1e999",
            "-1",
            "18446744073709551616",
            "\\[\\[\\[\\[",
            "true",
            "\\\\u0000",
            "'''"
        ]
        .prop_map(String::into_bytes),
    ];
    let mutations = prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, pieces), 1..5);
    holds(3_000, (0..names.len(), mutations), |(syntax, mutations)| {
        let mut text = if syntax == 1 { toml.as_bytes().to_vec() } else { json.clone().into_bytes() };
        for (place, removed, piece) in mutations {
            let start = place.index(text.len() + 1);
            let end = (start + removed).min(text.len());
            text.splice(start..end, piece);
        }
        if let Err(message) = read_apply_text(&text, names[syntax]) {
            for part in ["3A7QXW9Z", "YWK2PGCS", "TOKENTOKEN", "SESSIONSESS"] {
                prop_assert!(!message.contains(part), "{}", message);
            }
        }
        Ok(())
    });
}

/// xorshift64*: the same bytes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// One connection's bytes: garbage, garbage behind a good header, or a good frame with something wrong.
fn garbage(random: &mut Random, good: &[Vec<u8>]) -> Vec<u8> {
    let size = random.below(600);
    match random.below(4) {
        0 => random.bytes(size),
        1 => {
            let kinds = [0x0101, 0x0102, 0x0103, 0x0301, 0x0302, 0x0305, 0x0306, 0x0308, 0x0309, 0x0401];
            let kind = kinds[random.below(kinds.len())];
            let body = random.bytes(size);
            frame(1, kind, 1, &body)
        }
        2 => {
            let mut bytes = good[random.below(good.len())].clone();
            let place = random.below(bytes.len());
            bytes[place] = random.bytes(1)[0];
            // Two of them, so that something stands behind the broken one.
            bytes.extend(bytes.clone());
            bytes
        }
        _ => {
            let whole = &good[random.below(good.len())];
            whole[..random.below(whole.len() + 1)].to_vec()
        }
    }
}

#[test]
fn thousands_of_connections_with_garbage_leave_the_daemon_answering_and_its_state_as_it_was() {
    const CONNECTIONS: usize = 4_000;
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world());
    let before = home.json(&["status"])["revision"].clone();
    let wrong = "key 3:WRONGWRONGWRONGWRONGWRONG";
    let mut good = vec![raw::who(1, wrong), raw::check(2, wrong, WireTarget::Tags(vec![b"a.b", b"c"]))];
    // Of the admin's, only what changes nothing: a mutation of a change could be a change.
    for request in [AdminRequest::Status, AdminRequest::Show(keyward_proto::admin::Selector::Agent(4))] {
        let mut out = Vec::new();
        request.put(&mut out, 3);
        good.push(out);
    }
    let sockets = ["query.sock", "admin.sock"].map(|name| home.runtime().join(name));
    let mut random = Random(0x5eed_0f4b_ad00_0001);
    let mut replies = 0;
    for connection in 0..CONNECTIONS {
        let mut stream = UnixStream::connect(&sockets[connection % 2]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The daemon may have closed already.
        let _ = stream.write_all(&garbage(&mut random, &good));
        if random.below(3) > 0 {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut reply = Vec::new();
            match stream.read_to_end(&mut reply) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it hangs"),
            }
            replies += usize::from(!reply.is_empty());
        }
    }
    assert!(replies > CONNECTIONS / 8, "most that is whole gets a reply: {replies}");
    raw::Wire::connect(&sockets[0]).is_answered();
    assert_eq!(home.json(&["status"])["revision"], before, "nothing was changed");
    daemon.stop();
    let log = home.log_text();
    assert!(!log.contains("panic"), "{log}");
}
