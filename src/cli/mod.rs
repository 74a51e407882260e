//! The command line: parses, asks the daemon over its sockets, prints.
//!
//! What is typed is sent as it is; the daemon judges it. Only `tags test`, `config check`, `audit verify FILE`,
//! `completions` and `man` work alone. `serve`, `quickstart`, `restore` and `doctor` are parsed here and carried out by
//! `main`, which knows the daemon.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use keyward_proto::admin::{self, AdminReply, AdminRequest};
use keyward_proto::client::{AdminClient, ApplyOutcome, QueryClient};

use crate::config::{Config, ConfigError, DEFAULT_RUNTIME_DIR, Source};

mod apply_file;
mod apply_forms;
mod args;
mod ask;
mod audit;
mod backup;
mod bench;
mod change;
mod delegation;
mod error;
mod export;
mod file;
mod forms;
mod import;
mod input;
mod key_import;
mod new_file;
mod openapi;
mod output;
mod pages;
mod planted;
mod records;
mod rotate;
mod series;
mod status;
mod tables;
mod times;
mod what_if;

pub use args::Cli;
pub use backup::{RestoredForm, tell_restored};
pub use error::{CliError, Exit};

use apply_file::ApplyFile;
use args::{Apply, Command, ConfigCommand, Doctor, Serve, TagsCommand};
use output::{print, print_json};

/// The admin socket's name in the runtime directory.
const ADMIN_SOCKET: &str = "admin.sock";
/// The query socket's name there.
const QUERY_SOCKET: &str = "query.sock";
/// Nearly every command is answered within a moment.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What `main` is to do.
pub enum Task {
    /// Run the daemon.
    Serve(Box<Config>, Source),
    /// Look at an installation.
    Doctor(DoctorTask),
    /// Run one on a temporary directory.
    Quickstart,
    /// Make a database of a backup.
    Restore(Box<Restore>),
    /// The command is carried out.
    Finished(Exit),
}

/// What to restore, and where.
pub struct Restore {
    /// The backup.
    pub file: PathBuf,
    /// Its data directory is where.
    pub config: Config,
    /// Restore an older state than the last acknowledged one.
    pub accept_rollback: bool,
    /// Print JSON.
    pub json: bool,
}

/// What `doctor` is to look at, and how to say it.
pub struct DoctorTask {
    /// Where the configuration comes from.
    pub source: Source,
    /// Whether this user may ask.
    pub user: Option<String>,
    /// Let the time start from the system's clock again.
    pub accept_clock: bool,
    /// Print JSON.
    pub json: bool,
}

/// Reads the command line.
///
/// # Errors
/// Wrong usage, or help and version, which clap returns as errors too. None shows a word that holds a credential.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words).map_err(|mut error| {
        let is_stray = matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::TooManyValues);
        for place in [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue] {
            if let Some(ContextValue::String(word)) = error.get(place)
                && (may_hold_credential(word) || (is_stray && may_be_code(word)))
            {
                error.insert(place, ContextValue::String(input::HIDDEN.to_owned()));
            }
        }
        error
    })
}

/// `key 2:…`, or a code that Keyward made, also in the wrong place: nothing else that is typed looks so.
fn may_hold_credential(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let has_scheme = |scheme: &&str| lower.find(*scheme).is_some_and(|start| lower[start..].contains(':'));
    ["key ", "token ", "session "].iter().any(has_scheme) || input::without_codes(word) != word
}

/// A word where none belongs, as in `--code-stdin CODE`: any that is no option and has a code's length.
fn may_be_code(word: &str) -> bool {
    const CODE_BYTES_MIN: usize = 8;
    word.len() >= CODE_BYTES_MIN && !word.starts_with('-')
}

/// Carries out a command, or says which of the daemon's it is.
///
/// # Errors
/// Why it was not carried out; [`CliError::exit`] is the exit status.
pub fn run(cli: Cli) -> Result<Task, CliError> {
    let runtime = cli.runtime.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_RUNTIME_DIR));
    let context = Context { runtime, json: cli.json };
    let exit = match cli.command {
        Command::Serve(Serve { config, data }) => {
            let source = Source { file: config, data, runtime: cli.runtime };
            let config = source.load().map_err(refused_config)?;
            return Ok(Task::Serve(Box::new(config), source));
        }
        Command::Doctor(Doctor { config, data, user, accept_clock }) => {
            let source = Source { file: config, data, runtime: cli.runtime };
            return Ok(Task::Doctor(DoctorTask { source, user, accept_clock, json: context.json }));
        }
        Command::Quickstart => return Ok(Task::Quickstart),
        Command::Restore(args) => return restore_task(args, &context),
        Command::Agent(command) => change::agent(&context, command)?,
        Command::Key(command) => change::key(&context, command)?,
        Command::Token(command) => change::token(&context, command)?,
        Command::Session(command) => change::session(&context, command)?,
        Command::Endpoint(command) => change::endpoint(&context, command)?,
        Command::Tags(TagsCommand::Test(args)) => ask::tags_test(&context, &args)?,
        Command::Check(args) => ask::check(&context, &args)?,
        Command::Explain(args) => ask::explain(&context, args)?,
        Command::Apply(args) => apply(&context, &args)?,
        Command::Audit(args) => audit::run(&context, &args)?,
        Command::Export(args) => export::export(&context, &args)?,
        Command::Backup(args) => backup::backup(&context, &args)?,
        Command::Status => status(&context)?,
        Command::Bench(args) => bench::run(&context, &args)?,
        Command::Config(ConfigCommand::Check { config }) => pages::config_check(&context, config.as_deref())?,
        Command::Completions { shell } => pages::completions(shell)?,
        Command::Man { directory } => pages::manual(&directory)?,
    };
    Ok(Task::Finished(exit))
}

fn restore_task(args: args::Restore, context: &Context) -> Result<Task, CliError> {
    let args::Restore { file, config, data, accept_rollback } = args;
    let config = Source { file: config, data, runtime: None }.load().map_err(refused_config)?;
    Ok(Task::Restore(Box::new(Restore { file, config, accept_rollback, json: context.json })))
}

fn refused_config(error: ConfigError) -> CliError {
    CliError::Input(error.to_string())
}

/// Where the daemon is, and how to print.
struct Context {
    runtime: PathBuf,
    json: bool,
}

impl Context {
    fn admin(&self) -> Result<AdminClient, CliError> {
        let socket = self.runtime.join(ADMIN_SOCKET);
        planted::refuse_planted(&socket)?;
        Ok(AdminClient::connect(&socket)?)
    }

    fn query(&self) -> Result<QueryClient, CliError> {
        let socket = self.runtime.join(QUERY_SOCKET);
        planted::refuse_planted(&socket)?;
        Ok(QueryClient::connect(&socket)?)
    }

    /// One request on a connection of its own.
    fn call(&self, request: &AdminRequest) -> Result<AdminReply, CliError> {
        let mut admin = self.admin()?;
        reply(reminded(|| admin.call(request))?)
    }
}

/// Waits for an answer, and after a while says why none may come: where systemd holds the sockets, connecting succeeds
/// without a daemon, too.
fn reminded<R>(ask: impl FnOnce() -> R) -> R {
    let (answered, waiting) = channel::<()>();
    let remind = move || {
        if waiting.recv_timeout(SILENCE_MAX) == Err(RecvTimeoutError::Timeout) {
            let _ = writeln!(
                std::io::stderr(),
                "keyward: no answer yet: the daemon is busy, or can't start while systemd holds its sockets (see: \
                 systemctl status keyward); still waiting"
            );
        }
    };
    // Without a thread nothing is said.
    let _ = std::thread::Builder::new().spawn(remind);
    let answer = ask();
    drop(answered);
    answer
}

/// A refusal is an error here.
fn reply(reply: AdminReply) -> Result<AdminReply, CliError> {
    if let AdminReply::Refused(refused) = reply { Err(CliError::Refused(refused)) } else { Ok(reply) }
}

fn apply(context: &Context, args: &Apply) -> Result<Exit, CliError> {
    let file = ApplyFile::read(&args.file)
        .map_err(|e| CliError::Input(format!("file refused: {}: {e}", args.file.display())))?;
    let sections = file.sections();
    let mut client = context.admin()?;
    let parts = client.upload(file.into_patches())?;
    let commit = admin::Apply { parts, sections, prune: args.prune, dry_run: args.dry_run };
    let report = match client.apply(&commit)? {
        ApplyOutcome::Report(report) => report,
        ApplyOutcome::Refused(refused) => return Err(CliError::Refused(refused)),
    };
    if context.json {
        print_json(&forms::ReportForm::new(&report))?;
    } else {
        print(&records::report(&report))?;
    }
    Ok(Exit::Done)
}

/// Reads the text of an apply file, whose name tells its syntax, without sending it: how many records it holds, or why
/// it is refused and where.
///
/// # Errors
/// It is no apply file; holds nothing of what may be a code.
pub fn read_apply_text(text: &[u8], name: &Path) -> Result<usize, String> {
    let file = ApplyFile::parse(text, file::Syntax::of(name)).map_err(|error| error.to_string())?;
    Ok(file.into_patches().count())
}

fn status(context: &Context) -> Result<Exit, CliError> {
    let AdminReply::Status(report) = context.call(&AdminRequest::Status)? else {
        return Err(CliError::OtherReply);
    };
    if context.json {
        print_json(&forms::StatusForm::new(&report))?;
    } else {
        print(&status::page(&report))?;
    }
    Ok(Exit::Done)
}
