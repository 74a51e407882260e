//! Questions and verdicts: the messages of `query.sock`.
//!
//! Requests borrow from the frame. Replies exist twice: as `…Ref`, which the daemon encodes straight from its state
//! without copying, and owned, which a client decodes; a test holds the two to the same bytes.

use bincode::{BorrowDecode, Decode, Encode};

use crate::frame::{self, Frame, FrameError};
use crate::{codec, reply, request};

/// Type number of [`Check`].
pub const CHECK: u16 = 0x0101;
/// Type number of [`Batch`].
pub const BATCH: u16 = 0x0102;
/// Type number of [`Who`].
pub const WHO: u16 = 0x0103;
/// Type number of [`Verdict`], the reply to check and who.
pub const VERDICT: u16 = 0x0201;
/// Type number of [`BatchVerdicts`].
pub const BATCH_VERDICTS: u16 = 0x0202;

/// Who asks, as the web server received it. Byte strings: odd bytes get a verdict, not a broken frame.
#[derive(Clone, Copy, Default, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Asker<'a> {
    /// The `Authorization` value, `key 2:CODE`; `None` when there was no such header.
    pub credential: Option<&'a [u8]>,
    /// The `X-DeskPRO-Agent-ID` value; `None` when there was no such header.
    pub agent: Option<&'a [u8]>,
    /// The client's address as text, `10.1.2.3`.
    pub address: Option<&'a [u8]>,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Target<'a> {
    /// A request line: the method and the raw path, query string and all.
    Endpoint {
        /// `GET`.
        method: &'a [u8],
        /// `/api/v2/tickets?page=2`, not decoded.
        path: &'a [u8],
    },
    /// 1 to 16 tags, judged as one endpoint's.
    Tags(Vec<&'a [u8]>),
}

/// May they do this?
#[derive(Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Check<'a> {
    /// Who asks.
    pub asker: Asker<'a>,
    /// What for.
    pub target: Target<'a>,
}

/// May they do each of these? One credential, 1 to 1024 targets.
#[derive(Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Batch<'a> {
    /// Who asks.
    pub asker: Asker<'a>,
    /// What for, in order.
    pub targets: Vec<Target<'a>>,
}

/// Who is this?
#[derive(Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Who<'a> {
    /// Who asks.
    pub asker: Asker<'a>,
}

/// A request on the query socket.
#[derive(Clone, PartialEq, Eq)]
pub enum QueryRequest<'a> {
    /// Type [`CHECK`].
    Check(Check<'a>),
    /// Type [`BATCH`].
    Batch(Batch<'a>),
    /// Type [`WHO`].
    Who(Who<'a>),
}

impl<'a> QueryRequest<'a> {
    /// Decodes a frame: version, type, body, in that order.
    ///
    /// # Errors
    /// The first that applies of `UnsupportedVersion`, `UnknownType`, `MalformedBody`, `TrailingBytes`.
    pub fn decode(frame: &Frame<'a>) -> Result<Self, FrameError> {
        frame.expect_version()?;
        match frame.header.kind {
            CHECK => request::check(frame.body).map_or_else(|| codec::decode(frame.body), Ok).map(Self::Check),
            BATCH => request::batch(frame.body).map_or_else(|| codec::decode(frame.body), Ok).map(Self::Batch),
            WHO => request::who(frame.body).map_or_else(|| codec::decode(frame.body), Ok).map(Self::Who),
            _ => Err(frame.unknown_type()),
        }
    }

    /// Appends the request as a frame to `out`.
    pub fn put(&self, out: &mut Vec<u8>, request_id: u32) {
        match self {
            Self::Check(body) => frame::put(out, CHECK, request_id, body),
            Self::Batch(body) => frame::put(out, BATCH, request_id, body),
            Self::Who(body) => frame::put(out, WHO, request_id, body),
        }
    }
}

/// How the credential was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Mode {
    /// An API key.
    Key,
    /// An API token.
    Token,
    /// A session.
    Session,
}

impl Mode {
    /// `key`, `token` or `session`: the scheme of the header value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
            Self::Session => "session",
        }
    }
}

/// Which of a credential's two codes was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum CodeSlot {
    /// The current one.
    Current,
    /// The one that a rotation is retiring.
    Retiring,
}

impl CodeSlot {
    /// `current` or `retiring`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Retiring => "retiring",
        }
    }
}

/// Why a verdict is what it is: the reasons of the contract's section 2.4. The numbers are part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names are the contract's words; PROTOCOL.md says when each is given")]
pub enum Reason {
    Ok = 0,
    BadRequest = 1,
    MissingCredential = 2,
    MalformedCredential = 3,
    BadCredential = 4,
    Revoked = 5,
    Disabled = 6,
    NotYetValid = 7,
    Expired = 8,
    IpNotAllowed = 9,
    AgentSwitchForbidden = 10,
    AgentRequired = 11,
    AgentUnknown = 12,
    AgentDisabled = 13,
    AmbiguousPath = 14,
    NoRoute = 15,
    ModeNotAllowed = 16,
    TagDenied = 17,
    TagNotGranted = 18,
    AgentNotPermitted = 19,
    RateLimited = 20,
    Unavailable = 21,
}

impl Reason {
    /// Every reason, by number.
    pub const ALL: [Self; 22] = [
        Self::Ok,
        Self::BadRequest,
        Self::MissingCredential,
        Self::MalformedCredential,
        Self::BadCredential,
        Self::Revoked,
        Self::Disabled,
        Self::NotYetValid,
        Self::Expired,
        Self::IpNotAllowed,
        Self::AgentSwitchForbidden,
        Self::AgentRequired,
        Self::AgentUnknown,
        Self::AgentDisabled,
        Self::AmbiguousPath,
        Self::NoRoute,
        Self::ModeNotAllowed,
        Self::TagDenied,
        Self::TagNotGranted,
        Self::AgentNotPermitted,
        Self::RateLimited,
        Self::Unavailable,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The reason with this number. A client treats a number it does not know as a denial.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The name in JSON, logs and headers: `bad_credential`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BadRequest => "bad_request",
            Self::MissingCredential => "missing_credential",
            Self::MalformedCredential => "malformed_credential",
            Self::BadCredential => "bad_credential",
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::AgentSwitchForbidden => "agent_switch_forbidden",
            Self::AgentRequired => "agent_required",
            Self::AgentUnknown => "agent_unknown",
            Self::AgentDisabled => "agent_disabled",
            Self::AmbiguousPath => "ambiguous_path",
            Self::NoRoute => "no_route",
            Self::ModeNotAllowed => "mode_not_allowed",
            Self::TagDenied => "tag_denied",
            Self::TagNotGranted => "tag_not_granted",
            Self::AgentNotPermitted => "agent_not_permitted",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Who it is, on an allow that looked at a credential. Encoded as [`Identity`].
#[derive(Clone, Copy)]
pub struct IdentityRef<'a> {
    /// How the credential was presented.
    pub mode: Mode,
    /// Its id.
    pub credential_id: u64,
    /// Which of its codes.
    pub code: CodeSlot,
    /// Unix seconds: the earlier of the credential's expiry and a retiring code's deadline.
    pub expires_at: Option<u64>,
    /// A token's application.
    pub app_id: Option<u64>,
    /// The agent the request runs as.
    pub agent_id: u64,
    /// Its name and its attributes, sorted by name, encoded already: the bytes of a string and of a list of pairs of
    /// strings.
    pub agent: &'a [u8],
    /// The header made the agent differ from the bound or default one.
    pub switched: bool,
}

/// One verdict. Encoded as [`Verdict`].
#[derive(Clone, Copy)]
pub struct VerdictRef<'a> {
    /// [`Reason::number`].
    pub reason: u16,
    /// The HTTP status that goes with it.
    pub status: u16,
    /// Whole seconds, at least 1 with `rate_limited`, else 0.
    pub retry_after: u32,
    /// On every allow but a public endpoint's.
    pub identity: Option<IdentityRef<'a>>,
    /// The [`Route`] on an allow of an endpoint question, encoded already: the bytes of a string and of a list of strings.
    pub route: Option<&'a [u8]>,
}

impl VerdictRef<'_> {
    /// Appends the verdict as a frame to `out`.
    pub fn put(&self, out: &mut Vec<u8>, request_id: u32) {
        reply::put_verdict(out, request_id, self);
    }
}

/// The verdicts of a batch. Encoded as [`BatchVerdicts`].
#[derive(Clone, Copy)]
pub struct BatchVerdictsRef<'a> {
    /// [`Reason::Ok`] when the batch was judged; `bad_request` when it holds no target or over 1024.
    pub reason: u16,
    /// The status that goes with it.
    pub status: u16,
    /// Who it is, when any target that looked at the credential was allowed.
    pub identity: Option<IdentityRef<'a>>,
    /// One a target, in order.
    pub verdicts: &'a [TargetVerdict],
}

impl BatchVerdictsRef<'_> {
    /// Appends the verdicts as a frame to `out`.
    pub fn put(&self, out: &mut Vec<u8>, request_id: u32) {
        reply::put_batch(out, request_id, self);
    }
}

/// Who it is, on an allow that looked at a credential.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// How the credential was presented.
    pub mode: Mode,
    /// Its id.
    pub credential_id: u64,
    /// Which of its codes.
    pub code: CodeSlot,
    /// Unix seconds: the earlier of the credential's expiry and a retiring code's deadline.
    pub expires_at: Option<u64>,
    /// A token's application.
    pub app_id: Option<u64>,
    /// The agent the request runs as.
    pub agent_id: u64,
    /// Its name.
    pub agent_name: String,
    /// Its attributes, sorted by name.
    pub attributes: Vec<(String, String)>,
    /// The header made the agent differ from the bound or default one.
    pub switched: bool,
}

/// The endpoint that matched.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Route {
    /// Its path template.
    pub template: String,
    /// Its tags.
    pub tags: Vec<String>,
}

/// One verdict.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Verdict {
    /// [`Reason::number`].
    pub reason: u16,
    /// The HTTP status that goes with it.
    pub status: u16,
    /// Whole seconds, at least 1 with `rate_limited`, else 0.
    pub retry_after: u32,
    /// On every allow but a public endpoint's.
    pub identity: Option<Identity>,
    /// On an allow of an endpoint question.
    pub route: Option<Route>,
}

impl Verdict {
    /// Whether the request may proceed. Anything but [`Reason::Ok`], known or not, is a no.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.reason == Reason::Ok.number()
    }
}

/// The verdict on one target of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TargetVerdict {
    /// [`Reason::number`].
    pub reason: u16,
    /// The HTTP status that goes with it.
    pub status: u16,
    /// Whole seconds, at least 1 with `rate_limited`, else 0.
    pub retry_after: u32,
}

/// The verdicts of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BatchVerdicts {
    /// [`Reason::Ok`] when the batch was judged; `bad_request` when it holds no target or over 1024.
    pub reason: u16,
    /// The status that goes with it.
    pub status: u16,
    /// Who it is, when any target that looked at the credential was allowed.
    pub identity: Option<Identity>,
    /// One a target, in order.
    pub verdicts: Vec<TargetVerdict>,
}

/// A reply on the query socket, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryReply {
    /// Type [`VERDICT`].
    Verdict(Verdict),
    /// Type [`BATCH_VERDICTS`].
    Batch(BatchVerdicts),
    /// Type [`frame::QUERY_ERROR`].
    Error(FrameError),
}

impl QueryReply {
    /// Decodes a reply frame.
    ///
    /// # Errors
    /// As [`QueryRequest::decode`].
    pub fn decode(frame: &Frame<'_>) -> Result<Self, FrameError> {
        frame.expect_version()?;
        match frame.header.kind {
            VERDICT => codec::decode(frame.body).map(Self::Verdict),
            BATCH_VERDICTS => codec::decode(frame.body).map(Self::Batch),
            frame::QUERY_ERROR => frame::read_error(frame.body).map(Self::Error),
            _ => Err(frame.unknown_type()),
        }
    }

    /// Appends the reply as a frame to `out`; the daemon uses [`VerdictRef`] and [`BatchVerdictsRef`].
    pub fn put(&self, out: &mut Vec<u8>, request_id: u32) {
        match self {
            Self::Verdict(body) => frame::put(out, VERDICT, request_id, body),
            Self::Batch(body) => frame::put(out, BATCH_VERDICTS, request_id, body),
            Self::Error(error) => frame::put_error(out, frame::QUERY_ERROR, request_id, error),
        }
    }
}
