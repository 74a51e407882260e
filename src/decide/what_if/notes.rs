//! What the lists of a comparison don't show.

use super::{States, acts_as_any_only};
use crate::directory::{HotCredential, Lookup};
use crate::model::{Id, Mode, RecordKey, UnixSeconds};

/// A sentence for each thing that whoever reads the lists might take to be in them.
pub(super) fn notes(states: &States<'_>, changed: &[RecordKey], idle: u64) -> Vec<String> {
    let mut notes = Vec::new();
    for key in changed {
        match key {
            RecordKey::Agent(id) => notes.extend(superusers(states, *id)),
            RecordKey::Credential(mode, id) => credential(states, (*mode, id.get()), &mut notes),
            RecordKey::Endpoint(..) => {}
        }
    }
    if idle > 0 {
        notes.push(format!(
            "{idle} of the credentials compared can call nothing, before or after: disabled, revoked, out of their \
             time, or without an agent that is enabled"
        ));
    }
    notes
}

/// Superuser keys act as the agent when a request says so.
fn superusers(states: &States<'_>, agent: Id) -> Option<String> {
    let same = match (states.before.agent(agent.get()), states.after.agent(agent.get())) {
        (Lookup::Found(old), Lookup::Found(new)) => {
            let set_before = states.before.set(old.permissions).set();
            old.enabled == new.enabled && set_before == states.after.set(new.permissions).set()
        }
        (_, _) => false,
    };
    let keys = if same { 0 } else { states.before.superuser_keys().count() };
    let keys = match keys {
        0 => return None,
        1 => "1 superuser key".to_string(),
        keys => format!("{keys} superuser keys"),
    };
    Some(format!(
        "{keys} may act as agent {agent} for a request that names it, and then gain and lose with it as their own tags \
         allow: not listed"
    ))
}

fn credential(states: &States<'_>, (mode, id): (Mode, u64), notes: &mut Vec<String>) {
    let (Lookup::Found(old), Lookup::Found(new)) =
        (states.before.credential(mode, id), states.after.credential(mode, id))
    else {
        return;
    };
    let same_set = states.before.set(old.set()).set() == states.after.set(new.set()).set();
    let standing = |hot: &HotCredential| (hot.is_superuser(), hot.agent(), hot.is_enabled(), hot.is_revoked());
    if !same_set || standing(old) != standing(new) {
        notes.extend(agents(old, new).map(|note| format!("{mode} {id} {note}")));
    }
    if old.allow_ip() != new.allow_ip() {
        notes.push(format!("from which addresses {mode} {id} may be used changes too: addresses are not compared"));
    }
    let ahead = |at: Option<UnixSeconds>| at.filter(|at| *at > states.now);
    let times = |hot: &HotCredential| (ahead(hot.not_before()), ahead(hot.expires_at()));
    if times(old) != times(new) {
        notes.push(format!("what is listed is so now: times of {mode} {id} that are still to come are not compared"));
    }
}

/// What the choice of an agent means for the lists.
fn agents(old: &HotCredential, new: &HotCredential) -> Option<&'static str> {
    match (old.is_superuser(), new.is_superuser()) {
        (true, true) if acts_as_any_only(old) && acts_as_any_only(new) => Some(
            "has no default agent: what it can call depends on the agent named; listed is what its own tags say, and \
             the agent's permissions may allow less",
        ),
        (true, true) => Some(
            "may act as any agent: listed is what counts for a request that names none; for others it depends on the \
             agent named",
        ),
        (true, false) => Some(
            "could act as any agent, and would be bound to one: a request that names another would be refused \
             (agent_switch_forbidden)",
        ),
        (false, true) => Some("could act as one agent only, and would act as any that a request names: not listed"),
        (false, false) => None,
    }
}
