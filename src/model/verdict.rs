//! Verdicts: allow with its terms, deny with one reason, or a fault.

use super::{CodeMark, Mode, RetryAfter, TextList, UnixSeconds};

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
    RateLimited(RetryAfter),
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
            Self::RateLimited(_) => 429,
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

/// What a verdict says of the agent. In this order in memory, so that the texts are behind all that is read before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct AgentTerms {
    /// Its id.
    pub id: u64,
    /// Its name, and of each attribute name and value.
    texts: TextList,
}

impl AgentTerms {
    /// The terms of an agent; `attributes` are sorted by name.
    pub fn new<'a>(id: u64, name: &'a str, attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self { id, texts: TextList::new(name, attributes.into_iter().map(|(name, value)| [name, value])) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.texts.first()
    }

    /// Its attributes, sorted by name.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut texts = self.texts.items();
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
    }

    /// Name, then name and value of each attribute.
    #[must_use]
    pub const fn texts(&self) -> &TextList {
        &self.texts
    }
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
    /// Its path template as written, then its tags.
    texts: &'d TextList,
}

impl<'d> Route<'d> {
    /// The route of these texts: the template, then the tags.
    #[must_use]
    pub const fn new(texts: &'d TextList) -> Self {
        Self { texts }
    }

    /// Its path template as written.
    #[must_use]
    pub fn template(&self) -> &'d str {
        self.texts.first()
    }

    /// Its tags.
    pub fn tags(&self) -> impl Iterator<Item = &'d str> {
        self.texts.items()
    }

    /// The template, then the tags.
    #[must_use]
    pub const fn texts(&self) -> &'d TextList {
        self.texts
    }
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

impl<'d> Verdict<'d> {
    /// What comes with a yes.
    #[must_use]
    pub const fn terms(&self) -> Option<&Terms<'d>> {
        match self {
            Self::Allow(terms) => Some(terms),
            Self::Deny(_) | Self::Unavailable => None,
        }
    }
}
