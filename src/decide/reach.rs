//! What can a credential reach? Every endpoint judged by the checklist of [`super::decide`], without code and address.

use super::explain::Told;
use super::{Asker, Stop};
use crate::directory::{Directory, HotAgent, HotCredential, HotEndpoint, Lookup};
use crate::model::{Mode, Modes, Reason, UnixSeconds};

/// An endpoint that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reachable<'d> {
    /// `GET`
    pub method: &'d str,
    /// The path template as written.
    pub template: &'d str,
    /// Its tags.
    pub tags: &'d [Box<str>],
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
    let (credential, agent) =
        told.in_force(directory, (mode, id), &asker, now).map_err(|stop| unreached(stop, &told))?;
    let Lookup::Found(endpoints) = directory.endpoints() else {
        return Err(Unreached::Damaged("endpoints can't be told among damaged rows".to_string()));
    };
    let start = endpoints.partition_point(|endpoint| is_at_or_before(endpoint, after));
    let mut page = ReachPage { endpoints: Vec::new(), next: None };
    let mut last = None;
    for endpoint in endpoints[start..].iter().filter(|endpoint| can_call(directory, credential, agent, mode, endpoint))
    {
        if page.endpoints.len() == limit {
            page.next = last.map(mark);
            break;
        }
        page.endpoints.push(reachable(endpoint));
        last = Some(endpoint);
    }
    Ok(page)
}

/// The same three checks as a question's, in their order.
fn can_call(
    directory: &Directory,
    credential: &HotCredential,
    agent: &HotAgent,
    mode: Mode,
    endpoint: &HotEndpoint,
) -> bool {
    let judge = |set| directory.set(set).judge_numbered(&endpoint.numbers);
    endpoint.modes.is_public()
        || super::mode_allowed(endpoint, mode).is_ok()
            && super::tags_granted(judge(credential.set())).is_ok()
            && super::agent_permits(judge(agent.permissions)).is_ok()
}

fn unreached(stop: Stop, told: &Told) -> Unreached {
    let why = told.last_words().to_string();
    match stop {
        Stop::Deny(reason) => Unreached::NotInForce(reason, why),
        Stop::Fault => Unreached::Damaged(why),
    }
}

fn reachable(endpoint: &HotEndpoint) -> Reachable<'_> {
    Reachable {
        method: endpoint.method.as_str(),
        template: &endpoint.template,
        tags: &endpoint.tags,
        modes: endpoint.modes,
    }
}

/// Names an endpoint's place: a method holds no blank.
fn mark(endpoint: &HotEndpoint) -> Vec<u8> {
    format!("{} {}", endpoint.method, endpoint.shape).into_bytes()
}

fn is_at_or_before(endpoint: &HotEndpoint, mark: &[u8]) -> bool {
    let (method, shape) = match mark.iter().position(|byte| *byte == b' ') {
        Some(at) => (&mark[..at], &mark[at + 1..]),
        None => (mark, &[][..]),
    };
    (endpoint.method.as_str().as_bytes(), endpoint.shape.as_bytes()) <= (method, shape)
}
