//! What a record becomes when an edit meets the one that is there.

use std::sync::Arc;

use crate::model::record::{Attributes, Label};
use crate::model::{
    Agent, AgentEdit, Binding, CodeHash, Codes, Credential, CredentialEdit, Endpoint, EndpointEdit, Foreign, Id, Mode,
    Modes, Pepper, RetiringCode,
};
use crate::tags::TagSet;

/// The agent as it is to be.
///
/// # Errors
/// A sentence that says what is missing.
pub(super) fn agent(old: Option<&Agent>, edit: AgentEdit, id: Id) -> Result<Agent, String> {
    let name = edit.name.or_else(|| old.map(|old| old.name.clone()));
    let permissions = edit.permissions.or_else(|| old.map(|old| Arc::clone(&old.permissions)));
    Ok(Agent {
        id,
        name: name.ok_or("a new agent needs a name")?,
        permissions: permissions
            .ok_or("a new agent needs permissions; there is no default ('*' for an administrator)")?,
        enabled: edit.enabled.unwrap_or_else(|| old.is_none_or(|old| old.enabled)),
        removed: false,
        attributes: edit.attributes.unwrap_or_else(|| old.map_or_else(Attributes::default, |o| o.attributes.clone())),
    })
}

/// The endpoint as it is to be.
///
/// # Errors
/// A sentence that says what is missing.
pub(super) fn endpoint(old: Option<&Endpoint>, edit: EndpointEdit) -> Result<Endpoint, String> {
    let tags = edit.tags.or_else(|| old.map(|old| old.tags.clone()));
    Ok(Endpoint {
        method: edit.method,
        template: edit.template,
        tags: tags.ok_or("a new endpoint needs tags")?,
        modes: edit.modes.unwrap_or_else(|| old.map_or(Modes::ALL, |old| old.modes)),
        removed: false,
    })
}

/// The credential as it is to be. `new_hash` is the hash of a code that is made for it if it is new and none was given.
///
/// # Errors
/// A sentence that says what doesn't fit.
pub(super) fn credential(
    old: Option<&Credential>,
    edit: CredentialEdit,
    id: Id,
    pepper: &Pepper,
    new_hash: Option<CodeHash>,
) -> Result<Credential, String> {
    let given = given_codes(&edit, id, pepper)?.or_else(|| made_code(old, new_hash));
    let Kept { codes, foreign } = codes(old, given)?;
    let app_id = edit.app_id.unwrap_or_else(|| old.and_then(|old| old.app_id));
    if app_id.is_some() && edit.mode != Mode::Token {
        return Err("only tokens have an app_id".into());
    }
    let expires_at = edit.expires_at.unwrap_or_else(|| old.and_then(|old| old.expires_at));
    Ok(Credential {
        mode: edit.mode,
        id,
        binding: binding(old.map(|old| old.binding), &edit)?,
        codes: codes.within(expires_at),
        label: edit.label.unwrap_or_else(|| old.map_or_else(Label::default, |old| old.label.clone())),
        tags: match edit.tags {
            Some(tags) => tags,
            None => old.map_or_else(|| Arc::new(TagSet::everything()), |old| Arc::clone(&old.tags)),
        },
        enabled: edit.enabled.unwrap_or_else(|| old.is_none_or(|old| old.enabled)),
        revoked: edit.revoked.unwrap_or_else(|| old.is_some_and(|old| old.revoked)),
        not_before: edit.not_before.unwrap_or_else(|| old.and_then(|old| old.not_before)),
        expires_at,
        allow_ip: edit.allow_ip.unwrap_or_else(|| old.and_then(|old| old.allow_ip.clone())),
        app_id,
        rate: edit.rate.unwrap_or_else(|| old.and_then(|old| old.rate)),
        parent: parent(old, edit.mode, edit.parent)?,
        foreign,
    })
}

/// A token's origin is what it was made from, for ever.
fn parent(old: Option<&Credential>, mode: Mode, given: Option<(Mode, Id)>) -> Result<Option<(Mode, Id)>, String> {
    match (old, given) {
        (_, None) => Ok(old.and_then(|old| old.parent)),
        (_, Some(_)) if mode != Mode::Token => Err("only tokens have a parent".into()),
        (Some(old), given) if old.parent != given => Err("the parent that it was made from can't be changed".into()),
        (_, given) => Ok(given),
    }
}

fn binding(old: Option<Binding>, edit: &CredentialEdit) -> Result<Binding, String> {
    let (was_superuser, old_agent, old_default) = match old {
        Some(Binding::Agent(id)) => (false, Some(id), None),
        Some(Binding::Superuser { default }) => (true, None, default),
        None => (false, None, None),
    };
    if edit.superuser.unwrap_or(was_superuser) {
        if edit.mode != Mode::Key {
            return Err("only keys can be superuser keys".into());
        }
        if edit.agent.is_some() {
            return Err("a superuser key is bound to no agent: give default_agent, or superuser false".into());
        }
        return Ok(Binding::Superuser { default: edit.default_agent.unwrap_or(old_default) });
    }
    if edit.default_agent.flatten().is_some() {
        return Err("only superuser keys have a default_agent: give agent, or superuser true".into());
    }
    edit.agent.or(old_agent).map(Binding::Agent).ok_or_else(|| match edit.mode {
        Mode::Key => "it needs an agent, or superuser true".into(),
        Mode::Token | Mode::Session => "it needs an agent".into(),
    })
}

/// Codes, and what is kept of another system's hash beside them.
struct Kept {
    codes: Codes,
    foreign: Option<Foreign>,
}

/// What is given of codes: a code, or in its place the hash of one, beside it perhaps a retiring one's.
fn given_codes(edit: &CredentialEdit, id: Id, pepper: &Pepper) -> Result<Option<Kept>, String> {
    let (current, slow) = match (&edit.code, &edit.hash) {
        (Some(_), Some(_)) => return Err("it has both a code and a hash: give one of them".into()),
        (Some(code), None) => (pepper.hash(edit.mode, id.get(), code.presented()), None),
        (None, Some(hash)) => hash.clone().stored(pepper, edit.mode, id),
        (None, None) if edit.retiring.is_none() => return Ok(None),
        (None, None) => return Err(RETIRING_ALONE.into()),
    };
    let (mut codes, mut kept) = (Codes { current, retiring: None }, slow);
    if let Some(retiring) = &edit.retiring {
        let (hash, slow) = retiring.hash.clone().stored(pepper, edit.mode, id);
        if edit.hash.is_none() {
            return Err(RETIRING_ALONE.into());
        }
        if kept.is_some() && slow.is_some() {
            return Err(
                "only one of its two codes may have a bcrypt or argon2id hash: leave the retiring one out".into()
            );
        }
        codes.retiring = Some(RetiringCode { hash, until: retiring.until });
        kept = kept.or(slow);
    }
    Ok(Some(Kept { codes, foreign: kept.map(Foreign::Slow) }))
}

const RETIRING_ALONE: &str = "a retiring code's hash is given beside the current one's only: give hash as well";

fn made_code(old: Option<&Credential>, hash: Option<CodeHash>) -> Option<Kept> {
    let current = hash.filter(|_| old.is_none())?;
    Some(Kept { codes: Codes { current, retiring: None }, foreign: None })
}

/// A code that differs from the current one takes its place and ends a retiring one at once (section 4, `apply`).
fn codes(old: Option<&Credential>, given: Option<Kept>) -> Result<Kept, String> {
    match (old, given) {
        (Some(old), Some(given)) if !is_current(old, &given.codes) => Ok(given),
        (Some(old), _) => {
            let foreign = old.foreign.clone().filter(|foreign| old.codes.need(foreign));
            Ok(Kept { codes: old.codes, foreign })
        }
        (None, Some(given)) => Ok(given),
        (None, None) => Err("it is new and needs a code, or its hash: an export has that only --with-hashes".into()),
    }
}

/// Whether what is given is what is there: the current code, or the hash that it was proven by.
fn is_current(old: &Credential, given: &Codes) -> bool {
    let proved_it = match &old.foreign {
        Some(Foreign::Proven { own, by }) => {
            given.current.is_foreign() && *own == old.codes.current.mark() && *by == given.current.mark()
        }
        Some(Foreign::Slow(_)) | None => false,
    };
    given.retiring.is_none() && (old.codes.current == given.current || proved_it)
}
