//! `endpoint …`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use keyward_proto::query::Mode;

use super::id;
use crate::tags::Pattern;

const IMPORT_HELP: &str = "Tags come from x-keyward-tags, else from the path: GET /api/v2/tickets is \
                           tickets.tickets.list. Modes come from x-keyward-modes, else from security. Tags and modes of \
                           an endpoint that exists stay, unless the file has x-keyward-tags or x-keyward-modes for it; \
                           endpoints that the file doesn't have stay too.";

/// `endpoint …`
#[derive(Subcommand)]
pub enum EndpointCommand {
    /// Add an endpoint
    Add(EndpointAdd),
    /// All endpoints, those with a tag, or those that a credential can reach
    List(EndpointList),
    /// One endpoint
    Show(OneEndpoint),
    /// Remove an endpoint
    Remove(OneEndpoint),
    /// Make endpoints of the operations in an OpenAPI file, in one transaction
    #[command(after_help = IMPORT_HELP)]
    Import(EndpointImport),
}

/// Names an endpoint.
#[derive(Args)]
pub struct OneEndpoint {
    /// Like GET
    pub method: String,
    /// Like /api/v2/tickets/{id}
    pub path: String,
}

/// `endpoint list`
#[derive(Args)]
pub struct EndpointList {
    /// Those with a tag that this covers, like tickets.* or *.delete
    #[arg(long, value_name = "PATTERN", value_parser = allowing_pattern)]
    pub tag: Option<Pattern>,
    /// Those that this credential can reach, like key:2, token:18 or session:7, wherever it may be used from
    #[arg(long, value_name = "MODE:ID", value_parser = credential_name)]
    pub allowed_for: Option<(Mode, u64)>,
    /// The agent as a request would name it
    #[arg(long, value_name = "ID", requires = "allowed_for", allow_hyphen_values = true)]
    pub agent: Option<OsString>,
}

/// `endpoint import`
#[derive(Args)]
pub struct EndpointImport {
    /// OpenAPI 3.0 or 3.1, JSON or YAML; `-` reads standard input
    pub file: PathBuf,
    /// Print what would come and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Leave out operations that can't be endpoints, instead of importing nothing
    #[arg(long)]
    pub skip_refused: bool,
}

/// `endpoint add`
#[derive(Args)]
pub struct EndpointAdd {
    /// Which one.
    #[command(flatten)]
    pub endpoint: OneEndpoint,
    /// What it does, like tickets.tickets.list
    #[arg(long, value_name = "T,T", value_delimiter = ',', required = true, allow_hyphen_values = true)]
    pub tags: Vec<String>,
    /// Who may call it: any of key, token and session, or public alone [default: key,token,session]
    #[arg(long, value_name = "M,M", value_delimiter = ',', allow_hyphen_values = true)]
    pub modes: Option<Vec<String>>,
}

fn allowing_pattern(text: &str) -> Result<Pattern, String> {
    let pattern = Pattern::parse(text).map_err(|error| error.to_string())?;
    if pattern.denies() {
        Err("leave out the leading `-`: it lists what a pattern covers".to_owned())
    } else {
        Ok(pattern)
    }
}

fn credential_name(text: &str) -> Result<(Mode, u64), String> {
    let (mode, number) = text.split_once(':').ok_or("write it as key:2, token:18 or session:7")?;
    let mode = [Mode::Key, Mode::Token, Mode::Session].into_iter().find(|known| known.name() == mode);
    Ok((mode.ok_or("write it as key:2, token:18 or session:7")?, id(number)?))
}
