//! The records that rows hold, and a committed change of them.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{AllowList, CodeHash, CodeSlot, Foreign, HashKind, Id, Mode, Modes, Rate, Revision, SlowHash, UnixSeconds};
use crate::route::{Method, Template};
use crate::tags::{Tag, TagSet};

/// Bytes of an agent's name or a credential's label.
pub const TEXT_BYTES_MAX: usize = 256;
/// Attributes of an agent.
pub const ATTRIBUTES_MAX: usize = 32;
/// Bytes of an attribute's name.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
/// Bytes of an attribute's value.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1024;

/// A text over its bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextError {
    /// An agent's name is empty.
    EmptyName,
    /// A name or label over [`TEXT_BYTES_MAX`].
    TooLong(usize),
    /// Over [`ATTRIBUTES_MAX`].
    TooManyAttributes(usize),
    /// An attribute's name is empty or over its bound.
    AttributeName(usize),
    /// An attribute's value is over its bound.
    AttributeValue(String, usize),
    /// The same attribute twice.
    DoubledAttribute(String),
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => f.write_str("an agent needs a name"),
            Self::TooLong(bytes) => write!(f, "it has {bytes} bytes, at most {TEXT_BYTES_MAX} are allowed"),
            Self::TooManyAttributes(count) => {
                write!(f, "{count} attributes are too many, at most {ATTRIBUTES_MAX} are allowed")
            }
            Self::AttributeName(bytes) => {
                write!(f, "an attribute's name has {bytes} bytes, 1 to {ATTRIBUTE_NAME_BYTES_MAX} are allowed")
            }
            Self::AttributeValue(name, bytes) => {
                write!(f, "attribute {name:?} has {bytes} bytes, at most {ATTRIBUTE_VALUE_BYTES_MAX} are allowed")
            }
            Self::DoubledAttribute(name) => write!(f, "attribute {name:?} is given twice"),
        }
    }
}

impl std::error::Error for TextError {}

/// A credential's label: at most [`TEXT_BYTES_MAX`], may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label(Box<str>);

impl Label {
    /// Takes the text.
    ///
    /// # Errors
    /// [`TextError::TooLong`].
    pub fn parse(text: &str) -> Result<Self, TextError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TextError::TooLong(text.len()));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An agent's display name: 1 to [`TEXT_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentName(Box<str>);

impl AgentName {
    /// Takes the text.
    ///
    /// # Errors
    /// [`TextError::EmptyName`], [`TextError::TooLong`].
    pub fn parse(text: &str) -> Result<Self, TextError> {
        match text.len() {
            0 => Err(TextError::EmptyName),
            1..=TEXT_BYTES_MAX => Ok(Self(text.into())),
            len => Err(TextError::TooLong(len)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An agent's attributes, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Box<[(Box<str>, Box<str>)]>);

impl Attributes {
    /// Takes the pairs, in any order.
    ///
    /// # Errors
    /// See [`TextError`].
    pub fn parse(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, TextError> {
        let mut sorted: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (name, value) in pairs {
            if !(1..=ATTRIBUTE_NAME_BYTES_MAX).contains(&name.len()) {
                return Err(TextError::AttributeName(name.len()));
            }
            if value.len() > ATTRIBUTE_VALUE_BYTES_MAX {
                return Err(TextError::AttributeValue(name, value.len()));
            }
            sorted.push((name.into(), value.into()));
        }
        if sorted.len() > ATTRIBUTES_MAX {
            return Err(TextError::TooManyAttributes(sorted.len()));
        }
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(TextError::DoubledAttribute(pair[0].0.to_string())),
            None => Ok(Self(sorted.into())),
        }
    }

    /// Name and value, sorted by name.
    #[must_use]
    pub fn pairs(&self) -> &[(Box<str>, Box<str>)] {
        &self.0
    }
}

/// The user a request runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: Id,
    /// Display name.
    pub name: AgentName,
    /// What it may do.
    pub permissions: Arc<TagSet>,
    /// Whether requests may run as it.
    pub enabled: bool,
    /// A tombstone: the id is never used again.
    pub removed: bool,
    /// Free pairs for the application.
    pub attributes: Attributes,
}

/// Which agents a credential may act as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// This one only.
    Agent(Id),
    /// Any; keys only.
    Superuser {
        /// The agent when the request names none.
        default: Option<Id>,
    },
}

impl Binding {
    /// The agent that the binding names, if any.
    #[must_use]
    pub const fn named_agent(self) -> Option<Id> {
        match self {
            Self::Agent(id) => Some(id),
            Self::Superuser { default } => default,
        }
    }
}

/// The code before the current one, while it is still accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RetiringCode {
    /// Its hash.
    pub hash: CodeHash,
    /// Accepted while now is before this.
    pub until: UnixSeconds,
}

/// A credential's one or two codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Codes {
    /// The current one.
    pub current: CodeHash,
    /// After a rotation, until its deadline.
    pub retiring: Option<RetiringCode>,
}

impl Codes {
    /// The codes of a credential that expires: a retiring one doesn't outlive it.
    #[must_use]
    pub fn within(self, expires_at: Option<UnixSeconds>) -> Self {
        let cut = |until: UnixSeconds| expires_at.map_or(until, |at| at.min(until));
        let retiring = self.retiring.map(|old| RetiringCode { until: cut(old.until), ..old });
        Self { retiring, ..self }
    }

    /// The codes that are accepted at `now`.
    #[must_use]
    pub fn at(self, now: UnixSeconds) -> Self {
        Self { retiring: self.retiring.filter(|old| now < old.until), ..self }
    }

    /// Whether what is kept of another system's hash is still of use beside these codes.
    #[must_use]
    pub fn need(&self, foreign: &Foreign) -> bool {
        let is_slow = |hash: CodeHash| hash.kind() == HashKind::Slow;
        match foreign {
            Foreign::Slow(_) => is_slow(self.current) || self.retiring.is_some_and(|code| is_slow(code.hash)),
            Foreign::Proven { own, .. } => self.current.mark() == *own,
        }
    }
}

/// A key, a token or a session.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Which of the three.
    pub mode: Mode,
    /// Its id, unique within the mode.
    pub id: Id,
    /// For people.
    pub label: Label,
    /// Whom it acts as.
    pub binding: Binding,
    /// What it may do.
    pub tags: Arc<TagSet>,
    /// What proves it.
    pub codes: Codes,
    /// Reversible switch.
    pub enabled: bool,
    /// Final: the row stays as a tombstone.
    pub revoked: bool,
    /// Not valid before.
    pub not_before: Option<UnixSeconds>,
    /// Not valid from then on.
    pub expires_at: Option<UnixSeconds>,
    /// Where it may be used from; `None` for anywhere.
    pub allow_ip: Option<AllowList>,
    /// A token's application.
    pub app_id: Option<u64>,
    /// How often it may be allowed; `None` for any number of times.
    pub rate: Option<Rate>,
    /// The credential that a token was made from: it may do no more, and ends with it.
    pub parent: Option<(Mode, Id)>,
    /// What is kept of another system's hash.
    pub foreign: Option<Foreign>,
}

impl Credential {
    /// What another system called the hash that the current code is kept as; `None` when it is Keyward's own.
    #[must_use]
    pub fn foreign_hash_name(&self) -> Option<&'static str> {
        match self.codes.current.kind() {
            HashKind::Own => None,
            HashKind::Digest(kind) => Some(kind.name()),
            HashKind::Slow => self.foreign.as_ref().and_then(Foreign::slow).map(SlowHash::name),
        }
    }

    /// The hash of one of its codes in a text that can be given again; for an export that was asked to hold hashes, and
    /// nothing else. `None` when it has no such code.
    #[must_use]
    pub fn expose_hash(&self, code: CodeSlot) -> Option<Zeroizing<Vec<u8>>> {
        let hash = match code {
            CodeSlot::Current => self.codes.current,
            CodeSlot::Retiring => self.codes.retiring?.hash,
        };
        match hash.kind() {
            HashKind::Own | HashKind::Digest(_) => hash.expose_text(),
            HashKind::Slow => {
                let slow = self.foreign.as_ref().and_then(Foreign::slow)?;
                Some(Zeroizing::new(slow.expose().as_bytes().to_vec()))
            }
        }
    }
}

/// Method, path template, tags and modes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path template.
    pub template: Template,
    /// 1 to 16.
    pub tags: Vec<Tag>,
    /// Who may use it.
    pub modes: Modes,
    /// A row that matches nothing any more.
    pub removed: bool,
}

/// One record.
#[derive(Clone, PartialEq, Eq)]
pub enum Record {
    /// An agent.
    Agent(Agent),
    /// An endpoint.
    Endpoint(Endpoint),
    /// A key, token or session.
    Credential(Credential),
}

impl Record {
    /// What names it.
    #[must_use]
    pub fn name(&self) -> RecordName {
        match self {
            Self::Agent(agent) => RecordName::Agent(agent.id),
            Self::Endpoint(endpoint) => RecordName::Endpoint(endpoint.method.clone(), endpoint.template.clone()),
            Self::Credential(credential) => RecordName::Credential(credential.mode, credential.id),
        }
    }

    /// What names its row.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Agent(agent) => RecordKey::Agent(agent.id),
            Self::Endpoint(endpoint) => {
                RecordKey::Endpoint(endpoint.method.clone(), endpoint.template.shape().to_string())
            }
            Self::Credential(credential) => RecordKey::Credential(credential.mode, credential.id),
        }
    }

    /// Whether it is a tombstone: revoked or removed.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        match self {
            Self::Agent(agent) => agent.removed,
            Self::Endpoint(endpoint) => endpoint.removed,
            Self::Credential(credential) => credential.revoked,
        }
    }
}

impl Record {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Agent(_) => Kind::Agent,
            Self::Endpoint(_) => Kind::Endpoint,
            Self::Credential(credential) => Kind::Credential(credential.mode),
        }
    }

    /// Its id; endpoints have none.
    #[must_use]
    pub const fn id(&self) -> Option<Id> {
        match self {
            Self::Agent(agent) => Some(agent.id),
            Self::Endpoint(_) => None,
            Self::Credential(credential) => Some(credential.id),
        }
    }
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Agents.
    Agent,
    /// Endpoints.
    Endpoint,
    /// Credentials of one mode.
    Credential(Mode),
}

impl Kind {
    /// `agent`, `endpoint`, `key`, `token`, `session`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Endpoint => "endpoint",
            Self::Credential(mode) => mode.name(),
        }
    }
}

/// Names one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKey {
    /// An agent by id.
    Agent(Id),
    /// An endpoint by method and the shape of its template.
    Endpoint(Method, String),
    /// A credential by mode and id.
    Credential(Mode, Id),
}

impl RecordKey {
    /// Its id; endpoints have none.
    #[must_use]
    pub const fn id(&self) -> Option<Id> {
        match self {
            Self::Agent(id) | Self::Credential(_, id) => Some(*id),
            Self::Endpoint(..) => None,
        }
    }

    /// The kind of record it names.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Agent(_) => Kind::Agent,
            Self::Endpoint(..) => Kind::Endpoint,
            Self::Credential(mode, _) => Kind::Credential(*mode),
        }
    }
}

/// Names one record as people write it: an endpoint by its template, not by its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordName {
    /// An agent by id.
    Agent(Id),
    /// An endpoint by method and template.
    Endpoint(Method, Template),
    /// A credential by mode and id.
    Credential(Mode, Id),
}

impl RecordName {
    /// What names its row.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Agent(id) => RecordKey::Agent(*id),
            Self::Endpoint(method, template) => RecordKey::Endpoint(method.clone(), template.shape().to_string()),
            Self::Credential(mode, id) => RecordKey::Credential(*mode, *id),
        }
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "agent {id}"),
            Self::Endpoint(method, template) => write!(f, "endpoint {method} {}", template.as_str()),
            Self::Credential(mode, id) => write!(f, "{mode} {id}"),
        }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "agent {id}"),
            Self::Endpoint(method, shape) => write!(f, "endpoint {method} {shape}"),
            Self::Credential(mode, id) => write!(f, "{mode} {id}"),
        }
    }
}

/// The unit that state moves by: rows to put, on condition that rows are still of the revision they were read at.
///
/// What is revoked, disabled or removed is put as a row that denies, so that a change can be replayed by another host in
/// order of revisions. Only a row that denies by its expiry, for long, is taken away.
#[derive(Clone, Default)]
pub struct Change {
    /// Rows that the change rests on and the revision each was read at; [`Revision`] 0 for a row that was not there.
    pub expected: Vec<(RecordKey, Revision)>,
    /// The rows as they are to be.
    pub records: Vec<Record>,
    /// Rows to take away. Their ids are never used again.
    pub removed: Vec<(Mode, Id)>,
}

impl Change {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.removed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_in_bytes() {
        assert!(Label::parse("").is_ok());
        assert!(Label::parse(&"é".repeat(128)).is_ok());
        assert_eq!(Label::parse(&"é".repeat(129)), Err(TextError::TooLong(258)));
        assert_eq!(AgentName::parse(""), Err(TextError::EmptyName));
    }

    #[test]
    fn attributes_are_bounded_sorted_and_unique() {
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let parsed = Attributes::parse([pair("b", "2"), pair("a", "1")]).unwrap();
        assert_eq!(parsed.pairs()[0].0.as_ref(), "a");
        assert_eq!(
            Attributes::parse([pair("a", "1"), pair("a", "2")]),
            Err(TextError::DoubledAttribute("a".to_string()))
        );
        assert!(Attributes::parse((0..32).map(|n| pair(&n.to_string(), ""))).is_ok());
        assert_eq!(Attributes::parse((0..33).map(|n| pair(&n.to_string(), ""))), Err(TextError::TooManyAttributes(33)));
        assert!(Attributes::parse([pair("", "1")]).is_err());
        assert!(Attributes::parse([pair("a", &"x".repeat(1025))]).is_err());
    }
}
