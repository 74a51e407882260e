//! `bench`: fills a daemon with a world made for measuring, asks about it, and says how fast the answers came.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use serde::Serialize;

use super::args::{Bench, BenchCommand, BenchLoad, BenchRun};
use super::error::{CliError, Exit};
use super::output::{print, print_json};
use super::{Context, QUERY_SOCKET, tables};
use crate::bench::generator::{self, Measured, Plan, RunError};
use crate::bench::load::{self, LoadError, Progress};
use crate::bench::picks::Picks;
use crate::bench::process::{self, Pinned};
use crate::bench::questions::Questions;
use crate::bench::world::{Sizes, World, WorldError};

/// Between two lines that say how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(2);
/// Questions that are made beforehand: one a key, but enough for a fast server, and no more than fit easily into memory
/// (two million are 250 MB and last some seconds before they are asked again).
const QUESTIONS_MIN: u64 = 65_536;
/// See [`QUESTIONS_MIN`].
const QUESTIONS_MAX: u64 = 2_000_000;
/// Descriptors beside the connections'.
const OTHER_DESCRIPTORS: u64 = 64;
/// The same questions each time.
const PICKS_SEED: u64 = 1;

/// `bench` and `bench load`
pub(super) fn run(context: &Context, args: &Bench) -> Result<Exit, CliError> {
    match (&args.load, &args.run) {
        (Some(BenchCommand::Load(args)), _) => fill(context, args),
        (None, Some(args)) => ask(context, args),
        (None, None) => Err(CliError::Input("nothing to do; give --world FILE, or `bench load`".to_owned())),
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
    let (records, seconds, records_per_second) = (done.records, done.elapsed.as_secs_f64(), done.per_second());
    if context.json {
        print_json(&LoadForm { records, seconds, records_per_second })?;
    } else {
        print(&format!("loaded {records} records in {seconds:.1} s, {records_per_second:.0}/s\n"))?;
    }
    Ok(Exit::Done)
}

/// Nobody misses a line that can't be written.
fn tell(progress: Progress) {
    let Progress { records, of, .. } = progress;
    let _ = writeln!(std::io::stderr(), "{records} of {of} records, {:.0}/s", progress.per_second());
}

fn ask(context: &Context, args: &BenchRun) -> Result<Exit, CliError> {
    let world = World::read(&args.world)?;
    let socket = context.runtime.join(QUERY_SOCKET);
    let keys = world.sizes().keys;
    let picks = match args.zipf {
        Some(theta) => Picks::zipf(keys, theta, PICKS_SEED),
        None => Picks::uniform(keys, PICKS_SEED),
    };
    let count = u32::try_from(keys.clamp(QUESTIONS_MIN, QUESTIONS_MAX)).expect("two million at most");
    let server = server_of(&socket)?;
    let questions = Questions::new(&socket, &world, args.mix, picks, count);
    allow_descriptors(args.connections + OTHER_DESCRIPTORS)?;
    let unpinned =
        |what: &str, e| CliError::Input(format!("{what} not held on its core: {e}; name a core of this host"));
    let _server = args.pin_server.map(|core| Pinned::process(server, core)).transpose();
    let _server = _server.map_err(|e| unpinned("the daemon", e))?;
    let _client = args.pin.map(Pinned::this_thread).transpose().map_err(|e| unpinned("the asking thread", e))?;
    let measured = generator::run(&questions, &plan(args), Some(server)).map_err(|e| unmeasured(e, &socket))?;
    let (wrong, total) = (measured.answers.unexpected, measured.answers.total());
    if wrong > 0 {
        return Err(CliError::Unmeasured(format!(
            "nothing measured: {wrong} of {total} answers are not what the world foretells: it is another daemon's, or \
             records were changed since; load a new one into an empty daemon"
        )));
    }
    let form = ResultForm::new(args, &measured, server);
    if context.json {
        print_json(&form)?;
    } else {
        print(&form.table())?;
    }
    Ok(Exit::Done)
}

fn plan(args: &BenchRun) -> Plan {
    let size = |number| usize::try_from(number).expect("the options' ranges are small");
    Plan {
        connections: size(args.connections),
        depth: size(args.depth),
        warm_up: args.warm_up,
        duration: args.seconds,
        rate: args.rate,
        first: 0,
    }
}

/// Who serves the socket.
fn server_of(socket: &Path) -> Result<Pid, CliError> {
    let unreachable = |cause| CliError::Unreachable { socket: socket.to_owned(), cause };
    let stream = std::os::unix::net::UnixStream::connect(socket).map_err(unreachable)?;
    process::peer(&stream).map_err(unreachable)
}

/// Raises the soft limit where it is lower.
fn allow_descriptors(number: u64) -> Result<(), CliError> {
    let refused =
        |e| CliError::Input(format!("no {number} descriptors: {e}; ask on fewer connections, or raise ulimit -n"));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(refused)?;
    if soft >= number { Ok(()) } else { setrlimit(Resource::RLIMIT_NOFILE, number, hard).map_err(refused) }
}

fn unmeasured(error: RunError, socket: &Path) -> CliError {
    match error {
        RunError::Open(cause) => CliError::Unreachable { socket: socket.to_owned(), cause },
        RunError::Io(_) | RunError::Closed | RunError::Broken | RunError::Silent => {
            CliError::Unmeasured(error.to_string())
        }
    }
}

#[derive(Serialize)]
struct ResultForm {
    connections: u64,
    depth: u64,
    rate: Option<f64>,
    zipf: Option<f64>,
    mix: String,
    seconds: f64,
    requests: u64,
    requests_per_second: f64,
    latency_us: LatencyForm,
    answers: AnswersForm,
    /// Due at a fixed rate, and not answered at the end.
    unanswered: u64,
    server: ServerForm,
    client: UseForm,
}

#[derive(Serialize)]
struct LatencyForm {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Serialize)]
struct AnswersForm {
    allowed: u64,
    refused: u64,
    bad_credential: u64,
}

#[derive(Serialize)]
struct ServerForm {
    pid: i32,
    resident_bytes: Option<u64>,
    #[serde(flatten)]
    used: UseForm,
}

#[derive(Serialize)]
struct UseForm {
    cpu_us_per_request: f64,
    /// Cores kept busy.
    cores: f64,
}

impl UseForm {
    #[expect(clippy::cast_precision_loss, reason = "counts of one run")]
    fn new(used: Duration, measured: &Measured) -> Self {
        Self {
            cpu_us_per_request: used.as_secs_f64() * 1e6 / measured.answers.total().max(1) as f64,
            cores: used.as_secs_f64() / measured.elapsed.as_secs_f64(),
        }
    }
}

impl ResultForm {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds up to a minute")]
    fn new(args: &BenchRun, measured: &Measured, server: Pid) -> Self {
        let microseconds = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 1e3;
        let (p50, p90, p99, p999) = (microseconds(0.5), microseconds(0.9), microseconds(0.99), microseconds(0.999));
        let answers = measured.answers;
        Self {
            connections: args.connections,
            depth: args.depth,
            rate: args.rate,
            zipf: args.zipf,
            mix: args.mix.to_string(),
            seconds: measured.elapsed.as_secs_f64(),
            requests: answers.total(),
            requests_per_second: measured.per_second(),
            latency_us: LatencyForm { p50, p90, p99, p999, max: microseconds(1.0) },
            answers: AnswersForm {
                allowed: answers.allowed,
                refused: answers.refused,
                bad_credential: answers.bad_credential,
            },
            unanswered: measured.unanswered,
            server: ServerForm {
                pid: server.as_raw(),
                resident_bytes: process::resident_bytes(server).ok(),
                used: UseForm::new(measured.server_cpu.unwrap_or_default(), measured),
            },
            client: UseForm::new(measured.client_cpu, measured),
        }
    }

    fn table(&self) -> String {
        let l = &self.latency_us;
        let used =
            |used: &UseForm| format!("{:.2} µs of CPU a request, {:.2} cores", used.cpu_us_per_request, used.cores);
        let resident = self
            .server
            .resident_bytes
            .map_or_else(String::new, |bytes| format!(", {} MiB resident", bytes / (1024 * 1024)));
        let AnswersForm { allowed, refused, bad_credential } = self.answers;
        tables::pairs(&[
            ("asked", format!("{} connections, {} at once, mix {}", self.connections, self.depth, self.mix)),
            ("requests/s", format!("{:.0} ({} in {:.1} s)", self.requests_per_second, self.requests, self.seconds)),
            (
                "latency µs",
                format!("p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}", l.p50, l.p90, l.p99, l.p999, l.max),
            ),
            (
                "answers",
                format!(
                    "{allowed} allowed, {refused} refused, {bad_credential} bad credential, {} due and unanswered",
                    self.unanswered
                ),
            ),
            ("daemon", format!("{}{resident} (pid {})", used(&self.server.used), self.server.pid)),
            ("client", used(&self.client)),
        ])
    }
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
