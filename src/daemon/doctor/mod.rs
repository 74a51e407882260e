//! `keyward doctor`: what is wrong with an installation, why, and what to do; with and without a running daemon.
//!
//! | part | what is in it |
//! |---|---|
//! | here | the order of the checks, and how findings are shown |
//! | `doors` | runtime directory, sockets, who may connect, limits |
//! | `data` | data directory, pepper, database, clock, left-over files, room |
//! | `person` | what a user may do with a file |

mod data;
mod doors;
mod person;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub use data::accept_clock;

use super::{StartError, process};
use crate::config::{Config, Source};
use crate::escape::escape;

/// A clock that a time service sets moves by less.
const CLOCK_BEHIND_SECONDS: u64 = 60;

/// What to look at.
pub struct Checkup {
    /// Where the configuration comes from.
    pub source: Source,
    /// Whether this user may ask.
    pub user: Option<String>,
}

/// What the findings come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No problem; there may be warnings.
    Fine,
    /// Something doesn't work.
    Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// It works, and may not for long, or could not be looked at.
    Warning,
    /// It doesn't work.
    Problem,
}

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    /// What was looked at.
    check: &'static str,
    /// What was found, and why it is so.
    what: String,
    /// What to do about it.
    #[serde(rename = "do")]
    remedy: Option<String>,
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, check, what: what.into(), remedy: None });
    }

    fn warning(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { level: Level::Warning, check, what: what.into(), remedy: Some(remedy.into()) });
    }

    fn problem(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { level: Level::Problem, check, what: what.into(), remedy: Some(remedy.into()) });
    }

    /// An error or alarm of ours, which says what to do itself behind its last semicolon.
    fn problem_of(&mut self, check: &'static str, words: &dyn fmt::Display) {
        let words = words.to_string();
        match words.rsplit_once("; ") {
            Some((what, remedy)) => self.problem(check, what, remedy),
            None => self.problem(check, words, "see keyward help doctor"),
        }
    }

    /// Something that this user can't look at.
    fn unseen(&mut self, check: &'static str, path: &Path, error: &io::Error) {
        self.warning(check, format!("{} can't be looked at: {error}", path.display()), "run keyward doctor as root");
    }

    fn health(&self) -> Health {
        let bad = self.0.iter().any(|finding| finding.level == Level::Problem);
        if bad { Health::Problem } else { Health::Fine }
    }
}

/// Looks at everything and prints what was found.
///
/// # Errors
/// When nothing can be printed.
pub fn doctor(checkup: &Checkup, json: bool, out: &mut impl Write) -> Result<Health, StartError> {
    process::harden().map_err(|error| StartError::System("protect the process's memory", error))?;
    let mut findings = Findings::default();
    match checkup.source.load() {
        Ok(config) => {
            findings.ok("configuration", configuration(&checkup.source));
            look(&config, checkup.user.as_deref(), &mut findings);
        }
        Err(error) => findings.problem_of("configuration", &error),
    }
    let shown = if json { as_json(&findings) } else { as_text(&findings) };
    write(out, &shown)?;
    Ok(findings.health())
}

fn look(config: &Config, user: Option<&str>, findings: &mut Findings) {
    let daemon = doors::look(config, findings);
    if let Some(user) = user {
        doors::look_for(user, config, findings);
    }
    data::look(config, daemon.as_ref(), findings);
}

fn configuration(source: &Source) -> String {
    let default = Path::new(crate::config::DEFAULT_CONFIG_FILE);
    let file = source.file.as_deref().or_else(|| default.exists().then_some(default));
    file.map_or_else(|| "no file; the defaults apply".to_string(), |file| format!("{} is sound", file.display()))
}

/// A closed pipe is no error.
fn write(out: &mut impl Write, text: &str) -> Result<(), StartError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(StartError::System("print", error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn as_json(findings: &Findings) -> String {
    let health = match findings.health() {
        Health::Fine => "fine",
        Health::Problem => "problem",
    };
    let value = serde_json::json!({ "health": health, "findings": findings.0 });
    format!("{value}\n")
}

fn as_text(findings: &Findings) -> String {
    let width = findings.0.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in &findings.0 {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "PROBLEM",
        };
        text.push_str(&format!("{level:<7}  {:<width$}  {}\n", finding.check, escape(&finding.what)));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{:<7}  {:<width$}  -> {}\n", "", "", escape(remedy)));
        }
    }
    text
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_problem_makes_an_installation_ill_and_no_finding_begins_a_line_of_its_own() {
        let mut findings = Findings::default();
        findings.ok("a", "fine");
        findings.warning("b", "soon\nPROBLEM", "look");
        assert_eq!(findings.health(), Health::Fine);
        assert_eq!(as_text(&findings), "ok       a  fine\nwarning  b  soon\\nPROBLEM\n            -> look\n");
        findings.problem("c", "broken", "mend it");
        assert_eq!(findings.health(), Health::Problem);
        let json: serde_json::Value = serde_json::from_str(&as_json(&findings)).expect("it is JSON");
        assert_eq!(
            json["findings"][2],
            serde_json::json!({"level":"problem","check":"c","what":"broken","do":"mend it"})
        );
    }
}
