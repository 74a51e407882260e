//! From a path of a description to a path template, or why it is none.

use std::collections::BTreeSet;

use super::document::Server;
use crate::route::Template;

/// The template of `path` below `base`. A last segment that is one parameter and nothing else takes all that is left
/// when the parameter is one of `spanning`.
pub(super) fn template(base: &str, path: &str, spanning: &BTreeSet<&str>) -> Result<Template, String> {
    if !path.starts_with('/') {
        return Err(format!("the path does not begin with `/`: {path}"));
    }
    let (front, last) = path.rsplit_once('/').unwrap_or(("", path));
    let last = match parameter_alone(last) {
        Some(name) if spanning.contains(name) => format!("{{{name}...}}"),
        Some(_) | None => last.to_owned(),
    };
    let whole = format!("{base}{front}/{last}");
    if let Some(segment) = whole.split('/').find(|segment| segment.matches('{').count() > 1) {
        return Err(two_parameters(segment));
    }
    Template::parse(&decoded(&whole)?).map_err(|error| error.to_string())
}

/// `name` of `{name}`.
pub(super) fn parameter_alone(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}').filter(|name| !name.contains(['{', '}']))
}

fn two_parameters(segment: &str) -> String {
    let names: String = segment.split(['{', '}']).skip(1).step_by(2).collect();
    format!(
        "`{segment}` has two parameters in one segment, where each could end is not clear: describe it as one, \
         `{{{names}}}`"
    )
}

/// Escapes undone segment by segment, as a template is written.
fn decoded(path: &str) -> Result<String, String> {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        let text = decoded_segment(segment)
            .ok_or_else(|| format!("`{segment}` holds an escape that stands for no text, for `/` or for a brace"))?;
        segments.push(text);
    }
    Ok(segments.join("/"))
}

fn decoded_segment(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = if *first == b'%' { behind.get(..2).and_then(hex_byte) } else { None };
        match escaped {
            Some(b'/' | b'{' | b'}') => return None,
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digits = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// The path part of a server's URL, without a `/` at its end; empty for the root.
pub(super) fn base_path(server: &Server) -> Result<String, String> {
    let url = with_defaults(server)?;
    let behind_scheme = url.split_once("://").map(|(_, behind)| behind).or_else(|| url.strip_prefix("//"));
    let path = match behind_scheme {
        Some(behind) => behind.find(['/', '?', '#']).map_or("", |at| &behind[at..]),
        None => url.strip_prefix('.').filter(|behind| behind.is_empty() || behind.starts_with('/')).unwrap_or(&url),
    };
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    Ok(if path.is_empty() || path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

/// The URL with its variables at their defaults.
fn with_defaults(server: &Server) -> Result<String, String> {
    let mut url = String::new();
    let mut rest = server.url.as_str();
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}').ok_or_else(|| no_default(&server.url, behind))?;
        let default = server.variables.get(name).and_then(|variable| variable.0.default.as_deref());
        url.push_str(before);
        url.push_str(default.ok_or_else(|| no_default(&server.url, name))?);
        rest = after;
    }
    url.push_str(rest);
    Ok(url)
}

fn no_default(url: &str, name: &str) -> String {
    format!("the server's URL {url} has a variable `{name}` without a default: its path is not known")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_template_or_is_refused_with_its_reason() {
        for (base, path, wanted) in [
            ("", "/", Ok("/")),
            ("", "/tickets/{id}", Ok("/tickets/{id}")),
            ("/api/v2", "/tickets", Ok("/api/v2/tickets")),
            ("/api", "/tickets/", Ok("/api/tickets/")),
            ("/api", "/", Ok("/api/")),
            ("/a%20b", "/gr%C3%B6%C3%9Fe", Ok("/a b/größe")),
            ("", "/export/{name}.csv", Ok("/export/{name}.csv")),
            ("", "/v{major}-x/{id}", Ok("/v{major}-x/{id}")),
            ("", "/files/{path}", Ok("/files/{path...}")),
            ("", "/{path}", Ok("/{path...}")),
            ("", "/files/{path}/raw", Ok("/files/{path}/raw")),
            ("", "/files/{path}.txt", Ok("/files/{path}.txt")),
            ("", "/compare/{base}...{head}", Err("`{base}...{head}` has two parameters")),
            ("", "/compare/{base}...{head}", Err("describe it as one, `{basehead}`")),
            ("", "/x/{a}{b}/c", Err("two parameters")),
            ("", "tickets", Err("does not begin with `/`")),
            ("", "/a//b", Err("no request could match")),
            ("", "/a/../b", Err("no request could match")),
            ("/a/..", "/b", Err("no request could match")),
            ("", "/a%2Fb", Err("holds an escape")),
            ("", "/%7Bid%7D", Err("holds an escape")),
            ("", "/%ff", Err("holds an escape")),
            ("", "/100%", Ok("/100%")),
            ("", "/a?x=1", Err("`?` or `#`")),
            ("", "/#Action", Err("`?` or `#`")),
            ("", "/{id:int}", Err("a parameter name")),
            ("", "/{id", Err("brace")),
        ] {
            let got = template(base, path, &BTreeSet::from(["path"]));
            match wanted {
                Ok(text) => assert_eq!(got.map(|t| t.to_string()), Ok(text.to_owned()), "{base} {path}"),
                Err(part) => assert!(got.as_ref().is_err_and(|why| why.contains(part)), "{base} {path}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_servers_base_path_is_its_urls_path() {
        for (url, wanted) in [
            ("https://api.example.com", Ok("")),
            ("https://api.example.com/", Ok("")),
            ("https://api.example.com/api/v2/", Ok("/api/v2")),
            ("https://api.example.com?x=/y", Ok("")),
            ("{scheme}://{host}/api/{version}", Ok("/api/v3")),
            ("https://{host}:{port}{base}", Ok("/b/c")),
            ("//example.com/a", Ok("/a")),
            ("/api/v2", Ok("/api/v2")),
            ("/", Ok("")),
            ("", Ok("")),
            (".", Ok("")),
            ("./v1", Ok("/v1")),
            ("v1", Ok("/v1")),
            ("/v1?x#y", Ok("/v1")),
            ("https://x/{unknown}", Err("`unknown` without a default")),
            ("https://x/{open", Err("without a default")),
        ] {
            let variables = r#"{"scheme": {"default": "https"}, "host": {"default": "h.example"},
                "version": {"default": "v3"}, "port": {"default": "8443"}, "base": {"default": "/b/c"}, "unknown": {}}"#;
            let text = format!(r#"{{"url": "{url}", "variables": {variables}}}"#);
            let got = base_path(&serde_json::from_str(&text).unwrap());
            match wanted {
                Ok(path) => assert_eq!(got, Ok(path.to_owned()), "{url}"),
                Err(part) => assert!(got.as_ref().is_err_and(|why| why.contains(part)), "{url}: {got:?}"),
            }
        }
    }
}
