//! Dry runs of changes of agents and keys: what they foretell is what comes, and nothing comes of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod support;

use std::collections::BTreeSet;
use std::process::Output;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use keyward::model::record::AgentName;
use keyward::model::{
    AgentEdit, Code, CredentialEdit, Edit, EndpointEdit, Id, Method, Mode, Pepper, RecordName, Template, UnixSeconds,
};
use keyward::registry::{Apply, Observer, Order, Origin, Outcome, Registry, Sent, Stage, WhatIf as RegistryWhatIf};
use keyward::tags::{Tag, TagSet};

use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, Consequences, CredentialPatch, Explain, Patch, RefusalKind, Selector,
    SetText, WhatIf,
};
use keyward_proto::client::AdminClient;
use keyward_proto::query::Mode as WireMode;
use serde_json::{Value, json};
use support::Home;
use tempfile::TempDir;

/// Codes of 25 characters, one a number.
fn code(number: u64) -> String {
    format!("{number:0>25}")
}

/// Matthew may do with tickets what he likes but delete; key 3 and session 7 are his.
fn small_world() -> Value {
    json!({
        "agents": [{"id": 1, "name": "Admin", "permissions": "*"},
                   {"id": 4, "name": "Matthew", "permissions": "tickets.*, -*.delete"}],
        "endpoints": [{"method": "GET", "path": "/tickets", "tags": ["tickets.tickets.list"]},
                      {"method": "GET", "path": "/tickets/{id}", "tags": ["tickets.tickets.get"]},
                      {"method": "DELETE", "path": "/tickets/{id}", "tags": ["tickets.tickets.delete"]},
                      {"method": "GET", "path": "/people", "tags": ["people.people.list"]},
                      {"method": "GET", "path": "/health", "tags": ["health"], "modes": ["public"]}],
        "keys": [{"id": 2, "code": code(2), "superuser": true, "default_agent": 1},
                 {"id": 3, "code": code(3), "agent": 4},
                 {"id": 5, "code": code(5), "superuser": true}],
        "sessions": [{"id": 7, "code": code(7), "agent": 4}]
    })
}

fn with_world(world: &Value, test: impl FnOnce(&Home)) {
    let home = Home::new();
    let daemon = home.start();
    home.apply(world);
    test(&home);
    daemon.stop();
}

fn revision(home: &Home) -> Value {
    home.json(&["status"])["revision"].clone()
}

/// What a dry run prints as JSON; it must leave the state as it was.
fn dry_run(home: &Home, words: &[&str]) -> Value {
    let before = revision(home);
    let told = home.json(&[words, &["--dry-run"]].concat());
    assert_eq!(revision(home), before, "{words:?}: a dry run changes nothing");
    assert_eq!(told["dry_run"], true);
    told
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn narrowing_a_key_says_what_it_loses_in_the_documented_form() {
    with_world(&small_world(), |home| {
        let told = dry_run(home, &["key", "set", "3", "--tags", "*.list, people.*"]);
        let expected = json!({
            "dry_run": true,
            "changed": [{"kind": "key", "id": 3, "field": "tags", "from": "*", "to": "*.list, people.*"}],
            "removed": [],
            "effects": [{"credentials": ["key 3"], "credentials_total": 1, "gained": [], "gained_total": 0,
                         "lost": ["GET /tickets/{id}"], "lost_total": 1}],
            "effects_total": 1, "compared": 1, "not_compared": 0, "affected": 1, "notes": []
        });
        assert_eq!(told, expected);
        assert_eq!(home.json(&["key", "show", "3"])["tags"], "*");
    });
}

#[test]
fn a_change_of_an_agent_is_told_for_all_who_act_as_it_together() {
    with_world(&small_world(), |home| {
        let told = dry_run(home, &["agent", "set", "4", "--permissions", "tickets.*.delete, people.*"]);
        let credentials = json!(["key 3", "session 7"]);
        assert_eq!(told["effects"][0]["credentials"], credentials);
        assert_eq!(told["effects"][0]["gained"], json!(["DELETE /tickets/{id}", "GET /people"]));
        assert_eq!(told["effects"][0]["lost"], json!(["GET /tickets", "GET /tickets/{id}"]));
        assert_eq!((&told["affected"], &told["effects_total"]), (&json!(2), &json!(1)));
        assert!(told["notes"][0].as_str().unwrap().starts_with("2 superuser keys may act as agent 4"), "{told}");

        let words = ["agent", "set", "4", "--permissions", "tickets.*.get", "--dry-run"];
        let expected = "~ agent 4: permissions: \"tickets.*, -*.delete\" -> \"tickets.*.get\"\n\
                        key 3, session 7: 0 gained, 1 lost\n  - GET /tickets\n\
                        note: 2 superuser keys may act as agent 4 for a request that names it, and then gain and lose \
                        with it as their own tags allow: not listed\n\
                        dry run, nothing was changed: of 2 credentials compared, 2 would gain or lose endpoints\n";
        assert_eq!(stdout(&home.run(&words)), expected);
        let named = dry_run(home, &["agent", "set", "4", "--name", "Mat"]);
        assert_eq!((&named["effects"], &named["notes"]), (&json!([]), &json!([])), "a name takes nothing");
    });
}

#[test]
fn disabling_an_agent_prints_what_no_longer_works_and_its_dry_run_foretells_it() {
    with_world(&small_world(), |home| {
        let told = dry_run(home, &["agent", "disable", "1"]);
        assert_eq!(told["effects"][0]["credentials"], json!(["key 2"]), "a superuser key whose default it is");
        assert_eq!(told["effects"][0]["lost_total"], 4, "all but the public one");

        let told = dry_run(home, &["agent", "disable", "4"]);
        let printed = stdout(&home.run(&["agent", "disable", "4"]));
        let (record, stopped) = printed.split_once("\n\n").unwrap();
        assert!(record.contains("state        disabled"), "{printed}");
        assert!(
            stopped.starts_with(
                "what no longer works:\nkey 3, session 7: 0 gained, 2 lost\n  - GET /tickets\n  - GET /tickets/{id}\nnote: "
            ),
            "{printed}"
        );
        assert_eq!(stdout(&home.run(&["agent", "disable", "4"])), printed, "it is said again when it was so already");

        let back = dry_run(home, &["agent", "enable", "4"]);
        assert_eq!(back["effects"][0]["gained"], told["effects"][0]["lost"]);
        home.json(&["agent", "enable", "4"]);
        let disabled = home.json(&["agent", "disable", "4"]);
        let shown = home.json(&["agent", "show", "4"]);
        for (field, value) in shown.as_object().unwrap() {
            assert_eq!(&disabled[field], value, "the record as it is shown");
        }
        assert_eq!((&disabled["effects"], &disabled["affected"]), (&told["effects"], &json!(2)));
    });
}

#[test]
fn a_key_is_disabled_enabled_revoked_and_rebound_on_trial() {
    with_world(&small_world(), |home| {
        let all = json!(["GET /tickets", "GET /tickets/{id}"]);
        for words in [&["key", "disable", "3"][..], &["key", "revoke", "3"], &["key", "set", "3", "--expires", "1"]] {
            let told = dry_run(home, words);
            assert_eq!(told["effects"][0]["lost"], all, "{words:?}");
            assert_eq!(told["effects"][0]["credentials"], json!(["key 3"]), "{words:?}");
        }
        let revoked = dry_run(home, &["key", "revoke", "3"]);
        assert_eq!(revoked["removed"], json!([{"kind": "key", "id": 3}]));
        let rebound = dry_run(home, &["key", "set", "3", "--agent", "1"]);
        assert_eq!(rebound["effects"][0]["gained"], json!(["DELETE /tickets/{id}", "GET /people"]));
        let none = dry_run(home, &["key", "set", "5", "--tags", "people.*"]);
        assert_eq!(none["effects"][0]["lost_total"], 3, "by its own tags: it has no agent of its own");
        assert!(none["notes"][0].as_str().unwrap().contains("depends on the agent named"), "{none}");
        let address = dry_run(home, &["key", "set", "3", "--allow-ip", "10.0.0.0/8"]);
        assert!(address["notes"][0].as_str().unwrap().contains("addresses are not compared"), "{address}");

        home.json(&["key", "disable", "3"]);
        let enabled = dry_run(home, &["key", "enable", "3"]);
        assert_eq!(enabled["effects"][0]["gained"], all);
        home.json(&["key", "revoke", "3"]);
        let said = stdout(&home.run(&["key", "revoke", "3", "--dry-run"]));
        assert_eq!(said, "dry run, nothing was changed: it is so already\n");
        assert_eq!(dry_run(home, &["agent", "disable", "4"])["compared"], 1, "a revoked key reaches nothing anyway");
    });
}

#[test]
fn a_dry_run_is_refused_as_the_change_itself_is() {
    with_world(&small_world(), |home| {
        home.json(&["key", "add", "gone", "--agent", "4", "--id", "9"]);
        home.json(&["key", "revoke", "9"]);
        let before = revision(home);
        for words in [
            &["key", "set", "77", "--tags", "a"][..],
            &["key", "set", "9", "--tags", "a"],
            &["key", "set", "3", "--tags", "tick*"],
            &["key", "set", "3", "--tags", "-a"],
            &["key", "set", "3", "--agent", "88"],
            &["key", "set", "3", "--default-agent", "1"],
            &["key", "set", "3", "--allow-ip", "10.0.0.1/8"],
            &["key", "set", "3"],
            &["key", "disable", "77"],
            &["key", "enable", "9"],
            &["key", "revoke", "77"],
            &["agent", "set", "77", "--permissions", "*"],
            &["agent", "set", "4", "--permissions", "a..b"],
            &["agent", "set", "4"],
            &["agent", "disable", "77"],
            &["agent", "remove", "4"],
            &["agent", "remove", "77"],
        ] {
            let (real, dry) = (home.run(words), home.run(&[words, &["--dry-run"]].concat()));
            assert_eq!(real.status.code(), Some(2), "{words:?}: {}", String::from_utf8_lossy(&real.stderr));
            assert_eq!(dry, real, "{words:?}: the same words, the same status");
        }
        assert_eq!(revision(home), before);
    });
}

/// As the socket sees it, whatever the command line can say.
#[test]
fn a_change_of_an_endpoint_is_no_what_if() {
    with_world(&small_world(), |home| {
        let selector = Selector::Endpoint { method: "GET".to_owned(), path: "/people".to_owned() };
        let reply = home.admin().call(&AdminRequest::WhatIf(WhatIf::Remove(selector))).unwrap();
        let AdminReply::Refused(refused) = reply else { panic!("it was answered") };
        assert_eq!(refused.kind, RefusalKind::Invalid);
        assert!(refused.message.contains("endpoint"), "{}", refused.message);
    });
}

/// A generator whose draws depend on its seed alone.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn often(&mut self) -> bool {
        self.below(5) > 0
    }
}

const SETS: [&str; 8] = ["*", "*", "a.*", "b", "*, -b", "a, b", "*.b, -c.b", "c.*"];
const ENDPOINTS: [(&str, &[&str], &[&str]); 7] = [
    ("/a", &["a"], &["key", "token", "session"]),
    ("/ab", &["a.b"], &["key", "token", "session"]),
    ("/b", &["b"], &["key"]),
    ("/c", &["c"], &["token", "session"]),
    ("/cb", &["c.b", "b"], &["key", "token", "session"]),
    ("/a-or-c", &["a.x", "c.x"], &["key", "session"]),
    ("/public", &["a"], &["public"]),
];
const MODES: [WireMode; 3] = [WireMode::Key, WireMode::Token, WireMode::Session];
/// Of each mode.
const CREDENTIALS: u64 = 3;

/// Agents 1 to 3, three credentials of each mode; keys 1 and 2 may be superusers. Agent 9 may everything and stays so.
fn any_world(draw: &mut Draw) -> Value {
    let agents =
        (1..=3).map(|id| json!({"id": id, "name": "x", "permissions": draw.one_of(&SETS), "enabled": draw.often()}));
    let mut agents: Vec<Value> = agents.collect();
    agents.push(json!({"id": 9, "name": "x", "permissions": "*"}));
    let endpoints =
        ENDPOINTS.map(|(path, tags, modes)| json!({"method": "GET", "path": path, "tags": tags, "modes": modes}));
    let mut credentials = |mode: u64| -> Vec<Value> {
        let bound = |id| {
            json!({"id": id, "code": code(10 * id + mode), "agent": 1 + draw.below(3), "tags": draw.one_of(&SETS),
                   "enabled": draw.often(), "expires_at": if draw.often() { Value::Null } else { json!(1000) }})
        };
        (1..=CREDENTIALS).map(bound).collect()
    };
    let (mut keys, tokens, sessions) = (credentials(1), credentials(2), credentials(3));
    for key in &mut keys[..2] {
        let default = draw.one_of(&[json!(null), json!(1), json!(2)].each_ref()).clone();
        let record = key.as_object_mut().unwrap();
        record.remove("agent");
        record.extend([("superuser".to_owned(), json!(true)), ("default_agent".to_owned(), default)]);
    }
    json!({"agents": agents, "endpoints": endpoints, "keys": keys, "tokens": tokens, "sessions": sessions})
}

fn set_text(draw: &mut Draw) -> Option<SetText> {
    Some(SetText::Text(draw.one_of(&SETS).to_owned()))
}

fn any_change(draw: &mut Draw) -> WhatIf {
    let (id, mode) = (1 + draw.below(3) as u64, draw.one_of(&MODES));
    let agent = AgentPatch { id: Some(1 + draw.below(3) as u64), ..AgentPatch::default() };
    let credential = CredentialPatch::new(mode, Some(id));
    let key = CredentialPatch::new(WireMode::Key, Some(id));
    let superuser = CredentialPatch { superuser: Some(true), default_agent: Some(None), ..key.clone() };
    let named = Some(1 + draw.below(3) as u64);
    let of_credential = |patch| WhatIf::Set(Patch::Credential(patch));
    match draw.below(10) {
        0..=2 => WhatIf::Set(Patch::Agent(AgentPatch { permissions: set_text(draw), ..agent })),
        3 => WhatIf::Set(Patch::Agent(AgentPatch { enabled: Some(draw.often()), ..agent })),
        4 => of_credential(CredentialPatch { tags: set_text(draw), ..credential }),
        5 => of_credential(CredentialPatch { enabled: Some(draw.often()), tags: set_text(draw), ..credential }),
        6 => of_credential(CredentialPatch { expires_at: Some(draw.one_of(&[None, Some(1000)])), ..credential }),
        7 => of_credential(CredentialPatch { superuser: Some(false), agent: named, ..key }),
        8 => of_credential(CredentialPatch { default_agent: Some(draw.one_of(&[None, named])), ..superuser }),
        _ => WhatIf::Remove(Selector::Credential(mode, id)),
    }
}

type Names = BTreeSet<String>;

/// What one may call, by asking for every endpoint.
fn callable(admin: &mut AdminClient, (mode, id): (WireMode, u64), agent: Option<&[u8]>) -> Names {
    let allowed = |path: &&str| {
        let (agent, path) = (agent.map(<[u8]>::to_vec), path.as_bytes().to_vec());
        let explain = Explain { mode, id, agent, address: None, method: b"GET".to_vec(), path };
        let reply = admin.call(&AdminRequest::Explain(explain)).unwrap();
        let AdminReply::Explanation(explanation) = reply else { panic!("no explanation") };
        explanation.verdict.is_allowed()
    };
    ENDPOINTS.map(|(path, ..)| path).into_iter().filter(allowed).map(|path| format!("GET {path}")).collect()
}

/// Of every credential: what it may call by itself, and what as an agent that may everything.
fn all_callable(admin: &mut AdminClient) -> Vec<((WireMode, u64), Names, Names)> {
    let names = MODES.into_iter().flat_map(|mode| (1..=CREDENTIALS).map(move |id| (mode, id)));
    names.map(|name| (name, callable(admin, name, None), callable(admin, name, Some(b"9")))).collect()
}

fn told_of(told: &Consequences, (mode, id): (WireMode, u64)) -> (Names, Names) {
    let effect = told.effects.iter().find(|effect| effect.credentials.contains(&Selector::Credential(mode, id)));
    let names = |selectors: &[Selector]| -> Names {
        let name = |selector: &Selector| match selector {
            Selector::Endpoint { method, path } => format!("{method} {path}"),
            Selector::Agent(_) | Selector::Credential(..) => panic!("{selector:?} is no endpoint"),
        };
        selectors.iter().map(name).collect()
    };
    effect.map_or_else(Default::default, |effect| (names(&effect.gained), names(&effect.lost)))
}

/// Superuser keys without default agent, as the daemon lists them.
fn without_agent(home: &Home) -> BTreeSet<u64> {
    let keys = home.json(&["key", "list"]);
    let free = |key: &&Value| key["superuser"] == true && key["default_agent"].is_null();
    keys.as_array().unwrap().iter().filter(free).map(|key| key["id"].as_u64().unwrap()).collect()
}

fn revision_now(admin: &mut AdminClient) -> u64 {
    let AdminReply::Status(status) = admin.call(&AdminRequest::Status).unwrap() else { panic!("no status") };
    status.revision
}

/// Asks what the change would come to, makes it, and compares; `None` when it was refused both times.
fn foretell_and_make(home: &Home, admin: &mut AdminClient, change: WhatIf) -> Option<Consequences> {
    let real = match change.clone() {
        WhatIf::Set(patch) => AdminRequest::Set(patch),
        WhatIf::Remove(selector) => AdminRequest::Remove(selector),
    };
    let (before, free_before, revision) = (all_callable(admin), without_agent(home), revision_now(admin));
    let reply = admin.call(&AdminRequest::WhatIf(change)).unwrap();
    if let AdminReply::Refused(refused) = &reply {
        let again = admin.call(&real).unwrap();
        let same = matches!(&again, AdminReply::Refused(again) if again == refused);
        assert!(same, "refused on trial only: {}", refused.message);
        return None;
    }
    let AdminReply::Consequences(told) = reply else { panic!("no consequences") };
    assert!(revision_now(admin) == revision, "to ask changes nothing");
    assert!(matches!(admin.call(&real).unwrap(), AdminReply::Done(_)), "told and then refused");
    let free_after = without_agent(home);
    for ((name, old, old_as), (_, new, new_as)) in before.iter().zip(all_callable(admin)) {
        let is_free = |free: &BTreeSet<u64>| name.0 == WireMode::Key && free.contains(&name.1);
        let by_tags_alone = is_free(&free_before) && is_free(&free_after);
        let (old, new) = if by_tags_alone { (old_as, new_as) } else { (old, new) };
        let expected: (Names, Names) =
            (new.difference(old).cloned().collect(), old.difference(&new).cloned().collect());
        assert_eq!(told_of(&told, *name), expected, "{name:?}: {told:?}");
    }
    Some(told)
}

#[test]
fn what_is_foretold_is_what_comes_in_any_world() {
    let (mut affected, mut carried_out) = (0, 0);
    for seed in 1..=3 {
        let mut draw = Draw(0x9e37_79b9_7f4a_7c15 ^ seed);
        with_world(&any_world(&mut draw), |home| {
            let mut admin = home.admin();
            for _ in 0..20 {
                if let Some(told) = foretell_and_make(home, &mut admin, any_change(&mut draw)) {
                    carried_out += 1;
                    affected += told.affected;
                }
            }
        });
    }
    assert!(carried_out > 30 && affected > 20, "{carried_out} changes, {affected} credentials affected: too tame");
}

fn run(order: &mut Sent) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(order.outcome()).unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

/// Orders that wait share a transaction, and the state in memory has none of it before it is committed.
#[test]
fn a_what_if_that_waits_behind_a_change_is_judged_after_it() {
    let directory = TempDir::with_prefix("kw").unwrap();
    let (committed, commits) = channel();
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let observer: Observer = Box::new(move |stage| {
        if stage == Stage::Committed {
            let _ = committed.send(());
            let _ = may_go.lock().unwrap().recv();
        }
    });
    let registry = Registry::open(directory.path(), Pepper::new([7; 32].into()), observer).unwrap();
    let id = |id| Id::new(id).unwrap();
    let agent = |name| {
        let (name, permissions) = (AgentName::parse(name).ok(), Some(TagSet::everything().into()));
        Edit::Agent(AgentEdit { id: Some(id(1)), name, permissions, ..AgentEdit::default() })
    };
    let endpoint = EndpointEdit {
        method: Method::parse("GET").unwrap(),
        template: Template::parse("/a").unwrap(),
        tags: Some(vec![Tag::parse("a").unwrap()]),
        modes: None,
    };
    let key = CredentialEdit::new(Mode::Key, Some(id(1)));
    let new_code = Code::parse(Mode::Key, code(1).as_bytes()).ok();
    let new_key = CredentialEdit { agent: Some(id(1)), code: new_code, ..key.clone() };
    let edits = vec![agent("Ada"), Edit::Endpoint(endpoint), Edit::Credential(new_key)];
    let mut world = registry
        .send(Order::Apply(Apply { edits, sections: Vec::new(), prune: false, dry_run: false }), Origin::Daemon)
        .unwrap();
    commits.recv().unwrap();
    go.send(()).unwrap();
    run(&mut world);

    registry.send(Order::Set(agent("Eva")), Origin::Daemon).unwrap();
    commits.recv().unwrap();
    let disabled = Order::Set(Edit::Credential(CredentialEdit { enabled: Some(false), ..key }));
    registry.send(disabled, Origin::Daemon).unwrap();
    let mut asked = registry
        .send(Order::WhatIf(RegistryWhatIf::Remove(RecordName::Credential(Mode::Key, id(1)))), Origin::Daemon)
        .unwrap();
    drop(go);
    let compared = run(&mut asked).preview.unwrap().compare(UnixSeconds(1000)).unwrap();
    assert_eq!((compared.compared, compared.affected), (1, 0), "the key was disabled before: {compared:?}");
}

#[test]
fn of_many_credentials_and_endpoints_the_first_are_listed_and_all_are_counted() {
    let endpoints: Vec<Value> = (0..2_000)
        .map(|n| json!({"method": "GET", "path": format!("/r/{n}"), "tags": [format!("r{}.get", n % 40)]}))
        .collect();
    let keys: Vec<Value> = (1..=3_000_u64)
        .map(|id| json!({"id": id, "code": code(id), "agent": 1, "tags": if id > 1_000 { "*" } else { "r1.*" }}))
        .collect();
    let agents = json!([{"id": 1, "name": "x", "permissions": "*"}]);
    with_world(&json!({"agents": agents, "endpoints": endpoints, "keys": keys}), |home| {
        let told = dry_run(home, &["agent", "set", "1", "--permissions", "r2.*"]);
        assert_eq!(
            (&told["compared"], &told["affected"], &told["effects_total"]),
            (&json!(3000), &json!(3000), &json!(2))
        );
        let (first, second) = (&told["effects"][0], &told["effects"][1]);
        assert_eq!((&first["credentials_total"], &first["lost_total"]), (&json!(2000), &json!(1950)));
        assert_eq!((&second["credentials_total"], &second["lost_total"]), (&json!(1000), &json!(50)));
        let len = |list: &Value| list.as_array().unwrap().len();
        assert_eq!((len(&first["credentials"]), len(&first["lost"]), len(&second["lost"])), (100, 250, 50));
        assert_eq!(first["credentials"][0], "key 1001");

        let text = stdout(&home.run(&["agent", "disable", "1", "--dry-run"]));
        assert!(text.contains("key 1010 and 1990 more: 0 gained, 2000 lost\n"), "{text}");
        assert!(text.contains("  - and 1750 more\n"), "{text}");
    });
}
