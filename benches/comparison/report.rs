//! Tables of what was measured: figures, and the ratios that the targets are about.

use std::path::Path;

use keyward::bench::generator::Measured;

use crate::results::{Table, median};
use crate::{nginx, postgres, redis, results};

/// Where a figure is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub connections: usize,
    pub depth: usize,
    /// Client and server share a core.
    pub same_core: bool,
}

const fn apart(connections: usize, depth: usize) -> Cell {
    Cell { connections, depth, same_core: false }
}

const TOGETHER: Cell = Cell { connections: 1, depth: 1, same_core: true };

impl Cell {
    pub const FAST: [Self; 8] =
        [apart(1, 1), apart(8, 1), apart(64, 1), apart(1, 16), apart(8, 16), apart(64, 16), apart(64, 64), TOGETHER];
    /// Without pipelining.
    pub const SLOW: [Self; 2] = [apart(1, 1), apart(8, 1)];
    pub const PROXIES: [Self; 1] = [apart(64, 1)];

    fn words(self) -> String {
        let place = if self.same_core { ", same core" } else { "" };
        format!("{}x{}{place}", self.connections, self.depth)
    }

    /// The target's row and bound of requests a second, where it has one.
    const fn against_redis(self) -> (&'static str, Bound) {
        match (self.connections, self.depth) {
            (8 | 64, 1) => ("1", Bound::AtLeast(1.0, 1.2)),
            (8 | 64, 16 | 64) => ("2", Bound::AtLeast(2.0, 3.0)),
            _ => ("", Bound::None),
        }
    }

    /// The same against the echo.
    const fn against_echo(self) -> (&'static str, Bound) {
        match (self.connections, self.depth) {
            (64, 1) => ("4", Bound::AtLeast(0.65, 0.75)),
            _ => ("", Bound::None),
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    pub per_second: f64,
    /// Microseconds, as all latencies.
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// Of the server, a request; where it is one process.
    pub server_cpu: Option<f64>,
    /// Cores that the client kept busy: near 1 it is what was measured.
    pub client_cores: f64,
}

impl Figure {
    pub fn new(measured: &Measured) -> Self {
        let at = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 1e3;
        let requests = measured.answers.total() as f64;
        Self {
            per_second: measured.per_second(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            server_cpu: measured.server_cpu.map(|used| used.as_secs_f64() * 1e6 / requests),
            client_cores: measured.client_cpu.as_secs_f64() / measured.elapsed.as_secs_f64(),
        }
    }
}

struct Series {
    system: &'static str,
    cell: Cell,
    rounds: Vec<Figure>,
}

impl Series {
    fn median(&self, of: impl Fn(&Figure) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }
}

/// Everything of one run.
pub struct Report {
    machine: String,
    keys: u64,
    repeats: u32,
    seconds: f64,
    series: Vec<Series>,
}

/// What a ratio must reach.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64, f64),
    AtMost(f64, f64),
    None,
}

impl Bound {
    fn verdict(self, ratio: f64) -> &'static str {
        let (needed, sought) = match self {
            Self::AtLeast(needed, sought) => (ratio >= needed, ratio >= sought),
            Self::AtMost(needed, sought) => (ratio <= needed, ratio <= sought),
            Self::None => return "",
        };
        match (needed, sought) {
            (_, true) => "sought",
            (true, false) => "needed",
            (false, false) => "missed",
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtLeast(needed, sought) => format!("≥ {needed:.2}; ≥ {sought:.2}"),
            Self::AtMost(needed, sought) => format!("≤ {needed:.2}; ≤ {sought:.2}"),
            Self::None => String::new(),
        }
    }
}

impl Report {
    pub fn new(keys: u64, repeats: u32, seconds: f64) -> Self {
        Self { machine: results::machine(), keys, repeats, seconds, series: Vec::new() }
    }

    pub fn add(&mut self, system: &'static str, cell: Cell, figure: Figure) {
        match self.series.iter_mut().find(|series| series.system == system && series.cell == cell) {
            Some(series) => series.rounds.push(figure),
            None => self.series.push(Series { system, cell, rounds: vec![figure] }),
        }
    }

    fn series(&self, system: &str, cell: Cell) -> Option<&Series> {
        self.series.iter().find(|series| series.system == system && series.cell == cell)
    }

    /// The median of the rounds' ratios: within a round the host was as busy for both.
    fn ratio(&self, ours: &str, theirs: &str, cell: Cell, of: fn(&Figure) -> f64) -> Option<f64> {
        let (ours, theirs) = (self.series(ours, cell)?, self.series(theirs, cell)?);
        Some(median(ours.rounds.iter().zip(&theirs.rounds).map(|(a, b)| of(a) / of(b)).collect()))
    }

    fn figures(&self) -> Table {
        let mut table = Table::new(&[
            "connections x depth",
            "system",
            "requests/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "server µs/request",
            "client cores",
        ]);
        for series in &self.series {
            let server = series.rounds[0].server_cpu.map(|_| series.median(|f| f.server_cpu.unwrap_or(0.0)));
            table.row(&[
                &series.cell.words(),
                series.system,
                &format!("{:.0}", series.median(|f| f.per_second)),
                &format!("{:.1}", series.median(|f| f.p50)),
                &format!("{:.1}", series.median(|f| f.p99)),
                &format!("{:.1}", series.median(|f| f.p999)),
                &server.map_or_else(String::new, |server| format!("{server:.2}")),
                &format!("{:.2}", series.median(|f| f.client_cores)),
            ]);
        }
        table
    }

    fn ratios(&self) -> Table {
        let per_second: fn(&Figure) -> f64 = |f| f.per_second;
        let mut table = Table::new(&["target", "figure", "ratio", "needed; sought", "reached"]);
        let mut add = |number: &str, words: &str, ratio: Option<f64>, bound: Bound| {
            if let Some(ratio) = ratio {
                table.row(&[number, words, &format!("{ratio:.2}"), &bound.words(), bound.verdict(ratio)]);
            }
        };
        for cell in Cell::FAST {
            let (number, bound) = cell.against_redis();
            let words = format!("requests/s against Redis GET, {}", cell.words());
            add(number, &words, self.ratio("Keyward", "Redis", cell, per_second), bound);
        }
        let p50 = self.ratio("Keyward", "echo", TOGETHER, |f| f.p50);
        add("3", "p50 against the bare echo, 1x1, same core", p50, Bound::AtMost(1.2, 1.1));
        for cell in Cell::FAST {
            let (number, bound) = cell.against_echo();
            let words = format!("requests/s against the bare echo, {}", cell.words());
            add(number, &words, self.ratio("Keyward", "echo", cell, per_second), bound);
        }
        // Whatever the client can do, this is the server's own.
        let cpu = self.ratio("echo", "Keyward", apart(64, 1), |f| f.server_cpu.unwrap_or(f64::NAN));
        add("", "server CPU of a request, the bare echo's against Keyward's, 64x1", cpu, Bound::None);
        for system in ["PostgreSQL", "saslauthd"] {
            for cell in Cell::SLOW {
                let words = format!("requests/s against {system}, {}", cell.words());
                add("", &words, self.ratio("Keyward", system, cell, per_second), Bound::None);
            }
        }
        let proxied = self.ratio("nginx to Keyward", "nginx to a 204 server", Cell::PROXIES[0], per_second);
        add("14", "nginx auth_request against the always-204 server, 64x1", proxied, Bound::AtLeast(0.95, 0.95));
        table
    }

    fn introduction(&self) -> String {
        let known = |version: Option<String>| version.unwrap_or_else(|| "none".to_owned());
        format!(
            "{machine} Redis {redis}, PostgreSQL {postgres}, nginx {nginx}. {keys} keys, asked uniformly (Keyward: with {endpoints} endpoints, 1,000 tag sets and 100,000 agents, as far as the keys go); {repeats} rounds \
             of {seconds} s for each figure, in which the systems took turns; medians. Unix sockets throughout. Servers on one \
             core, the client on another, unless a row says \"same core\"; Keyward, the echo and the 204 server with one \
             worker. saslauthd takes one request on each connection. A ratio is the median of the rounds' ratios. Where the \
             client kept its whole core busy, the client may be what was measured.",
            machine = self.machine,
            endpoints = crate::ENDPOINTS,
            redis = known(redis::version()),
            postgres = known(postgres::version()),
            nginx = known(nginx::version()),
            keys = self.keys,
            repeats = self.repeats,
            seconds = self.seconds,
        )
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        format!("{}\n\n{}\n{}", self.introduction(), self.figures().text(), self.ratios().text())
    }

    /// For `benches/RESULTS.md`.
    pub fn write(&self, file: &Path) {
        let text = format!("{}\n\n{}\n{}", self.introduction(), self.ratios().markdown(), self.figures().markdown());
        results::put_section(file, "Beside other systems (`benches/compare`)", &text);
    }
}
