//! Keyward behind real proxies, each started with the example that is shipped, in front of a tiny application.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]
#![allow(unreachable_pub, reason = "its parts are files of one test")]

mod differential;
mod known_attacks;
mod php;
mod rig;
#[path = "../support/mod.rs"]
mod support;

use keyward_proto::query::Asker;
use serde_json::Value;

use rig::{Counter, Kind, Rig, expected_identity};
use support::http::{Answer, Connection, get};
use support::{Home, conformance};

const KEY_2: &str = "Authorization: key 2:YWK2PGCS8CNW62SR8TBTBKWMY";
const KEY_3: &str = "Authorization: key 3:3A7QXW9ZK2M4N6P8R0S1T5V7Y";

/// The reason as nginx's and HAProxy's configurations tell it, or Caddy's.
fn reason(answer: &Answer) -> Option<String> {
    let header = answer.header("x-keyward-reason").map(str::to_string);
    header.or_else(|| serde_json::from_slice::<Value>(&answer.body).ok()?["code"].as_str().map(str::to_string))
}

#[test]
fn the_two_documented_calls_answer_as_documented_through_every_proxy() {
    let home = Home::new();
    let rig = Rig::start(&home);
    for kind in Kind::ALL {
        let Some(proxy) = rig.proxy(kind) else { continue };
        for (headers, agent, name) in
            [(&[KEY_2][..], "1", "Admin"), (&[KEY_2, "X-DeskPRO-Agent-ID: 4"], "4", "Matthew")]
        {
            let answer = proxy.place().ask(get("/api/v2/me", headers));
            assert_eq!((answer.status, answer.body.as_slice()), (200, b"ok".as_slice()), "{kind:?}");
            let received = rig.application.take_one();
            assert_eq!(received.header("x-keyward-agent-id").as_deref(), Some(agent), "{kind:?}");
            assert_eq!(received.header("x-keyward-agent-name").as_deref(), Some(name), "{kind:?}");
            assert_eq!(received.header("authorization"), None, "{kind:?}: the application does not see the code");
        }
    }
}

#[test]
fn every_conformance_case_that_a_proxy_passes_on_gets_its_status_and_reason() {
    let home = Home::new();
    let rig = Rig::start(&home);
    let cases = conformance("decisions.json");
    let mut query = home.query();
    for kind in Kind::ALL {
        let Some(proxy) = rig.proxy(kind) else { continue };
        let (mut asked, mut refused_by_the_proxy) = (0, Vec::new());
        for case in cases["cases"].as_array().unwrap() {
            let (question, verdict) = (&case["query"], &case["verdict"]);
            let Some(request) = case_request(question) else { continue };
            let method = question["method"].as_str().unwrap();
            let mut connection = proxy.place().connect();
            connection.send(request);
            let answer = connection.any_answer(method).0.unwrap();
            let received = rig.application.take();
            asked += 1;
            if verdict["reason"] == "ok" {
                assert_eq!((answer.status, received.len()), (200, 1), "{kind:?} {question}");
                let text = |field: &str| question.get(field).and_then(Value::as_str).map(str::as_bytes);
                let asker = Asker { credential: text("credential"), agent: text("agent"), address: Some(b"127.0.0.1") };
                let (reason, verdict) = Rig::judge(&mut query, asker, &received[0]);
                assert_eq!(reason.name(), "ok", "{kind:?} {question}: {:?}", received[0]);
                assert_eq!(received[0].identity(), expected_identity(&verdict), "{kind:?} {question}");
                continue;
            }
            assert_eq!(received.len(), 0, "{kind:?} {question}");
            let Some(found) = reason(&answer) else {
                assert_eq!(answer.status, 400, "{kind:?} {question}: the proxy's own refusal");
                refused_by_the_proxy.push(question["path"].as_str().unwrap().to_string());
                continue;
            };
            let expected = (verdict["status"].as_u64().unwrap(), verdict["reason"].as_str().unwrap());
            // HEAD has no body to tell the reason in.
            assert_eq!((u64::from(answer.status), found.as_str()), expected, "{kind:?} {question}");
        }
        assert!(asked >= 85, "{kind:?}: {asked} cases");
        assert!(refused_by_the_proxy.len() <= 8, "{kind:?} refused {refused_by_the_proxy:?} itself");
    }
}

/// The case as a client would send it; `None` when it has no such form, or names an address that is not this host's.
fn case_request(query: &Value) -> Option<Vec<u8>> {
    let text = |field: &str| query.get(field).and_then(Value::as_str);
    let bytes = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<u8>>();
    if text("ip").is_some() {
        return None;
    }
    let mut request = [&bytes(text("method")?)[..], b" ", &bytes(text("path")?), b" HTTP/1.1\r\nHost: x\r\n"].concat();
    for (name, field) in [("Authorization", "credential"), ("X-DeskPRO-Agent-ID", "agent")] {
        if let Some(value) = text(field).map(bytes) {
            if value.trim_ascii() != value {
                return None;
            }
            request.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
        }
    }
    request.extend(b"\r\n");
    Some(request)
}

#[test]
fn a_revoked_key_is_refused_by_the_very_next_request_through_every_proxy() {
    for kind in Kind::ALL {
        let home = Home::new();
        let rig = Rig::start(&home);
        let Some(proxy) = rig.proxy(kind) else { continue };
        let mut connection = proxy.place().connect();
        for _ in 0..3 {
            connection.send(get("/api/v2/me", &[KEY_3]));
            assert_eq!(connection.any_answer("GET").0.unwrap().status, 200, "{kind:?}");
        }
        assert!(home.run(&["key", "revoke", "3"]).status.success());
        rig.application.take();
        connection.send(get("/api/v2/me", &[KEY_3]));
        let answer = connection.any_answer("GET").0.unwrap();
        assert_eq!((answer.status, reason(&answer).as_deref()), (401, Some("revoked")), "{kind:?}");
        assert!(rig.application.take().is_empty(), "{kind:?}");
    }
}

fn post_ticket(headers: &str, body: &str) -> Vec<u8> {
    format!("POST /api/v2/tickets HTTP/1.1\r\nHost: x\r\n{KEY_2}\r\n{headers}\r\n\r\n{body}").into_bytes()
}

#[test]
fn a_thousand_requests_use_at_most_four_connections_to_keyward() {
    let home = Home::new();
    let mut rig = Rig::start(&home);
    for kind in [Kind::Nginx, Kind::Caddy] {
        let counter = Counter::before(&home.runtime().join("http.sock"), home.path().join(format!("{kind:?}.sock")));
        rig.keyward = counter.path.clone();
        let Some(proxy) = rig.proxy(kind) else { continue };
        let mut connection = proxy.place().connect();
        for number in 0..1000 {
            // Allowed, denied and unauthenticated ones alike, and ones with a body.
            let (request, status) = match number % 4 {
                0 => (get("/api/v2/nothing", &[KEY_2]), 403),
                1 => (get("/api/v2/me", &[]), 401),
                2 => (get("/api/v2/me", &[KEY_2]), 200),
                _ => (post_ticket("Content-Length: 5", "hello"), 200),
            };
            connection.send(request);
            let (answer, open) = connection.any_answer("GET");
            assert_eq!(answer.unwrap().status, status, "{kind:?}: request {number}");
            if !open {
                connection = proxy.place().connect();
            }
        }
        assert!((1..=4).contains(&counter.accepted()), "{kind:?}: {} connections", counter.accepted());
    }
}

/// Spellings of the identity's names that some application reads as the name itself.
pub const FORGED: &[&str] = &[
    "X-Keyward-Agent-Id: 666",
    "x-keyward-agent-id: 666",
    "X-KEYWARD-AGENT-ID: 666",
    "X_Keyward_Agent_Id: 666",
    "X-Keyward_Agent-Id: 666",
    "X_KEYWARD-AGENT_ID: 666",
    "X-Keyward-Agent_Name: Mallory",
    "X-Keyward-Agent-Name: Mallory",
    "X-Keyward-Mode: session",
    "X-Keyward-Credential-Id: 666",
    "X-Keyward-App-Id: 666",
    "X-Keyward-Status: 200",
    "X-Keyward-Reason: ok",
    "X_Keyward_Reason: ok",
];

#[test]
fn a_forged_identity_never_reaches_the_application() {
    let home = Home::new();
    let rig = Rig::start(&home);
    let mut query = home.query();
    for kind in Kind::ALL {
        let Some(proxy) = rig.proxy(kind) else { continue };
        for path in ["/api/v2/me", "/api/v2/helpdesk/discover"] {
            let all: Vec<&str> = FORGED.iter().chain(FORGED).copied().collect();
            for forged in FORGED.iter().map(std::slice::from_ref).chain([FORGED, &all[..]]) {
                let headers: Vec<&str> = [KEY_2].into_iter().chain(forged.iter().copied()).collect();
                let answer = proxy.place().ask(get(path, &headers));
                assert_eq!(answer.status, 200, "{kind:?} {path} {forged:?}");
                let received = rig.application.take_one();
                let asker = Asker { credential: Some(&KEY_2.as_bytes()[15..]), ..Asker::default() };
                let (_, verdict) = Rig::judge(&mut query, asker, &received);
                assert_eq!(received.identity(), expected_identity(&verdict), "{kind:?} {path} {forged:?}");
            }
        }
    }
}

#[test]
fn the_client_gets_clean_denials() {
    let home = Home::new();
    let rig = Rig::start(&home);
    for kind in Kind::ALL {
        let Some(proxy) = rig.proxy(kind) else { continue };
        let ask = |path: &str, headers: &[&str]| proxy.place().ask(get(path, headers));
        let unknown = ask("/api/v2/me", &[]);
        assert_eq!((unknown.status, reason(&unknown).as_deref()), (401, Some("missing_credential")), "{kind:?}");
        assert_eq!(unknown.header("www-authenticate"), Some("key realm=\"keyward\""), "{kind:?}");
        let denied = ask("/api/v2/nothing", &[KEY_2]);
        assert_eq!((denied.status, reason(&denied).as_deref()), (403, Some("no_route")), "{kind:?}");
        let overridden = ask("/api/v2/me", &[KEY_2, "X-HTTP-Method-Override: DELETE"]);
        assert_eq!((overridden.status, reason(&overridden).as_deref()), (400, Some("bad_request")), "{kind:?}");
        for answer in [unknown, denied, overridden] {
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{kind:?}");
            assert_eq!(answer.header("retry-after"), None, "{kind:?}");
        }
        assert!(rig.application.take().is_empty(), "{kind:?}");
    }
}

#[test]
fn a_rate_limit_becomes_a_clean_429_through_every_proxy_and_a_silent_keyward_a_503_through_nginx() {
    let home = Home::new();
    let mut rig = Rig::start(&home);
    for kind in Kind::ALL {
        let Some(proxy) = rig.proxy(kind) else { continue };
        home.json(&["key", "set", "2", "--rate", "none"]);
        home.json(&["key", "set", "2", "--rate", "1/d"]);
        assert_eq!(proxy.place().ask(get("/api/v2/me", &[KEY_2])).status, 200, "{kind:?}");
        assert_eq!(rig.application.take().len(), 1, "{kind:?}");
        let limited = proxy.place().ask(get("/api/v2/me", &[KEY_2]));
        assert_eq!((limited.status, reason(&limited).as_deref()), (429, Some("rate_limited")), "{kind:?}");
        let wait: u32 = limited.header("retry-after").unwrap().parse().unwrap();
        assert!((86_000..=86_400).contains(&wait), "{kind:?}: {wait}");
    }
    rig.keyward = home.path().join("nobody.sock");
    let Some(proxy) = rig.proxy(Kind::Nginx) else { return };
    let silent = proxy.place().ask(get("/api/v2/me", &[KEY_2]));
    assert_eq!((silent.status, reason(&silent).as_deref()), (503, Some("unavailable")));
    assert!(rig.application.take().is_empty());
}

#[test]
fn bodies_reach_the_application_whole() {
    let home = Home::new();
    let rig = Rig::start(&home);
    let large = "x".repeat(300_000);
    for kind in Kind::ALL {
        let Some(proxy) = rig.proxy(kind) else { continue };
        let mut connection: Connection = proxy.place().connect();
        let requests = [
            (post_ticket("Content-Length: 5", "hello"), 5),
            (post_ticket("Content-Length: 0", ""), 0),
            (post_ticket(&format!("Content-Length: {}", large.len()), &large), large.len()),
            (post_ticket("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"), 5),
            (post_ticket("Expect: 100-continue\r\nContent-Length: 5", "hello"), 5),
        ];
        for (request, length) in requests {
            connection.send(request);
            let (answer, open) = connection.any_answer("POST");
            assert_eq!(answer.unwrap().status, 200, "{kind:?}");
            let received = rig.application.take_one();
            let chunked = received.header("transfer-encoding").is_some();
            assert!(received.body.len() == length || chunked, "{kind:?}: {} bytes", received.body.len());
            if !open {
                connection = proxy.place().connect();
            }
        }
    }
}
