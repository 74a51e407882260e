//! `audit`: prints the daemon's audit, follows it, and checks it, or a file of it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use keyward_proto::admin::{AdminReply, AdminRequest, Audit as Ask, AuditPage, AuditVerdict};
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::args::{Audit, AuditCommand};
use super::error::{CliError, Exit};
use super::file::STDIN;
use super::output::{Reader, print, print_json};
use super::tables::escape;
use super::{Context, reply, times};
use crate::chain::Lines;

/// How long the daemon is asked to wait for a record before it is asked anew.
const WAIT_SECONDS: u32 = 20;
/// Changes of one record that people are shown before they are only counted.
const CHANGES_SHOWN: usize = 3;
/// The daemon's longest record has a mebibyte.
const LINE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// `audit …`
pub(super) fn run(context: &Context, args: &Audit) -> Result<Exit, CliError> {
    match &args.command {
        None => show(context, args),
        Some(AuditCommand::Verify { file: None }) => verify(context),
        Some(AuditCommand::Verify { file: Some(file) }) => verify_file(context, file),
    }
}

/// Page by page, so that millions need no memory on either side. Following it ends with the reader, or the daemon.
fn show(context: &Context, args: &Audit) -> Result<Exit, CliError> {
    let mut client = context.admin()?;
    let mut printer = Printer { json: context.json, names: HashMap::new() };
    let (mut after, since) = (args.after, args.since.unwrap_or(0));
    let wait_seconds = if args.follow { WAIT_SECONDS } else { 0 };
    loop {
        let ask = AdminRequest::Audit(Ask { after, since, wait_seconds });
        let AdminReply::AuditPage(page) = reply(client.call(&ask)?)? else {
            return Err(CliError::OtherReply);
        };
        if print(&printer.page(&page)?)? == Reader::Gone || !(page.more || args.follow) {
            return Ok(Exit::Done);
        }
        after = page.last;
    }
}

/// A record as the daemon wrote it; its hashes are for `audit verify`.
#[derive(Deserialize)]
struct Record {
    seq: u64,
    at: u64,
    uid: Option<u32>,
    action: String,
    part: u32,
    more: bool,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    kind: String,
    id: Value,
    from: Option<Map<String, Value>>,
    to: Option<Map<String, Value>>,
}

struct Printer {
    json: bool,
    /// What was looked up.
    names: HashMap<u32, String>,
}

impl Printer {
    fn page(&mut self, page: &AuditPage) -> Result<String, CliError> {
        let mut text = String::new();
        for line in &page.lines {
            if self.json {
                text.push_str(line);
            } else {
                let record: Record = serde_json::from_str(line).map_err(|_| CliError::OtherReply)?;
                text.push_str(&escape(&self.line(&record)));
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// When, which, who, what.
    fn line(&mut self, record: &Record) -> String {
        let who = record.uid.map_or("the daemon", |uid| self.names.entry(uid).or_insert_with(|| name(uid)));
        let part = match (record.part, record.more) {
            (1, false) => String::new(),
            (part, _) => format!(" (part {part})"),
        };
        let shown: Vec<String> = record.changes.iter().take(CHANGES_SHOWN).map(Change::told).collect();
        let more = match record.changes.len().saturating_sub(CHANGES_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (at, shown) = (times::format_time(record.at), shown.join("; "));
        format!("{at}  {}  {who}  {}{part}  {shown}{more}", record.seq, record.action)
    }
}

/// `www-data (33)`; a user may be gone, the number stays.
fn name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("{} ({uid})", user.name),
        Ok(None) | Err(_) => format!("user {uid}"),
    }
}

impl Change {
    /// `+`, `~` or `-` as in the report of an apply, what it is, and its fields.
    fn told(&self) -> String {
        let id = self.id.as_str().map_or_else(|| self.id.to_string(), str::to_owned);
        let name = format!("{} {id}", self.kind);
        match (&self.from, &self.to) {
            (None, Some(fields)) => format!("+ {name}: {}", told(fields)),
            (Some(fields), None) => format!("- {name}: {}", told(fields)),
            (Some(from), Some(to)) => {
                let field = |(field, from): (&String, &Value)| {
                    format!("{field} {from} -> {}", to.get(field).unwrap_or(&Value::Null))
                };
                format!("~ {name}: {}", from.iter().map(field).collect::<Vec<_>>().join(", "))
            }
            (None, None) => name,
        }
    }
}

fn told(fields: &Map<String, Value>) -> String {
    fields.iter().map(|(field, value)| format!("{field} {value}")).collect::<Vec<_>>().join(", ")
}

/// What a check came to.
#[derive(Serialize)]
struct CheckForm {
    whole: bool,
    first: Option<u64>,
    last: Option<u64>,
    hash: Option<String>,
    records: u64,
    faults: Vec<FaultForm>,
}

/// What is wrong: with a record of the daemon's, or with a line of a file.
#[derive(Serialize)]
struct FaultForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    what: String,
}

fn verify(context: &Context) -> Result<Exit, CliError> {
    let AdminReply::AuditVerdict(verdict) = context.call(&AdminRequest::VerifyAudit)? else {
        return Err(CliError::OtherReply);
    };
    let AuditVerdict { first, last, hash, records, faults, fault_count } = verdict;
    let (first, last) = if last < first { (None, None) } else { (Some(first), Some(last)) };
    let faults = faults.into_iter().map(|fault| FaultForm { seq: Some(fault.number), line: None, what: fault.what });
    let form = CheckForm { whole: fault_count == 0, first, last, hash, records, faults: faults.collect() };
    told_check(context, &form, fault_count)
}

/// Checks a file of lines; what lies before its first and behind its last can't be told from it.
fn verify_file(context: &Context, path: &Path) -> Result<Exit, CliError> {
    let unread = |e: io::Error| CliError::Input(format!("audit not read: {}: {e}; name a file", path.display()));
    let mut input: Box<dyn BufRead> = if path.as_os_str() == STDIN {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(unread)?))
    };
    let (mut lines, mut taken, mut faults) = (Lines::default(), 0, Vec::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut input).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).map_err(unread)? == 0 {
            break;
        }
        let text = str::from_utf8(&line).unwrap_or_default();
        if let Err(why) = lines.take(text.strip_suffix('\n').unwrap_or(text)) {
            faults.push(FaultForm { seq: None, line: Some(taken + 1), what: why.to_string() });
            break;
        }
        taken += 1;
    }
    if taken == 0 && faults.is_empty() {
        let why = "it holds no record; give what `keyward audit --json` printed";
        return Err(CliError::Input(format!("audit refused: {}: {why}", path.display())));
    }
    let form = CheckForm {
        whole: faults.is_empty(),
        first: lines.first,
        last: lines.last.map(|(number, _)| number),
        hash: lines.last.map(|(_, hash)| hash.to_string()),
        records: taken,
        faults,
    };
    let fault_count = form.faults.len() as u64;
    told_check(context, &form, fault_count)
}

fn told_check(context: &Context, form: &CheckForm, fault_count: u64) -> Result<Exit, CliError> {
    if context.json {
        print_json(form)?;
        return Ok(if form.whole { Exit::Done } else { Exit::Fault });
    }
    if !form.whole {
        return Err(CliError::BrokenAudit(broken(form, fault_count)));
    }
    let text = match (form.first, form.last, &form.hash) {
        (Some(first), Some(last), Some(hash)) => {
            format!("the audit is whole: {} records, {first} to {last}\nhash of the last: {hash}\n", form.records)
        }
        _ => "the audit is whole: it has no record\n".to_owned(),
    };
    print(&text)?;
    Ok(Exit::Done)
}

fn broken(form: &CheckForm, fault_count: u64) -> String {
    let mut text = String::new();
    for FaultForm { seq, line, what } in &form.faults {
        let place = seq.map(|seq| format!("record {seq}")).or(line.map(|line| format!("line {line}")));
        write!(text, "{}: {what}; ", place.unwrap_or_default()).expect("a String takes any text");
    }
    if fault_count > form.faults.len() as u64 {
        write!(text, "{fault_count} faults in all; ").expect("a String takes any text");
    }
    text + "keep it for examination, and compare it with an earlier copy"
}
