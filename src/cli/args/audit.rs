//! `audit …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::times;
use crate::config::parse_duration;

const AUDIT_HELP: &str = "Times T: 2h for two hours ago, unix seconds, or RFC 3339 with an offset. With --json a line is a \
                          record with its hashes: what `keyward audit verify FILE` checks.";

/// `audit`
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AUDIT_HELP)]
pub struct Audit {
    /// Check it instead
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
    /// None of before
    #[arg(long, value_name = "T", value_parser = time_or_ago)]
    pub since: Option<u64>,
    /// None up to the record of this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub after: u64,
    /// Wait for more and print them as they come
    #[arg(long)]
    pub follow: bool,
}

/// `audit …`
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Find records that were altered, removed or put elsewhere
    Verify {
        /// What `keyward audit --json` printed, checked without the daemon; `-` reads standard input
        file: Option<PathBuf>,
    },
}

fn time_or_ago(text: &str) -> Result<u64, String> {
    match parse_duration(text) {
        Ok(ago) => Ok(times::now().saturating_sub(ago.as_secs())),
        Err(_) => times::parse_time(text, times::now()),
    }
}
