//! Which request each command sends.

use keyward_proto::admin::{
    AdminRequest, AgentPatch, CredentialPatch, EndpointPatch, Explain, Kind, List, Patch, Reach, Secret, Selector,
    SetText,
};
use keyward_proto::query::Mode;

use super::{refused, stderr, stdout, text, with_admin};

fn key(id: Option<u64>) -> CredentialPatch {
    CredentialPatch::new(Mode::Key, id)
}

fn set(patch: CredentialPatch) -> AdminRequest {
    AdminRequest::Set(Patch::Credential(patch))
}

fn add(patch: CredentialPatch) -> AdminRequest {
    AdminRequest::Add(Patch::Credential(patch))
}

fn pairs(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

fn assert_sends(table: Vec<(&[&str], AdminRequest)>) {
    for (words, wanted) in table {
        let (output, seen) = with_admin(words, "typed-code\n", vec![refused(None)]);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "keyward: not done: no; try\\u{1b} again\n", "{words:?}");
        assert!(seen == [wanted], "{words:?} sent something else");
    }
}

#[test]
fn key_commands_send_what_was_typed() {
    let label = |label: &str| Some(label.to_owned());
    assert_sends(vec![
        (
            &["key", "add", "s", "--agent", "4", "--tags", "-*.delete, *"],
            add(CredentialPatch {
                label: label("s"),
                agent: Some(4),
                superuser: Some(false),
                tags: text("-*.delete, *"),
                ..key(None)
            }),
        ),
        (
            &[
                "key",
                "add",
                "s",
                "--superuser",
                "--default-agent",
                "1",
                "--id",
                "9",
                "--code-stdin",
                "--tags",
                "[\"a\"]",
            ],
            add(CredentialPatch {
                label: label("s"),
                superuser: Some(true),
                default_agent: Some(Some(1)),
                code: Some(Secret::new(b"typed-code".to_vec())),
                tags: Some(SetText::Items(vec!["a".into()])),
                ..key(Some(9))
            }),
        ),
        (
            &[
                "key",
                "set",
                "4",
                "--expires",
                "2030-01-01T00:00:00Z",
                "--not-before",
                "5",
                "--allow-ip",
                "::1",
                "--label",
                "-x",
            ],
            set(CredentialPatch {
                label: label("-x"),
                expires_at: Some(Some(1_893_456_000)),
                not_before: Some(Some(5)),
                allow_ip: Some(Some(vec!["::1".into()])),
                ..key(Some(4))
            }),
        ),
        (
            &[
                "key",
                "set",
                "4",
                "--expires",
                "never",
                "--not-before",
                "never",
                "--allow-ip",
                "any",
                "--default-agent",
                "none",
            ],
            set(CredentialPatch {
                expires_at: Some(None),
                not_before: Some(None),
                allow_ip: Some(None),
                default_agent: Some(None),
                ..key(Some(4))
            }),
        ),
        (
            &["key", "set", "4", "--agent", "7"],
            set(CredentialPatch { agent: Some(7), superuser: Some(false), ..key(Some(4)) }),
        ),
        (&["key", "set", "4", "--superuser"], set(CredentialPatch { superuser: Some(true), ..key(Some(4)) })),
        (&["key", "enable", "4"], set(CredentialPatch { enabled: Some(true), ..key(Some(4)) })),
        (&["key", "disable", "4"], set(CredentialPatch { enabled: Some(false), ..key(Some(4)) })),
        (&["key", "show", "4"], AdminRequest::Show(Selector::Credential(Mode::Key, 4))),
        (&["key", "revoke", "4"], AdminRequest::Remove(Selector::Credential(Mode::Key, 4))),
        (&["key", "list"], AdminRequest::List(List { kind: Kind::Key, after: vec![] })),
    ]);
}

#[test]
fn agent_commands_send_what_was_typed() {
    let agent = |id| AgentPatch { id, ..AgentPatch::default() };
    let name = |name: &str| Some(name.to_owned());
    assert_sends(vec![
        (
            &["agent", "add", "Ann", "--permissions", "*", "--attribute", "a=b=c", "--attribute", "d="],
            AdminRequest::Add(Patch::Agent(AgentPatch {
                name: name("Ann"),
                permissions: text("*"),
                attributes: pairs(&[("a", "b=c"), ("d", "")]),
                ..agent(None)
            })),
        ),
        (
            &["agent", "set", "4", "--name", "Bo", "--permissions", "-a,*", "--attribute", "none"],
            AdminRequest::Set(Patch::Agent(AgentPatch {
                name: name("Bo"),
                permissions: text("-a,*"),
                attributes: pairs(&[]),
                ..agent(Some(4))
            })),
        ),
        (
            &["agent", "disable", "4"],
            AdminRequest::Set(Patch::Agent(AgentPatch { enabled: Some(false), ..agent(Some(4)) })),
        ),
        (&["agent", "remove", "4"], AdminRequest::Remove(Selector::Agent(4))),
    ]);
}

#[test]
fn endpoint_token_session_and_explain_commands_send_what_was_typed() {
    let endpoint = || Selector::Endpoint { method: "GET".into(), path: "/a/{id}".into() };
    assert_sends(vec![
        (
            &["endpoint", "add", "GET", "/a/{id}", "--tags", "a.b,c", "--modes", "key,token"],
            AdminRequest::Add(Patch::Endpoint(EndpointPatch {
                method: "GET".into(),
                path: "/a/{id}".into(),
                tags: Some(vec!["a.b".into(), "c".into()]),
                modes: Some(vec!["key".into(), "token".into()]),
            })),
        ),
        (&["endpoint", "show", "GET", "/a/{id}"], AdminRequest::Show(endpoint())),
        (&["endpoint", "remove", "GET", "/a/{id}"], AdminRequest::Remove(endpoint())),
        (
            &["endpoint", "list", "--allowed-for", "token:18", "--agent", " +4"],
            AdminRequest::Reach(Reach { mode: Mode::Token, id: 18, agent: Some(b" +4".to_vec()), after: vec![] }),
        ),
        (&["endpoint", "list", "--tag", "a.*"], AdminRequest::List(List { kind: Kind::Endpoint, after: vec![] })),
        (
            &["token", "issue", "ci", "--agent", "1", "--app", "3", "--tags", "a"],
            add(CredentialPatch {
                label: Some("ci".into()),
                agent: Some(1),
                app_id: Some(Some(3)),
                tags: text("a"),
                ..CredentialPatch::new(Mode::Token, None)
            }),
        ),
        (&["token", "revoke", "4"], AdminRequest::Remove(Selector::Credential(Mode::Token, 4))),
        (&["session", "close", "4"], AdminRequest::Remove(Selector::Credential(Mode::Session, 4))),
        (
            &["explain", "--session", "2", "--agent", "", "--ip", "x", "GET", "/a?b"],
            AdminRequest::Explain(Explain {
                mode: Mode::Session,
                id: 2,
                agent: Some(vec![]),
                address: Some(b"x".to_vec()),
                method: b"GET".to_vec(),
                path: b"/a?b".to_vec(),
            }),
        ),
    ]);
}

#[test]
fn a_session_and_a_token_expire_so_long_from_now() {
    for words in [
        &["session", "open", "--agent", "1", "--ttl", "8h"][..],
        &["token", "issue", "x", "--agent", "1", "--ttl", "8h"],
    ] {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let (_, seen) = with_admin(words, "", vec![refused(None)]);
        let [AdminRequest::Add(Patch::Credential(patch))] = &seen[..] else { panic!("{words:?}") };
        let expires = patch.expires_at.unwrap().unwrap();
        assert!((now + 8 * 3600..now + 8 * 3600 + 60).contains(&expires), "{expires}");
    }
}

#[test]
fn input_that_is_refused_here_never_reaches_the_daemon() {
    for words in [
        &["agent", "set", "4"][..],
        &["key", "set", "4"],
        &["agent", "add", "A", "--permissions", "[1]"],
        &["agent", "add", "A", "--permissions", "*", "--attribute", "a"],
        &["agent", "set", "4", "--attribute", "none", "--attribute", "a=b"],
        &["key", "set", "4", "--allow-ip", "any", "--allow-ip", "::1"],
        &["apply", "/nonexistent/world.json"],
        &["apply", "-"],
        &["endpoint", "import", "/nonexistent/api.yaml"],
        &["endpoint", "import", "-"],
    ] {
        let (output, seen) = with_admin(words, "{\"keys\": 5}", vec![]);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert!(seen.is_empty() && stdout(&output).is_empty() && stderr(&output).starts_with("keyward: "), "{words:?}");
    }
}
