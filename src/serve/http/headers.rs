//! From headers to a question. Whatever could be read in two ways is refused before anything else is looked at.

use std::borrow::Cow;

use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};

use super::answers::AuthDoor;
use crate::model::Reason;
use crate::registry::Asker;

const AGENT: HeaderName = HeaderName::from_static("x-deskpro-agent-id");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Each may stand once at most: of two, the application might read the other one.
const SINGLE: [HeaderName; 7] =
    [AUTHORIZATION, AGENT, ORIGINAL_METHOD, ORIGINAL_URI, REAL_IP, FORWARDED_METHOD, FORWARDED_URI];
/// With one of these an application would run another method than the one that was judged.
const OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Who asks, as the headers say.
pub(super) struct Presented<'h> {
    credential: Option<Cow<'h, [u8]>>,
    agent: Option<&'h [u8]>,
    address: Option<&'h [u8]>,
}

impl Presented<'_> {
    pub(super) fn question(&self) -> Asker<'_> {
        Asker { credential: self.credential.as_deref(), agent: self.agent, address: self.address }
    }
}

/// What an auth door was asked.
pub(super) struct Asked<'h> {
    pub(super) asker: Presented<'h>,
    pub(super) method: &'h [u8],
    pub(super) path: &'h [u8],
}

/// Reads the headers of an auth door, each from its one source.
///
/// # Errors
/// `bad_request`: the target is missing, or something could be read in two ways.
pub(super) fn auth<'h>(door: AuthDoor, headers: &'h HeaderMap, cookie: &str) -> Result<Asked<'h>, Reason> {
    if OVERRIDES.iter().any(|name| headers.contains_key(name)) {
        return Err(Reason::BadRequest);
    }
    let (method, path, address) = match door {
        AuthDoor::Nginx => (ORIGINAL_METHOD, ORIGINAL_URI, one(headers, &REAL_IP)),
        AuthDoor::Forward => (FORWARDED_METHOD, FORWARDED_URI, last_address(headers)),
    };
    let asker = presented(headers, cookie, address)?;
    let method = one(headers, &method).ok_or(Reason::BadRequest)?;
    let path = one(headers, &path).ok_or(Reason::BadRequest)?;
    Ok(Asked { asker, method, path })
}

/// Reads the headers of a who-question.
///
/// # Errors
/// `bad_request`: something could be read in two ways.
pub(super) fn who<'h>(headers: &'h HeaderMap, cookie: &str) -> Result<Presented<'h>, Reason> {
    presented(headers, cookie, one(headers, &REAL_IP))
}

fn presented<'h>(headers: &'h HeaderMap, cookie: &str, address: Option<&'h [u8]>) -> Result<Presented<'h>, Reason> {
    if SINGLE.iter().any(|name| headers.get_all(name).iter().nth(1).is_some()) {
        return Err(Reason::BadRequest);
    }
    // Looked at even when it is not used: a doubled one is refused beside a header, too.
    let session = session(headers, cookie)?;
    let credential = one(headers, &AUTHORIZATION).map(Cow::Borrowed).or(session);
    Ok(Presented { credential, agent: one(headers, &AGENT), address })
}

fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    headers.get(name).map(HeaderValue::as_bytes)
}

/// The address that the proxy itself appended: the last of the last line.
fn last_address(headers: &HeaderMap) -> Option<&[u8]> {
    let line = headers.get_all(FORWARDED_FOR).iter().next_back()?.as_bytes();
    line.rsplit(|b| *b == b',').next().map(<[u8]>::trim_ascii)
}

/// The session cookie as a credential; an empty one is an empty credential.
fn session<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<Cow<'h, [u8]>>, Reason> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    let mut values = pairs.filter_map(|pair| {
        let at = pair.iter().position(|b| *b == b'=')?;
        (pair[..at].trim_ascii() == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
    });
    let value = values.next();
    if values.next().is_some() {
        return Err(Reason::BadRequest);
    }
    Ok(value.map(|value| match value {
        [] => Cow::Borrowed(value),
        pair => Cow::Owned([b"session ".as_slice(), pair].concat()),
    }))
}
