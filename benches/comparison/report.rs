//! Tables of what was measured: figures, and the ratios that the targets are about.

use std::fmt::Write as _;
use std::process::Command;

use keyward::bench::generator::Measured;

use crate::{nginx, postgres, redis};

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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(low, high)
}

/// Everything of one run.
pub struct Report {
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

/// A table: its head, and its rows.
type Table = (Vec<&'static str>, Vec<Vec<String>>);

impl Report {
    pub fn new(keys: u64, repeats: u32, seconds: f64) -> Self {
        Self { keys, repeats, seconds, series: Vec::new() }
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
        let head = vec![
            "connections x depth",
            "system",
            "requests/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "server µs/request",
            "client cores",
        ];
        let row = |series: &Series| {
            let server = series.rounds[0].server_cpu.map(|_| series.median(|f| f.server_cpu.unwrap_or(0.0)));
            vec![
                series.cell.words(),
                series.system.to_owned(),
                format!("{:.0}", series.median(|f| f.per_second)),
                format!("{:.1}", series.median(|f| f.p50)),
                format!("{:.1}", series.median(|f| f.p99)),
                format!("{:.1}", series.median(|f| f.p999)),
                server.map_or_else(String::new, |server| format!("{server:.2}")),
                format!("{:.2}", series.median(|f| f.client_cores)),
            ]
        };
        (head, self.series.iter().map(row).collect())
    }

    fn ratios(&self) -> Table {
        let mut rows = Vec::new();
        let mut add = |number: &str, words: &str, ratio: Option<f64>, bound: Bound| {
            if let Some(ratio) = ratio {
                let (words, bound_words) = (words.to_owned(), bound.words());
                rows.push(vec![
                    number.to_owned(),
                    words,
                    format!("{ratio:.2}"),
                    bound_words,
                    bound.verdict(ratio).to_owned(),
                ]);
            }
        };
        let per_second: fn(&Figure) -> f64 = |f| f.per_second;
        for (cell, number, bound) in [
            (apart(1, 1), "", Bound::None),
            (apart(8, 1), "1", Bound::AtLeast(1.0, 1.2)),
            (apart(64, 1), "1", Bound::AtLeast(1.0, 1.2)),
            (apart(1, 16), "", Bound::None),
            (apart(8, 16), "2", Bound::AtLeast(2.0, 3.0)),
            (apart(64, 16), "2", Bound::AtLeast(2.0, 3.0)),
            (apart(64, 64), "2", Bound::AtLeast(2.0, 3.0)),
        ] {
            let words = format!("requests/s against Redis GET, {}", cell.words());
            add(number, &words, self.ratio("Keyward", "Redis", cell, per_second), bound);
        }
        let p50 = self.ratio("Keyward", "echo", TOGETHER, |f| f.p50);
        add("3", "p50 against the bare echo, 1x1, same core", p50, Bound::AtMost(1.2, 1.1));
        for cell in Cell::FAST {
            let (number, bound) =
                if cell == apart(64, 1) { ("4", Bound::AtLeast(0.65, 0.75)) } else { ("", Bound::None) };
            let words = format!("requests/s against the bare echo, {}", cell.words());
            add(number, &words, self.ratio("Keyward", "echo", cell, per_second), bound);
        }
        for system in ["PostgreSQL", "saslauthd"] {
            for cell in Cell::SLOW {
                let words = format!("requests/s against {system}, {}", cell.words());
                add("", &words, self.ratio("Keyward", system, cell, per_second), Bound::None);
            }
        }
        let proxied = self.ratio("nginx to Keyward", "nginx to a 204 server", Cell::PROXIES[0], per_second);
        add("14", "nginx auth_request against the always-204 server, 64x1", proxied, Bound::AtLeast(0.95, 0.95));
        (vec!["target", "figure", "ratio", "needed; sought", "reached"], rows)
    }

    fn introduction(&self) -> String {
        let said = |command: &str, arguments: &[&str]| {
            let output = Command::new(command).args(arguments).output().ok()?;
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or("unknown")
            .trim_matches([' ', '\t', ':'])
            .to_owned();
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let known = |version: Option<String>| version.unwrap_or_else(|| "none".to_owned());
        format!(
            "{date}, commit {commit}. {cpu}, {cores} cores, Linux {kernel}. {rustc}; Redis {redis}, PostgreSQL {postgres}, nginx {nginx}. \
             {keys} keys, asked uniformly; {repeats} rounds of {seconds} s for each figure, in which the systems took turns; medians. \
             Unix sockets throughout. Servers on one core, the client on another, unless a row says \"same core\"; Keyward, \
             the echo and the 204 server with one worker. saslauthd takes one request on each connection. A ratio is the \
             median of the rounds' ratios.",
            date = known(said("date", &["-u", "+%Y-%m-%d"])),
            commit = known(said("git", &["describe", "--always", "--dirty"])),
            kernel = known(said("uname", &["-r"])),
            rustc = known(said("rustc", &["--version"])),
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
        let mut text = format!("{}\n", self.introduction());
        for (head, rows) in [self.figures(), self.ratios()] {
            let rows: Vec<Vec<String>> =
                std::iter::once(head.iter().map(|name| (*name).to_owned()).collect()).chain(rows).collect();
            let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let widths: Vec<usize> = (0..head.len()).map(width).collect();
            text.push('\n');
            for row in &rows {
                let cells: Vec<String> =
                    row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
                writeln!(text, "{}", cells.join("  ").trim_end()).unwrap();
            }
        }
        text
    }

    /// For `benches/RESULTS.md`.
    pub fn markdown(&self) -> String {
        let mut text =
            format!("# Measured\n\n## Beside other systems (`benches/compare`)\n\n{}\n", self.introduction());
        for (head, rows) in [self.ratios(), self.figures()] {
            writeln!(text, "\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len())).unwrap();
            for row in rows {
                writeln!(text, "| {} |", row.join(" | ")).unwrap();
            }
        }
        text
    }
}
