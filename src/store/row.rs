//! Rows: one version byte, a keyed MAC over table, key and body, and the body.
//!
//! ```text
//!  0         1      17
//!  +---------+------+----------------------------
//!  | version | MAC  | body (bincode, big-endian)
//!  +---------+------+----------------------------
//! ```
//! The database does not verify what it reads, so every row proves itself. That a row is missing or put back is seen by
//! the [`Tally`] of its table. bincode is named in this module only (RUSTSEC-2025-0141).

mod tally;

use std::borrow::Cow;
use std::sync::Arc;

use bincode::config::{BigEndian, Configuration, Fixint, Limit};
use bincode::{BorrowDecode, Decode, Encode};
use rustc_hash::FxHashMap;
pub(super) use tally::{Element, Tally};
use zeroize::Zeroizing;

use super::Table;
use crate::model::record::{AgentName, Attributes, Label, TEXT_BYTES_MAX};
use crate::model::{
    Agent, AllowList, Binding, CodeHash, CodeMark, Codes, Credential, Endpoint, Foreign, HashKind, Id, Method, Mode,
    Modes, Pepper, Rate, Record, RecordKey, RetiringCode, Revision, SlowHash, Template, UnixSeconds,
};
use crate::tags::{TAG_BYTES_MAX, Tag, TagSet};

/// The version of every row's body that this build writes and reads.
pub(super) const ROW_VERSION: u8 = 1;
const MAC_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + MAC_BYTES;
/// An audit record of one agent's 32 attributes before and after, all of their bytes escaped, fits with room to grow.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What a credential's key and row take, with a label: room for growing is seldom needed.
const ROW_BYTES_USUAL: usize = 192;

type Mac = [u8; MAC_BYTES];
/// Names a tag set in rows: the first bytes of the hash of its text.
pub(super) type SetKey = [u8; 16];

const CONFIG: Configuration<BigEndian, Fixint, Limit<BODY_BYTES_MAX>> =
    bincode::config::standard().with_big_endian().with_fixed_int_encoding().with_limit::<BODY_BYTES_MAX>();

/// A row that is not what Keyward wrote there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadRow;

/// The keys of rows and tallies, derived from the pepper.
pub(super) struct RowKeys {
    mac: Zeroizing<[u8; 32]>,
    element: Zeroizing<[u8; 32]>,
    seal: Zeroizing<[u8; 32]>,
    backup: Zeroizing<[u8; 32]>,
}

impl RowKeys {
    pub(super) fn new(pepper: &Pepper) -> Self {
        Self {
            mac: pepper.derive("keyward 2026 row MAC"),
            element: pepper.derive("keyward 2026 tally element"),
            seal: pepper.derive("keyward 2026 tally seal"),
            backup: pepper.derive("keyward 2026 backup"),
        }
    }

    fn mac_of(&self, table: Table, key: &[u8], body: &[u8]) -> Mac {
        let mut hasher = blake3::Hasher::new_keyed(&self.mac);
        hasher.update(&[table.number(), ROW_VERSION]);
        hasher.update(&(key.len() as u64).to_be_bytes());
        hasher.update(key);
        hasher.update(body);
        truncated(&hasher.finalize())
    }

    /// The row for `body` under `key`.
    pub(super) fn seal_row<B: Encode>(&self, table: Table, key: &[u8], body: &B) -> Vec<u8> {
        let mut row = Vec::new();
        self.seal_onto(&mut row, table, key, body);
        row
    }

    /// Appends the row for `body` under `key` to `out`, and returns its element.
    fn seal_onto<B: Encode>(&self, out: &mut Vec<u8>, table: Table, key: &[u8], body: &B) -> Element {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        bincode::encode_into_std_write(body, out, CONFIG).expect("every row type is encodable and within its bounds");
        let (header, body) = out[start..].split_at_mut(HEADER_BYTES);
        let mac = self.mac_of(table, key, body);
        header[0] = ROW_VERSION;
        header[1..].copy_from_slice(&mac);
        self.element_of(table, &mac)
    }

    /// The body of a row that proves itself.
    pub(super) fn open_row<'r, B>(&self, table: Table, key: &[u8], row: &'r [u8]) -> Result<B, BadRow>
    where
        B: BorrowDecode<'r, ()>,
    {
        if !self.proves_itself(table, key, row) {
            return Err(BadRow);
        }
        let (_, _, body) = parts(row).ok_or(BadRow)?;
        let (value, read) = bincode::borrow_decode_from_slice(body, CONFIG).map_err(|_| BadRow)?;
        if read == body.len() { Ok(value) } else { Err(BadRow) }
    }

    /// Whether a row is one that Keyward wrote there, whatever it says.
    pub(super) fn proves_itself(&self, table: Table, key: &[u8], row: &[u8]) -> bool {
        parts(row)
            .is_some_and(|(version, mac, body)| version == ROW_VERSION && same_mac(&self.mac_of(table, key, body), mac))
    }

    /// What makes the MAC of a whole backup.
    pub(super) fn backup_mac(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.backup)
    }

    /// The row's element of its table's tally, from the MAC as stored.
    pub(super) fn element(&self, table: Table, row: &[u8]) -> Element {
        match parts(row) {
            Some((_, mac, _)) => self.element_of(table, mac),
            None => self.element_of(table, row),
        }
    }

    /// The element that a bad row has if only its stored MAC is damaged.
    pub(super) fn element_of_body(&self, table: Table, key: &[u8], row: &[u8]) -> Element {
        match parts(row) {
            Some((_, _, body)) => self.element_of(table, &self.mac_of(table, key, body)),
            None => self.element_of(table, row),
        }
    }

    fn element_of(&self, table: Table, mac: &[u8]) -> Element {
        let mut hasher = blake3::Hasher::new_keyed(&self.element);
        hasher.update(&[table.number()]);
        hasher.update(mac);
        Element(*hasher.finalize().as_bytes())
    }
}

fn parts(row: &[u8]) -> Option<(u8, &Mac, &[u8])> {
    let (version, rest) = row.split_first()?;
    let (mac, body) = rest.split_first_chunk::<MAC_BYTES>()?;
    Some((*version, mac, body))
}

fn truncated(hash: &blake3::Hash) -> Mac {
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&hash.as_bytes()[..MAC_BYTES]);
    mac
}

/// Takes the same time wherever the two differ, as comparing whole hashes does.
fn same_mac(one: &Mac, other: &Mac) -> bool {
    let widened = |mac: &Mac| {
        let mut wide = [0; 32];
        wide[..MAC_BYTES].copy_from_slice(mac);
        blake3::Hash::from_bytes(wide)
    };
    widened(one) == widened(other)
}

/// Where the audit's chain begins and ends.
#[derive(Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct ChainEnds {
    /// The last record's number, 0 before the first.
    pub(super) last: u64,
    pub(super) last_hash: [u8; 32],
    /// The number of the record before the oldest that is kept.
    pub(super) before: u64,
    pub(super) before_hash: [u8; 32],
    /// Of the rows that are kept.
    pub(super) bytes: u64,
}

impl ChainEnds {
    /// How many records are kept.
    pub(super) const fn kept(&self) -> u64 {
        self.last.saturating_sub(self.before)
    }

    /// Whether a row with this key is one of them.
    pub(super) fn holds(&self, key: &[u8]) -> bool {
        key.try_into().is_ok_and(|number| (self.before + 1..=self.last).contains(&u64::from_be_bytes(number)))
    }
}

/// An audit record as stored: unix seconds, the hash of the record before, its text.
pub(super) type AuditRow<'r> = (u64, [u8; 32], &'r str);

/// What moves with every commit: one row of the table `meta`.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct HeadRow {
    pub(super) revision: u64,
    pub(super) committed_at: u64,
    /// The highest id ever used: agents, keys, tokens, sessions.
    pub(super) highest_ids: [u64; 4],
    /// The highest id whose row was taken away, by mode: up to it a row that is not there may have been.
    pub(super) swept_through: [u64; 3],
    /// A table's seal, in the order of [`Table::TALLIED`].
    pub(super) seals: [[u8; 32]; Table::TALLIED.len()],
    pub(super) audit: ChainEnds,
}

#[derive(Encode, BorrowDecode)]
struct AgentRow<'r> {
    revision: u64,
    name: &'r str,
    permissions: SetKey,
    enabled: bool,
    removed: bool,
    attributes: Vec<(&'r str, &'r str)>,
}

#[derive(Encode, BorrowDecode)]
struct EndpointRow<'r> {
    revision: u64,
    template: &'r str,
    tags: Vec<&'r str>,
    modes: u8,
    removed: bool,
}

#[derive(Encode, BorrowDecode)]
struct CredentialRow<'r> {
    revision: u64,
    label: &'r str,
    superuser: bool,
    agent: Option<u64>,
    tags: SetKey,
    hash: HashRow,
    retiring: Option<(HashRow, u64)>,
    enabled: bool,
    revoked: bool,
    not_before: Option<u64>,
    expires_at: Option<u64>,
    allow_ip: Option<Vec<Cow<'r, str>>>,
    app_id: Option<u64>,
    rate: Option<Cow<'r, str>>,
    /// Mode and id.
    parent: Option<(u8, u64)>,
    foreign: Option<ForeignRow<'r>>,
}

/// The number of its kind, and the hash.
type HashRow = (u8, [u8; 32]);

#[derive(Encode, BorrowDecode)]
enum ForeignRow<'r> {
    Slow(&'r str),
    Proven { own: [u8; 8], by: [u8; 8] },
}

/// Last uses as stored: what tells the code, unix seconds, the address as text.
pub(super) type UseRow<'r> = Vec<([u8; 8], u64, Option<Cow<'r, str>>)>;

/// Finds the set that a row names.
pub(super) type SetOf<'a> = dyn FnMut(&SetKey) -> Option<Arc<TagSet>> + 'a;

/// What names the sets of the records of one change, by address: many records share one.
#[derive(Default)]
pub(super) struct SetKeys(FxHashMap<usize, SetKey>);

impl SetKeys {
    pub(super) fn knows(&self, set: &Arc<TagSet>) -> bool {
        self.0.contains_key(&Arc::as_ptr(set).addr())
    }

    /// The set must live as long as this is asked for it.
    pub(super) fn note(&mut self, set: &Arc<TagSet>, key: SetKey) {
        self.0.insert(Arc::as_ptr(set).addr(), key);
    }

    fn of(&self, set: &Arc<TagSet>) -> SetKey {
        self.0.get(&Arc::as_ptr(set).addr()).copied().unwrap_or_else(|| set_key(set))
    }
}

pub(super) fn set_key(set: &TagSet) -> SetKey {
    truncated(&blake3::hash(set.to_string().as_bytes()))
}

/// The row of a tag set, and its key.
pub(super) fn set_row(keys: &RowKeys, set: &TagSet) -> (SetKey, Vec<u8>) {
    let key = set_key(set);
    (key, keys.seal_row(Table::TagSets, &key, &set.to_string()))
}

/// Reads a tag set back from its row.
pub(super) fn read_set(keys: &RowKeys, key: &[u8], row: &[u8]) -> Result<Arc<TagSet>, BadRow> {
    let text: String = keys.open_row(Table::TagSets, key, row)?;
    TagSet::parse(&text).map(Arc::new).map_err(|_| BadRow)
}

/// As many bytes as a record may take in a page; some more than it does.
pub(super) fn page_bytes(record: &Record) -> usize {
    /// Numbers, a label, 64 networks, last uses.
    const REST: usize = 4 * 1024;
    /// With a sign, and what parts it from the next.
    const PATTERN: usize = TAG_BYTES_MAX + 3;
    let set = set_of_record(record).map_or(0, |set| set.patterns().len() * PATTERN);
    let texts: usize = match record {
        Record::Agent(agent) => {
            agent.attributes.pairs().iter().map(|(name, value)| name.len() + value.len() + 16).sum()
        }
        Record::Endpoint(endpoint) => endpoint.template.as_str().len() + endpoint.tags.len() * PATTERN,
        Record::Credential(_) => 0,
    };
    REST + set + texts
}

/// The set that a record uses.
pub(super) fn set_of_record(record: &Record) -> Option<&Arc<TagSet>> {
    match record {
        Record::Agent(agent) => Some(&agent.permissions),
        Record::Credential(credential) => Some(&credential.tags),
        Record::Endpoint(_) => None,
    }
}

/// The key of a record's row.
pub(super) enum RowKey {
    Id([u8; 8]),
    Line(Vec<u8>),
}

impl RowKey {
    pub(super) fn of(key: &RecordKey) -> Self {
        match key {
            RecordKey::Agent(id) | RecordKey::Credential(_, id) => Self::Id(id.get().to_be_bytes()),
            RecordKey::Endpoint(method, shape) => {
                Self::Line([method.as_str().as_bytes(), b" ", shape.as_bytes()].concat())
            }
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Id(bytes) => bytes,
            Self::Line(bytes) => bytes,
        }
    }
}

/// Rows ready to be inserted, in one buffer.
pub(super) struct SealedRows {
    bytes: Vec<u8>,
    rows: Vec<Sealed>,
}

struct Sealed {
    /// Where the key ends and the row begins.
    key_end: usize,
    end: usize,
    element: Element,
}

impl SealedRows {
    pub(super) fn seal(keys: &RowKeys, records: &[Record], sets: &SetKeys, revision: Revision) -> Self {
        let mut sealed = Self {
            bytes: Vec::with_capacity(records.len() * ROW_BYTES_USUAL),
            rows: Vec::with_capacity(records.len()),
        };
        for record in records {
            let (table, key) = (Table::of_kind(record.kind()), RowKey::of(&record.key()));
            let (key, out) = (key.as_slice(), &mut sealed.bytes);
            out.extend_from_slice(key);
            let key_end = out.len();
            let element = match record {
                Record::Agent(agent) => keys.seal_onto(out, table, key, &agent_row(agent, sets, revision)),
                Record::Endpoint(endpoint) => keys.seal_onto(out, table, key, &endpoint_row(endpoint, revision)),
                Record::Credential(credential) => {
                    keys.seal_onto(out, table, key, &credential_row(credential, sets, revision))
                }
            };
            sealed.rows.push(Sealed { key_end, end: out.len(), element });
        }
        sealed
    }

    /// Key, row and the row's element.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8], Element)> {
        let mut start = 0;
        self.rows.iter().map(move |row| {
            let (key, bytes) = self.bytes[start..row.end].split_at(row.key_end - start);
            start = row.end;
            (key, bytes, row.element)
        })
    }
}

fn agent_row<'r>(agent: &'r Agent, sets: &SetKeys, revision: Revision) -> AgentRow<'r> {
    AgentRow {
        revision: revision.0,
        name: agent.name.as_str(),
        permissions: sets.of(&agent.permissions),
        enabled: agent.enabled,
        removed: agent.removed,
        attributes: agent.attributes.pairs().iter().map(|(name, value)| (&**name, &**value)).collect(),
    }
}

fn endpoint_row(endpoint: &Endpoint, revision: Revision) -> EndpointRow<'_> {
    EndpointRow {
        revision: revision.0,
        template: endpoint.template.as_str(),
        tags: endpoint.tags.iter().map(Tag::as_str).collect(),
        modes: endpoint.modes.bits(),
        removed: endpoint.removed,
    }
}

fn credential_row<'r>(credential: &'r Credential, sets: &SetKeys, revision: Revision) -> CredentialRow<'r> {
    let (superuser, agent) = match credential.binding {
        Binding::Agent(id) => (false, Some(id)),
        Binding::Superuser { default } => (true, default),
    };
    CredentialRow {
        revision: revision.0,
        label: credential.label.as_str(),
        superuser,
        agent: agent.map(Id::get),
        tags: sets.of(&credential.tags),
        hash: hash_row(&credential.codes.current),
        retiring: credential.codes.retiring.map(|code| (hash_row(&code.hash), code.until.0)),
        enabled: credential.enabled,
        revoked: credential.revoked,
        not_before: credential.not_before.map(|at| at.0),
        expires_at: credential.expires_at.map(|at| at.0),
        allow_ip: credential.allow_ip.as_ref().map(|l| l.blocks().iter().map(|b| b.to_string().into()).collect()),
        app_id: credential.app_id,
        rate: credential.rate.map(|rate| rate.to_string().into()),
        parent: credential.parent.map(|(mode, id)| (mode.number(), id.get())),
        foreign: credential.foreign.as_ref().map(foreign_row),
    }
}

const fn hash_row(hash: &CodeHash) -> HashRow {
    (hash.kind().number(), *hash.as_bytes())
}

fn foreign_row(foreign: &Foreign) -> ForeignRow<'_> {
    match foreign {
        Foreign::Slow(slow) => ForeignRow::Slow(slow.expose()),
        Foreign::Proven { own, by } => ForeignRow::Proven { own: own.to_bytes(), by: by.to_bytes() },
    }
}

/// What becomes of the labels of rows that are read.
#[derive(Clone, Copy)]
pub(super) enum Labels {
    /// They are read.
    Read,
    /// They are only judged: no verdict needs them, and millions need not be copied.
    Left,
}

/// Reads a record back from its row.
pub(super) fn read_record(
    keys: &RowKeys,
    table: Table,
    key: &[u8],
    row: &[u8],
    labels: Labels,
    set_of: &mut SetOf<'_>,
) -> Result<(Record, Revision), BadRow> {
    match table {
        Table::Agents => read_agent(keys.open_row(table, key, row)?, id_of(key)?, set_of),
        Table::Endpoints => read_endpoint(keys.open_row(table, key, row)?, key),
        Table::Keys => read_credential(keys.open_row(table, key, row)?, (Mode::Key, id_of(key)?), labels, set_of),
        Table::Tokens => read_credential(keys.open_row(table, key, row)?, (Mode::Token, id_of(key)?), labels, set_of),
        Table::Sessions => {
            read_credential(keys.open_row(table, key, row)?, (Mode::Session, id_of(key)?), labels, set_of)
        }
        Table::TagSets | Table::Uses | Table::Meta | Table::Audit => Err(BadRow),
    }
}

fn id_of(key: &[u8]) -> Result<Id, BadRow> {
    let bytes = key.try_into().map_err(|_| BadRow)?;
    Id::new(u64::from_be_bytes(bytes)).ok_or(BadRow)
}

fn read_agent(row: AgentRow<'_>, id: Id, set_of: &mut SetOf<'_>) -> Result<(Record, Revision), BadRow> {
    let agent = Agent {
        id,
        name: AgentName::parse(row.name).map_err(|_| BadRow)?,
        permissions: set_of(&row.permissions).ok_or(BadRow)?,
        enabled: row.enabled,
        removed: row.removed,
        attributes: Attributes::parse(row.attributes.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())))
            .map_err(|_| BadRow)?,
    };
    Ok((Record::Agent(agent), Revision(row.revision)))
}

fn read_endpoint(row: EndpointRow<'_>, key: &[u8]) -> Result<(Record, Revision), BadRow> {
    let method = key.split(|&b| b == b' ').next().and_then(|m| std::str::from_utf8(m).ok()).ok_or(BadRow)?;
    let endpoint = Endpoint {
        method: Method::parse(method).map_err(|_| BadRow)?,
        template: Template::parse(row.template).map_err(|_| BadRow)?,
        tags: row.tags.iter().map(|tag| Tag::parse(tag)).collect::<Result<_, _>>().map_err(|_| BadRow)?,
        modes: Modes::from_bits(row.modes).ok_or(BadRow)?,
        removed: row.removed,
    };
    Ok((Record::Endpoint(endpoint), Revision(row.revision)))
}

fn read_credential(
    row: CredentialRow<'_>,
    (mode, id): (Mode, Id),
    labels: Labels,
    set_of: &mut SetOf<'_>,
) -> Result<(Record, Revision), BadRow> {
    let agent = row.agent.map(|id| Id::new(id).ok_or(BadRow)).transpose()?;
    let allow_ip = row.allow_ip.map(|blocks| AllowList::parse(blocks.iter().map(AsRef::as_ref)));
    let credential = Credential {
        mode,
        id,
        label: match labels {
            Labels::Left if row.label.len() <= TEXT_BYTES_MAX => Label::default(),
            Labels::Left | Labels::Read => Label::parse(row.label).map_err(|_| BadRow)?,
        },
        binding: match (row.superuser, agent) {
            (true, default) => Binding::Superuser { default },
            (false, Some(agent)) => Binding::Agent(agent),
            (false, None) => return Err(BadRow),
        },
        tags: set_of(&row.tags).ok_or(BadRow)?,
        codes: Codes {
            current: read_hash(row.hash)?,
            retiring: row
                .retiring
                .map(|(hash, until)| Ok(RetiringCode { hash: read_hash(hash)?, until: UnixSeconds(until) }))
                .transpose()?,
        },
        enabled: row.enabled,
        revoked: row.revoked,
        not_before: row.not_before.map(UnixSeconds),
        expires_at: row.expires_at.map(UnixSeconds),
        allow_ip: allow_ip.transpose().map_err(|_| BadRow)?,
        app_id: row.app_id,
        rate: row.rate.map(|rate| Rate::parse(&rate)).transpose().map_err(|_| BadRow)?,
        parent: row.parent.map(|(mode, id)| Mode::from_number(mode).zip(Id::new(id)).ok_or(BadRow)).transpose()?,
        foreign: row.foreign.map(read_foreign).transpose()?,
    };
    Ok((Record::Credential(credential), Revision(row.revision)))
}

fn read_hash((kind, bytes): HashRow) -> Result<CodeHash, BadRow> {
    Ok(CodeHash::of_kind(HashKind::from_number(kind).ok_or(BadRow)?, bytes))
}

fn read_foreign(row: ForeignRow<'_>) -> Result<Foreign, BadRow> {
    Ok(match row {
        ForeignRow::Slow(text) => Foreign::Slow(SlowHash::parse(text.as_bytes()).map_err(|_| BadRow)?),
        ForeignRow::Proven { own, by } => {
            Foreign::Proven { own: CodeMark::from_bytes(own), by: CodeMark::from_bytes(by) }
        }
    })
}

#[cfg(test)]
mod tests;
