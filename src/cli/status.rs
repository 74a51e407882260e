//! `status` as people read it: one screen.

use std::collections::BTreeMap;

use keyward_proto::admin::StatusReport;

use super::forms::reason_name;
use super::tables::pairs;
use super::times::format_time;

/// Reasons that are shown; `--json` has all.
const REASONS_SHOWN: usize = 6;

/// The daemon's state. What is wrong stands last, where the eye is.
pub(super) fn page(report: &StatusReport) -> String {
    let mut rows = vec![
        ("version", report.version.clone()),
        ("process", format!("{}, up {}", report.pid, span(report.now.saturating_sub(report.started_at)))),
        ("started", format_time(report.started_at)),
        ("now", now(report)),
        ("questions", questions(report)),
        ("verdicts", verdicts(report)),
        ("connections", connections(report)),
        ("agents", report.agents.to_string()),
        ("endpoints", report.endpoints.to_string()),
        ("credentials", credentials(report)),
        ("tag sets", report.tag_sets.to_string()),
        ("database", database(report)),
        ("revision", report.revision.to_string()),
        ("commits", commits(report)),
        ("last uses", last_uses(report)),
        ("changes", if report.writable { "taken" } else { "refused until the storage works again" }.to_owned()),
    ];
    if let Some(reload) = reload(report) {
        rows.push(("reload", reload));
    }
    rows.extend(report.alarms.iter().map(|alarm| ("ALARM", alarm.clone())));
    pairs(&rows)
}

fn now(report: &StatusReport) -> String {
    match report.clock_behind {
        0 => format_time(report.now),
        behind => format!("{}; the system's clock stands {behind} s behind", format_time(report.now)),
    }
}

fn questions(report: &StatusReport) -> String {
    let millis = report.recent_millis.max(1);
    let rate = report.recent_questions.saturating_mul(1000) / millis;
    format!("{}; {rate}/s over the last {}.{} s", report.questions, millis / 1000, millis % 1000 / 100)
}

/// The most frequent, over all doors.
fn verdicts(report: &StatusReport) -> String {
    let mut by_reason: BTreeMap<u16, u64> = BTreeMap::new();
    for given in &report.verdicts {
        *by_reason.entry(given.reason).or_default() += given.count;
    }
    let mut counts: Vec<_> = by_reason.into_iter().collect();
    counts.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
    let rest: u64 = counts.iter().skip(REASONS_SHOWN).map(|(_, count)| count).sum();
    let shown = counts.iter().take(REASONS_SHOWN).map(|(reason, count)| format!("{} {count}", reason_name(*reason)));
    let mut words: Vec<String> = shown.collect();
    if rest > 0 {
        words.push(format!("others {rest}"));
    }
    if words.is_empty() { "none yet".to_owned() } else { words.join(", ") }
}

fn connections(report: &StatusReport) -> String {
    let (query, http, admin) = (report.query_connections, report.http_connections, report.admin_connections);
    format!("query {query}, http {http}, admin {admin}; refused {}", report.refused_connections)
}

fn credentials(report: &StatusReport) -> String {
    format!("{} keys, {} tokens, {} sessions", report.keys, report.tokens, report.sessions)
}

fn database(report: &StatusReport) -> String {
    let size = report.database_bytes.map_or_else(|| "size unknown".to_owned(), bytes);
    format!("{} ({size})", report.database)
}

fn commits(report: &StatusReport) -> String {
    match report.commit_micros.checked_div(report.commits) {
        None => "none since the start".to_owned(),
        Some(micros) => {
            format!("{}, on average {}.{} ms", report.commits, micros / 1000, micros % 1000 / 100)
        }
    }
}

fn last_uses(report: &StatusReport) -> String {
    report
        .unflushed_use_age
        .map_or_else(|| "all stored".to_owned(), |age| format!("the oldest that is not stored is {age} s old"))
}

fn reload(report: &StatusReport) -> Option<String> {
    let at = format_time(report.reloaded_at?);
    Some(match &report.reload_refused {
        None => format!("done {at}"),
        Some(why) => format!("REFUSED {at}, the configuration before is in force: {why}"),
    })
}

/// The two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.iter().find(|(_, shift)| count >> shift > 0);
    unit.map_or_else(
        || format!("{count} bytes"),
        |(name, shift)| format!("{}.{} {name}", count >> shift, ((count % (1 << shift)) * 10) >> shift),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_shown_in_units_that_people_read() {
        for (seconds, shown) in [(59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (200_000, "2 d 7 h")] {
            assert_eq!(span(seconds), shown);
        }
        for (count, shown) in [(1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(bytes(count), shown);
        }
    }
}
