//! What is printed of each reply.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, AgentRecord, Apply, CredentialRecord, Done, Explanation, Kind, List, Page,
    Patch, Record, Report, Secret, Selector, StatusReport, Step, Upload,
};
use keyward_proto::query::{Mode, Reason, Verdict};
use tempfile::TempDir;

use super::{command, refused, stderr, stdout, text, with_admin};

const SECRET: &str = "key 12:YWK2PGCS8CNW62SR8TBTBKWMY";

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
        let verdict = Verdict { reason: reason.number(), status: 403, retry_after: 0, identity: None, route: None };
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
