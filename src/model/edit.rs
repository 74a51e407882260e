//! What an operator gives of a record: the parsed form of a patch. A field that is `None` was not given.

use std::sync::Arc;

use super::record::{AgentName, Attributes, Label};
use super::{AllowList, Code, GivenHash, Id, Mode, Modes, Rate, UnixSeconds};
use crate::route::{Method, Template};
use crate::tags::{Tag, TagSet};

/// What is given of an agent.
#[derive(Clone, Default)]
pub struct AgentEdit {
    /// Not given: the next id.
    pub id: Option<Id>,
    /// A new agent needs one.
    pub name: Option<AgentName>,
    /// A new agent needs them.
    pub permissions: Option<Arc<TagSet>>,
    /// Default true.
    pub enabled: Option<bool>,
    /// Default none; replaces them all.
    pub attributes: Option<Attributes>,
}

/// What is given of an endpoint.
#[derive(Clone)]
pub struct EndpointEdit {
    /// Names it.
    pub method: Method,
    /// Names it.
    pub template: Template,
    /// A new endpoint needs them.
    pub tags: Option<Vec<Tag>>,
    /// Default [`Modes::ALL`].
    pub modes: Option<Modes>,
}

/// What is given of a credential. In a doubled `Option` the outer one says whether the field was given.
#[derive(Clone)]
pub struct CredentialEdit {
    /// Which of the three.
    pub mode: Mode,
    /// Not given: the next id.
    pub id: Option<Id>,
    /// Default empty.
    pub label: Option<Label>,
    /// Not given on a new one that may be made: a code is made.
    pub code: Option<Code>,
    /// Default false; keys only.
    pub superuser: Option<bool>,
    /// The bound agent.
    pub agent: Option<Id>,
    /// A superuser key's default agent.
    pub default_agent: Option<Option<Id>>,
    /// A token's application.
    pub app_id: Option<Option<u64>>,
    /// Default [`TagSet::everything`].
    pub tags: Option<Arc<TagSet>>,
    /// Default true.
    pub enabled: Option<bool>,
    /// Default false.
    pub revoked: Option<bool>,
    /// Default none.
    pub not_before: Option<Option<UnixSeconds>>,
    /// Default none.
    pub expires_at: Option<Option<UnixSeconds>>,
    /// Default none.
    pub allow_ip: Option<Option<AllowList>>,
    /// Default none.
    pub rate: Option<Option<Rate>>,
    /// Tokens only, and only when they are new: the credential that it is made from.
    pub parent: Option<(Mode, Id)>,
    /// In place of a code: its hash.
    pub hash: Option<GivenHash>,
    /// Beside `hash`: the code before it and its deadline.
    pub retiring: Option<Box<GivenRetiring>>,
}

/// What is given of a retiring code.
#[derive(Clone)]
pub struct GivenRetiring {
    /// Its hash.
    pub hash: GivenHash,
    /// Accepted before.
    pub until: UnixSeconds,
}

impl CredentialEdit {
    /// An edit that gives nothing.
    #[must_use]
    pub const fn new(mode: Mode, id: Option<Id>) -> Self {
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

/// One record's edit.
#[derive(Clone)]
pub enum Edit {
    /// An agent's.
    Agent(AgentEdit),
    /// An endpoint's.
    Endpoint(EndpointEdit),
    /// A credential's.
    Credential(CredentialEdit),
}
