//! The compiled state in memory: what every question is answered from. Pure.
//!
//! A [`Directory`] is immutable; the [`Compiler`] makes the next one from records and shares all that did not change.
//! So there is no cache that could be stale, no I/O and no lock on the way to a verdict, and a batch sees one state.

mod compile;
mod slots;

use std::slice;
use std::sync::Arc;

pub use compile::Compiler;
use prefetch_index::prefetch_index;
pub use slots::DENSE_IDS;
use slots::Slots;

use crate::model::{
    AgentTerms, AllowList, Binding, Bucket, CodeHash, CodeSlot, Codes, Credential, Foreign, Id, Kind, Mode, Modes,
    Pepper, RetiringCode, Revision, Route, ShortList, SlowHash, TextList, UnixSeconds,
};
use crate::route::{Method, Router};
use crate::tags::CompiledSet;

/// What questions are answered from. Cloning one is a few reference counts.
#[derive(Clone)]
pub struct Directory {
    revision: Revision,
    pepper: Arc<Pepper>,
    credentials: [Slots<HotCredential>; 3],
    agents: Slots<HotAgent>,
    sets: Arc<Vec<CompiledSet>>,
    routing: Arc<Routing>,
    damage: Damage,
}

/// Kinds of which a row is bad or missing: what isn't found there may be what was lost.
#[derive(Clone, Copy, Default)]
struct Damage {
    agents: bool,
    endpoints: bool,
    credentials: [bool; 3],
}

/// A look-up's outcome.
#[derive(Clone, Copy)]
pub enum Lookup<T> {
    /// It is there.
    Found(T),
    /// It is not.
    Absent,
    /// It can't be told: rows of its kind are damaged.
    Damaged,
}

impl<T> Lookup<T> {
    fn new(found: Option<T>, damaged: bool) -> Self {
        match found {
            Some(found) => Self::Found(found),
            None if damaged => Self::Damaged,
            None => Self::Absent,
        }
    }
}

/// What deciding needs of a credential, in one cache line. Rare parts lie aside.
#[derive(Clone)]
#[repr(align(64))]
pub struct HotCredential {
    hash: CodeHash,
    /// The bound or default agent; 0 for none.
    agent: u64,
    /// `u64::MAX` for never.
    expires_at: u64,
    rare: Option<Arc<RareParts>>,
    set: SetSlot,
    flags: u8,
}

const ENABLED: u8 = 1;
const REVOKED: u8 = 2;
const SUPERUSER: u8 = 4;
const NEVER: u64 = u64::MAX;

/// The parts that most credentials don't have.
struct RareParts {
    retiring: Option<RetiringCode>,
    not_before: Option<UnixSeconds>,
    allow_ip: Option<AllowList>,
    app_id: Option<u64>,
    slow: Option<SlowHash>,
    bucket: Option<Arc<Bucket>>,
    parent: Option<(Mode, Id)>,
}

impl RareParts {
    const fn is_empty(&self) -> bool {
        let Self { retiring, not_before, allow_ip, app_id, slow, bucket, parent } = self;
        retiring.is_none()
            && not_before.is_none()
            && allow_ip.is_none()
            && app_id.is_none()
            && slow.is_none()
            && bucket.is_none()
            && parent.is_none()
    }
}

/// The place of a compiled set in its directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetSlot(u32);

impl HotCredential {
    /// What it has left of its rate goes on from `before`, its record until now, as long as the rate is the same.
    fn new(credential: &Credential, set: SetSlot, before: Option<&Self>) -> Self {
        let Codes { current, retiring } = credential.codes;
        let (superuser, agent) = match credential.binding {
            Binding::Agent(id) => (0, id.get()),
            Binding::Superuser { default } => (SUPERUSER, default.map_or(0, Id::get)),
        };
        let rare = RareParts {
            retiring,
            not_before: credential.not_before,
            allow_ip: credential.allow_ip.clone(),
            app_id: credential.app_id,
            slow: credential.foreign.as_ref().and_then(Foreign::slow).cloned(),
            bucket: credential.rate.map(|rate| {
                let kept = before.and_then(Self::shared_bucket).filter(|bucket| bucket.rate() == rate);
                kept.map_or_else(|| Arc::new(Bucket::new(rate)), Arc::clone)
            }),
            parent: credential.parent,
        };
        Self {
            hash: current,
            agent,
            expires_at: credential.expires_at.map_or(NEVER, |at| at.0),
            rare: (!rare.is_empty()).then(|| Arc::new(rare)),
            set,
            flags: superuser
                | if credential.enabled { ENABLED } else { 0 }
                | if credential.revoked { REVOKED } else { 0 },
        }
    }

    /// The current code's hash.
    #[must_use]
    pub const fn hash(&self) -> &CodeHash {
        &self.hash
    }

    /// The hash of one of its codes; the current one's where there is no retiring one.
    #[must_use]
    pub fn code_hash(&self, code: CodeSlot) -> CodeHash {
        match code {
            CodeSlot::Current => self.hash,
            CodeSlot::Retiring => self.retiring().map_or(self.hash, |retiring| retiring.hash),
        }
    }

    /// The retiring code, whether or not its deadline has passed.
    #[must_use]
    pub fn retiring(&self) -> Option<RetiringCode> {
        self.rare.as_ref().and_then(|rare| rare.retiring)
    }

    /// Whether it was ended for ever.
    #[must_use]
    pub const fn is_revoked(&self) -> bool {
        self.flags & REVOKED != 0
    }

    /// Whether it is switched on.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.flags & ENABLED != 0
    }

    /// Whether it may act as any agent.
    #[must_use]
    pub const fn is_superuser(&self) -> bool {
        self.flags & SUPERUSER != 0
    }

    /// The bound agent, or a superuser key's default.
    #[must_use]
    pub const fn agent(&self) -> Option<u64> {
        if self.agent == 0 { None } else { Some(self.agent) }
    }

    /// Not valid before.
    #[must_use]
    pub fn not_before(&self) -> Option<UnixSeconds> {
        self.rare.as_ref().and_then(|rare| rare.not_before)
    }

    /// Not valid from then on.
    #[must_use]
    pub const fn expires_at(&self) -> Option<UnixSeconds> {
        if self.expires_at == NEVER { None } else { Some(UnixSeconds(self.expires_at)) }
    }

    /// Where it may be used from.
    #[must_use]
    pub fn allow_ip(&self) -> Option<&AllowList> {
        self.rare.as_ref().and_then(|rare| rare.allow_ip.as_ref())
    }

    /// A token's application.
    #[must_use]
    pub fn app_id(&self) -> Option<u64> {
        self.rare.as_ref().and_then(|rare| rare.app_id)
    }

    /// What it has left of its rate; `None` for one without a rate.
    #[must_use]
    pub fn bucket(&self) -> Option<&Bucket> {
        self.shared_bucket().map(|bucket| &**bucket)
    }

    fn shared_bucket(&self) -> Option<&Arc<Bucket>> {
        self.rare.as_ref().and_then(|rare| rare.bucket.as_ref())
    }

    /// The credential that a token was made from.
    #[must_use]
    pub fn parent(&self) -> Option<(Mode, Id)> {
        self.rare.as_ref().and_then(|rare| rare.parent)
    }

    /// The text of another system's slow hash, whose fingerprint one of its codes is.
    #[must_use]
    pub fn slow(&self) -> Option<&SlowHash> {
        self.rare.as_ref().and_then(|rare| rare.slow.as_ref())
    }

    /// Its tag set.
    #[must_use]
    pub const fn set(&self) -> SetSlot {
        self.set
    }
}

/// What deciding needs of an agent, and a verdict says of it. In this order: what is read first lies in the first cache
/// line.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct HotAgent {
    /// What it may do.
    pub permissions: SetSlot,
    /// Whether requests may run as it.
    pub enabled: bool,
    removed: bool,
    /// What a verdict says of it.
    pub terms: AgentTerms,
}

/// What deciding needs of an endpoint, and a verdict says of it; in this order, as with [`HotAgent`].
#[repr(C, align(64))]
pub struct HotEndpoint {
    /// The tags' numbers in the index that the directory's sets were compiled against.
    pub numbers: ShortList<u32, 3>,
    /// Who may use it.
    pub modes: Modes,
    name: Box<EndpointName>,
    /// The path template as written, then the tags.
    pub texts: TextList,
}

/// What orders the endpoints. No question asks for it.
struct EndpointName {
    method: Method,
    /// The template with its names blanked.
    shape: Box<str>,
}

impl HotEndpoint {
    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.name.method
    }

    /// The template with its names blanked: with the method it orders the endpoints.
    #[must_use]
    pub fn shape(&self) -> &str {
        &self.name.shape
    }

    /// What a verdict says of it.
    #[must_use]
    pub const fn route(&self) -> Route<'_> {
        Route::new(&self.texts)
    }
}

#[derive(Default)]
struct Routing {
    router: Router,
    /// Sorted by method and shape.
    endpoints: Vec<HotEndpoint>,
}

impl Directory {
    /// The commit that it shows.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The key of the code hashes.
    #[must_use]
    pub fn pepper(&self) -> &Pepper {
        &self.pepper
    }

    /// The same, to be shared with another directory.
    #[must_use]
    pub fn shared_pepper(&self) -> Arc<Pepper> {
        Arc::clone(&self.pepper)
    }

    /// The credential of this mode and id.
    #[must_use]
    pub fn credential(&self, mode: Mode, id: u64) -> Lookup<&HotCredential> {
        Lookup::new(self.credentials[mode.index()].get(id), self.damage.credentials[mode.index()])
    }

    /// Sets on its way from memory what [`Directory::credential`] reads first; [`Directory::fetch_credential`] goes on. So
    /// the waits of several questions overlap: beyond a million credentials a question waits for memory and does little
    /// else. Changes no answer.
    pub fn fetch_place(&self, mode: Mode, id: u64) {
        self.credentials[mode.index()].fetch_place(id);
    }

    /// Sets the credential's record on its way from memory.
    pub fn fetch_credential(&self, mode: Mode, id: u64) {
        self.credentials[mode.index()].fetch_record(id);
    }

    /// Sets the agent's record on its way from memory. There are few agents: the way to it is near.
    pub fn fetch_agent(&self, id: u64) {
        self.agents.fetch_record(id);
    }

    /// Sets on its way from memory what a verdict says of the agent.
    pub fn fetch_agent_texts(&self, id: u64) {
        if let Some(agent) = self.agents.get(id) {
            agent.terms.texts().fetch();
        }
    }

    /// Sets the endpoint's record on its way from memory.
    pub fn fetch_endpoint(&self, endpoint: &HotEndpoint) {
        prefetch_index(slice::from_ref(endpoint), 0);
    }

    /// Sets on its way from memory what this set says of an endpoint, and what a verdict says of that.
    pub fn fetch_outcome(&self, set: SetSlot, endpoint: &HotEndpoint) {
        self.set(set).fetch(&endpoint.numbers);
        endpoint.texts.fetch();
    }

    /// The agent with this id, unless it was removed.
    #[must_use]
    pub fn agent(&self, id: u64) -> Lookup<&HotAgent> {
        match self.agents.get(id) {
            Some(agent) if agent.removed => Lookup::Absent,
            found => Lookup::new(found, self.damage.agents),
        }
    }

    /// The endpoint for a well-formed method and a judged path. With one endpoint missing another may match that must
    /// not, so damage speaks first.
    #[must_use]
    pub fn endpoint(&self, method: &[u8], path: &crate::route::JudgedPath<'_>) -> Lookup<&HotEndpoint> {
        if self.damage.endpoints {
            return Lookup::Damaged;
        }
        let found = self.routing.router.find(method, path);
        Lookup::new(found.map(|index| &self.routing.endpoints[index as usize]), false)
    }

    /// All endpoints, sorted by method and shape.
    #[must_use]
    pub fn endpoints(&self) -> Lookup<&[HotEndpoint]> {
        if self.damage.endpoints { Lookup::Damaged } else { Lookup::Found(&self.routing.endpoints) }
    }

    /// A compiled set.
    #[must_use]
    pub fn set(&self, slot: SetSlot) -> &CompiledSet {
        &self.sets[slot.0 as usize]
    }

    /// Credentials of the directory that name `agent`, revoked ones left out.
    pub fn credentials_naming(&self, agent: Id) -> impl Iterator<Item = (Mode, u64)> {
        let naming = self.credentials_naming_any().filter(move |(named, _)| *named == agent);
        naming.map(|(_, credential)| credential)
    }

    /// Credentials that name some agent, each behind that; revoked ones left out.
    pub fn credentials_naming_any(&self) -> impl Iterator<Item = (Id, (Mode, u64))> {
        Mode::ALL.into_iter().flat_map(|mode| {
            let all = self.credentials[mode.index()].iter().filter(|(_, hot)| !hot.is_revoked());
            all.filter_map(move |(id, hot)| Some((Id::new(hot.agent)?, (mode, id))))
        })
    }

    /// Keys that may act as any agent, revoked ones left out.
    pub fn superuser_keys(&self) -> impl Iterator<Item = u64> {
        let keys = self.credentials[Mode::Key.index()].iter();
        keys.filter(|(_, hot)| hot.is_superuser() && !hot.is_revoked()).map(|(id, _)| id)
    }

    /// Tokens that were made from this credential, revoked ones left out.
    pub fn made_from(&self, mode: Mode, id: Id) -> impl Iterator<Item = (Mode, u64)> {
        let tokens = self.credentials[Mode::Token.index()].iter();
        tokens
            .filter(move |(_, hot)| !hot.is_revoked() && hot.parent() == Some((mode, id)))
            .map(|(id, _)| (Mode::Token, id))
    }

    /// Every token and session.
    pub fn tokens_and_sessions(&self) -> impl Iterator<Item = (Mode, u64, &HotCredential)> {
        [Mode::Token, Mode::Session].into_iter().flat_map(|mode| {
            let all = self.credentials[mode.index()].iter();
            all.map(move |(id, credential)| (mode, id, credential))
        })
    }

    /// Whether a token or session with these terms ended for good at `until` or before, by its own expiry or because its
    /// parent is gone, or goes for the same reason. Keys stay.
    #[must_use]
    pub fn is_over(
        &self,
        mode: Mode,
        expires_at: Option<UnixSeconds>,
        parent: Option<(Mode, Id)>,
        until: UnixSeconds,
    ) -> bool {
        if mode == Mode::Key {
            return false;
        }
        let parent_is_over = |(mode, id): (Mode, Id)| match self.credential(mode, id.get()) {
            Lookup::Found(parent) => self.is_over(mode, parent.expires_at(), None, until),
            Lookup::Absent => true,
            Lookup::Damaged => false,
        };
        expires_at.is_some_and(|at| at <= until) || parent.is_some_and(parent_is_over)
    }

    /// Ids of one kind that are neither revoked nor removed. Endpoints have none.
    #[must_use]
    pub fn live_ids(&self, kind: Kind) -> Vec<u64> {
        match kind {
            Kind::Agent => self.agents.iter().filter(|(_, agent)| !agent.removed).map(|(id, _)| id).collect(),
            Kind::Credential(mode) => {
                let all = self.credentials[mode.index()].iter();
                all.filter(|(_, credential)| !credential.is_revoked()).map(|(id, _)| id).collect()
            }
            Kind::Endpoint => Vec::new(),
        }
    }

    /// Whether rows of this kind are damaged.
    #[must_use]
    pub const fn is_damaged(&self, kind: Kind) -> bool {
        match kind {
            Kind::Agent => self.damage.agents,
            Kind::Endpoint => self.damage.endpoints,
            Kind::Credential(mode) => self.damage.credentials[mode.index()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Label;
    use crate::model::{Rate, Record, Ticks};
    use crate::tags::TagSet;

    const NOW: Ticks = Ticks(0);

    fn limited(id: u64, rate: &str) -> Record {
        Record::Credential(Credential {
            mode: Mode::Key,
            id: Id::new(id).unwrap(),
            label: Label::default(),
            binding: Binding::Superuser { default: None },
            tags: Arc::new(TagSet::everything()),
            codes: Codes { current: CodeHash::from_bytes([id.to_be_bytes()[7]; 32]), retiring: None },
            enabled: true,
            revoked: false,
            not_before: None,
            expires_at: None,
            allow_ip: None,
            app_id: None,
            rate: Some(Rate::parse(rate).unwrap()),
            parent: None,
            foreign: None,
        })
    }

    fn takes(directory: &Directory, id: u64) -> bool {
        let Lookup::Found(key) = directory.credential(Mode::Key, id) else { return false };
        key.bucket().is_some_and(|bucket| bucket.take(NOW).is_ok())
    }

    #[test]
    fn what_is_left_of_a_rate_goes_on_in_every_later_state_also_in_one_that_is_loaded_in_its_place() {
        let records = [limited(1, "3/d"), limited(2, "3/d"), limited(DENSE_IDS, "3/d")];
        let mut compiler = Compiler::new(Arc::new(Pepper::new([1; 32].into())));
        compiler.apply(&records, Revision(1));
        let first = compiler.directory().clone();
        assert!(takes(&first, 1) && takes(&first, DENSE_IDS));
        compiler.apply(&[limited(1, "3/d"), limited(2, "1/d")], Revision(2));
        assert!(takes(compiler.directory(), 1), "the second of three");

        let mut reloaded = Compiler::in_place_of(compiler.directory());
        reloaded.load(&[limited(1, "3/d"), limited(2, "3/d"), limited(DENSE_IDS, "3/d")]);
        reloaded.finish_load(Revision(3));
        let left = |id| (0..9).filter(|_| takes(reloaded.directory(), id)).count();
        assert_eq!([left(1), left(2), left(DENSE_IDS)], [1, 3, 2], "one is left, full for its new rate, two are left");
        assert!(!takes(&first, 1), "an older state has nothing else to give");
    }

    #[test]
    fn a_hot_record_fills_whole_cache_lines() {
        assert_eq!([size_of::<HotCredential>(), align_of::<HotCredential>()], [64; 2]);
        assert_eq!([size_of::<HotAgent>(), align_of::<HotAgent>()], [192, 64]);
        assert_eq!([size_of::<HotEndpoint>(), align_of::<HotEndpoint>()], [192, 64]);
    }
}
