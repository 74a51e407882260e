//! From headers to a question. Whatever could be read in two ways is refused before anything else is looked at.

use std::borrow::Cow;

use hyper::header::HeaderMap;

use super::answers::AuthDoor;
use crate::model::Reason;
use crate::registry::Asker;

/// The headers that mean something, taken in one pass: most requests have fewer headers than there are names to ask for.
#[derive(Default)]
struct Named<'h> {
    authorization: Option<&'h [u8]>,
    agent: Option<&'h [u8]>,
    original: [Option<&'h [u8]>; 2],
    real_ip: Option<&'h [u8]>,
    forwarded: [Option<&'h [u8]>; 2],
    /// The last line; several are joined.
    forwarded_for: Option<&'h [u8]>,
    /// With such a header an application would run another method than the one that was judged.
    overrides_method: bool,
}

impl<'h> Named<'h> {
    /// # Errors
    /// `bad_request`: one that may stand once stands there twice. Of two, the application might read the other one.
    fn read(headers: &'h HeaderMap) -> Result<Self, Reason> {
        let mut named = Self::default();
        for (name, value) in headers {
            let value = value.as_bytes();
            let single = match name.as_str() {
                "authorization" => &mut named.authorization,
                "x-deskpro-agent-id" => &mut named.agent,
                "x-original-method" => &mut named.original[METHOD],
                "x-original-uri" => &mut named.original[URI],
                "x-real-ip" => &mut named.real_ip,
                "x-forwarded-method" => &mut named.forwarded[METHOD],
                "x-forwarded-uri" => &mut named.forwarded[URI],
                "x-forwarded-for" => {
                    named.forwarded_for = Some(value);
                    continue;
                }
                "x-http-method-override" | "x-http-method" | "x-method-override" => {
                    named.overrides_method = true;
                    continue;
                }
                _ => continue,
            };
            if single.replace(value).is_some() {
                return Err(Reason::BadRequest);
            }
        }
        Ok(named)
    }
}

const METHOD: usize = 0;
const URI: usize = 1;

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
    let named = Named::read(headers)?;
    if named.overrides_method {
        return Err(Reason::BadRequest);
    }
    let ([method, path], address) = match door {
        AuthDoor::Nginx => (named.original, named.real_ip),
        AuthDoor::Forward => (named.forwarded, named.forwarded_for.map(last_address)),
    };
    let asker = presented(&named, session(headers, cookie)?, address);
    Ok(Asked { asker, method: method.ok_or(Reason::BadRequest)?, path: path.ok_or(Reason::BadRequest)? })
}

/// Reads the headers of a who-question.
///
/// # Errors
/// `bad_request`: something could be read in two ways.
pub(super) fn who<'h>(headers: &'h HeaderMap, cookie: &str) -> Result<Presented<'h>, Reason> {
    let named = Named::read(headers)?;
    Ok(presented(&named, session(headers, cookie)?, named.real_ip))
}

/// `session` was looked at even when it is not used: a doubled one is refused beside a header, too.
fn presented<'h>(named: &Named<'h>, session: Option<Cow<'h, [u8]>>, address: Option<&'h [u8]>) -> Presented<'h> {
    let credential = named.authorization.map(Cow::Borrowed).or(session);
    Presented { credential, agent: named.agent, address }
}

/// The address that the proxy itself appended: the last of the last line.
fn last_address(line: &[u8]) -> &[u8] {
    line.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii()
}

/// The session cookie as a credential; an empty one is an empty credential.
fn session<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<Cow<'h, [u8]>>, Reason> {
    let pairs = headers.get_all(hyper::header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
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
