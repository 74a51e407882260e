//! Keyward by itself, from a thousand keys to ten million, under writes, under crowds, and at its start: `benches/scale`.
//!
//! What is compared takes turns round by round. The server runs on one core and the client on another, but at starts and
//! writes, where it has all.
#![allow(missing_docs, reason = "a program")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    dead_code,
    unreachable_pub,
    reason = "a measurement that can't go on ends, its numbers are small, and it uses its own part of what it shares"
)]

#[path = "../comparison/keyward_server.rs"]
mod keyward_server;
mod operations;
#[path = "../comparison/results.rs"]
mod results;
#[path = "../comparison/server.rs"]
mod server;
mod sessions;
mod sizes;
mod stress;
#[path = "../../tests/support/mod.rs"]
mod support;
mod writes;

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use results::Table;
use support::say;

#[derive(Parser)]
#[command(name = "benches/scale", about = "Keyward from a thousand keys to ten million, under writes and under crowds")]
pub struct Options {
    /// What to measure, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// The largest number of keys
    #[arg(long, default_value_t = 10_000_000)]
    keys: u64,
    /// Rounds; the medians count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Length of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Where the tables are written to, as Markdown; a dash for nowhere
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md"))]
    output: PathBuf,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Throughput, memory, import and start by number of keys
    Sizes,
    /// A writer, idle and slow connections, wrong codes
    Stress,
    /// Adding keys, one caller and many
    Writes,
    /// Opening sessions, and questions while a hundred thousand expired ones are removed
    Sessions,
    /// Questions while a backup is taken and while a million keys are imported
    Operations,
}

fn main() {
    let options = Options::parse();
    let machine = results::machine();
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let mut targets = Table::new(&["target", "figure", "measured", "needed; sought"]);
    let mut details = Vec::new();
    if wanted(Part::Sizes) {
        details.push(sizes::measure(&options, &mut targets));
    }
    if wanted(Part::Stress) {
        details.push(stress::measure(&options, &mut targets));
    }
    if wanted(Part::Writes) {
        details.push(writes::measure(&options, &mut targets));
    }
    if wanted(Part::Sessions) {
        details.extend(sessions::measure(&options, &mut targets));
    }
    if wanted(Part::Operations) {
        details.push(operations::measure(&options, &mut targets));
    }
    let introduction = format!(
        "{} Up to {} keys; {} rounds of {} s for each figure, in which what is compared took turns; medians. Server on one \
         core, client on another, one worker; at starts, imports and writes it has all cores and as many workers.",
        machine, options.keys, options.repeats, options.seconds
    );
    say(&format!("{introduction}\n\n{}", targets.text()));
    details.iter().for_each(|table| say(&table.text()));
    if options.output != Path::new("-") {
        let tables: Vec<String> = std::iter::once(&targets).chain(&details).map(Table::markdown).collect();
        results::put_section(
            &options.output,
            "Scale (`benches/scale`)",
            &format!("{introduction}\n\n{}", tables.join("\n")),
        );
        say(&format!("written to {}", options.output.display()));
    }
}
