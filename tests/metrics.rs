//! `/metrics`: a text that a strict reader takes, figures that are right, and nothing in it that names anybody.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use keyward_proto::query::{Asker, Target};
use serde_json::json;
use support::http::{Place, free_port, get};
use support::{Home, wait_until};

const KEY: &str = "key 3:3A7QXW9ZK2M4N6P8R0S1T5V7Y";

/// A sample's name with its labels as written, without braces.
type Samples = BTreeMap<(String, String), f64>;

/// Reads an exposition as strictly as its format is written: families declared before their samples and never torn apart,
/// names and labels of the right letters, suffixes of their kind, histograms that add up, the end marked.
fn read(text: &str) -> (BTreeMap<String, String>, Samples) {
    assert!(text.ends_with("\n# EOF\n"), "the end is marked");
    let (mut kinds, mut samples) = (BTreeMap::new(), Samples::new());
    let mut family = String::new();
    let mut helped = String::new();
    for line in text.strip_suffix("# EOF\n").unwrap().lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && !help.contains('\\'), "{line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, helped, "help comes first");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kinds.insert(name.to_owned(), kind.to_owned()), None, "{name} is declared once");
            family = name.to_owned();
        } else {
            let (name, labels, value) = sample(line);
            let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} stands under {family}"));
            let allowed: &[&str] = match kinds[&family].as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                _ => &["_sum", "_count", "_bucket"],
            };
            assert!(allowed.contains(&suffix), "{line}");
            assert!(value >= 0.0 && value.is_finite(), "{line}");
            assert_eq!(samples.insert((name, labels), value), None, "{line} stands once");
        }
    }
    kinds.iter().filter(|(_, kind)| *kind == "histogram").for_each(|(name, _)| adds_up(name, &samples));
    (kinds, samples)
}

fn sample(line: &str) -> (String, String, f64) {
    let (id, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match id.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
        None => (id, ""),
    };
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    assert!(is_name(name), "{line}");
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (key, value) = label.split_once('=').unwrap();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
        assert!(is_name(key) && !value.is_empty() && !value.contains(['"', '\\', '\n']), "{line}");
    }
    (name.to_owned(), labels.to_owned(), value.parse().unwrap())
}

/// Buckets rise to the count, with bounds that rise to infinity.
fn adds_up(name: &str, samples: &Samples) {
    let of = |suffix: &str| format!("{name}_{suffix}");
    let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for ((_, labels), value) in samples.iter().filter(|((found, _), _)| *found == of("bucket")) {
        let (bound, others): (Vec<&str>, Vec<&str>) = labels.split(',').partition(|label| label.starts_with("le="));
        let bound = bound[0].trim_start_matches("le=").trim_matches('"').parse().unwrap();
        series.entry(others.join(",")).or_default().push((bound, *value));
    }
    assert!(!series.is_empty(), "{name} has buckets");
    for (labels, mut buckets) in series {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, other| one.0 < other.0 && one.1 <= other.1), "{name}: {buckets:?}");
        let (bound, last) = buckets.last().unwrap();
        assert_eq!((*bound, *last), (f64::INFINITY, samples[&(of("count"), labels.clone())]), "{name}");
        assert!(samples.contains_key(&(of("sum"), labels)), "{name}");
    }
}

fn world() -> serde_json::Value {
    json!({
        "agents": [{ "id": 4711, "name": "Matthew", "permissions": "*", "attributes": { "team": "blue" } }],
        "endpoints": [{ "method": "GET", "path": "/api/v2/tickets", "tags": ["tickets.tickets.list"] }],
        "keys": [{ "id": 3, "label": "a script", "agent": 4711, "code": KEY.split_once(':').unwrap().1, "tags": "*, -*.delete" }],
    })
}

fn socket(home: &Home) -> Place {
    Place::Unix(home.runtime().join("http.sock"))
}

fn scraped(home: &Home) -> (String, Samples) {
    let mut answer = None;
    // The one place that the door may have is given back a moment after the connection before has ended.
    wait_until("the HTTP door has a place", || {
        answer = Some(socket(home).ask(get("/metrics", &[]))).filter(|answer| answer.status != 503);
        answer.is_some()
    });
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    let (_, samples) = read(&text);
    (text, samples)
}

fn value(samples: &Samples, name: &str, labels: &str) -> f64 {
    samples.get(&(name.to_owned(), labels.to_owned())).copied().unwrap_or_else(|| panic!("no {name}{{{labels}}}"))
}

#[test]
fn every_verdict_is_counted_once_at_its_door_with_its_reason() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let (_, before) = scraped(&home);
    let mut query = home.query();
    let asker = Asker { credential: Some(KEY.as_bytes()), agent: None, address: None };
    let tickets = || Target::Endpoint { method: b"GET", path: b"/api/v2/tickets" };
    let nothing = || Target::Endpoint { method: b"GET", path: b"/nothing" };
    query.check(asker, tickets()).unwrap();
    query.who(asker).unwrap();
    query.batch(asker, &[tickets(), nothing(), nothing()]).unwrap();
    query.check(Asker { credential: Some(b"key 3:WRONGWRONGWRONG"), ..asker }, tickets()).unwrap();
    query.batch(asker, &[]).unwrap();
    let authorization = format!("Authorization: {KEY}");
    let original = ["X-Original-Method: GET", "X-Original-URI: /api/v2/tickets"];
    socket(&home).ask(get("/auth/nginx", &[&authorization, original[0], original[1]]));
    socket(&home).ask(get("/auth/nginx", &[&authorization, original[0]]));
    socket(&home).ask(get("/me", &[]));
    let (_, after) = scraped(&home);
    let counted: BTreeMap<&str, f64> = after
        .iter()
        .filter(|((name, _), _)| name == "keyward_verdicts_total")
        .map(|(id, count)| (id.1.as_str(), count - before[id]))
        .filter(|(_, count)| *count > 0.0)
        .collect();
    let expected = [
        ("door=\"query\",reason=\"ok\"", 3.0),
        ("door=\"query\",reason=\"no_route\"", 2.0),
        ("door=\"query\",reason=\"bad_credential\"", 1.0),
        ("door=\"query\",reason=\"bad_request\"", 1.0),
        ("door=\"http\",reason=\"ok\"", 1.0),
        ("door=\"http\",reason=\"bad_request\"", 1.0),
        ("door=\"http\",reason=\"missing_credential\"", 1.0),
    ];
    assert_eq!(counted, BTreeMap::from(expected));
    assert_eq!(value(&after, "keyward_answer_seconds_count", "door=\"query\""), 5.0, "one a read");
    assert_eq!(value(&after, "keyward_answer_seconds_count", "door=\"http\""), 3.0, "a scrape is no question");
    let status = home.json(&["status"]);
    assert_eq!(status["questions"], 10, "the verdicts together");
    assert_eq!(status["verdicts"].as_array().unwrap().len(), 7);
    assert_eq!(status["verdicts"][0], json!({ "door": "query", "reason": "ok", "count": 3 }));
}

#[test]
fn connections_commits_rows_and_waiting_uses_are_told_by_metrics_and_by_status() {
    let home = Home::new();
    let config = home.config("[limits]\nconnections = 2\nconnections_per_uid = 1");
    let _daemon = home.start_with(|command| {
        command.arg("--config").arg(config);
    });
    let (_, empty) = scraped(&home);
    assert_eq!(value(&empty, "keyward_commit_seconds_count", ""), 0.0);
    home.apply(&world());
    let mut query = home.query();
    query.who(Asker { credential: Some(KEY.as_bytes()), agent: None, address: None }).unwrap();
    let beyond = UnixStream::connect(home.runtime().join("query.sock")).unwrap();
    let door = "door=\"query\",cause=\"user_full\"";
    wait_until("the connection was refused", || {
        value(&scraped(&home).1, "keyward_connections_refused_total", door) == 1.0
    });
    drop(beyond);
    let (_, full) = scraped(&home);
    for (name, labels, expected) in [
        ("keyward_connections", "door=\"query\"", 1.0),
        ("keyward_connections", "door=\"http\"", 1.0),
        ("keyward_commit_seconds_count", "", 1.0),
        ("keyward_publish_seconds_count", "", 1.0),
        ("keyward_revision", "", 1.0),
        ("keyward_rows", "kind=\"agents\"", 1.0),
        ("keyward_rows", "kind=\"keys\"", 1.0),
        ("keyward_rows", "kind=\"sessions\"", 0.0),
        ("keyward_writable", "", 1.0),
        ("keyward_alarms", "", 0.0),
    ] {
        assert_eq!(value(&full, name, labels), expected, "{name} {labels}");
    }
    let size = std::fs::metadata(home.database()).unwrap().len();
    let status = home.json(&["status"]);
    assert_eq!(status["database_bytes"], size);
    assert_eq!(value(&full, "keyward_database_bytes", ""), size as f64);
    assert_eq!(status["commits"], 1);
    assert!(status["refused_connections"].as_u64().is_some_and(|count| count >= 1), "{status}");
    assert!(status["unflushed_use_age"].as_u64().is_some_and(|age| age < 60), "{status}");
    let page = String::from_utf8(home.run(&["status"]).stdout).unwrap();
    for words in ["ok 1", "query 1, http ", "the oldest that is not stored is", "commits      1"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(page.lines().count() <= 24, "one screen: {page}");
}

#[test]
fn metrics_are_read_like_the_other_paths_on_both_listeners() {
    let home = Home::new();
    let port = free_port();
    let config = home.config(&format!("[http]\nlisten = '127.0.0.1:{port}'"));
    let _daemon = home.start_with(|command| {
        command.arg("--config").arg(config);
    });
    for place in [socket(&home), Place::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))] {
        let got = place.ask(get("/metrics?format=x", &[]));
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!((got.status, got.header("content-type")), (200, Some(kind)));
        assert_eq!(got.header("cache-control"), Some("no-store"));
        let mut connection = place.connect();
        connection.send("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = connection.answer_to("HEAD").unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, Some(kind)));
        connection.send(get("/healthz", &[]));
        assert_eq!(connection.answer().unwrap().status, 200, "the connection goes on behind a HEAD");
        let posted = place.ask("POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
        assert_eq!(place.ask(get("/metrics/", &[])).status, 404);
    }
}

#[test]
fn the_documentation_lists_exactly_the_metrics_that_there_are_and_none_names_anybody() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    home.query().who(Asker { credential: Some(KEY.as_bytes()), agent: None, address: Some(b"10.1.2.3") }).unwrap();
    let (text, _) = scraped(&home);
    for name in ["4711", "Matthew", "team", "blue", "script", "tickets", "10.1.2.3", &KEY[6..]] {
        assert!(!text.contains(name), "{name}");
    }
    let (kinds, _) = read(&text);
    let exported: BTreeSet<String> = kinds
        .into_iter()
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total {kind}") } else { format!("{name} {kind}") })
        .collect();
    let page = include_str!("../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<String> = rows
        .map(|row| {
            let (name, rest) = row.split_once("` | ").unwrap();
            format!("{name} {}", rest.split(" |").next().unwrap())
        })
        .collect();
    assert_eq!(exported, listed);
}
