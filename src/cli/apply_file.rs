//! Reading an apply file: JSON, TOML or YAML into patches, or the place at which it is refused.

use std::path::Path;

use keyward_proto::admin::{Kind, Patch, UPLOAD_BYTES_MAX};

use super::apply_forms::{FileForm, Object};
use super::file::{self, FileError, Syntax};

/// More text than this can't become an upload that the daemon takes.
const FILE_BYTES_MAX: u64 = UPLOAD_BYTES_MAX as u64;

/// A file's records and which sections it has.
pub(super) struct ApplyFile(FileForm);

impl ApplyFile {
    /// Reads `file`, or standard input for [`STDIN`](file::STDIN).
    pub(super) fn read(file: &Path) -> Result<Self, FileError> {
        Self::parse(&file::read(file, FILE_BYTES_MAX)?, Syntax::of(file))
    }

    pub(super) fn parse(text: &[u8], syntax: Syntax) -> Result<Self, FileError> {
        file::parse(text, syntax).map(|Object(form)| Self(form))
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use keyward_proto::admin::{AgentPatch, CredentialPatch, EndpointPatch, Secret, SetText};
    use keyward_proto::query::Mode;

    use super::super::file::STDIN;
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
    fn yaml_says_the_same_as_json() {
        let text = "agents:\n  - {id: 1, name: Admin, permissions: '*', enabled: true, attributes: {b: '2'}}\nendpoints:\n  \
                    - method: GET\n    path: /a/{id}\n    tags: [a.b]\nkeys:\n  - id: 2\n    code: YWK2PGCS8CNW62SR8TBTBKWMY\n    \
                    superuser: true\n    default_agent: ~\n    tags: |\n      a.*\n      -*.delete\n    expires_at: 9\n";
        let same = r#"{"agents": [{"id": 1, "name": "Admin", "permissions": "*", "enabled": true, "attributes": {"b": "2"}}],
            "endpoints": [{"method": "GET", "path": "/a/{id}", "tags": ["a.b"]}],
            "keys": [{"id": 2, "code": "YWK2PGCS8CNW62SR8TBTBKWMY", "superuser": true, "default_agent": null,
                      "tags": "a.*\n-*.delete\n", "expires_at": 9}]}"#;
        assert!(read(text, Syntax::Yaml).unwrap() == json(same).unwrap());
    }

    #[test]
    fn refused_yaml_is_named_with_its_place_and_shows_no_value() {
        for (text, message) in [
            ("keys:\n  - id: 1\n    labl: x", "line 3, column 5: unknown field `labl`"),
            ("keys:\n  - id: 1\n    id: 2", "line 3, column 5: duplicate key `id`"),
            ("keys: []\nkeys: []", "line 2, column 1: duplicate key `keys`"),
            ("agents:\n  - id: 1\n    attributes: {a: '1', a: '2'}", "duplicate key `a`"),
            ("keys:\n  - id: SECRETSECRET", "line 2, column 9: expected u64"),
            ("keys:\n  - id: 1\n    enabled: yes", "expected true or false"),
            ("keys:\n  - id: 1\n    enabled: ~", ""),
            ("keys:\n  - id: 1\n    code: 12345678", "a code is a string, not a number"),
            ("keys:\n  - id: 1\n    code: [SECRETSECRET]", "expected a code"),
            ("keys:\n  - id: 1\n    code: {SECRETSECRET: 1}", "expected a code"),
            ("keys:\n  - id: 1\n    code: *SECRETSECRET", "line 3"),
            ("keys:\n  - id: 1\n    code: !SECRETSECRET x", ""),
            ("keys:\n  - id: 1\n    code: @SECRETSECRET", "line 3"),
            ("keys:\n  - id: 1\n    code: 'SECRETSECRET", "line 3"),
            ("keys:\n  - id: 1\n    code: a: SECRETSECRET", "line 3"),
            ("keys: SECRETSECRET", "line 1, column 7: "),
            ("- SECRETSECRET", "line 1, column 1: "),
            ("keys: []\n---\nkeys: []", "a second document"),
        ] {
            let error = read(text, Syntax::Yaml).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(error.contains(message) && !error.contains("SECRET"), "{text}: {error}");
        }
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
