//! `key import`: a file of keys, line by line, in parts that are committed by themselves.

mod csv;
mod lines;

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use keyward_proto::admin::{CredentialPatch, Patch};
use keyward_proto::client::ImportedPart;
use serde::Serialize;

use super::Context;
use super::apply_forms::{KeyForm, Object};
use super::args::{ImportFormat, KeyImport};
use super::error::{CliError, Exit};
use super::file::{self, FileError, Syntax};
use super::input::{HIDDEN, without_codes};
use super::output::{print, print_json};
use super::tables::escape;
use csv::Header;
use lines::{LINE_BYTES_MAX, Line, Lines};

/// So many refused lines are told one by one; the rest is counted.
const REFUSALS_SHOWN: usize = 100;
/// A word that is so long and has a digit may be a code or a hash in the wrong column.
const WORD_SHOWN_BYTES_MAX: usize = 20;

/// `key import FILE`
pub(super) fn import(context: &Context, args: &KeyImport) -> Result<Exit, CliError> {
    let mut source = Source::open(args)?;
    let mut client = context.admin()?;
    let progress = RefCell::new(Progress { from_line: args.from_line, ..Progress::default() });
    let patches = std::iter::from_fn(|| next_patch(&mut source, &progress));
    let outcome = client.import(patches, args.dry_run, |part| progress.borrow_mut().take(part));
    let progress = progress.into_inner();
    let report = progress.report(args.dry_run);
    if context.json {
        print_json(&report)?;
    } else {
        print(&report.words())?;
    }
    let cut_off = |why: &str| CliError::Input(format!("import cut off behind line {}: {why}", report.last_line));
    if outcome.is_err() {
        tell(&format!("the import was cut off; what it says is imported stands, run it again: {RESUME}"));
    }
    outcome?;
    match progress.broken {
        Some(error) => Err(cut_off(&format!("{error}; what is imported stands, run it again"))),
        None if report.refused > 0 => Ok(Exit::Refused),
        None => Ok(Exit::Done),
    }
}

const RESUME: &str = "what is so already is left as it is, --from-line leaves out what lies before";

/// The next key that can be sent; lines that are none are refused on the way.
fn next_patch(source: &mut Source, progress: &RefCell<Progress>) -> Option<Patch> {
    loop {
        let mut progress = progress.borrow_mut();
        match source.next() {
            Ok(None) => return None,
            Ok(Some((line, _))) if line < progress.from_line => {}
            Ok(Some((line, Ok(None)))) => progress.read_to = line,
            Ok(Some((line, Ok(Some(patch))))) => {
                progress.read_to = line;
                if let Some(id) = patch.id
                    && !progress.ids.insert(id)
                {
                    progress.refuse(line, &format!("key {id} is listed before: a key has one line"));
                    continue;
                }
                progress.sent.push_back(line);
                return Some(Patch::Credential(patch));
            }
            Ok(Some((line, Err(why)))) => {
                progress.read_to = line;
                progress.refuse(line, &why);
            }
            Err(error) => {
                progress.broken = Some(error);
                return None;
            }
        }
    }
}

/// A line's number, and the key on it; a blank line has none.
type NumberedKey = Option<(u64, Result<Option<CredentialPatch>, String>)>;

struct Source {
    lines: Lines<Box<dyn Read>>,
    /// None of JSON lines.
    header: Option<Header>,
}

impl Source {
    fn open(args: &KeyImport) -> Result<Self, CliError> {
        let refused = |why: String| CliError::Input(format!("file refused: {}: {why}", args.file.display()));
        let format = args.format.or_else(|| format_of(&args.file)).ok_or_else(|| {
            refused("its name does not say how it is written: give --format csv or --format jsonl".into())
        })?;
        let input: Box<dyn Read> = if args.file.as_os_str() == file::STDIN {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(&args.file).map_err(|error| refused(FileError::Unreadable(error).to_string()))?)
        };
        let mut lines = Lines::new(input);
        let header = match format {
            ImportFormat::Jsonl => None,
            ImportFormat::Csv => {
                let header = match lines.next().map_err(|error| refused(FileError::Unreadable(error).to_string()))? {
                    Some((_, Line::Text(text))) => Header::parse(text),
                    Some((_, Line::TooLong)) => Err(too_long()),
                    None => Err("it is empty: the first line names the columns".to_owned()),
                };
                Some(header.map_err(|why| refused(format!("line 1: {why}")))?)
            }
        };
        Ok(Self { lines, header })
    }

    fn next(&mut self) -> io::Result<NumberedKey> {
        let Some((number, line)) = self.lines.next()? else { return Ok(None) };
        let patch = match (line, &mut self.header) {
            (Line::TooLong, _) => Err(too_long()),
            (Line::Text(text), _) if text.trim_ascii().is_empty() => Ok(None),
            (Line::Text(text), Some(header)) => header.patch(text).map(Some),
            (Line::Text(text), None) => json_patch(text).map(Some),
        };
        Ok(Some((number, patch)))
    }
}

fn format_of(file: &Path) -> Option<ImportFormat> {
    match file.extension()?.to_str()? {
        "csv" => Some(ImportFormat::Csv),
        "jsonl" | "ndjson" => Some(ImportFormat::Jsonl),
        _ => None,
    }
}

fn too_long() -> String {
    format!("it is over {} KiB long", LINE_BYTES_MAX >> 10)
}

fn json_patch(line: &[u8]) -> Result<CredentialPatch, String> {
    match file::parse::<Object<KeyForm>>(line, Syntax::Json) {
        Ok(Object(form)) => Ok(form.into()),
        Err(FileError::Refused { column, why, .. }) => Err(format!("column {column}: {why}")),
        Err(error @ (FileError::Unreadable(_) | FileError::TooLarge { .. })) => Err(error.to_string()),
    }
}

/// How far an import has come.
#[derive(Default)]
struct Progress {
    from_line: u64,
    /// The last line that was read.
    read_to: u64,
    /// Whose keys were there: some tens of megabytes for a million.
    ids: HashSet<u64>,
    /// Lines whose keys are sent and not answered.
    sent: VecDeque<u64>,
    /// The last line whose key was answered.
    answered_to: u64,
    parts: u64,
    added: u64,
    changed: u64,
    unchanged: u64,
    refused: u64,
    refusals: Vec<RefusedLine>,
    broken: Option<io::Error>,
}

#[derive(Clone, Serialize)]
struct RefusedLine {
    line: u64,
    why: String,
}

impl Progress {
    fn refuse(&mut self, line: u64, why: &str) {
        self.refused += 1;
        if self.refusals.len() < REFUSALS_SHOWN {
            let why = escape(&without_secrets(why)).into_owned();
            tell(&format!("line {line}: {why}"));
            self.refusals.push(RefusedLine { line, why });
        } else if self.refusals.len() as u64 + 1 == self.refused {
            tell("further refused lines are counted only");
        }
    }

    /// Takes what became of a part, whose patches are the first that were sent.
    fn take(&mut self, part: ImportedPart) {
        let count = usize::try_from(part.patches).unwrap_or(usize::MAX).min(self.sent.len());
        let lines: Vec<u64> = self.sent.drain(..count).collect();
        let imported = part.imported;
        self.parts += 1;
        self.added += imported.added;
        self.changed += imported.changed;
        self.unchanged += imported.unchanged;
        let told = imported.refusals.len() as u64;
        for refusal in imported.refusals {
            let place = usize::try_from(refusal.index).ok().and_then(|index| lines.get(index));
            self.refuse(place.copied().unwrap_or_default(), &refusal.message);
        }
        self.refused += imported.refused.saturating_sub(told);
        self.answered_to = lines.last().copied().unwrap_or(self.answered_to);
    }

    fn report(&self, dry_run: bool) -> ReportForm {
        // When nothing waits for an answer, blank and refused lines at the end are dealt with, too.
        let last_line = if self.sent.is_empty() { self.read_to } else { self.answered_to };
        ReportForm {
            added: self.added,
            changed: self.changed,
            unchanged: self.unchanged,
            refused: self.refused,
            refusals: self.refusals.clone(),
            parts: self.parts,
            last_line,
            dry_run,
        }
    }
}

/// What an import came to.
#[derive(Serialize)]
struct ReportForm {
    added: u64,
    changed: u64,
    unchanged: u64,
    refused: u64,
    refusals: Vec<RefusedLine>,
    parts: u64,
    last_line: u64,
    dry_run: bool,
}

impl ReportForm {
    fn words(&self) -> String {
        let Self { added, changed, unchanged, refused, parts, last_line, .. } = self;
        let imported = added + changed + unchanged;
        let end = if self.dry_run {
            "a dry run: nothing was changed".to_owned()
        } else {
            format!("committed in {parts} part{}, to line {last_line}", if *parts == 1 { "" } else { "s" })
        };
        format!(
            "{imported} imported ({added} added, {changed} changed, {unchanged} unchanged), {refused} refused; {end}\n"
        )
    }
}

/// A line on standard error while the import goes on. Nobody may be reading it.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "keyward: {line}");
}

/// A message without what may be a code or a hash: where columns slipped, the daemon repeats one as a wrong tag or address.
fn without_secrets(message: &str) -> String {
    let may_be_secret =
        |word: &str| word.len() > WORD_SHOWN_BYTES_MAX && word.bytes().any(|byte| byte.is_ascii_digit());
    let words = without_codes(message);
    let shown = words.split(' ').map(|word| if may_be_secret(word) { HIDDEN } else { word });
    shown.collect::<Vec<_>>().join(" ")
}
