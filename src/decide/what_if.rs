//! What would change? The reach of every credential that a change touches, before it and after it.
//!
//! Credentials with the same sets before and the same sets after are judged once, whatever their number, and those that
//! gain and lose the same endpoints are told as one.

mod notes;

use std::cmp::Reverse;
use std::collections::HashMap;

use super::reach::{Grants, can_call};
use super::{Stop, delegation};
use crate::directory::{Directory, HotCredential, HotEndpoint, Lookup};
use crate::model::{Kind, Mode, RecordKey, UnixSeconds};

/// Effects that are listed: more than a person reads.
pub const EFFECTS_LISTED_MAX: usize = 20;
/// Credentials that each of them lists.
pub const CREDENTIALS_LISTED_MAX: usize = 100;
/// Endpoints that all of them list together, evenly shared: with paths of 8 KiB they still fit a frame.
pub const ENDPOINTS_LISTED_MAX: usize = 1_000;
/// Different pairs of sets before and after that are judged: with ten thousand endpoints that is some seconds of one core,
/// and two and a half kilobytes each.
const STANDINGS_MAX: usize = 10_000;

/// What a change would come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Credentials that were compared.
    pub compared: u64,
    /// Credentials that were not: their sets were more than can be judged in one answer.
    pub not_compared: u64,
    /// Credentials that gain or lose an endpoint.
    pub affected: u64,
    /// The effects with most credentials, at most [`EFFECTS_LISTED_MAX`].
    pub effects: Vec<Effect>,
    /// How many there are.
    pub effects_total: u64,
    /// What the lists don't show, a sentence each.
    pub notes: Vec<String>,
}

/// Credentials that gain and lose the same.
#[derive(Debug, PartialEq, Eq)]
pub struct Effect {
    /// The first of them, at most [`CREDENTIALS_LISTED_MAX`].
    pub credentials: Vec<(Mode, u64)>,
    /// How many there are.
    pub credentials_total: u64,
    /// Endpoints that they can call only after the change.
    pub gained: Difference,
    /// Endpoints that they can call only before it.
    pub lost: Difference,
}

/// Endpoints of an effect.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// Method and template of the first of them, in this order; see [`ENDPOINTS_LISTED_MAX`].
    pub listed: Vec<(String, String)>,
    /// How many there are.
    pub total: u64,
}

/// Why there is no comparison.
#[derive(Debug, PartialEq, Eq)]
pub enum Uncompared {
    /// The change is of endpoints: there is no common list of them before and after.
    Endpoints,
    /// What it rests on is damaged.
    Damaged(String),
}

fn damaged(what: &str) -> Uncompared {
    Uncompared::Damaged(format!("rows of {what} are damaged: what the change would come to can't be told"))
}

/// Compares what credentials with their right codes could call from addresses that suit them, `before` and `after` the
/// change of the records in `changed`, both at `now`: steps 5, 7, 9, 10 and 11 of the table, for a request that names no
/// agent. A superuser key that has no default agent is taken to act as one that may do everything.
///
/// # Errors
/// See [`Uncompared`].
pub fn compare(
    before: &Directory,
    after: &Directory,
    changed: &[RecordKey],
    now: UnixSeconds,
) -> Result<Comparison, Uncompared> {
    let Lookup::Found(endpoints) = before.endpoints() else {
        return Err(damaged("endpoints"));
    };
    let states = States { before, after, now };
    let mut tally = Tally::default();
    for name in touched(before, changed)? {
        tally.add(states.standing(name)?, name);
    }
    let mut comparison = Comparison {
        compared: tally.compared,
        not_compared: tally.not_compared,
        notes: notes::notes(&states, changed, tally.idle),
        ..Comparison::default()
    };
    let mut groups: HashMap<Moved, Members> = HashMap::new();
    for (standing, members) in tally.standings {
        let moved = states.moved(endpoints, &standing);
        if moved.gained.any() || moved.lost.any() {
            comparison.affected += members.total;
            groups.entry(moved).or_default().join(members);
        }
    }
    comparison.effects_total = groups.len() as u64;
    comparison.effects = listed(groups, endpoints);
    Ok(comparison)
}

/// Every credential whose reach rests on one of the records, in order. Revoked ones reach nothing, whatever changes.
fn touched(directory: &Directory, changed: &[RecordKey]) -> Result<Vec<(Mode, u64)>, Uncompared> {
    let mut names = Vec::new();
    for key in changed {
        match key {
            RecordKey::Credential(mode, id) => {
                if directory.is_damaged(Kind::Credential(Mode::Token)) {
                    return Err(damaged("tokens"));
                }
                names.push((*mode, id.get()));
                names.extend(directory.made_from(*mode, *id));
            }
            RecordKey::Agent(id) => {
                if let Some(mode) = Mode::ALL.into_iter().find(|mode| directory.is_damaged(Kind::Credential(*mode))) {
                    return Err(damaged(&format!("{mode}s")));
                }
                names.extend(directory.credentials_naming(*id));
            }
            RecordKey::Endpoint(..) => return Err(Uncompared::Endpoints),
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The two states that are compared, and the time they are judged at.
struct States<'d> {
    before: &'d Directory,
    after: &'d Directory,
    now: UnixSeconds,
}

/// All that the reach of a credential rests on, in both states; `None` where it can call nothing that needs one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Standing {
    mode: Mode,
    before: Option<Grants>,
    after: Option<Grants>,
}

impl States<'_> {
    fn standing(&self, (mode, id): (Mode, u64)) -> Result<Standing, Uncompared> {
        let (before, after) = (found(self.before, mode, id)?, found(self.after, mode, id)?);
        let any_agent = [before, after].into_iter().flatten().all(acts_as_any_only);
        let grants = |directory, credential: Option<&HotCredential>| match credential {
            Some(credential) => grants_of(directory, credential, any_agent, self.now),
            None => Ok(None),
        };
        Ok(Standing { mode, before: grants(self.before, before)?, after: grants(self.after, after)? })
    }

    fn moved(&self, endpoints: &[HotEndpoint], standing: &Standing) -> Moved {
        let can = |directory, grants: Option<Grants>, endpoint| {
            grants.is_some_and(|grants| can_call(directory, grants, standing.mode, endpoint))
        };
        let mut moved = Moved { gained: Bits::new(endpoints.len()), lost: Bits::new(endpoints.len()) };
        for (place, endpoint) in endpoints.iter().enumerate().filter(|(_, endpoint)| !endpoint.modes.is_public()) {
            match (can(self.before, standing.before, endpoint), can(self.after, standing.after, endpoint)) {
                (false, true) => moved.gained.set(place),
                (true, false) => moved.lost.set(place),
                (true, true) | (false, false) => {}
            }
        }
        moved
    }
}

fn found(directory: &Directory, mode: Mode, id: u64) -> Result<Option<&HotCredential>, Uncompared> {
    match directory.credential(mode, id) {
        Lookup::Found(credential) => Ok(Some(credential)),
        Lookup::Absent => Ok(None),
        Lookup::Damaged => Err(damaged(&format!("{mode}s"))),
    }
}

/// A superuser key without default agent: it acts as whom a request names, and as nobody without.
fn acts_as_any_only(credential: &HotCredential) -> bool {
    credential.is_superuser() && credential.agent().is_none()
}

/// Steps 5 and 7.
fn grants_of(
    directory: &Directory,
    credential: &HotCredential,
    any_agent: bool,
    now: UnixSeconds,
) -> Result<Option<Grants>, Uncompared> {
    if super::credential_in_force(credential, now).is_err() {
        return Ok(None);
    }
    let parent = match delegation::parent(directory, credential) {
        Ok(parent) => parent,
        Err(Stop::Deny(_)) => return Ok(None),
        Err(Stop::Fault | Stop::Unproven) => return Err(damaged("credentials that tokens were made from")),
    };
    if delegation::in_force(parent, now).is_err() {
        return Ok(None);
    }
    if any_agent {
        return Ok(Some(Grants::new(credential, parent, None)));
    }
    let Ok(agent) = super::acting_agent(credential, None) else {
        return Ok(None);
    };
    if delegation::may_act_as(parent, agent).is_err() {
        return Ok(None);
    }
    match super::enabled_agent(directory, agent) {
        Ok(agent) => Ok(Some(Grants::new(credential, parent, Some(agent)))),
        Err(Stop::Deny(_)) => Ok(None),
        Err(Stop::Fault | Stop::Unproven) => Err(damaged("agents")),
    }
}

/// Credentials by what their reach rests on.
#[derive(Default)]
struct Tally {
    standings: HashMap<Standing, Members>,
    compared: u64,
    not_compared: u64,
    /// Of those compared, the ones that can call nothing in either state.
    idle: u64,
}

impl Tally {
    fn add(&mut self, standing: Standing, name: (Mode, u64)) {
        if self.standings.len() >= STANDINGS_MAX && !self.standings.contains_key(&standing) {
            self.not_compared += 1;
            return;
        }
        self.compared += 1;
        self.idle += u64::from(standing.before.is_none() && standing.after.is_none());
        let members = self.standings.entry(standing).or_default();
        members.total += 1;
        if members.listed.len() < CREDENTIALS_LISTED_MAX {
            members.listed.push(name);
        }
    }
}

/// The first credentials of a group, in order, and the number of all.
#[derive(Default)]
struct Members {
    listed: Vec<(Mode, u64)>,
    total: u64,
}

impl Members {
    fn join(&mut self, other: Self) {
        self.total += other.total;
        self.listed.extend(other.listed);
        self.listed.sort_unstable();
        self.listed.truncate(CREDENTIALS_LISTED_MAX);
    }
}

/// The endpoints that differ.
#[derive(PartialEq, Eq, Hash)]
struct Moved {
    gained: Bits,
    lost: Bits,
}

/// A set of endpoints by their places.
#[derive(PartialEq, Eq, Hash)]
struct Bits(Box<[u64]>);

impl Bits {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)].into())
    }

    fn set(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn any(&self) -> bool {
        self.0.iter().any(|word| *word != 0)
    }

    fn difference(&self, endpoints: &[HotEndpoint], listed_max: usize) -> Difference {
        let inside = endpoints.iter().enumerate().filter(|(place, _)| self.0[place / 64] >> (place % 64) & 1 == 1);
        let name = |(_, endpoint): (usize, &HotEndpoint)| {
            (endpoint.method().as_str().to_string(), endpoint.route().template().to_string())
        };
        let total = self.0.iter().map(|word| u64::from(word.count_ones())).sum();
        Difference { listed: inside.map(name).take(listed_max).collect(), total }
    }
}

/// The largest groups first.
fn listed(groups: HashMap<Moved, Members>, endpoints: &[HotEndpoint]) -> Vec<Effect> {
    let mut groups: Vec<(Moved, Members)> = groups.into_iter().collect();
    groups.sort_unstable_by(|(_, one), (_, other)| {
        (Reverse(one.total), &one.listed).cmp(&(Reverse(other.total), &other.listed))
    });
    groups.truncate(EFFECTS_LISTED_MAX);
    let share = ENDPOINTS_LISTED_MAX / (2 * groups.len()).max(1);
    let effect = |(moved, members): (Moved, Members)| Effect {
        credentials: members.listed,
        credentials_total: members.total,
        gained: moved.gained.difference(endpoints, share),
        lost: moved.lost.difference(endpoints, share),
    };
    groups.into_iter().map(effect).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
