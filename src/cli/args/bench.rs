//! `bench`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::bench::questions::Mix;
use crate::config::parse_duration;

/// Far more than a host's workers hold open.
const CONNECTIONS_MAX: u64 = 100_000;
/// No client writes so many at once.
const DEPTH_MAX: u64 = 4_096;
/// One machine does not ask more in a second.
const RATE_MAX: f64 = 1e8;
/// The weights of Zipf's law fall off so fast at this that one id is nearly all.
const THETA_MAX: f64 = 10.0;

/// `bench …`
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Bench {
    /// Filling a daemon.
    #[command(subcommand)]
    pub load: Option<BenchCommand>,
    /// How to ask.
    #[command(flatten)]
    pub run: Option<BenchRun>,
}

/// `bench`
#[derive(Args)]
pub struct BenchRun {
    /// The world that `bench load` wrote down
    #[arg(long, value_name = "FILE", required = true)]
    pub world: PathBuf,
    /// Connections that ask at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    pub connections: u64,
    /// Requests that each writes at once before it waits for all their answers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=DEPTH_MAX))]
    pub depth: u64,
    /// How long to measure
    #[arg(long, value_name = "N", default_value = "5", value_parser = seconds)]
    pub seconds: Duration,
    /// How long to ask before that
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub warm_up: Duration,
    /// Ask so many a second, and count latency from when each was due [default: each connection as fast as it is answered]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub rate: Option<f64>,
    /// Ask for some keys more often than for others, by Zipf's law with this exponent, like 0.99 [default: for all alike]
    #[arg(long, value_name = "T", value_parser = theta)]
    pub zipf: Option<f64>,
    /// Per cent of questions with the right code and an endpoint that is allowed, that is not; with a wrong code; with the id of no key
    #[arg(long, value_name = "A,R,W,U", default_value_t = Mix::ALLOWED, value_parser = Mix::parse)]
    pub mix: Mix,
    /// Hold the asking thread on this core
    #[arg(long, value_name = "CORE")]
    pub pin: Option<usize>,
    /// Hold the daemon's threads on this core meanwhile
    #[arg(long, value_name = "CORE")]
    pub pin_server: Option<usize>,
}

/// `bench load`
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

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = within(text, 0.001..=86_400.0)?;
    Ok(Duration::from_secs_f64(seconds))
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.1..=RATE_MAX)
}

fn theta(text: &str) -> Result<f64, String> {
    within(text, 0.0..=THETA_MAX)
}

fn within(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()))
}
