//! The same checklist as [`super::decide`], told step by step. It needs no code: an operator asks about a credential.

use std::fmt::Write as _;

use super::{Asker, Stop};
use crate::directory::{Directory, HotAgent, HotCredential, HotEndpoint, Lookup};
use crate::model::{CodeSlot, Identity, Mode, Reason, Terms, UnixSeconds, Verdict};
use crate::tags::{CompiledSet, Outcome, Tag, TagRef};

/// One row of the table in section 2.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// 1 to 12.
    pub number: u8,
    /// How it ended.
    pub result: StepResult,
    /// In words.
    pub why: String,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// The next step follows.
    Passed,
    /// It does not apply.
    Skipped,
    /// It allowed: a public endpoint.
    Allowed,
    /// It denied.
    Denied(Reason),
    /// What it rests on is damaged.
    Unavailable,
}

/// Every step up to the one that ended it, and the verdict.
pub struct Explanation<'d> {
    /// In order.
    pub steps: Vec<Step>,
    /// What the right code would get.
    pub verdict: Verdict<'d>,
}

/// Explains what `mode id` with its right code would get for `method path`. `asker.credential` is not looked at.
pub fn explain<'d>(
    directory: &'d Directory,
    (mode, id): (Mode, u64),
    asker: &Asker<'_>,
    (method, path): (&[u8], &[u8]),
    now: UnixSeconds,
) -> Explanation<'d> {
    let mut told = Told::new();
    let verdict = match told.walk(directory, (mode, id), asker, (method, path), now) {
        Ok(terms) => Verdict::Allow(terms),
        Err(stop) => stop.into(),
    };
    Explanation { steps: told.steps, verdict }
}

/// What a token was made from, and what it is called in the words of a step.
pub(super) struct Parent<'d> {
    pub(super) credential: &'d HotCredential,
    name: String,
}

/// The steps that were taken so far.
pub(super) struct Told {
    steps: Vec<Step>,
}

impl Told {
    pub(super) const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// What was said of the last step.
    pub(super) fn last_words(&self) -> &str {
        self.steps.last().map_or("", |step| &step.why)
    }

    /// The credential, its parent and the agent it would act as, when all are in force; its code and the address are not
    /// asked for.
    pub(super) fn in_force<'d>(
        &mut self,
        directory: &'d Directory,
        (mode, id): (Mode, u64),
        asker: &Asker<'_>,
        now: UnixSeconds,
    ) -> Result<(&'d HotCredential, Option<Parent<'d>>, &'d HotAgent), Stop> {
        let wanted = self.check(1, super::wanted_agent(asker), wanted_words(asker))?;
        let credential = self.credential(directory, mode, id)?;
        let parent = self.state(directory, credential, now)?;
        let (_, agent) = self.agent(directory, (credential, parent.as_ref()), wanted)?;
        Ok((credential, parent, agent))
    }

    fn note(&mut self, number: u8, result: StepResult, why: impl Into<String>) {
        self.steps.push(Step { number, result, why: why.into() });
    }

    /// Notes how a check ended and hands its outcome on.
    fn check<T>(&mut self, number: u8, outcome: Result<T, impl Into<Stop>>, why: String) -> Result<T, Stop> {
        let outcome = outcome.map_err(Into::into);
        let result = match &outcome {
            Ok(_) => StepResult::Passed,
            Err(Stop::Deny(reason)) => StepResult::Denied(*reason),
            Err(Stop::Fault | Stop::Unproven) => StepResult::Unavailable,
        };
        self.note(number, result, why);
        outcome
    }

    fn walk<'d>(
        &mut self,
        directory: &'d Directory,
        (mode, id): (Mode, u64),
        asker: &Asker<'_>,
        (method, path): (&[u8], &[u8]),
        now: UnixSeconds,
    ) -> Result<Terms<'d>, Stop> {
        let wanted = self.check(1, super::wanted_agent(asker), wanted_words(asker))?;
        let found = super::find_endpoint(directory, method, path);
        let found = self.check(1, found, "method and path are within bounds".into())?;
        if let Some(route) = super::public_endpoint(found).map(HotEndpoint::route) {
            self.note(2, StepResult::Allowed, format!("{} is public: no credential is looked at", route.template()));
            return Ok(Terms { identity: None, route: Some(route) });
        }
        self.note(2, StepResult::Passed, "the target is no public endpoint: a credential is needed");
        self.note(3, StepResult::Skipped, format!("taken as presented: {mode} {id}"));
        let credential = self.credential(directory, mode, id)?;
        let parent = self.state(directory, credential, now)?;
        self.check(6, super::address_allowed(credential, asker), address_words(credential, asker))?;
        if let Some(Parent { credential, name }) = &parent {
            let why = format!("{name}: {}", address_words(credential, asker));
            self.check(6, super::address_allowed(credential, asker), why)?;
        }
        let (agent_id, agent) = self.agent(directory, (credential, parent.as_ref()), wanted)?;
        let endpoint = self.check(8, found, route_words(found))?;
        let switched = wanted.is_some() && credential.agent() != Some(agent_id);
        let of_parent = parent.as_ref().map(|parent| parent.credential);
        let (code, code_mark) = (CodeSlot::Current, credential.hash().mark());
        let known = super::Known { mode, id, credential, parent: of_parent, code, code_mark, agent, switched };
        let identity = known.identity();
        self.permissions(directory, endpoint, (credential, parent.as_ref(), agent), &identity)?;
        self.note(12, StepResult::Skipped, rate_words(credential));
        Ok(Terms { identity: Some(identity), route: Some(endpoint.route()) })
    }

    fn credential<'d>(&mut self, directory: &'d Directory, mode: Mode, id: u64) -> Result<&'d HotCredential, Stop> {
        let (outcome, why) = match directory.credential(mode, id) {
            Lookup::Found(credential) => {
                self.note(4, StepResult::Skipped, format!("there is a {mode} {id}; its code is taken as right"));
                return Ok(credential);
            }
            Lookup::Absent => (Stop::Deny(Reason::BadCredential), format!("there is no {mode} {id}")),
            Lookup::Damaged => (Stop::Fault, format!("{mode} {id} can't be found among damaged rows")),
        };
        self.check(4, Err(outcome), why)
    }

    /// Step 5: the credential's own state, then its parent's.
    fn state<'d>(
        &mut self,
        directory: &'d Directory,
        credential: &HotCredential,
        now: UnixSeconds,
    ) -> Result<Option<Parent<'d>>, Stop> {
        self.check(5, super::credential_in_force(credential, now), state_words(credential, now))?;
        let Some((mode, id)) = credential.parent() else { return Ok(None) };
        let name = format!("its parent {mode} {id}");
        let found = super::delegation::parent(directory, credential);
        let why = match found {
            Ok(Some(parent)) => format!("{name}: {}", state_words(parent, now)),
            Ok(None) | Err(Stop::Deny(_)) => format!("{name} is gone, and the token with it"),
            Err(Stop::Fault | Stop::Unproven) => format!("{name} can't be found among damaged rows"),
        };
        let in_force = found.and_then(|parent| Ok(super::delegation::in_force(parent, now).map(|()| parent)?));
        let parent = self.check(5, in_force, why)?;
        Ok(parent.map(|credential| Parent { credential, name }))
    }

    fn agent<'d>(
        &mut self,
        directory: &'d Directory,
        (credential, parent): (&HotCredential, Option<&Parent<'_>>),
        wanted: Option<u64>,
    ) -> Result<(u64, &'d HotAgent), Stop> {
        let agent_id = self.check(7, super::acting_agent(credential, wanted), binding_words(credential, wanted))?;
        if let Some(Parent { credential, name }) = parent {
            let why = format!("{name}: {}", binding_words(credential, Some(agent_id)));
            self.check(7, super::delegation::may_act_as(Some(credential), agent_id), why)?;
        }
        let outcome = super::enabled_agent(directory, agent_id);
        let why = match &outcome {
            Ok(agent) => format!("agent {agent_id} is {:?}, enabled", agent.terms.name()),
            Err(Stop::Deny(Reason::AgentDisabled)) => format!("agent {agent_id} is disabled"),
            Err(Stop::Deny(_)) => format!("there is no agent {agent_id}"),
            Err(Stop::Fault | Stop::Unproven) => format!("agent {agent_id} can't be found among damaged rows"),
        };
        self.check(7, outcome, why).map(|agent| (agent_id, agent))
    }

    fn permissions(
        &mut self,
        directory: &Directory,
        endpoint: &HotEndpoint,
        (credential, parent, agent): (&HotCredential, Option<&Parent<'_>>, &HotAgent),
        identity: &Identity<'_>,
    ) -> Result<(), Stop> {
        let modes = endpoint.modes.names().join(", ");
        let why = format!("{} takes {modes}; presented is a {}", endpoint.route().template(), identity.mode);
        self.check(9, super::mode_allowed(endpoint, identity.mode), why)?;
        let set = directory.set(credential.set());
        let outcome = super::tags_granted(set.judge_numbered(&endpoint.numbers));
        self.check(10, outcome, set_words("the credential's set", set, endpoint))?;
        if let Some(Parent { credential, name }) = parent {
            let set = directory.set(credential.set());
            let outcome = super::tags_granted(set.judge_numbered(&endpoint.numbers));
            self.check(10, outcome, set_words(&format!("{name}'s set"), set, endpoint))?;
        }
        let set = directory.set(agent.permissions);
        let outcome = super::agent_permits(set.judge_numbered(&endpoint.numbers));
        self.check(11, outcome, set_words("the agent's permissions", set, endpoint))
    }
}

fn wanted_words(asker: &Asker<'_>) -> String {
    match asker.agent {
        None => "no agent header".into(),
        Some(text) => format!("the agent header says \"{}\"", text.escape_ascii()),
    }
}

fn state_words(credential: &HotCredential, now: UnixSeconds) -> String {
    let mut words = match (credential.is_revoked(), credential.is_enabled()) {
        (true, _) => "it is revoked, for ever".to_string(),
        (false, false) => "it is disabled".to_string(),
        (false, true) => "it is enabled".to_string(),
    };
    if let Some(at) = credential.not_before() {
        let _ = write!(words, ", valid from {}", at.0);
    }
    if let Some(at) = credential.expires_at() {
        let _ = write!(words, ", expires at {}", at.0);
    }
    let _ = write!(words, "; now is {}", now.0);
    words
}

fn address_words(credential: &HotCredential, asker: &Asker<'_>) -> String {
    let Some(list) = credential.allow_ip() else {
        return "it may be used from anywhere".into();
    };
    let blocks: Vec<String> = list.blocks().iter().map(ToString::to_string).collect();
    let from = match asker.address {
        None => "no address was passed".to_string(),
        Some(text) => format!("the address passed is \"{}\"", text.escape_ascii()),
    };
    format!("it may be used from {}; {from}", blocks.join(", "))
}

fn rate_words(credential: &HotCredential) -> String {
    match credential.bucket() {
        None => "it has no rate limit".into(),
        Some(bucket) => format!("its rate is {}; explaining takes nothing from it", bucket.rate()),
    }
}

fn binding_words(credential: &HotCredential, wanted: Option<u64>) -> String {
    let own = match (credential.is_superuser(), credential.agent()) {
        (true, None) => "a superuser key without default agent".to_string(),
        (true, Some(id)) => format!("a superuser key with default agent {id}"),
        (false, Some(id)) => format!("bound to agent {id}"),
        (false, None) => "bound to no agent".to_string(),
    };
    match wanted {
        Some(id) => format!("{own}; agent {id} is asked for"),
        None => format!("{own}; no agent is asked for"),
    }
}

fn route_words(found: Result<&HotEndpoint, Reason>) -> String {
    match found {
        Ok(endpoint) => format!(
            "the endpoint is {} with tags {}",
            endpoint.route().template(),
            endpoint.route().tags().collect::<Vec<_>>().join(", ")
        ),
        Err(Reason::AmbiguousPath) => "the path could be read in more than one way".into(),
        Err(_) => "no endpoint matches method and path".into(),
    }
}

fn set_words(whose: &str, set: &CompiledSet, endpoint: &HotEndpoint) -> String {
    let tags: Vec<Tag> = endpoint.route().tags().filter_map(|text| Tag::parse(text).ok()).collect();
    let tags: Vec<TagRef<'_>> = tags.iter().map(Tag::as_ref).collect();
    match set.set().deciding(&tags) {
        (Outcome::Granted, Some(pattern)) => format!("{whose}: allowed by {pattern}"),
        (Outcome::Denied, Some(pattern)) => format!("{whose}: denied by {pattern}"),
        (_, _) => format!("{whose}: nothing allows it among {}", set.set()),
    }
}
