//! `key import`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `key import`
#[derive(Args)]
pub struct KeyImport {
    /// CSV or JSON lines, as its name says (.csv, .jsonl, .ndjson), or `-` for standard input
    pub file: PathBuf,
    /// How it is written, where its name doesn't say
    #[arg(long, value_enum)]
    pub format: Option<ImportFormat>,
    /// Say what it comes to and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Leave out the lines before this one; the header is read in any case
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub from_line: u64,
}

/// How a file of keys is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// A header line that names the columns, then a key a line
    Csv,
    /// An object a line, as in the section `keys` of an apply file
    Jsonl,
}

/// Behind the options of `key import`.
pub(super) const KEY_IMPORT_HELP: &str = "\
Columns of CSV: id, and any of label, code, hash, agent, superuser, default_agent, tags, enabled, revoked, not_before, \
expires_at, allow_ip, rate. An empty cell gives nothing; `never`, `none` and `any` clear.

In place of a code its hash may stand: sha256:… or sha512:… (hex or base64) of the code, sha256-id-code:… or \
sha512-id-code:… of `ID:CODE`, bcrypt as $2b$…, argon2id as $argon2id$v=19$…. Each is replaced by Keyward's own at the \
key's first use.

Agents that keys name must be there. What is accepted is committed in parts: an import that was cut off, or had refused \
lines, is run again; what is so already is left as it is. Exit status 2 when a line was refused.";
