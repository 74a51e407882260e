//! Which credentials of a listing are wanted.

use crate::model::{Record, UnixSeconds};
use crate::store::Listed;

/// What is asked of the credentials of a listing; of several conditions each must hold. Revoked ones fit none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// No code of it was used for so many seconds, or ever.
    pub unused_for: Option<u64>,
    /// It is not expired and will be in so many seconds.
    pub expiring_in: Option<u64>,
}

impl Wanted {
    /// Whether there is no condition at all.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.unused_for.is_none() && self.expiring_in.is_none()
    }

    /// Whether a record is among those that are wanted.
    #[must_use]
    pub fn takes(&self, listed: &Listed, UnixSeconds(now): UnixSeconds) -> bool {
        if self.is_everything() {
            return true;
        }
        let Record::Credential(credential) = &listed.record else { return false };
        let is_unused = |seconds| listed.uses.iter().all(|used| used.at.0.saturating_add(seconds) <= now);
        let ends_in = |seconds| credential.expires_at.is_some_and(|UnixSeconds(at)| now < at && at - now <= seconds);
        !credential.revoked && self.unused_for.is_none_or(is_unused) && self.expiring_in.is_none_or(ends_in)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::record::Label;
    use crate::model::{Binding, CodeHash, CodeMark, Codes, Credential, Id, LastUse, LastUses, Mode};
    use crate::tags::TagSet;

    const NOW: u64 = 1000;
    const NEVER: Option<u64> = None;

    fn listed(used: Option<u64>, expires_at: Option<u64>, revoked: bool) -> Listed {
        let mut uses = LastUses::default();
        if let Some(at) = used {
            // The old code's: that of the current one lies further back.
            for (code, at) in [(1, at), (2, at.saturating_sub(50))] {
                uses.note(LastUse { code: CodeMark::from_bytes([code; 8]), at: UnixSeconds(at), address: None });
            }
        }
        let record = Record::Credential(Credential {
            mode: Mode::Key,
            id: Id::new(1).unwrap(),
            label: Label::default(),
            binding: Binding::Superuser { default: None },
            tags: Arc::new(TagSet::everything()),
            codes: Codes { current: CodeHash::from_bytes([2; 32]), retiring: None },
            enabled: true,
            revoked,
            not_before: None,
            expires_at: expires_at.map(UnixSeconds),
            allow_ip: None,
            app_id: None,
            rate: None,
            parent: None,
            foreign: None,
        });
        Listed { record, uses }
    }

    #[test]
    fn unused_and_expiring_credentials_are_told_to_the_second() {
        for (unused_for, expiring_in, record, expected) in [
            (None, None, (Some(NOW), Some(1), true), true),
            (Some(100), None, (Some(NOW - 99), NEVER, false), false),
            (Some(100), None, (Some(NOW - 100), NEVER, false), true),
            (Some(100), None, (NEVER, NEVER, false), true),
            (Some(100), None, (NEVER, NEVER, true), false),
            (Some(u64::MAX), None, (Some(0), NEVER, false), false),
            (Some(0), None, (Some(NOW), NEVER, false), true),
            (None, Some(100), (NEVER, Some(NOW), false), false),
            (None, Some(100), (NEVER, Some(NOW + 1), false), true),
            (None, Some(100), (NEVER, Some(NOW + 100), false), true),
            (None, Some(100), (NEVER, Some(NOW + 101), false), false),
            (None, Some(u64::MAX), (NEVER, NEVER, false), false),
            (Some(100), Some(100), (Some(NOW), Some(NOW + 1), false), false),
            (Some(100), Some(100), (Some(NOW - 100), Some(NOW + 1), false), true),
        ] {
            let (used, expires_at, revoked) = record;
            let takes = Wanted { unused_for, expiring_in }.takes(&listed(used, expires_at, revoked), UnixSeconds(NOW));
            assert_eq!(takes, expected, "{unused_for:?} {expiring_in:?} {record:?}");
        }
    }
}
