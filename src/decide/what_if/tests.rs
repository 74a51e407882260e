use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use zeroize::Zeroizing;

use super::*;
use crate::decide::{Asker, explain};
use crate::directory::Compiler;
use crate::model::record::{AgentName, Attributes, Label};
use crate::model::{
    Agent, Binding, CodeHash, Codes, Credential, Endpoint, Id, Method, Modes, Pepper, Record, Revision, Template,
    Verdict,
};
use crate::tags::{Tag, TagSet};

const NOW: UnixSeconds = UnixSeconds(1000);
/// May do everything, and no change touches it.
const ADMIN: u64 = 9;

fn id(id: u64) -> Id {
    Id::new(id).unwrap()
}

fn agent(number: u64, permissions: &str, enabled: bool) -> Agent {
    Agent {
        id: id(number),
        name: AgentName::parse("x").unwrap(),
        permissions: Arc::new(TagSet::parse(permissions).unwrap()),
        enabled,
        removed: false,
        attributes: Attributes::default(),
    }
}

fn credential(mode: Mode, number: u64, binding: Binding, tags: &str) -> Credential {
    Credential {
        mode,
        id: id(number),
        label: Label::default(),
        binding,
        tags: Arc::new(TagSet::parse(tags).unwrap()),
        codes: Codes { current: CodeHash::from_bytes([1; 32]), retiring: None },
        enabled: true,
        revoked: false,
        not_before: None,
        expires_at: None,
        allow_ip: None,
        app_id: None,
        rate: None,
        parent: None,
        foreign: None,
    }
}

fn endpoint(method: &str, path: &str, tags: &[&str], modes: Modes) -> Record {
    Record::Endpoint(Endpoint {
        method: Method::parse(method).unwrap(),
        template: Template::parse(path).unwrap(),
        tags: tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
        modes,
        removed: false,
    })
}

fn endpoints() -> Vec<Record> {
    let keys = Modes::parse(["key"]).unwrap();
    vec![
        endpoint("GET", "/a", &["a"], Modes::ALL),
        endpoint("GET", "/ab", &["a.b"], Modes::ALL),
        endpoint("PUT", "/ab", &["a.b", "b"], Modes::ALL),
        endpoint("GET", "/b", &["b"], keys),
        endpoint("GET", "/c", &["c"], Modes::ALL),
        endpoint("GET", "/public", &["a"], Modes::PUBLIC),
    ]
}

fn compiler(records: &[Record]) -> Compiler {
    let mut compiler = Compiler::new(Arc::new(Pepper::new(Zeroizing::new([7; 32]))));
    compiler.apply(records, Revision(1));
    compiler
}

/// What becomes of `compiler`'s state by `change`, as it is told.
fn compared(compiler: &Compiler, change: &Record) -> Comparison {
    let mut after = compiler.clone();
    after.apply([change], Revision(2));
    compare(compiler.directory(), after.directory(), &[change.key()], NOW).unwrap()
}

/// What one may call by asking for every endpoint.
fn callable(directory: &Directory, name: (Mode, u64), agent: Option<&[u8]>) -> BTreeSet<(String, String)> {
    let asker = Asker { agent, ..Asker::default() };
    let Lookup::Found(endpoints) = directory.endpoints() else { return BTreeSet::new() };
    let names = endpoints.iter().map(|e| (e.method().as_str().to_string(), e.route().template().to_string()));
    let allowed = |(method, path): &(String, String)| {
        let told = explain(directory, name, &asker, (method.as_bytes(), path.as_bytes()), NOW);
        matches!(told.verdict, Verdict::Allow(_))
    };
    names.filter(allowed).collect()
}

type Told = BTreeMap<(Mode, u64), (Vec<(String, String)>, Vec<(String, String)>)>;

/// The difference by brute force, over all credentials, affected or not.
fn brute_force(before: &Directory, after: &Directory) -> Told {
    let mut told = Told::new();
    for (mode, number) in Mode::ALL.into_iter().flat_map(|mode| (1..=6).map(move |number| (mode, number))) {
        let (Lookup::Found(old), Lookup::Found(new)) =
            (before.credential(mode, number), after.credential(mode, number))
        else {
            continue;
        };
        let named = (acts_as_any_only(old) && acts_as_any_only(new)).then_some(&b"9"[..]);
        let (old, new) = (callable(before, (mode, number), named), callable(after, (mode, number), named));
        if old != new {
            let gained = new.difference(&old).cloned().collect();
            told.insert((mode, number), (gained, old.difference(&new).cloned().collect()));
        }
    }
    told
}

fn told(comparison: Comparison) -> Told {
    let mut told = Told::new();
    for effect in comparison.effects {
        assert_eq!(effect.credentials_total, effect.credentials.len() as u64);
        assert_eq!(effect.gained.total, effect.gained.listed.len() as u64);
        assert_eq!(effect.lost.total, effect.lost.listed.len() as u64);
        for name in effect.credentials {
            let again = told.insert(name, (effect.gained.listed.clone(), effect.lost.listed.clone()));
            assert_eq!(again, None, "{name:?} is in two effects");
        }
    }
    assert_eq!(told.len() as u64, comparison.affected);
    told
}

/// A record that a failing case can print.
#[derive(Clone, Debug)]
enum Drawn {
    Agent { number: u64, permissions: &'static str, enabled: bool, removed: bool },
    Credential { mode: Mode, number: u64, agent: u64, tags: &'static str, state: State },
}

#[derive(Clone, Debug)]
struct State {
    superuser: bool,
    enabled: bool,
    revoked: bool,
    not_before: Option<u64>,
    expires_at: Option<u64>,
}

impl Drawn {
    fn record(&self) -> Record {
        match self {
            Self::Agent { number, permissions, enabled, removed } => {
                Record::Agent(Agent { removed: *removed, ..agent(*number, permissions, *enabled) })
            }
            Self::Credential { mode, number, agent, tags, state } => {
                let State { superuser, enabled, revoked, not_before, expires_at } = *state;
                let (mode, binding) = match (superuser, Id::new(*agent)) {
                    (false, Some(agent)) => (*mode, Binding::Agent(agent)),
                    (_, default) => (Mode::Key, Binding::Superuser { default }),
                };
                let (not_before, expires_at) = (not_before.map(UnixSeconds), expires_at.map(UnixSeconds));
                let plain = credential(mode, *number, binding, tags);
                Record::Credential(Credential { enabled, revoked, not_before, expires_at, ..plain })
            }
        }
    }
}

fn any_set() -> impl Strategy<Value = &'static str> {
    select(vec!["*", "*", "a", "a.*", "b", "*, -b", "a, b", "*.b, -a", "c"])
}

fn any_agent() -> impl Strategy<Value = Drawn> {
    (1..=3_u64, any_set(), prop::bool::weighted(0.8), prop::bool::weighted(0.1))
        .prop_map(|(number, permissions, enabled, removed)| Drawn::Agent { number, permissions, enabled, removed })
}

fn any_time() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![6 => Just(None), 1 => (999..=1001_u64).prop_map(Some)]
}

fn any_credential() -> impl Strategy<Value = Drawn> {
    let switches = (prop::bool::weighted(0.3), prop::bool::weighted(0.9), prop::bool::weighted(0.1));
    let state =
        (switches, any_time(), any_time()).prop_map(|((superuser, enabled, revoked), not_before, expires_at)| State {
            superuser,
            enabled,
            revoked,
            not_before,
            expires_at,
        });
    (select(Mode::ALL.to_vec()), 1..=6_u64, 0..=3_u64, any_set(), state)
        .prop_map(|(mode, number, agent, tags, state)| Drawn::Credential { mode, number, agent, tags, state })
}

fn last_of_each(records: impl IntoIterator<Item = Record>) -> Vec<Record> {
    let by_key: BTreeMap<RecordKey, Record> = records.into_iter().map(|record| (record.key(), record)).collect();
    by_key.into_values().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_told_is_what_asking_for_everything_before_and_after_shows(
        known in prop::collection::vec(prop_oneof![1 => any_agent(), 3 => any_credential()], 0..20),
        change in prop_oneof![any_agent(), any_credential()],
    ) {
        let change = change.record();
        let admin = Record::Agent(agent(ADMIN, "*", true));
        // A change is of a record that is there, as it was before.
        let mut records = last_of_each([change.clone()].into_iter().chain(known.iter().map(Drawn::record)));
        records.extend(endpoints());
        records.push(admin);
        let before = compiler(&records);
        let mut after = before.clone();
        after.apply([&change], Revision(2));
        let comparison = compare(before.directory(), after.directory(), &[change.key()], NOW).unwrap();
        prop_assert_eq!(told(comparison), brute_force(before.directory(), after.directory()));
    }
}

/// Agent 1 may everything; key `number` is bound to it with each set.
fn bound_keys(sets: impl IntoIterator<Item = (u64, String)>) -> Vec<Record> {
    let key =
        |(number, set): (u64, String)| Record::Credential(credential(Mode::Key, number, Binding::Agent(id(1)), &set));
    [Record::Agent(agent(1, "*", true))].into_iter().chain(sets.into_iter().map(key)).collect()
}

#[test]
fn credentials_that_lose_the_same_are_one_effect_that_lists_the_first_and_counts_all() {
    let mut records = endpoints();
    let set = |number: u64| if number.is_multiple_of(2) { "a" } else { "a, x" }.to_string();
    records.extend(bound_keys((1..=300).rev().map(|number| (number, set(number)))));
    let comparison = compared(&compiler(&records), &Record::Agent(agent(1, "b", true)));
    assert_eq!((comparison.compared, comparison.affected, comparison.effects_total), (300, 300, 1));
    let effect = &comparison.effects[0];
    let first: Vec<_> = (1..=CREDENTIALS_LISTED_MAX as u64).map(|number| (Mode::Key, number)).collect();
    assert_eq!((&effect.credentials, effect.credentials_total), (&first, 300));
    assert_eq!(effect.lost, Difference { listed: vec![("GET".into(), "/a".into())], total: 1 });
}

#[test]
fn effects_are_bounded_the_largest_first_and_share_the_endpoints_that_are_listed() {
    let many: Vec<Record> =
        (0..1200).map(|n| endpoint("GET", &format!("/n/{n}"), &[&format!("n{}.x", n % 30)], Modes::ALL)).collect();
    let mut records = many;
    // Key 1 of each set, and one more of the last.
    records.extend(bound_keys((0..30).map(|n| (n + 1, format!("n{n}.*"))).chain([(31, "n29.*".to_string())])));
    let comparison = compared(&compiler(&records), &Record::Agent(agent(1, "*", false)));
    assert_eq!((comparison.compared, comparison.affected, comparison.effects_total), (31, 31, 30));
    assert_eq!(comparison.effects.len(), EFFECTS_LISTED_MAX);
    assert_eq!(comparison.effects[0].credentials, [(Mode::Key, 30), (Mode::Key, 31)]);
    assert_eq!(comparison.effects[1].credentials, [(Mode::Key, 1)]);
    for effect in &comparison.effects {
        assert_eq!((effect.lost.listed.len(), effect.lost.total, effect.gained.total), (25, 40, 0));
    }
}

#[test]
fn with_more_different_sets_than_one_answer_judges_the_rest_is_counted() {
    let mut records = endpoints();
    let last = STANDINGS_MAX as u64 + 5;
    records.extend(bound_keys((1..=last).map(|number| (number, format!("a, x{number}")))));
    let comparison = compared(&compiler(&records), &Record::Agent(agent(1, "b", true)));
    assert_eq!((comparison.compared, comparison.not_compared), (STANDINGS_MAX as u64, 5));
    assert_eq!(comparison.affected, STANDINGS_MAX as u64);
}

#[test]
fn notes_say_what_the_lists_leave_out() {
    let superuser = |default: Option<u64>| Binding::Superuser { default: default.map(id) };
    let key = |binding, tags| credential(Mode::Key, 1, binding, tags);
    let bound = || key(Binding::Agent(id(1)), "*");
    let cases: [(Credential, Record, &[&str]); 9] = [
        (bound(), Record::Credential(key(Binding::Agent(id(1)), "a")), &[]),
        (key(superuser(None), "*"), Record::Credential(key(superuser(None), "a")), &["depends on the agent named"]),
        (key(superuser(Some(1)), "*"), Record::Credential(key(superuser(Some(1)), "a")), &["request that names none"]),
        (key(superuser(Some(1)), "*"), Record::Credential(bound()), &["would be bound to one"]),
        (bound(), Record::Credential(key(superuser(Some(1)), "*")), &["as any that a request names"]),
        (
            bound(),
            Record::Credential(Credential { expires_at: Some(UnixSeconds(2000)), ..bound() }),
            &["still to come"],
        ),
        (bound(), Record::Credential(Credential { enabled: false, ..bound() }), &[]),
        (key(superuser(None), "*"), Record::Agent(agent(1, "a", true)), &["1 superuser key may act as agent 1"]),
        (
            Credential { expires_at: Some(NOW), ..bound() },
            Record::Agent(agent(1, "a", true)),
            &["1 of the credentials compared can call nothing"],
        ),
    ];
    for (before, change, expected) in cases {
        let mut records = endpoints();
        records.extend([Record::Agent(agent(1, "*", true)), Record::Credential(before)]);
        let notes = compared(&compiler(&records), &change).notes;
        assert_eq!(notes.len(), expected.len(), "{notes:?}");
        for (note, expected) in notes.iter().zip(expected) {
            assert!(note.contains(expected), "{note:?} says {expected:?}");
        }
    }
}

#[test]
fn damaged_rows_and_changes_of_endpoints_are_no_comparison() {
    let change = Record::Agent(agent(1, "a", true));
    for kind in [Kind::Endpoint, Kind::Credential(Mode::Session)] {
        let mut compiler = compiler(&bound_keys([(1, "*".to_string())]));
        compiler.mark_damaged(kind);
        let told = compare(compiler.directory(), compiler.directory(), &[change.key()], NOW);
        assert!(matches!(told, Err(Uncompared::Damaged(_))), "{kind:?}: {told:?}");
    }
    let compiler = compiler(&endpoints());
    let told = compare(compiler.directory(), compiler.directory(), &[endpoints()[0].key()], NOW);
    assert_eq!(told, Err(Uncompared::Endpoints));
}
