//! Keyward's own hash in the place of another system's. Nobody ordered it: a code that proved right did.

use super::{Planner, Stop};
use crate::decide::Upgrade;
use crate::model::{Codes, Credential, Foreign, Id, Record, RecordKey};

impl Planner<'_, '_> {
    /// Where the hash is another one by now, or gone, there is nothing to do.
    pub(super) fn upgrade(&mut self, upgrade: &Upgrade) -> Result<(), Stop> {
        let Some(id) = Id::new(upgrade.id) else { return Ok(()) };
        let key = RecordKey::Credential(upgrade.mode, id);
        if let (Some(Record::Credential(old)), read_at) = self.read(&key)?
            && let Some(new) = upgraded(&old, upgrade)
        {
            self.pending.put(key, Some(Record::Credential(old)), Record::Credential(new), read_at);
        }
        Ok(())
    }
}

fn upgraded(old: &Credential, upgrade: &Upgrade) -> Option<Credential> {
    if old.revoked {
        return None;
    }
    let mut new = old.clone();
    let was_current = old.codes.current == upgrade.proven;
    match &mut new.codes {
        codes if was_current => codes.current = upgrade.own,
        Codes { retiring: Some(retiring), .. } if retiring.hash == upgrade.proven => retiring.hash = upgrade.own,
        Codes { .. } => return None,
    }
    new.foreign = new.foreign.filter(|foreign| new.codes.need(foreign));
    if was_current && new.foreign.is_none() {
        new.foreign = Some(Foreign::Proven { own: upgrade.own.mark(), by: upgrade.proven.mark() });
    }
    Some(new)
}
