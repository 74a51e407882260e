//! Rotation: a new code under the same id, and the end of the old one.

use super::{Planner, Stop, difference, missing};
use crate::model::{Code, Codes, Credential, Id, Mode, Record, RecordKey, RetiringCode, UnixSeconds};

/// The longest time that an old code is accepted beside a new one: a year. Who needs both for longer needs two keys, which
/// can be told apart and ended one by one.
const GRACE_SECONDS_MAX: u64 = 365 * 86_400;

/// A credential's codes are to change, and nothing else of it.
pub struct Rotate {
    /// Which of the three.
    pub mode: Mode,
    /// Its id.
    pub id: Id,
    /// How.
    pub rotation: Rotation,
}

/// What becomes of a credential's codes.
pub enum Rotation {
    /// The given code, or one that is made, takes the current one's place.
    Replace {
        /// A code of the operator's.
        code: Option<Code>,
        /// Seconds that the current one is accepted on; 0 for none.
        grace: u64,
    },
    /// A retiring code ends.
    DropOld,
}

impl Planner<'_, '_> {
    pub(super) fn rotate(&mut self, rotate: Rotate) -> Result<(), Stop> {
        let Rotate { mode, id, rotation } = rotate;
        let key = RecordKey::Credential(mode, id);
        let (old, read_at) = self.read(&key)?;
        let Some(old @ Record::Credential(credential)) = &old else {
            return Err(missing(&key.to_string()).into());
        };
        if credential.revoked {
            return Err(format!("{key} is revoked, for ever: it can't be rotated; add a new one").into());
        }
        let codes = match rotation {
            Rotation::DropOld => Codes { retiring: None, ..credential.codes },
            Rotation::Replace { code, grace } => self.replaced(credential, code, grace)?,
        };
        let foreign = credential.foreign.clone().filter(|foreign| codes.need(foreign));
        let new = Record::Credential(Credential { codes, foreign, ..credential.clone() });
        self.outcome.record = Some(new.clone());
        if *old != new {
            self.outcome.changed.extend(difference::difference(old, &new));
            self.pending.put(key, Some(old.clone()), new, read_at);
        }
        Ok(())
    }

    /// A new current code, the old one retiring: no longer than the grace and the credential itself.
    fn replaced(&mut self, old: &Credential, code: Option<Code>, grace: u64) -> Result<Codes, Stop> {
        let (mode, id) = (old.mode, old.id);
        if grace > GRACE_SECONDS_MAX {
            let days = GRACE_SECONDS_MAX / 86_400;
            let why = "give a shorter grace, or add another credential for what needs longer";
            return Err(format!("{mode} {id}: the old code can be accepted for {days} days at most: {why}").into());
        }
        let current = match code {
            Some(code) => self.compiler.directory().pepper().hash(mode, id.get(), code.presented()),
            None => self.new_code(mode, id)?,
        };
        if current == old.codes.current {
            return Err(format!("{mode} {id} has this code already: give another").into());
        }
        let until = UnixSeconds(self.now.0 + grace);
        let retiring = RetiringCode { hash: old.codes.current, until };
        Ok(Codes { current, retiring: Some(retiring) }.within(old.expires_at).at(self.now))
    }
}
