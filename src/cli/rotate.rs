//! `key rotate` and `token rotate`: a new code, and what to do with it next.

use keyward_proto::admin::{self, AdminRequest, CredentialRecord, LastUse, Record, Rotation};
use keyward_proto::query::Mode;

use super::Context;
use super::args::Rotate;
use super::change::code_from_stdin;
use super::error::{CliError, Exit};
use super::output::print;
use super::times::{self, format_time};

/// An old code that was not used for so long, while the new one was, is not needed any more: what still has it and runs
/// less often than hourly is for its owner to know.
const IDLE_SECONDS: u64 = 3_600;

/// `… rotate`
pub(super) fn rotate(context: &Context, mode: Mode, args: Rotate) -> Result<Exit, CliError> {
    let code = if args.code_stdin { Some(code_from_stdin()?) } else { None };
    let rotation = match (args.drop_old, args.now) {
        (true, _) => Rotation::DropOld,
        (false, true) => Rotation::Now { code },
        (false, false) => Rotation::Grace { seconds: args.grace.as_secs(), code },
    };
    let done = context.done(&AdminRequest::Rotate(admin::Rotate { mode, id: args.id, rotation }))?;
    let Some(Record::Credential(record)) = &done.record else { return Err(CliError::OtherReply) };
    context.print_done(&done)?;
    if !context.json {
        print(&if args.drop_old { DROPPED.to_owned() } else { next_steps(record) })?;
    }
    Ok(Exit::Done)
}

/// Also where there was no old code.
const DROPPED: &str = "Only the current code is accepted from now on.\n";

fn next_steps(record: &CredentialRecord) -> String {
    let (mode, id) = (record.mode.name(), record.id);
    let mut text = match record.retiring_until {
        None => "The old code is refused from now on: what still has it needs the new one.\n".to_owned(),
        Some(until) => format!(
            "The old code is accepted until {}. Give the new one to all that have the old one; `keyward {mode} show \
             {id}` says when the old one was last used, `keyward {mode} rotate {id} --drop-old` ends it before its \
             time.\n",
            format_time(until)
        ),
    };
    if record.state != "enabled" {
        text += &format!("The {mode} itself is {}, with either code.\n", record.state.replace('_', " "));
    }
    text
}

/// The rows of a record that say when its codes were used.
pub(super) fn uses(record: &CredentialRecord) -> Vec<(&'static str, String)> {
    let now = times::now();
    let Some(until) = record.retiring_until else {
        return vec![(
            "last used",
            record.last_used.as_ref().map_or_else(|| "never".to_owned(), |last| ago(last, now)),
        )];
    };
    let new = record.last_used.as_ref().map_or_else(|| "not used yet".to_owned(), |last| used(last, now));
    vec![("new code", new), ("old code", old_code(record, now)), ("old code until", format_time(until))]
}

/// `used 2 min ago from 10.0.0.7`
fn used(last: &LastUse, now: u64) -> String {
    format!("used {}", ago(last, now))
}

/// `2 min ago from 10.0.0.7`
fn ago(last: &LastUse, now: u64) -> String {
    let from = last.address.as_ref().map(|address| format!(" from {address}")).unwrap_or_default();
    format!("{} ago{from}, {}", span(now.saturating_sub(last.at)), format_time(last.at))
}

/// When it was last used, and whether it can go.
fn old_code(record: &CredentialRecord, now: u64) -> String {
    let (old, new) = (&record.retiring_last_used, &record.last_used);
    let idle = match old {
        Some(last) if now.saturating_sub(last.at) < IDLE_SECONDS => return used(last, now),
        Some(last) => format!("idle since {}", span(now - last.at)),
        None => return "no use of it is known".to_owned(),
    };
    let is_replaced = new.as_ref().is_some_and(|new| old.as_ref().is_none_or(|old| old.at < new.at));
    let advice = if is_replaced { "safe to drop" } else { "but the new code was not used since" };
    let from = old.as_ref().map(|last| format!(" ({})", used(last, now))).unwrap_or_default();
    format!("{idle}: {advice}{from}")
}

/// A length of time in its largest unit: `3 h`.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        172_800.. => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test may panic")]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn last(ago: u64) -> Option<LastUse> {
        Some(LastUse { at: NOW - ago, address: Some("10.0.0.7".to_owned()) })
    }

    fn record() -> CredentialRecord {
        CredentialRecord {
            mode: Mode::Key,
            id: 2,
            label: String::new(),
            superuser: false,
            agent: Some(1),
            default_agent: None,
            app_id: None,
            tags: "*".to_owned(),
            enabled: true,
            revoked: false,
            not_before: None,
            expires_at: None,
            allow_ip: None,
            rate: None,
            parent: None,
            state: "enabled".to_owned(),
            retiring_until: None,
            last_used: None,
            retiring_last_used: None,
            foreign_hash: None,
        }
    }

    #[test]
    fn what_is_said_of_an_old_code_tells_whether_it_can_go() {
        for (old, new, said) in [
            (last(0), None, "used 0 s ago from 10.0.0.7"),
            (last(150), last(20), "used 2 min ago from 10.0.0.7"),
            (last(3_599), last(20), "used 59 min ago"),
            (last(3_600), last(20), "idle since 1 h: safe to drop"),
            (last(3 * 3_600 + 5), last(20), "idle since 3 h: safe to drop (used 3 h ago from 10.0.0.7"),
            (last(3 * 86_400), last(86_400), "idle since 3 days: safe to drop"),
            (last(3 * 3_600), None, "idle since 3 h: but the new code was not used since"),
            (last(3 * 3_600), last(4 * 3_600), "idle since 3 h: but the new code was not used since"),
            (None, None, "no use of it is known"),
        ] {
            let record = CredentialRecord {
                retiring_until: Some(NOW + 60),
                last_used: new,
                retiring_last_used: old,
                ..record()
            };
            let words = old_code(&record, NOW);
            assert!(words.starts_with(said), "{words} is not {said}");
        }
    }
}
