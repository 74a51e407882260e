//! The four examples of tag sets that the API's documentation gives, as anybody would try them.

use serde_json::json;

use super::{check, text, with_daemon};

/// Tag, method and path of the endpoints.
const ENDPOINTS: [(&str, &str, &str); 5] = [
    ("tickets.tickets.list", "GET", "/tickets"),
    ("tickets.tickets.get", "GET", "/tickets/7"),
    ("tickets.tickets.delete", "DELETE", "/tickets/7"),
    ("people.people.list", "GET", "/people"),
    ("people.people.delete", "DELETE", "/people/7"),
];

/// A set, and for each endpoint the outcome and the pattern that decides.
type Example = (&'static str, [(&'static str, Option<&'static str>); 5]);

const EXAMPLES: [Example; 4] = [
    ("*", [("ok", Some("*")); 5]),
    (
        "*, -tickets.*",
        [
            ("tag_denied", Some("-tickets.*")),
            ("tag_denied", Some("-tickets.*")),
            ("tag_denied", Some("-tickets.*")),
            ("ok", Some("*")),
            ("ok", Some("*")),
        ],
    ),
    (
        "tickets.*, -*.delete",
        [
            ("ok", Some("tickets.*")),
            ("ok", Some("tickets.*")),
            ("tag_denied", Some("-*.delete")),
            ("tag_not_granted", None),
            ("tag_denied", Some("-*.delete")),
        ],
    ),
    (
        "tickets.tickets.list",
        [
            ("ok", Some("tickets.tickets.list")),
            ("tag_not_granted", None),
            ("tag_not_granted", None),
            ("tag_not_granted", None),
            ("tag_not_granted", None),
        ],
    ),
];

#[test]
fn the_documented_sets_allow_and_deny_what_the_documentation_says() {
    with_daemon(|home| {
        home.json(&["agent", "add", "Admin", "--permissions", "*"]);
        for (tag, method, path) in ENDPOINTS {
            home.json(&["endpoint", "add", method, &path.replace('7', "{id}"), "--tags", tag]);
        }
        for (set, outcomes) in EXAMPLES {
            let key = home.json(&["key", "add", set, "--agent", "1", "--tags", set]);
            let (id, credential) = (key["id"].to_string(), key["credential"].as_str().unwrap());
            for ((tag, method, path), (outcome, pattern)) in ENDPOINTS.into_iter().zip(outcomes) {
                assert_eq!(check(home, credential, &[method, path]), outcome, "{set}: {method} {path}");
                assert_eq!(check(home, credential, &["--tag", tag]), outcome, "{set}: {tag}");
                let tested = home.run(&["--json", "tags", "test", set, tag]);
                assert_eq!(tested.status.code(), Some(i32::from(outcome != "ok")), "{set}: {tag}");
                let printed: serde_json::Value = serde_json::from_slice(&tested.stdout).unwrap();
                assert_eq!(printed, json!({"outcome": outcome, "pattern": pattern}), "{set}: {tag}");
                let explained = home.json(&["explain", "--key", &id, method, path]);
                assert_eq!(explained["verdict"]["reason"], outcome, "{set}: {method} {path}");
                let step = explained["steps"].as_array().unwrap().iter().find(|step| step["step"] == 10).unwrap();
                let said = step["why"].as_str().unwrap();
                assert!(pattern.is_none_or(|pattern| said.ends_with(&format!("by {pattern}"))), "{set}: {said}");
            }
        }
    });
}

#[test]
fn order_never_matters_and_people_read_the_deciding_pattern() {
    with_daemon(|home| {
        for set in ["tickets.*, -*.delete", "-*.delete, tickets.*", "-*.delete\ntickets.*"] {
            let denied = home.run(&["tags", "test", set, "tickets.tickets.delete"]);
            assert_eq!(
                (denied.status.code(), text(&denied.stdout)),
                (Some(1), "tag_denied: by -*.delete\n"),
                "{set:?}"
            );
            let allowed = home.run(&["tags", "test", set, "tickets.tickets.list"]);
            assert_eq!((allowed.status.code(), text(&allowed.stdout)), (Some(0), "ok: by tickets.*\n"), "{set:?}");
            let both = home.run(&["tags", "test", set, "tickets.tickets.list", "people.delete"]);
            assert_eq!(both.status.code(), Some(1), "one denied tag is enough: {set:?}");
            let one = home.run(&["tags", "test", set, "tickets.tickets.list", "people.get"]);
            assert_eq!(one.status.code(), Some(0), "one allowed tag is enough: {set:?}");
        }
    });
}
