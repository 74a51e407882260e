//! `bench`: fills a daemon with a world made for measuring.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use super::Context;
use super::args::{BenchCommand, BenchLoad};
use super::error::{CliError, Exit};
use super::output::{print, print_json};
use crate::bench::load::{self, LoadError, Progress};
use crate::bench::world::{Sizes, World, WorldError};

/// Between two lines that say how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// `bench …`
pub(super) fn run(context: &Context, command: &BenchCommand) -> Result<Exit, CliError> {
    match command {
        BenchCommand::Load(args) => fill(context, args),
    }
}

#[derive(Serialize)]
struct LoadForm {
    records: u64,
    seconds: f64,
    records_per_second: f64,
}

fn fill(context: &Context, args: &BenchLoad) -> Result<Exit, CliError> {
    let usual = Sizes::of_keys(args.keys);
    let sizes = Sizes {
        keys: args.keys,
        agents: args.agents.unwrap_or(usual.agents),
        endpoints: args.endpoints.unwrap_or(usual.endpoints),
        sets: args.sets.unwrap_or(usual.sets),
    };
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).map_err(|e| CliError::Input(format!("no world made: no random numbers: {e}")))?;
    let world = World::new(seed, sizes)?;
    let mut client = context.admin()?;
    load::expect_empty(&mut client)?;
    world.write(&args.world)?;
    let mut told_at = Duration::ZERO;
    let done = load::load(&world, &mut client, |progress| {
        if progress.elapsed >= told_at + TOLD_EVERY {
            told_at = progress.elapsed;
            tell(progress);
        }
    })?;
    let form =
        LoadForm { records: done.records, seconds: done.elapsed.as_secs_f64(), records_per_second: done.per_second() };
    if context.json {
        print_json(&form)?;
    } else {
        print(&format!(
            "loaded {} records in {:.1} s, {:.0}/s\n",
            form.records, form.seconds, form.records_per_second
        ))?;
    }
    Ok(Exit::Done)
}

/// Nobody misses a line that can't be written.
fn tell(progress: Progress) {
    let Progress { records, of, .. } = progress;
    let _ = writeln!(std::io::stderr(), "{records} of {of} records, {:.0}/s", progress.per_second());
}

impl From<WorldError> for CliError {
    fn from(error: WorldError) -> Self {
        Self::Input(error.to_string())
    }
}

impl From<LoadError> for CliError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::NotEmpty { records } => Self::Input(format!(
                "nothing loaded: the daemon holds {records} records already, and a world whose codes a file tells \
                 belongs in a daemon of its own; start one with --data and --runtime on empty directories"
            )),
            LoadError::Refused(refused) => Self::Refused(refused),
            LoadError::Client(error) => error.into(),
            LoadError::OtherReply => Self::OtherReply,
        }
    }
}
