//! The HTTP door over raw sockets, against the real daemon: section 3 of the contract.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod connections;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::http::{Place, free_port, get};
use support::{Daemon, Home, conformance};

const KEY_2: &str = "key 2:YWK2PGCS8CNW62SR8TBTBKWMY";
const KEY_9: &str = "key 9:9G3XXW9ZK2M4N6P8R0S1T5V7Y";
const SESSION_7: &str = "7:SZQ2PGCS8CNW62SR8TBTBKWMY";
/// A daemon with the conformance world, on its socket and on loopback TCP.
fn start<'h>(home: &'h Home, more: &str) -> (Daemon<'h>, [Place; 2]) {
    let port = free_port();
    let config = home.config(&format!("[http]\nlisten = '127.0.0.1:{port}'\n{more}"));
    let daemon = home.start_with(|command| {
        command.arg("--config").arg(&config);
    });
    home.apply(&conformance("world.json"));
    let places = [Place::Unix(home.runtime().join("http.sock")), Place::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))];
    (daemon, places)
}

/// Header lines of a question to an auth door.
fn question(door: &str, method: &str, path: &str) -> [String; 2] {
    match door {
        "/auth/nginx" => [format!("X-Original-Method: {method}"), format!("X-Original-URI: {path}")],
        _ => [format!("X-Forwarded-Method: {method}"), format!("X-Forwarded-Uri: {path}")],
    }
}

/// A question with these headers beside method and path `GET /api/v2/me`.
fn me_question(door: &str, headers: &[&str]) -> Vec<u8> {
    let target = question(door, "GET", "/api/v2/me");
    let lines: Vec<&str> = target.iter().map(String::as_str).chain(headers.iter().copied()).collect();
    get(door, &lines)
}

const DOORS: [&str; 2] = ["/auth/nginx", "/auth/forward"];

/// What a door says on its status line for a true status.
fn told(door: &str, status: u16) -> u16 {
    match (door, status) {
        ("/auth/nginx", 400 | 403 | 429) => 403,
        _ => status,
    }
}

#[test]
fn every_conformance_case_that_fits_http_gets_its_status_and_reason_at_every_door() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let cases = conformance("decisions.json");
    let mut asked = 0;
    for place in &places {
        for door in DOORS {
            // Kept alive over all cases.
            let mut connection = place.connect();
            for case in cases["cases"].as_array().unwrap() {
                let Some(request) = case_request(door, &case["query"]) else { continue };
                connection.send(&request);
                let answer = connection.answer().unwrap();
                let (query, verdict) = (&case["query"], &case["verdict"]);
                let status = u16::try_from(verdict["status"].as_u64().unwrap()).unwrap();
                let expected =
                    (told(door, status), status.to_string(), verdict["reason"].as_str().unwrap().to_string());
                let (line, true_status, reason) = answer.verdict();
                assert_eq!((line, true_status.to_string(), reason.to_string()), expected, "{door} {query}");
                assert_eq!(answer.body, b"", "{door} {query}");
                let shown = |field: &str| verdict[field].as_u64().map_or(String::new(), |id| id.to_string());
                assert_eq!(answer.header("x-keyward-agent-id"), Some(shown("agent").as_str()), "{query}");
                assert_eq!(answer.header("x-keyward-credential-id"), Some(shown("id").as_str()), "{query}");
                assert_eq!(answer.header("x-keyward-mode"), Some(verdict["mode"].as_str().unwrap_or("")), "{query}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 4 * 90, "{asked} cases were asked");
}

/// The case as a request to an auth door; `None` when a part has no place in a header.
fn case_request(door: &str, query: &Value) -> Option<Vec<u8>> {
    let text = |field: &str| query.get(field).and_then(Value::as_str);
    let mut request = format!("GET {door} HTTP/1.1\r\nHost: x\r\n").into_bytes();
    let mut put = |name: &str, value: &str| {
        // Of the odd characters that the cases hold, U+00FF stands for the byte.
        let value: Vec<u8> = value.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        // A header's value loses its outer blanks, so these cases are not the same question here.
        let fits = value.trim_ascii() == value.as_slice() && !value.iter().any(|b| *b < 0x20);
        request.extend_from_slice(format!("{name}: ").as_bytes());
        request.extend_from_slice(&value);
        request.extend_from_slice(b"\r\n");
        fits
    };
    let [method, path] = question(door, text("method")?, text("path")?);
    let address = if door == "/auth/nginx" { "X-Real-IP" } else { "X-Forwarded-For" };
    let mut fits = true;
    for line in [method, path] {
        let (name, value) = line.split_once(": ").unwrap();
        fits &= put(name, value);
    }
    for (name, field) in [("Authorization", "credential"), ("X-DeskPRO-Agent-ID", "agent"), (address, "ip")] {
        if let Some(value) = text(field) {
            fits &= put(name, value);
        }
    }
    request.extend_from_slice(b"\r\n");
    fits.then_some(request)
}

#[test]
fn all_identity_headers_stand_on_every_answer_of_an_auth_door() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let key = format!("Authorization: {KEY_2}");
    let token = "Authorization: token 18:TZQ2PGCS8CNW62SR8TBTBKWMY";
    let fifth = "X-DeskPRO-Agent-ID: 5";
    let names = ["mode", "credential-id", "app-id", "agent-id", "agent-name"].map(|name| format!("x-keyward-{name}"));
    for door in DOORS {
        let table: [(&str, &[&str], [&str; 5]); 5] = [
            ("/api/v2/me", &[&key], ["key", "2", "", "1", "Admin"]),
            ("/api/v2/me", &[&key, fifth], ["key", "2", "", "5", "Zo%C3%AB%20%C3%85ngstr%C3%B6m"]),
            ("/api/v2/me", &[], [""; 5]),
            ("/api/v2/helpdesk/discover", &[&key], [""; 5]),
            ("/nowhere", &[token], [""; 5]),
        ];
        for (path, headers, expected) in table {
            let target = question(door, "GET", path);
            let lines: Vec<&str> = target.iter().map(String::as_str).chain(headers.iter().copied()).collect();
            let answer = places[0].ask(get(door, &lines));
            let found = [0, 1, 2, 3, 4].map(|at| answer.header(&names[at]).unwrap());
            assert_eq!(found, expected, "{door} {path} {headers:?}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            let challenge = (answer.status == 401).then_some("key realm=\"keyward\"");
            assert_eq!(answer.header("www-authenticate"), challenge, "{door} {path}");
        }
    }
}

#[test]
fn a_token_tells_its_application() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    home.apply(&json!({ "tokens": [{ "id": 30, "code": "APPTOKENCODE", "agent": 1, "app_id": 77 }] }));
    let answer = places[0].ask(me_question("/auth/nginx", &["Authorization: token 30:APPTOKENCODE"]));
    assert_eq!((answer.status, answer.header("x-keyward-app-id")), (200, Some("77")));
}

#[test]
fn what_could_be_read_in_two_ways_is_a_bad_request_before_anything_else() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let key = format!("Authorization: {KEY_2}");
    let cookie = format!("Cookie: keyward_session={SESSION_7}");
    let twice = format!("Cookie: keyward_session={SESSION_7}; a=b; keyward_session=x");
    let bad = ("400", "bad_request");
    let ok = ("200", "ok");
    let table: &[(&[&str], (&str, &str))] = &[
        (&[&key], ok),
        (&[&key, &key], bad),
        (&[&key, "authorization: "], bad),
        (&[&key, "X-DeskPRO-Agent-ID: 4"], ok),
        (&[&key, "X-DeskPRO-Agent-ID: 4", "x-deskpro-agent-id: 4"], bad),
        (&[&key, "X-DeskPRO-Agent-ID: 4, 5"], bad),
        (&[&key, "X-DeskPRO-Agent-ID:"], bad),
        (&[&key, "X-Real-IP: 10.1.2.3"], ok),
        (&[&key, "X-Real-IP: 10.1.2.3", "X-Real-Ip: 10.1.2.3"], bad),
        (&[&key, "X-Forwarded-For: 10.1.2.3", "X-Forwarded-For: 10.1.2.4"], ok),
        (&[&key, "X-HTTP-Method-Override: GET"], bad),
        (&[&key, "x-http-method: DELETE"], bad),
        (&[&key, "X-Method-Override:"], bad),
        (&["X-Method-Override: PUT"], bad),
        (&[&key, "X_Method_Override: PUT"], ok),
        (&[&cookie], ok),
        (&[&twice], bad),
        (&[&cookie, &cookie], bad),
        (&[&key, &twice], bad),
        (&[&key, &cookie], ok),
        (&["Cookie: a=b", &cookie, "Cookie: c=d; KEYWARD_SESSION=1"], ok),
    ];
    for door in DOORS {
        for (headers, expected) in table {
            let answer = places[0].ask(me_question(door, headers));
            let (line, status, reason) = answer.verdict();
            assert_eq!((status, reason), *expected, "{door} {headers:?}");
            assert_eq!(line, told(door, status.parse().unwrap()));
        }
        for (name, value) in question(door, "GET", "/api/v2/me").iter().map(|line| line.split_once(": ").unwrap()) {
            let doubled = places[0].ask(me_question(door, &[&key, &format!("{name}: {value}")]));
            assert_eq!(doubled.verdict().2, "bad_request", "{door}: {name} twice");
        }
    }
}

#[test]
fn each_door_reads_its_own_headers_and_never_another_source() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let key = format!("Authorization: {KEY_2}");
    for (door, other) in [(DOORS[0], DOORS[1]), (DOORS[1], DOORS[0])] {
        let own = question(door, "GET", "/api/v2/me");
        let [other_method, other_path] = question(other, "GET", "/api/v2/me");
        let table: [&[&str]; 6] = [
            &[&key],
            &[&key, &own[0]],
            &[&key, &own[1]],
            &[&key, &own[0], &other_path],
            &[&key, &own[1], &other_method],
            &[&key, &other_method, &other_path],
        ];
        for headers in table {
            assert_eq!(places[0].ask(get(door, headers)).verdict().2, "bad_request", "{door} {headers:?}");
        }
        // The other door's headers name something that is allowed, the own ones something that is not.
        let [method, path] = question(door, "GET", "/api/v2/nothing");
        let answer = places[0].ask(get(door, &[&key, &method, &path, &other_method, &other_path]));
        assert_eq!(answer.verdict().2, "no_route", "{door}");
    }
    // The path in the door's own query string, and the request's own method, are no sources either.
    let answer = places[0].ask(format!("GET /auth/nginx?uri=/api/v2/me HTTP/1.1\r\nHost: x\r\n{key}\r\n\r\n"));
    assert_eq!(answer.verdict().2, "bad_request");
}

#[test]
fn the_address_comes_from_the_doors_own_header_alone() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let key = format!("Authorization: {KEY_9}");
    let table: &[(&[&str], &str, &str)] = &[
        (&["X-Real-IP: 10.1.2.3"], "ok", "ip_not_allowed"),
        (&["X-Forwarded-For: 10.1.2.3"], "ip_not_allowed", "ok"),
        (&["X-Forwarded-For: 8.8.8.8, 10.1.2.3"], "ip_not_allowed", "ok"),
        (&["X-Forwarded-For: 10.1.2.3, 8.8.8.8"], "ip_not_allowed", "ip_not_allowed"),
        (&["X-Forwarded-For: 8.8.8.8", "X-Forwarded-For: 9.9.9.9 ,\t2001:db8::7"], "ip_not_allowed", "ok"),
        (&["X-Forwarded-For: 10.1.2.3", "X-Forwarded-For: 9.9.9.9"], "ip_not_allowed", "ip_not_allowed"),
        (&["X-Forwarded-For: 10.1.2.3,"], "ip_not_allowed", "ip_not_allowed"),
        (&["X-Forwarded-For: 10.1.2.3", "X-Forwarded-For:"], "ip_not_allowed", "ip_not_allowed"),
        (&["Forwarded: for=10.1.2.3"], "ip_not_allowed", "ip_not_allowed"),
        (&["X-Real-IP: 10.2.0.1", "X-Forwarded-For: 10.1.2.3"], "ip_not_allowed", "ok"),
        (&[], "ip_not_allowed", "ip_not_allowed"),
    ];
    for (headers, nginx, forward) in table {
        for (door, expected) in [(DOORS[0], nginx), (DOORS[1], forward)] {
            let lines: Vec<&str> = [key.as_str()].into_iter().chain(headers.iter().copied()).collect();
            assert_eq!(places[0].ask(me_question(door, &lines)).verdict().2, *expected, "{door} {headers:?}");
        }
    }
}

#[test]
fn the_session_cookie_counts_only_without_an_authorization_header() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "session_cookie = 'sid'\n");
    let good = format!("Cookie: theme=dark; sid={SESSION_7}; x");
    let table: &[(&[&str], &str)] = &[
        (&[&good], "ok"),
        (&[&good, "Authorization: key 2:WRONGWRONG"], "bad_credential"),
        (&[&good, "Authorization:"], "missing_credential"),
        (&["Cookie: sid="], "missing_credential"),
        (&["Cookie: sid"], "missing_credential"),
        (&["Cookie: sid=7:WRONGWRONG"], "bad_credential"),
        (&["Cookie: sid=key 2:YWK2PGCS8CNW62SR8TBTBKWMY"], "malformed_credential"),
        (&["Cookie: sid=2:YWK2PGCS8CNW62SR8TBTBKWMY"], "bad_credential"),
        (&["Cookie: SID=7:SZQ2PGCS8CNW62SR8TBTBKWMY"], "missing_credential"),
        (&["Cookie: keyward_session=7:SZQ2PGCS8CNW62SR8TBTBKWMY"], "missing_credential"),
        (&["Cookie: sid=\"7:SZQ2PGCS8CNW62SR8TBTBKWMY\""], "malformed_credential"),
    ];
    for door in DOORS {
        for (headers, expected) in table {
            assert_eq!(places[0].ask(me_question(door, headers)).verdict().2, *expected, "{door} {headers:?}");
        }
    }
    assert_eq!(places[0].ask(me_question(DOORS[0], &[&good])).header("x-keyward-mode"), Some("session"));
}

#[test]
fn me_answers_in_the_apis_own_form() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    home.apply(&json!({ "agents": [{ "id": 1, "name": "Admin", "permissions": "*",
        "attributes": { "role": "admin", "id": "9", "name": "Mallory" } }] }));
    let key = format!("Authorization: {KEY_2}");
    let answer = places[1].ask(get("/me", &[&key]));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        (answer.status, answer.json()),
        (
            200,
            json!({ "data": { "auth_method": "api_key", "app_id": null, "person_id": 1,
                "person": { "id": 1, "name": "Admin", "role": "admin" } }, "meta": {}, "linked": {} })
        )
    );
    let switched = places[0].ask(get("/me", &[&key, "X-DeskPRO-Agent-ID: 4"])).json();
    assert_eq!(switched["data"]["person"], json!({ "id": 4, "name": "Matthew", "team": "support" }));
    let token = places[0].ask(get("/me", &["Authorization: token 2:TKQ2PGCS8CNW62SR8TBTBKWMY"])).json();
    assert_eq!(token["data"]["auth_method"], "api_token");
    let session = places[0].ask(get("/me", &[&format!("Cookie: keyward_session={SESSION_7}")])).json();
    assert_eq!(session["data"]["auth_method"], "session");

    let office = format!("Authorization: {KEY_9}");
    let table: &[(&[&str], u16, &str)] = &[
        (&[], 401, "missing_credential"),
        (&["Authorization: key 2:WRONGWRONG"], 401, "bad_credential"),
        (&[&key, &key], 400, "bad_request"),
        (&[&key, "X-DeskPRO-Agent-ID: 99"], 403, "agent_unknown"),
        (&[&office], 403, "ip_not_allowed"),
        (&[&office, "X-Forwarded-For: 10.1.2.3"], 403, "ip_not_allowed"),
        (&[&office, "X-Real-IP: 10.1.2.3"], 200, ""),
    ];
    for (headers, status, code) in table {
        let answer = places[0].ask(get("/me", headers));
        assert_eq!(answer.status, *status, "{headers:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("www-authenticate").is_some(), *status == 401);
        if *status != 200 {
            let error = answer.json();
            assert_eq!((&error["status"], &error["code"]), (&json!(status), &json!(code)), "{headers:?}");
            assert!(error["message"].as_str().unwrap().ends_with('.'), "{error}");
            assert_eq!(error.as_object().unwrap().len(), 3);
        }
    }
}

#[test]
fn paths_and_methods_are_told_apart() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let table = [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/healthz?verbose", 200),
        ("POST", "/healthz", 405),
        ("GET", "/me", 401),
        ("HEAD", "/me", 401),
        ("POST", "/me", 405),
        ("DELETE", "/me", 405),
        ("GET", "/", 404),
        ("GET", "/metrics", 200),
        ("POST", "/metrics", 405),
        ("GET", "/metrics/", 404),
        ("GET", "/me/", 404),
        ("GET", "/ME", 404),
        ("GET", "//me", 404),
        ("GET", "/x/../me", 404),
        ("GET", "/%6de", 404),
        ("GET", "/auth", 404),
        ("GET", "/auth/nginx/", 404),
        ("GET", "http://keyward/healthz", 200),
        ("BREW", "/auth/forward", 400),
        ("OPTIONS", "/auth/forward", 400),
    ];
    for (method, path, status) in table {
        let mut connection = places[0].connect();
        connection.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let answer = connection.answer_to(method).unwrap();
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET, HEAD"));
        // The connection goes on behind each of them.
        connection.send(get("/healthz", &[]));
        assert_eq!(connection.answer().unwrap().body, b"ok\n", "{method} {path}");
    }
}

#[test]
fn the_auth_doors_take_any_method_and_never_wait_for_a_body() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let key = format!("Authorization: {KEY_2}");
    for place in &places {
        for door in DOORS {
            let head = |method: &str, more: &[&str]| {
                let lines: Vec<&str> = [key.as_str()].into_iter().chain(more.iter().copied()).collect();
                let text = String::from_utf8(me_question(door, &lines)).unwrap();
                text.replacen("GET", method, 1)
            };
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"] {
                let mut connection = place.connect();
                for more in [&[][..], &["Content-Length: 0"]] {
                    connection.send(head(method, more));
                    let answer = connection.answer_to(method).unwrap();
                    assert_eq!(answer.verdict(), (200, "200", "ok"), "{door} {method}");
                }
            }
            for announced in
                ["Content-Length: 1000000", "Transfer-Encoding: chunked", "Expect: 100-continue\r\nContent-Length: 9"]
            {
                for sent in ["", "a part", "GET /me HTTP/1.1\r\nHost: x\r\n\r\n"] {
                    let mut connection = place.connect();
                    connection.send(head("POST", &[announced]) + sent);
                    let answer = connection.answer().unwrap();
                    assert_eq!(answer.verdict(), (200, "200", "ok"), "{door} {announced} {sent:?}");
                    assert_eq!(answer.header("connection"), Some("close"), "{door} {announced}");
                    assert!(connection.ends(), "{door} {announced} {sent:?}: a body is never a request");
                }
            }
        }
    }
}

#[test]
fn a_revoked_key_is_refused_by_the_next_request_on_a_kept_connection() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let question = me_question("/auth/nginx", &["Authorization: key 3:3A7QXW9ZK2M4N6P8R0S1T5V7Y"]);
    let mut connections = places.map(|place| place.connect());
    for connection in &mut connections {
        connection.send(&question);
        assert_eq!(connection.answer().unwrap().status, 200);
    }
    assert!(home.run(&["key", "revoke", "3"]).status.success());
    for connection in &mut connections {
        connection.send(&question);
        assert_eq!(connection.answer().unwrap().verdict(), (401, "401", "revoked"));
    }
}

#[test]
fn a_listener_that_is_not_loopback_is_refused_with_a_sentence() {
    let home = Home::new();
    for address in ["0.0.0.0:7979", "[::]:7979", "192.168.1.1:7979", "localhost:7979", "7979"] {
        let config = home.config(&format!("[http]\nlisten = '{address}'\n"));
        let output = home.run(&["config", "check", "--config", config.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{address}: {said}");
        assert!(said.contains(address) && said.contains("127.0.0.1:7979"), "{said}");
    }
}

#[test]
fn healthz_is_503_while_the_database_takes_no_changes() {
    let home = Home::new();
    let (daemon, _) = start(&home, "");
    daemon.stop();
    // The files of this daemon grow by 64 KiB and no further, as on a full disk; -S: the limit can be lifted again.
    let blocks = std::fs::metadata(home.database()).unwrap().len() / 512 + 128;
    let limited = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$@\"");
    let daemon = home.start_with(|command| {
        let mut wrapped = Command::new("sh");
        wrapped.args(["-c", &limited, "sh"]).arg(command.get_program()).args(command.get_args());
        wrapped.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *command = wrapped;
    });
    let place = Place::Unix(home.runtime().join("http.sock"));
    assert_eq!(place.ask(get("/healthz", &[])).status, 200);
    let keys: Vec<Value> =
        (100..6000).map(|id| json!({ "id": id, "code": "SOMECODE", "agent": 1, "label": "x".repeat(200) })).collect();
    std::fs::write(home.path().join("keys.json"), json!({ "keys": keys }).to_string()).unwrap();
    let refused = home.run(&["apply", home.path().join("keys.json").to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    let health = place.ask(get("/healthz", &[]));
    assert_eq!((health.status, health.body != b"ok\n"), (503, true));
    // Questions are answered all the while.
    let key = format!("Authorization: {KEY_2}");
    assert_eq!(place.ask(me_question(DOORS[0], &[&key])).status, 200);
    drop(daemon);
}

#[test]
fn no_credential_is_in_the_log_or_in_an_answer() {
    let home = Home::new();
    let (daemon, places) = start(&home, "");
    for path in ["/auth/nginx", "/auth/forward", "/me", "/nowhere"] {
        let answer = places[0].ask(get(path, &["Authorization: key 2:WRONGSECRETCODE", "X-Original-Method: GET"]));
        let shown = format!("{answer:?}{}", String::from_utf8_lossy(&answer.body));
        assert!(!shown.contains("WRONGSECRETCODE"), "{shown}");
    }
    daemon.stop();
    assert!(!home.log_text().contains("WRONGSECRETCODE"));
}
