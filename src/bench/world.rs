//! A world for benches: millions of keys with their agents, endpoints and tag sets, all functions of a seed and an id, so
//! that it need not be kept anywhere and both who fills the daemon and who asks it know every code.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use keyward_proto::admin::{AgentPatch, CredentialPatch, EndpointPatch, Patch, Secret, SetText};
use keyward_proto::query::{Mode, Reason};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What Keyward was made for, and measured at.
pub const KEYS_RANGE: RangeInclusive<u64> = 1..=10_000_000;
/// Agents where no number is given.
pub const AGENTS_DEFAULT: u64 = 100_000;
/// Endpoints where no number is given.
pub const ENDPOINTS_DEFAULT: u64 = 10_000;
/// Distinct tag sets where no number is given.
pub const SETS_DEFAULT: u64 = 1_000;
/// One thing needs all its actions; far more endpoints than any API has.
pub const ENDPOINTS_RANGE: RangeInclusive<u64> = ACTIONS.len() as u64..=1_000_000;

/// Characters of a code, as of those that Keyward makes.
pub const CODE_BYTES: usize = 25;
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Bits in each character of a code.
const BITS_PER_CHARACTER: u32 = 5;

/// Things in an area.
const THINGS_PER_AREA: u64 = 10;
/// Every third endpoint has a second tag.
const SECOND_TAG_EVERY: u64 = 3;
/// What a second tag begins with: so many are shared by all areas.
const TOPICS: u64 = 10;
/// Distinct permissions of agents.
const ROLES: u64 = 8;
/// A world's file is a line of JSON; a larger one is something else.
const FILE_BYTES_MAX: u64 = 4 * 1024;

/// What can be done with each thing: the last segment of the tag, method, and the path behind the thing's name.
const ACTIONS: [(&str, &str, &str); 8] = [
    ("list", "GET", ""),
    ("create", "POST", ""),
    ("get", "GET", "/{id}"),
    ("update", "PUT", "/{id}"),
    ("delete", "DELETE", "/{id}"),
    ("notes", "GET", "/{id}/notes"),
    ("annotate", "POST", "/{id}/notes"),
    ("note", "GET", "/{id}/notes/{note}"),
];
/// The place of `delete` in [`ACTIONS`]: every set denies it.
const DELETE: u64 = 4;
/// The place of `get` in [`ACTIONS`]: a set grants it in its own area only.
const GET: u64 = 2;

/// How much of everything there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Keys, with ids from 1.
    pub keys: u64,
    /// Agents, with ids from 1; no more than keys.
    pub agents: u64,
    /// Endpoints.
    pub endpoints: u64,
    /// Distinct tag sets of keys; no more than keys.
    pub sets: u64,
}

impl Sizes {
    /// So many keys and the usual number of everything else, as far as the keys go.
    #[must_use]
    pub fn of_keys(keys: u64) -> Self {
        Self { keys, agents: AGENTS_DEFAULT.min(keys), endpoints: ENDPOINTS_DEFAULT, sets: SETS_DEFAULT.min(keys) }
    }

    fn judge(&self) -> Result<(), WorldError> {
        let of_keys = 1..=self.keys;
        let judged = [
            ("keys", self.keys, KEYS_RANGE),
            ("agents", self.agents, of_keys.clone()),
            ("endpoints", self.endpoints, ENDPOINTS_RANGE),
            ("sets", self.sets, of_keys),
        ];
        for (what, number, range) in judged {
            if !range.contains(&number) {
                return Err(WorldError::Size { what, number, range });
            }
        }
        Ok(())
    }

    /// Things whose actions are all there.
    const fn things(&self) -> u64 {
        self.endpoints / ACTIONS.len() as u64
    }

    const fn areas(&self) -> u64 {
        self.things().div_ceil(THINGS_PER_AREA)
    }
}

/// Why there is no world.
#[derive(Debug)]
pub enum WorldError {
    /// A number is out of range.
    Size {
        /// Of what.
        what: &'static str,
        /// How many were asked for.
        number: u64,
        /// How many there may be.
        range: RangeInclusive<u64>,
    },
    /// The file could not be read or written.
    File {
        /// `read` or `written`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// It is no world's file.
    Syntax {
        /// Which.
        path: PathBuf,
        /// In words.
        why: String,
    },
}

impl fmt::Display for WorldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { what, number, range } => {
                write!(f, "no such world: {number} {what}; give {} to {}", range.start(), range.end())
            }
            Self::File { what, path, cause } => {
                write!(f, "world not {what}: {}: {cause}; name a file that can be {what}", path.display())
            }
            Self::Syntax { path, why } => {
                write!(f, "world refused: {}: {why}; name the file that `bench load` wrote", path.display())
            }
        }
    }
}

impl std::error::Error for WorldError {}

/// The form of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorldFile<'a> {
    keyward_bench_world: u32,
    seed: &'a str,
    sizes: Sizes,
}

/// Version of [`WorldFile`] and of everything derived from it.
const FILE_VERSION: u32 = 1;

/// One question and the answer it must get.
pub struct Ask {
    /// `GET`
    pub method: &'static str,
    /// `/api/v2/area17/thing170/4711`
    pub path: String,
    /// What a daemon that holds this world answers to the right code.
    pub expected: Reason,
}

impl Ask {
    /// The same with another answer.
    pub(super) fn with(self, expected: Reason) -> Self {
        Self { expected, ..self }
    }
}

/// A world. Whoever has its seed, and so its file, can make all its codes: it belongs in a daemon for measuring only.
pub struct World {
    seed: Zeroizing<[u8; 16]>,
    code_key: Zeroizing<[u8; blake3::KEY_LEN]>,
    /// Where the numbers begin that give each key its agent and its set.
    mix_seed: u64,
    sizes: Sizes,
}

impl World {
    /// The world of a seed.
    ///
    /// # Errors
    /// [`WorldError::Size`].
    pub fn new(seed: [u8; 16], sizes: Sizes) -> Result<Self, WorldError> {
        sizes.judge()?;
        let code_key = Zeroizing::new(blake3::derive_key("keyward bench world: codes", &seed));
        let mix = blake3::derive_key("keyward bench world: agents and sets", &seed);
        let (mix_seed, _) = mix.split_first_chunk().expect("a derived key has 32 bytes");
        Ok(Self { seed: Zeroizing::new(seed), code_key, mix_seed: u64::from_be_bytes(*mix_seed), sizes })
    }

    /// How much of everything there is.
    #[must_use]
    pub const fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// It can't be read, or is none.
    pub fn read(path: &Path) -> Result<Self, WorldError> {
        let unread = |cause| WorldError::File { what: "read", path: path.to_owned(), cause };
        let mut text = Zeroizing::new(String::new());
        let file = File::open(path).map_err(unread)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unread)?;
        // serde's own message could show the seed.
        let refused = |why: &str| WorldError::Syntax { path: path.to_owned(), why: why.to_owned() };
        let file: WorldFile<'_> = serde_json::from_str(&text).map_err(|_| refused("it is no bench world"))?;
        if file.keyward_bench_world != FILE_VERSION {
            return Err(refused("another version of keyward made it"));
        }
        let seed = u128::from_str_radix(file.seed, 16).map_err(|_| refused("its seed is no hexadecimal number"))?;
        Self::new(seed.to_be_bytes(), file.sizes)
    }

    /// Writes the seed and the sizes into a new file that only its owner can read.
    ///
    /// # Errors
    /// It can't be written, or exists: the world in it would be lost.
    pub fn write(&self, path: &Path) -> Result<(), WorldError> {
        let unwritten = |cause| WorldError::File { what: "written", path: path.to_owned(), cause };
        let seed = Zeroizing::new(format!("{:032x}", u128::from_be_bytes(*self.seed)));
        let form = WorldFile { keyward_bench_world: FILE_VERSION, seed: &seed, sizes: self.sizes };
        let text = Zeroizing::new(serde_json::to_string(&form).expect("the form holds numbers and one string"));
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(unwritten)?;
        file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(unwritten)
    }

    /// The code of a key.
    #[must_use]
    pub fn code(&self, id: u64) -> [u8; CODE_BYTES] {
        let hash = blake3::keyed_hash(&self.code_key, &id.to_be_bytes());
        let (bits, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        let mut bits = u128::from_be_bytes(*bits);
        std::array::from_fn(|_| {
            let character = CROCKFORD[(bits % 32) as usize];
            bits >>= BITS_PER_CHARACTER;
            character
        })
    }

    /// A code that is not the key's, and differs from it in its last character only.
    #[must_use]
    pub fn wrong_code(&self, id: u64) -> [u8; CODE_BYTES] {
        let mut code = self.code(id);
        let last = code.last_mut().expect("a code has characters");
        *last = if *last == b'0' { b'1' } else { b'0' };
        code
    }

    /// The agent of a key.
    #[must_use]
    pub fn agent_of(&self, id: u64) -> u64 {
        1 + mix(self.mix_seed ^ id) % self.sizes.agents
    }

    /// The number of a key's set, from 0. The first keys have one each, so that every set is there.
    fn set_of(&self, id: u64) -> u64 {
        if id <= self.sizes.sets { id - 1 } else { mix(self.mix_seed.rotate_left(32) ^ id) % self.sizes.sets }
    }

    /// The text of a key's set: all in one area but deleting, one thing of another, lists everywhere, and a name of its
    /// own, so that there are as many sets as were asked for.
    #[must_use]
    pub fn set_text_of(&self, id: u64) -> String {
        let set = self.set_of(id);
        let area = set % self.sizes.areas();
        let thing = mix(set) % self.sizes.things();
        format!("area{area}.*, *.list, -*.delete, area{}.thing{thing}.notes, team{set}.*", thing / THINGS_PER_AREA)
    }

    /// Something that a key may do: `pick` chooses among all there is.
    #[must_use]
    pub fn allowed(&self, id: u64, pick: u64) -> Ask {
        let area = self.set_of(id) % self.sizes.areas();
        // Any action but to delete.
        let action = pick % (ACTIONS.len() as u64 - 1);
        let action = if action >= DELETE { action + 1 } else { action };
        ask(self.thing_in(area, pick >> 8), action, pick, Reason::Ok)
    }

    /// Something that it may not do: delete in its own area, or look at a thing in another.
    #[must_use]
    pub fn refused(&self, id: u64, pick: u64) -> Ask {
        let areas = self.sizes.areas();
        let own = self.set_of(id) % areas;
        if areas == 1 || pick.is_multiple_of(2) {
            return ask(self.thing_in(own, pick >> 8), DELETE, pick, Reason::TagDenied);
        }
        let other = (own + 1 + (pick >> 24) % (areas - 1)) % areas;
        ask(self.thing_in(other, pick >> 8), GET, pick, Reason::TagNotGranted)
    }

    /// The last area may have fewer things than the others.
    fn thing_in(&self, area: u64, pick: u64) -> u64 {
        let first = area * THINGS_PER_AREA;
        first + pick % THINGS_PER_AREA.min(self.sizes.things() - first)
    }

    /// Its agents, then its endpoints, `records` in each part.
    pub fn agents_and_endpoints(&self, records: usize) -> impl Iterator<Item = Vec<Patch>> + use<> {
        let agents = (1..=self.sizes.agents).map(|id| Patch::Agent(agent(id)));
        let endpoints = (0..self.sizes.endpoints).map(|number| Patch::Endpoint(endpoint(number)));
        let mut patches = agents.chain(endpoints);
        std::iter::from_fn(move || {
            let part: Vec<Patch> = patches.by_ref().take(records).collect();
            (!part.is_empty()).then_some(part)
        })
    }

    /// Its keys, ids rising.
    pub fn keys(&self) -> impl Iterator<Item = Patch> + '_ {
        (1..=self.sizes.keys).map(|id| Patch::Credential(self.key(id)))
    }

    fn key(&self, id: u64) -> CredentialPatch {
        CredentialPatch {
            code: Some(Secret::new(self.code(id).to_vec())),
            agent: Some(self.agent_of(id)),
            tags: Some(SetText::Text(self.set_text_of(id))),
            ..CredentialPatch::new(Mode::Key, Some(id))
        }
    }
}

/// Agents may do what any key's set allows; the roles differ in what no endpoint has.
fn agent(id: u64) -> AgentPatch {
    let role = id % ROLES;
    let permissions = if role == 0 { "*".to_owned() } else { format!("*, -secret{role}.*, -*.purge") };
    AgentPatch {
        id: Some(id),
        name: Some(format!("Agent {id}")),
        permissions: Some(SetText::Text(permissions)),
        attributes: Some(vec![
            ("email".to_owned(), format!("agent{id}@example.com")),
            ("locale".to_owned(), "en-GB".to_owned()),
        ]),
        ..AgentPatch::default()
    }
}

fn action_of(number: u64) -> (&'static str, &'static str, &'static str) {
    ACTIONS[usize::try_from(number).expect("a place among the actions") % ACTIONS.len()]
}

fn ask(thing: u64, action: u64, pick: u64, expected: Reason) -> Ask {
    let (_, method, behind) = action_of(action);
    let number = (mix(pick) % 1_000_000).to_string();
    Ask { method, path: thing_path(thing) + &behind.replace("{id}", &number).replace("{note}", "7"), expected }
}

fn thing_path(thing: u64) -> String {
    format!("/api/v2/area{}/thing{thing}", thing / THINGS_PER_AREA)
}

fn endpoint(number: u64) -> EndpointPatch {
    let thing = number / ACTIONS.len() as u64;
    let (verb, method, behind) = action_of(number % ACTIONS.len() as u64);
    let mut tags = vec![format!("area{}.thing{thing}.{verb}", thing / THINGS_PER_AREA)];
    if number.is_multiple_of(SECOND_TAG_EVERY) {
        tags.push(format!("topic{}.{verb}", thing % TOPICS));
    }
    EndpointPatch { method: method.to_owned(), path: thing_path(thing) + behind, tags: Some(tags), modes: None }
}

/// The finisher of splitmix64: spreads neighbouring numbers over all.
pub(super) const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests;
