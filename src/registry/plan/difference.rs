//! What differs between two states of a record, field by field, under the names of the apply file. No secret is in it.

use crate::model::{Agent, AllowList, Binding, Credential, Endpoint, Id, Record, RecordName, UnixSeconds};

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// Nothing set.
    Null,
    /// A switch.
    Bool(bool),
    /// An id or a time.
    Number(u64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<String>),
    /// Attributes.
    Map(Vec<(String, String)>),
    /// A code.
    Hidden,
}

/// One field that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// Which record.
    pub record: RecordName,
    /// The field's name.
    pub field: &'static str,
    /// Before.
    pub from: FieldValue,
    /// After.
    pub to: FieldValue,
}

/// Names and values.
pub(in crate::registry) type Fields = Vec<(&'static str, FieldValue)>;

/// The fields in which two states of one record differ.
pub(super) fn difference(old: &Record, new: &Record) -> Vec<FieldChange> {
    let change = |(field, from, to)| FieldChange { record: new.name(), field, from, to };
    differing(old, new).into_iter().map(change).collect()
}

/// The same: names, values before and values after.
pub(in crate::registry) fn differing(old: &Record, new: &Record) -> Vec<(&'static str, FieldValue, FieldValue)> {
    let both = fields(old).into_iter().zip(fields(new));
    let differs = both.filter(|((_, from), (_, to))| from != to);
    let mut differing: Vec<_> = differs.map(|((field, from), (_, to))| (field, from, to)).collect();
    if let (Record::Credential(from), Record::Credential(to)) = (old, new)
        && from.codes != to.codes
    {
        differing.push(("code", FieldValue::Hidden, FieldValue::Hidden));
        let [from, to] = [from, to].map(|credential| {
            credential.codes.retiring.map_or(FieldValue::Null, |retiring| FieldValue::Number(retiring.until.0))
        });
        if from != to {
            differing.push(("retiring_until", from, to));
        }
    }
    differing
}

/// All fields of a record but its code.
pub(in crate::registry) fn fields(record: &Record) -> Fields {
    match record {
        Record::Agent(agent) => agent_fields(agent),
        Record::Endpoint(endpoint) => endpoint_fields(endpoint),
        Record::Credential(credential) => credential_fields(credential),
    }
}

fn agent_fields(agent: &Agent) -> Fields {
    let attributes = agent.attributes.pairs().iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    vec![
        ("name", FieldValue::Text(agent.name.as_str().into())),
        ("permissions", FieldValue::Text(agent.permissions.to_string())),
        ("enabled", FieldValue::Bool(agent.enabled)),
        ("attributes", FieldValue::Map(attributes)),
    ]
}

fn endpoint_fields(endpoint: &Endpoint) -> Fields {
    vec![
        ("path", FieldValue::Text(endpoint.template.as_str().into())),
        ("tags", FieldValue::List(endpoint.tags.iter().map(ToString::to_string).collect())),
        ("modes", FieldValue::List(endpoint.modes.names().into_iter().map(Into::into).collect())),
    ]
}

fn credential_fields(credential: &Credential) -> Fields {
    let (superuser, agent, default) = match credential.binding {
        Binding::Agent(id) => (false, Some(id), None),
        Binding::Superuser { default } => (true, None, default),
    };
    let number = |value: Option<u64>| value.map_or(FieldValue::Null, FieldValue::Number);
    let id = |value: Option<Id>| number(value.map(Id::get));
    let time = |value: Option<UnixSeconds>| number(value.map(|at| at.0));
    let blocks = |list: &AllowList| FieldValue::List(list.blocks().iter().map(ToString::to_string).collect());
    vec![
        ("label", FieldValue::Text(credential.label.as_str().into())),
        ("superuser", FieldValue::Bool(superuser)),
        ("agent", id(agent)),
        ("default_agent", id(default)),
        ("app_id", number(credential.app_id)),
        ("tags", FieldValue::Text(credential.tags.to_string())),
        ("enabled", FieldValue::Bool(credential.enabled)),
        ("revoked", FieldValue::Bool(credential.revoked)),
        ("not_before", time(credential.not_before)),
        ("expires_at", time(credential.expires_at)),
        ("allow_ip", credential.allow_ip.as_ref().map_or(FieldValue::Null, blocks)),
        ("rate", credential.rate.map_or(FieldValue::Null, |rate| FieldValue::Text(rate.to_string()))),
        ("parent", credential.parent.map_or(FieldValue::Null, |(mode, id)| FieldValue::Text(format!("{mode} {id}")))),
    ]
}
