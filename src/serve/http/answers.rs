//! From a verdict to an auth answer, or to the API's own form; written where the connection sends from.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;
use keyward_proto::query::{Reason, TargetVerdict};
use serde_json::{Map, Value, json};

use super::head::Afterwards;
use crate::model::{Identity, Mode, Verdict};
use crate::serve::convert;
use crate::serve::meters::CONTENT_TYPE as METRICS_TYPE;

/// Who asks through which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthDoor {
    /// nginx's `auth_request`, which makes 500 of everything but 2xx, 401 and 403.
    Nginx,
    /// Caddy, Traefik, HAProxy, Envoy: they pass any status on.
    Forward,
}

impl AuthDoor {
    const fn status(self, status: u16) -> u16 {
        match (self, status) {
            (Self::Forward, status) => status,
            (Self::Nginx, 200 | 401) => status,
            (Self::Nginx, 500..) => 500,
            (Self::Nginx, _) => 403,
        }
    }
}

/// The time as HTTP writes it, made once a second.
#[derive(Default)]
pub(super) struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    pub(super) fn date(&mut self) -> &str {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second != second || self.text.is_empty() {
            self.second = second;
            self.text.clear();
            write!(self.text, "{}", HttpDate::from(now)).expect("a String takes everything");
        }
        &self.text
    }
}

/// The answer to one request, not given yet.
pub(super) struct Answer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) date: &'a str,
    pub(super) afterwards: Afterwards,
    /// The client asked for the head alone.
    pub(super) without_body: bool,
}

impl Answer<'_> {
    /// Of an auth door. The body is empty: nginx keeps the connection only then. Every header is always there: a proxy
    /// that copies a missing one would let the client's own through.
    pub(super) fn auth(mut self, door: AuthDoor, verdict: &Verdict<'_>) {
        let (identity, verdict) = (identity(verdict), convert::without_terms(verdict));
        self.begin(door.status(verdict.status));
        self.number("x-keyward-status", Some(verdict.status.into()));
        self.header("x-keyward-reason", reason(&verdict).name());
        self.header("x-keyward-mode", identity.map_or("", |who| who.mode.name()));
        self.number("x-keyward-credential-id", identity.map(|who| who.credential_id));
        self.number("x-keyward-app-id", identity.and_then(|who| who.app_id));
        self.number("x-keyward-agent-id", identity.map(|who| who.agent.id));
        self.out.extend_from_slice(b"x-keyward-agent-name: ");
        percent_encode(identity.map_or("", |who| who.agent.name()), self.out);
        self.out.extend_from_slice(b"\r\n");
        self.put_rules(&verdict);
        self.end("");
    }

    /// Of `/me`, in the API's own form.
    pub(super) fn me(mut self, verdict: &Verdict<'_>) {
        let (identity, verdict) = (identity(verdict), convert::without_terms(verdict));
        let body = match identity {
            Some(identity) => json!({ "data": person(identity), "meta": {}, "linked": {} }),
            None => error_body(verdict.status, reason(&verdict).name(), message(reason(&verdict))),
        };
        self.begin(verdict.status);
        self.put_rules(&verdict);
        self.header("content-type", "application/json");
        self.end(&body.to_string());
    }

    /// Of `/healthz`.
    pub(super) fn health(self, ready: bool) {
        let (status, text) =
            if ready { (200, "ok\n") } else { (503, "the database takes no changes; see keyward status\n") };
        self.plain(status, "text/plain; charset=utf-8", text);
    }

    /// Of `/metrics`.
    pub(super) fn metrics(self, text: &str) {
        self.plain(200, METRICS_TYPE, text);
    }

    /// To a path that is none.
    pub(super) fn not_found(self) {
        let body = error_body(404, "not_found", "There is nothing here.").to_string();
        self.plain(404, "application/json", &body);
    }

    /// To a method that a path does not have.
    pub(super) fn method_not_allowed(mut self) {
        let body = error_body(405, "method_not_allowed", "This path can only be read: use GET.");
        self.begin(405);
        self.header("allow", "GET, HEAD");
        self.header("content-type", "application/json");
        self.header("cache-control", "no-store");
        self.end(&body.to_string());
    }

    fn plain(mut self, status: u16, content_type: &str, body: &str) {
        self.begin(status);
        self.header("content-type", content_type);
        self.header("cache-control", "no-store");
        self.end(body);
    }

    /// What every answer about a credential says beside the verdict.
    fn put_rules(&mut self, verdict: &TargetVerdict) {
        self.header("cache-control", "no-store");
        if verdict.status == 401 {
            self.header("www-authenticate", "key realm=\"keyward\"");
        }
        if verdict.status == 429 {
            self.number("retry-after", Some(verdict.retry_after.into()));
        }
    }

    fn begin(&mut self, status: u16) {
        self.out.extend_from_slice(match status {
            200 => b"HTTP/1.1 200 OK\r\n",
            400 => b"HTTP/1.1 400 Bad Request\r\n",
            401 => b"HTTP/1.1 401 Unauthorized\r\n",
            403 => b"HTTP/1.1 403 Forbidden\r\n",
            404 => b"HTTP/1.1 404 Not Found\r\n",
            405 => b"HTTP/1.1 405 Method Not Allowed\r\n",
            429 => b"HTTP/1.1 429 Too Many Requests\r\n",
            503 => b"HTTP/1.1 503 Service Unavailable\r\n",
            _ => b"HTTP/1.1 500 Internal Server Error\r\n",
        });
    }

    /// Names and values are ours; nothing in them could end the line.
    fn header(&mut self, name: &str, value: &str) {
        for part in [name, ": ", value, "\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    /// A header that is empty when there is no number.
    fn number(&mut self, name: &str, value: Option<u64>) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        if let Some(value) = value {
            self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn end(mut self, body: &str) {
        self.number("content-length", Some(body.len() as u64));
        self.header("date", self.date);
        match self.afterwards {
            Afterwards::Kept => {}
            Afterwards::KeptAsAsked => self.header("connection", "keep-alive"),
            Afterwards::Closed => self.header("connection", "close"),
        }
        self.out.extend_from_slice(b"\r\n");
        if !self.without_body {
            self.out.extend_from_slice(body.as_bytes());
        }
    }
}

/// A daemon never sends itself a number that it doesn't know; if it did, that would be a fault.
fn reason(verdict: &TargetVerdict) -> Reason {
    Reason::from_number(verdict.reason).unwrap_or(Reason::Unavailable)
}

fn identity<'v, 'd>(verdict: &'v Verdict<'d>) -> Option<&'v Identity<'d>> {
    verdict.terms()?.identity.as_ref()
}

/// All but RFC 3986's unreserved characters as `%XX`.
fn percent_encode(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte);
        } else {
            write!(out, "%{byte:02X}").expect("a Vec takes everything");
        }
    }
}

fn person(identity: &Identity<'_>) -> Value {
    let auth_method = match identity.mode {
        Mode::Key => "api_key",
        Mode::Token => "api_token",
        Mode::Session => "session",
    };
    let attributes = identity.agent.attributes();
    let mut person: Map<String, Value> =
        attributes.map(|(name, value)| (name.to_string(), Value::from(value))).collect();
    // Last, so that no attribute replaces them.
    person.insert("id".to_string(), Value::from(identity.agent.id));
    person.insert("name".to_string(), Value::from(identity.agent.name()));
    json!({
        "auth_method": auth_method,
        "app_id": identity.app_id,
        "person_id": identity.agent.id,
        "person": person,
    })
}

/// An error in the API's own form.
fn error_body(status: u16, code: &str, message: &str) -> Value {
    json!({ "status": status, "code": code, "message": message })
}

/// What went wrong, for the person who wrote the request.
const fn message(reason: Reason) -> &'static str {
    match reason {
        Reason::Ok => "The request is allowed.",
        Reason::BadRequest => "A header is malformed or stands there twice.",
        Reason::MissingCredential => "The request carries no credential; send `Authorization: key ID:CODE`.",
        Reason::MalformedCredential => "The credential is not of the form `key ID:CODE`.",
        Reason::BadCredential => "The credential is not valid.",
        Reason::Revoked => "The credential was revoked.",
        Reason::Disabled => "The credential is disabled.",
        Reason::NotYetValid => "The credential is not valid yet.",
        Reason::Expired => "The credential has expired.",
        Reason::IpNotAllowed => "The credential may not be used from this address.",
        Reason::AgentSwitchForbidden => "The credential is bound to another agent than the one named.",
        Reason::AgentRequired => "The key acts for any agent; name one in X-DeskPRO-Agent-ID.",
        Reason::AgentUnknown => "There is no such agent.",
        Reason::AgentDisabled => "The agent is disabled.",
        Reason::AmbiguousPath => "The path can be read in more than one way.",
        Reason::NoRoute => "There is no such endpoint.",
        Reason::ModeNotAllowed => "The endpoint does not take this kind of credential.",
        Reason::TagDenied => "The credential's tags deny this.",
        Reason::TagNotGranted => "The credential's tags do not grant this.",
        Reason::AgentNotPermitted => "The agent's permissions do not grant this.",
        Reason::RateLimited => "Too many requests; try again later.",
        Reason::Unavailable => "The question could not be answered; try again later.",
    }
}
