//! What a change would come to.

use bincode::{Decode, Encode};

use super::{FieldChange, Patch, Selector};

/// The change that is asked about; it is not made.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and the larger one is the ordinary one")]
pub enum WhatIf {
    /// As [`super::AdminRequest::Set`], of an agent or a credential.
    Set(Patch),
    /// As [`super::AdminRequest::Remove`], of an agent or a credential.
    Remove(Selector),
}

/// What the change would come to: nothing was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Consequences {
    /// Fields that would differ.
    pub changed: Vec<FieldChange>,
    /// The agent that would be removed, the credential that would be revoked.
    pub removed: Vec<Selector>,
    /// Credentials whose reach was compared.
    pub compared: u64,
    /// Credentials whose reach was not compared, for they are too many with sets of their own.
    pub not_compared: u64,
    /// Credentials that would gain or lose an endpoint.
    pub affected: u64,
    /// The effects with most credentials, 20 at most.
    pub effects: Vec<Effect>,
    /// How many effects there are.
    pub effects_total: u64,
    /// What the lists don't show, a sentence each.
    pub notes: Vec<String>,
}

/// Credentials that would gain and lose the same endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Effect {
    /// The first of them, 100 at most.
    pub credentials: Vec<Selector>,
    /// How many there are.
    pub credentials_total: u64,
    /// Endpoints that they could call only after the change: the first of them. All effects of a reply list 1,000
    /// endpoints at most, evenly shared.
    pub gained: Vec<Selector>,
    /// How many there are.
    pub gained_total: u64,
    /// Endpoints that they can call only before the change: the first of them.
    pub lost: Vec<Selector>,
    /// How many there are.
    pub lost_total: u64,
}
