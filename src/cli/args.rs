//! The command line as clap types: what can be said, and nothing of what it does.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};

use super::times;
use crate::config::parse_duration;

mod bench;
mod endpoint;
mod key_import;

pub(super) use bench::{Bench, BenchCommand, BenchLoad, BenchRun};
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

const EXIT_STATUS: &str = "Exit status: 0 done or allowed, 1 denied, 2 wrong usage or refused input, 3 daemon \
                           unreachable, 4 fault or unavailable.";

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
    /// The daemon's state
    Status,
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

/// The id of one record.
#[derive(Args)]
pub struct OneId {
    /// Its id
    #[arg(value_parser = id)]
    pub id: u64,
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
    Enable(OneId),
    /// Let no request run as it until it is enabled
    Disable(OneId),
    /// Remove an agent for good; refused while a credential names it
    Remove(OneId),
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
}

/// `key …`
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Add a key; its code is printed once
    #[command(after_help = TIME_HELP)]
    Add(KeyAdd),
    /// All keys
    List,
    /// One key
    Show(OneId),
    /// Change a key; what is not given stays
    #[command(after_help = TIME_HELP)]
    Set(KeySet),
    /// Accept it again
    Enable(OneId),
    /// Refuse it until it is enabled
    Disable(OneId),
    /// Refuse it for ever
    Revoke(OneId),
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
}

/// `token …`
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Issue a token; its code is printed once
    Issue(TokenIssue),
    /// All tokens
    List,
    /// One token
    Show(OneId),
    /// Refuse it for ever
    Revoke(OneId),
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
}

/// `session …`
#[derive(Subcommand)]
pub enum SessionCommand {
    /// Open a session; its code is printed once
    Open(SessionOpen),
    /// All sessions
    List,
    /// One session
    Show(OneId),
    /// Close it for ever
    Close(OneId),
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
