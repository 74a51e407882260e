//! What a record becomes when an edit meets the one that is there.

use std::sync::Arc;

use crate::model::record::{Attributes, Label};
use crate::model::{
    Agent, AgentEdit, Binding, CodeHash, Codes, Credential, CredentialEdit, Endpoint, EndpointEdit, Id, Mode, Modes,
    Pepper,
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
    let given = given_codes(&edit, id, pepper)?;
    let app_id = edit.app_id.unwrap_or_else(|| old.and_then(|old| old.app_id));
    if app_id.is_some() && edit.mode != Mode::Token {
        return Err("only tokens have an app_id".into());
    }
    let expires_at = edit.expires_at.unwrap_or_else(|| old.and_then(|old| old.expires_at));
    Ok(Credential {
        mode: edit.mode,
        id,
        binding: binding(old.map(|old| old.binding), &edit)?,
        codes: codes(old.map(|old| old.codes), given.or_else(|| made_code(old, new_hash)))?.within(expires_at),
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

/// What is given of codes: a code, or in its place the hash of one, beside it perhaps a retiring one's.
fn given_codes(edit: &CredentialEdit, id: Id, pepper: &Pepper) -> Result<Option<Codes>, String> {
    let current = match (&edit.code, edit.hash) {
        (Some(_), Some(_)) => return Err("it has both a code and a hash: give one of them".into()),
        (Some(code), None) => Some(pepper.hash(edit.mode, id.get(), code.presented())),
        (None, hash) => hash,
    };
    if edit.retiring.is_some() && edit.hash.is_none() {
        return Err("a retiring code's hash is given beside the current one's only: give hash as well".into());
    }
    Ok(current.map(|current| Codes { current, retiring: edit.retiring }))
}

fn made_code(old: Option<&Credential>, hash: Option<CodeHash>) -> Option<Codes> {
    let current = hash.filter(|_| old.is_none())?;
    Some(Codes { current, retiring: None })
}

/// A code that differs from the current one takes its place and ends a retiring one at once (section 4, `apply`).
fn codes(old: Option<Codes>, given: Option<Codes>) -> Result<Codes, String> {
    match (old, given) {
        (Some(old), None) => Ok(old),
        (Some(old), Some(given)) if old.current == given.current && given.retiring.is_none() => Ok(old),
        (_, Some(given)) => Ok(given),
        (None, None) => Err("it is new and needs a code, or its hash: an export has that only --with-hashes".into()),
    }
}
