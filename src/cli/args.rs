//! The command line as clap types: what can be said, and nothing of what it does.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};

use super::times;
use crate::config::parse_duration;

mod audit;
mod backup;
mod bench;
mod credential;
mod endpoint;
mod key_import;

pub(super) use audit::{Audit, AuditCommand};
pub(super) use backup::{Backup, Export, Restore};
pub(super) use bench::{Bench, BenchCommand, BenchLoad, BenchRun};
pub(super) use credential::{CredentialList, Rotate};
use credential::{LIST_HELP, ROTATE_HELP};
pub(super) use endpoint::{EndpointCommand, EndpointImport, EndpointList};
pub(super) use key_import::{ImportFormat, KeyImport};

/// Ids that can be written are at most this (2^53 - 1), safe in every language.
const ID_MAX: u64 = (1 << 53) - 1;

/// Under this the options that every command takes are listed.
const GLOBAL: &str = "Options of every command";

/// A local auth daemon: who is this, and may they call this endpoint?
#[derive(Parser)]
#[command(name = "keyward", version, after_help = EXIT_STATUS)]
pub struct Cli {
    /// Directory of the daemon's sockets [default: /run/keyward]
    #[arg(long, global = true, help_heading = GLOBAL, env = "KEYWARD_RUNTIME", hide_env_values = true, value_name = "DIR")]
    pub runtime: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Whether this is the daemon's own command.
    #[must_use]
    pub const fn serves(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }
}

const EXIT_STATUS: &str = "Exit status: 0 done or allowed, 1 denied, 2 wrong usage or refused input, 3 daemon \
                           unreachable, 4 fault or unavailable.";

const DOCTOR_HELP: &str = "Exit status: 0 when no problem was found, warnings or not; 4 when there is one. Run it as root, \
                           who may read everything.";

const SET_HELP: &str =
    "A SET is patterns separated by commas or newlines (tickets.*, -*.delete), or a JSON array of them.";

const TIME_HELP: &str =
    "Times T: unix seconds, RFC 3339 with an offset, or +30d from now. Durations: a number and s, m, h or d.";

/// Every command.
#[derive(Subcommand)]
pub enum Command {
    /// Run the daemon
    Serve(Serve),
    /// A daemon on a temporary directory with sample records, and commands to try
    Quickstart,
    /// Agents: the users that requests run as
    #[command(subcommand, after_help = SET_HELP)]
    Agent(AgentCommand),
    /// API keys
    #[command(subcommand, after_help = SET_HELP)]
    Key(KeyCommand),
    /// API tokens
    #[command(subcommand, after_help = SET_HELP)]
    Token(TokenCommand),
    /// Sessions
    #[command(subcommand)]
    Session(SessionCommand),
    /// Endpoints: which tags a method and path need
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Tag sets, offline
    #[command(subcommand, after_help = SET_HELP)]
    Tags(TagsCommand),
    /// Ask: may they? With neither METHOD PATH nor --tag: who is it?
    Check(Check),
    /// Every step of a decision; needs no code
    Explain(Explain),
    /// Make the daemon hold what the file says, in one transaction
    Apply(Apply),
    /// Every change, who made it and when
    Audit(Audit),
    /// Write what the daemon holds as an apply file
    #[command(after_help = backup::EXPORT_HELP)]
    Export(Export),
    /// Write everything the daemon holds to a file
    #[command(after_help = backup::BACKUP_HELP)]
    Backup(Backup),
    /// Make a database of a backup; without a daemon
    #[command(after_help = backup::RESTORE_HELP)]
    Restore(Restore),
    /// The daemon's state
    Status,
    /// Look for what is wrong with an installation, and say what to do; works without the daemon, too
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Doctor),
    /// Measure how fast the daemon answers
    Bench(Bench),
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one a command
    Man {
        /// Directory to write them to
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// `serve`
#[derive(Args)]
pub struct Serve {
    /// Configuration file [default: /etc/keyward/keyward.toml where it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the database [default: /var/lib/keyward]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// `doctor`
#[derive(Args)]
pub struct Doctor {
    /// Configuration file [default: /etc/keyward/keyward.toml where it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the database [default: /var/lib/keyward]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Whether this user may ask, and if not, why; www-data, say
    #[arg(long, value_name = "NAME", conflicts_with = "accept_clock")]
    pub user: Option<String>,
    /// With the daemon stopped: after the system's clock was far ahead by mistake, let the time start from it again
    #[arg(long)]
    pub accept_clock: bool,
}

/// The id of one record.
#[derive(Args)]
pub struct OneId {
    /// Its id
    #[arg(value_parser = id)]
    pub id: u64,
}

/// The id of one record that may be changed.
#[derive(Args)]
pub struct ChangedId {
    /// Its id
    #[arg(value_parser = id)]
    pub id: u64,
    /// Print which endpoints which credentials would gain and lose, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `agent …`
#[derive(Subcommand)]
pub enum AgentCommand {
    /// Add an agent
    #[command(after_help = SET_HELP)]
    Add(AgentAdd),
    /// All agents
    List,
    /// One agent
    Show(OneId),
    /// Change an agent; what is not given stays
    #[command(after_help = SET_HELP)]
    Set(AgentSet),
    /// Let requests run as it again
    Enable(ChangedId),
    /// Let no request run as it until it is enabled; prints what no longer works
    Disable(ChangedId),
    /// Remove an agent for good; refused while a credential names it
    Remove(ChangedId),
}

/// `agent add`
#[derive(Args)]
pub struct AgentAdd {
    /// Display name
    pub name: String,
    /// What it may do; `*` for an administrator
    #[arg(long, value_name = "SET", allow_hyphen_values = true)]
    pub permissions: String,
    /// Its id [default: the next]
    #[arg(long, value_parser = id)]
    pub id: Option<u64>,
    /// An attribute; may be repeated
    #[arg(long = "attribute", value_name = "K=V", allow_hyphen_values = true)]
    pub attributes: Vec<String>,
}

/// `agent set`
#[derive(Args)]
pub struct AgentSet {
    /// Its id
    #[arg(value_parser = id)]
    pub id: u64,
    /// Display name
    #[arg(long, allow_hyphen_values = true)]
    pub name: Option<String>,
    /// What it may do
    #[arg(long, value_name = "SET", allow_hyphen_values = true)]
    pub permissions: Option<String>,
    /// The attributes, which replace all it has; `none` alone clears them
    #[arg(long = "attribute", value_name = "K=V", allow_hyphen_values = true)]
    pub attributes: Vec<String>,
    /// Print which endpoints which credentials would gain and lose, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `key …`
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Add a key; its code is printed once
    #[command(after_help = TIME_HELP)]
    Add(KeyAdd),
    /// All keys, or those that are unused or expire soon
    #[command(after_help = LIST_HELP)]
    List(CredentialList),
    /// One key
    Show(OneId),
    /// Change a key; what is not given stays
    #[command(after_help = TIME_HELP)]
    Set(KeySet),
    /// Give it a new code under the same id; the new code is printed once
    #[command(after_help = ROTATE_HELP)]
    Rotate(Rotate),
    /// Accept it again
    Enable(ChangedId),
    /// Refuse it until it is enabled
    Disable(ChangedId),
    /// Refuse it for ever
    Revoke(ChangedId),
    /// Take over keys from a file, with their codes or other systems' hashes of them
    #[command(after_help = key_import::KEY_IMPORT_HELP)]
    Import(KeyImport),
}

/// `key add`
#[derive(Args)]
#[command(
    group(ArgGroup::new("owner").required(true).args(["agent", "superuser"])),
    mut_arg("default_agent", |arg| arg.requires("superuser"))
)]
pub struct KeyAdd {
    /// What it is for
    pub label: String,
    /// Its id [default: the next]
    #[arg(long, value_parser = id)]
    pub id: Option<u64>,
    /// The rest.
    #[command(flatten)]
    pub options: KeyOptions,
}

/// `key set`
#[derive(Args)]
pub struct KeySet {
    /// Its id
    #[arg(value_parser = id)]
    pub id: u64,
    /// What it is for
    #[arg(long, allow_hyphen_values = true)]
    pub label: Option<String>,
    /// Print which endpoints it would gain and lose, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The rest.
    #[command(flatten)]
    pub options: KeyOptions,
}

/// What `key add` and `key set` both take.
#[derive(Args)]
pub struct KeyOptions {
    /// The agent it acts as
    #[arg(long, value_name = "ID", value_parser = id, conflicts_with_all = ["superuser", "default_agent"])]
    pub agent: Option<u64>,
    /// It may act as any agent; the request names one
    #[arg(long)]
    pub superuser: bool,
    /// The agent a superuser key acts as when the request names none, or `none`
    #[arg(long, value_name = "ID", value_parser = id_or_none)]
    pub default_agent: Option<Given<u64>>,
    /// Read its code from standard input, one line
    #[arg(long)]
    pub code_stdin: bool,
    /// What it may be used for [new keys: *]
    #[arg(long, value_name = "SET", allow_hyphen_values = true)]
    pub tags: Option<String>,
    /// Not valid from then on, or `never`
    #[arg(long, value_name = "T", value_parser = time_or_never, allow_hyphen_values = true)]
    pub expires: Option<Given<u64>>,
    /// Not valid before, or `never` for no such limit
    #[arg(long, value_name = "T", value_parser = time_or_never, allow_hyphen_values = true)]
    pub not_before: Option<Given<u64>>,
    /// An address or block it may be used from, or `any`; may be repeated
    #[arg(long, value_name = "CIDR", allow_hyphen_values = true)]
    pub allow_ip: Vec<String>,
    /// Allow it so many requests in each second, minute, hour or day, as many at once, like 100/s, 60/m, 1000/h or
    /// 10000/d; `none` for any number
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,
}

/// `token …`
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Issue a token; its code is printed once
    Issue(TokenIssue),
    /// Make a token from a credential, which it can never outdo or outlive; its code is printed once
    Mint(TokenMint),
    /// All tokens, or those that are unused or expire soon
    #[command(after_help = LIST_HELP)]
    List(CredentialList),
    /// One token
    Show(OneId),
    /// Give it a new code under the same id; the new code is printed once
    #[command(after_help = ROTATE_HELP)]
    Rotate(Rotate),
    /// Refuse it, or all of an agent's, for ever
    Revoke(OneOrAgents),
}

/// One by its id, or all of an agent's.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct OneOrAgents {
    /// Its id
    #[arg(value_parser = id)]
    pub id: Option<u64>,
    /// All that are bound to this agent
    #[arg(long, value_name = "ID", value_parser = id)]
    pub agent: Option<u64>,
}

/// `token mint`
#[derive(Args)]
pub struct TokenMint {
    /// The credential that it is made from, as a request would present it, like 'key 2:…', or `-` to read it from
    /// standard input, where other users can't see it as they can see arguments. Each question with the token is judged by
    /// both, as they are then
    #[arg(long, value_name = "CREDENTIAL", allow_hyphen_values = true)]
    pub from: OsString,
    /// Expires so long from now, like 15m; it ends with what it is made from in any case
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub ttl: Duration,
    /// What it may be used for [default: *, all that the credential may do]
    #[arg(long, value_name = "SET", allow_hyphen_values = true)]
    pub tags: Option<String>,
    /// The agent it acts as [default: the one that the credential acts as]; another one with superuser keys only
    #[arg(long, value_name = "ID", value_parser = id)]
    pub agent: Option<u64>,
    /// The application it is for
    #[arg(long, value_name = "N", value_parser = id)]
    pub app: Option<u64>,
    /// What it is for
    #[arg(long, allow_hyphen_values = true)]
    pub label: Option<String>,
}

/// `token issue`
#[derive(Args)]
pub struct TokenIssue {
    /// What it is for
    pub label: String,
    /// The agent it acts as
    #[arg(long, value_name = "ID", value_parser = id)]
    pub agent: u64,
    /// The application it was issued to
    #[arg(long, value_name = "N", value_parser = id)]
    pub app: Option<u64>,
    /// Expires so long from now, like 30d [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub ttl: Option<Duration>,
    /// What it may be used for [default: *]
    #[arg(long, value_name = "SET", allow_hyphen_values = true)]
    pub tags: Option<String>,
    /// Allow it so many requests, like 100/s, 60/m, 1000/h or 10000/d [default: any number]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,
}

/// `session …`
#[derive(Subcommand)]
pub enum SessionCommand {
    /// Open a session; its code is printed once
    Open(SessionOpen),
    /// All sessions, or those that are unused or expire soon
    #[command(after_help = LIST_HELP)]
    List(CredentialList),
    /// One session
    Show(OneId),
    /// Close it, or all of an agent's, for ever
    Close(OneOrAgents),
}

/// `session open`
#[derive(Args)]
pub struct SessionOpen {
    /// The agent it acts as
    #[arg(long, value_name = "ID", value_parser = id)]
    pub agent: u64,
    /// Expires so long from now, like 8h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub ttl: Duration,
    /// Allow it so many requests, like 100/s, 60/m, 1000/h or 10000/d [default: any number]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,
}

/// `tags …`
#[derive(Subcommand)]
pub enum TagsCommand {
    /// Which pattern of SET decides, the TAGs taken as one endpoint's
    Test(TagsTest),
}

/// `tags test`
#[derive(Args)]
pub struct TagsTest {
    /// Patterns
    #[arg(allow_hyphen_values = true)]
    pub set: String,
    /// Tags
    #[arg(value_name = "TAG", required = true)]
    pub tags: Vec<String>,
}

/// `check`
#[derive(Args)]
pub struct Check {
    /// The credential as a request would present it, like 'key 2:…', or `-` to read it from standard input, where
    /// other users can't see it as they can see arguments. Left out: the request presents none
    #[arg(long, allow_hyphen_values = true)]
    pub credential: Option<OsString>,
    /// The agent as a request would name it; sent as typed
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub agent: Option<OsString>,
    /// The address the request comes from; sent as typed
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    pub ip: Option<OsString>,
    /// Tags to ask for instead of an endpoint, all taken as one endpoint's; may be repeated
    // No tag begins with a hyphen; were hyphens allowed, an option behind the tags would be taken for one more.
    #[arg(long = "tag", value_name = "TAG", num_args = 1..)]
    pub tags: Vec<OsString>,
    /// Like GET
    #[arg(requires = "path", conflicts_with = "tags")]
    pub method: Option<OsString>,
    /// Like /api/v2/tickets/7
    pub path: Option<OsString>,
}

/// `explain`
#[derive(Args)]
pub struct Explain {
    /// Whose.
    #[command(flatten)]
    pub credential: CredentialId,
    /// The agent as a request would name it; sent as typed
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub agent: Option<OsString>,
    /// The address the request comes from; sent as typed
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    pub ip: Option<OsString>,
    /// Like GET
    pub method: OsString,
    /// Like /api/v2/tickets/7
    pub path: OsString,
}

/// One credential by id.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct CredentialId {
    /// A key
    #[arg(long, value_name = "ID", value_parser = id)]
    pub key: Option<u64>,
    /// A token
    #[arg(long, value_name = "ID", value_parser = id)]
    pub token: Option<u64>,
    /// A session
    #[arg(long, value_name = "ID", value_parser = id)]
    pub session: Option<u64>,
}

/// `apply`
#[derive(Args)]
pub struct Apply {
    /// JSON, or what its name says: .toml, .yaml, .yml; `-` reads JSON from standard input
    pub file: PathBuf,
    /// Revoke and remove what the file's sections don't list
    #[arg(long)]
    pub prune: bool,
    /// Print the difference and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `config …`
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with a configuration file
    Check {
        /// Configuration file [default: /etc/keyward/keyward.toml where it exists]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// The value of an option that has a word for "no value".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<T> {
    /// `never` or `none`: clears the field.
    Clear,
    /// A value.
    Value(T),
}

impl<T> Given<T> {
    /// `None` to clear.
    pub fn into_option(self) -> Option<T> {
        match self {
            Self::Clear => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// An id is decimal, without sign or leading zero, 1 to 2^53 - 1.
fn id(text: &str) -> Result<u64, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    let number: Option<u64> = if digits { text.parse().ok() } else { None };
    number
        .filter(|number| *number <= ID_MAX)
        .ok_or_else(|| format!("an id is a whole number from 1 to {ID_MAX} without sign or leading zero"))
}

fn id_or_none(text: &str) -> Result<Given<u64>, String> {
    if text == "none" { Ok(Given::Clear) } else { id(text).map(Given::Value) }
}

fn time_or_never(text: &str) -> Result<Given<u64>, String> {
    if text == "never" { Ok(Given::Clear) } else { times::parse_time(text, times::now()).map(Given::Value) }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test may panic")]
mod tests;
