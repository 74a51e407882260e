//! Changes and listings: each command becomes one request on `admin.sock`, as typed; the daemon judges it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, CredentialPatch, Done, EndpointPatch, Kind, List, Patch, Reach, Record,
    Secret, Selector, WhatIf,
};
use keyward_proto::query::Mode;
use zeroize::Zeroizing;

use super::args::{
    AgentCommand, AgentSet, ChangedId, CredentialList, EndpointCommand, EndpointList, Given, KeyCommand, KeyOptions,
    KeySet, SessionCommand, TokenCommand,
};
use super::error::{CliError, Exit};
use super::forms::{RecordForm, RemovedForm};
use super::output::{Reader, json, print, print_json, print_new_code};
use super::tables::{Table, escape};
use super::{Context, delegation, import, input, key_import, records, rotate, times, what_if};
use crate::tags::TagRef;

/// Said where a new code is shown.
const SHOWN_ONCE: &str = "This is the only time it is shown: it can't be shown again. Put it where it belongs now.\n";

/// `agent …`
pub(super) fn agent(context: &Context, command: AgentCommand) -> Result<Exit, CliError> {
    match command {
        AgentCommand::Add(args) => {
            let patch = AgentPatch {
                id: args.id,
                name: Some(args.name),
                permissions: Some(input::set(&args.permissions)?),
                enabled: None,
                attributes: input::attributes(&args.attributes)?,
            };
            context.change(&AdminRequest::Add(Patch::Agent(patch)))
        }
        AgentCommand::List => list(context, Kind::Agent, None),
        AgentCommand::Show(one) => context.show(Selector::Agent(one.id)),
        AgentCommand::Set(args) => {
            let dry_run = args.dry_run;
            context.set(Patch::Agent(agent_set(args)?), dry_run)
        }
        AgentCommand::Enable(one) => context.set(switched_agent(one.id, true), one.dry_run),
        AgentCommand::Disable(ChangedId { id, dry_run: false }) => what_if::disable_agent(context, id),
        AgentCommand::Disable(ChangedId { id, dry_run: true }) => context.set(switched_agent(id, false), true),
        AgentCommand::Remove(one) => context.remove_unless(one.dry_run, Selector::Agent(one.id)),
    }
}

fn agent_set(args: AgentSet) -> Result<AgentPatch, CliError> {
    let permissions = args.permissions.as_deref().map(input::set).transpose()?;
    let attributes = input::attributes(&args.attributes)?;
    let patch = AgentPatch { id: Some(args.id), name: args.name, permissions, enabled: None, attributes };
    if patch == (AgentPatch { id: patch.id, ..AgentPatch::default() }) {
        return Err(nothing_to_change());
    }
    Ok(patch)
}

fn nothing_to_change() -> CliError {
    CliError::Input("nothing to change: no option is given; give what is to change, `--help` lists it".to_owned())
}

pub(super) fn switched_agent(id: u64, enabled: bool) -> Patch {
    Patch::Agent(AgentPatch { id: Some(id), enabled: Some(enabled), ..AgentPatch::default() })
}

/// `key …`
pub(super) fn key(context: &Context, command: KeyCommand) -> Result<Exit, CliError> {
    match command {
        KeyCommand::Add(args) => {
            let patch = CredentialPatch { label: Some(args.label), ..CredentialPatch::new(Mode::Key, args.id) };
            context.change(&AdminRequest::Add(Patch::Credential(with_options(patch, args.options)?)))
        }
        KeyCommand::List(wanted) => list(context, Kind::Key, Some(wanted)),
        KeyCommand::Show(one) => context.show(Selector::Credential(Mode::Key, one.id)),
        KeyCommand::Set(args) => {
            let dry_run = args.dry_run;
            context.set(Patch::Credential(key_set(args)?), dry_run)
        }
        KeyCommand::Enable(one) => context.set(switched_key(one.id, true), one.dry_run),
        KeyCommand::Disable(one) => context.set(switched_key(one.id, false), one.dry_run),
        KeyCommand::Revoke(one) => context.remove_unless(one.dry_run, Selector::Credential(Mode::Key, one.id)),
        KeyCommand::Rotate(args) => rotate::rotate(context, Mode::Key, args),
        KeyCommand::Import(args) => key_import::import(context, &args),
    }
}

fn key_set(args: KeySet) -> Result<CredentialPatch, CliError> {
    let empty = CredentialPatch::new(Mode::Key, Some(args.id));
    let patch = with_options(CredentialPatch { label: args.label, ..empty.clone() }, args.options)?;
    if patch == empty { Err(nothing_to_change()) } else { Ok(patch) }
}

fn with_options(patch: CredentialPatch, options: KeyOptions) -> Result<CredentialPatch, CliError> {
    let superuser = if options.superuser { Some(true) } else { options.agent.map(|_| false) };
    let tags = options.tags.as_deref().map(input::set).transpose()?;
    let allow_ip = input::allow_ip(options.allow_ip)?;
    let code = if options.code_stdin { Some(code_from_stdin()?) } else { None };
    Ok(CredentialPatch {
        code,
        superuser,
        agent: options.agent,
        default_agent: options.default_agent.map(Given::into_option),
        tags,
        not_before: options.not_before.map(Given::into_option),
        expires_at: options.expires.map(Given::into_option),
        allow_ip,
        rate: options.rate.map(input::rate),
        ..patch
    })
}

pub(super) fn code_from_stdin() -> Result<Secret, CliError> {
    let mut line = input::secret_line()?;
    Ok(Secret::new(std::mem::take(&mut *line)))
}

fn switched_key(id: u64, enabled: bool) -> Patch {
    Patch::Credential(CredentialPatch { enabled: Some(enabled), ..CredentialPatch::new(Mode::Key, Some(id)) })
}

/// `token …`
pub(super) fn token(context: &Context, command: TokenCommand) -> Result<Exit, CliError> {
    match command {
        TokenCommand::Issue(args) => {
            let patch = CredentialPatch {
                label: Some(args.label),
                agent: Some(args.agent),
                app_id: args.app.map(Some),
                tags: args.tags.as_deref().map(input::set).transpose()?,
                expires_at: args.ttl.map(|ttl| Some(times::now() + ttl.as_secs())),
                rate: args.rate.map(input::rate),
                ..CredentialPatch::new(Mode::Token, None)
            };
            context.change(&AdminRequest::Add(Patch::Credential(patch)))
        }
        TokenCommand::List(wanted) => list(context, Kind::Token, Some(wanted)),
        TokenCommand::Show(one) => context.show(Selector::Credential(Mode::Token, one.id)),
        TokenCommand::Rotate(args) => rotate::rotate(context, Mode::Token, args),
        TokenCommand::Mint(args) => delegation::mint(context, args),
        TokenCommand::Revoke(which) => delegation::end(context, Mode::Token, &which),
    }
}

/// `session …`
pub(super) fn session(context: &Context, command: SessionCommand) -> Result<Exit, CliError> {
    match command {
        SessionCommand::Open(args) => {
            let patch = CredentialPatch {
                agent: Some(args.agent),
                expires_at: Some(Some(times::now() + args.ttl.as_secs())),
                rate: args.rate.map(input::rate),
                ..CredentialPatch::new(Mode::Session, None)
            };
            context.change(&AdminRequest::Add(Patch::Credential(patch)))
        }
        SessionCommand::List(wanted) => list(context, Kind::Session, Some(wanted)),
        SessionCommand::Show(one) => context.show(Selector::Credential(Mode::Session, one.id)),
        SessionCommand::Close(which) => delegation::end(context, Mode::Session, &which),
    }
}

/// `endpoint …`
pub(super) fn endpoint(context: &Context, command: EndpointCommand) -> Result<Exit, CliError> {
    match command {
        EndpointCommand::Add(args) => {
            let (method, path) = (args.endpoint.method, args.endpoint.path);
            let patch = EndpointPatch { method, path, tags: Some(args.tags), modes: args.modes };
            context.change(&AdminRequest::Add(Patch::Endpoint(patch)))
        }
        EndpointCommand::List(args) => endpoint_list(context, args),
        EndpointCommand::Import(args) => import::import(context, &args),
        EndpointCommand::Show(one) => context.show(Selector::Endpoint { method: one.method, path: one.path }),
        EndpointCommand::Remove(one) => context.remove(Selector::Endpoint { method: one.method, path: one.path }),
    }
}

impl Context {
    /// A change, and the record as it stands then.
    pub(super) fn change(&self, request: &AdminRequest) -> Result<Exit, CliError> {
        self.print_done(&self.done(request)?)?;
        Ok(Exit::Done)
    }

    /// The record that a change has left, with its new code.
    pub(super) fn print_done(&self, done: &Done) -> Result<(), CliError> {
        let record = done.record.as_ref().ok_or(CliError::OtherReply)?;
        match &done.credential {
            Some(credential) => self.print_added(record, credential),
            None => self.print_record(record),
        }
    }

    fn set(&self, patch: Patch, dry_run: bool) -> Result<Exit, CliError> {
        if dry_run { what_if::tell(self, WhatIf::Set(patch)) } else { self.change(&AdminRequest::Set(patch)) }
    }

    fn remove_unless(&self, dry_run: bool, selector: Selector) -> Result<Exit, CliError> {
        if dry_run { what_if::tell(self, WhatIf::Remove(selector)) } else { self.remove(selector) }
    }

    fn show(&self, selector: Selector) -> Result<Exit, CliError> {
        self.change(&AdminRequest::Show(selector))
    }

    /// A removed record is gone; a revoked one stays to be shown.
    pub(super) fn remove(&self, selector: Selector) -> Result<Exit, CliError> {
        let done = self.done(&AdminRequest::Remove(selector.clone()))?;
        match &done.record {
            Some(record) => self.print_record(record)?,
            None if self.json => drop(print_json(&RemovedForm::new(&selector))?),
            None => drop(print(&format!("removed: {}\n", escape(&records::name(&selector))))?),
        }
        Ok(Exit::Done)
    }

    pub(super) fn done(&self, request: &AdminRequest) -> Result<Done, CliError> {
        let AdminReply::Done(done) = self.call(request)? else {
            return Err(CliError::OtherReply);
        };
        Ok(done)
    }

    fn print_record(&self, record: &Record) -> Result<(), CliError> {
        if self.json { print_json(&RecordForm::new(record, None)) } else { print(&records::show(record)) }.map(drop)
    }

    /// The one time that a code is printed.
    fn print_added(&self, record: &Record, credential: &Secret) -> Result<(), CliError> {
        let shown = str::from_utf8(credential.expose()).map_err(|_| CliError::OtherReply)?;
        let text = Zeroizing::new(if self.json {
            json(&RecordForm::new(record, Some(shown)))
        } else {
            format!("{}\ncredential  {shown}\n{SHOWN_ONCE}", records::show(record))
        });
        print_new_code(&text)
    }
}

/// All of one kind, or those that are wanted.
fn list(context: &Context, kind: Kind, wanted: Option<CredentialList>) -> Result<Exit, CliError> {
    let seconds = |of: fn(&CredentialList) -> Option<Duration>| wanted.as_ref().and_then(of).map(|time| time.as_secs());
    let (unused_for, expiring_in) = (seconds(|wanted| wanted.unused_for), seconds(|wanted| wanted.expiring_in));
    let request = |after| AdminRequest::List(List { kind, after, unused_for, expiring_in });
    print_pages(context, kind, request, |_| true)
}

fn endpoint_list(context: &Context, args: EndpointList) -> Result<Exit, CliError> {
    let covered = |record: &Record| match (&args.tag, record) {
        (Some(pattern), Record::Endpoint(endpoint)) => {
            let tags = endpoint.tags.iter().filter_map(|tag| TagRef::parse(tag.as_bytes()).ok());
            tags.into_iter().any(|tag| pattern.covers(tag))
        }
        (None, _) => true,
        (Some(_), Record::Agent(_) | Record::Credential(_)) => false,
    };
    let agent = args.agent.map(OsString::into_vec);
    let request = |after| match args.allowed_for {
        Some((mode, id)) => AdminRequest::Reach(Reach { mode, id, agent: agent.clone(), after }),
        None => AdminRequest::List(List::all(Kind::Endpoint, after)),
    };
    print_pages(context, Kind::Endpoint, request, covered)
}

/// Page by page, so that millions need no memory on either side.
fn print_pages(
    context: &Context,
    kind: Kind,
    request: impl Fn(Vec<u8>) -> AdminRequest,
    wanted: impl Fn(&Record) -> bool,
) -> Result<Exit, CliError> {
    let mut client = context.admin()?;
    let mut printer =
        if context.json { Printer::Json { first: true } } else { Printer::Table(Table::new(records::header(kind))) };
    let mut after = Vec::new();
    loop {
        let AdminReply::Page(mut page) = super::reply(client.call(&request(after))?)? else {
            return Err(CliError::OtherReply);
        };
        page.records.retain(&wanted);
        let text = printer.page(&page.records);
        if print(&text)? == Reader::Gone {
            return Ok(Exit::Done);
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    print(printer.end())?;
    Ok(Exit::Done)
}

enum Printer {
    Table(Table),
    Json { first: bool },
}

impl Printer {
    fn page(&mut self, page: &[Record]) -> String {
        match self {
            Self::Table(table) => table.lines(page.iter().map(records::row).collect()),
            Self::Json { first } => {
                let mut text = String::new();
                for record in page {
                    text.push_str(if std::mem::take(first) { "[\n" } else { ",\n" });
                    text.push_str(json(&RecordForm::new(record, None)).trim_end());
                }
                text
            }
        }
    }

    fn end(&self) -> &'static str {
        match self {
            Self::Table(_) => "",
            Self::Json { first: true } => "[]\n",
            Self::Json { first: false } => "\n]\n",
        }
    }
}
