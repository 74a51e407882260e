//! Reading an apply file: JSON or TOML into patches, or the place at which it is refused.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use keyward_proto::admin::{Kind, Patch, UPLOAD_BYTES_MAX};
use zeroize::Zeroizing;

use super::apply_forms::{FileForm, Object};

/// More text than this can't become an upload that the daemon takes.
const FILE_BYTES_MAX: u64 = UPLOAD_BYTES_MAX as u64;
/// To begin with, for what doesn't tell its size.
const READ_BYTES: usize = 64 * 1024;
/// What `FILE` is for standard input.
pub(super) const STDIN: &str = "-";

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Json,
    Toml,
}

impl Syntax {
    pub(super) fn of(file: &Path) -> Self {
        if file.extension().is_some_and(|extension| extension == "toml") { Self::Toml } else { Self::Json }
    }
}

/// Why a file gives no patches.
#[derive(Debug)]
pub(super) enum FileError {
    Unreadable(io::Error),
    TooLarge,
    Refused { line: usize, column: usize, why: String },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(f, "{cause}; name a readable file"),
            Self::TooLarge => write!(f, "it is over {} MiB; split it", FILE_BYTES_MAX >> 20),
            Self::Refused { line, column, why } => {
                write!(f, "line {line}, column {column}: {why}; correct it, nothing was changed")
            }
        }
    }
}

/// A file's records and which sections it has.
pub(super) struct ApplyFile(FileForm);

impl ApplyFile {
    /// Reads `file`, or standard input for [`STDIN`].
    pub(super) fn read(file: &Path) -> Result<Self, FileError> {
        let text = if file.as_os_str() == STDIN {
            read_bounded(io::stdin().lock(), READ_BYTES)
        } else {
            let open = File::open(file).map_err(FileError::Unreadable)?;
            let size = open.metadata().map_or(0, |m| m.len()).min(FILE_BYTES_MAX);
            read_bounded(open, usize::try_from(size).unwrap_or(READ_BYTES) + 1)
        }?;
        Self::parse(&text, Syntax::of(file))
    }

    pub(super) fn parse(text: &[u8], syntax: Syntax) -> Result<Self, FileError> {
        match syntax {
            Syntax::Json => parse_json(text),
            Syntax::Toml => parse_toml(text),
        }
        .map(|Object(form)| Self(form))
    }

    /// In the order of a file's sections in the contract.
    pub(super) fn sections(&self) -> Vec<Kind> {
        let FileForm { agents, endpoints, keys, tokens, sessions } = &self.0;
        [
            (Kind::Agent, agents.is_some()),
            (Kind::Endpoint, endpoints.is_some()),
            (Kind::Key, keys.is_some()),
            (Kind::Token, tokens.is_some()),
            (Kind::Session, sessions.is_some()),
        ]
        .into_iter()
        .filter_map(|(kind, is_there)| is_there.then_some(kind))
        .collect()
    }

    /// Each section's records in the file's order, so that the daemon can name one by its place.
    pub(super) fn into_patches(self) -> impl Iterator<Item = Patch> {
        let FileForm { agents, endpoints, keys, tokens, sessions } = self.0;
        patches(agents).chain(patches(endpoints)).chain(patches(keys)).chain(patches(tokens)).chain(patches(sessions))
    }
}

fn patches<T: Into<Patch>>(section: Option<Vec<Object<T>>>) -> impl Iterator<Item = Patch> {
    section.unwrap_or_default().into_iter().map(|Object(form)| form.into())
}

/// The text is wiped after use: it holds codes. With its size known beforehand it isn't copied while it grows.
fn read_bounded(source: impl Read, capacity: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    source.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(FileError::Unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX { Err(FileError::TooLarge) } else { Ok(text) }
}

fn parse_json(text: &[u8]) -> Result<Object<FileForm>, FileError> {
    serde_json::from_slice(text).map_err(|e| {
        let place = format!(" at line {} column {}", e.line(), e.column());
        let message = e.to_string();
        let why = without_value(message.strip_suffix(&place).unwrap_or(&message));
        FileError::Refused { line: e.line(), column: e.column(), why }
    })
}

fn parse_toml(text: &[u8]) -> Result<Object<FileForm>, FileError> {
    let text = str::from_utf8(text).map_err(|e| refused_at(text, e.valid_up_to(), "not UTF-8".to_owned()))?;
    toml::from_str(text).map_err(|e| {
        let start = e.span().map_or(0, |span| span.start);
        refused_at(text.as_bytes(), start, without_value(&e.message().replace('\n', "; ")))
    })
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
fn is_field_like(name: &str) -> bool {
    name.len() <= SHOWN_NAME_BYTES_MAX && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use keyward_proto::admin::{AgentPatch, CredentialPatch, EndpointPatch, Secret, SetText};
    use keyward_proto::query::Mode;

    use super::*;

    fn json(text: &str) -> Result<Vec<Patch>, String> {
        read(text, Syntax::Json)
    }

    fn read(text: &str, syntax: Syntax) -> Result<Vec<Patch>, String> {
        let file = ApplyFile::parse(text.as_bytes(), syntax).map_err(|e| e.to_string())?;
        Ok(file.into_patches().collect())
    }

    #[test]
    fn every_field_of_every_section_is_read() {
        let text = r#"{ "agents": [{"id": 1, "name": "Admin", "permissions": "*", "enabled": true, "attributes": {"b": "2", "a": "1"}}],
            "endpoints": [{"method": "GET", "path": "/a", "tags": ["a.b"], "modes": ["key"]}],
            "keys": [{"id": 2, "label": "s", "code": "AAAAAAAA", "superuser": true, "default_agent": 1, "tags": ["*", "-a"],
                      "enabled": false, "revoked": true, "not_before": 1, "expires_at": 2, "allow_ip": ["::1"]}],
            "tokens": [{"id": 18, "code": "BBBBBBBB", "agent": 1, "app_id": 5, "tags": "a, b"}],
            "sessions": [{"id": 7, "agent": 4, "expires_at": 9}] }"#;
        let wanted = vec![
            Patch::Agent(AgentPatch {
                id: Some(1),
                name: Some("Admin".into()),
                permissions: Some(SetText::Text("*".into())),
                enabled: Some(true),
                attributes: Some(vec![("b".into(), "2".into()), ("a".into(), "1".into())]),
            }),
            Patch::Endpoint(EndpointPatch {
                method: "GET".into(),
                path: "/a".into(),
                tags: Some(vec!["a.b".into()]),
                modes: Some(vec!["key".into()]),
            }),
            Patch::Credential(CredentialPatch {
                label: Some("s".into()),
                code: Some(Secret::new(b"AAAAAAAA".to_vec())),
                superuser: Some(true),
                default_agent: Some(Some(1)),
                tags: Some(SetText::Items(vec!["*".into(), "-a".into()])),
                enabled: Some(false),
                revoked: Some(true),
                not_before: Some(Some(1)),
                expires_at: Some(Some(2)),
                allow_ip: Some(Some(vec!["::1".into()])),
                ..CredentialPatch::new(Mode::Key, Some(2))
            }),
            Patch::Credential(CredentialPatch {
                code: Some(Secret::new(b"BBBBBBBB".to_vec())),
                agent: Some(1),
                app_id: Some(Some(5)),
                tags: Some(SetText::Text("a, b".into())),
                ..CredentialPatch::new(Mode::Token, Some(18))
            }),
            Patch::Credential(CredentialPatch {
                agent: Some(4),
                expires_at: Some(Some(9)),
                ..CredentialPatch::new(Mode::Session, Some(7))
            }),
        ];
        assert!(json(text) == Ok(wanted));
    }

    #[test]
    fn absent_null_and_a_value_are_three_things() {
        let text = r#"{"keys": [{"id": 1}, {"id": 1, "expires_at": null, "not_before": null, "allow_ip": null, "default_agent": null, "agent": null}],
                       "tokens": [{"id": 1, "app_id": null}]}"#;
        let cleared = CredentialPatch {
            expires_at: Some(None),
            not_before: Some(None),
            allow_ip: Some(None),
            default_agent: Some(None),
            ..CredentialPatch::new(Mode::Key, Some(1))
        };
        let token = CredentialPatch { app_id: Some(None), ..CredentialPatch::new(Mode::Token, Some(1)) };
        let wanted = [CredentialPatch::new(Mode::Key, Some(1)), cleared, token].map(Patch::Credential).to_vec();
        assert!(json(text) == Ok(wanted));
    }

    #[test]
    fn only_the_sections_that_the_file_has_are_named() {
        for (text, sections) in [
            ("{}", &[][..]),
            (r#"{"sessions": [], "agents": []}"#, &[Kind::Agent, Kind::Session]),
            (r#"{"keys": [{"id": 1}], "endpoints": [], "tokens": []}"#, &[Kind::Endpoint, Kind::Key, Kind::Token]),
        ] {
            let file = ApplyFile::parse(text.as_bytes(), Syntax::Json).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(file.sections(), sections);
        }
    }

    #[test]
    fn toml_says_the_same() {
        let toml = "[[agents]]\nid = 1\nname = 'A'\npermissions = ['*']\nattributes = { a = '1' }\n\
                    [[keys]]\nid = 2\nagent = 1\ncode = 'AAAAAAAA'\ntags = '-a, *'\n";
        let same = r#"{"agents": [{"id": 1, "name": "A", "permissions": ["*"], "attributes": {"a": "1"}}],
                       "keys": [{"id": 2, "agent": 1, "code": "AAAAAAAA", "tags": "-a, *"}]}"#;
        assert!(read(toml, Syntax::Toml) == json(same));
        assert_eq!(Syntax::of(Path::new("a/world.toml")), Syntax::Toml);
        assert_eq!(Syntax::of(Path::new("world.json")), Syntax::Json);
        assert_eq!(Syntax::of(Path::new(STDIN)), Syntax::Json);
    }

    #[test]
    fn what_is_refused_is_named_with_its_place() {
        for (text, message) in [
            ("", "line 1, column 0: EOF while parsing a value"),
            ("[]", "line 1, column 0: invalid type: sequence, expected an object"),
            ("null", "invalid type: null, expected an object"),
            ("{\n \"agent\": []}", "line 2, column 8: unknown field `agent`, expected one of `agents`, `endpoints`"),
            (r#"{"keys": []} {}"#, "line 1, column 14: trailing characters"),
            (r#"{"keys": [], "keys": []}"#, "duplicate field `keys`"),
            (r#"{"keys": null}"#, "invalid type: null, expected a sequence"),
            (r#"{"keys": {}}"#, "invalid type: map, expected a sequence"),
            (r#"{"keys": [[2, true]]}"#, "invalid type: sequence, expected an object"),
            (r#"{"keys": [{}]}"#, "missing field `id`"),
            ("{\"keys\": [{\"id\": 1},\n{\"id\": 2, \"labl\": \"\"}]}", "line 2, column 16: unknown field `labl`"),
            (r#"{"keys": [{"id": 1, "id": 2}]}"#, "duplicate field `id`"),
            (r#"{"keys": [{"id": "1"}]}"#, "invalid type: string, expected u64"),
            (r#"{"keys": [{"id": 1.5}]}"#, "invalid type: floating point `1.5`, expected u64"),
            (r#"{"keys": [{"id": -1}]}"#, "invalid value: integer `-1`, expected u64"),
            (r#"{"keys": [{"id": 99999999999999999999}]}"#, "expected u64"),
            (r#"{"keys": [{"id": null}]}"#, "invalid type: null, expected u64"),
            (r#"{"keys": [{"id": 1, "app_id": 2}]}"#, "unknown field `app_id`"),
            (r#"{"keys": [{"id": 1, "tags": 5}]}"#, "expected a tag set: a string or an array of strings"),
            (r#"{"keys": [{"id": 1, "tags": null}]}"#, "invalid type: null, expected a tag set"),
            (r#"{"keys": [{"id": 1, "tags": ["a", 5]}]}"#, "invalid type: integer `5`, expected a string"),
            (r#"{"keys": [{"id": 1, "enabled": "yes"}]}"#, "invalid type: string, expected a boolean"),
            (r#"{"keys": [{"id": 1, "enabled": null}]}"#, "invalid type: null, expected a boolean"),
            (r#"{"keys": [{"id": 1, "label": null}]}"#, "invalid type: null, expected a string"),
            (r#"{"keys": [{"id": 1, "allow_ip": "::1"}]}"#, "invalid type: string, expected a sequence"),
            (r#"{"keys": [{"id": 1, "expires_at": "+30d"}]}"#, "invalid type: string, expected u64"),
            (r#"{"tokens": [{"id": 1, "superuser": true}]}"#, "unknown field `superuser`"),
            (r#"{"sessions": [{"id": 1, "app_id": null}]}"#, "unknown field `app_id`"),
            (r#"{"agents": [{"name": "A", "permissions": "*"}]}"#, "missing field `id`"),
            (r#"{"agents": [{"id": 1, "attributes": {"a": "1", "a": "2"}}]}"#, "duplicate attribute `a`"),
            (r#"{"agents": [{"id": 1, "attributes": {"a": 1}}]}"#, "invalid type: integer `1`, expected a string"),
            (r#"{"agents": [{"id": 1, "attributes": []}]}"#, "expected attributes: an object of strings"),
            (r#"{"agents": [{"id": 1, "state": "enabled"}]}"#, "unknown field `state`"),
            (r#"{"endpoints": [{"method": "GET"}]}"#, "missing field `path`"),
            (
                r#"{"endpoints": [{"method": "GET", "path": "/", "tags": "a.b"}]}"#,
                "invalid type: string, expected a sequence",
            ),
        ] {
            let error = json(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn refused_toml_is_named_with_its_place() {
        for (text, message) in [
            ("[[keys]]\nid = 1\nlabl = ''", "line 3, column 1: unknown field `labl`"),
            ("[[keys]]\nid = 1\nid = 2", "line 3, column 1: duplicate key"),
            ("[[keys]]\nid = 'SECRETSECRET'", "line 2, column 6: invalid type: string, expected u64"),
            ("keys = 1", "invalid type: integer `1`, expected a sequence"),
        ] {
            let error = read(text, Syntax::Toml).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(error.contains(message), "{text}: {error}");
        }
        let error = ApplyFile::parse(b"a = 1\nb = '\xff'", Syntax::Toml).err().map(|e| e.to_string());
        assert!(error.unwrap().starts_with("line 2, column 6: not UTF-8"));
    }

    #[test]
    fn no_refusal_shows_what_may_be_a_code() {
        for text in [
            r#"{"keys": [{"id": "SECRETSECRET"}]}"#,
            r#"{"keys": [{"id": 1, "enabled": "SECRET \", expected SECRET"}]}"#,
            r#"{"keys": [{"id": 1, "code": ["SECRETSECRET"]}]}"#,
            r#"{"keys": [{"id": 1, "code": {"SECRETSECRET": 1}}]}"#,
            r#"{"keys": [{"id": 1, "code": "SECRETSECRET"#,
            r#"{"keys": [{"id": 1, "code": "SECRETSECRET" "x": 1}]}"#,
            r#"{"keys": [{"id": 1, "code": SECRETSECRET}]}"#,
            r#"{"keys": [{"id": 1, "code:"SECRETSECRET":"x"}]}"#,
            r#"{"keys": [{"id": 1, "cod,SECRETSECRET": "x"}]}"#,
            r#"{"SECRETSECRET": []}"#,
            r#"{"keys": [{"id": 1, "`, expected one of `SECRET": "x"}]}"#,
        ] {
            let error = json(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(!error.contains("SECRET"), "{error}");
        }
        for number in ["12345678", "-12345678", "12345678.5", "true"] {
            let error = json(&format!(r#"{{"keys": [{{"id": 1, "code": {number}}}]}}"#)).err().unwrap();
            assert!(error.contains("a code is a string") && !error.contains(number), "{error}");
        }
        let error = read("[[keys]]\nid = 1\ncode = 'SECRETSECRET' x", Syntax::Toml).err().unwrap();
        assert!(!error.contains("SECRET"), "{error}");
    }
}
