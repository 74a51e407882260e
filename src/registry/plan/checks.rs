//! The rules that need more than one record: whom a credential names is there, and so is what a token was made from.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use super::{Planner, Refusal, Stop, unavailable};
use crate::directory::Lookup;
use crate::model::{Credential, Id, Kind, Mode, Record, RecordKey};

/// Names that a refusal lists before it only counts.
const NAMES_LISTED_MAX: usize = 20;

impl Planner<'_, '_> {
    /// Every unrevoked credential that the change puts names agents that will be there.
    pub(super) fn check_references(&mut self) -> Result<(), Stop> {
        let named: Vec<(RecordKey, Id)> = self
            .pending
            .iter()
            .filter_map(|(key, record)| match record {
                Record::Credential(c) if !c.revoked => Some((key.clone(), c.binding.named_agent()?)),
                Record::Credential(_) | Record::Agent(_) | Record::Endpoint(_) => None,
            })
            .collect();
        for (key, agent) in named {
            if !self.agent_will_be(agent)? {
                return Err(self.refused_at(&key, no_such_agent(&key, agent)));
            }
        }
        Ok(())
    }

    /// A refusal that names the place of the record at fault.
    fn refused_at(&self, key: &RecordKey, message: String) -> Stop {
        Stop::Refused(Refusal::Invalid { index: self.places.get(key).copied(), message })
    }

    pub(super) fn agent_will_be(&mut self, id: Id) -> Result<bool, Stop> {
        let key = RecordKey::Agent(id);
        if let Some((agent, _)) = self.pending.get(&key) {
            return Ok(!agent.is_ended());
        }
        // The removal of an agent stands alone, so one that the directory knows is there. Others may have been added by
        // what went before in this transaction.
        if let Lookup::Found(_) = self.compiler.directory().agent(id.get()) {
            return Ok(true);
        }
        Ok(self.read(&key)?.0.is_some_and(|agent| !agent.is_ended()))
    }

    /// No unrevoked credential names an agent that the change removes.
    pub(super) fn check_removed_agents(&self) -> Result<(), Stop> {
        let removed = self.pending.iter().filter_map(|(key, record)| match (key, record) {
            (RecordKey::Agent(id), Record::Agent(agent)) if agent.removed => Some(*id),
            _ => None,
        });
        let removed: FxHashSet<Id> = removed.collect();
        if removed.is_empty() {
            return Ok(());
        }
        let users = self.users_of(&removed)?;
        let Some((agent, _)) = users.first() else { return Ok(()) };
        let of_agent = users.iter().filter(|(named, _)| named == agent).map(|(_, key)| key);
        let listed: Vec<String> = of_agent.clone().take(NAMES_LISTED_MAX).map(ToString::to_string).collect();
        let more = match of_agent.count().saturating_sub(NAMES_LISTED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let listed = listed.join(", ");
        let why = format!(
            "agent {agent} can't be removed: {listed}{more} would be left without it; revoke or rebind them first, or \
             disable the agent"
        );
        Err(why.into())
    }

    /// Who names one of the agents when the change is made, behind that. One walk for all agents, for both may be many.
    fn users_of(&self, agents: &FxHashSet<Id>) -> Result<BTreeSet<(Id, RecordKey)>, Stop> {
        let directory = self.compiler.directory();
        if Mode::ALL.into_iter().any(|mode| directory.is_damaged(Kind::Credential(mode))) {
            let why = "rows of credentials are damaged: whether one names the agent can't be told";
            return Err(unavailable(why));
        }
        let before = directory
            .credentials_naming_any()
            .filter(|(agent, _)| agents.contains(agent))
            .filter_map(|(agent, (mode, id))| Some((agent, RecordKey::Credential(mode, Id::new(id)?))))
            .filter(|(_, key)| self.pending.get(key).is_none());
        let put = self.pending.iter().filter_map(|(key, record)| match record {
            Record::Credential(credential) if !credential.revoked => {
                Some((credential.binding.named_agent().filter(|agent| agents.contains(agent))?, key.clone()))
            }
            Record::Credential(_) | Record::Agent(_) | Record::Endpoint(_) => None,
        });
        Ok(before.chain(put).collect())
    }

    /// A new token's parent is there, and is no token that was made from another one.
    pub(super) fn check_parents(&mut self) -> Result<(), Stop> {
        let new: Vec<(RecordKey, (Mode, Id))> = self
            .pending
            .iter_new()
            .filter_map(|(key, record)| match record {
                Record::Credential(credential) => Some((key.clone(), credential.parent?)),
                Record::Agent(_) | Record::Endpoint(_) => None,
            })
            .collect();
        for (key, parent) in new {
            if let Some(why) = self.wrong_parent(&key, parent)? {
                return Err(self.refused_at(&key, why));
            }
        }
        Ok(())
    }

    /// Why a new token can't be made from `parent`.
    pub(super) fn wrong_parent(&mut self, key: &RecordKey, (mode, id): (Mode, Id)) -> Result<Option<String>, Stop> {
        let named = RecordKey::Credential(mode, id);
        if *key == named {
            return Ok(Some(format!("{key} names itself as its parent: give what it is made from")));
        }
        Ok(match self.read(&named)?.0 {
            Some(Record::Credential(Credential { parent: Some((mode, id)), .. })) => Some(format!(
                "{key} can't be made from {named}, which was made from {mode} {id} itself: make it from {mode} {id}"
            )),
            Some(_) => None,
            None => Some(format!("{key} names {named} as its parent: there is no such {mode}")),
        })
    }
}

pub(super) fn no_such_agent(key: &RecordKey, agent: Id) -> String {
    format!("{key} names agent {agent}: there is no such agent")
}
