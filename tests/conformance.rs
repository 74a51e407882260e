//! `tests/conformance` three ways: through the library, over the query socket of a real daemon, and by the command line.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::sync::Arc;

use keyward::decide::{Asker, Target, decide};
use keyward::directory::Compiler;
use keyward::model::record::{AgentName, Attributes, Label};
use keyward::model::{
    Agent, AllowList, Binding, Code, Codes, Credential, Endpoint, Id, Method, Mode, Modes, Pepper, Record, Revision,
    Template, UnixSeconds, Verdict,
};
use keyward::tags::{Outcome, Tag, TagIndex, TagSet};
use keyward_proto::admin::{AdminReply, AdminRequest, Explain};
use keyward_proto::query::{
    Asker as WireAsker, Mode as WireMode, Reason, Target as WireTarget, Verdict as WireVerdict,
};
use serde_json::{Value, json};
use support::{Home, conformance};
use zeroize::Zeroizing;

/// A case of `decisions.json`.
struct Case {
    note: String,
    credential: Option<String>,
    agent: Option<String>,
    ip: Option<String>,
    line: Option<(String, String)>,
    tags: Option<Vec<String>>,
    wanted: Value,
}

impl Case {
    fn all() -> Vec<Self> {
        let cases =
            conformance("decisions.json")["cases"].as_array().unwrap().iter().map(Self::read).collect::<Vec<_>>();
        assert!(cases.len() > 100, "all cases are read");
        cases
    }

    fn read(case: &Value) -> Self {
        let query = case["query"].as_object().unwrap();
        for key in query.keys() {
            assert!(["credential", "agent", "ip", "method", "path", "tags"].contains(&key.as_str()), "{key}");
        }
        let text = |key: &str| query.get(key).map(|value| value.as_str().unwrap().to_owned());
        Self {
            note: format!("{}: {}", case["note"].as_str().unwrap(), case["query"]),
            credential: text("credential"),
            agent: text("agent"),
            ip: text("ip"),
            line: text("method").zip(text("path")),
            tags: query.get("tags").map(strings),
            wanted: case["verdict"].clone(),
        }
    }

    fn is(&self, reason: &str) -> bool {
        self.wanted["reason"] == reason
    }

    fn asker(&self) -> WireAsker<'_> {
        WireAsker {
            credential: self.credential.as_ref().map(String::as_bytes),
            agent: self.agent.as_ref().map(String::as_bytes),
            address: self.ip.as_ref().map(String::as_bytes),
        }
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn bytes(texts: &[String]) -> Vec<&[u8]> {
    texts.iter().map(String::as_bytes).collect()
}

/// A verdict in the form of the file: only what there is.
fn shown(reason: &str, status: u16, who: Option<(u64, &str, u64)>) -> Value {
    match who {
        None => json!({"reason": reason, "status": status}),
        Some((agent, mode, id)) => {
            json!({"reason": reason, "status": status, "agent": agent, "mode": mode, "id": id})
        }
    }
}

// ---- through the library ----

const WORLD_PEPPER: [u8; 32] = [7; 32];

/// `world.json` as the library's records, every field read by the contract's table of defaults.
fn world_records(pepper: &Pepper) -> Vec<Record> {
    let world = conformance("world.json");
    let section = |name: &str| world[name].as_array().unwrap().clone();
    let mut records: Vec<Record> = section("agents").iter().map(|fields| Record::Agent(agent(fields))).collect();
    records.extend(section("endpoints").iter().map(|fields| Record::Endpoint(endpoint(fields))));
    for (name, mode) in [("keys", Mode::Key), ("tokens", Mode::Token), ("sessions", Mode::Session)] {
        records.extend(section(name).iter().map(|fields| Record::Credential(credential(fields, mode, pepper))));
    }
    records
}

fn id(value: &Value) -> Option<Id> {
    value.as_u64().map(|id| Id::new(id).unwrap())
}

fn set(value: &Value) -> Arc<TagSet> {
    Arc::new(value.as_str().map_or_else(TagSet::everything, |text| TagSet::parse(text).unwrap()))
}

fn agent(fields: &Value) -> Agent {
    let pairs = fields["attributes"].as_object().cloned().unwrap_or_default();
    Agent {
        id: id(&fields["id"]).unwrap(),
        name: AgentName::parse(fields["name"].as_str().unwrap()).unwrap(),
        permissions: Arc::new(TagSet::parse(fields["permissions"].as_str().unwrap()).unwrap()),
        enabled: fields["enabled"].as_bool().unwrap_or(true),
        removed: false,
        attributes: Attributes::parse(pairs.into_iter().map(|(name, value)| (name, value.as_str().unwrap().into())))
            .unwrap(),
    }
}

fn endpoint(fields: &Value) -> Endpoint {
    Endpoint {
        method: Method::parse(fields["method"].as_str().unwrap()).unwrap(),
        template: Template::parse(fields["path"].as_str().unwrap()).unwrap(),
        tags: strings(&fields["tags"]).iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
        modes: Modes::parse(strings(&fields["modes"]).iter().map(String::as_str)).unwrap(),
        removed: false,
    }
}

fn credential(fields: &Value, mode: Mode, pepper: &Pepper) -> Credential {
    let own_id = id(&fields["id"]).unwrap();
    let code = Code::parse(mode, fields["code"].as_str().unwrap().as_bytes()).unwrap();
    let binding = if fields["superuser"] == true {
        Binding::Superuser { default: id(&fields["default_agent"]) }
    } else {
        Binding::Agent(id(&fields["agent"]).unwrap())
    };
    let blocks = fields["allow_ip"].as_array().map(|_| strings(&fields["allow_ip"]));
    Credential {
        mode,
        id: own_id,
        label: Label::parse(fields["label"].as_str().unwrap_or_default()).unwrap(),
        binding,
        tags: set(&fields["tags"]),
        codes: Codes { current: pepper.hash(mode, own_id.get(), code.presented()), retiring: None },
        enabled: fields["enabled"].as_bool().unwrap_or(true),
        revoked: false,
        not_before: fields["not_before"].as_u64().map(UnixSeconds),
        expires_at: fields["expires_at"].as_u64().map(UnixSeconds),
        allow_ip: blocks.map(|blocks| AllowList::parse(blocks.iter().map(String::as_str)).unwrap()),
        app_id: fields["app_id"].as_u64(),
        rate: None,
        parent: None,
        foreign: None,
    }
}

/// The reasons' names are the wire's; the library has none of its own.
fn name_of(reason: keyward::model::Reason) -> String {
    let words = format!("{reason:?}");
    let mut name = String::new();
    for c in words.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

fn library_verdict(verdict: &Verdict<'_>) -> Value {
    match verdict {
        Verdict::Allow(terms) => {
            let who = terms.identity.as_ref();
            shown("ok", 200, who.map(|who| (who.agent.id, who.mode.name(), who.credential_id)))
        }
        Verdict::Deny(reason) => shown(&name_of(*reason), reason.status(), None),
        Verdict::Unavailable => shown("unavailable", 503, None),
    }
}

#[test]
fn the_library_decides_every_case_as_written() {
    let now = UnixSeconds(conformance("decisions.json")["now"].as_u64().unwrap());
    let mut compiler = Compiler::new(Arc::new(Pepper::new(Zeroizing::new(WORLD_PEPPER))));
    let records = world_records(compiler.directory().pepper());
    compiler.apply(&records, Revision(1));
    for case in Case::all() {
        let wire = case.asker();
        let asker = Asker { credential: wire.credential, agent: wire.agent, address: wire.address };
        let tags = case.tags.as_deref().map(bytes);
        let target = match (&case.line, &tags) {
            (Some((method, path)), None) => Target::Endpoint { method: method.as_bytes(), path: path.as_bytes() },
            (None, Some(tags)) => Target::Tags(tags),
            (None, None) => Target::Nobody,
            (Some(_), Some(_)) => panic!("{}: two targets", case.note),
        };
        let verdict = decide(compiler.directory(), &asker, &target, now);
        assert_eq!(library_verdict(&verdict), case.wanted, "{}", case.note);
    }
}

// ---- through the daemon ----

/// A daemon's home with the world in it.
fn with_world(run: impl FnOnce(&Home)) {
    let home = Home::new();
    let daemon = home.start();
    let world = conformance("world.json");
    let records: usize = world.as_object().unwrap().values().map(|section| section.as_array().unwrap().len()).sum();
    let report = home.apply(&world);
    assert_eq!(report["added"].as_array().unwrap().len(), records);
    run(&home);
    daemon.stop();
}

fn ask(client: &mut keyward_proto::client::QueryClient, case: &Case) -> WireVerdict {
    match (&case.line, &case.tags) {
        (Some((method, path)), _) => {
            let target = WireTarget::Endpoint { method: method.as_bytes(), path: path.as_bytes() };
            client.check(case.asker(), target).unwrap()
        }
        (None, Some(tags)) => client.check(case.asker(), WireTarget::Tags(bytes(tags))).unwrap(),
        (None, None) => client.who(case.asker()).unwrap(),
    }
}

#[test]
fn the_query_socket_answers_every_case_as_written() {
    with_world(|home| {
        let mut client = home.query();
        for case in Case::all() {
            let verdict = ask(&mut client, &case);
            let reason = Reason::from_number(verdict.reason).unwrap().name();
            let who = verdict.identity.as_ref();
            let who = who.map(|who| (who.agent_id, who.mode.name(), who.credential_id));
            assert_eq!(shown(reason, verdict.status, who), case.wanted, "{}", case.note);
            assert_eq!(verdict.route.is_some(), verdict.is_allowed() && case.line.is_some(), "{}", case.note);
        }
    });
}

/// What the contract says of a verdict in JSON: these keys, in this order, on every allow.
const ALLOW_KEYS: [&str; 13] = [
    "reason",
    "status",
    "mode",
    "credential_id",
    "code",
    "agent_id",
    "agent_name",
    "attributes",
    "switched",
    "app_id",
    "expires_at",
    "template",
    "tags",
];

fn check_words(case: &Case) -> Vec<String> {
    let mut words = vec!["--json".to_owned(), "check".to_owned()];
    for (option, value) in [("--credential", &case.credential), ("--agent", &case.agent), ("--ip", &case.ip)] {
        words.extend(value.iter().flat_map(|value| [option.to_owned(), value.clone()]));
    }
    words.extend(case.line.iter().flat_map(|(method, path)| [method.clone(), path.clone()]));
    words.extend(case.tags.iter().flat_map(|tags| std::iter::once("--tag".to_owned()).chain(tags.iter().cloned())));
    words
}

#[test]
fn the_command_line_prints_every_verdict_as_written_and_exits_by_it() {
    with_world(|home| {
        for case in Case::all() {
            let words = check_words(&case);
            let output = home.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
            if case.tags.as_ref().is_some_and(Vec::is_empty) {
                assert_eq!(output.status.code(), Some(2), "no tags can't be asked for: {}", case.note);
                continue;
            }
            assert_eq!(output.status.code(), Some(i32::from(!case.is("ok"))), "{}", case.note);
            assert!(output.stderr.is_empty(), "{}", case.note);
            let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
            let who = printed["agent_id"]
                .as_u64()
                .map(|agent| (agent, printed["mode"].as_str().unwrap(), printed["credential_id"].as_u64().unwrap()));
            let status = u16::try_from(printed["status"].as_u64().unwrap()).unwrap();
            assert_eq!(shown(printed["reason"].as_str().unwrap(), status, who), case.wanted, "{}", case.note);
            let keys = printed.as_object().unwrap();
            let wanted: &[&str] = if case.is("ok") { &ALLOW_KEYS } else { &ALLOW_KEYS[..2] };
            assert!(keys.len() == wanted.len() && wanted.iter().all(|key| keys.contains_key(*key)), "{printed}");
        }
    });
}

#[test]
fn the_same_world_a_second_time_is_no_difference() {
    with_world(|home| {
        let nothing = json!({"added": [], "changed": [], "removed": [], "dry_run": false});
        let revision = |home: &Home| home.json(&["status"])["revision"].clone();
        let before = revision(home);
        assert_eq!(home.apply(&conformance("world.json")), nothing);
        assert_eq!(revision(home), before, "nothing was written either");
    });
}

/// Reasons that a check gives before the code is proven, which explain has no say in.
const BEFORE_THE_CODE: [&str; 3] = ["missing_credential", "malformed_credential", "bad_credential"];

#[test]
fn explain_comes_to_the_verdict_of_check_in_every_case_with_a_right_code() {
    with_world(|home| {
        let (mut query, mut admin) = (home.query(), home.admin());
        let mut compared = 0;
        for case in Case::all() {
            let (Some((method, path)), Some(credential)) = (&case.line, &case.credential) else { continue };
            if BEFORE_THE_CODE.iter().any(|reason| case.is(reason)) {
                continue;
            }
            let (scheme, pair) = credential.split_once(' ').unwrap();
            let mode = match scheme.to_ascii_lowercase().as_str() {
                "key" => WireMode::Key,
                "token" => WireMode::Token,
                _ => WireMode::Session,
            };
            let request = AdminRequest::Explain(Explain {
                mode,
                id: pair.trim().split_once(':').unwrap().0.parse().unwrap(),
                agent: case.agent.as_ref().map(|agent| agent.as_bytes().to_vec()),
                address: case.ip.as_ref().map(|ip| ip.as_bytes().to_vec()),
                method: method.as_bytes().to_vec(),
                path: path.as_bytes().to_vec(),
            });
            let AdminReply::Explanation(explained) = admin.call(&request).unwrap() else { panic!("{}", case.note) };
            assert_eq!(explained.verdict, ask(&mut query, &case), "{}", case.note);
            let last = explained.steps.iter().rev().find(|step| step.result != "skipped").unwrap();
            let ended = Reason::from_number(explained.verdict.reason).unwrap().name();
            assert!(last.result == ended || (ended == "ok" && last.result == "passed"), "{}: {last:?}", case.note);
            assert!(explained.steps.is_sorted_by_key(|step| step.step), "{}", case.note);
            compared += 1;
        }
        assert!(compared > 60, "{compared} cases were compared");
    });
}

// ---- tags ----

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Granted => "ok",
        Outcome::Denied => "tag_denied",
        Outcome::NotGranted => "tag_not_granted",
    }
}

/// The cases of `tags.json`: set, tags, outcome.
fn tag_cases() -> Vec<(String, Vec<String>, String)> {
    let mut cases = Vec::new();
    for set in conformance("tags.json")["sets"].as_array().unwrap() {
        let text = set["set"].as_str().unwrap();
        for case in set["cases"].as_array().unwrap() {
            cases.push((text.to_owned(), strings(&case["tags"]), case["outcome"].as_str().unwrap().to_owned()));
        }
    }
    assert!(cases.len() > 50, "all cases are read");
    cases
}

#[test]
fn the_library_judges_every_tag_set_as_written() {
    for (text, tags, outcome) in tag_cases() {
        let set = TagSet::parse(&text).unwrap();
        let tags: Vec<Tag> = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
        let borrowed: Vec<_> = tags.iter().map(Tag::as_ref).collect();
        assert_eq!(outcome_name(set.judge(&borrowed)), outcome, "{text:?} {tags:?}");
        let (decided, pattern) = set.deciding(&borrowed);
        assert_eq!(outcome_name(decided), outcome, "{text:?} {tags:?}");
        assert_eq!(pattern.is_none(), outcome == "tag_not_granted", "{text:?} {tags:?}");
        let mut index = TagIndex::default();
        let numbers: Vec<u32> = tags.iter().map(|tag| index.number(tag)).collect();
        let compiled = keyward::tags::CompiledSet::compile(Arc::new(set), &index);
        assert_eq!(outcome_name(compiled.judge_numbered(&numbers)), outcome, "compiled: {text:?} {tags:?}");
    }
}

#[test]
fn the_library_refuses_every_set_and_tag_that_is_written_as_refused() {
    let file = conformance("tags.json");
    let (sets, tags) = (strings(&file["refused_sets"]), strings(&file["refused_tags"]));
    assert!(sets.len() > 20 && tags.len() > 9);
    for set in sets {
        assert!(TagSet::parse(&set).is_err(), "{set:?}");
    }
    for tag in tags {
        assert!(Tag::parse(&tag).is_err(), "{tag:?}");
    }
}

#[test]
fn tags_test_says_the_same() {
    let home = Home::new();
    let run = |set: &str, tags: &[String]| {
        let words: Vec<&str> =
            ["--json", "tags", "test", set].into_iter().chain(tags.iter().map(String::as_str)).collect();
        home.run(&words)
    };
    for (set, tags, outcome) in tag_cases() {
        let output = run(&set, &tags);
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed["outcome"], outcome.as_str(), "{set:?} {tags:?}");
        assert_eq!(printed["pattern"].is_null(), outcome == "tag_not_granted", "{printed}");
        assert_eq!(printed.as_object().unwrap().len(), 2, "{printed}");
        assert_eq!(output.status.code(), Some(i32::from(outcome != "ok")), "{set:?} {tags:?}");
    }
    let file = conformance("tags.json");
    let refused = strings(&file["refused_sets"]).into_iter().map(|set| (set, "a".to_owned()));
    for (set, tag) in refused.chain(strings(&file["refused_tags"]).into_iter().map(|tag| ("*".to_owned(), tag))) {
        let output = run(&set, std::slice::from_ref(&tag));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{set:?} {tag:?}");
        assert!(output.stderr.starts_with(b"keyward: ") || output.stderr.starts_with(b"error: "), "{set:?} {tag:?}");
    }
}
