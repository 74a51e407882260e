//! Records as they stand; neither code nor hash is in them.

use bincode::{Decode, Encode};

use super::CredentialName;
use crate::query::Mode;

/// An agent as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AgentRecord {
    /// Its id.
    pub id: u64,
    /// Display name.
    pub name: String,
    /// Patterns joined by `, `.
    pub permissions: String,
    /// Whether requests may run as it.
    pub enabled: bool,
    /// Sorted by name.
    pub attributes: Vec<(String, String)>,
    /// `enabled` or `disabled`.
    pub state: String,
}

/// An endpoint as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EndpointRecord {
    /// `GET`
    pub method: String,
    /// Path template.
    pub path: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// `key`, `token`, `session`, or `public` alone.
    pub modes: Vec<String>,
}

/// When and from where a code was last accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LastUse {
    /// Unix seconds.
    pub at: u64,
    /// The address the trusted caller passed, when it was one.
    pub address: Option<String>,
}

/// A key, token or session as it stands; neither code nor hash.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CredentialRecord {
    /// Which of the three.
    pub mode: Mode,
    /// Its id.
    pub id: u64,
    /// Its label.
    pub label: String,
    /// May act as any agent.
    pub superuser: bool,
    /// The bound agent.
    pub agent: Option<u64>,
    /// A superuser key's default.
    pub default_agent: Option<u64>,
    /// A token's application.
    pub app_id: Option<u64>,
    /// Patterns joined by `, `.
    pub tags: String,
    /// Reversible switch.
    pub enabled: bool,
    /// Final.
    pub revoked: bool,
    /// Unix seconds.
    pub not_before: Option<u64>,
    /// Unix seconds.
    pub expires_at: Option<u64>,
    /// CIDR blocks.
    pub allow_ip: Option<Vec<String>>,
    /// How often it may be allowed, as `100/s`.
    pub rate: Option<String>,
    /// The credential that a token was made from.
    pub parent: Option<CredentialName>,
    /// What the right code would get: `enabled`, or `revoked`, `disabled`, `not_yet_valid`, `expired`.
    pub state: String,
    /// Unix seconds until which the code before the current one is accepted.
    pub retiring_until: Option<u64>,
    /// Of the current code.
    pub last_used: Option<LastUse>,
    /// Of the retiring code.
    pub retiring_last_used: Option<LastUse>,
    /// While the current code is kept as another system's hash, until its first use: `sha256`, `sha512`,
    /// `sha256-id-code`, `sha512-id-code`, `bcrypt` or `argon2id`.
    pub foreign_hash: Option<String>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "most of what is listed is credentials")]
pub enum Record {
    /// An agent.
    Agent(AgentRecord),
    /// An endpoint.
    Endpoint(EndpointRecord),
    /// A key, token or session.
    Credential(CredentialRecord),
}
