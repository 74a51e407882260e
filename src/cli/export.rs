//! `export`: what the daemon holds, as an apply file.

use keyward_proto::admin::{
    AgentRecord, CredentialRecord, Export as Request, ExportedRecord, Kind, Record, RetiringPatch, Secret,
};
use keyward_proto::query::Mode;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::Context;
use super::args::Export;
use super::error::{CliError, Exit, section};
use super::forms::{Attributes, EndpointForm};
use super::new_file::Sink;
use super::output::{print, print_json};
use super::tables::escape;

/// A record with 32 attributes or 256 patterns fits, so that growing leaves no copy of a hash behind.
const LINE_CAPACITY: usize = 64 * 1024;

#[derive(Serialize)]
struct ExportForm<'a> {
    file: &'a str,
    records: u64,
    bytes: u64,
}

/// `export`
pub(super) fn export(context: &Context, args: &Export) -> Result<Exit, CliError> {
    let mut client = context.admin()?;
    let mut file = FileWriter::new(Sink::open(&args.out, args.with_hashes)?);
    client.export(Request { with_hashes: args.with_hashes }, |records| {
        records.iter().try_for_each(|record| file.write(record))
    })?;
    let to_stdout = matches!(file.sink, Sink::Stdout(_));
    let (records, bytes) = file.finish()?;
    let name = args.out.to_string_lossy();
    if to_stdout {
        return Ok(Exit::Done);
    }
    if context.json {
        print_json(&ExportForm { file: &name, records, bytes })?;
    } else {
        print(&format!("{}: {records} records\n", escape(&name)))?;
    }
    Ok(Exit::Done)
}

/// Writes an apply file record by record, one a line.
struct FileWriter {
    sink: Sink,
    /// Sections that were begun.
    begun: usize,
    records: u64,
    is_first: bool,
    /// Wiped when dropped: it holds hashes.
    line: Zeroizing<Vec<u8>>,
}

impl FileWriter {
    fn new(sink: Sink) -> Self {
        let line = Zeroizing::new(Vec::with_capacity(LINE_CAPACITY));
        Self { sink, begun: 0, records: 0, is_first: true, line }
    }

    fn write(&mut self, record: &ExportedRecord) -> Result<(), CliError> {
        let kind = match &record.record {
            Record::Agent(_) => Kind::Agent,
            Record::Endpoint(_) => Kind::Endpoint,
            Record::Credential(credential) => Kind::from(credential.mode),
        };
        self.begin_up_to(kind as usize)?;
        self.sink.write(if self.is_first { b"\n  " } else { b",\n  " })?;
        self.line.clear();
        serde_json::to_writer(&mut *self.line, &RecordForm(record))
            .expect("the forms hold strings, numbers and lists, and string keys only");
        self.sink.write(&self.line)?;
        self.is_first = false;
        self.records += 1;
        Ok(())
    }

    /// Begins all sections up to the one in this place; the records come in their order.
    fn begin_up_to(&mut self, place: usize) -> Result<(), CliError> {
        while self.begun <= place {
            let name = section(Kind::ALL[self.begun]);
            let before = if self.begun == 0 { "{\n" } else { "\n],\n" };
            self.sink.write(format!("{before}\"{name}\": [").as_bytes())?;
            self.begun += 1;
            self.is_first = true;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(u64, u64), CliError> {
        self.begin_up_to(Kind::ALL.len() - 1)?;
        self.sink.write(b"\n]\n}\n")?;
        Ok((self.records, self.sink.finish()?))
    }
}

/// A record as the apply file has it: with every field, so that it is then as it was here.
struct RecordForm<'a>(&'a ExportedRecord);

impl Serialize for RecordForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ExportedRecord { record, hash, retiring } = self.0;
        match record {
            Record::Agent(agent) => AgentForm::new(agent).serialize(serializer),
            Record::Endpoint(endpoint) => EndpointForm::new(endpoint).serialize(serializer),
            Record::Credential(credential) => {
                CredentialForm::new(credential, hash.as_ref(), retiring.as_ref()).serialize(serializer)
            }
        }
    }
}

#[derive(Serialize)]
struct AgentForm<'a> {
    id: u64,
    name: &'a str,
    permissions: &'a str,
    enabled: bool,
    attributes: Attributes<'a>,
}

impl<'a> AgentForm<'a> {
    fn new(agent: &'a AgentRecord) -> Self {
        let AgentRecord { id, name, permissions, enabled, attributes, state: _ } = agent;
        Self { id: *id, name, permissions, enabled: *enabled, attributes: Attributes(attributes) }
    }
}

/// `None` outside is a field that this record can't have; inside, one that is cleared.
#[derive(Serialize)]
struct CredentialForm<'a> {
    id: u64,
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retiring: Option<RetiringForm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    superuser: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_agent: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    tags: &'a str,
    enabled: bool,
    revoked: bool,
    not_before: Option<u64>,
    expires_at: Option<u64>,
    allow_ip: Option<&'a [String]>,
    rate: Option<&'a str>,
}

#[derive(Serialize)]
struct RetiringForm<'a> {
    hash: &'a str,
    until: u64,
}

impl<'a> CredentialForm<'a> {
    fn new(record: &'a CredentialRecord, hash: Option<&'a Secret>, retiring: Option<&'a RetiringPatch>) -> Self {
        let (is_key, is_token) = match record.mode {
            Mode::Key => (true, false),
            Mode::Token => (false, true),
            Mode::Session => (false, false),
        };
        Self {
            id: record.id,
            label: &record.label,
            hash: hash.map(text),
            retiring: retiring.map(|code| RetiringForm { hash: text(&code.hash), until: code.until }),
            superuser: is_key.then_some(record.superuser),
            agent: record.agent,
            default_agent: record.superuser.then_some(record.default_agent),
            app_id: is_token.then_some(record.app_id),
            parent: record.parent.map(|parent| parent.to_string()),
            tags: &record.tags,
            enabled: record.enabled,
            revoked: record.revoked,
            not_before: record.not_before,
            expires_at: record.expires_at,
            allow_ip: record.allow_ip.as_deref(),
            rate: record.rate.as_deref(),
        }
    }
}

/// The daemon writes hashes as ASCII; what is none is refused by the apply.
fn text(hash: &Secret) -> &str {
    std::str::from_utf8(hash.expose()).unwrap_or_default()
}
