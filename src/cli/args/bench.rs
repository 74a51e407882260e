//! `bench`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `bench …`
#[derive(Subcommand)]
pub enum BenchCommand {
    /// Fill the daemon, which must be empty, with keys made for measuring
    ///
    /// Agents, endpoints and tag sets come with them. Who has FILE can make the code of every one of these keys: such a
    /// world belongs in a daemon of its own.
    Load(BenchLoad),
}

/// `bench load`
#[derive(Args)]
pub struct BenchLoad {
    /// How many keys, up to ten million
    #[arg(long, value_name = "N")]
    pub keys: u64,
    /// How many agents [default: 100000, or one a key]
    #[arg(long, value_name = "N")]
    pub agents: Option<u64>,
    /// How many endpoints [default: 10000]
    #[arg(long, value_name = "N")]
    pub endpoints: Option<u64>,
    /// How many distinct tag sets [default: 1000, or one a key]
    #[arg(long, value_name = "N")]
    pub sets: Option<u64>,
    /// Where to write which world it is; must not exist
    #[arg(long, value_name = "FILE")]
    pub world: PathBuf,
}
