//! `endpoint import`: what a description says against what the daemon has, then one transaction.

use std::collections::HashMap;
use std::path::Path;

use keyward_proto::admin::{
    self, AdminReply, AdminRequest, EndpointPatch, EndpointRecord, Kind, List, Patch, Record, Report,
};
use keyward_proto::client::{AdminClient, ApplyOutcome};
use serde::Serialize;

use super::args::EndpointImport;
use super::error::{CliError, Exit};
use super::file::{self, Syntax};
use super::forms::ReportForm;
use super::openapi::{self, Collision, Endpoint, Imported, RefusedOperation, Said};
use super::output::{print, print_json};
use super::tables::{Table, escape};
use super::{Context, records};
use crate::route::Template;

/// The largest public descriptions have 80 MB.
const DESCRIPTION_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// So many refused operations are named in an error; `--dry-run` lists all.
const REFUSED_SHOWN: usize = 20;

/// `endpoint import FILE`
pub(super) fn import(context: &Context, args: &EndpointImport) -> Result<Exit, CliError> {
    let imported = read(&args.file)?;
    let stands = imported.refused.is_empty() || args.skip_refused;
    if !stands && !args.dry_run {
        return Err(CliError::Input(refusal(&imported.refused)));
    }
    let mut client = context.admin()?;
    let existing = existing_endpoints(&mut client)?;
    let planned: Vec<Planned<'_>> = imported.endpoints.iter().map(|endpoint| plan(endpoint, &existing)).collect();
    let report = commit(&mut client, planned.iter().map(Planned::patch), args.dry_run)?;
    if context.json {
        print_json(&ImportForm::new(&report, &planned, &imported))?;
    } else {
        print(&told(&report, &planned, &imported))?;
        if !stands {
            print("as it is nothing would be imported: correct the refused operations, or give --skip-refused\n")?;
        }
    }
    Ok(if stands { Exit::Done } else { Exit::Refused })
}

fn read(path: &Path) -> Result<Imported, CliError> {
    let refused = |e| CliError::Input(format!("description refused: {}: {e}", path.display()));
    let text = file::read(path, DESCRIPTION_BYTES_MAX).map_err(refused)?;
    let syntax = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json" | "yaml" | "yml") => Syntax::of(path),
        _ => openapi::guess_syntax(&text),
    };
    openapi::read(&text, syntax).map_err(refused)
}

fn refusal(refused: &[RefusedOperation]) -> String {
    let shown = refused.iter().take(REFUSED_SHOWN).map(|r| format!("{} {}: {}", r.method, r.path, r.why));
    let mut words = shown.collect::<Vec<_>>().join("; ");
    if refused.len() > REFUSED_SHOWN {
        words.push_str("; …");
    }
    format!(
        "nothing was imported: {} operations can't be endpoints: {words}; correct the file, or leave them out with \
         --skip-refused (--dry-run lists all)",
        refused.len()
    )
}

/// All endpoints by method and shape. They are read before the transaction: a tag that somebody gives a new endpoint by
/// hand in between is overwritten by the derived one.
fn existing_endpoints(client: &mut AdminClient) -> Result<Existing, CliError> {
    let mut existing = HashMap::new();
    let mut after = Vec::new();
    loop {
        let request = AdminRequest::List(List::all(Kind::Endpoint, after));
        let AdminReply::Page(page) = super::reply(client.call(&request)?)? else {
            return Err(CliError::OtherReply);
        };
        for record in page.records {
            let Record::Endpoint(record) = record else { return Err(CliError::OtherReply) };
            let template = Template::parse(&record.path).map_err(|_| CliError::OtherReply)?;
            existing.insert((record.method.clone(), template.shape().to_owned()), record);
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(existing),
        }
    }
}

type Existing = HashMap<(String, String), EndpointRecord>;

/// An endpoint of the description beside the one that the daemon has.
struct Planned<'a> {
    endpoint: &'a Endpoint,
    existing: Option<&'a EndpointRecord>,
}

fn plan<'a>(endpoint: &'a Endpoint, existing: &'a Existing) -> Planned<'a> {
    let key = (endpoint.method.to_owned(), endpoint.template.shape().to_owned());
    Planned { endpoint, existing: existing.get(&key) }
}

/// A field of an existing endpoint that stays though another value was derived.
#[derive(Serialize)]
struct KeptForm<'a> {
    method: &'a str,
    path: &'a str,
    field: &'static str,
    value: &'a [String],
    derived: &'a [String],
}

impl<'a> Planned<'a> {
    /// What is written for Keyward applies always, what is derived only to what is new.
    fn patch(&self) -> Patch {
        let applies = |said: &Said<Vec<String>>| match said {
            Said::Outright(value) => Some(value.clone()),
            Said::Derived(value) => self.existing.is_none().then(|| value.clone()),
        };
        Patch::Endpoint(EndpointPatch {
            method: self.endpoint.method.to_owned(),
            path: self.endpoint.template.to_string(),
            tags: applies(&self.endpoint.tags),
            modes: applies(&self.endpoint.modes),
        })
    }

    fn kept(&self) -> impl Iterator<Item = KeptForm<'a>> {
        let (method, path) = (self.endpoint.method, self.endpoint.template.as_str());
        let fields = self.existing.into_iter().flat_map(|existing| {
            [("tags", &self.endpoint.tags, &existing.tags), ("modes", &self.endpoint.modes, &existing.modes)]
        });
        fields.filter_map(move |(field, said, value)| match said {
            Said::Derived(derived) if derived != value => Some(KeptForm { method, path, field, value, derived }),
            Said::Derived(_) | Said::Outright(_) => None,
        })
    }

    /// What the endpoint has after the import.
    fn outcome(&self) -> (&'a [String], &'a [String]) {
        fn field<'a>(said: &'a Said<Vec<String>>, existing: Option<&'a Vec<String>>) -> &'a [String] {
            match (said, existing) {
                (Said::Derived(_), Some(existing)) => existing,
                (Said::Derived(value) | Said::Outright(value), _) => value,
            }
        }
        (
            field(&self.endpoint.tags, self.existing.map(|existing| &existing.tags)),
            field(&self.endpoint.modes, self.existing.map(|existing| &existing.modes)),
        )
    }

    /// `added`, `changed`, `kept`, or nothing for what is as the file says.
    fn word(&self) -> &'static str {
        let Some(existing) = self.existing else { return "added" };
        let (tags, modes) = self.outcome();
        let same = existing.path == self.endpoint.template.as_str() && existing.tags == tags && existing.modes == modes;
        match (same, self.kept().next().is_some()) {
            (false, _) => "changed",
            (true, true) => "kept",
            (true, false) => "",
        }
    }
}

fn commit(client: &mut AdminClient, patches: impl Iterator<Item = Patch>, dry_run: bool) -> Result<Report, CliError> {
    let parts = client.upload(patches)?;
    let commit = admin::Apply { parts, sections: vec![Kind::Endpoint], prune: false, dry_run };
    match client.apply(&commit)? {
        ApplyOutcome::Report(report) => Ok(report),
        ApplyOutcome::Refused(refused) => Err(CliError::Refused(refused)),
    }
}

#[derive(Serialize)]
struct ImportForm<'a> {
    #[serde(flatten)]
    report: ReportForm<'a>,
    kept: Vec<KeptForm<'a>>,
    refused: Vec<RefusedForm<'a>>,
    collisions: Vec<CollisionForm<'a>>,
    notes: Vec<&'a str>,
}

#[derive(Serialize)]
struct RefusedForm<'a> {
    method: &'a str,
    path: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct CollisionForm<'a> {
    tag: &'a str,
    operations: &'a [String],
}

impl<'a> ImportForm<'a> {
    fn new(report: &'a Report, planned: &[Planned<'a>], imported: &'a Imported) -> Self {
        let refused = |r: &'a RefusedOperation| RefusedForm { method: &r.method, path: &r.path, why: &r.why };
        let collision = |c: &'a Collision| CollisionForm { tag: &c.tag, operations: &c.operations };
        Self {
            report: ReportForm::new(report),
            kept: planned.iter().flat_map(Planned::kept).collect(),
            refused: imported.refused.iter().map(refused).collect(),
            collisions: imported.collisions.iter().map(collision).collect(),
            notes: imported.notes.iter().map(String::as_str).collect(),
        }
    }
}

/// For people: in a dry run every endpoint as it would be, else what was changed; then what needs a look.
fn told(report: &Report, planned: &[Planned<'_>], imported: &Imported) -> String {
    let mut text = if report.dry_run { table(planned, &imported.refused) } else { String::new() };
    let mut line = |words: &str| {
        text.push_str(&escape(words));
        text.push('\n');
    };
    for kept in planned.iter().flat_map(Planned::kept) {
        let (value, derived) = (kept.value.join(", "), kept.derived.join(", "));
        line(&format!("= endpoint {} {}: {}: {value} is kept, not {derived}", kept.method, kept.path, kept.field));
    }
    for refused in &imported.refused {
        line(&format!("! {} {}: refused: {}", refused.method, refused.path, refused.why));
    }
    for collision in &imported.collisions {
        let operations = collision.operations.join(", ");
        line(&format!(
            "? {}: several resources share this tag: {operations}; x-keyward-tags tells them apart",
            collision.tag
        ));
    }
    imported.notes.iter().for_each(|note| line(&format!("? {note}")));
    let changes = records::report(report);
    text + &if report.dry_run { records::report_sum(report) } else { changes }
}

fn table(planned: &[Planned<'_>], refused: &[RefusedOperation]) -> String {
    let endpoints = planned.iter().map(|planned| {
        let (tags, modes) = planned.outcome();
        let (method, path) = (planned.endpoint.method.to_owned(), planned.endpoint.template.to_string());
        vec![planned.word().to_owned(), method, path, tags.join(", "), modes.join(", ")]
    });
    let refused = refused.iter().map(|r| vec!["refused".to_owned(), r.method.clone(), r.path.clone()]);
    Table::new(&["", "METHOD", "PATH", "TAGS", "MODES"]).lines(endpoints.chain(refused).collect())
}
