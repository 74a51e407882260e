//! Records as people read them: rows of a listing, pairs of a single one.

use keyward_proto::admin::{
    AgentRecord, CredentialRecord, EndpointRecord, Explanation, FieldChange, FieldValue, Kind, Record, Report, Selector,
};
use keyward_proto::query::{Mode, Reason, Verdict};

use super::forms::{kind_name, reason_name};
use super::rotate::uses;
use super::tables::{Table, escape, pairs};
use super::times::format_time;

/// What stands where nothing is set.
const NOTHING: &str = "-";

fn or_nothing<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), show)
}

fn number(value: Option<u64>) -> String {
    or_nothing(value, |n| n.to_string())
}

fn time(value: Option<u64>) -> String {
    or_nothing(value, format_time)
}

fn attributes(pairs: &[(String, String)]) -> String {
    if pairs.is_empty() {
        return NOTHING.to_owned();
    }
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

/// The columns of a listing.
pub(super) fn header(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Agent => &["ID", "NAME", "STATE", "PERMISSIONS", "ATTRIBUTES"],
        Kind::Endpoint => &["METHOD", "PATH", "TAGS", "MODES"],
        Kind::Key => &["ID", "LABEL", "STATE", "AGENT", "TAGS", "EXPIRES", "LAST USED"],
        Kind::Token => &["ID", "LABEL", "STATE", "AGENT", "APP", "TAGS", "EXPIRES", "LAST USED"],
        Kind::Session => &["ID", "STATE", "AGENT", "TAGS", "EXPIRES", "LAST USED"],
    }
}

/// One line of a listing.
pub(super) fn row(record: &Record) -> Vec<String> {
    match record {
        Record::Agent(agent) => vec![
            agent.id.to_string(),
            agent.name.clone(),
            agent.state.clone(),
            agent.permissions.clone(),
            attributes(&agent.attributes),
        ],
        Record::Endpoint(endpoint) => {
            vec![endpoint.method.clone(), endpoint.path.clone(), endpoint.tags.join(", "), endpoint.modes.join(", ")]
        }
        Record::Credential(record) => credential_row(record),
    }
}

fn credential_row(record: &CredentialRecord) -> Vec<String> {
    let mut row = vec![record.id.to_string()];
    match record.mode {
        Mode::Key => row.extend([record.label.clone(), record.state.clone(), acts_as(record)]),
        Mode::Token => {
            row.extend([record.label.clone(), record.state.clone(), acts_as(record), number(record.app_id)]);
        }
        Mode::Session => row.extend([record.state.clone(), acts_as(record)]),
    }
    let last_used = [&record.last_used, &record.retiring_last_used].into_iter().flatten().map(|last| last.at).max();
    row.extend([record.tags.clone(), time(record.expires_at), time(last_used)]);
    row
}

fn acts_as(record: &CredentialRecord) -> String {
    match (record.superuser, record.default_agent) {
        (true, Some(agent)) => format!("any ({agent})"),
        (true, None) => "any".to_owned(),
        (false, _) => number(record.agent),
    }
}

/// One record, a field a line.
pub(super) fn show(record: &Record) -> String {
    match record {
        Record::Agent(agent) => show_agent(agent),
        Record::Endpoint(endpoint) => show_endpoint(endpoint),
        Record::Credential(record) => show_credential(record),
    }
}

fn show_agent(agent: &AgentRecord) -> String {
    pairs(&[
        ("agent", agent.id.to_string()),
        ("name", agent.name.clone()),
        ("state", agent.state.clone()),
        ("permissions", agent.permissions.clone()),
        ("attributes", attributes(&agent.attributes)),
    ])
}

fn show_endpoint(endpoint: &EndpointRecord) -> String {
    pairs(&[
        ("endpoint", format!("{} {}", endpoint.method, endpoint.path)),
        ("tags", endpoint.tags.join(", ")),
        ("modes", endpoint.modes.join(", ")),
    ])
}

fn show_credential(record: &CredentialRecord) -> String {
    let mut rows = vec![
        (record.mode.name(), record.id.to_string()),
        ("label", record.label.clone()),
        ("state", record.state.clone()),
        ("acts as agent", acts_as(record)),
    ];
    match record.mode {
        Mode::Token => rows.push(("app", number(record.app_id))),
        Mode::Key | Mode::Session => {}
    }
    rows.extend([
        ("tags", record.tags.clone()),
        ("not before", time(record.not_before)),
        ("expires", time(record.expires_at)),
        ("allowed from", or_nothing(record.allow_ip.as_ref(), |blocks| blocks.join(", "))),
    ]);
    rows.extend(uses(record));
    if let Some(hash) = &record.foreign_hash {
        rows.push(("kept as", format!("another system's {hash}, until its first use")));
    }
    if let Some(rate) = &record.rate {
        rows.push(("allowed at most", rate.clone()));
    }
    if let Some(parent) = record.parent {
        rows.push(("made from", parent.to_string()));
    }
    pairs(&rows)
}

/// `key 3`, `endpoint GET /path`.
pub(super) fn name(selector: &Selector) -> String {
    match selector {
        Selector::Agent(id) | Selector::Credential(_, id) => format!("{} {id}", kind_name(selector)),
        Selector::Endpoint { method, path } => format!("{} {method} {path}", kind_name(selector)),
    }
}

/// What an apply did: a line a record or field, then the sum.
pub(super) fn report(report: &Report) -> String {
    let mut lines = String::new();
    let mut line = |text: &str| {
        lines.push_str(&escape(text));
        lines.push('\n');
    };
    report.added.iter().for_each(|record| line(&format!("+ {}", name(record))));
    report.changed.iter().for_each(|change| line(&changed(change)));
    report.removed.iter().for_each(|record| line(&format!("- {}", name(record))));
    lines + &report_sum(report)
}

/// The sum of what an apply did.
pub(super) fn report_sum(report: &Report) -> String {
    let done = if report.dry_run { "dry run, nothing was changed: it would be" } else { "done:" };
    let (added, changed, removed) = (report.added.len(), report.changed.len(), report.removed.len());
    format!("{done} {added} added, {changed} fields changed, {removed} removed\n")
}

/// One field that changed.
pub(super) fn changed(change: &FieldChange) -> String {
    format!("~ {}: {}: {} -> {}", name(&change.record), change.field, value(&change.from), value(&change.to))
}

fn value(value: &FieldValue) -> String {
    match value {
        FieldValue::Null => NOTHING.to_owned(),
        FieldValue::Bool(value) => value.to_string(),
        FieldValue::Number(value) => value.to_string(),
        FieldValue::Text(value) => format!("\"{value}\""),
        FieldValue::List(values) => format!("[{}]", values.join(", ")),
        FieldValue::Map(pairs) => format!("{{{}}}", attributes(pairs)),
        FieldValue::Hidden => "(hidden)".to_owned(),
    }
}

/// A verdict: what it is and its terms.
pub(super) fn verdict(verdict: &Verdict) -> String {
    let word = match Reason::from_number(verdict.reason) {
        Some(Reason::Ok) => "allowed",
        Some(Reason::Unavailable) => "no verdict",
        _ => "denied",
    };
    let mut rows = vec![(word, format!("{} ({})", reason_name(verdict.reason), verdict.status))];
    if verdict.retry_after > 0 {
        rows.push(("retry after", format!("{} s", verdict.retry_after)));
    }
    if let Some(identity) = &verdict.identity {
        let switched = if identity.switched { ", switched to by the request" } else { "" };
        rows.push(("agent", format!("{} ({}){switched}", identity.agent_id, identity.agent_name)));
        rows.push(("attributes", attributes(&identity.attributes)));
        rows.push((identity.mode.name(), format!("{}, {} code", identity.credential_id, identity.code.name())));
        if identity.app_id.is_some() {
            rows.push(("app", number(identity.app_id)));
        }
        rows.push(("expires", time(identity.expires_at)));
    }
    if let Some(route) = &verdict.route {
        rows.push(("endpoint", route.template.clone()));
        rows.push(("tags", route.tags.join(", ")));
    }
    pairs(&rows)
}

/// Every step of a decision, then what it came to.
pub(super) fn explanation(explanation: &Explanation) -> String {
    let steps = explanation.steps.iter();
    let rows = steps.map(|step| vec![step.step.to_string(), step.result.clone(), step.why.clone()]).collect();
    format!("{}\n{}", Table::new(&["STEP", "RESULT", "WHY"]).lines(rows), verdict(&explanation.verdict))
}
