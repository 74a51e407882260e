//! Generated requests through the real proxies: what reached the application must be what Keyward allowed.

use std::collections::HashMap;
use std::io::Write as _;

use keyward_proto::query::Asker;

use crate::FORGED;
use crate::rig::{Kind, Received, Rig, expected_identity};
use crate::support::Home;
use crate::support::http::Connection;

const SEED: u64 = 0x6b65_7977_6172_6401;

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let scrambled = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(scrambled).unwrap() % bound
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const CREDENTIALS: &[Option<&str>] = &[
    None,
    Some("key 2:YWK2PGCS8CNW62SR8TBTBKWMY"),
    Some("key 3:3A7QXW9ZK2M4N6P8R0S1T5V7Y"),
    Some("key 4:4B8RXW9ZK2M4N6P8R0S1T5V7Y"),
    Some("key 5:5C9SXW9ZK2M4N6P8R0S1T5V7Y"),
    Some("key 10:dev-admin-code"),
    Some("token 18:TZQ2PGCS8CNW62SR8TBTBKWMY"),
    Some("session 7:SZQ2PGCS8CNW62SR8TBTBKWMY"),
    Some("key 2:WRONGWRONGWRONG"),
];
const METHODS: &[&str] = &["GET", "GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS"];
const ODD_METHODS: &[&str] = &["PATCH", "get", "FOO", "M_X", "TRACE", "M-X"];
const PATHS: &[&str] = &[
    "/api/v2/me",
    "/api/v2/tickets",
    "/api/v2/tickets/9",
    "/api/v2/tickets/counts",
    "/api/v2/tickets/9/messages",
    "/api/v2/tickets/9/merge",
    "/api/v2/people/9",
    "/api/v2/export/all.csv",
    "/api/v2/export/all-x",
    "/api/v2/blobs/a/b",
    "/api/v2/helpdesk/discover",
    "/api/v2/api_keys",
    "/api/v2/devices",
    "/api/v2/ui/state",
    "/_keyward",
    "/",
];
const TRICKS: &[&str] = &[
    "..",
    ".",
    "/",
    "//",
    "/./",
    "/../",
    "%2e",
    "%2E%2e",
    "/%2e%2e/",
    "%2f",
    "%2F",
    "..%2f",
    "\\",
    "%5c",
    ";",
    ";x=1",
    "%3b",
    "%00",
    "%0a",
    "%0d%0a",
    "%20",
    "%25",
    "%252f",
    "%252e%252e",
    "%25%32%66",
    "%",
    "%z",
    "%ff",
    "%c0%af",
    "%c2%85",
    "%e2%80%8b",
    "\u{e9}",
    "%74",
    "%54",
    "?",
    "?x=/../",
    "#",
    "#/../",
    "%23",
    "%3f",
    "&",
    "=",
    "+",
    "*",
    "~",
    ":",
    "@",
    "/api/v2/people/1",
    "/../people/1",
    "\t",
    "..;/",
];
const PREFIXES: &[&str] = &["http://x", "http://evil/..", "//x", "/x/..", "x", "*", "https://x:1", "/."];
const HEADERS: &[&str] = &[
    "X-Forwarded-Uri: /api/v2/me",
    "X-Forwarded-Method: GET",
    "X-Original-URI: /api/v2/me",
    "X-Original-Method: GET",
    "X_Original_URI: /api/v2/me",
    "X-Forwarded-For: 10.1.2.3",
    "X-Real-IP: 10.1.2.3",
    "X-Rewrite-URL: /api/v2/me",
    "X-HTTP-Method-Override: DELETE",
    "X-Method-Override: DELETE",
    "X_HTTP_Method_Override: DELETE",
    "X-DeskPRO-Agent-ID: 4",
    "X-DeskPRO-Agent-ID: 1, 4",
    "X_DeskPRO_Agent_ID: 1",
    "Authorization: key 2:YWK2PGCS8CNW62SR8TBTBKWMY",
    "authorization: ",
    "Cookie: keyward_session=7:SZQ2PGCS8CNW62SR8TBTBKWMY",
    "Cookie: a=b; keyward_session=x",
    "Connection: X-Keyward-Agent-Id",
    "Connection: keep-alive, X-Original-URI, X-Forwarded-Uri",
    "Upgrade: websocket",
    "Expect: 100-continue",
];
/// Most proxies refuse these themselves.
const BROKEN_HEADERS: &[&str] = &["Host: y", "A: b\r\n folded: c", "A : b", "A\u{e9}: b", "no colon", "A: \u{e9}"];
const BODIES: &[&str] = &[
    "Content-Length: 0\r\n\r\n",
    "Content-Length: 4\r\n\r\nbody",
    "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
    "Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\nbody",
    "Content-Length: 41\r\n\r\nDELETE /api/v2/people/1 HTTP/1.1\r\nA: b\r\n\r\n",
];
const ODD_VERSIONS: &[&str] = &["HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1"];

/// A generated request: its bytes, its method, and who really asks; `None` when Keyward must refuse to say.
struct Generated {
    bytes: Vec<u8>,
    method: &'static str,
    credential: Option<&'static str>,
    agent: Option<&'static str>,
}

fn generate(random: &mut Random, number: usize) -> Generated {
    let method = if random.one_in(15) { random.pick(ODD_METHODS) } else { random.pick(METHODS) };
    let mut path = random.pick(PATHS).to_string();
    for _ in 0..[0, 0, 0, 1, 1, 2][random.below(6)] {
        let mut at = random.below(path.len() + 1);
        while !path.is_char_boundary(at) {
            at -= 1;
        }
        path.insert_str(at, random.pick(TRICKS));
    }
    if random.one_in(12) {
        path.insert_str(0, random.pick(PREFIXES));
    }
    let credential = CREDENTIALS[random.below(CREDENTIALS.len())];
    if random.one_in(100) {
        // HTTP/0.9: nobody asks.
        return Generated { bytes: bytes(&format!("GET {path}\r\n")), method: "GET", credential: None, agent: None };
    }
    let version = if random.one_in(10) { random.pick(ODD_VERSIONS) } else { "HTTP/1.1" };
    let mut request = format!("{method} {path} {version}\r\nHost: x\r\nX-Number: {number}\r\n");
    if let Some(credential) = credential {
        request.push_str(&format!("Authorization: {credential}\r\n"));
    }
    let mut asked = Generated { bytes: Vec::new(), method, credential, agent: None };
    for _ in 0..[0, 0, 0, 1, 2, 3][random.below(6)] {
        let header = match random.below(9) {
            0 => random.pick(BROKEN_HEADERS),
            1..5 => random.pick(HEADERS),
            _ => random.pick(FORGED),
        };
        request.push_str(header);
        request.push_str("\r\n");
        match header {
            "X-DeskPRO-Agent-ID: 4" => asked.agent = Some("4"),
            "Authorization: key 2:YWK2PGCS8CNW62SR8TBTBKWMY" if credential.is_none() => {
                asked.credential = Some("key 2:YWK2PGCS8CNW62SR8TBTBKWMY");
            }
            "authorization: " if credential.is_none() => asked.credential = asked.credential.or(Some("")),
            "Cookie: keyward_session=7:SZQ2PGCS8CNW62SR8TBTBKWMY" => {
                asked.credential = asked.credential.or(Some("session 7:SZQ2PGCS8CNW62SR8TBTBKWMY"));
            }
            _ => {}
        }
    }
    if random.one_in(6) {
        request.push_str(random.pick(BODIES));
    } else {
        request.push_str("\r\n");
        if random.one_in(60) {
            request = request.replace("\r\n", "\n");
        }
    }
    asked.bytes = bytes(&request);
    asked
}

/// Some characters stand for their Latin-1 byte, so that what is sent is no UTF-8.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// Sends `count` requests over a few kept connections; fails at the first that Keyward would not have allowed.
fn differential(kind: Kind, count: usize) {
    let home = Home::new();
    let rig = Rig::start(&home);
    let Some(proxy) = rig.proxy(kind) else { return };
    let mut query = home.query();
    let mut random = Random(SEED);
    let mut connections: Vec<Connection> = (0..4).map(|_| proxy.place().connect()).collect();
    let (mut allowed, mut statuses) = (0, HashMap::<u16, usize>::new());
    for number in 0..count {
        let asked = generate(&mut random, number);
        let connection = &mut connections[number % 4];
        connection.send(&asked.bytes);
        let (answer, open) = connection.any_answer(asked.method);
        if !open {
            *connection = proxy.place().connect();
        }
        *statuses.entry(answer.as_ref().map_or(0, |answer| answer.status)).or_default() += 1;
        let received = rig.application.take();
        let shown = String::from_utf8_lossy(&asked.bytes);
        assert!(received.len() <= 1, "{kind:?} {number}: one request became {received:?}: {shown}");
        if let Some(answer) = &answer {
            assert_eq!(answer.status == 200, !received.is_empty(), "{kind:?} {number}: {} {shown}", answer.status);
        }
        for received in &received {
            judge(&mut query, &asked, received, &format!("{kind:?} {number}: {shown}"));
            allowed += 1;
        }
    }
    // Enough of both, or it would show nothing.
    assert!(allowed > count / 15 && allowed < count / 2, "{kind:?}: {allowed} of {count} were allowed: {statuses:?}");
    // For the reader of the run's output; the harness shows no test's own.
    let _ =
        writeln!(std::io::stderr(), "{kind:?}: {count} requests, {allowed} rightly allowed, by status: {statuses:?}");
}

fn judge(query: &mut keyward_proto::client::QueryClient, asked: &Generated, received: &Received, what: &str) {
    let asker = Asker {
        credential: asked.credential.map(str::as_bytes),
        agent: asked.agent.map(str::as_bytes),
        address: Some(b"127.0.0.1"),
    };
    let (reason, verdict) = Rig::judge(query, asker, received);
    assert_eq!(reason.name(), "ok", "a wrong allow: {what}: {received:?}");
    assert_eq!(received.identity(), expected_identity(&verdict), "{what}: {received:?}");
    let overrides = ["x-http-method-override", "x-method-override", "x-http-method"];
    for (name, _) in &received.headers {
        let read_as = name.to_ascii_lowercase().replace('_', "-");
        assert!(!overrides.contains(&read_as.as_str()), "{what}: {name} reached the application");
    }
}

#[test]
fn of_20_000_generated_requests_through_nginx_none_is_wrongly_allowed() {
    differential(Kind::Nginx, 20_000);
}

#[test]
fn of_3_000_generated_requests_through_caddy_none_is_wrongly_allowed() {
    differential(Kind::Caddy, 3_000);
}

#[test]
fn of_2_000_generated_requests_through_haproxy_none_is_wrongly_allowed() {
    differential(Kind::HaProxy, 2_000);
}
