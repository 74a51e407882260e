//! Between wire and model: the one place where the two meet.

use std::collections::HashMap;
use std::sync::Arc;

use keyward_proto::admin as wire;
use keyward_proto::query::{
    Asker as WireAsker, CodeSlot as WireSlot, Identity as OwnedIdentity, IdentityRef, Mode as WireMode,
    Reason as WireReason, Route as OwnedRoute, TargetVerdict, Verdict as OwnedVerdict, VerdictRef,
};

use super::meters::AskDoor;
use crate::model::record::{AgentName, Attributes, Label};
use crate::model::{
    Agent, AgentEdit, AllowList, Binding, Code, CodeSlot, Credential, CredentialEdit, Edit, Endpoint, EndpointEdit,
    GivenHash, GivenRetiring, Id, Identity, Kind, LastUse, LastUses, Method, Mode, Modes, Rate, Reason, Record,
    RecordName, Template, UnixSeconds, Verdict,
};
use crate::registry::{
    Asker, FieldChange, FieldValue, Import, Imported, Listed, Reachable, Rotate, Rotation, Step, StepResult, Stop, View,
};
use crate::tags::{TAGS_MAX, Tag, TagSet};

// ---- questions and verdicts ----

pub(super) const fn asker<'a>(asker: &WireAsker<'a>) -> Asker<'a> {
    Asker { credential: asker.credential, agent: asker.agent, address: asker.address }
}

pub(super) const fn reason(reason: Reason) -> WireReason {
    match reason {
        Reason::BadRequest => WireReason::BadRequest,
        Reason::MissingCredential => WireReason::MissingCredential,
        Reason::MalformedCredential => WireReason::MalformedCredential,
        Reason::BadCredential => WireReason::BadCredential,
        Reason::Revoked => WireReason::Revoked,
        Reason::Disabled => WireReason::Disabled,
        Reason::NotYetValid => WireReason::NotYetValid,
        Reason::Expired => WireReason::Expired,
        Reason::IpNotAllowed => WireReason::IpNotAllowed,
        Reason::AgentSwitchForbidden => WireReason::AgentSwitchForbidden,
        Reason::AgentRequired => WireReason::AgentRequired,
        Reason::AgentUnknown => WireReason::AgentUnknown,
        Reason::AgentDisabled => WireReason::AgentDisabled,
        Reason::AmbiguousPath => WireReason::AmbiguousPath,
        Reason::NoRoute => WireReason::NoRoute,
        Reason::ModeNotAllowed => WireReason::ModeNotAllowed,
        Reason::TagDenied => WireReason::TagDenied,
        Reason::TagNotGranted => WireReason::TagNotGranted,
        Reason::AgentNotPermitted => WireReason::AgentNotPermitted,
        Reason::RateLimited(_) => WireReason::RateLimited,
    }
}

const ALLOWED: TargetVerdict = TargetVerdict { reason: WireReason::Ok.number(), status: 200, retry_after: 0 };
const UNAVAILABLE: TargetVerdict =
    TargetVerdict { reason: WireReason::Unavailable.number(), status: 503, retry_after: 0 };

const fn denied(denied: Reason) -> TargetVerdict {
    let retry_after = if let Reason::RateLimited(wait) = denied { wait.seconds() } else { 0 };
    TargetVerdict { reason: reason(denied).number(), status: denied.status(), retry_after }
}

pub(super) const fn without_terms(verdict: &Verdict<'_>) -> TargetVerdict {
    match verdict {
        Verdict::Allow(_) => ALLOWED,
        Verdict::Deny(reason) => denied(*reason),
        Verdict::Unavailable => UNAVAILABLE,
    }
}

pub(super) const fn target_verdict(judged: Result<(), Stop>) -> TargetVerdict {
    match judged {
        Ok(()) => ALLOWED,
        Err(Stop::Deny(reason)) => denied(reason),
        Err(Stop::Fault | Stop::Unproven) => UNAVAILABLE,
    }
}

pub(super) const fn reason_number(verdict: &Verdict<'_>) -> u16 {
    without_terms(verdict).reason
}

pub(super) fn verdict<'d>(verdict: &Verdict<'d>) -> VerdictRef<'d> {
    let TargetVerdict { reason, status, retry_after } = without_terms(verdict);
    let terms = verdict.terms();
    VerdictRef {
        reason,
        status,
        retry_after,
        identity: terms.and_then(|terms| terms.identity.as_ref()).map(identity),
        route: terms.and_then(|terms| terms.route.as_ref()).map(|route| route.texts().bytes()),
    }
}

pub(super) fn identity<'d>(identity: &Identity<'d>) -> IdentityRef<'d> {
    IdentityRef {
        mode: mode_to_wire(identity.mode),
        credential_id: identity.credential_id,
        code: code_slot(identity.code),
        expires_at: identity.expires_at.map(|at| at.0),
        app_id: identity.app_id,
        agent_id: identity.agent.id,
        agent: identity.agent.texts().bytes(),
        switched: identity.switched,
    }
}

const fn code_slot(code: CodeSlot) -> WireSlot {
    match code {
        CodeSlot::Current => WireSlot::Current,
        CodeSlot::Retiring => WireSlot::Retiring,
    }
}

/// The same as owned values, for a reply that holds more than the verdict.
pub(super) fn owned_verdict(verdict: &Verdict<'_>) -> OwnedVerdict {
    let TargetVerdict { reason, status, retry_after } = without_terms(verdict);
    let terms = verdict.terms();
    let identity = terms.and_then(|terms| terms.identity.as_ref());
    let route = terms.and_then(|terms| terms.route.as_ref());
    let owned = |(name, value): (&str, &str)| (name.to_string(), value.to_string());
    OwnedVerdict {
        reason,
        status,
        retry_after,
        identity: identity.map(|identity| OwnedIdentity {
            mode: mode_to_wire(identity.mode),
            credential_id: identity.credential_id,
            code: code_slot(identity.code),
            expires_at: identity.expires_at.map(|at| at.0),
            app_id: identity.app_id,
            agent_id: identity.agent.id,
            agent_name: identity.agent.name().to_string(),
            attributes: identity.agent.attributes().map(owned).collect(),
            switched: identity.switched,
        }),
        route: route.map(|route| OwnedRoute {
            template: route.template().to_string(),
            tags: route.tags().map(str::to_string).collect(),
        }),
    }
}

pub(super) fn step(step: Step) -> wire::Step {
    let result = match step.result {
        StepResult::Passed => "passed",
        StepResult::Skipped => "skipped",
        StepResult::Allowed => WireReason::Ok.name(),
        StepResult::Denied(denied) => reason(denied).name(),
        StepResult::Unavailable => WireReason::Unavailable.name(),
    };
    wire::Step { step: step.number, result: result.to_string(), why: step.why }
}

// ---- names ----

pub(super) const fn mode(mode: WireMode) -> Mode {
    match mode {
        WireMode::Key => Mode::Key,
        WireMode::Token => Mode::Token,
        WireMode::Session => Mode::Session,
    }
}

pub(super) const fn mode_to_wire(mode: Mode) -> WireMode {
    match mode {
        Mode::Key => WireMode::Key,
        Mode::Token => WireMode::Token,
        Mode::Session => WireMode::Session,
    }
}

pub(super) const fn kind(kind: wire::Kind) -> Kind {
    match kind {
        wire::Kind::Agent => Kind::Agent,
        wire::Kind::Endpoint => Kind::Endpoint,
        wire::Kind::Key => Kind::Credential(Mode::Key),
        wire::Kind::Token => Kind::Credential(Mode::Token),
        wire::Kind::Session => Kind::Credential(Mode::Session),
    }
}

/// # Errors
/// A sentence that says what is no name.
pub(super) fn record_name(selector: &wire::Selector) -> Result<RecordName, String> {
    Ok(match selector {
        wire::Selector::Agent(id) => RecordName::Agent(parse_id(*id)?),
        wire::Selector::Credential(m, id) => RecordName::Credential(mode(*m), parse_id(*id)?),
        wire::Selector::Endpoint { method, path } => RecordName::Endpoint(parse_method(method)?, parse_template(path)?),
    })
}

pub(super) fn selector(name: &RecordName) -> wire::Selector {
    match name {
        RecordName::Agent(id) => wire::Selector::Agent(id.get()),
        RecordName::Credential(mode, id) => wire::Selector::Credential(mode_to_wire(*mode), id.get()),
        RecordName::Endpoint(method, template) => {
            wire::Selector::Endpoint { method: method.to_string(), path: template.to_string() }
        }
    }
}

// ---- patches ----

/// The tag sets of one request's patches: each distinct text is parsed once, and its records share the set.
#[derive(Default)]
pub(super) struct Sets(HashMap<wire::SetText, Arc<TagSet>>);

impl Sets {
    fn parse(&mut self, field: &str, text: wire::SetText) -> Result<Arc<TagSet>, String> {
        if let Some(set) = self.0.get(&text) {
            return Ok(Arc::clone(set));
        }
        let set = match &text {
            wire::SetText::Text(text) => TagSet::parse(text),
            wire::SetText::Items(items) => TagSet::from_items(items.iter().map(String::as_str)),
        };
        let set = Arc::new(set.map_err(|e| format!("{field}: {e}"))?);
        self.0.insert(text, Arc::clone(&set));
        Ok(set)
    }
}

/// # Errors
/// A sentence that names the field and says what is wrong with it.
pub(super) fn edit(patch: wire::Patch, sets: &mut Sets) -> Result<Edit, String> {
    Ok(match patch {
        wire::Patch::Agent(patch) => Edit::Agent(agent_edit(patch, sets)?),
        wire::Patch::Endpoint(patch) => Edit::Endpoint(endpoint_edit(&patch)?),
        wire::Patch::Credential(patch) => Edit::Credential(credential_edit(patch, sets)?),
    })
}

pub(super) fn import(import: wire::Import) -> Import {
    let mut sets = Sets::default();
    let edits = import.patches.into_iter().map(|patch| edit(patch, &mut sets)).collect();
    Import { edits, dry_run: import.dry_run }
}

pub(super) fn imported(imported: Imported) -> wire::Imported {
    let Imported { added, changed, unchanged, refused, refusals } = imported;
    let refusal = |(index, message)| wire::RefusedPatch { index: index as u64, message };
    wire::Imported {
        added,
        changed,
        unchanged,
        refused,
        refusals: refusals.into_iter().take(wire::PAGE_RECORDS_MAX).map(refusal).collect(),
    }
}

fn agent_edit(patch: wire::AgentPatch, sets: &mut Sets) -> Result<AgentEdit, String> {
    Ok(AgentEdit {
        id: patch.id.map(parse_id).transpose()?,
        name: patch.name.map(|name| AgentName::parse(&name)).transpose().map_err(|e| format!("name: {e}"))?,
        permissions: patch.permissions.map(|set| sets.parse("permissions", set)).transpose()?,
        enabled: patch.enabled,
        attributes: patch.attributes.map(Attributes::parse).transpose().map_err(|e| format!("attributes: {e}"))?,
    })
}

fn endpoint_edit(patch: &wire::EndpointPatch) -> Result<EndpointEdit, String> {
    let tags = patch.tags.as_ref().map(|tags| parse_tags(tags)).transpose()?;
    let modes = patch.modes.as_ref().map(|modes| Modes::parse(modes.iter().map(String::as_str)));
    Ok(EndpointEdit {
        method: parse_method(&patch.method)?,
        template: parse_template(&patch.path)?,
        tags,
        modes: modes.transpose().map_err(|e| format!("modes: {e}"))?,
    })
}

fn credential_edit(patch: wire::CredentialPatch, sets: &mut Sets) -> Result<CredentialEdit, String> {
    let mode = mode(patch.mode);
    let code = patch.code.as_ref().map(|code| Code::parse(mode, code.expose()));
    let allow_ip = |blocks: Vec<String>| AllowList::parse(blocks.iter().map(String::as_str));
    Ok(CredentialEdit {
        mode,
        id: patch.id.map(parse_id).transpose()?,
        label: patch.label.map(|label| Label::parse(&label)).transpose().map_err(|e| format!("label: {e}"))?,
        code: code.transpose().map_err(|e| format!("code: {e}"))?,
        superuser: patch.superuser,
        agent: patch.agent.map(parse_id).transpose().map_err(|e| format!("agent: {e}"))?,
        default_agent: patch
            .default_agent
            .map(|id| id.map(parse_id).transpose())
            .transpose()
            .map_err(|e| format!("default_agent: {e}"))?,
        app_id: patch.app_id,
        tags: patch.tags.map(|set| sets.parse("tags", set)).transpose()?,
        enabled: patch.enabled,
        revoked: patch.revoked,
        not_before: parse_time("not_before", patch.not_before)?,
        expires_at: parse_time("expires_at", patch.expires_at)?,
        allow_ip: patch
            .allow_ip
            .map(|blocks| blocks.map(allow_ip).transpose())
            .transpose()
            .map_err(|e| format!("allow_ip: {e}"))?,
        rate: patch
            .rate
            .map(|rate| rate.map(|rate| Rate::parse(&rate)).transpose())
            .transpose()
            .map_err(|e| format!("rate: {e}"))?,
        parent: patch.parent.map(parse_parent).transpose()?,
        hash: patch.hash.as_ref().map(|hash| parse_hash("hash", hash)).transpose()?,
        retiring: patch.retiring.map(|retiring| parse_retiring(&retiring).map(Box::new)).transpose()?,
    })
}

/// # Errors
/// A sentence that says what is wrong with the id or the code.
pub(super) fn rotate(rotate: &wire::Rotate) -> Result<Rotate, String> {
    let mode = mode(rotate.mode);
    let parse = |code: &Option<wire::Secret>| {
        let code = code.as_ref().map(|code| Code::parse(mode, code.expose()));
        code.transpose().map_err(|e| format!("code: {e}"))
    };
    let rotation = match &rotate.rotation {
        wire::Rotation::Grace { seconds, code } => Rotation::Replace { code: parse(code)?, grace: *seconds },
        wire::Rotation::Now { code } => Rotation::Replace { code: parse(code)?, grace: 0 },
        wire::Rotation::DropOld => Rotation::DropOld,
    };
    Ok(Rotate { mode, id: parse_id(rotate.id)?, rotation })
}

fn parse_parent(name: wire::CredentialName) -> Result<(Mode, Id), String> {
    let id = parse_id(name.id).map_err(|e| format!("parent: {e}"))?;
    Ok((mode(name.mode), id))
}

fn parse_hash(field: &str, hash: &wire::Secret) -> Result<GivenHash, String> {
    GivenHash::parse(hash.expose()).map_err(|error| format!("{field}: {error}"))
}

fn parse_retiring(retiring: &wire::RetiringPatch) -> Result<GivenRetiring, String> {
    let until = parse_time("retiring", Some(Some(retiring.until)))?.flatten().unwrap_or_default();
    Ok(GivenRetiring { hash: parse_hash("retiring", &retiring.hash)?, until })
}

fn parse_id(id: u64) -> Result<Id, String> {
    Id::new(id).ok_or_else(|| format!("{id} is no id: 1 to {} can be given", crate::model::ID_MAX))
}

/// Times have the bound of ids, which is safe in every language.
fn parse_time(field: &str, at: wire::Clearable<u64>) -> Result<Option<Option<UnixSeconds>>, String> {
    match at {
        Some(Some(at)) if at > crate::model::ID_MAX => {
            Err(format!("{field}: {at} is no time: unix seconds up to {} can be given", crate::model::ID_MAX))
        }
        at => Ok(at.map(|at| at.map(UnixSeconds))),
    }
}

fn parse_method(method: &str) -> Result<Method, String> {
    Method::parse(method).map_err(|e| format!("method: {e}"))
}

fn parse_template(path: &str) -> Result<Template, String> {
    Template::parse(path).map_err(|e| format!("path: {e}"))
}

fn parse_tags(tags: &[String]) -> Result<Vec<Tag>, String> {
    if !(1..=TAGS_MAX).contains(&tags.len()) {
        return Err(format!("tags: {} are given, an endpoint has 1 to {TAGS_MAX}", tags.len()));
    }
    let parse = |text: &String| {
        let shown: String = text.chars().take(80).collect();
        Tag::parse(text).map_err(|e| format!("tags: {shown:?} is no tag: {e}"))
    };
    tags.iter().map(parse).collect()
}

// ---- records ----

pub(super) fn record(listed: &Listed, now: UnixSeconds) -> wire::Record {
    match &listed.record {
        Record::Agent(agent) => wire::Record::Agent(agent_record(agent)),
        Record::Endpoint(endpoint) => wire::Record::Endpoint(endpoint_record(endpoint)),
        Record::Credential(credential) => wire::Record::Credential(credential_record(credential, &listed.uses, now)),
    }
}

/// The same, with a token's parent looked at: what the right code would get is told of both.
pub(super) fn told(listed: &Listed, view: &View<'_>) -> wire::Record {
    let mut told = record(listed, view.now());
    if let (wire::Record::Credential(told), Record::Credential(credential)) = (&mut told, &listed.record)
        && state(credential, view.now()) == IN_FORCE
        && let Some(why) = credential.parent.and_then(|parent| view.state_of_parent(parent))
    {
        told.state = reason(why).name().to_string();
    }
    told
}

fn agent_record(agent: &Agent) -> wire::AgentRecord {
    wire::AgentRecord {
        id: agent.id.get(),
        name: agent.name.as_str().to_string(),
        permissions: agent.permissions.to_string(),
        enabled: agent.enabled,
        attributes: pairs(agent.attributes.pairs()),
        state: if agent.enabled { "enabled" } else { "disabled" }.to_string(),
    }
}

fn endpoint_record(endpoint: &Endpoint) -> wire::EndpointRecord {
    wire::EndpointRecord {
        method: endpoint.method.to_string(),
        path: endpoint.template.to_string(),
        tags: endpoint.tags.iter().map(ToString::to_string).collect(),
        modes: endpoint.modes.names().into_iter().map(str::to_string).collect(),
    }
}

pub(super) fn reachable(endpoint: &Reachable<'_>) -> wire::Record {
    wire::Record::Endpoint(wire::EndpointRecord {
        method: endpoint.method.to_string(),
        path: endpoint.route.template().to_string(),
        tags: endpoint.route.tags().map(str::to_string).collect(),
        modes: endpoint.modes.names().into_iter().map(str::to_string).collect(),
    })
}

fn credential_record(credential: &Credential, uses: &LastUses, now: UnixSeconds) -> wire::CredentialRecord {
    let (superuser, agent, default_agent) = match credential.binding {
        Binding::Agent(id) => (false, Some(id.get()), None),
        Binding::Superuser { default } => (true, None, default.map(Id::get)),
    };
    let retiring = credential.codes.retiring.filter(|retiring| now < retiring.until && !credential.revoked);
    wire::CredentialRecord {
        mode: mode_to_wire(credential.mode),
        id: credential.id.get(),
        label: credential.label.as_str().to_string(),
        superuser,
        agent,
        default_agent,
        app_id: credential.app_id,
        tags: credential.tags.to_string(),
        enabled: credential.enabled,
        revoked: credential.revoked,
        not_before: credential.not_before.map(|at| at.0),
        expires_at: credential.expires_at.map(|at| at.0),
        allow_ip: credential.allow_ip.as_ref().map(|list| list.blocks().iter().map(ToString::to_string).collect()),
        rate: credential.rate.map(|rate| rate.to_string()),
        parent: credential.parent.map(|(mode, id)| wire::CredentialName { mode: mode_to_wire(mode), id: id.get() }),
        state: state(credential, now).to_string(),
        retiring_until: retiring.map(|retiring| retiring.until.0),
        last_used: uses.of(&credential.codes.current).map(last_use),
        retiring_last_used: retiring.and_then(|retiring| uses.of(&retiring.hash)).map(last_use),
        foreign_hash: credential.foreign_hash_name().map(str::to_string),
    }
}

/// A record as an apply takes it.
pub(super) fn exported(listed: &Listed, now: UnixSeconds, with_hashes: bool) -> wire::ExportedRecord {
    let mut exported = wire::ExportedRecord { record: record(listed, now), hash: None, retiring: None };
    if let Record::Credential(credential) = &listed.record
        && with_hashes
    {
        let secret = |slot| credential.expose_hash(slot).map(|mut text| wire::Secret::new(std::mem::take(&mut *text)));
        exported.hash = secret(CodeSlot::Current);
        let retiring =
            credential.codes.retiring.filter(|retiring| now < retiring.until).zip(secret(CodeSlot::Retiring));
        exported.retiring = retiring.map(|(code, hash)| wire::RetiringPatch { hash, until: code.until.0 });
    }
    exported
}

/// The state of what may be used.
const IN_FORCE: &str = "enabled";

/// What the right code would get, in the order of step 5.
fn state(credential: &Credential, now: UnixSeconds) -> &'static str {
    if credential.revoked {
        "revoked"
    } else if !credential.enabled {
        "disabled"
    } else if credential.not_before.is_some_and(|at| now < at) {
        "not_yet_valid"
    } else if credential.expires_at.is_some_and(|at| now >= at) {
        "expired"
    } else {
        IN_FORCE
    }
}

fn last_use(used: LastUse) -> wire::LastUse {
    wire::LastUse { at: used.at.0, address: used.address.map(|address| address.to_string()) }
}

fn pairs(pairs: &[(Box<str>, Box<str>)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

// ---- counts ----

/// The verdicts that were given at least once.
pub(super) fn verdict_counts(by_door: &[[u64; WireReason::ALL.len()]; 2]) -> Vec<wire::VerdictCount> {
    let doors = AskDoor::ALL.into_iter().zip(by_door);
    let all = doors.flat_map(|(door, counts)| WireReason::ALL.into_iter().zip(counts).map(move |pair| (door, pair)));
    let given = all.filter(|(_, (_, count))| **count > 0);
    given
        .map(|(door, (reason, count))| wire::VerdictCount {
            door: door.name().to_string(),
            reason: reason.number(),
            count: *count,
        })
        .collect()
}

// ---- differences ----

pub(super) fn field_change(change: FieldChange) -> wire::FieldChange {
    wire::FieldChange {
        record: selector(&change.record),
        field: change.field.to_string(),
        from: field_value(change.from),
        to: field_value(change.to),
    }
}

fn field_value(value: FieldValue) -> wire::FieldValue {
    match value {
        FieldValue::Null => wire::FieldValue::Null,
        FieldValue::Bool(on) => wire::FieldValue::Bool(on),
        FieldValue::Number(number) => wire::FieldValue::Number(number),
        FieldValue::Text(text) => wire::FieldValue::Text(text),
        FieldValue::List(items) => wire::FieldValue::List(items),
        FieldValue::Map(pairs) => wire::FieldValue::Map(pairs),
        FieldValue::Hidden => wire::FieldValue::Hidden,
    }
}
