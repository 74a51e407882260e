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
