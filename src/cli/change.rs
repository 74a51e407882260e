//! Changes and listings: each command becomes one request on `admin.sock`, as typed; the daemon judges it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, CredentialPatch, Done, EndpointPatch, Kind, List, Patch, Reach, Record,
    Secret, Selector,
};
use keyward_proto::query::Mode;
use zeroize::Zeroizing;

use super::args::{
    AgentCommand, AgentSet, EndpointCommand, EndpointList, Given, KeyCommand, KeyOptions, KeySet, SessionCommand,
    TokenCommand,
};
use super::error::{CliError, Exit};
use super::forms::{RecordForm, RemovedForm};
use super::output::{Reader, json, print, print_json, print_new_code};
use super::tables::{Table, escape};
use super::{Context, import, input, key_import, records, times};
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
        AgentCommand::List => list(context, Kind::Agent),
        AgentCommand::Show(one) => context.show(Selector::Agent(one.id)),
        AgentCommand::Set(args) => context.change(&AdminRequest::Set(Patch::Agent(agent_set(args)?))),
        AgentCommand::Enable(one) => switch_agent(context, one.id, true),
        AgentCommand::Disable(one) => switch_agent(context, one.id, false),
        AgentCommand::Remove(one) => context.remove(Selector::Agent(one.id)),
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

fn switch_agent(context: &Context, id: u64, enabled: bool) -> Result<Exit, CliError> {
    let patch = AgentPatch { id: Some(id), enabled: Some(enabled), ..AgentPatch::default() };
    context.change(&AdminRequest::Set(Patch::Agent(patch)))
}

/// `key …`
pub(super) fn key(context: &Context, command: KeyCommand) -> Result<Exit, CliError> {
    match command {
        KeyCommand::Add(args) => {
            let patch = CredentialPatch { label: Some(args.label), ..CredentialPatch::new(Mode::Key, args.id) };
            context.change(&AdminRequest::Add(Patch::Credential(with_options(patch, args.options)?)))
        }
        KeyCommand::List => list(context, Kind::Key),
        KeyCommand::Show(one) => context.show(Selector::Credential(Mode::Key, one.id)),
        KeyCommand::Set(args) => context.change(&AdminRequest::Set(Patch::Credential(key_set(args)?))),
        KeyCommand::Enable(one) => switch_key(context, one.id, true),
        KeyCommand::Disable(one) => switch_key(context, one.id, false),
        KeyCommand::Revoke(one) => context.remove(Selector::Credential(Mode::Key, one.id)),
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
        ..patch
    })
}

fn code_from_stdin() -> Result<Secret, CliError> {
    let mut line = input::secret_line()?;
    Ok(Secret::new(std::mem::take(&mut *line)))
}

fn switch_key(context: &Context, id: u64, enabled: bool) -> Result<Exit, CliError> {
    let patch = CredentialPatch { enabled: Some(enabled), ..CredentialPatch::new(Mode::Key, Some(id)) };
    context.change(&AdminRequest::Set(Patch::Credential(patch)))
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
                ..CredentialPatch::new(Mode::Token, None)
            };
            context.change(&AdminRequest::Add(Patch::Credential(patch)))
        }
        TokenCommand::List => list(context, Kind::Token),
        TokenCommand::Show(one) => context.show(Selector::Credential(Mode::Token, one.id)),
        TokenCommand::Revoke(one) => context.remove(Selector::Credential(Mode::Token, one.id)),
    }
}

/// `session …`
pub(super) fn session(context: &Context, command: SessionCommand) -> Result<Exit, CliError> {
    match command {
        SessionCommand::Open(args) => {
            let patch = CredentialPatch {
                agent: Some(args.agent),
                expires_at: Some(Some(times::now() + args.ttl.as_secs())),
                ..CredentialPatch::new(Mode::Session, None)
            };
            context.change(&AdminRequest::Add(Patch::Credential(patch)))
        }
        SessionCommand::List => list(context, Kind::Session),
        SessionCommand::Show(one) => context.show(Selector::Credential(Mode::Session, one.id)),
        SessionCommand::Close(one) => context.remove(Selector::Credential(Mode::Session, one.id)),
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
    fn change(&self, request: &AdminRequest) -> Result<Exit, CliError> {
        let done = self.done(request)?;
        let record = done.record.as_ref().ok_or(CliError::OtherReply)?;
        match &done.credential {
            Some(credential) => self.print_added(record, credential)?,
            None => self.print_record(record)?,
        }
        Ok(Exit::Done)
    }

    fn show(&self, selector: Selector) -> Result<Exit, CliError> {
        self.change(&AdminRequest::Show(selector))
    }

    /// A removed record is gone; a revoked one stays to be shown.
    fn remove(&self, selector: Selector) -> Result<Exit, CliError> {
        let done = self.done(&AdminRequest::Remove(selector.clone()))?;
        match &done.record {
            Some(record) => self.print_record(record)?,
            None if self.json => drop(print_json(&RemovedForm::new(&selector))?),
            None => drop(print(&format!("removed: {}\n", escape(&records::name(&selector))))?),
        }
        Ok(Exit::Done)
    }

    fn done(&self, request: &AdminRequest) -> Result<Done, CliError> {
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

/// All of one kind.
fn list(context: &Context, kind: Kind) -> Result<Exit, CliError> {
    print_pages(context, kind, |after| AdminRequest::List(List { kind, after }), |_| true)
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
        None => AdminRequest::List(List { kind: Kind::Endpoint, after }),
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
