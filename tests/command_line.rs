//! The real binary against a scripted daemon: which request each command sends, what it prints, its exit status.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, AgentRecord, Apply, CredentialPatch, CredentialRecord, Done, EndpointPatch,
    Explain, Explanation, Kind, List, Page, Patch, Record, RefusalKind, Refused, Report, Secret, Selector, SetText,
    StatusReport, Step, Upload,
};
use keyward_proto::frame;
use keyward_proto::query::{Asker, Check, Mode, QueryRequest, Reason, Target, VerdictRef, Who};
use tempfile::TempDir;

const SECRET: &str = "key 12:YWK2PGCS8CNW62SR8TBTBKWMY";

/// Runs `keyward` with `stdin` against a daemon that answers the admin requests with `replies`, one each; returns what
/// it printed and what it sent.
fn with_admin(words: &[&str], stdin: &str, replies: Vec<AdminReply>) -> (Output, Vec<AdminRequest>) {
    let runtime = TempDir::new().unwrap();
    let listener = UnixListener::bind(runtime.path().join("admin.sock")).unwrap();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut seen, mut replies, mut buffer) = (Vec::new(), replies.into_iter(), Vec::new());
        loop {
            let split = frame::split(&buffer, frame::ADMIN_FRAME_BYTES_MAX).unwrap();
            let Some((request, used)) = split else {
                let mut chunk = [0; 4096];
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => return seen,
                    Ok(read) => buffer.extend_from_slice(&chunk[..read]),
                }
                continue;
            };
            seen.push(AdminRequest::decode(&request).unwrap());
            let mut out = Vec::new();
            replies.next().expect("a reply for each request").put(&mut out, request.header.request_id);
            stream.write_all(&out).unwrap();
            buffer.drain(..used);
        }
    });
    let output = run(runtime.path(), words, stdin);
    // Wakes the daemon when the command ended without connecting.
    drop(std::os::unix::net::UnixStream::connect(runtime.path().join("admin.sock")));
    (output, daemon.join().unwrap())
}

fn run(runtime: &Path, words: &[&str], stdin: &str) -> Output {
    let mut child =
        command(runtime, words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that reads no input may be gone already.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    child.wait_with_output().unwrap()
}

fn command(runtime: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(words).env("KEYWARD_RUNTIME", runtime);
    command
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn refused(place: Option<(Kind, u64)>) -> AdminReply {
    AdminReply::Refused(Refused { kind: RefusalKind::Invalid, place, message: "not done: no; try\u{1b} again".into() })
}

fn key(id: Option<u64>) -> CredentialPatch {
    CredentialPatch::new(Mode::Key, id)
}

fn set(patch: CredentialPatch) -> AdminRequest {
    AdminRequest::Set(Patch::Credential(patch))
}

fn add(patch: CredentialPatch) -> AdminRequest {
    AdminRequest::Add(Patch::Credential(patch))
}

fn text(set: &str) -> Option<SetText> {
    Some(SetText::Text(set.into()))
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
            set(CredentialPatch { agent: Some(7), superuser: Some(false), default_agent: Some(None), ..key(Some(4)) }),
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
    ] {
        let (output, seen) = with_admin(words, "{\"keys\": 5}", vec![]);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert!(seen.is_empty() && stdout(&output).is_empty() && stderr(&output).starts_with("keyward: "), "{words:?}");
    }
}

fn record(id: u64) -> Record {
    Record::Credential(CredentialRecord {
        mode: Mode::Key,
        id,
        label: "two\nlines".into(),
        superuser: false,
        agent: Some(4),
        default_agent: None,
        app_id: None,
        tags: "*".into(),
        enabled: true,
        revoked: false,
        not_before: None,
        expires_at: Some(1_893_456_000),
        allow_ip: None,
        state: "enabled".into(),
        retiring_until: None,
        last_used: None,
        retiring_last_used: None,
    })
}

fn added() -> AdminReply {
    AdminReply::Done(Done { record: Some(record(12)), credential: Some(Secret::new(SECRET.into())) })
}

#[test]
fn a_new_code_is_printed_once_and_said_to_be() {
    let (output, _) = with_admin(&["key", "add", "s", "--agent", "4"], "", vec![added()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output).matches(SECRET).count(), 1);
    assert!(stdout(&output).contains("can't be shown again") && stdout(&output).contains("2030-01-01T00:00:00Z"));
    assert!(stdout(&output).contains("two\\nlines") && stderr(&output).is_empty());

    let (output, _) = with_admin(&["key", "add", "s", "--agent", "4", "--json"], "", vec![added()]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["credential"], &json["id"], &json["label"]), (&SECRET.into(), &12.into(), &"two\nlines".into()));
}

#[test]
fn a_new_code_that_could_not_be_printed_is_an_error() {
    let runtime = TempDir::new().unwrap();
    let listener = UnixListener::bind(runtime.path().join("admin.sock")).unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(stream.read(&mut [0; 4096]));
        let mut out = Vec::new();
        added().put(&mut out, 1);
        stream.write_all(&out).unwrap();
    });
    let output = command(runtime.path(), &["key", "add", "s", "--agent", "4"]).stdout(full).output().unwrap();
    daemon.join().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("code is lost") && !stderr(&output).contains("YWK2"), "{}", stderr(&output));
}

#[test]
fn a_listing_is_all_its_pages() {
    let pages = || {
        vec![
            AdminReply::Page(Page { records: vec![record(1), record(2)], next: Some(vec![7]) }),
            AdminReply::Page(Page { records: vec![record(300)], next: None }),
        ]
    };
    let (output, seen) = with_admin(&["--json", "key", "list"], "", pages());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ids: Vec<_> = json.as_array().unwrap().iter().map(|record| record["id"].as_u64().unwrap()).collect();
    assert_eq!((output.status.code(), ids), (Some(0), vec![1, 2, 300]));
    assert!(seen[1] == AdminRequest::List(List { kind: Kind::Key, after: vec![7] }));

    let (output, _) = with_admin(&["key", "list"], "", pages());
    assert_eq!(stdout(&output).lines().count(), 4, "{}", stdout(&output));

    let empty = vec![AdminReply::Page(Page { records: vec![], next: None })];
    assert_eq!(stdout(&with_admin(&["key", "list", "--json"], "", empty).0), "[]\n");
}

#[test]
fn a_removal_says_so_and_a_revoke_shows_the_record() {
    let gone = || vec![AdminReply::Done(Done { record: None, credential: None })];
    let (output, _) = with_admin(&["agent", "remove", "5", "--json"], "", gone());
    assert_eq!(stdout(&output), "{\"removed\":true,\"kind\":\"agent\",\"id\":5}\n");
    let (output, _) = with_admin(&["endpoint", "remove", "GET", "/a"], "", gone());
    assert_eq!(stdout(&output), "removed: endpoint GET /a\n");
    let revoked = vec![AdminReply::Done(Done { record: Some(record(5)), credential: None })];
    let (output, _) = with_admin(&["key", "revoke", "5", "--json"], "", revoked);
    assert!(stdout(&output).starts_with("{\"id\":5,"));
}

#[test]
fn an_agent_is_shown_as_json_and_as_a_table() {
    let shown = || {
        let agent = AgentRecord {
            id: 4,
            name: "Ann".into(),
            permissions: "*".into(),
            enabled: true,
            attributes: vec![("team".into(), "support".into())],
            state: "enabled".into(),
        };
        vec![AdminReply::Done(Done { record: Some(Record::Agent(agent)), credential: None })]
    };
    let (output, _) = with_admin(&["agent", "show", "4", "--json"], "", shown());
    assert_eq!(
        stdout(&output),
        "{\"id\":4,\"name\":\"Ann\",\"permissions\":\"*\",\"enabled\":true,\"attributes\":{\"team\":\"support\"},\"state\":\"enabled\"}\n"
    );
    let (output, _) = with_admin(&["agent", "show", "4"], "", shown());
    assert_eq!(stdout(&output).lines().last(), Some("attributes   team=support"));
}

#[test]
fn apply_uploads_the_file_and_commits_it() {
    let file = r#"{"sessions": [], "agents": [{"id": 1, "name": "A", "permissions": "*"}]}"#;
    let report = Report { added: vec![Selector::Agent(1)], dry_run: true, ..Report::default() };
    let replies = vec![AdminReply::Received(0), AdminReply::Report(report)];
    let (output, seen) = with_admin(&["apply", "-", "--prune", "--dry-run", "--json"], file, replies);
    assert_eq!(
        stdout(&output),
        "{\"added\":[{\"kind\":\"agent\",\"id\":1}],\"changed\":[],\"removed\":[],\"dry_run\":true}\n"
    );
    let agent = AgentPatch { id: Some(1), name: Some("A".into()), permissions: text("*"), ..AgentPatch::default() };
    let sections = vec![Kind::Agent, Kind::Session];
    let wanted = [
        AdminRequest::Upload(Upload { number: 0, patches: vec![Patch::Agent(agent)] }),
        AdminRequest::Apply(Apply { parts: 1, sections, prune: true, dry_run: true }),
    ];
    assert!(seen == wanted);
}

#[test]
fn a_refused_apply_names_the_place_in_the_file() {
    let replies = vec![AdminReply::Received(0), refused(Some((Kind::Key, 3)))];
    let (output, _) = with_admin(&["apply", "-"], r#"{"keys": [{"id": 1}]}"#, replies);
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""));
    assert_eq!(stderr(&output), "keyward: keys[3]: not done: no; try\\u{1b} again\n");
}

#[test]
fn explain_is_done_when_it_explains_a_denial() {
    let explanation = |reason: Reason| {
        let verdict = keyward_proto::query::Verdict {
            reason: reason.number(),
            status: 403,
            retry_after: 0,
            identity: None,
            route: None,
        };
        let steps = vec![Step { step: 8, result: "no_route".into(), why: "no endpoint".into() }];
        vec![AdminReply::Explanation(Explanation { steps, verdict })]
    };
    let words = &["explain", "--key", "1", "GET", "/a", "--json"];
    let (output, _) = with_admin(words, "", explanation(Reason::NoRoute));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        "{\"steps\":[{\"step\":8,\"result\":\"no_route\",\"why\":\"no endpoint\"}],\"verdict\":{\"reason\":\"no_route\",\"status\":403}}\n"
    );
    let (output, _) = with_admin(words, "", explanation(Reason::Unavailable));
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn status_prints_every_field() {
    let report = || StatusReport {
        version: "0.1.0".into(),
        pid: 7,
        started_at: 1,
        now: 2,
        clock_behind: 0,
        database: "/d".into(),
        revision: 3,
        agents: 0,
        endpoints: 0,
        keys: 0,
        tokens: 0,
        sessions: 0,
        tag_sets: 0,
        query_connections: 0,
        admin_connections: 1,
        questions: 0,
        writable: true,
        alarms: vec!["a row is bad".into()],
    };
    let (output, _) = with_admin(&["status", "--json"], "", vec![AdminReply::Status(report())]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json.as_object().unwrap().len(), &json["pid"], &json["writable"]), (18, &7.into(), &true.into()));
    let (output, _) = with_admin(&["status"], "", vec![AdminReply::Status(report())]);
    assert!(stdout(&output).contains("ALARM") && stdout(&output).contains("a row is bad"));
}

/// Runs `check` against a daemon that expects one question and answers with `reason`.
fn with_query(words: &[&str], stdin: &str, wanted: &QueryRequest<'_>, reason: Reason) -> Output {
    let runtime = TempDir::new().unwrap();
    let listener = UnixListener::bind(runtime.path().join("query.sock")).unwrap();
    let mut wanted_bytes = Vec::new();
    wanted.put(&mut wanted_bytes, 1);
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; wanted_bytes.len()];
        stream.read_exact(&mut request).unwrap();
        let mut out = Vec::new();
        let status = if reason == Reason::Ok { 200 } else { 403 };
        VerdictRef { reason: reason.number(), status, retry_after: 0, identity: None, route: None }.put(&mut out, 1);
        stream.write_all(&out).unwrap();
        request == wanted_bytes
    });
    let output = run(runtime.path(), words, stdin);
    assert!(daemon.join().unwrap(), "{words:?} asked something else");
    output
}

#[test]
fn check_asks_as_typed_and_exits_by_the_verdict() {
    let nobody = Asker::default();
    let key = Asker { credential: Some(b"key 2:AAAAAAAA"), ..nobody };
    let odd = Asker { credential: Some(b""), agent: Some(b" +4"), address: Some(b"-") };
    let endpoint = || Target::Endpoint { method: b"get", path: b"/a//b?c" };
    let tags = || Target::Tags(vec![b"a.b", b"NO TAG"]);
    let check = |asker, target| QueryRequest::Check(Check { asker, target });
    for (words, stdin, wanted, reason, status) in [
        (&["check"][..], "", QueryRequest::Who(Who { asker: nobody }), Reason::MissingCredential, 1),
        (&["check", "--credential", "key 2:AAAAAAAA"], "", QueryRequest::Who(Who { asker: key }), Reason::Ok, 0),
        (
            &["check", "--credential", "-", "get", "/a//b?c"],
            "key 2:AAAAAAAA\n",
            check(key, endpoint()),
            Reason::BadRequest,
            1,
        ),
        (
            &["check", "--credential", "-", "--tag", "a.b", "--tag", "NO TAG"],
            "key 2:AAAAAAAA",
            check(key, tags()),
            Reason::Unavailable,
            4,
        ),
        (
            &["check", "--credential", "", "--agent", " +4", "--ip", "-", "get", "/a//b?c"],
            "",
            check(odd, endpoint()),
            Reason::RateLimited,
            1,
        ),
    ] {
        let output = with_query(words, stdin, &wanted, reason);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", stderr(&output));
        assert!(
            stdout(&output).contains(reason.name()) && !stdout(&output).contains("AAAAAAAA"),
            "{}",
            stdout(&output)
        );
    }
}

#[test]
fn an_unreachable_daemon_is_exit_status_3_and_named_by_its_socket() {
    let runtime = TempDir::new().unwrap();
    for (words, socket) in
        [(&["check", "--json"][..], "query.sock"), (&["status"], "admin.sock"), (&["key", "list"], "admin.sock")]
    {
        let output = run(runtime.path(), words, "");
        assert_eq!((output.status.code(), stdout(&output)), (Some(3), ""), "{words:?}");
        let path = runtime.path().join(socket);
        assert!(
            stderr(&output).contains(path.to_str().unwrap()) && stderr(&output).contains("keyward serve"),
            "{words:?}"
        );
    }
}

#[test]
fn a_daemon_that_hangs_up_is_exit_status_4() {
    let runtime = TempDir::new().unwrap();
    let listener = UnixListener::bind(runtime.path().join("admin.sock")).unwrap();
    let daemon = thread::spawn(move || drop(listener.accept()));
    let output = run(runtime.path(), &["key", "revoke", "1"], "");
    daemon.join().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
}

#[test]
fn tags_are_tested_offline() {
    let nowhere = Path::new("/nonexistent");
    for (words, status, json) in [
        (&["tags", "test", "-a,*", "b", "--json"][..], 0, "{\"outcome\":\"ok\",\"pattern\":\"*\"}\n"),
        (
            &["tags", "test", "--json", "-*.delete, *", "b", "x.delete"],
            1,
            "{\"outcome\":\"tag_denied\",\"pattern\":\"-*.delete\"}\n",
        ),
        (&["tags", "test", "--json", "[\"a.*\"]", "b"], 1, "{\"outcome\":\"tag_not_granted\",\"pattern\":null}\n"),
        (&["tags", "test", "--json", "-a", "b"], 2, ""),
        (&["tags", "test", "--json", "tick*", "b"], 2, ""),
        (&["tags", "test", "--json", "*", "B"], 2, ""),
    ] {
        let output = run(nowhere, words, "");
        assert_eq!((output.status.code(), stdout(&output)), (Some(status), json), "{words:?}: {}", stderr(&output));
    }
}
