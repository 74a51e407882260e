//! The whole decision against a second, naive reading of sections 2.1 to 2.4, on generated worlds and questions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod naive;
mod worlds;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::sync::Arc;

use keyward::decide::{self, Asker, Inquiry, StepResult};
use keyward::directory::{Compiler, Directory};
use keyward::model::record::{AgentName, Attributes, Label};
use keyward::model::{
    Agent, AllowList, Binding, CodeHash, Codes, Credential, Endpoint, Id, Method, Mode, Modes, Pepper, PresentedCode,
    Record, RetiringCode, Revision, Template, UnixSeconds, Verdict,
};
use keyward::tags::{Tag, TagSet};
use naive::{Answer, Who, World};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use worlds::Question;

const CASES: u32 = 2000;
const QUESTIONS: usize = 16;
/// Each reason, and each kind of yes, must come up so often: else the worlds have grown too poor to show anything.
const SEEN_OFTEN: u32 = 50;

fn pepper() -> Arc<Pepper> {
    Arc::new(Pepper::new([9; 32].into()))
}

fn mode(name: &str) -> Mode {
    Mode::from_scheme(name.as_bytes()).unwrap()
}

fn set(patterns: &[String]) -> Arc<TagSet> {
    Arc::new(TagSet::from_items(patterns.iter().map(String::as_str)).unwrap())
}

/// The record as the product keeps it.
fn record(of: &naive::Record, pepper: &Pepper) -> Record {
    match of {
        naive::Record::Agent(of) => Record::Agent(Agent {
            id: Id::new(of.id).unwrap(),
            name: AgentName::parse(&of.name).unwrap(),
            permissions: set(&of.permissions),
            enabled: of.enabled,
            removed: of.removed,
            attributes: Attributes::parse(of.attributes.iter().cloned()).unwrap(),
        }),
        naive::Record::Endpoint(of) => Record::Endpoint(Endpoint {
            method: Method::parse(&of.method).unwrap(),
            template: Template::parse(&of.template).unwrap(),
            tags: of.tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
            modes: Modes::parse(of.modes.iter().copied()).unwrap(),
            removed: of.removed,
        }),
        naive::Record::Credential(of) => Record::Credential(credential(of, pepper)),
    }
}

fn credential(of: &naive::Credential, pepper: &Pepper) -> Credential {
    let hash =
        |code: &str| -> CodeHash { pepper.hash(mode(of.mode), of.id, PresentedCode::parse(code.as_bytes()).unwrap()) };
    let agent = of.agent.map(|id| Id::new(id).unwrap());
    Credential {
        mode: mode(of.mode),
        id: Id::new(of.id).unwrap(),
        label: Label::default(),
        binding: if of.superuser { Binding::Superuser { default: agent } } else { Binding::Agent(agent.unwrap()) },
        tags: set(&of.tags),
        codes: Codes {
            current: hash(&of.code),
            retiring: of
                .retiring
                .as_ref()
                .map(|(code, until)| RetiringCode { hash: hash(code), until: UnixSeconds(*until) }),
        },
        enabled: of.enabled,
        revoked: of.revoked,
        not_before: of.not_before.map(UnixSeconds),
        expires_at: of.expires_at.map(UnixSeconds),
        rate: None,
        parent: of.parent.map(|(of_mode, id)| (mode(of_mode), Id::new(id).unwrap())),
        foreign: None,
        allow_ip: of.allow_ip.as_ref().map(|blocks| AllowList::parse(blocks.iter().copied()).unwrap()),
        app_id: of.app_id,
    }
}

/// The product's verdict in the naive reading's words.
fn told(verdict: &Verdict<'_>) -> Answer {
    let terms = match verdict {
        Verdict::Deny(reason) => return Answer::No(format!("{reason:?}")),
        Verdict::Unavailable => return Answer::No("Unavailable".into()),
        Verdict::Allow(terms) => terms,
    };
    let who = terms.identity.map(|identity| Who {
        mode: identity.mode.name().to_string(),
        id: identity.credential_id,
        code: format!("{:?}", identity.code),
        expires_at: identity.expires_at.map(|at| at.0),
        app_id: identity.app_id,
        agent: identity.agent.id,
        name: identity.agent.name().to_string(),
        attributes: identity.agent.attributes().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
        switched: identity.switched,
    });
    let route =
        terms.route.map(|route| (route.template().to_string(), route.tags().map(ToString::to_string).collect()));
    Answer::Yes { who, route }
}

/// The state after all changes: each record as it was written last.
fn latest(changes: &[Vec<naive::Record>]) -> BTreeMap<String, naive::Record> {
    changes.iter().flatten().map(|record| (record.name(), record.clone())).collect()
}

/// Applies the changes one after the other; the product says of each which sets nobody uses any more.
fn compile_in_steps(changes: &[Vec<naive::Record>], pepper: &Arc<Pepper>) -> Result<Compiler, TestCaseError> {
    let mut compiler = Compiler::new(Arc::clone(pepper));
    let mut stored: HashSet<Vec<String>> = HashSet::new();
    for (done, change) in changes.iter().enumerate() {
        let records: Vec<Record> = change.iter().map(|of| record(of, pepper)).collect();
        let unused = compiler.apply(&records, Revision(done as u64 + 1));
        let used: HashSet<Vec<String>> = latest(&changes[..=done]).values().filter_map(set_of).cloned().collect();
        stored.extend(change.iter().filter_map(set_of).cloned());
        for set in unused {
            let patterns: Vec<String> = set.patterns().iter().map(ToString::to_string).collect();
            prop_assert!(stored.remove(&patterns), "{patterns:?} was given up twice, or never there");
        }
        prop_assert_eq!(&stored, &used, "sets that nobody uses are given up, no others");
        prop_assert_eq!(compiler.set_count(), used.len());
    }
    prop_assert_eq!(compiler.directory().revision(), Revision(changes.len() as u64));
    Ok(compiler)
}

fn set_of(record: &naive::Record) -> Option<&Vec<String>> {
    match record {
        naive::Record::Agent(agent) => Some(&agent.permissions),
        naive::Record::Credential(credential) => Some(&credential.tags),
        naive::Record::Endpoint(_) => None,
    }
}

/// Judges a question's targets one by one, as a batch, and on a directory compiled at once; explains those it can.
fn compare(
    directories: [&Directory; 2],
    world: &World,
    question: &Question,
    seen: &RefCell<BTreeMap<String, u32>>,
) -> TestCaseResult {
    let ask = question.ask(world);
    let [asker, uncoded] = [ask.credential.as_deref(), None].map(|credential| Asker {
        credential,
        agent: ask.agent.as_deref(),
        address: ask.address.as_deref(),
    });
    let now = UnixSeconds(question.now);
    let delegated = question.credential(world).is_some_and(|known| known.parent.is_some());
    let mut batch = Inquiry::new(directories[0], asker, now);
    for target in &question.targets {
        let expected = naive::answer(world, &ask, target, question.now);
        *seen.borrow_mut().entry(kind(&expected, delegated)).or_default() += 1;
        let texts: Vec<&[u8]> =
            if let naive::Target::Tags(tags) = target { tags.iter().map(Vec::as_slice).collect() } else { Vec::new() };
        let asked = match target {
            naive::Target::Nobody => decide::Target::Nobody,
            naive::Target::Endpoint(method, path) => decide::Target::Endpoint { method, path },
            naive::Target::Tags(_) => decide::Target::Tags(&texts),
        };
        for directory in directories {
            prop_assert_eq!(&told(&decide::decide(directory, &asker, &asked, now)), &expected, "{:?}", target);
        }
        prop_assert_eq!(&told(&batch.decide(&asked)), &expected, "in a batch: {:?}", target);
        if let (naive::Target::Endpoint(method, path), Some(known)) = (target, question.credential(world)) {
            let right = format!("{} {}:{}", known.mode, known.id, known.code).into_bytes();
            let ask = naive::Ask { credential: Some(right), ..ask.clone() };
            let expected = naive::answer(world, &ask, target, question.now);
            let named = (mode(known.mode), known.id);
            let explained = decide::explain(directories[0], named, &uncoded, (method, path), now);
            prop_assert_eq!(&told(&explained.verdict), &expected, "explained: {:?}", target);
            let steps: Vec<(u8, StepResult)> = explained.steps.iter().map(|step| (step.number, step.result)).collect();
            prop_assert!(steps.is_sorted_by_key(|(number, _)| *number), "{steps:?}");
            let ended: Vec<String> = steps.iter().filter_map(|(_, result)| end(*result)).collect();
            let expected_end = match &expected {
                Answer::No(reason) => vec![reason.clone()],
                Answer::Yes { who: None, .. } => vec!["Allowed".to_string()],
                Answer::Yes { .. } => vec![],
            };
            prop_assert_eq!(ended, expected_end, "one step ends it");
        }
    }
    Ok(())
}

fn end(result: StepResult) -> Option<String> {
    match result {
        StepResult::Passed | StepResult::Skipped => None,
        StepResult::Allowed => Some("Allowed".into()),
        StepResult::Denied(reason) => Some(format!("{reason:?}")),
        StepResult::Unavailable => Some("Unavailable".into()),
    }
}

/// What is counted of an answer.
fn kind(answer: &Answer, delegated: bool) -> String {
    match answer {
        Answer::No(reason) => reason.clone(),
        Answer::Yes { who: None, .. } => "Ok public".into(),
        Answer::Yes { .. } if delegated => "Ok delegated".into(),
        Answer::Yes { who: Some(who), .. } if who.switched => "Ok switched".into(),
        Answer::Yes { who: Some(who), route } => {
            format!("Ok {} on {}", who.code, if route.is_some() { "endpoint" } else { "nothing or tags" })
        }
    }
}

#[test]
fn every_decision_is_the_one_that_the_naive_reading_comes_to() {
    let pepper = pepper();
    let seen = RefCell::new(BTreeMap::new());
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let cases = (worlds::changes(), prop::collection::vec(worlds::question(), QUESTIONS));
    let outcome = TestRunner::new(config).run(&cases, |(changes, questions)| {
        let compiler = compile_in_steps(&changes, &pepper)?;
        let latest = latest(&changes);
        let mut fresh = Compiler::new(Arc::clone(&pepper));
        let records: Vec<Record> = latest.values().map(|of| record(of, &pepper)).collect();
        prop_assert!(fresh.apply(&records, Revision(1)).is_empty());
        let world = World::of(latest.values());
        let live = world.endpoints.iter().filter(|endpoint| !endpoint.removed).count();
        prop_assert_eq!([compiler.endpoint_count(), fresh.endpoint_count()], [live; 2]);
        for question in &questions {
            compare([compiler.directory(), fresh.directory()], &world, question, &seen)?;
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let seen = seen.into_inner();
    writeln!(std::io::stderr(), "{seen:?}").unwrap();
    let reasons = 19;
    let kinds_of_yes = ["public", "switched", "delegated", "Current on", "Retiring on"];
    assert!(seen.keys().filter(|kind| !kind.starts_with("Ok")).count() == reasons, "not every reason came up");
    assert!(kinds_of_yes.iter().all(|yes| seen.keys().any(|kind| kind.contains(yes))), "not every kind of yes came up");
    assert!(seen.values().all(|count| *count >= SEEN_OFTEN), "some came up too seldom");
}
