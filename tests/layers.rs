//! Reads the sources and fails on an edge outside the layer table. The table is [`LAYERS`]; the README shows the same rows.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What each top-level module may use of ours. `serve` stands for `serve/*`, `keyward_proto` is the other package.
const LAYERS: &[(&str, &[&str])] = &[
    ("tags", &[]),
    ("route", &[]),
    ("chain", &[]),
    ("model", &["tags", "route"]),
    ("directory", &["tags", "route", "model"]),
    ("decide", &["tags", "route", "model", "directory"]),
    ("store", &["tags", "model", "chain"]),
    ("registry", &["tags", "route", "model", "directory", "decide", "store", "chain"]),
    ("serve", &["tags", "model", "registry", PROTO]),
    ("config", &[]),
    ("daemon", &["tags", "route", "model", "directory", "decide", "store", "registry", "serve", "config", PROTO]),
    ("bench", &[PROTO]),
    ("cli", &["tags", "route", "chain", "config", "bench", PROTO]),
    ("main", &["cli", "daemon", "config"]),
    ("lib", &[]),
];
const PROTO: &str = "keyward_proto";
const LIBRARY: &str = "keyward";

/// They know neither async nor the database, sockets, files or the clock: time is an argument.
const PURE: &[&str] = &["tags", "route", "chain", "model", "directory", "decide"];
const IMPURE_PACKAGES: &[&str] = &["tokio", "tokio_util", "redb", "nix"];
const IMPURE_PATHS: &[&str] =
    &["std::fs", "std::net::Tcp", "std::net::Udp", "std::os::unix::net", "std::env", "std::process"];
const IMPURE_NAMES: &[&str] =
    &["SystemTime", "Instant", "TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener", "UnixDatagram"];

/// Packages that one module alone may name.
const KEPT_BEHIND: &[(&str, &str)] = &[("redb", "store"), ("bincode", "store")];
/// The listeners do not know each other.
const LISTENERS: &[&str] = &["query", "admin", "http"];
const FORBIDDEN_NAMES: &[&str] = &["common", "utils", "util", "helpers"];
/// In the wire package the codec alone runs bincode; the others only derive its traits.
const CODEC_ONLY: &[&str] = &["bincode::config", "bincode::encode_", "bincode::decode_", "bincode::borrow_decode_"];

#[test]
fn no_module_uses_one_that_the_layer_table_does_not_grant() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert_eq!(violations_below(&root, judge), Vec::<String>::new());
}

#[test]
fn the_wire_package_knows_nothing_of_the_daemon() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/src");
    assert_eq!(violations_below(&root, judge_proto), Vec::<String>::new());
}

#[test]
fn the_readme_shows_every_row_of_the_layer_table() {
    let Ok(readme) = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")) else {
        return; // Not written yet; the package's own manifest names it, so packaging would fail without.
    };
    if let Some(named) = modules_of_the_readme(&readme) {
        let missing: Vec<_> =
            LAYERS.iter().map(|(module, _)| *module).filter(|module| !named.contains(*module)).collect();
        assert_eq!(missing, Vec::<&str>::new(), "rows missing in the README's layer table");
    }
}

/// What the first cells of the layer table name, `serve/*` as `serve`; `None` when the README has no such table.
fn modules_of_the_readme(readme: &str) -> Option<BTreeSet<String>> {
    let mut lines = readme.lines().skip_while(|line| !line.starts_with("| module | may use (ours) |"));
    lines.next()?;
    let rows = lines.take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    Some(cells.map(|name| name.trim_end_matches("/*").to_owned()).collect())
}

fn violations_below(root: &Path, judge: fn(&[String], &str) -> Vec<String>) -> Vec<String> {
    let mut found = Vec::new();
    for path in rust_files(root) {
        let place = path.strip_prefix(root).unwrap();
        let module = module_of(place);
        // `#[cfg(test)] mod tests;` lies in a file of its own.
        if module.iter().skip(1).any(|part| part == "tests") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        found.extend(judge(&module, &text).into_iter().map(|what| format!("{}: {what}", place.display())));
    }
    found
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// `serve/query.rs` is `[serve, query]`, `serve/mod.rs` is `[serve]`.
fn module_of(place: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        place.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Everything in a file of `src` that the table forbids.
fn judge(module: &[String], text: &str) -> Vec<String> {
    let tokens = tokens(&without_test_items(&without_comments_and_strings(text)));
    let top = module[0].as_str();
    let mut found: BTreeSet<String> = forbidden_names(module);
    let Some((_, granted)) = LAYERS.iter().find(|(name, _)| *name == top) else {
        return vec![format!("module {top} is not in the layer table")];
    };
    for path in paths(&tokens) {
        let written = path.join("::");
        if let Some(target) = target_of(&path, module) {
            let own = target[0] == top;
            if !own && !granted.contains(&target[0].as_str()) {
                found.insert(format!("{top} must not use {}: {written}", target[0]));
            }
            if own && names_another_listener(module, &target) {
                found.insert(format!("listeners must not use each other: {written}"));
            }
        }
        for (package, keeper) in KEPT_BEHIND {
            if path[0] == *package && top != *keeper {
                found.insert(format!("only {keeper} may name {package}: {written}"));
            }
        }
        let impure = IMPURE_PACKAGES.contains(&path[0].as_str()) || IMPURE_PATHS.iter().any(|p| written.starts_with(p));
        if PURE.contains(&top) && impure {
            found.insert(format!("{top} is pure: {written}"));
        }
    }
    if PURE.contains(&top) {
        let named = tokens.iter().filter(|token| IMPURE_NAMES.contains(&token.as_str()));
        found.extend(named.map(|token| format!("{top} is pure: {token}")));
    }
    found.into_iter().collect()
}

/// Everything in a file of `proto/src` that must not be there.
fn judge_proto(module: &[String], text: &str) -> Vec<String> {
    let tokens = tokens(&without_test_items(&without_comments_and_strings(text)));
    let mut found = forbidden_names(module);
    for path in paths(&tokens) {
        let written = path.join("::");
        if path[0] == LIBRARY || path[0] == "redb" {
            found.insert(format!("the wire package must not use {written}"));
        }
        if module[0] != "codec" && CODEC_ONLY.iter().any(|p| written.starts_with(p)) {
            found.insert(format!("only codec may use {written}"));
        }
    }
    found.into_iter().collect()
}

fn forbidden_names(module: &[String]) -> BTreeSet<String> {
    let named = module.iter().filter(|part| FORBIDDEN_NAMES.contains(&part.as_str()));
    named.map(|part| format!("no module is named {part}: say what it is about")).collect()
}

/// The module of ours that a path leads to, as `[top, …]`; `None` when it leads elsewhere.
fn target_of(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let known = |name: &str| LAYERS.iter().any(|(layer, _)| *layer == name);
    match path[0].as_str() {
        PROTO => Some(vec![PROTO.to_owned()]),
        // Whatever is named of the root and is no module belongs to `lib`, and nothing does.
        "crate" | LIBRARY => match path.get(1) {
            Some(name) if known(name) => Some(path[1..].to_vec()),
            _ => Some(vec!["lib".to_owned()]),
        },
        "super" => {
            let steps = path.iter().take_while(|part| *part == "super").count();
            let mut target = module[..module.len().saturating_sub(steps)].to_vec();
            target.extend_from_slice(&path[steps..]);
            // Behind an inline module `super` is the file itself, and what follows is no module.
            target.first().is_some_and(|name| known(name)).then_some(target)
        }
        _ => None,
    }
}

fn names_another_listener(module: &[String], target: &[String]) -> bool {
    let (Some(own), Some(other)) = (module.get(1), target.get(1)) else { return false };
    let listener = |name: &String| LISTENERS.contains(&name.as_str());
    module[0] == "serve" && listener(own) && listener(other) && own != other
}

/// Blanks out comments, strings and character literals.
fn without_comments_and_strings(text: &str) -> String {
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    while let Some(first) = rest.chars().next() {
        let skipped = skip_length(rest, in_word);
        if skipped > 0 {
            out.push(' ');
            in_word = false;
            rest = &rest[skipped..];
        } else {
            out.push(first);
            in_word = first.is_alphanumeric() || first == '_';
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// The bytes of the comment or literal that `rest` begins with; 0 when it begins with neither.
fn skip_length(rest: &str, in_word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('\'') {
        return character_length(rest);
    }
    if in_word {
        return if rest.starts_with('"') { quoted_length(rest, '"') } else { 0 };
    }
    let prefix = rest.chars().take_while(|c| matches!(c, 'b' | 'c' | 'r')).count();
    let hashes = rest[prefix..].chars().take_while(|c| *c == '#').count();
    let raw = rest[..prefix].ends_with('r');
    match rest[prefix + hashes..].chars().next() {
        Some('"') if raw => {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = prefix + hashes + 1;
            rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
        }
        Some('"') if hashes == 0 => prefix + quoted_length(&rest[prefix..], '"'),
        _ => 0,
    }
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// `'x'` and `'\n'` are literals, `'a` is a lifetime.
fn character_length(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (_, Some('\'')) => quoted_length(rest, '\''),
        _ => 0,
    }
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Leaves out what is compiled for tests only: from `#[cfg(test)]` to the end of the item behind it.
fn without_test_items(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let mut depth = 0_usize;
        let mut end = item.len();
        for (at, c) in item.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && (c == '}' || c == ';') {
                end = at + 1;
                break;
            }
        }
        rest = &item[end..];
    }
    out.push_str(rest);
    out
}

/// Words, `::`, and single characters.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(next) = chars.next_if(|next| next.is_alphanumeric() || *next == '_') {
                word.push(next);
            }
            tokens.push(word);
        } else if c == ':' && chars.next_if_eq(&':').is_some() {
            tokens.push("::".to_owned());
        } else if !c.is_whitespace() {
            tokens.push(c.to_string());
        }
    }
    tokens
}

/// Every path in the code, the trees of `use` spread out: `use a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts = is_word(&tokens[at])
            && tokens[at] != "use"
            && (at == 0 || tokens[at - 1] != "::" || !follows_word(tokens, at));
        let leads_on = tokens.get(at + 1).is_some_and(|next| next == "::");
        let used_whole = at > 0 && (tokens[at - 1] == "use" || tokens[at - 1] == "crate");
        if starts && (leads_on || used_whole) {
            at = spread(tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Whether the `::` before `at` continues a path; a leading `::name` begins one.
fn follows_word(tokens: &[String], at: usize) -> bool {
    at >= 2 && (is_word(&tokens[at - 2]) && tokens[at - 2] != "use" || tokens[at - 2] == ">")
}

/// Reads one tree behind `before` into `found`; the index behind it.
fn spread(tokens: &[String], mut at: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(at) {
        if token == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token != "}") {
                let next = spread(tokens, at, &path, found);
                at = if next == at { at + 1 } else { next };
            }
            return at + 1;
        }
        if !is_word(token) && token != "*" {
            return at;
        }
        // `use a::{self}` is `a`.
        if token != "self" || path.is_empty() {
            path.push(token.clone());
        }
        at += 1;
        if tokens.get(at).is_some_and(|token| token == "::")
            && tokens.get(at + 1).is_some_and(|next| is_word(next) || next == "{" || next == "*")
        {
            at += 1;
        } else {
            break;
        }
    }
    found.push(path);
    // `a as b` inside a tree: the new name is no path.
    if tokens.get(at).is_some_and(|token| token == "as") && !before.is_empty() { at + 2 } else { at }
}

fn judged(module: &str, text: &str) -> Vec<String> {
    judge(&module_of(Path::new(module)), text)
}

#[test]
fn the_checker_finds_what_is_forbidden() {
    let cases = [
        ("tags.rs", "use crate::model::Agent;"),
        ("route.rs", "fn f() -> crate::tags::Tag { todo() }"),
        ("model.rs", "use crate::{tags::Tag, store::{self, Row}};"),
        ("model.rs", "use super::store::Row;"),
        ("decide.rs", "use std::time::SystemTime;"),
        ("decide.rs", "use std::time; fn f() { time::Instant::now(); }"),
        ("decide.rs", "use std::{fmt, fs};"),
        ("decide.rs", "use std::net::{IpAddr, TcpStream};"),
        ("directory.rs", "async fn f() { tokio::task::yield_now().await }"),
        ("directory.rs", "use keyward_proto::query::Reason;"),
        ("directory.rs", "use ::keyward_proto::query;"),
        ("registry.rs", "use redb::Database;"),
        ("registry.rs", "use redb as db;"),
        ("registry.rs", "fn f(v: Vec<redb::Database>) {}"),
        ("registry.rs", "use crate::serve::query;"),
        ("serve/query.rs", "use crate::store::Store;"),
        ("serve/query.rs", "use super::admin::listen;"),
        ("serve/http.rs", "use crate::serve::{peer, query::answer};"),
        ("serve/http/parse.rs", "use super::super::query::answer;"),
        ("serve/query.rs", "use super::super::decide::decide;"),
        ("store/rows.rs", "use crate::registry::Registry;"),
        ("cli/mod.rs", "use crate::daemon;"),
        ("config.rs", "use crate::tags::Tag;"),
        ("main.rs", "use keyward::registry::Registry;"),
        ("lib.rs", "pub mod tags; pub use crate::tags::Tag;"),
        ("store.rs", "use crate::Something;"),
        ("store.rs", "use crate::*;"),
        ("shared.rs", ""),
        ("serve/common.rs", ""),
        ("cli/utils.rs", ""),
        ("tags.rs", "#[cfg(test)] mod tests { use crate::store::Row; }\nuse crate::model::Agent;"),
        ("tags.rs", "const A: char = '\"'; use crate::model::Agent; const B: char = '\"';"),
        ("tags.rs", "fn f<'a>(x: &'a str) { crate::store::open(x) }"),
        ("tags.rs", r##"const A: &str = r#"""#; use crate::model::Agent; const B: &str = "\"";"##),
    ];
    for (module, text) in cases {
        assert_ne!(judged(module, text), Vec::<String>::new(), "{module}: {text}");
    }
}

#[test]
fn the_checker_lets_pass_what_is_granted() {
    let cases = [
        ("model.rs", "use crate::{route::Template, tags::{Tag, TagSet as Set}};"),
        ("decide.rs", "use crate::directory::Directory; use std::net::IpAddr; use std::time::Duration;"),
        ("store.rs", "use redb::{Database, TableDefinition}; use crate::model::Change;"),
        ("store/rows.rs", "use super::Store; use bincode::Encode; use crate::store::mac;"),
        ("serve/mod.rs", "mod query; use query::listen; use self::admin::X; use crate::serve::http::Y;"),
        ("serve/query.rs", "use super::peer::Peer; use crate::registry::Registry; use keyward_proto::query;"),
        ("daemon.rs", "use crate::{config::Config, registry::Registry, serve, store::Store}; use tokio::runtime;"),
        ("main.rs", "use keyward::{cli, daemon}; fn main() { keyward::cli::run() }"),
        ("lib.rs", "//! [`crate::store`]\npub mod store;"),
        (
            "tags.rs",
            "// use crate::store::Row;\n/* crate::store /* nested */ redb::X */ const A: &str = \"crate::store::Row\";",
        ),
        ("tags.rs", "#[cfg(test)]\n#[allow(x)]\nmod tests { use crate::store::Row; fn f() { std::fs::read(\"}\"); } }"),
        ("tags.rs", "#[cfg(test)] mod tests;"),
        ("tags.rs", "pub(crate) fn f() {} mod inner { use super::Tag; }"),
        ("route.rs", "const A: &[u8] = br#\"redb::X\"#; const B: u8 = b'\\''; const C: &str = \"tokio::x\";"),
    ];
    for (module, text) in cases {
        assert_eq!(judged(module, text), Vec::<String>::new(), "{module}: {text}");
    }
}

#[test]
fn the_checker_of_the_wire_package_finds_the_daemon_and_a_second_codec() {
    let module = [String::from("query")];
    for text in [
        "use keyward::model::Agent;",
        "use redb::Key;",
        "bincode::config::standard()",
        "bincode::decode_from_slice(b, c)",
    ] {
        assert_ne!(judge_proto(&module, text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(judge_proto(&module, "use bincode::{Decode, Encode}; use crate::codec;"), Vec::<String>::new());
}

#[test]
fn the_readme_reader_finds_the_modules_of_the_first_cells() {
    let readme = "# x\n| module | may use (ours) | no |\n|---|---|---|\n| `tags`, `route` | – | a |\n| `serve/*` | `tags` | b |\n\n| `cli` |\n";
    let named = modules_of_the_readme(readme).unwrap();
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["route", "serve", "tags"]);
    assert_eq!(modules_of_the_readme("# nothing"), None);
}
