//! A sample of the denials for the log: the first few of each reason in a minute, then their sum. Whoever sends a flood of
//! wrong codes writes no flood of lines.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use keyward_proto::query::Reason;

use super::{AskDoor, REASONS};
use crate::model::{client_address, parse_presented_id};
use crate::registry::{Inquiry, Target};

/// Refused connections that are logged, for each door and cause, in a minute.
pub(in crate::serve) const REFUSALS_LOGGED: u32 = 10;
/// Of a path or a list of tags, so much is logged.
const SHOWN_BYTES_MAX: usize = 200;
/// So many letters and digits in a row may be a code that a client put in the wrong place: codes made here have 25.
const CODE_LIKE_BYTES: usize = 25;
const HIDDEN: &str = "(hidden)";

/// Lets through so many in a minute.
#[derive(Default)]
pub(in crate::serve) struct Sampler {
    left: AtomicU32,
    admitted: AtomicU64,
}

impl Sampler {
    /// Whether one more may be logged. When none may, this is one load.
    pub(in crate::serve) fn admits(&self) -> bool {
        if self.left.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let take_one = |left: u32| left.checked_sub(1);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok();
        if taken {
            self.admitted.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Begins another minute.
    pub(in crate::serve) fn refill(&self, lines: u32) {
        self.left.store(lines, Ordering::Relaxed);
    }
}

/// How many were told not to have been logged.
#[derive(Default)]
pub(in crate::serve) struct Suppressed(u64);

impl Suppressed {
    /// How many of `total` were not logged since this was asked before.
    pub(in crate::serve) fn since(&mut self, total: u64, sampler: &Sampler) -> u64 {
        let unlogged = total.saturating_sub(sampler.admitted.load(Ordering::Relaxed));
        let new = unlogged.saturating_sub(self.0);
        self.0 += new;
        new
    }
}

/// Which denials are logged.
#[derive(Default)]
pub struct DenialLog {
    by_reason: [Sampler; REASONS],
}

impl DenialLog {
    #[inline]
    pub(super) fn admits(&self, reason: u16) -> bool {
        self.by_reason.get(usize::from(reason)).is_some_and(Sampler::admits)
    }

    /// Begins another minute with so many lines for each reason.
    pub(in crate::serve) fn refill(&self, lines: u32) {
        self.by_reason.iter().for_each(|sampler| sampler.refill(lines));
    }

    /// Logs how many of these denials were not logged one by one; not when none was to be.
    pub(in crate::serve) fn tell_suppressed(
        &self,
        totals: &[u64; REASONS],
        told: &mut [Suppressed; REASONS],
        wanted: bool,
    ) {
        for ((reason, sampler), (total, told)) in Reason::ALL.iter().zip(&self.by_reason).zip(totals.iter().zip(told)) {
            if *reason == Reason::Ok {
                continue;
            }
            let count = told.since(*total, sampler);
            if wanted && count > 0 {
                tracing::info!(reason = reason.name(), count, "denied, not logged one by one");
            }
        }
    }
}

/// Logs one denial. Never a code: the credential is named by its public id.
#[cold]
pub(super) fn write(door: AskDoor, reason: u16, inquiry: &mut Inquiry<'_, '_>, target: &Target<'_>) {
    let credential = inquiry.presented().map(|(mode, id)| format!("{mode} {id}"));
    let asker = inquiry.asker();
    let agent = asker.agent.and_then(parse_presented_id);
    let address = asker.address.and_then(client_address).map(tracing::field::display);
    let name = Reason::from_number(reason).map_or("unknown", Reason::name);
    // In quotes, of which there are none inside: nothing in it can look like another field.
    let (door, target) = (door.name(), format_args!("\"{}\"", Shown(target)));
    if reason == Reason::Unavailable.number() {
        tracing::warn!(door, reason = name, credential, agent, address, %target, "no verdict");
    } else {
        tracing::info!(door, reason = name, credential, agent, address, %target, "denied");
    }
}

/// A target as it is logged: without its query string, cut, odd bytes escaped.
struct Shown<'t, 'a>(&'t Target<'a>);

impl fmt::Display for Shown<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Target::Nobody => f.write_str("who"),
            Target::Endpoint { method, path } => {
                let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
                write!(f, "{} {}", shown(method), shown(&path[..end]))
            }
            Target::Tags(tags) => {
                f.write_str("tags")?;
                let mut room = SHOWN_BYTES_MAX;
                for tag in *tags {
                    if tag.len() >= room {
                        return f.write_str(" …");
                    }
                    room -= tag.len();
                    write!(f, " {}", shown(tag))?;
                }
                Ok(())
            }
        }
    }
}

/// Whatever a client sent, in visible ASCII and of bounded length.
fn shown(bytes: &[u8]) -> String {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
    let mut text = String::new();
    for run in bytes.chunk_by(|one, next| is_word(one) == is_word(next)) {
        let room = SHOWN_BYTES_MAX.saturating_sub(text.len());
        if run.len() >= CODE_LIKE_BYTES && is_word(&run[0]) {
            text.push_str(HIDDEN);
        } else {
            text.extend(run[..run.len().min(room)].escape_ascii().map(char::from));
        }
        if run.len() > room {
            text.push('…');
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampler_lets_so_many_through_until_it_is_filled_again_and_knows_how_many_it_did_not() {
        let (sampler, mut told) = (Sampler::default(), Suppressed::default());
        assert!(!sampler.admits(), "nothing is logged before it was said how much");
        sampler.refill(3);
        assert_eq!((0..10).filter(|_| sampler.admits()).count(), 3);
        assert_eq!(told.since(11, &sampler), 8);
        assert_eq!(told.since(11, &sampler), 0, "told once");
        sampler.refill(3);
        assert_eq!((0..2).filter(|_| sampler.admits()).count(), 2);
        assert_eq!(told.since(13, &sampler), 0);
    }

    #[test]
    fn what_a_client_sent_is_shown_escaped_cut_without_query_string_and_without_what_may_be_a_code() {
        let endpoint = |path| Shown(&Target::Endpoint { method: b"GET", path }).to_string();
        let long = [b"/".as_slice(), &b"ab/".repeat(300)].concat();
        let code_at_the_cut = [b"/".as_slice(), &b"ab/".repeat(63), b"YWK2PGCS8CNW62SR8TBTBKWMY"].concat();
        for (path, expected) in [
            (b"/api/v2/tickets?token=YWK2#x".as_slice(), "GET /api/v2/tickets".to_string()),
            (b"/a\n\x1b[31m\xff\"", r#"GET /a\n\x1b[31m\xff\""#.to_string()),
            (b"/reset/YWK2PGCS8CNW62SR8TBTBKWMY", "GET /reset/(hidden)".to_string()),
            (&code_at_the_cut, format!("GET /{}(hidden)…", "ab/".repeat(63))),
            (&long, format!("GET /{}a…", "ab/".repeat(66))),
        ] {
            assert_eq!(endpoint(path), expected);
        }
        assert_eq!(Shown(&Target::Nobody).to_string(), "who");
        assert_eq!(Shown(&Target::Tags(&[b"a.b", b"c\n"])).to_string(), "tags a.b c\\n");
    }
}
