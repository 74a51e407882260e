//! Verdicts: allow with its terms, deny with one reason, or a fault.

use super::{CodeMark, Mode, UnixSeconds};

/// Why a question is denied: section 2.4, in the order of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the contract's words; its section 2.4 says when each is given")]
pub enum Reason {
    BadRequest,
    MissingCredential,
    MalformedCredential,
    BadCredential,
    Revoked,
    Disabled,
    NotYetValid,
    Expired,
    IpNotAllowed,
    AgentSwitchForbidden,
    AgentRequired,
    AgentUnknown,
    AgentDisabled,
    AmbiguousPath,
    NoRoute,
    ModeNotAllowed,
    TagDenied,
    TagNotGranted,
    AgentNotPermitted,
}

impl Reason {
    /// The HTTP status that goes with it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::MissingCredential
            | Self::MalformedCredential
            | Self::BadCredential
            | Self::Revoked
            | Self::Disabled
            | Self::NotYetValid
            | Self::Expired => 401,
            Self::IpNotAllowed
            | Self::AgentSwitchForbidden
            | Self::AgentRequired
            | Self::AgentUnknown
            | Self::AgentDisabled
            | Self::AmbiguousPath
            | Self::NoRoute
            | Self::ModeNotAllowed
            | Self::TagDenied
            | Self::TagNotGranted
            | Self::AgentNotPermitted => 403,
        }
    }
}

/// Which of a credential's two codes was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeSlot {
    /// The current one.
    Current,
    /// The one that a rotation is retiring.
    Retiring,
}

/// What a verdict says of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentTerms {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: Box<str>,
    /// Its attributes, sorted by name.
    pub attributes: Box<[(Box<str>, Box<str>)]>,
}

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'d> {
    /// How the credential was presented.
    pub mode: Mode,
    /// Its id.
    pub credential_id: u64,
    /// Which of its codes.
    pub code: CodeSlot,
    /// What tells that code from others; for the last use only, never shown.
    pub code_mark: CodeMark,
    /// The earlier of the credential's expiry and a retiring code's deadline.
    pub expires_at: Option<UnixSeconds>,
    /// A token's application.
    pub app_id: Option<u64>,
    /// The agent that the request runs as.
    pub agent: &'d AgentTerms,
    /// The header made the agent differ from the bound or default one.
    pub switched: bool,
}

/// The endpoint that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'d> {
    /// Its path template as written.
    pub template: &'d str,
    /// Its tags.
    pub tags: &'d [Box<str>],
}

/// What comes with a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms<'d> {
    /// Who it is; `None` on a public endpoint, where no credential is looked at.
    pub identity: Option<Identity<'d>>,
    /// The endpoint, when one was asked for.
    pub route: Option<Route<'d>>,
}

/// The answer to a question.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'d> {
    /// Yes, on these terms.
    Allow(Terms<'d>),
    /// No, for this reason.
    Deny(Reason),
    /// The state that the answer rests on is damaged: neither a yes nor a no.
    Unavailable,
}
