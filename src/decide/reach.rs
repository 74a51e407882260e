//! What can a credential reach? Every endpoint judged by the checklist of [`super::decide`], without code and address.

use super::explain::Told;
use super::{Asker, Stop};
use crate::directory::{Directory, HotAgent, HotCredential, HotEndpoint, Lookup, SetSlot};
use crate::model::{Mode, Modes, Reason, Route, UnixSeconds};

/// An endpoint that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reachable<'d> {
    /// `GET`
    pub method: &'d str,
    /// Its template and tags.
    pub route: Route<'d>,
    /// Who may use it.
    pub modes: Modes,
}

/// A part of what can be reached, in the order of method and path.
#[derive(Debug, PartialEq, Eq)]
pub struct ReachPage<'d> {
    /// As many as asked for, or fewer on the last page.
    pub endpoints: Vec<Reachable<'d>>,
    /// `after` for the next page; `None` on the last.
    pub next: Option<Vec<u8>>,
}

/// Why it can't be said.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreached {
    /// The credential, or the agent that it would act as, is not in force: the reason in words.
    NotInForce(Reason, String),
    /// What the answer rests on is damaged.
    Damaged(String),
}

/// The endpoints behind `after`, at most `limit`, that `mode id` with its right code could call as `agent` from an
/// address that suits it: steps 5, 7, 9, 10 and 11 of the table. Public ones are among them.
///
/// # Errors
/// See [`Unreached`].
pub fn reach<'d>(
    directory: &'d Directory,
    (mode, id): (Mode, u64),
    agent: Option<&[u8]>,
    now: UnixSeconds,
    (after, limit): (&[u8], usize),
) -> Result<ReachPage<'d>, Unreached> {
    let mut told = Told::new();
    let asker = Asker { agent, ..Asker::default() };
    let (credential, parent, agent) =
        told.in_force(directory, (mode, id), &asker, now).map_err(|stop| unreached(stop, &told))?;
    let parent = parent.map(|parent| parent.credential);
    let Lookup::Found(endpoints) = directory.endpoints() else {
        return Err(Unreached::Damaged("endpoints can't be told among damaged rows".to_string()));
    };
    let start = endpoints.partition_point(|endpoint| is_at_or_before(endpoint, after));
    let mut page = ReachPage { endpoints: Vec::new(), next: None };
    let mut last = None;
    let grants = Grants::new(credential, parent, Some(agent));
    for endpoint in endpoints[start..].iter().filter(|endpoint| can_call(directory, grants, mode, endpoint)) {
        if page.endpoints.len() == limit {
            page.next = last.map(mark);
            break;
        }
        page.endpoints.push(reachable(endpoint));
        last = Some(endpoint);
    }
    Ok(page)
}

/// The sets that must all grant an endpoint's tags.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Grants {
    own: SetSlot,
    parent: Option<SetSlot>,
    /// `None` for an agent that may do everything.
    agent: Option<SetSlot>,
}

impl Grants {
    pub(super) fn new(credential: &HotCredential, parent: Option<&HotCredential>, agent: Option<&HotAgent>) -> Self {
        let agent = agent.map(|agent| agent.permissions);
        Self { own: credential.set(), parent: parent.map(HotCredential::set), agent }
    }
}

/// The same three checks as a question's, in their order.
pub(super) fn can_call(directory: &Directory, grants: Grants, mode: Mode, endpoint: &HotEndpoint) -> bool {
    let judge = |set| directory.set(set).judge_numbered(&endpoint.numbers);
    let granted = |set| super::tags_granted(judge(set)).is_ok();
    endpoint.modes.is_public()
        || super::mode_allowed(endpoint, mode).is_ok()
            && granted(grants.own)
            && grants.parent.is_none_or(granted)
            && grants.agent.is_none_or(|agent| super::agent_permits(judge(agent)).is_ok())
}

fn unreached(stop: Stop, told: &Told) -> Unreached {
    let why = told.last_words().to_string();
    match stop {
        Stop::Deny(reason) => Unreached::NotInForce(reason, why),
        Stop::Fault | Stop::Unproven => Unreached::Damaged(why),
    }
}

fn reachable(endpoint: &HotEndpoint) -> Reachable<'_> {
    Reachable { method: endpoint.method().as_str(), route: endpoint.route(), modes: endpoint.modes }
}

/// Names an endpoint's place: a method holds no blank.
fn mark(endpoint: &HotEndpoint) -> Vec<u8> {
    format!("{} {}", endpoint.method(), endpoint.shape()).into_bytes()
}

fn is_at_or_before(endpoint: &HotEndpoint, mark: &[u8]) -> bool {
    let (method, shape) = match mark.iter().position(|byte| *byte == b' ') {
        Some(at) => (&mark[..at], &mark[at + 1..]),
        None => (mark, &[][..]),
    };
    (endpoint.method().as_str().as_bytes(), endpoint.shape().as_bytes()) <= (method, shape)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::Arc;

    use zeroize::Zeroizing;

    use super::*;
    use crate::directory::Compiler;
    use crate::model::record::{AgentName, Attributes, Label};
    use crate::model::{
        Agent, Binding, CodeHash, Codes, Credential, Endpoint, Id, Kind, Method, Pepper, Record, Revision, Template,
    };
    use crate::tags::{Tag, TagSet};

    const NOW: UnixSeconds = UnixSeconds(1000);
    const KEY: (Mode, u64) = (Mode::Key, 2);

    /// Agent 1 may all, key 2 is bound to it and may `a`.
    fn compiler() -> Compiler {
        let mut compiler = Compiler::new(Arc::new(Pepper::new(Zeroizing::new([7; 32]))));
        let agent = Agent {
            id: Id::new(1).unwrap(),
            name: AgentName::parse("Admin").unwrap(),
            permissions: Arc::new(TagSet::everything()),
            enabled: true,
            removed: false,
            attributes: Attributes::default(),
        };
        let credential = Credential {
            mode: Mode::Key,
            id: Id::new(2).unwrap(),
            label: Label::default(),
            binding: Binding::Agent(Id::new(1).unwrap()),
            tags: Arc::new(TagSet::parse("a").unwrap()),
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
        };
        let endpoint = |method: &str, path: &str, tag: &str| {
            Record::Endpoint(Endpoint {
                method: Method::parse(method).unwrap(),
                template: Template::parse(path).unwrap(),
                tags: vec![Tag::parse(tag).unwrap()],
                modes: Modes::ALL,
                removed: false,
            })
        };
        let endpoints = [
            endpoint("POST", "/a", "a"),
            endpoint("GET", "/b/{id}", "a"),
            endpoint("GET", "/b", "a"),
            endpoint("GET", "/a", "b"),
            endpoint("G", "/z", "a"),
        ];
        compiler.apply(&[Record::Agent(agent), Record::Credential(credential)], Revision(1));
        compiler.apply(&endpoints, Revision(2));
        compiler
    }

    fn names(page: &ReachPage<'_>) -> Vec<String> {
        page.endpoints.iter().map(|e| format!("{} {}", e.method, e.route.template())).collect()
    }

    #[test]
    fn pages_go_on_where_the_one_before_ended_whatever_their_size() {
        let compiler = compiler();
        for limit in 1..6 {
            let (mut all, mut after) = (Vec::new(), Vec::new());
            loop {
                let page = reach(compiler.directory(), KEY, None, NOW, (&after, limit)).unwrap();
                assert!(page.endpoints.len() <= limit);
                all.extend(names(&page));
                match page.next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            assert_eq!(all, ["G /z", "GET /b", "GET /b/{id}", "POST /a"], "by {limit}");
        }
    }

    #[test]
    fn a_mark_that_no_page_gave_is_a_place_like_any_other() {
        let compiler = compiler();
        for (mark, count) in [(&b"GET"[..], 3), (b"GET /b", 2), (b"GET /bb", 1), (b"", 4), (b" ", 4), (b"\xff", 0)] {
            let page = reach(compiler.directory(), KEY, None, NOW, (mark, 10)).unwrap();
            assert_eq!(page.endpoints.len(), count, "{mark:?}");
        }
    }

    #[test]
    fn damaged_rows_are_a_fault_and_never_an_answer_that_leaves_something_out() {
        for (kind, key) in [
            (Kind::Endpoint, KEY),
            (Kind::Credential(Mode::Key), (Mode::Key, 99)),
            (Kind::Credential(Mode::Token), (Mode::Token, 2)),
        ] {
            let mut compiler = compiler();
            assert!(!matches!(reach(compiler.directory(), key, None, NOW, (b"", 10)), Err(Unreached::Damaged(_))));
            compiler.mark_damaged(kind);
            assert!(matches!(reach(compiler.directory(), key, None, NOW, (b"", 10)), Err(Unreached::Damaged(_))));
        }
    }
}
