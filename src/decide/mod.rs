//! HOT PATH 2/2: directory + question + now → verdict. Pure: section 2.4 as a checklist, first failure wins.

mod delegation;
mod explain;
mod foreign;
mod reach;
mod what_if;

pub use delegation::state_of_parent;
pub use explain::{Explanation, Step, StepResult, explain};
pub use foreign::{Proof, ProofKey, Upgrade, WantedProof};
pub use reach::{ReachPage, Reachable, Unreached, reach};
pub use what_if::{
    CREDENTIALS_LISTED_MAX, Comparison, Difference, EFFECTS_LISTED_MAX, ENDPOINTS_LISTED_MAX, Effect, Uncompared,
    compare,
};

use std::ptr;

use arrayvec::ArrayVec;

use crate::directory::{Directory, HotAgent, HotCredential, HotEndpoint, Lookup, SetSlot};
use crate::model::{
    Bucket, CodeMark, CodeSlot, Identity, Mode, Pepper, PresentedCredential, Reason, Terms, UnixSeconds, Verdict,
};
use crate::route::{JudgedPath, PATH_BYTES_MAX, is_method};
use crate::tags::{Outcome, TAGS_MAX, TagRef};

/// Targets of a batch (section 2.4).
pub const BATCH_TARGETS_MAX: usize = 1024;

/// Who asks, as the web server received it.
#[derive(Clone, Copy, Default)]
pub struct Asker<'a> {
    /// The credential's header value; `None` when there was no such header.
    pub credential: Option<&'a [u8]>,
    /// The agent header's value.
    pub agent: Option<&'a [u8]>,
    /// The client's address as text.
    pub address: Option<&'a [u8]>,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// Nothing: who is it?
    Nobody,
    /// A request line.
    Endpoint {
        /// The method.
        method: &'a [u8],
        /// The raw path.
        path: &'a [u8],
    },
    /// Tags, judged as one endpoint's.
    Tags(&'a [&'a [u8]]),
}

/// Why a checklist ended without a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A no.
    Deny(Reason),
    /// The state that the answer rests on is damaged, or a proof that it needs was not tried.
    Fault,
    /// Whether the code is right can't be told here; see [`Inquiry::wanted_proof`].
    Unproven,
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Deny(reason)
    }
}

impl From<Stop> for Verdict<'_> {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Deny(reason) => Self::Deny(reason),
            Stop::Fault | Stop::Unproven => Self::Unavailable,
        }
    }
}

/// A yes; [`Inquiry::terms`] tells on which terms. Of a batch nobody asks for each target's.
#[must_use]
#[derive(Clone, Copy)]
pub struct Granted<'d> {
    /// False on a public endpoint, where no credential is looked at.
    pub identified: bool,
    endpoint: Option<&'d HotEndpoint>,
}

/// Answers one question.
pub fn decide<'d>(directory: &'d Directory, asker: &Asker<'_>, target: &Target<'_>, now: UnixSeconds) -> Verdict<'d> {
    Inquiry::new(directory, *asker, now).decide(target)
}

/// One asker's questions, answered from one state: the credential is judged once, when the first target needs it.
pub struct Inquiry<'d, 'a> {
    directory: &'d Directory,
    asker: Asker<'a>,
    now: UnixSeconds,
    presented: Result<Presented<'d, 'a>, Reason>,
    known: Option<Result<Known<'d>, Stop>>,
    /// What became of a proof that it wanted.
    proof: Option<Proof>,
    /// What the next target comes to, if that was looked for.
    sought: Option<Sought<'d, 'a>>,
}

/// An endpoint that was looked for ahead of its turn.
#[derive(Clone, Copy)]
struct Sought<'d, 'a> {
    method: &'a [u8],
    path: &'a [u8],
    found: Found<'d>,
}

/// The endpoint that a request line means. That there is none is told only to the authenticated (step 8).
type Found<'d> = Result<Result<&'d HotEndpoint, Reason>, Stop>;

/// A well-formed credential and what there is under its id.
#[derive(Clone, Copy)]
struct Presented<'d, 'a> {
    credential: PresentedCredential<'a>,
    /// `None` until it was looked for.
    found: Option<Lookup<&'d HotCredential>>,
}

impl<'d> Presented<'d, '_> {
    fn find(&mut self, directory: &'d Directory) -> Lookup<&'d HotCredential> {
        let PresentedCredential { mode, id, .. } = self.credential;
        *self.found.get_or_insert_with(|| directory.credential(mode, id))
    }

    /// The record, if it was looked for and found.
    const fn found_record(&self) -> Option<&'d HotCredential> {
        match self.found {
            Some(Lookup::Found(record)) => Some(record),
            Some(Lookup::Absent | Lookup::Damaged) | None => None,
        }
    }
}

/// A credential that proved itself and the agent it acts as: steps 3 to 7 passed.
#[derive(Clone, Copy)]
struct Known<'d> {
    mode: Mode,
    id: u64,
    credential: &'d HotCredential,
    /// What it was made from: it may do no more.
    parent: Option<&'d HotCredential>,
    code: CodeSlot,
    /// Of Keyward's own hash of that code, also where another system's is stored.
    code_mark: CodeMark,
    agent: &'d HotAgent,
    /// The header made the agent differ from the bound or default one; a superuser key without default differs from it
    /// always.
    switched: bool,
}

impl<'d> Known<'d> {
    /// Step 10 for its own set, then its parent's.
    fn each_set(&self, check: impl Fn(SetSlot) -> Result<(), Reason>) -> Result<(), Reason> {
        check(self.credential.set())?;
        self.parent.map_or(Ok(()), |parent| check(parent.set()))
    }

    /// What an allow says.
    fn identity(&self) -> Identity<'d> {
        Identity {
            mode: self.mode,
            credential_id: self.id,
            code: self.code,
            code_mark: self.code_mark,
            expires_at: valid_until(self.credential, self.parent, self.code),
            app_id: self.credential.app_id(),
            agent: &self.agent.terms,
            switched: self.switched,
        }
    }
}

/// Whether step 6 is among the checks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Addresses {
    Judged,
    /// Whoever asks is no client of a web server: there is none.
    NotKnown,
}

impl<'d, 'a> Inquiry<'d, 'a> {
    /// Questions to `directory` at `now`.
    #[must_use]
    pub fn new(directory: &'d Directory, asker: Asker<'a>, now: UnixSeconds) -> Self {
        let presented = presented_credential(&asker).map(|credential| Presented { credential, found: None });
        Self { directory, asker, now, presented, known: None, proof: None, sought: None }
    }

    /// Routes `target`, for [`Inquiry::judge`] of the same: the first step of several.
    pub fn seek(&mut self, target: &Target<'a>) {
        if let Target::Endpoint { method, path } = *target {
            let found = find_endpoint(self.directory, method, path);
            if let Ok(Ok(endpoint)) = found {
                self.directory.fetch_endpoint(endpoint);
            }
            self.sought = Some(Sought { method, path, found });
        }
    }

    /// Sets on its way from memory what comes behind the credential's record: the agent's, and what the set says of the
    /// endpoint that was sought. Decides nothing, and nothing waits for it, so that it hardly tells an unknown id, which
    /// has no agent, from a wrong code.
    pub fn fetch_agent(&mut self) {
        let directory = self.directory;
        let Ok(presented) = &mut self.presented else { return };
        let Lookup::Found(record) = presented.find(directory) else { return };
        if let Some(agent) = record.agent() {
            directory.fetch_agent(agent);
        }
        if let Some(Sought { found: Ok(Ok(endpoint)), .. }) = self.sought {
            directory.fetch_outcome(record.set(), endpoint);
        }
    }

    /// And what a verdict says of the agent.
    pub fn fetch_texts(&self) {
        let Ok(presented) = &self.presented else { return };
        if let Some(agent) = presented.found_record().and_then(HotCredential::agent) {
            self.directory.fetch_agent_texts(agent);
        }
    }

    /// What names the credential, if it is well-formed.
    pub fn presented(&self) -> Option<(Mode, u64)> {
        let presented = self.presented.as_ref().ok()?;
        Some((presented.credential.mode, presented.credential.id))
    }

    /// Who asks.
    #[must_use]
    pub const fn asker(&self) -> &Asker<'a> {
        &self.asker
    }

    /// What an allow takes from: the bucket of the credential that proved itself, when it has a rate. Deciding takes
    /// nothing.
    #[must_use]
    pub fn bucket(&self) -> Option<&'d Bucket> {
        match &self.known {
            Some(Ok(known)) => known.credential.bucket(),
            Some(Err(_)) | None => None,
        }
    }

    /// Answers one target.
    pub fn decide(&mut self, target: &Target<'_>) -> Verdict<'d> {
        match self.judge(target) {
            Ok(granted) => Verdict::Allow(self.terms(granted)),
            Err(stop) => stop.into(),
        }
    }

    /// The same without the terms of a yes.
    ///
    /// # Errors
    /// What it ended with instead.
    pub fn judge(&mut self, target: &Target<'_>) -> Result<Granted<'d>, Stop> {
        let wanted_agent = wanted_agent(&self.asker)?;
        match *target {
            Target::Nobody => {
                self.known(wanted_agent)?;
                Ok(Granted { identified: true, endpoint: None })
            }
            Target::Endpoint { method, path } => self.judge_endpoint(wanted_agent, method, path),
            Target::Tags(texts) => self.judge_tags(wanted_agent, texts),
        }
    }

    fn judge_endpoint(&mut self, wanted_agent: Option<u64>, method: &[u8], path: &[u8]) -> Result<Granted<'d>, Stop> {
        let directory = self.directory;
        let found = match &self.sought {
            // The very same bytes.
            Some(sought) if ptr::eq(sought.path, path) && ptr::eq(sought.method, method) => sought.found,
            Some(_) | None => find_endpoint(directory, method, path),
        }?;
        if let Some(endpoint) = public_endpoint(found) {
            return Ok(Granted { identified: false, endpoint: Some(endpoint) });
        }
        let known = self.known(wanted_agent)?;
        let endpoint = found?;
        mode_allowed(endpoint, known.mode)?;
        known.each_set(|set| tags_granted(directory.set(set).judge_numbered(&endpoint.numbers)))?;
        agent_permits(directory.set(known.agent.permissions).judge_numbered(&endpoint.numbers))?;
        Ok(Granted { identified: true, endpoint: Some(endpoint) })
    }

    fn judge_tags(&mut self, wanted_agent: Option<u64>, texts: &[&[u8]]) -> Result<Granted<'d>, Stop> {
        let directory = self.directory;
        if texts.len() > TAGS_MAX {
            return Err(Reason::BadRequest.into());
        }
        let parsed: Result<ArrayVec<_, TAGS_MAX>, _> = texts.iter().map(|text| TagRef::parse(text)).collect();
        let tags = parsed.ok().filter(|tags| !tags.is_empty()).ok_or(Reason::BadRequest)?;
        let known = self.known(wanted_agent)?;
        known.each_set(|set| tags_granted(directory.set(set).set().judge(&tags)))?;
        agent_permits(directory.set(known.agent.permissions).set().judge(&tags))?;
        Ok(Granted { identified: true, endpoint: None })
    }

    /// What an allow says.
    #[must_use]
    pub fn terms(&self, granted: Granted<'d>) -> Terms<'d> {
        let identity = if granted.identified { self.identity() } else { None };
        Terms { identity, route: granted.endpoint.map(HotEndpoint::route) }
    }

    /// Who it is, once a credential proved itself.
    #[must_use]
    pub fn identity(&self) -> Option<Identity<'d>> {
        match &self.known {
            Some(Ok(known)) => Some(known.identity()),
            Some(Err(_)) | None => None,
        }
    }

    /// Steps 3 to 7, once.
    fn known(&mut self, wanted_agent: Option<u64>) -> Result<&Known<'d>, Stop> {
        if self.known.is_none() {
            self.known = Some(self.authenticate(wanted_agent, Addresses::Judged));
        }
        self.known.as_ref().expect("it was made just now, where there was none").as_ref().map_err(|stop| *stop)
    }

    fn authenticate(&mut self, wanted_agent: Option<u64>, addresses: Addresses) -> Result<Known<'d>, Stop> {
        let (directory, now) = (self.directory, self.now);
        let presented = self.presented.as_mut().map_err(|reason| *reason)?;
        let found = presented.find(directory);
        let PresentedCredential { mode, id, .. } = presented.credential;
        let (credential, code, code_mark) =
            proven_credential(directory.pepper(), &presented.credential, found, (now, self.proof))?;
        credential_in_force(credential, now)?;
        let parent = delegation::parent(directory, credential)?;
        delegation::in_force(parent, now)?;
        if addresses == Addresses::Judged {
            address_allowed(credential, &self.asker)?;
            delegation::address_allowed(parent, &self.asker)?;
        }
        let agent_id = acting_agent(credential, wanted_agent)?;
        delegation::may_act_as(parent, agent_id)?;
        let agent = enabled_agent(directory, agent_id)?;
        let switched = wanted_agent.is_some() && credential.agent() != Some(agent_id);
        Ok(Known { mode, id, credential, parent, code, code_mark, agent, switched })
    }
}

/// Step 1 for the asker.
fn wanted_agent(asker: &Asker<'_>) -> Result<Option<u64>, Reason> {
    match asker.agent {
        None => Ok(None),
        Some(text) => crate::model::parse_presented_id(text).map(Some).ok_or(Reason::BadRequest),
    }
}

/// Bytes of the path without query string and fragment, which never matter.
fn path_bytes(raw: &[u8]) -> usize {
    raw.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(raw.len())
}

/// Step 1 for a request line, and which endpoint it is.
fn find_endpoint<'d>(directory: &'d Directory, method: &[u8], path: &[u8]) -> Found<'d> {
    if !is_method(method) || (path.len() > PATH_BYTES_MAX && path_bytes(path) > PATH_BYTES_MAX) {
        return Err(Reason::BadRequest.into());
    }
    let Ok(path) = JudgedPath::judge(path) else {
        return Ok(Err(Reason::AmbiguousPath));
    };
    match directory.endpoint(method, &path) {
        Lookup::Found(endpoint) => Ok(Ok(endpoint)),
        Lookup::Absent => Ok(Err(Reason::NoRoute)),
        Lookup::Damaged => Err(Stop::Fault),
    }
}

/// Step 2.
fn public_endpoint(found: Result<&HotEndpoint, Reason>) -> Option<&HotEndpoint> {
    found.ok().filter(|endpoint| endpoint.modes.is_public())
}

/// Step 3.
fn presented_credential<'a>(asker: &Asker<'a>) -> Result<PresentedCredential<'a>, Reason> {
    match asker.credential {
        None | Some([]) => Err(Reason::MissingCredential),
        Some(value) => PresentedCredential::parse(value).ok_or(Reason::MalformedCredential),
    }
}

/// Step 4. An unknown id costs the same hash as a wrong code, so that nobody can tell them apart.
fn proven_credential<'d>(
    pepper: &Pepper,
    presented: &PresentedCredential<'_>,
    found: Lookup<&'d HotCredential>,
    (now, proof): (UnixSeconds, Option<Proof>),
) -> Result<(&'d HotCredential, CodeSlot, CodeMark), Stop> {
    let hash = pepper.hash(presented.mode, presented.id, presented.code);
    let credential = match found {
        Lookup::Found(credential) => credential,
        Lookup::Absent => return Err(Reason::BadCredential.into()),
        Lookup::Damaged => return Err(Stop::Fault),
    };
    if *credential.hash() == hash {
        return Ok((credential, CodeSlot::Current, hash.mark()));
    }
    let retiring = credential.retiring().filter(|retiring| now < retiring.until);
    if retiring.is_some_and(|retiring| retiring.hash == hash) {
        return Ok((credential, CodeSlot::Retiring, hash.mark()));
    }
    if foreign::proves(pepper, presented, credential.hash(), proof)? {
        return Ok((credential, CodeSlot::Current, hash.mark()));
    }
    match retiring {
        Some(retiring) if foreign::proves(pepper, presented, &retiring.hash, proof)? => {
            Ok((credential, CodeSlot::Retiring, hash.mark()))
        }
        Some(_) | None => Err(Reason::BadCredential.into()),
    }
}

/// Step 5.
fn credential_in_force(credential: &HotCredential, now: UnixSeconds) -> Result<(), Reason> {
    if credential.is_revoked() {
        return Err(Reason::Revoked);
    }
    if !credential.is_enabled() {
        return Err(Reason::Disabled);
    }
    if credential.not_before().is_some_and(|at| now < at) {
        return Err(Reason::NotYetValid);
    }
    if credential.expires_at().is_some_and(|at| now >= at) {
        return Err(Reason::Expired);
    }
    Ok(())
}

/// Step 6.
fn address_allowed(credential: &HotCredential, asker: &Asker<'_>) -> Result<(), Reason> {
    match credential.allow_ip() {
        Some(list) if !list.allows(asker.address) => Err(Reason::IpNotAllowed),
        Some(_) | None => Ok(()),
    }
}

/// Step 7, which agent: never a fallback to another one than was named.
fn acting_agent(credential: &HotCredential, wanted: Option<u64>) -> Result<u64, Reason> {
    if credential.is_superuser() {
        return wanted.or(credential.agent()).ok_or(Reason::AgentRequired);
    }
    let bound = credential.agent().ok_or(Reason::AgentRequired)?;
    match wanted {
        Some(other) if other != bound => Err(Reason::AgentSwitchForbidden),
        Some(_) | None => Ok(bound),
    }
}

/// Step 7, its state.
fn enabled_agent(directory: &Directory, id: u64) -> Result<&HotAgent, Stop> {
    match directory.agent(id) {
        Lookup::Found(agent) if agent.enabled => Ok(agent),
        Lookup::Found(_) => Err(Reason::AgentDisabled.into()),
        Lookup::Absent => Err(Reason::AgentUnknown.into()),
        Lookup::Damaged => Err(Stop::Fault),
    }
}

/// The earliest of the credential's expiry, its parent's and, for a retiring code, that code's deadline.
fn valid_until(credential: &HotCredential, parent: Option<&HotCredential>, code: CodeSlot) -> Option<UnixSeconds> {
    let deadline = match code {
        CodeSlot::Current => None,
        CodeSlot::Retiring => credential.retiring().map(|retiring| retiring.until),
    };
    let of_parent = parent.and_then(HotCredential::expires_at);
    credential.expires_at().into_iter().chain(of_parent).chain(deadline).min()
}

/// Step 9.
fn mode_allowed(endpoint: &HotEndpoint, mode: Mode) -> Result<(), Reason> {
    if endpoint.modes.allows(mode) { Ok(()) } else { Err(Reason::ModeNotAllowed) }
}

/// Step 10.
fn tags_granted(outcome: Outcome) -> Result<(), Reason> {
    match outcome {
        Outcome::Granted => Ok(()),
        Outcome::Denied => Err(Reason::TagDenied),
        Outcome::NotGranted => Err(Reason::TagNotGranted),
    }
}

/// Step 11.
fn agent_permits(outcome: Outcome) -> Result<(), Reason> {
    match outcome {
        Outcome::Granted => Ok(()),
        Outcome::Denied | Outcome::NotGranted => Err(Reason::AgentNotPermitted),
    }
}

#[cfg(test)]
mod tests;
