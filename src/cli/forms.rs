//! What `--json` prints: one struct a form of the contract's section 4, its fields in that order.

use keyward_proto::admin::{
    AgentRecord, CredentialRecord, EndpointRecord, Explanation, FieldChange, FieldValue, LastUse, Record, Report,
    Selector, StatusReport, Step,
};
use keyward_proto::query::{Mode, Reason, Verdict};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// A verdict: all keys on an allow, reason and status on a denial.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum VerdictForm<'a> {
    Allow(Box<AllowForm<'a>>),
    Deny {
        reason: String,
        status: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u32>,
    },
}

#[derive(Serialize)]
pub(super) struct AllowForm<'a> {
    reason: &'static str,
    status: u16,
    mode: Option<&'static str>,
    credential_id: Option<u64>,
    code: Option<&'static str>,
    agent_id: Option<u64>,
    agent_name: Option<&'a str>,
    attributes: Attributes<'a>,
    switched: bool,
    app_id: Option<u64>,
    expires_at: Option<u64>,
    template: Option<&'a str>,
    tags: &'a [String],
}

impl<'a> VerdictForm<'a> {
    pub(super) fn new(verdict: &'a Verdict) -> Self {
        if !verdict.is_allowed() {
            let limited = verdict.reason == Reason::RateLimited.number();
            return Self::Deny {
                reason: reason_name(verdict.reason),
                status: verdict.status,
                retry_after: limited.then_some(verdict.retry_after),
            };
        }
        let identity = verdict.identity.as_ref();
        let route = verdict.route.as_ref();
        Self::Allow(Box::new(AllowForm {
            reason: Reason::Ok.name(),
            status: verdict.status,
            mode: identity.map(|i| i.mode.name()),
            credential_id: identity.map(|i| i.credential_id),
            code: identity.map(|i| i.code.name()),
            agent_id: identity.map(|i| i.agent_id),
            agent_name: identity.map(|i| i.agent_name.as_str()),
            attributes: Attributes(identity.map_or(&[], |i| &i.attributes)),
            switched: identity.is_some_and(|i| i.switched),
            app_id: identity.and_then(|i| i.app_id),
            expires_at: identity.and_then(|i| i.expires_at),
            template: route.map(|r| r.template.as_str()),
            tags: route.map_or(&[], |r| &r.tags),
        }))
    }
}

/// A later daemon's reason has no name here; its number says enough, and it is a denial in any case.
pub(super) fn reason_name(number: u16) -> String {
    Reason::from_number(number).map_or_else(|| format!("reason_{number}"), |reason| reason.name().to_owned())
}

/// String pairs as an object.
pub(super) struct Attributes<'a>(pub(super) &'a [(String, String)]);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A record as `show` prints it.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum RecordForm<'a> {
    Agent(AgentForm<'a>),
    Endpoint(EndpointForm<'a>),
    Credential(Box<CredentialForm<'a>>),
}

impl<'a> RecordForm<'a> {
    /// `credential` is a new code, which only the reply to `add` has.
    pub(super) fn new(record: &'a Record, credential: Option<&'a str>) -> Self {
        match record {
            Record::Agent(agent) => Self::Agent(AgentForm::new(agent)),
            Record::Endpoint(endpoint) => Self::Endpoint(EndpointForm::new(endpoint)),
            Record::Credential(record) => Self::Credential(Box::new(CredentialForm::new(record, credential))),
        }
    }
}

#[derive(Serialize)]
pub(super) struct AgentForm<'a> {
    id: u64,
    name: &'a str,
    permissions: &'a str,
    enabled: bool,
    attributes: Attributes<'a>,
    state: &'a str,
}

impl<'a> AgentForm<'a> {
    fn new(agent: &'a AgentRecord) -> Self {
        Self {
            id: agent.id,
            name: &agent.name,
            permissions: &agent.permissions,
            enabled: agent.enabled,
            attributes: Attributes(&agent.attributes),
            state: &agent.state,
        }
    }
}

#[derive(Serialize)]
pub(super) struct EndpointForm<'a> {
    method: &'a str,
    path: &'a str,
    tags: &'a [String],
    modes: &'a [String],
}

impl<'a> EndpointForm<'a> {
    pub(super) fn new(endpoint: &'a EndpointRecord) -> Self {
        Self { method: &endpoint.method, path: &endpoint.path, tags: &endpoint.tags, modes: &endpoint.modes }
    }
}

/// `None` outside is a field that this mode does not have; inside, one that is not set.
type OfMode<T> = Option<Option<T>>;

#[derive(Serialize)]
pub(super) struct CredentialForm<'a> {
    id: u64,
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    superuser: Option<bool>,
    agent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_agent: OfMode<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: OfMode<u64>,
    tags: &'a str,
    enabled: bool,
    revoked: bool,
    not_before: Option<u64>,
    expires_at: Option<u64>,
    allow_ip: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    state: &'a str,
    retiring_until: Option<u64>,
    last_used: Option<LastUsedForm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    foreign_hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
}

impl<'a> CredentialForm<'a> {
    fn new(record: &'a CredentialRecord, credential: Option<&'a str>) -> Self {
        let (is_key, is_token) = match record.mode {
            Mode::Key => (true, false),
            Mode::Token => (false, true),
            Mode::Session => (false, false),
        };
        Self {
            id: record.id,
            label: &record.label,
            superuser: is_key.then_some(record.superuser),
            agent: record.agent,
            default_agent: is_key.then_some(record.default_agent),
            app_id: is_token.then_some(record.app_id),
            tags: &record.tags,
            enabled: record.enabled,
            revoked: record.revoked,
            not_before: record.not_before,
            expires_at: record.expires_at,
            allow_ip: record.allow_ip.as_deref(),
            rate: record.rate.as_deref(),
            parent: record.parent.map(|parent| parent.to_string()),
            state: &record.state,
            retiring_until: record.retiring_until,
            last_used: LastUsedForm::new(record),
            foreign_hash: record.foreign_hash.as_deref(),
            credential,
        }
    }
}

/// Last use by code; the whole is null when neither was ever used.
#[derive(Serialize)]
pub(super) struct LastUsedForm<'a> {
    current: Option<UseForm<'a>>,
    retiring: Option<UseForm<'a>>,
}

impl<'a> LastUsedForm<'a> {
    fn new(record: &'a CredentialRecord) -> Option<Self> {
        let current = record.last_used.as_ref().map(UseForm::new);
        let retiring = record.retiring_last_used.as_ref().map(UseForm::new);
        (current.is_some() || retiring.is_some()).then_some(Self { current, retiring })
    }
}

#[derive(Serialize)]
struct UseForm<'a> {
    at: u64,
    address: Option<&'a str>,
}

impl<'a> UseForm<'a> {
    fn new(last: &'a LastUse) -> Self {
        Self { at: last.at, address: last.address.as_deref() }
    }
}

/// `remove` of what leaves no record to print.
#[derive(Serialize)]
pub(super) struct RemovedForm<'a> {
    removed: bool,
    kind: &'static str,
    #[serde(flatten)]
    name: NameForm<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum NameForm<'a> {
    Id { id: u64 },
    Endpoint { method: &'a str, path: &'a str },
}

impl<'a> RemovedForm<'a> {
    pub(super) fn new(selector: &'a Selector) -> Self {
        let name = match selector {
            Selector::Agent(id) | Selector::Credential(_, id) => NameForm::Id { id: *id },
            Selector::Endpoint { method, path } => NameForm::Endpoint { method, path },
        };
        Self { removed: true, kind: kind_name(selector), name }
    }
}

/// `agent`, `endpoint`, `key`, `token`, `session`.
pub(super) fn kind_name(selector: &Selector) -> &'static str {
    match selector {
        Selector::Agent(_) => "agent",
        Selector::Credential(mode, _) => mode.name(),
        Selector::Endpoint { .. } => "endpoint",
    }
}

/// What an apply did.
#[derive(Serialize)]
pub(super) struct ReportForm<'a> {
    added: Vec<ReferenceForm<'a>>,
    changed: Vec<ChangeForm<'a>>,
    removed: Vec<ReferenceForm<'a>>,
    dry_run: bool,
}

impl<'a> ReportForm<'a> {
    pub(super) fn new(report: &'a Report) -> Self {
        Self {
            added: report.added.iter().map(ReferenceForm::new).collect(),
            changed: report.changed.iter().map(ChangeForm::new).collect(),
            removed: report.removed.iter().map(ReferenceForm::new).collect(),
            dry_run: report.dry_run,
        }
    }
}

#[derive(Serialize)]
pub(super) struct ReferenceForm<'a> {
    kind: &'static str,
    id: IdForm<'a>,
}

impl<'a> ReferenceForm<'a> {
    pub(super) fn new(selector: &'a Selector) -> Self {
        Self { kind: kind_name(selector), id: IdForm(selector) }
    }
}

/// A number, but `"GET /path"` for an endpoint.
struct IdForm<'a>(&'a Selector);

impl Serialize for IdForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Selector::Agent(id) | Selector::Credential(_, id) => serializer.serialize_u64(*id),
            Selector::Endpoint { method, path } => serializer.collect_str(&format_args!("{method} {path}")),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ChangeForm<'a> {
    #[serde(flatten)]
    record: ReferenceForm<'a>,
    field: &'a str,
    from: ValueForm<'a>,
    to: ValueForm<'a>,
}

impl<'a> ChangeForm<'a> {
    pub(super) fn new(change: &'a FieldChange) -> Self {
        Self {
            record: ReferenceForm::new(&change.record),
            field: &change.field,
            from: ValueForm(&change.from),
            to: ValueForm(&change.to),
        }
    }
}

/// The value of a field in a difference.
pub(super) struct ValueForm<'a>(pub(super) &'a FieldValue);

impl Serialize for ValueForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            FieldValue::Null => serializer.serialize_unit(),
            FieldValue::Bool(value) => serializer.serialize_bool(*value),
            FieldValue::Number(value) => serializer.serialize_u64(*value),
            FieldValue::Text(value) => serializer.serialize_str(value),
            FieldValue::List(values) => values.serialize(serializer),
            FieldValue::Map(pairs) => Attributes(pairs).serialize(serializer),
            FieldValue::Hidden => serializer.serialize_str("(hidden)"),
        }
    }
}

/// Every step of a decision, and what it came to.
#[derive(Serialize)]
pub(super) struct ExplanationForm<'a> {
    steps: Vec<StepForm<'a>>,
    verdict: VerdictForm<'a>,
}

#[derive(Serialize)]
struct StepForm<'a> {
    step: u8,
    result: &'a str,
    why: &'a str,
}

impl<'a> ExplanationForm<'a> {
    pub(super) fn new(explanation: &'a Explanation) -> Self {
        let form = |step: &'a Step| StepForm { step: step.step, result: &step.result, why: &step.why };
        Self { steps: explanation.steps.iter().map(form).collect(), verdict: VerdictForm::new(&explanation.verdict) }
    }
}

/// The daemon's state.
#[derive(Serialize)]
pub(super) struct StatusForm<'a> {
    version: &'a str,
    pid: u32,
    started_at: u64,
    now: u64,
    clock_behind: u64,
    database: &'a str,
    revision: u64,
    agents: u64,
    endpoints: u64,
    keys: u64,
    tokens: u64,
    sessions: u64,
    tag_sets: u64,
    query_connections: u64,
    admin_connections: u64,
    questions: u64,
    writable: bool,
    alarms: &'a [String],
    http_connections: u64,
    refused_connections: u64,
    verdicts: Vec<VerdictCountForm<'a>>,
    recent_questions: u64,
    recent_millis: u64,
    commits: u64,
    commit_micros: u64,
    unflushed_use_age: Option<u64>,
    database_bytes: Option<u64>,
    reloaded_at: Option<u64>,
    reload_refused: Option<&'a str>,
}

#[derive(Serialize)]
struct VerdictCountForm<'a> {
    door: &'a str,
    reason: String,
    count: u64,
}

impl<'a> StatusForm<'a> {
    pub(super) fn new(report: &'a StatusReport) -> Self {
        Self {
            version: &report.version,
            pid: report.pid,
            started_at: report.started_at,
            now: report.now,
            clock_behind: report.clock_behind,
            database: &report.database,
            revision: report.revision,
            agents: report.agents,
            endpoints: report.endpoints,
            keys: report.keys,
            tokens: report.tokens,
            sessions: report.sessions,
            tag_sets: report.tag_sets,
            query_connections: report.query_connections,
            admin_connections: report.admin_connections,
            questions: report.questions,
            writable: report.writable,
            alarms: &report.alarms,
            http_connections: report.http_connections,
            refused_connections: report.refused_connections,
            verdicts: report
                .verdicts
                .iter()
                .map(|given| VerdictCountForm {
                    door: &given.door,
                    reason: reason_name(given.reason),
                    count: given.count,
                })
                .collect(),
            recent_questions: report.recent_questions,
            recent_millis: report.recent_millis,
            commits: report.commits,
            commit_micros: report.commit_micros,
            unflushed_use_age: report.unflushed_use_age,
            database_bytes: report.database_bytes,
            reloaded_at: report.reloaded_at,
            reload_refused: report.reload_refused.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests;
