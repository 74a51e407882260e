//! A part of an import: every credential by itself, so that one that is refused leaves the others standing.

use super::checks::no_such_agent;
use super::{Merged, Planner, Refusal, Rule, Stop, edit_key};
use crate::model::{Edit, Record};
use crate::store::StoreFault;

/// Refusals that are told one by one before they are only counted.
const REFUSALS_LISTED_MAX: usize = 1000;

/// A part of an import.
pub struct Import {
    /// The credentials, or why one is none; as if each were ordered after the one before.
    pub edits: Vec<Result<Edit, String>>,
    /// Plan, and change nothing.
    pub dry_run: bool,
}

/// What a part came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// New records.
    pub added: u64,
    /// Existing ones that are different now.
    pub changed: u64,
    /// Existing ones that were so already.
    pub unchanged: u64,
    /// Edits that were not carried out.
    pub refused: u64,
    /// The first of these: index, and what failed, why, what to do.
    pub refusals: Vec<(usize, String)>,
}

impl Imported {
    fn refuse(&mut self, index: usize, message: String) {
        self.refused += 1;
        if self.refusals.len() < REFUSALS_LISTED_MAX {
            self.refusals.push((index, message));
        }
    }
}

impl Planner<'_, '_> {
    pub(super) fn import(&mut self, import: Import) -> Result<(), Stop> {
        for (index, edit) in import.edits.into_iter().enumerate() {
            match edit.map_err(Stop::from).and_then(|edit| self.import_one(edit)) {
                Ok(()) => {}
                Err(Stop::Fault(fault @ StoreFault::Storage(_))) => return Err(fault.into()),
                Err(Stop::Fault(fault)) => self.outcome.imported.refuse(index, fault.to_string()),
                Err(Stop::Refused(Refusal::Invalid { message, .. } | Refusal::Unavailable(message))) => {
                    self.outcome.imported.refuse(index, message);
                }
            }
        }
        Ok(())
    }

    fn import_one(&mut self, edit: Edit) -> Result<(), Stop> {
        if !matches!(edit, Edit::Credential(_)) {
            let why = "only keys, tokens and sessions can be imported; agents and endpoints go with apply";
            return Err(why.to_string().into());
        }
        let key = edit_key(&edit).ok_or_else(|| Stop::from("it needs an id".to_string()))?;
        if self.was_swept(&edit)? {
            self.outcome.imported.unchanged += 1;
            return Ok(());
        }
        let Merged { old, new, read_at } = self.merged(&key, edit, Rule::Either)?;
        if let Record::Credential(credential) = &new
            && !credential.revoked
            && let Some(agent) = credential.binding.named_agent()
            && !self.agent_will_be(agent)?
        {
            return Err(no_such_agent(&key, agent).into());
        }
        if let (Record::Credential(credential), None) = (&new, &old)
            && let Some(parent) = credential.parent
            && let Some(why) = self.wrong_parent(&key, parent)?
        {
            return Err(why.into());
        }
        let counts = &mut self.outcome.imported;
        match &old {
            None => counts.added += 1,
            Some(old) if *old == new => {
                counts.unchanged += 1;
                return Ok(());
            }
            Some(_) => counts.changed += 1,
        }
        self.pending.put(key, old, new, read_at);
        Ok(())
    }
}
