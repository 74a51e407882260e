//! Rates: what is allowed of a limited credential at every door, and what takes nothing of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::directory::Compiler;
use keyward::model::record::{AgentName, Attributes, Label};
use keyward::model::{
    Agent, Binding, Codes, Credential, Endpoint, Id, Method, Mode, Modes, Pepper, PresentedCode, Rate, Reason, Record,
    Revision, Template,
};
use keyward::registry::{Asker as ModelAsker, Counts, Reading, Stop, Target as ModelTarget};
use keyward::tags::{Tag, TagSet};
use keyward_proto::client::QueryClient;
use keyward_proto::query::{Asker, Reason as WireReason, Target};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::http::{Answer, Place, get};
use support::{Home, wait_until};

const CODE: &str = "the-code-of-the-key";
const KEY: &str = "key 3:the-code-of-the-key";
const LIST: Target<'_> = Target::Endpoint { method: b"GET", path: b"/tickets" };
const DELETE: Target<'_> = Target::Endpoint { method: b"DELETE", path: b"/tickets/1" };
const PUBLIC: Target<'_> = Target::Endpoint { method: b"GET", path: b"/public" };

fn world(rate: Option<&str>) -> Value {
    json!({
        "agents": [{ "id": 4, "name": "Matthew", "permissions": "*" }],
        "endpoints": [{ "method": "GET", "path": "/tickets", "tags": ["tickets.list"] },
                      { "method": "DELETE", "path": "/tickets/{id}", "tags": ["tickets.delete"] },
                      { "method": "GET", "path": "/public", "tags": ["public"], "modes": ["public"] }],
        "keys": [{ "id": 3, "code": CODE, "agent": 4, "tags": "*, -*.delete", "rate": rate },
                 { "id": 5, "code": CODE, "agent": 4 }],
    })
}

fn with_rate(rate: &str, test: impl FnOnce(&Home)) {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world(Some(rate)));
    test(&home);
    daemon.stop();
}

fn asker(credential: &str) -> Asker<'_> {
    Asker { credential: Some(credential.as_bytes()), ..Asker::default() }
}

/// The reason, its status and the seconds to wait.
fn asked(query: &mut QueryClient, target: Target<'_>) -> (WireReason, u16, u32) {
    let verdict = query.check(asker(KEY), target).unwrap();
    (WireReason::from_number(verdict.reason).unwrap(), verdict.status, verdict.retry_after)
}

/// How many of `count` questions are allowed; the others must be limited.
fn allowed(home: &Home, count: u32) -> u32 {
    let mut query = home.query();
    let is_allowed = |_| match asked(&mut query, LIST) {
        (WireReason::Ok, 200, 0) => 1,
        (WireReason::RateLimited, 429, 1..) => 0,
        other => panic!("{other:?}"),
    };
    (0..count).map(is_allowed).sum()
}

const ALLOWED: (WireReason, u16, u32) = (WireReason::Ok, 200, 0);

/// A 5/d bucket gives one back in so many seconds; some of the first one's may be over already.
fn is_limited((reason, status, wait): (WireReason, u16, u32)) -> bool {
    (reason, status) == (WireReason::RateLimited, 429) && (17_200..=17_280).contains(&wait)
}

fn http(home: &Home, path: &str) -> Answer {
    let authorization = format!("Authorization: {KEY}");
    let lines: &[&str] = match path {
        "/auth/nginx" => &[&authorization, "X-Original-Method: GET", "X-Original-URI: /tickets"],
        "/auth/forward" => &[&authorization, "X-Forwarded-Method: GET", "X-Forwarded-Uri: /tickets"],
        _ => &[&authorization],
    };
    Place::Unix(home.runtime().join("http.sock")).ask(get(path, lines))
}

#[test]
fn all_doors_take_from_one_bucket_and_say_when_to_come_again() {
    with_rate("5/d", |home| {
        let mut query = home.query();
        assert_eq!(asked(&mut query, LIST), ALLOWED);
        for path in ["/auth/nginx", "/auth/forward"] {
            assert_eq!(http(home, path).status, 200, "{path}");
        }
        assert_eq!(asked(&mut query, Target::Tags(vec![b"tickets.list"])), ALLOWED);
        home.json(&["check", "--credential", KEY, "GET", "/tickets"]);

        assert!(is_limited(asked(&mut query, LIST)));
        for (path, status) in [("/auth/nginx", 403), ("/auth/forward", 429)] {
            let answer = http(home, path);
            let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
            assert_eq!(answer.status, status, "{path}");
            assert!(is_limited((WireReason::RateLimited, 429, wait)), "{path}: {wait}");
            assert_eq!(answer.verdict(), (status, "429", "rate_limited"));
            assert_eq!(answer.header("x-keyward-agent-id"), Some(""), "nobody is let through");
        }
        let output = home.run(&["--json", "check", "--credential", KEY, "GET", "/tickets"]);
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &printed["status"]), (Some(1), &json!(429)));
        assert!(printed["retry_after"].as_u64().unwrap() > 17_000);
        for _ in 0..20 {
            assert!(query.who(asker(KEY)).unwrap().is_allowed(), "who it is, is told in any case");
            assert_eq!(http(home, "/me").status, 200);
        }
        assert_eq!(asked(&mut query, PUBLIC), ALLOWED, "where no credential is looked at nothing is taken");
        let other = format!("key 5:{CODE}");
        assert!(query.check(asker(&other), LIST).unwrap().is_allowed(), "other keys are not limited by it");
    });
}

#[test]
fn in_a_batch_each_allowed_target_takes_one_in_order_and_when_nothing_is_left_the_rest_are_limited() {
    with_rate("3/d", |home| {
        let mut query = home.query();
        let tags = Target::Tags(vec![b"tickets.list"]);
        let targets = [LIST, DELETE, PUBLIC, tags, LIST, LIST, DELETE, PUBLIC, LIST];
        let batch = query.batch(asker(KEY), &targets).unwrap();
        let reasons: Vec<_> = batch.verdicts.iter().map(|v| WireReason::from_number(v.reason).unwrap()).collect();
        let (ok, denied, limited) = (WireReason::Ok, WireReason::TagDenied, WireReason::RateLimited);
        assert_eq!(reasons, [ok, denied, ok, ok, ok, limited, denied, ok, limited]);
        let waits: Vec<u32> = batch.verdicts.iter().filter(|v| v.status == 429).map(|v| v.retry_after).collect();
        assert!(waits[0] > 28_000 && waits[0] == waits[1], "one instant for all of them: {waits:?}");
        assert!(batch.identity.is_some());
        let batch = query.batch(asker(KEY), &[LIST, PUBLIC]).unwrap();
        assert_eq!([batch.verdicts[0].status, batch.verdicts[1].status], [429, 200]);
        assert_eq!(batch.identity, None, "nothing that needs the key was allowed");
    });
}

#[test]
fn what_is_refused_or_only_explained_takes_nothing_and_a_flood_of_wrong_codes_locks_nobody_out() {
    with_rate("5/d", |home| {
        let mut query = home.query();
        for number in 0..2000 {
            let wrong = format!("key 3:WRONGCODE{number}");
            assert_eq!(query.check(asker(&wrong), LIST).unwrap().reason, WireReason::BadCredential.number());
            assert_eq!(asked(&mut query, DELETE).0, WireReason::TagDenied);
        }
        let explained = home.json(&["explain", "--key", "3", "GET", "/tickets"]);
        let last = explained["steps"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["step"], &last["result"]), (&json!(12), &json!("skipped")));
        assert!(last["why"].as_str().unwrap().contains("5/d"), "{last}");
        for _ in 0..20 {
            home.json(&["explain", "--key", "3", "GET", "/tickets"]);
            home.json(&["endpoint", "list", "--allowed-for", "key:3"]);
        }
        assert_eq!(allowed(home, 20), 5);
        let explained = home.json(&["explain", "--key", "3", "GET", "/tickets"]);
        assert_eq!(explained["verdict"]["reason"], "ok", "explaining doesn't look at what is left");
    });
}

#[test]
fn a_limited_request_is_no_use() {
    with_rate("1/d", |home| {
        let mut query = home.query();
        let mut from = |address: &'static [u8]| {
            let asker = Asker { address: Some(address), ..asker(KEY) };
            query.check(asker, LIST).unwrap().reason
        };
        assert_eq!(from(b"10.0.0.7"), 0);
        let used = || home.json(&["key", "show", "3"])["last_used"]["current"].clone();
        let at = used()["at"].as_u64().unwrap();
        let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        wait_until("the second is over", || now() > at);
        assert_eq!(from(b"10.0.0.8"), WireReason::RateLimited.number());
        assert_eq!(used(), json!({ "at": at, "address": "10.0.0.7" }));
    });
}

#[test]
fn the_bucket_outlives_every_change_that_leaves_the_rate_and_starts_full_with_a_new_rate_and_a_new_daemon() {
    let home = Home::new();
    let daemon = home.start();
    home.apply(&world(Some("20/d")));
    assert_eq!(allowed(&home, 2), 2);
    home.json(&["agent", "set", "4", "--name", "Someone else"]);
    home.json(&["key", "add", "another", "--agent", "4"]);
    home.json(&["endpoint", "add", "GET", "/new", "--tags", "new"]);
    assert_eq!(allowed(&home, 2), 2);
    for words in
        [&["set", "3", "--label", "x"][..], &["set", "3", "--rate", "20/d"], &["disable", "3"], &["enable", "3"]]
    {
        home.json(&[&["key"], words].concat());
    }
    home.apply(&world(Some("20/d")));
    assert_eq!(allowed(&home, 2), 2);
    let rotated = home.json(&["key", "rotate", "3"]);
    let new = rotated["credential"].as_str().unwrap();
    let mut query = home.query();
    for _ in 0..10 {
        assert!(query.check(asker(new), LIST).unwrap().is_allowed());
    }
    assert_eq!(allowed(&home, 10), 4, "both codes take from one bucket: 16 are gone of 20");

    home.json(&["key", "set", "3", "--rate", "7/d"]);
    assert_eq!(allowed(&home, 10), 7, "a new rate starts full");
    home.json(&["key", "set", "3", "--rate", "none"]);
    assert_eq!(allowed(&home, 100), 100);
    home.json(&["key", "set", "3", "--rate", "4/d"]);
    assert_eq!(allowed(&home, 10), 4);
    daemon.stop();
    let daemon = home.start();
    assert_eq!(allowed(&home, 10), 4, "it lives in memory: a restart fills it");
    daemon.stop();
}

#[test]
fn in_real_time_a_second_gives_one_back_and_the_wait_that_was_told_is_enough() {
    with_rate("1/s", |home| {
        let mut query = home.query();
        let began = Instant::now();
        assert_eq!(asked(&mut query, LIST), ALLOWED);
        let mut allowed = 1;
        while began.elapsed() < Duration::from_secs(3) {
            match asked(&mut query, LIST) {
                (WireReason::RateLimited, 429, wait) => assert_eq!(wait, 1),
                other => {
                    assert_eq!(other, ALLOWED);
                    allowed += 1;
                }
            }
        }
        let most = began.elapsed().as_secs() + 1;
        assert!((3..=most).contains(&allowed), "{allowed} of at most {most}");
    });
}

#[test]
fn a_rate_is_given_shown_and_cleared_for_every_kind_and_what_is_none_is_refused() {
    with_rate("5/d", |home| {
        let table = String::from_utf8(home.run(&["key", "show", "3"]).stdout).unwrap();
        assert!(table.contains("allowed at most") && table.contains("5/d"), "{table}");
        let added = home.json(&["key", "add", "x", "--agent", "4", "--rate", "100/s"]);
        assert_eq!(added["rate"], "100/s");
        let id = added["id"].to_string();
        assert_eq!(home.json(&["key", "set", &id, "--rate", "60/m"])["rate"], "60/m");
        assert_eq!(home.json(&["key", "set", &id, "--rate", "none"]).get("rate"), None);
        assert_eq!(home.json(&["token", "issue", "x", "--agent", "4", "--rate", "1000/h"])["rate"], "1000/h");
        let session = home.json(&["session", "open", "--agent", "4", "--ttl", "1h", "--rate", "10000/d"]);
        assert_eq!(session["rate"], "10000/d");
        for rate in ["", "0/s", "5", "5/w", "-5/s", "any", "1.5/s", "1000000001/s"] {
            let output = home.run(&["key", "set", &id, &format!("--rate={rate}")]);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{rate}: {said}");
            assert!(said.contains("rate: it is no rate") && said.contains("100/s"), "{rate}: {said}");
        }
    });
}

// ---- a second reading: a batch against a plain count ----

/// A state with keys 1 and 2 limited to `rates` a day and key 3 to nothing.
fn reading(rates: [u32; 2]) -> Reading {
    let pepper = Arc::new(Pepper::new([9; 32].into()));
    let everything = Arc::new(TagSet::everything());
    let mut records = vec![Record::Agent(Agent {
        id: Id::new(4).unwrap(),
        name: AgentName::parse("Matthew").unwrap(),
        permissions: Arc::clone(&everything),
        enabled: true,
        removed: false,
        attributes: Attributes::default(),
    })];
    for (path, modes) in
        [("/tickets", Modes::ALL), ("/tokens", Modes::parse(["token"]).unwrap()), ("/public", Modes::PUBLIC)]
    {
        records.push(Record::Endpoint(Endpoint {
            method: Method::parse("GET").unwrap(),
            template: Template::parse(path).unwrap(),
            tags: vec![Tag::parse("a").unwrap()],
            modes,
            removed: false,
        }));
    }
    for (id, rate) in [(1, Some(rates[0])), (2, Some(rates[1])), (3, None)] {
        let code = PresentedCode::parse(CODE.as_bytes()).unwrap();
        records.push(Record::Credential(Credential {
            mode: Mode::Key,
            id: Id::new(id).unwrap(),
            label: Label::default(),
            binding: Binding::Agent(Id::new(4).unwrap()),
            tags: Arc::clone(&everything),
            codes: Codes { current: pepper.hash(Mode::Key, id, code), retiring: None },
            enabled: true,
            revoked: false,
            not_before: None,
            expires_at: None,
            allow_ip: None,
            app_id: None,
            rate: rate.map(|number| Rate::parse(&format!("{number}/d")).unwrap()),
            parent: None,
            foreign: None,
        }));
    }
    let mut compiler = Compiler::new(pepper);
    compiler.apply(&records, Revision(1));
    let reading = Reading::new(compiler.directory().clone());
    reading.publish(compiler.directory().clone(), Counts::default());
    reading
}

/// What a target of the batch is, and how it is answered while something is left.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Takes,
    Denied,
    Who,
    Public,
}

fn target(kind: Kind, form: u8) -> ModelTarget<'static> {
    let endpoint = |path| ModelTarget::Endpoint { method: b"GET", path };
    match (kind, form) {
        (Kind::Takes, 0) => ModelTarget::Tags(&[b"a", b"b"]),
        (Kind::Takes, _) => endpoint(b"/tickets?page=2"),
        (Kind::Denied, 0) => ModelTarget::Tags(&[]),
        (Kind::Denied, 1) => endpoint(b"/nothing"),
        (Kind::Denied, _) => endpoint(b"/tokens"),
        (Kind::Public, _) => endpoint(b"/public"),
        (Kind::Who, _) => ModelTarget::Nobody,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_in_batches_a_plain_count_of_allowed_targets_says_which_are_limited(
        rates in [1..40_u32, 1..40_u32],
        batches in prop::collection::vec(
            (1..=3_u64, prop::bool::weighted(0.9), prop::collection::vec(
                (prop::sample::select(vec![Kind::Takes, Kind::Takes, Kind::Denied, Kind::Who, Kind::Public]), 0..3_u8), 1..12)),
            1..20,
        ),
    ) {
        let reading = reading(rates);
        let mut left: BTreeMap<u64, u32> = [(1, rates[0]), (2, rates[1]), (3, u32::MAX)].into();
        for (id, is_right, targets) in batches {
            let credential = format!("key {id}:{}", if is_right { CODE } else { "WRONGWRONG" });
            let view = reading.view();
            let told: Cell<Vec<Result<(), String>>> = Cell::default();
            let asker = ModelAsker { credential: Some(credential.as_bytes()), ..ModelAsker::default() };
            view.check_all(asker, targets.iter().map(|(kind, form)| target(*kind, *form)), |judged| {
                let mut all = told.take();
                all.push(judged.map_err(|stop| match stop {
                    Stop::Deny(Reason::RateLimited(wait)) => format!("limited {}", wait.seconds() >= 1),
                    Stop::Deny(_) => "denied".into(),
                    Stop::Fault | Stop::Unproven => "unavailable".into(),
                }));
                told.set(all);
            });
            let left = left.get_mut(&id).unwrap();
            for ((kind, form), told) in targets.iter().zip(told.take()) {
                let expected = match kind {
                    Kind::Public => Ok(()),
                    Kind::Who if is_right => Ok(()),
                    Kind::Takes if is_right && *left > 0 => {
                        *left -= 1;
                        Ok(())
                    }
                    Kind::Takes if is_right => Err("limited true".to_owned()),
                    Kind::Takes | Kind::Denied | Kind::Who => Err("denied".to_owned()),
                };
                prop_assert_eq!(told, expected, "{:?} {} of key {}", kind, form, id);
            }
        }
    }
}
