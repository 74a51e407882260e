//! From headers to a question. Whatever could be read in two ways is refused before anything else is looked at.

use std::borrow::Cow;

use super::answers::AuthDoor;
use crate::model::Reason;
use crate::registry::Asker;

/// The longest name that means something.
const NAME_BYTES_MAX: usize = 22;

/// The headers that mean something, taken as the head is read.
pub(super) struct Named<'h> {
    /// The cookie that carries a session.
    cookie: &'h str,
    authorization: Option<&'h [u8]>,
    agent: Option<&'h [u8]>,
    original: [Option<&'h [u8]>; 2],
    real_ip: Option<&'h [u8]>,
    forwarded: [Option<&'h [u8]>; 2],
    /// The last line; several are joined.
    forwarded_for: Option<&'h [u8]>,
    /// The session cookie's value.
    session: Option<&'h [u8]>,
    /// One that may stand once stands there twice. Of two, the application might read the other one.
    is_doubled: bool,
    /// With such a header an application would run another method than the one that was judged.
    overrides_method: bool,
}

impl<'h> Named<'h> {
    pub(super) const fn new(cookie: &'h str) -> Self {
        Self {
            cookie,
            authorization: None,
            agent: None,
            original: [None; 2],
            real_ip: None,
            forwarded: [None; 2],
            forwarded_for: None,
            session: None,
            is_doubled: false,
            overrides_method: false,
        }
    }

    pub(super) fn take(&mut self, name: &[u8], value: &'h [u8]) {
        let mut lower = [0; NAME_BYTES_MAX];
        let Some(lower) = lower.get_mut(..name.len()) else { return };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let single = match &*lower {
            b"authorization" => &mut self.authorization,
            b"x-deskpro-agent-id" => &mut self.agent,
            b"x-original-method" => &mut self.original[METHOD],
            b"x-original-uri" => &mut self.original[URI],
            b"x-real-ip" => &mut self.real_ip,
            b"x-forwarded-method" => &mut self.forwarded[METHOD],
            b"x-forwarded-uri" => &mut self.forwarded[URI],
            b"x-forwarded-for" => {
                self.forwarded_for = Some(value);
                return;
            }
            b"cookie" => return self.take_cookies(value),
            b"x-http-method-override" | b"x-http-method" | b"x-method-override" => {
                self.overrides_method = true;
                return;
            }
            _ => return,
        };
        self.is_doubled |= single.replace(value).is_some();
    }

    fn take_cookies(&mut self, line: &'h [u8]) {
        for pair in line.split(|b| *b == b';') {
            let Some(at) = pair.iter().position(|b| *b == b'=') else { continue };
            if pair[..at].trim_ascii() == self.cookie.as_bytes() {
                self.is_doubled |= self.session.replace(pair[at + 1..].trim_ascii()).is_some();
            }
        }
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

/// The question at an auth door, each part from its one source.
///
/// # Errors
/// `bad_request`: the target is missing, or something could be read in two ways.
pub(super) fn auth<'h>(door: AuthDoor, named: &Named<'h>) -> Result<Asked<'h>, Reason> {
    if named.is_doubled || named.overrides_method {
        return Err(Reason::BadRequest);
    }
    let ([method, path], address) = match door {
        AuthDoor::Nginx => (named.original, named.real_ip),
        AuthDoor::Forward => (named.forwarded, named.forwarded_for.map(last_address)),
    };
    let asker = presented(named, address);
    Ok(Asked { asker, method: method.ok_or(Reason::BadRequest)?, path: path.ok_or(Reason::BadRequest)? })
}

/// Who asks.
///
/// # Errors
/// `bad_request`: something could be read in two ways.
pub(super) fn who<'h>(named: &Named<'h>) -> Result<Presented<'h>, Reason> {
    if named.is_doubled { Err(Reason::BadRequest) } else { Ok(presented(named, named.real_ip)) }
}

fn presented<'h>(named: &Named<'h>, address: Option<&'h [u8]>) -> Presented<'h> {
    let credential = named.authorization.map(Cow::Borrowed).or_else(|| named.session.map(session));
    Presented { credential, agent: named.agent, address }
}

/// The address that the proxy itself appended: the last of the last line.
fn last_address(line: &[u8]) -> &[u8] {
    line.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii()
}

/// The session cookie's value as a credential; an empty one is an empty credential.
fn session(value: &[u8]) -> Cow<'_, [u8]> {
    match value {
        [] => Cow::Borrowed(value),
        pair => Cow::Owned([b"session ".as_slice(), pair].concat()),
    }
}
