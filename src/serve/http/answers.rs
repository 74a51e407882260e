//! From a verdict to the headers of an auth answer, or to the API's own form.

use std::fmt::Write as _;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use keyward_proto::query::{IdentityRef, Mode, Reason, VerdictRef};
use serde_json::{Map, Value, json};

use super::Reply;
use crate::model::Verdict;
use crate::serve::convert;
use crate::serve::meters::CONTENT_TYPE as METRICS_TYPE;

const STATUS: HeaderName = HeaderName::from_static("x-keyward-status");
const REASON: HeaderName = HeaderName::from_static("x-keyward-reason");
const MODE: HeaderName = HeaderName::from_static("x-keyward-mode");
const CREDENTIAL_ID: HeaderName = HeaderName::from_static("x-keyward-credential-id");
const APP_ID: HeaderName = HeaderName::from_static("x-keyward-app-id");
const AGENT_ID: HeaderName = HeaderName::from_static("x-keyward-agent-id");
const AGENT_NAME: HeaderName = HeaderName::from_static("x-keyward-agent-name");
/// Headers of an auth answer, with those that hyper adds: so the map is made once.
const HEADERS_MAX: usize = 12;
const CHALLENGE: HeaderValue = HeaderValue::from_static("key realm=\"keyward\"");

/// Who asks through which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthDoor {
    /// nginx's `auth_request`, which makes 500 of everything but 2xx, 401 and 403.
    Nginx,
    /// Caddy, Traefik, HAProxy, Envoy: they pass any status on.
    Forward,
}

impl AuthDoor {
    fn status(self, status: u16) -> StatusCode {
        let told = match (self, status) {
            (Self::Forward, status) => status,
            (Self::Nginx, 200 | 401) => status,
            (Self::Nginx, 500..) => 500,
            (Self::Nginx, _) => 403,
        };
        StatusCode::from_u16(told).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The answer of an auth door. Its body is empty: nginx keeps the connection only then. Every header is always there:
/// a proxy that copies a missing one would let the client's own through.
pub(super) fn auth(door: AuthDoor, verdict: &Verdict<'_>) -> Reply {
    let verdict = convert::verdict(verdict);
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = door.status(verdict.status);
    let headers = reply.headers_mut();
    headers.reserve(HEADERS_MAX);
    headers.insert(STATUS, HeaderValue::from(verdict.status));
    headers.insert(REASON, HeaderValue::from_static(reason(&verdict).name()));
    put_identity(headers, verdict.identity.as_ref());
    put_rules(headers, &verdict);
    reply
}

fn put_identity(headers: &mut HeaderMap, identity: Option<&IdentityRef<'_>>) {
    const NOTHING: HeaderValue = HeaderValue::from_static("");
    headers.insert(MODE, identity.map_or(NOTHING, |who| HeaderValue::from_static(who.mode.name())));
    headers.insert(CREDENTIAL_ID, identity.map_or(NOTHING, |who| who.credential_id.into()));
    headers.insert(APP_ID, identity.and_then(|who| who.app_id).map_or(NOTHING, HeaderValue::from));
    headers.insert(AGENT_ID, identity.map_or(NOTHING, |who| who.agent_id.into()));
    headers.insert(AGENT_NAME, identity.map_or(NOTHING, |who| percent_encoded(who.agent_name)));
}

/// What every answer about a credential says beside the verdict.
fn put_rules(headers: &mut HeaderMap, verdict: &VerdictRef<'_>) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if verdict.status == 401 {
        headers.insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    if verdict.status == 429 {
        headers.insert(RETRY_AFTER, HeaderValue::from(verdict.retry_after));
    }
}

/// A daemon never sends itself a number that it doesn't know; if it did, that would be a fault.
fn reason(verdict: &VerdictRef<'_>) -> Reason {
    Reason::from_number(verdict.reason).unwrap_or(Reason::Unavailable)
}

/// All but RFC 3986's unreserved characters as `%XX`.
fn percent_encoded(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
    }
    HeaderValue::try_from(encoded).expect("only unreserved characters and % are left")
}

/// The answer of `/me`, in the API's own form.
pub(super) fn me(verdict: &Verdict<'_>) -> Reply {
    let verdict = convert::verdict(verdict);
    let mut reply = match &verdict.identity {
        Some(identity) => json_reply(StatusCode::OK, &json!({ "data": person(identity), "meta": {}, "linked": {} })),
        None => {
            let status = StatusCode::from_u16(verdict.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            error(status, reason(&verdict).name(), message(reason(&verdict)))
        }
    };
    put_rules(reply.headers_mut(), &verdict);
    reply
}

fn person(identity: &IdentityRef<'_>) -> Value {
    let auth_method = match identity.mode {
        Mode::Key => "api_key",
        Mode::Token => "api_token",
        Mode::Session => "session",
    };
    let attributes = identity.attributes.iter();
    let mut person: Map<String, Value> =
        attributes.map(|(name, value)| (name.to_string(), Value::from(value))).collect();
    // Last, so that no attribute replaces them.
    person.insert("id".to_string(), Value::from(identity.agent_id));
    person.insert("name".to_string(), Value::from(identity.agent_name));
    json!({
        "auth_method": auth_method,
        "app_id": identity.app_id,
        "person_id": identity.agent_id,
        "person": person,
    })
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

/// The answer of `/healthz`.
pub(super) fn health(ready: bool) -> Reply {
    let (status, text) = if ready {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the database takes no changes; see keyward status\n")
    };
    let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// The answer of `/metrics`.
pub(super) fn metrics(text: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(text)));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// A path that is none.
pub(super) fn not_found() -> Reply {
    error(StatusCode::NOT_FOUND, "not_found", "There is nothing here.")
}

/// An error in the API's own form.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Reply {
    let mut reply = json_reply(status, &json!({ "status": status.as_u16(), "code": code, "message": message }));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    reply
}

fn json_reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body.to_string())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Ends the connection behind this answer.
pub(super) fn close_after(reply: &mut Reply) {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}
