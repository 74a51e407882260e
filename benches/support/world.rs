//! A world in memory for the in-process benchmarks, and questions about it.

use std::sync::Arc;

use keyward::directory::Compiler;
use keyward::model::record::{AgentName, Attributes, Label};
use keyward::model::{
    Agent, Binding, Code, Codes, Credential, Endpoint, Id, Method, Mode, Modes, Pepper, Record, Revision, Template,
};
use keyward::tags::{Tag, TagSet};
use keyward_proto::query::{Asker, Check, QueryRequest, Target};
use zeroize::Zeroizing;

/// Questions asked of a world in a round.
pub(crate) const QUESTIONS: usize = 16 * 1024;
pub(crate) const PEPPER: [u8; 32] = [7; 32];
const RECORDS_PER_STEP: u64 = 64 * 1024;
const AGENTS_MAX: u64 = 100_000;
const SETS_MAX: u64 = 1_000;
const AREAS: u64 = 20;

/// How large a world is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) keys: u64,
    pub(crate) agents: u64,
    pub(crate) sets: u64,
    pub(crate) endpoints: u64,
}

impl Size {
    /// So many keys, of up to 100,000 agents and 1,000 distinct sets.
    pub(crate) const fn of(keys: u64, endpoints: u64) -> Self {
        let agents = if keys > AGENTS_MAX { AGENTS_MAX } else { keys };
        Self { keys, agents, sets: if keys > SETS_MAX { SETS_MAX } else { keys }, endpoints }
    }
}

pub(crate) struct World {
    pub(crate) size: Size,
    pub(crate) compiler: Compiler,
    sets: Vec<Arc<TagSet>>,
    pepper: Arc<Pepper>,
}

pub(crate) fn code(id: u64) -> String {
    format!("CODE{id:021}")
}

pub(crate) fn path(endpoint: u64, id: u64) -> String {
    format!("/api/v2/area{}/resource{endpoint}/{id}", endpoint % AREAS)
}

pub(crate) fn id(number: u64) -> Id {
    Id::new(number).expect("bench ids are in range")
}

pub(crate) fn endpoint(number: u64) -> Record {
    let template = format!("/api/v2/area{}/resource{number}/{{id}}", number % AREAS);
    Record::Endpoint(Endpoint {
        method: Method::parse("GET").expect("a method"),
        template: Template::parse(&template).expect("a template"),
        tags: vec![Tag::parse(&format!("area{}.resource{number}.get", number % AREAS)).expect("a tag")],
        modes: Modes::ALL,
        removed: false,
    })
}

pub(crate) fn agent(number: u64) -> Record {
    Record::Agent(Agent {
        id: id(number),
        name: AgentName::parse(&format!("Agent {number}")).expect("a name"),
        permissions: Arc::new(TagSet::parse("*, -*.delete").expect("a set")),
        enabled: true,
        removed: false,
        attributes: Attributes::parse([("team".to_string(), format!("team {}", number % 50))]).expect("attributes"),
    })
}

pub(crate) fn key(number: u64, world: Size, sets: &[Arc<TagSet>], pepper: &Pepper) -> Record {
    let code = Code::parse(Mode::Key, code(number).as_bytes()).expect("a code");
    Record::Credential(Credential {
        mode: Mode::Key,
        id: id(number),
        label: Label::default(),
        binding: Binding::Agent(id(number % world.agents + 1)),
        codes: Codes { current: pepper.hash(Mode::Key, number, code.presented()), retiring: None },
        tags: Arc::clone(&sets[usize::try_from(number % world.sets).expect("there are few sets")]),
        enabled: true,
        revoked: false,
        not_before: None,
        expires_at: None,
        allow_ip: None,
        rate: None,
        parent: None,
        foreign: None,
        app_id: None,
    })
}

impl World {
    pub(crate) fn new(size: Size) -> Self {
        let keys = size.keys;
        let pepper = Arc::new(Pepper::new(Zeroizing::new(PEPPER)));
        let mut compiler = Compiler::new(Arc::clone(&pepper));
        let sets: Vec<_> = (0..size.sets)
            .map(|n| {
                Arc::new(TagSet::parse(&format!("*.get, area{}.*, team{n}.*, -*.delete", n % AREAS)).expect("a set"))
            })
            .collect();
        let mut step = |records: Vec<Record>| drop(compiler.apply(&records, Revision(1)));
        step((0..size.endpoints).map(endpoint).collect());
        step((1..=size.agents).map(agent).collect());
        let mut next = 1;
        while next <= keys {
            let end = (next + RECORDS_PER_STEP).min(keys + 1);
            step((next..end).map(|number| key(number, size, &sets, &pepper)).collect());
            next = end;
        }
        Self { size, compiler, sets, pepper }
    }

    /// The record of a key as it is, to be changed.
    pub(crate) fn key(&self, number: u64) -> Record {
        key(number, self.size, &self.sets, &self.pepper)
    }

    /// Frames of questions about uniformly random keys, one behind the other, `depth` to a read; where each read ends.
    pub(crate) fn questions(&self, depth: usize, random: &mut Random) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for number in 1..=QUESTIONS {
            let (id, endpoint) = (random.below(self.size.keys) + 1, random.below(self.size.endpoints));
            let (credential, path) = (format!("key {id}:{}", code(id)), path(endpoint, id));
            let asker = Asker { credential: Some(credential.as_bytes()), agent: None, address: Some(b"10.1.2.3") };
            let target = Target::Endpoint { method: b"GET", path: path.as_bytes() };
            QueryRequest::Check(Check { asker, target }).put(&mut bytes, 7);
            if number % depth == 0 {
                ends.push(bytes.len());
            }
        }
        (bytes, ends)
    }
}

/// xorshift64: uniform enough.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
