use keyward_proto::ErrorCode;
use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, AgentRecord, Apply, Audit, AuditFault, AuditPage, AuditVerdict, BackupPart,
    CloseAll, CredentialName, CredentialPatch, CredentialRecord, Done, EndpointPatch, EndpointRecord, Explain,
    Explanation, Export, ExportPage, ExportedRecord, FieldChange, FieldValue, Import, Imported, Kind, LastUse, List,
    Mint, Page, Patch, Reach, Record, RefusalKind, Refused, RefusedPatch, Report, RetiringPatch, Rotate, Rotation,
    Secret, Selector, SetText, StatusReport, Step, Upload, VerdictCount,
};
use keyward_proto::query::{Mode, Reason, Verdict};

use super::{Message, Vector, error, pairs, strings, vector};

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn endpoint_selector() -> Selector {
    Selector::Endpoint { method: "GET".to_owned(), path: "/api/v2/tickets/{id}".to_owned() }
}

fn agent_patch() -> Patch {
    Patch::Agent(AgentPatch {
        id: Some(4),
        name: Some("Matthew".to_owned()),
        permissions: Some(SetText::Text("tickets.*, -*.delete".to_owned())),
        enabled: Some(true),
        attributes: Some(pairs(&[("role", "agent"), ("team", "support")])),
    })
}

fn endpoint_patch() -> Patch {
    Patch::Endpoint(EndpointPatch {
        method: "GET".to_owned(),
        path: "/api/v2/tickets/{id}".to_owned(),
        tags: Some(strings(&["tickets.tickets.get"])),
        modes: Some(strings(&["key", "session"])),
    })
}

fn full_credential_patch() -> CredentialPatch {
    CredentialPatch {
        label: Some("a key".to_owned()),
        code: Some(secret("YWK2PGCS8CNW62SR8TBTBKWMY")),
        superuser: Some(true),
        agent: Some(4),
        default_agent: Some(Some(1)),
        app_id: Some(Some(9)),
        tags: Some(SetText::Items(strings(&["tickets.*", "-*.delete"]))),
        enabled: Some(true),
        revoked: Some(false),
        not_before: Some(Some(1_700_000_000)),
        expires_at: Some(Some(1_893_456_000)),
        allow_ip: Some(Some(strings(&["10.0.0.0/8", "::1"]))),
        rate: Some(Some("100/s".to_owned())),
        parent: Some(CredentialName { mode: Mode::Key, id: 2 }),
        hash: Some(secret(&format!("keyward:{}", "a7".repeat(32)))),
        retiring: Some(RetiringPatch { hash: secret(&format!("keyward:{}", "5b".repeat(32))), until: 1_893_456_000 }),
        ..CredentialPatch::new(Mode::Key, Some(2))
    }
}

fn clearing_patch() -> CredentialPatch {
    CredentialPatch {
        default_agent: Some(None),
        app_id: Some(None),
        not_before: Some(None),
        expires_at: Some(None),
        allow_ip: Some(None),
        rate: Some(None),
        ..CredentialPatch::new(Mode::Token, Some(18))
    }
}

fn admin(name: &'static str, description: &'static str, request: AdminRequest) -> Vector {
    vector(name, description, Message::Admin(request))
}

fn reply(name: &'static str, description: &'static str, reply: AdminReply) -> Vector {
    vector(name, description, Message::AdminReply(reply))
}

pub(crate) fn requests() -> Vec<Vector> {
    let mut requests = changes();
    requests.extend(rotations());
    requests.extend(readings());
    requests.extend(uploads());
    requests.extend(logins());
    requests
}

fn changes() -> Vec<Vector> {
    vec![
        admin(
            "add_agent",
            "Agent 4, name Matthew, permissions as text 'tickets.*, -*.delete', enabled, \
             attributes role=agent and team=support.",
            AdminRequest::Add(agent_patch()),
        ),
        admin(
            "add_endpoint",
            "GET /api/v2/tickets/{id}, tag tickets.tickets.get, modes key and session.",
            AdminRequest::Add(endpoint_patch()),
        ),
        admin(
            "add_session",
            "A session with nothing else given (refused: it needs an agent).",
            AdminRequest::Add(Patch::Credential(CredentialPatch::new(Mode::Session, None))),
        ),
        admin(
            "set_agent_nothing",
            "An agent with nothing given (refused: set needs an id).",
            AdminRequest::Set(Patch::Agent(AgentPatch::default())),
        ),
        admin(
            "set_endpoint_nothing",
            "GET /, nothing given: it stays as it is.",
            AdminRequest::Set(Patch::Endpoint(EndpointPatch {
                method: "GET".to_owned(),
                path: "/".to_owned(),
                tags: None,
                modes: None,
            })),
        ),
        admin(
            "set_key_everything",
            "Key 2: label 'a key', code YWK2PGCS8CNW62SR8TBTBKWMY, superuser true, agent 4, default_agent 1, app_id 9, \
             tags as items tickets.* and -*.delete, enabled true, revoked false, not_before 1700000000, \
             expires_at 1893456000, allow_ip 10.0.0.0/8 and ::1, rate 100/s, parent key 2, hash keyward:a7… (64 \
             digits), retiring keyward:5b… until 1893456000 (refused: a key takes no app_id).",
            AdminRequest::Set(Patch::Credential(full_credential_patch())),
        ),
        admin(
            "set_token_clear",
            "Token 18: default_agent, app_id, not_before, expires_at, allow_ip and rate given as absent, which clears them.",
            AdminRequest::Set(Patch::Credential(clearing_patch())),
        ),
        admin("remove_agent", "Agent 4.", AdminRequest::Remove(Selector::Agent(4))),
        admin("remove_token", "Revokes token 18.", AdminRequest::Remove(Selector::Credential(Mode::Token, 18))),
    ]
}

fn rotations() -> Vec<Vector> {
    let rotate = |mode, id, rotation| AdminRequest::Rotate(Rotate { mode, id, rotation });
    let code = || secret("3RH0ZV7PGYT2XQ9M4KC8WB6NA");
    vec![
        admin(
            "rotate",
            "Key 2: a new code is made, the current one is accepted for 86400 seconds more.",
            rotate(Mode::Key, 2, Rotation::Grace { seconds: 86_400, code: None }),
        ),
        admin(
            "rotate_given",
            "Key 2: the code 3RH0ZV7PGYT2XQ9M4KC8WB6NA, the current one accepted for 3600 seconds more.",
            rotate(Mode::Key, 2, Rotation::Grace { seconds: 3_600, code: Some(code()) }),
        ),
        admin("rotate_now", "Token 18: a new code is made, the others end.", {
            rotate(Mode::Token, 18, Rotation::Now { code: None })
        }),
        admin("rotate_now_given", "Token 18: the code 3RH0ZV7PGYT2XQ9M4KC8WB6NA, the others end.", {
            rotate(Mode::Token, 18, Rotation::Now { code: Some(code()) })
        }),
        admin("rotate_drop_old", "Session 7: its retiring code ends.", rotate(Mode::Session, 7, Rotation::DropOld)),
    ]
}

fn readings() -> Vec<Vector> {
    vec![
        admin("show_endpoint", "GET /api/v2/tickets/{id}.", AdminRequest::Show(endpoint_selector())),
        admin("list_first", "The first page of agents.", AdminRequest::List(List::all(Kind::Agent, Vec::new()))),
        admin(
            "list_next",
            "The page of sessions behind the opaque mark 00 00 00 00 00 00 03 e8.",
            AdminRequest::List(List::all(Kind::Session, 1000_u64.to_be_bytes().to_vec())),
        ),
        admin(
            "list_wanted",
            "The first page of keys unused for 7776000 seconds that expire within 1209600.",
            AdminRequest::List(List {
                unused_for: Some(7_776_000),
                expiring_in: Some(1_209_600),
                ..List::all(Kind::Key, Vec::new())
            }),
        ),
        admin(
            "explain",
            "Key 2, agent '4', address '10.1.2.3', GET /api/v2/tickets.",
            AdminRequest::Explain(Explain {
                mode: Mode::Key,
                id: 2,
                agent: Some(b"4".to_vec()),
                address: Some(b"10.1.2.3".to_vec()),
                method: b"GET".to_vec(),
                path: b"/api/v2/tickets".to_vec(),
            }),
        ),
        admin(
            "explain_nobody",
            "Session 7, no agent, no address, GET /.",
            AdminRequest::Explain(Explain {
                mode: Mode::Session,
                id: 7,
                agent: None,
                address: None,
                method: b"GET".to_vec(),
                path: b"/".to_vec(),
            }),
        ),
        admin("status", "No body.", AdminRequest::Status),
        admin(
            "audit",
            "After 7, since 1800000000, wait 30.",
            AdminRequest::Audit(Audit { after: 7, since: 1_800_000_000, wait_seconds: 30 }),
        ),
        admin("verify_audit", "No body.", AdminRequest::VerifyAudit),
        admin(
            "reach",
            "Key 2, agent '4', behind the opaque mark 'GET /api/v2/tickets'.",
            AdminRequest::Reach(Reach {
                mode: Mode::Key,
                id: 2,
                agent: Some(b"4".to_vec()),
                after: b"GET /api/v2/tickets".to_vec(),
            }),
        ),
        admin(
            "reach_nobody",
            "Token 18, no agent, the first page.",
            AdminRequest::Reach(Reach { mode: Mode::Token, id: 18, agent: None, after: Vec::new() }),
        ),
    ]
}

fn session_record() -> Record {
    Record::Credential(CredentialRecord {
        mode: Mode::Session,
        id: 7,
        label: String::new(),
        superuser: false,
        agent: Some(4),
        default_agent: None,
        app_id: None,
        tags: "*".to_owned(),
        enabled: true,
        revoked: false,
        not_before: None,
        expires_at: Some(1_893_456_000),
        allow_ip: None,
        rate: None,
        parent: None,
        state: "enabled".to_owned(),
        retiring_until: None,
        last_used: None,
        retiring_last_used: None,
        foreign_hash: None,
    })
}

fn logins() -> Vec<Vector> {
    vec![
        admin(
            "open_session",
            "A session of agent 4 until 1893456000; all else left out.",
            AdminRequest::Add(Patch::Credential(CredentialPatch {
                agent: Some(4),
                expires_at: Some(Some(1_893_456_000)),
                ..CredentialPatch::new(Mode::Session, None)
            })),
        ),
        admin("close_session", "Closes session 7.", AdminRequest::Remove(Selector::Credential(Mode::Session, 7))),
        admin(
            "close_all",
            "All sessions of agent 4.",
            AdminRequest::CloseAll(CloseAll { mode: Mode::Session, agent: 4 }),
        ),
        admin(
            "mint",
            "From 'key 2:YWK2PGCS8CNW62SR8TBTBKWMY' for agent 4, for 900 seconds, tags as text 'tickets.*.list', app_id 9, \
             label 'a job'.",
            AdminRequest::Mint(Mint {
                credential: secret("key 2:YWK2PGCS8CNW62SR8TBTBKWMY"),
                agent: Some(4),
                ttl: 900,
                tags: Some(SetText::Text("tickets.*.list".to_owned())),
                app_id: Some(9),
                label: Some("a job".to_owned()),
            }),
        ),
        admin(
            "mint_plain",
            "From 'token 18:TKQ2PGCS8CNW62SR8TBTBKWMY' for a second; all else left out.",
            AdminRequest::Mint(Mint {
                credential: secret("token 18:TKQ2PGCS8CNW62SR8TBTBKWMY"),
                agent: None,
                ttl: 1,
                tags: None,
                app_id: None,
                label: None,
            }),
        ),
    ]
}

fn uploads() -> Vec<Vector> {
    vec![
        admin(
            "upload",
            "Part 1: the agent of add_agent, the endpoint of add_endpoint, the key of set_key_everything.",
            AdminRequest::Upload(Upload {
                number: 1,
                patches: vec![agent_patch(), endpoint_patch(), Patch::Credential(full_credential_patch())],
            }),
        ),
        admin(
            "apply",
            "2 parts, sections agents, endpoints, keys, tokens, sessions, prune, dry_run.",
            AdminRequest::Apply(Apply { parts: 2, sections: Kind::ALL.to_vec(), prune: true, dry_run: true }),
        ),
        admin(
            "apply_nothing",
            "No part, no section.",
            AdminRequest::Apply(Apply { parts: 0, sections: Vec::new(), prune: false, dry_run: false }),
        ),
        admin("backup", "No body.", AdminRequest::Backup),
        admin("export", "With hashes.", AdminRequest::Export(Export { with_hashes: true })),
        admin(
            "import",
            "The key of set_key_everything, the token of set_token_clear; dry_run.",
            AdminRequest::Import(Import {
                patches: vec![Patch::Credential(full_credential_patch()), Patch::Credential(clearing_patch())],
                dry_run: true,
            }),
        ),
    ]
}

fn key_record() -> Record {
    Record::Credential(CredentialRecord {
        mode: Mode::Key,
        id: 12,
        label: "sample".to_owned(),
        superuser: true,
        agent: None,
        default_agent: Some(1),
        app_id: None,
        tags: "*".to_owned(),
        enabled: true,
        revoked: false,
        not_before: None,
        expires_at: None,
        allow_ip: None,
        rate: None,
        parent: None,
        state: "enabled".to_owned(),
        retiring_until: None,
        last_used: None,
        retiring_last_used: None,
        foreign_hash: None,
    })
}

fn used_token_record() -> Record {
    Record::Credential(CredentialRecord {
        mode: Mode::Token,
        id: 18,
        label: String::new(),
        superuser: false,
        agent: Some(1),
        default_agent: None,
        app_id: Some(9),
        tags: "tickets.*".to_owned(),
        enabled: true,
        revoked: true,
        not_before: Some(1_700_000_000),
        expires_at: Some(1_893_456_000),
        allow_ip: Some(strings(&["10.0.0.0/8"])),
        rate: Some("100/s".to_owned()),
        parent: Some(CredentialName { mode: Mode::Key, id: 2 }),
        state: "revoked".to_owned(),
        retiring_until: Some(1_800_000_100),
        last_used: Some(LastUse { at: 1_800_000_000, address: Some("10.1.2.3".to_owned()) }),
        retiring_last_used: Some(LastUse { at: 1_799_999_999, address: None }),
        foreign_hash: Some("bcrypt".to_owned()),
    })
}

fn other_records() -> [Record; 2] {
    [
        Record::Agent(AgentRecord {
            id: 4,
            name: "Matthew".to_owned(),
            permissions: "tickets.*, -*.delete".to_owned(),
            enabled: true,
            attributes: pairs(&[("team", "support")]),
            state: "enabled".to_owned(),
        }),
        Record::Endpoint(EndpointRecord {
            method: "GET".to_owned(),
            path: "/api/v2/tickets".to_owned(),
            tags: strings(&["tickets.tickets.list"]),
            modes: strings(&["public"]),
        }),
    ]
}

pub(crate) fn replies() -> Vec<Vector> {
    let mut replies = records();
    replies.extend(answers());
    replies.extend(reports());
    replies.extend(audits());
    replies.extend(refusals());
    replies.extend(whole_states());
    replies
}

fn whole_states() -> Vec<Vector> {
    let [agent, _] = other_records();
    vec![
        reply(
            "backup_part",
            "The bytes 01 02 03; the last part.",
            AdminReply::BackupPart(BackupPart { bytes: vec![1, 2, 3], last: true }),
        ),
        reply(
            "export_page",
            "Agent 4 of page, neither hash nor retiring; key 12 of done_new_key, hash keyward: and 64 \
             zeros, retiring keyward:, 63 zeros and 1, until 1800000100; more parts follow.",
            AdminReply::ExportPage(ExportPage {
                records: vec![
                    ExportedRecord { record: agent, hash: None, retiring: None },
                    ExportedRecord {
                        record: key_record(),
                        hash: Some(secret(&format!("keyward:{:064}", 0))),
                        retiring: Some(RetiringPatch {
                            hash: secret(&format!("keyward:{:064}", 1)),
                            until: 1_800_000_100,
                        }),
                    },
                ],
                last: false,
            }),
        ),
    ]
}

fn records() -> Vec<Vector> {
    let [agent, endpoint] = other_records();
    vec![
        reply(
            "done_new_key",
            "Key 12: label sample, superuser, default_agent 1, tags '*', enabled, state enabled; \
             the new credential 'key 12:3RH0ZV7PGYT2XQ9M4KC8WB6NA'.",
            AdminReply::Done(Done {
                record: Some(key_record()),
                credential: Some(secret("key 12:3RH0ZV7PGYT2XQ9M4KC8WB6NA")),
            }),
        ),
        reply(
            "done_new_session",
            "Session 7 of agent 4, tags '*', enabled, expires_at 1893456000, state enabled; the new credential \
             'session 7:SZQ2PGCS8CNW62SR8TBTBKWMY'.",
            AdminReply::Done(Done {
                record: Some(session_record()),
                credential: Some(secret("session 7:SZQ2PGCS8CNW62SR8TBTBKWMY")),
            }),
        ),
        reply("done_removed", "No record, no credential.", AdminReply::Done(Done { record: None, credential: None })),
        reply(
            "page",
            "Agent 4 Matthew, permissions 'tickets.*, -*.delete', enabled, team=support, state enabled; \
             endpoint GET /api/v2/tickets, tag tickets.tickets.list, mode public; token 18, agent 1, app_id 9, \
             tags 'tickets.*', enabled, revoked, not_before 1700000000, expires_at 1893456000, allow_ip 10.0.0.0/8, \
             state revoked, retiring_until 1800000100, last_used 1800000000 from 10.1.2.3, \
             retiring_last_used 1799999999, foreign_hash bcrypt; next is 00 12. (A real page holds one kind.)",
            AdminReply::Page(Page {
                records: vec![agent, endpoint, used_token_record()],
                next: Some(vec![0x00, 0x12]),
            }),
        ),
        reply("page_last", "No records, no next.", AdminReply::Page(Page { records: Vec::new(), next: None })),
    ]
}

fn answers() -> Vec<Vector> {
    let step = |step, result: &str, why: &str| Step { step, result: result.to_owned(), why: why.to_owned() };
    vec![
        reply(
            "explanation",
            "Step 1 'passed' 'the request is well-formed', step 5 'disabled' 'key 2 is disabled'; \
             verdict reason 6, status 401.",
            AdminReply::Explanation(Explanation {
                steps: vec![step(1, "passed", "the request is well-formed"), step(5, "disabled", "key 2 is disabled")],
                verdict: Verdict {
                    reason: Reason::Disabled.number(),
                    status: 401,
                    retry_after: 0,
                    identity: None,
                    route: None,
                },
            }),
        ),
        status_report(),
        status_report_quiet(),
        reply("received", "Part 1.", AdminReply::Received(1)),
        reply(
            "imported",
            "7 added, 2 changed, 3 unchanged, 1 refused: the one at 4.",
            AdminReply::Imported(Imported {
                added: 7,
                changed: 2,
                unchanged: 3,
                refused: 1,
                refusals: vec![RefusedPatch { index: 4, message: "key 5: it is new and needs a code".to_owned() }],
            }),
        ),
    ]
}

fn reports() -> Vec<Vector> {
    let change = |field: &str, from, to| FieldChange {
        record: Selector::Credential(Mode::Key, 2),
        field: field.to_owned(),
        from,
        to,
    };
    vec![
        reply(
            "report_more",
            "Added agent 4 and key 12; of key 2: code hidden to hidden, enabled true to false, expires_at null to \
             1893456000, label 'a' to 'b', allow_ip null to the list ::1; of agent 4: attributes to the map a=b; \
             removed the endpoint GET /api/v2/tickets/{id}; dry_run; more frames follow.",
            AdminReply::Report(Report {
                added: vec![Selector::Agent(4), Selector::Credential(Mode::Key, 12)],
                changed: vec![
                    change("code", FieldValue::Hidden, FieldValue::Hidden),
                    change("enabled", FieldValue::Bool(true), FieldValue::Bool(false)),
                    change("expires_at", FieldValue::Null, FieldValue::Number(1_893_456_000)),
                    change("label", FieldValue::Text("a".to_owned()), FieldValue::Text("b".to_owned())),
                    change("allow_ip", FieldValue::Null, FieldValue::List(strings(&["::1"]))),
                    FieldChange {
                        record: Selector::Agent(4),
                        field: "attributes".to_owned(),
                        from: FieldValue::Map(Vec::new()),
                        to: FieldValue::Map(pairs(&[("a", "b")])),
                    },
                ],
                removed: vec![endpoint_selector()],
                dry_run: true,
                more: true,
            }),
        ),
        reply("report_empty", "Nothing to change; the only or last frame.", AdminReply::Report(Report::default())),
    ]
}

fn audits() -> Vec<Vector> {
    let fault = AuditFault { number: 5, what: "it is missing".to_owned() };
    vec![
        reply(
            "audit_page",
            "Two lines, '{\"seq\":7}' and '{\"seq\":8}', last 8, more.",
            AdminReply::AuditPage(AuditPage { lines: strings(&["{\"seq\":7}", "{\"seq\":8}"]), last: 8, more: true }),
        ),
        reply(
            "audit_verdict",
            "First 1, last 9, hash '0f', 9 records, nothing wrong.",
            AdminReply::AuditVerdict(AuditVerdict {
                first: 1,
                last: 9,
                hash: Some("0f".to_owned()),
                records: 9,
                faults: Vec::new(),
                fault_count: 0,
            }),
        ),
        reply(
            "audit_verdict_broken",
            "First 4, last 9, no hash, 5 records, one fault: 5 'it is missing'; 1 in all.",
            AdminReply::AuditVerdict(AuditVerdict {
                first: 4,
                last: 9,
                hash: None,
                records: 5,
                faults: vec![fault],
                fault_count: 1,
            }),
        ),
    ]
}

fn refusals() -> Vec<Vector> {
    vec![
        reply(
            "refused_place",
            "Invalid, at keys 3.",
            AdminReply::Refused(Refused {
                kind: RefusalKind::Invalid,
                place: Some((Kind::Key, 3)),
                message: "agent 99 does not exist; add it first".to_owned(),
            }),
        ),
        reply(
            "refused_unavailable",
            "Unavailable, no place.",
            AdminReply::Refused(Refused {
                kind: RefusalKind::Unavailable,
                place: None,
                message: "the database refused to write; look at the log".to_owned(),
            }),
        ),
        Vector {
            request_id: 0,
            ..reply(
                "admin_error",
                "About the connection, request id 0: code 8.",
                AdminReply::Error(error(ErrorCode::NotPermitted, "uid 1000 may not use this socket")),
            )
        },
    ]
}

fn status_report() -> Vector {
    reply(
        "status_report",
        "The fields in order: '0.1.0', 4242, 1800000000, 1800000060, 1, '/var/lib/keyward/keyward.redb', 77, \
         then 2 to 10, true, one alarm 'the clock stands behind', 11, 12, two verdicts (query 0 13, http 17 14), 15 to 20, \
         a reload at 1800000050 that was refused with 'line 3'.",
        AdminReply::Status(StatusReport {
            version: "0.1.0".to_owned(),
            pid: 4242,
            started_at: 1_800_000_000,
            now: 1_800_000_060,
            clock_behind: 1,
            database: "/var/lib/keyward/keyward.redb".to_owned(),
            revision: 77,
            agents: 2,
            endpoints: 3,
            keys: 4,
            tokens: 5,
            sessions: 6,
            tag_sets: 7,
            query_connections: 8,
            admin_connections: 9,
            questions: 10,
            writable: true,
            alarms: strings(&["the clock stands behind"]),
            http_connections: 11,
            refused_connections: 12,
            verdicts: vec![
                VerdictCount { door: "query".to_owned(), reason: 0, count: 13 },
                VerdictCount { door: "http".to_owned(), reason: 17, count: 14 },
            ],
            recent_questions: 15,
            recent_millis: 16,
            commits: 17,
            commit_micros: 18,
            unflushed_use_age: Some(19),
            database_bytes: Some(20),
            reloaded_at: Some(1_800_000_050),
            reload_refused: Some("line 3".to_owned()),
        }),
    )
}

fn status_report_quiet() -> Vector {
    reply(
        "status_report_quiet",
        "Nothing was asked and nothing changed: '0.1.0', 4242, 1800000000 twice, no clock behind, '/d', then zeros, true, \
         no alarm, no verdict, no use, no size, no reload.",
        AdminReply::Status(StatusReport {
            version: "0.1.0".to_owned(),
            pid: 4242,
            started_at: 1_800_000_000,
            now: 1_800_000_000,
            clock_behind: 0,
            database: "/d".to_owned(),
            revision: 0,
            agents: 0,
            endpoints: 0,
            keys: 0,
            tokens: 0,
            sessions: 0,
            tag_sets: 0,
            query_connections: 0,
            admin_connections: 0,
            questions: 0,
            writable: true,
            alarms: Vec::new(),
            http_connections: 0,
            refused_connections: 0,
            verdicts: Vec::new(),
            recent_questions: 0,
            recent_millis: 0,
            commits: 0,
            commit_micros: 0,
            unflushed_use_age: None,
            database_bytes: None,
            reloaded_at: None,
            reload_refused: None,
        }),
    )
}
