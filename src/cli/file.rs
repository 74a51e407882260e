//! Reading a file of JSON, TOML or YAML into a form, or the place at which it is refused.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error as YamlError, Options};
use zeroize::Zeroizing;

/// To begin with, for what doesn't tell its size.
const READ_BYTES: usize = 64 * 1024;
/// What `FILE` is for standard input.
pub(super) const STDIN: &str = "-";

/// What a YAML file may cost. Aliases are counted as often as they are used, so that a short file can't stand for an
/// endless one: these bound what is read after they are followed.
mod yaml_bounds {
    /// The largest public descriptions of interfaces have two million.
    pub(super) const NODES_MAX: usize = 16 * 1024 * 1024;
    /// A node has at most a beginning and an end.
    pub(super) const EVENTS_MAX: usize = 2 * NODES_MAX + 1024;
    /// Text of all values together, as often as it is used.
    pub(super) const TEXT_BYTES_MAX: usize = 256 * 1024 * 1024;
    /// Reading takes up to 20 KiB of stack a level, in a build for tests; descriptions are seldom nested half as deep.
    pub(super) const DEPTH_MAX: usize = 64;
    /// Anchors are a convenience here and there, not how a file is built.
    pub(super) const ALIASES_MAX: usize = 10_000;
    /// What all aliases together may stand for.
    pub(super) const REPLAYED_EVENTS_MAX: usize = 1_000_000;
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Json,
    Toml,
    Yaml,
}

impl Syntax {
    /// By the file's name; JSON when that doesn't tell.
    pub(super) fn of(file: &Path) -> Self {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Self::Toml,
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::Json,
        }
    }
}

/// Why a file gives nothing.
#[derive(Debug)]
pub(super) enum FileError {
    Unreadable(io::Error),
    TooLarge { bytes_max: u64 },
    Refused { line: usize, column: usize, why: String },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(f, "{cause}; name a readable file"),
            Self::TooLarge { bytes_max } => write!(f, "it is over {} MiB; split it", bytes_max >> 20),
            Self::Refused { line, column, why } => {
                write!(f, "line {line}, column {column}: {why}; correct it, nothing was changed")
            }
        }
    }
}

/// The bytes of `file`, or of standard input for [`STDIN`].
pub(super) fn read(file: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    if file.as_os_str() == STDIN {
        return read_bounded(io::stdin().lock(), READ_BYTES, bytes_max);
    }
    let open = File::open(file).map_err(FileError::Unreadable)?;
    let size = open.metadata().map_or(0, |m| m.len()).min(bytes_max);
    read_bounded(open, usize::try_from(size).unwrap_or(READ_BYTES) + 1, bytes_max)
}

/// The text is wiped after use: it may hold codes. With its size known beforehand it isn't copied while it grows.
fn read_bounded(source: impl Read, capacity: usize, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    source.take(bytes_max + 1).read_to_end(&mut text).map_err(FileError::Unreadable)?;
    if text.len() as u64 > bytes_max { Err(FileError::TooLarge { bytes_max }) } else { Ok(text) }
}

/// The form that `text` is.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8], syntax: Syntax) -> Result<T, FileError> {
    match syntax {
        Syntax::Json => parse_json(text),
        Syntax::Toml => parse_toml(text),
        Syntax::Yaml => parse_yaml(text),
    }
}

fn parse_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, FileError> {
    serde_json::from_slice(text).map_err(|e| {
        let place = format!(" at line {} column {}", e.line(), e.column());
        let message = e.to_string();
        let why = without_value(message.strip_suffix(&place).unwrap_or(&message));
        FileError::Refused { line: e.line(), column: e.column(), why }
    })
}

fn parse_toml<T: DeserializeOwned>(text: &[u8]) -> Result<T, FileError> {
    toml::from_str(utf8(text)?).map_err(|e| {
        let start = e.span().map_or(0, |span| span.start);
        refused_at(text, start, without_value(&e.message().replace('\n', "; ")))
    })
}

fn parse_yaml<T: DeserializeOwned>(text: &[u8]) -> Result<T, FileError> {
    serde_saphyr::from_str_with_options(utf8(text)?, yaml_options()).map_err(|e| {
        let (line, column) = e.location().map_or((1, 1), |place| (place.line(), place.column()));
        let number = |n| usize::try_from(n).unwrap_or(usize::MAX);
        FileError::Refused { line: number(line), column: number(column), why: yaml_reason(&e) }
    })
}

fn yaml_options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: yaml_bounds::NODES_MAX,
            max_events: yaml_bounds::EVENTS_MAX,
            max_total_scalar_bytes: yaml_bounds::TEXT_BYTES_MAX,
            max_depth: yaml_bounds::DEPTH_MAX,
            max_aliases: yaml_bounds::ALIASES_MAX,
            // The bounds on what aliases stand for say it better.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: yaml_bounds::REPLAYED_EVENTS_MAX, },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        // `!name` means nothing here; a text that begins so is to be quoted.
        reject_unsupported_tags: true,
        // An excerpt of the file may show a code.
        with_snippet: false,
    }
}

/// What is wrong, in words that never show a value, which may be a code in the wrong place.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's set is open, and what is not known may quote the text"
)]
fn yaml_reason(error: &YamlError) -> String {
    match error.without_snippet() {
        YamlError::Message { msg, .. } => without_value(msg),
        YamlError::SerdeInvalidType { unexpected, expected, .. } => {
            format!("invalid type: {}, expected {expected}", kind_of_value(unexpected))
        }
        YamlError::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("invalid value: {}, expected {expected}", kind_of_value(unexpected))
        }
        YamlError::SerdeUnknownField { field, .. } if is_field_like(field) => format!("unknown field `{field}`"),
        YamlError::SerdeUnknownField { .. } => "unknown field".to_owned(),
        YamlError::SerdeMissingField { field, .. } => format!("missing field `{field}`"),
        YamlError::DuplicateMappingKey { key: Some(key), .. } if is_field_like(key) => format!("duplicate key `{key}`"),
        YamlError::DuplicateMappingKey { .. } => "duplicate key".to_owned(),
        YamlError::Unexpected { expected, .. } => format!("expected {expected}"),
        YamlError::InvalidScalar { ty, .. } => format!("expected {ty}"),
        YamlError::InvalidBooleanStrict { .. } => "expected true or false".to_owned(),
        YamlError::NullIntoString { .. } => "invalid type: null, expected a string".to_owned(),
        YamlError::Eof { .. } => "the text ends too early".to_owned(),
        YamlError::MultipleDocuments { .. } => "a second document begins; write one".to_owned(),
        YamlError::UnknownAnchor { .. } => {
            "an alias `*name` without its anchor; quote a text that begins so".to_owned()
        }
        YamlError::AliasError { error, .. } => yaml_reason(error),
        YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. } => {
            "aliases stand for more than is taken; write it out".to_owned()
        }
        YamlError::Budget { .. } => {
            "it is larger, or nested deeper, than is taken, aliases counted as what they stand for".to_owned()
        }
        _ => "not YAML that can be read; look at quotes, colons and indentation".to_owned(),
    }
}

fn kind_of_value(unexpected: &str) -> &str {
    if unexpected.starts_with("string") { "string" } else { unexpected }
}

fn utf8(text: &[u8]) -> Result<&str, FileError> {
    str::from_utf8(text).map_err(|e| refused_at(text, e.valid_up_to(), "not UTF-8".to_owned()))
}

fn refused_at(text: &[u8], offset: usize, why: String) -> FileError {
    let before = &text[..offset.min(text.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    FileError::Refused { line, column, why }
}

/// Longer than any field's name, mistyped.
const SHOWN_NAME_BYTES_MAX: usize = 24;

/// Serde quotes the string or the field's name that it did not want, which may be a code in the wrong place, or behind a
/// lost quotation mark: the place says enough.
fn without_value(message: &str) -> String {
    for start in ["invalid type: string \"", "invalid value: string \""] {
        if let (true, Some(end)) = (message.starts_with(start), message.rfind("\", expected ")) {
            return format!("{}{}", start.trim_end_matches(" \""), &message[end + 1..]);
        }
    }
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some(end) = rest.rfind("`, expected one of ").or_else(|| rest.rfind("`, expected `"))
        && !is_field_like(&rest[..end])
    {
        return format!("unknown field{}", &rest[end + 1..]);
    }
    message.to_owned()
}

/// What a slip makes of a field's name, and no code that was ever made is.
pub(super) fn is_field_like(name: &str) -> bool {
    name.len() <= SHOWN_NAME_BYTES_MAX && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde_json::Value;

    use super::*;

    fn yaml(text: &str) -> Result<Value, String> {
        parse(text.as_bytes(), Syntax::Yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn aliases_are_followed() {
        let value = yaml("a: &x [1, 2]\nb: *x\nc: &y {d: 1}\ne: {<<: *y, f: 2}").unwrap();
        assert_eq!(value.to_string(), r#"{"a":[1,2],"b":[1,2],"c":{"d":1},"e":{"d":1,"f":2}}"#);
    }

    #[test]
    fn a_short_yaml_file_cannot_stand_for_an_endless_one() {
        let mut laughs = String::from("x0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n");
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs.push_str(&format!("x{level}: &a{level} [{aliases}]\n"));
        }
        let wide = format!("- &k {}\n{}", "a".repeat(1 << 20), "- *k\n".repeat(9_000));
        let many = format!("- &k a\n{}", "- *k\n".repeat(yaml_bounds::ALIASES_MAX + 1));
        let deep_flow = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let deep_block: String = (0..200).map(|n| format!("{}-\n", " ".repeat(n))).collect();
        for (name, text, why) in [
            ("laughs", laughs, "larger, or nested deeper"),
            ("wide", wide, "larger, or nested deeper"),
            ("many", many, "larger, or nested deeper"),
            ("deep_flow", deep_flow, "larger, or nested deeper"),
            ("deep_block", deep_block, "larger, or nested deeper"),
        ] {
            let error = yaml(&text).map(drop).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert!(yaml(&format!("{}{}", "[".repeat(60), "]".repeat(60))).is_ok());
    }
}
