//! What an operator gives: names of records, and patches of them.

use bincode::{BorrowDecode, Decode, Encode};
use zeroize::Zeroizing;

use crate::query::Mode;

/// Bytes that are wiped when dropped and can't be printed: a code on its way in, a credential on its way out.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Encode for Secret {
    fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
        self.0.as_slice().encode(encoder)
    }
}

impl<C> Decode<C> for Secret {
    fn decode<D: bincode::de::Decoder<Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        Vec::<u8>::decode(decoder).map(Self::new)
    }
}

impl<'de, C> BorrowDecode<'de, C> for Secret {
    fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        Self::decode(decoder)
    }
}

/// The kinds of records, which are also the sections of an apply file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Kind {
    /// `agents`
    Agent,
    /// `endpoints`
    Endpoint,
    /// `keys`
    Key,
    /// `tokens`
    Token,
    /// `sessions`
    Session,
}

impl Kind {
    /// In the order of an apply file.
    pub const ALL: [Self; 5] = [Self::Agent, Self::Endpoint, Self::Key, Self::Token, Self::Session];

    /// `agent`, `endpoint`, `key`, `token`, `session`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Endpoint => "endpoint",
            Self::Key => "key",
            Self::Token => "token",
            Self::Session => "session",
        }
    }
}

impl From<Mode> for Kind {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Key => Self::Key,
            Mode::Token => Self::Token,
            Mode::Session => Self::Session,
        }
    }
}

/// Names one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Selector {
    /// An agent by id.
    Agent(u64),
    /// A credential by mode and id.
    Credential(Mode, u64),
    /// An endpoint by method and path template.
    Endpoint {
        /// `GET`
        method: String,
        /// `/api/v2/tickets/{id}`
        path: String,
    },
}

/// A tag set as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum SetText {
    /// `tickets.*, -*.delete`: separated by commas or newlines.
    Text(String),
    /// One pattern an item.
    Items(Vec<String>),
}

/// An optional field of a record: `None` leaves it as it is, `Some(None)` clears it.
pub type Clearable<T> = Option<Option<T>>;

/// What is given of an agent.
#[derive(Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct AgentPatch {
    /// Left out with `add`: the next id.
    pub id: Option<u64>,
    /// Display name, 1 to 256 bytes. A new agent needs one.
    pub name: Option<String>,
    /// A new agent needs them; there is no default.
    pub permissions: Option<SetText>,
    /// Default true.
    pub enabled: Option<bool>,
    /// Replaces them all.
    pub attributes: Option<Vec<(String, String)>>,
}

/// What is given of an endpoint; method and path name it.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct EndpointPatch {
    /// `GET`
    pub method: String,
    /// Path template.
    pub path: String,
    /// A new endpoint needs 1 to 16.
    pub tags: Option<Vec<String>>,
    /// `key`, `token`, `session`, or `public` alone. Default the first three.
    pub modes: Option<Vec<String>>,
}

/// What is given of a key, token or session.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct CredentialPatch {
    /// Which of the three.
    pub mode: Mode,
    /// Left out with `add`: the next id.
    pub id: Option<u64>,
    /// At most 256 bytes. Default empty.
    pub label: Option<String>,
    /// 8 to 128 visible ASCII bytes. Left out with `add`: a new code is made and returned once.
    pub code: Option<Secret>,
    /// Keys only: may act as any agent. Default false.
    pub superuser: Option<bool>,
    /// The bound agent. Superuser keys have none, all others need one.
    pub agent: Option<u64>,
    /// Superuser keys only: the agent when the request names none.
    pub default_agent: Clearable<u64>,
    /// Tokens only.
    pub app_id: Clearable<u64>,
    /// Default `*`.
    pub tags: Option<SetText>,
    /// Default true.
    pub enabled: Option<bool>,
    /// True ends it for ever.
    pub revoked: Option<bool>,
    /// Unix seconds; not valid before.
    pub not_before: Clearable<u64>,
    /// Unix seconds; not valid from then on.
    pub expires_at: Clearable<u64>,
    /// 1 to 64 CIDR blocks or addresses.
    pub allow_ip: Clearable<Vec<String>>,
    /// `100/s`, `60/m`, `1000/h` or `10000/d`: how often it may be allowed. Default any number of times.
    pub rate: Clearable<String>,
    /// New tokens only: the key, token or session that it is made from.
    pub parent: Option<CredentialName>,
    /// In place of `code`: its hash, as an export with hashes has it.
    pub hash: Option<Secret>,
    /// Beside `hash`: the code before it.
    pub retiring: Option<RetiringPatch>,
}

/// Names a key, token or session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CredentialName {
    /// Which of the three.
    pub mode: Mode,
    /// Its id.
    pub id: u64,
}

impl std::fmt::Display for CredentialName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.mode.name(), self.id)
    }
}

/// A retiring code as an export with hashes has it.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct RetiringPatch {
    /// Its hash.
    pub hash: Secret,
    /// Unix seconds: accepted before.
    pub until: u64,
}

impl CredentialPatch {
    /// A patch that gives nothing.
    #[must_use]
    pub const fn new(mode: Mode, id: Option<u64>) -> Self {
        Self {
            mode,
            id,
            label: None,
            code: None,
            superuser: None,
            agent: None,
            default_agent: None,
            app_id: None,
            tags: None,
            enabled: None,
            revoked: None,
            not_before: None,
            expires_at: None,
            allow_ip: None,
            rate: None,
            parent: None,
            hash: None,
            retiring: None,
        }
    }
}

/// One record's patch.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Patch {
    /// An agent's.
    Agent(AgentPatch),
    /// An endpoint's.
    Endpoint(EndpointPatch),
    /// A key's, token's or session's.
    Credential(CredentialPatch),
}
