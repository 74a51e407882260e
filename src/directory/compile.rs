//! Makes the next directory from records.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;

use rustc_hash::FxHashMap;

use super::{Damage, Directory, EndpointName, HotAgent, HotCredential, HotEndpoint, Routing, SetSlot, Slots};
use crate::model::{Agent, AgentTerms, Endpoint, Id, Kind, Mode, Pepper, Record, RecordKey, Revision, TextList};
use crate::route::Router;
use crate::tags::{CompiledSet, TagIndex, TagSet};

/// Sets that are worth another thread when tags are worked out in them.
const SETS_PER_THREAD_MIN: usize = 64;

/// The writer's side of a [`Directory`]: keeps what is needed to make the next one. Cloning one is a few reference counts
/// and a number a set, so that a change can be tried out aside of the writer.
#[derive(Clone)]
pub struct Compiler {
    directory: Directory,
    /// Each distinct set once.
    interned: Arc<HashMap<Arc<TagSet>, SetSlot>>,
    /// How many records use the set in each place.
    users: Vec<u64>,
    free: Vec<SetSlot>,
    index: Arc<TagIndex>,
    endpoints: Arc<BTreeMap<RecordKey, Endpoint>>,
    /// Neither sets nor routes are compiled until everything was loaded.
    loading: bool,
    /// While it is loading: the state before, whose buckets go on.
    before: Option<Directory>,
}

/// Places of sets by their address, for the records of one change: most share theirs with others.
#[derive(Default)]
struct Places(FxHashMap<*const TagSet, SetSlot>);

impl Compiler {
    /// A directory of nothing.
    #[must_use]
    pub fn new(pepper: Arc<Pepper>) -> Self {
        let directory = Directory {
            revision: Revision(0),
            pepper,
            credentials: std::array::from_fn(|_| Slots::default()),
            agents: Slots::default(),
            sets: Arc::default(),
            routing: Arc::default(),
            damage: Damage::default(),
        };
        Self {
            directory,
            interned: Arc::default(),
            users: Vec::new(),
            free: Vec::new(),
            index: Arc::default(),
            endpoints: Arc::default(),
            loading: false,
            before: None,
        }
    }

    /// A directory of nothing, to be loaded in place of another: what credentials have left of their rates goes on.
    #[must_use]
    pub fn in_place_of(directory: &Directory) -> Self {
        Self { before: Some(directory.clone()), ..Self::new(directory.shared_pepper()) }
    }

    /// The directory as it stands: to be published.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Notes that rows of `kind` are damaged: what isn't found there is not absent.
    pub fn mark_damaged(&mut self, kind: Kind) {
        let damage = &mut self.directory.damage;
        match kind {
            Kind::Agent => damage.agents = true,
            Kind::Endpoint => damage.endpoints = true,
            Kind::Credential(mode) => damage.credentials[mode.index()] = true,
        }
    }

    /// Forgets all records of `kind`, whose table can't be trusted, and marks it damaged.
    pub fn forget(&mut self, kind: Kind) {
        match kind {
            Kind::Agent => self.directory.agents = Slots::default(),
            Kind::Endpoint => {
                self.endpoints = Arc::default();
                self.compile_routing();
            }
            Kind::Credential(mode) => self.directory.credentials[mode.index()] = Slots::default(),
        }
        self.mark_damaged(kind);
    }

    /// Takes records that are read at start. [`Compiler::finish_load`] must follow before a question is answered.
    pub fn load(&mut self, records: &[Record]) {
        self.loading = true;
        self.apply(records, Revision(0));
    }

    /// Everything was loaded: compiles it, as the state after the commit `revision`.
    pub fn finish_load(&mut self, revision: Revision) {
        self.loading = false;
        self.before = None;
        self.compile_routing();
        self.directory.revision = revision;
    }

    /// Takes the records of changes; no two have the same key. Returns the sets that no record uses any more.
    pub fn apply<'r>(&mut self, records: impl IntoIterator<Item = &'r Record>, revision: Revision) -> Vec<Arc<TagSet>> {
        let mut credentials: [Vec<(u64, HotCredential)>; 3] = Default::default();
        let mut agents = Vec::new();
        let mut left_sets = Vec::new();
        let mut endpoints_changed = false;
        let mut places = Places::default();
        for record in records {
            match record {
                Record::Agent(agent) => {
                    let id = agent.id.get();
                    left_sets.extend(self.directory.agents.get(id).map(|old| old.permissions));
                    agents.push((id, hot_agent(agent, self.use_set(&agent.permissions, &mut places))));
                }
                Record::Credential(credential) => {
                    let (mode, id) = (credential.mode.index(), credential.id.get());
                    let set = self.use_set(&credential.tags, &mut places);
                    let old = self.directory.credentials[mode].get(id);
                    left_sets.extend(old.map(HotCredential::set));
                    let before = old.or_else(|| self.before.as_ref()?.credentials[mode].get(id));
                    credentials[mode].push((id, HotCredential::new(credential, set, before)));
                }
                Record::Endpoint(endpoint) => {
                    endpoints_changed = true;
                    self.put_endpoint(record.key(), endpoint);
                }
            }
        }
        for (slots, changed) in self.directory.credentials.iter_mut().zip(credentials) {
            slots.put(changed);
        }
        self.directory.agents.put(agents);
        if endpoints_changed && !self.loading {
            self.compile_routing();
        }
        self.directory.revision = revision;
        left_sets.into_iter().filter_map(|slot| self.leave_set(slot)).collect()
    }

    /// Forgets credentials whose rows were taken away. Returns the sets that no record uses any more.
    pub fn remove(&mut self, credentials: &[(Mode, Id)], revision: Revision) -> Vec<Arc<TagSet>> {
        let mut left_sets = Vec::new();
        for mode in Mode::ALL {
            let ids: Vec<u64> = credentials.iter().filter(|(of, _)| *of == mode).map(|(_, id)| id.get()).collect();
            let slots = &mut self.directory.credentials[mode.index()];
            left_sets.extend(ids.iter().filter_map(|id| slots.get(*id)).map(HotCredential::set));
            slots.remove(&ids);
        }
        self.directory.revision = revision;
        left_sets.into_iter().filter_map(|slot| self.leave_set(slot)).collect()
    }

    fn put_endpoint(&mut self, key: RecordKey, endpoint: &Endpoint) {
        let endpoints = Arc::make_mut(&mut self.endpoints);
        if endpoint.removed {
            endpoints.remove(&key);
        } else {
            endpoints.insert(key, endpoint.clone());
        }
    }

    /// Numbers new tags, works them out in every set, and builds the router.
    fn compile_routing(&mut self) {
        let index = Arc::make_mut(&mut self.index);
        let endpoints: Vec<&Endpoint> = self.endpoints.values().collect();
        let hot = endpoints.iter().map(|endpoint| HotEndpoint {
            texts: TextList::new(endpoint.template.as_str(), endpoint.tags.iter().map(|tag| [tag.as_str()])),
            numbers: endpoint.tags.iter().map(|tag| index.number(tag)).collect(),
            modes: endpoint.modes,
            name: Box::new(EndpointName { method: endpoint.method.clone(), shape: endpoint.template.shape().into() }),
        });
        let endpoints_hot = hot.collect();
        let router = Router::build(endpoints.iter().map(|endpoint| (&endpoint.method, &endpoint.template)));
        extend_sets(Arc::make_mut(&mut self.directory.sets).as_mut_slice(), &self.index);
        self.directory.routing = Arc::new(Routing { router, endpoints: endpoints_hot });
    }

    /// Counts one more user of `set` and returns its place.
    fn use_set(&mut self, set: &Arc<TagSet>, places: &mut Places) -> SetSlot {
        let slot = *places.0.entry(Arc::as_ptr(set)).or_insert_with(|| self.intern(set));
        self.users[slot.0 as usize] += 1;
        slot
    }

    /// The set's place; when it is new it is compiled.
    fn intern(&mut self, set: &Arc<TagSet>) -> SetSlot {
        if let Some(slot) = self.interned.get(set) {
            return *slot;
        }
        let compiled = CompiledSet::not_compiled(Arc::clone(set));
        let compiled = if self.loading { compiled } else { compiled.extended(&self.index) };
        let sets = Arc::make_mut(&mut self.directory.sets);
        let slot = match self.free.pop() {
            Some(slot) => {
                sets[slot.0 as usize] = compiled;
                slot
            }
            None => {
                sets.push(compiled);
                self.users.push(0);
                SetSlot(u32::try_from(sets.len() - 1).expect("fewer than 2^32 distinct tag sets fit in memory"))
            }
        };
        Arc::make_mut(&mut self.interned).insert(Arc::clone(set), slot);
        slot
    }

    /// Counts one user less; the set when that was the last. Its place keeps the compiled set until it is used again.
    fn leave_set(&mut self, slot: SetSlot) -> Option<Arc<TagSet>> {
        let users = &mut self.users[slot.0 as usize];
        *users -= 1;
        if *users > 0 {
            return None;
        }
        let set = self.directory.sets[slot.0 as usize].set();
        let (set, _) = Arc::make_mut(&mut self.interned).remove_entry(set).expect("a set in use is interned");
        self.free.push(slot);
        Some(set)
    }

    /// Whether a record uses `set`.
    #[must_use]
    pub fn uses_set(&self, set: &Arc<TagSet>) -> bool {
        self.interned.contains_key(set)
    }

    /// Whether the record was taken; tombstones of endpoints are not kept.
    #[must_use]
    pub fn has(&self, key: &RecordKey) -> bool {
        match key {
            RecordKey::Agent(id) => self.directory.agents.get(id.get()).is_some(),
            RecordKey::Credential(mode, id) => self.directory.credentials[mode.index()].get(id.get()).is_some(),
            RecordKey::Endpoint(..) => self.endpoints.contains_key(key),
        }
    }

    /// Distinct sets in use.
    #[must_use]
    pub fn set_count(&self) -> usize {
        self.interned.len()
    }

    /// Endpoints that match something.
    #[must_use]
    pub fn endpoint_count(&self) -> usize {
        self.endpoints.len()
    }

    /// What names the endpoints that match something.
    pub fn endpoint_keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.endpoints.keys()
    }
}

/// Works new tags out in every set, on all cores.
fn extend_sets(sets: &mut [CompiledSet], index: &TagIndex) {
    let extend = |sets: &mut [CompiledSet]| {
        for set in sets.iter_mut().filter(|set| set.known() < index.len()) {
            *set = set.clone().extended(index);
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut parts = sets.chunks_mut(sets.len().div_ceil(cores).max(SETS_PER_THREAD_MIN));
    thread::scope(|scope| {
        let own = parts.next();
        parts.for_each(|part| drop(scope.spawn(move || extend(part))));
        own.into_iter().for_each(extend);
    });
}

fn hot_agent(agent: &Agent, permissions: SetSlot) -> HotAgent {
    let attributes = agent.attributes.pairs().iter().map(|(name, value)| (&**name, &**value));
    let terms = AgentTerms::new(agent.id.get(), agent.name.as_str(), attributes);
    HotAgent { terms, permissions, enabled: agent.enabled, removed: agent.removed }
}
