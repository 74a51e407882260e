//! The JSON forms, to the letter of the contract's section 4.

use keyward_proto::query::{CodeSlot, Identity, Route};

use super::*;

fn text(form: &impl Serialize) -> String {
    serde_json::to_string(form).expect("a form is JSON")
}

fn matthew() -> Identity {
    Identity {
        mode: Mode::Key,
        credential_id: 2,
        code: CodeSlot::Current,
        expires_at: None,
        app_id: None,
        agent_id: 4,
        agent_name: "Matthew".into(),
        attributes: vec![],
        switched: true,
    }
}

fn verdict(reason: u16, status: u16) -> Verdict {
    Verdict { reason, status, retry_after: 0, identity: None, route: None }
}

#[test]
fn an_allow_has_all_keys_in_the_order_of_the_contract() {
    let route = Some(Route { template: "/api/v2/me".into(), tags: vec!["me.me.get".into()] });
    let allow = Verdict { identity: Some(matthew()), route, ..verdict(0, 200) };
    assert_eq!(
        text(&VerdictForm::new(&allow)),
        r#"{"reason":"ok","status":200,"mode":"key","credential_id":2,"code":"current","agent_id":4,"agent_name":"Matthew","attributes":{},"switched":true,"app_id":null,"expires_at":null,"template":"/api/v2/me","tags":["me.me.get"]}"#
    );
}

#[test]
fn an_allow_without_identity_or_route_has_null_and_empty_in_their_place() {
    let route = Some(Route { template: "/discover".into(), tags: vec!["a.b".into()] });
    let public = Verdict { route, ..verdict(0, 200) };
    assert_eq!(
        text(&VerdictForm::new(&public)),
        r#"{"reason":"ok","status":200,"mode":null,"credential_id":null,"code":null,"agent_id":null,"agent_name":null,"attributes":{},"switched":false,"app_id":null,"expires_at":null,"template":"/discover","tags":["a.b"]}"#
    );
    let token = Identity {
        mode: Mode::Token,
        code: CodeSlot::Retiring,
        expires_at: Some(9),
        app_id: Some(3),
        attributes: vec![("team".into(), "support".into())],
        switched: false,
        ..matthew()
    };
    let who = Verdict { identity: Some(token), ..verdict(0, 200) };
    assert_eq!(
        text(&VerdictForm::new(&who)),
        r#"{"reason":"ok","status":200,"mode":"token","credential_id":2,"code":"retiring","agent_id":4,"agent_name":"Matthew","attributes":{"team":"support"},"switched":false,"app_id":3,"expires_at":9,"template":null,"tags":[]}"#
    );
}

#[test]
fn a_denial_has_reason_and_status_alone() {
    let limited = Verdict { retry_after: 7, ..verdict(Reason::RateLimited.number(), 429) };
    for (denial, form) in [
        (verdict(Reason::BadCredential.number(), 401), r#"{"reason":"bad_credential","status":401}"#),
        (verdict(Reason::Unavailable.number(), 503), r#"{"reason":"unavailable","status":503}"#),
        (limited, r#"{"reason":"rate_limited","status":429,"retry_after":7}"#),
        (verdict(999, 403), r#"{"reason":"reason_999","status":403}"#),
    ] {
        assert_eq!(text(&VerdictForm::new(&denial)), form);
    }
}

fn credential(mode: Mode) -> CredentialRecord {
    CredentialRecord {
        mode,
        id: 12,
        label: "ci".into(),
        superuser: false,
        agent: Some(4),
        default_agent: None,
        app_id: None,
        tags: "*".into(),
        enabled: true,
        revoked: false,
        not_before: None,
        expires_at: Some(9),
        rate: None,
        parent: None,
        allow_ip: None,
        state: "enabled".into(),
        retiring_until: None,
        last_used: None,
        retiring_last_used: None,
        foreign_hash: None,
    }
}

#[test]
fn a_credential_is_its_record_with_state_and_last_use() {
    let rest = r#""tags":"*","enabled":true,"revoked":false,"not_before":null,"expires_at":9,"allow_ip":null,"state":"enabled","retiring_until":null,"last_used":null"#;
    for (mode, own) in [
        (Mode::Key, r#""superuser":false,"agent":4,"default_agent":null"#),
        (Mode::Token, r#""agent":4,"app_id":null"#),
        (Mode::Session, r#""agent":4"#),
    ] {
        let record = Record::Credential(credential(mode));
        assert_eq!(text(&RecordForm::new(&record, None)), format!(r#"{{"id":12,"label":"ci",{own},{rest}}}"#));
        let added = format!(r#"{{"id":12,"label":"ci",{own},{rest},"credential":"key 12:AAAAAAAA"}}"#);
        assert_eq!(text(&RecordForm::new(&record, Some("key 12:AAAAAAAA"))), added);
    }
}

#[test]
fn last_use_is_told_by_code() {
    let at = |at, address: Option<&str>| Some(LastUse { at, address: address.map(str::to_owned) });
    for (current, retiring, form) in [
        (None, None, "null"),
        (at(5, Some("1.2.3.4")), None, r#"{"current":{"at":5,"address":"1.2.3.4"},"retiring":null}"#),
        (None, at(6, None), r#"{"current":null,"retiring":{"at":6,"address":null}}"#),
    ] {
        let record = CredentialRecord { last_used: current, retiring_last_used: retiring, ..credential(Mode::Key) };
        assert_eq!(text(&LastUsedForm::new(&record)), form);
    }
}

#[test]
fn agents_endpoints_and_removals_have_their_own_forms() {
    let agent = Record::Agent(AgentRecord {
        id: 1,
        name: "Admin".into(),
        permissions: "*".into(),
        enabled: false,
        attributes: vec![("a".into(), "b".into())],
        state: "disabled".into(),
    });
    let endpoint = Record::Endpoint(EndpointRecord {
        method: "GET".into(),
        path: "/a".into(),
        tags: vec!["a.b".into()],
        modes: vec!["key".into()],
    });
    let of_endpoint = Selector::Endpoint { method: "GET".into(), path: "/a".into() };
    assert_eq!(
        text(&RecordForm::new(&agent, None)),
        r#"{"id":1,"name":"Admin","permissions":"*","enabled":false,"attributes":{"a":"b"},"state":"disabled"}"#
    );
    assert_eq!(
        text(&RecordForm::new(&endpoint, None)),
        r#"{"method":"GET","path":"/a","tags":["a.b"],"modes":["key"]}"#
    );
    assert_eq!(text(&RemovedForm::new(&Selector::Agent(5))), r#"{"removed":true,"kind":"agent","id":5}"#);
    assert_eq!(
        text(&RemovedForm::new(&of_endpoint)),
        r#"{"removed":true,"kind":"endpoint","method":"GET","path":"/a"}"#
    );
}

#[test]
fn a_report_names_kind_and_id_of_each_record_and_hides_codes() {
    let change = |field: &str, from, to| FieldChange {
        record: Selector::Credential(Mode::Key, 3),
        field: field.into(),
        from,
        to,
    };
    let report = Report {
        added: vec![Selector::Agent(1), Selector::Endpoint { method: "GET".into(), path: "/a".into() }],
        changed: vec![
            change("code", FieldValue::Hidden, FieldValue::Hidden),
            change("expires_at", FieldValue::Null, FieldValue::Number(9)),
            change("enabled", FieldValue::Bool(true), FieldValue::Bool(false)),
            change("allow_ip", FieldValue::List(vec!["::1".into()]), FieldValue::Null),
            change("attributes", FieldValue::Map(vec![("a".into(), "b".into())]), FieldValue::Text("x".into())),
        ],
        removed: vec![Selector::Credential(Mode::Session, 7)],
        dry_run: true,
        more: false,
    };
    assert_eq!(
        text(&ReportForm::new(&report)),
        concat!(
            r#"{"added":[{"kind":"agent","id":1},{"kind":"endpoint","id":"GET /a"}],"changed":["#,
            r#"{"kind":"key","id":3,"field":"code","from":"(hidden)","to":"(hidden)"},"#,
            r#"{"kind":"key","id":3,"field":"expires_at","from":null,"to":9},"#,
            r#"{"kind":"key","id":3,"field":"enabled","from":true,"to":false},"#,
            r#"{"kind":"key","id":3,"field":"allow_ip","from":["::1"],"to":null},"#,
            r#"{"kind":"key","id":3,"field":"attributes","from":{"a":"b"},"to":"x"}],"#,
            r#""removed":[{"kind":"session","id":7}],"dry_run":true}"#
        )
    );
}

#[test]
fn an_explanation_has_its_steps_and_the_verdict() {
    let step = Step { step: 9, result: "mode_not_allowed".into(), why: "key is not among session".into() };
    let explanation = Explanation { steps: vec![step], verdict: verdict(Reason::ModeNotAllowed.number(), 403) };
    assert_eq!(
        text(&ExplanationForm::new(&explanation)),
        r#"{"steps":[{"step":9,"result":"mode_not_allowed","why":"key is not among session"}],"verdict":{"reason":"mode_not_allowed","status":403}}"#
    );
}
