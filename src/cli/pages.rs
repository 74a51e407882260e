//! What needs no daemon: completions, manual pages, a look at the configuration.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;

use super::error::{CliError, Exit};
use super::output::{print, print_json};
use super::tables::escape;
use super::{Cli, Context, refused_config};
use crate::config::{Config, DEFAULT_CONFIG_FILE};

/// `completions SHELL`
pub(super) fn completions(shell: Shell) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "keyward", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// `man DIR`
pub(super) fn manual(directory: &Path) -> Result<Exit, CliError> {
    let unwritten = |cause| CliError::Unwritten { file: directory.to_owned(), cause };
    std::fs::create_dir_all(directory).map_err(unwritten)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(unwritten)?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct ConfigForm<'a> {
    ok: bool,
    file: Option<&'a str>,
}

/// `config check`
pub(super) fn config_check(context: &Context, named: Option<&Path>) -> Result<Exit, CliError> {
    Config::load(named).map_err(refused_config)?;
    let default = Path::new(DEFAULT_CONFIG_FILE);
    let file = named.or_else(|| default.exists().then_some(default)).map(Path::to_string_lossy);
    if context.json {
        print_json(&ConfigForm { ok: true, file: file.as_deref() })?;
    } else if let Some(file) = file {
        print(&format!("{}: ok\n", escape(&file)))?;
    } else {
        print(&format!("{DEFAULT_CONFIG_FILE} does not exist; the defaults apply\n"))?;
    }
    Ok(Exit::Done)
}
