//! Tables for a terminal and for `benches/RESULTS.md`, and what they were measured on.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// What begins the file.
const TITLE: &str = "# Measured";

/// Rows under a head.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        let mut table = Self { rows: Vec::new() };
        table.row(head);
        table
    }

    pub fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|cell| (*cell).to_owned()).collect());
    }

    /// Aligned columns.
    pub fn text(&self) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(text, "{}", cells.join("  ").trim_end()).unwrap();
        }
        text
    }

    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            writeln!(text, "| {} |", row.join(" | ")).unwrap();
            if number == 0 {
                writeln!(text, "|{}", "---|".repeat(row.len())).unwrap();
            }
        }
        text
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

fn said(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    output.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Date, commit, processor, system and compiler, and how busy the host is: asked before anything is begun.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    format!(
        "{date}, commit {commit}. {cpu}, {cores} cores, Linux {kernel}, {rustc}. Load average when it began: {load}.",
        date = said("date", &["-u", "+%Y-%m-%d"]),
        commit = said("git", &["describe", "--always", "--dirty"]),
        cpu = cpu.unwrap_or("unknown processor"),
        cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        kernel = said("uname", &["-r"]),
        rustc = said("rustc", &["--version"]),
        load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or("unknown"),
    )
}

/// Writes a section of the file in the place of the one with its title, or behind all others.
pub fn put_section(path: &Path, title: &str, text: &str) {
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let head = format!("## {title}\n");
    let mut sections: Vec<String> =
        before.split("\n## ").skip(1).map(|section| format!("## {}\n", section.trim_end())).collect();
    let section = format!("{head}\n{}\n", text.trim_end());
    match sections.iter_mut().find(|section| section.starts_with(&head)) {
        Some(place) => *place = section,
        None => sections.push(section),
    }
    std::fs::write(path, format!("{TITLE}\n\n{}", sections.join("\n"))).unwrap();
}
