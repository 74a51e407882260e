//! `backup`, `restore` and `export`

use std::path::PathBuf;

use clap::{ArgGroup, Args};

/// `backup`
#[derive(Args)]
#[command(group(ArgGroup::new("where").required(true).args(["file", "into"])))]
pub struct Backup {
    /// File to make; one that exists is refused. `-` writes to standard output
    pub file: Option<PathBuf>,
    /// Make a file in this directory, named for the time in UTC: keyward-20261122T030405Z.backup
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// When the new one is whole, remove the oldest of such names in DIR, so that N are left
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = clap::value_parser!(u16).range(1..))]
    pub keep: Option<u16>,
}

/// `restore`
#[derive(Args)]
pub struct Restore {
    /// A file that `keyward backup` wrote
    pub file: PathBuf,
    /// Configuration file [default: /etc/keyward/keyward.toml where it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the database to make, with the pepper in it [default: /var/lib/keyward]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Restore although changes are known that came later: what they revoked is in force again
    #[arg(long)]
    pub accept_rollback: bool,
}

/// `export`
#[derive(Args)]
pub struct Export {
    /// With the hashes of codes, so that another daemon with the same pepper takes it and gives the same answers
    #[arg(long)]
    pub with_hashes: bool,
    /// File to make; one that exists is refused [default: standard output, with hashes unless that is a terminal]
    #[arg(long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    pub out: PathBuf,
}

pub(super) const EXPORT_HELP: &str = "An apply file of one state: agents, endpoints, keys, tokens and sessions, revoked \
                                      and expired ones too. Without hashes it has no codes: it changes nothing here, and \
                                      elsewhere new credentials are refused for want of one. A file is made 0600.";

pub(super) const BACKUP_HELP: &str = "It holds hashes and never the pepper; it is made 0600, and gets its name when it is \
                                      whole. Questions and changes go on meanwhile.";

pub(super) const RESTORE_HELP: &str = "The daemon must not run, and the directory have no keyward.redb. Every row is \
                                       verified before the database gets its name. Run it as the directory's owner.";
