//! The tag of an operation that names none: the words of its path and what it does.
//!
//! `docs/openapi-import.md` has the rule for users; this is the same rule.

use std::collections::BTreeSet;

use super::template::parameter_alone;
use crate::tags::Tag;

/// Stands for a path without words, `/` or `/{id}`.
const ROOT: &str = "root";

/// The shapes of all paths of a description, which tell lists from single records.
pub(super) struct Siblings(BTreeSet<String>);

impl Siblings {
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        Self(paths.into_iter().map(shape).collect())
    }

    /// Whether there is the same path with one more parameter behind it.
    fn has_item_of(&self, path: &str) -> bool {
        self.0.contains(&format!("{}/{{}}", shape(path)))
    }
}

/// What GET is: a list, or one record.
fn get_word(path: &str, siblings: &Siblings, gives_array: bool) -> &'static str {
    let names_one = path.trim_end_matches('/').rsplit('/').next().is_some_and(|last| last.contains('{'));
    if !names_one && (gives_array || siblings.has_item_of(path)) { "list" } else { "get" }
}

/// The derived tag. `gives_array`: the operation's 200 response is an array.
pub(super) fn tag(method: &str, path: &str, siblings: &Siblings, gives_array: bool) -> Result<Tag, String> {
    let last = match method {
        "GET" => get_word(path, siblings, gives_array).to_owned(),
        other => other.to_ascii_lowercase(),
    };
    let mut words = words(path);
    if words.is_empty() {
        words.push(ROOT.to_owned());
    }
    if let [only] = words.as_slice() {
        words.push(only.clone());
    }
    words.push(last);
    let text = words.join(".");
    Tag::parse(&text).map_err(|error| format!("the derived tag {text} does not do: {error}; give x-keyward-tags"))
}

/// What an operation acts on: its path without prefix and without the names of parameters. Two operations of one method
/// with the same resource may have the same derived tag; with two resources that is a collision.
pub(super) fn resource(path: &str) -> String {
    behind_prefix(path).map(shape_of_segment).collect::<Vec<_>>().join("/")
}

/// The words of the fixed parts, in order.
fn words(path: &str) -> Vec<String> {
    behind_prefix(path).filter_map(word).collect()
}

/// The segments behind `api` and version numbers, which say nothing of what an endpoint does. What would leave no word
/// stays.
fn behind_prefix(path: &str) -> impl Iterator<Item = &str> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut start = 0;
    while segments.get(start).is_some_and(|segment| is_prefix(segment))
        && segments[start + 1..].iter().any(|segment| word(segment).is_some())
    {
        start += 1;
    }
    segments.into_iter().skip(start)
}

/// `api`, `v2`, `v1.1`.
fn is_prefix(segment: &str) -> bool {
    let version = segment.strip_prefix(['v', 'V']).is_some_and(|number| {
        number.starts_with(|c: char| c.is_ascii_digit()) && number.chars().all(|c| c.is_ascii_digit() || c == '.')
    });
    version || segment.eq_ignore_ascii_case("api")
}

/// A segment's fixed text made to fit a tag: in lower case, every run of other characters as one `-`. None when nothing
/// is left.
fn word(segment: &str) -> Option<String> {
    if parameter_alone(segment).is_some() {
        return None;
    }
    let mut word = String::new();
    let mut in_parameter = false;
    for c in segment.chars() {
        match c {
            '{' => in_parameter = true,
            '}' => in_parameter = false,
            _ => {}
        }
        if !in_parameter && (c.is_ascii_alphanumeric() || c == '_') {
            word.push(c.to_ascii_lowercase());
        } else if !word.ends_with('-') {
            word.push('-');
        }
    }
    let word = word.trim_matches(['-', '_']);
    (!word.is_empty()).then(|| word.to_owned())
}

/// The path with the names of its parameters blanked and without a `/` at its end.
fn shape(path: &str) -> String {
    let path = path.trim_end_matches('/');
    path.split('/').map(shape_of_segment).collect::<Vec<_>>().join("/")
}

fn shape_of_segment(segment: &str) -> String {
    let mut shape = String::new();
    let mut in_parameter = false;
    for c in segment.chars() {
        match c {
            '{' => {
                in_parameter = true;
                shape.push(c);
            }
            '}' => {
                in_parameter = false;
                shape.push(c);
            }
            _ if in_parameter => {}
            _ => shape.push(c),
        }
    }
    shape
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const PATHS: [&str; 8] = [
        "/api/v2/tickets",
        "/api/v2/tickets/{ticket}",
        "/tickets",
        "/tickets/{id}",
        "/tickets/{id}/messages",
        "/tickets/{id}/messages/{message}",
        "/slash/",
        "/slash/{id}/",
    ];

    #[test]
    fn a_tag_is_the_paths_words_and_what_is_done() {
        let siblings = Siblings::of(PATHS);
        for (method, path, gives_array, wanted) in [
            ("GET", "/api/v2/tickets", false, "tickets.tickets.list"),
            ("GET", "/tickets", false, "tickets.tickets.list"),
            ("GET", "/tickets/{id}", false, "tickets.tickets.get"),
            ("GET", "/tickets/{id}", true, "tickets.tickets.get"),
            ("DELETE", "/tickets/{id}", false, "tickets.tickets.delete"),
            ("POST", "/tickets", false, "tickets.tickets.post"),
            ("PUT", "/tickets/{id}", false, "tickets.tickets.put"),
            ("PATCH", "/tickets/{id}", false, "tickets.tickets.patch"),
            ("HEAD", "/tickets", false, "tickets.tickets.head"),
            ("OPTIONS", "/tickets", false, "tickets.tickets.options"),
            ("TRACE", "/tickets", false, "tickets.tickets.trace"),
            ("GET", "/tickets/{id}/messages", false, "tickets.messages.list"),
            ("GET", "/tickets/{id}/messages/{m}/attachments", false, "tickets.messages.attachments.get"),
            ("GET", "/tickets/{id}/messages/{m}/attachments", true, "tickets.messages.attachments.list"),
            ("GET", "/slash/", false, "slash.slash.list"),
            ("GET", "/slash/{id}/", false, "slash.slash.get"),
            ("GET", "/me", false, "me.me.get"),
            ("GET", "/me", true, "me.me.list"),
            ("GET", "/", false, "root.root.get"),
            ("GET", "/{id}", false, "root.root.get"),
            ("GET", "/api", false, "api.api.get"),
            ("GET", "/api/v2/{id}", false, "v2.v2.get"),
            ("GET", "/v1.1/API/Users", false, "users.users.get"),
            ("GET", "/users/v2", false, "users.v2.get"),
            ("GET", "/export/{name}.csv", true, "export.csv.get"),
            ("GET", "/export/all-{name}.csv", false, "export.all-csv.get"),
            ("GET", "/@me/+1/_x_/a b/größe", false, "me.1.x.a-b.gr-e.get"),
            ("GET", "/applicationGrants/read_only", false, "applicationgrants.read_only.get"),
            ("GET", "/日本/x", false, "x.x.get"),
        ] {
            let got = tag(method, path, &siblings, gives_array).unwrap();
            assert_eq!(got.as_str(), wanted, "{method} {path}");
        }
    }

    #[test]
    fn a_tag_that_would_be_too_long_is_refused_with_what_to_do() {
        let siblings = Siblings::of([]);
        for path in [format!("/{}", "a".repeat(70)), "/a".repeat(16)] {
            assert!(tag("GET", &path, &siblings, false).unwrap_err().contains("x-keyward-tags"), "{path}");
        }
        assert!(tag("GET", &"/a".repeat(15), &siblings, false).is_ok());
    }

    #[test]
    fn a_resource_is_the_path_without_prefix_and_names() {
        for (path, wanted) in [
            ("/api/v2/tickets/{id}", "tickets/{}"),
            ("/v1/tickets/{ticket}", "tickets/{}"),
            ("/tickets", "tickets"),
            ("/tickets/", "tickets"),
            ("/export/{name}.csv", "export/{}.csv"),
            ("/", ""),
        ] {
            assert_eq!(resource(path), wanted);
        }
    }
}
