//! What ends without an operator naming it: an agent's sessions together, and rows of what expired long ago.

use super::{Planner, Stop};
use crate::model::{Change, Credential, Edit, Id, Mode, Record, RecordKey, RecordName, UnixSeconds};
use crate::store::StoreFault;

/// The daemon's own order: tokens and sessions whose rows may go. Each is judged once more by its row as it is then.
pub struct Sweep {
    /// They were found expired.
    pub credentials: Vec<(Mode, Id)>,
    /// Those that expired at this time or before go.
    pub until: UnixSeconds,
}

impl Planner<'_, '_> {
    /// Revokes those that are there and not revoked yet.
    pub(super) fn end_all(&mut self, credentials: &[(Mode, Id)]) -> Result<(), Stop> {
        for (mode, id) in credentials {
            let key = RecordKey::Credential(*mode, *id);
            if let (Some(record), read_at) = self.read(&key)?
                && !record.is_ended()
            {
                self.end(key, record, read_at);
            }
        }
        Ok(())
    }

    /// A damaged row stays, and what stands beside it goes.
    pub(super) fn sweep(&mut self, sweep: Sweep) -> Result<Change, Stop> {
        let Sweep { mut credentials, until } = sweep;
        credentials.sort_unstable();
        credentials.dedup();
        let mut change = Change::default();
        for (mode, id) in credentials {
            let key = RecordKey::Credential(mode, id);
            match self.read(&key) {
                Ok((Some(Record::Credential(credential)), read_at)) if self.is_over(&credential, until) => {
                    change.expected.push((key, read_at));
                    change.removed.push((mode, id));
                    self.outcome.removed.push(RecordName::Credential(mode, id));
                }
                Ok(_) => {}
                Err(Stop::Fault(fault @ StoreFault::BadRow { .. })) => tracing::error!(%fault, "an expired row stays"),
                Err(stop) => return Err(stop),
            }
        }
        Ok(change)
    }

    fn is_over(&self, credential: &Credential, until: UnixSeconds) -> bool {
        let Credential { mode, expires_at, parent, .. } = credential;
        self.compiler.directory().is_over(*mode, *expires_at, *parent, until)
    }

    /// Whether it lists what would be in force no more, and whose row was taken away for that, or may have been: an export
    /// from before that. There is nothing to change.
    pub(super) fn was_swept(&mut self, edit: &Edit) -> Result<bool, Stop> {
        let Edit::Credential(edit) = edit else { return Ok(false) };
        let Some(id) = edit.id else { return Ok(false) };
        if !self.is_gone((edit.mode, id))? {
            return Ok(false);
        }
        let expired = edit.expires_at.flatten().is_some_and(|at| at <= self.now);
        Ok(edit.revoked == Some(true)
            || expired
            || match edit.parent {
                Some(parent) => self.is_gone(parent)?,
                None => false,
            })
    }

    /// Whether its row is not there, and may have been taken away.
    fn is_gone(&mut self, (mode, id): (Mode, Id)) -> Result<bool, Stop> {
        Ok(id.get() <= self.transaction.swept_through(mode) && self.read(&RecordKey::Credential(mode, id))?.0.is_none())
    }
}
