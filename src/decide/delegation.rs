//! Tokens that were made from another credential: at each step of the table the token is judged first, then its parent.

use super::{Addresses, Asker, Inquiry, Stop, acting_agent, credential_in_force};
use crate::directory::{Directory, HotCredential, Lookup};
use crate::model::{Id, Identity, Mode, Reason, UnixSeconds, Verdict};

/// The parent of a token that has one. One that is gone, and one that has a parent itself, stand for nothing: the token
/// is dead with them.
pub(super) fn parent<'d>(
    directory: &'d Directory,
    credential: &HotCredential,
) -> Result<Option<&'d HotCredential>, Stop> {
    let Some((mode, id)) = credential.parent() else { return Ok(None) };
    match directory.credential(mode, id.get()) {
        Lookup::Found(parent) if parent.parent().is_none() => Ok(Some(parent)),
        Lookup::Found(_) | Lookup::Absent => Err(Reason::BadCredential.into()),
        Lookup::Damaged => Err(Stop::Fault),
    }
}

/// What a token in force gets for its parent's state; `None` when that is in force, too, or can't be told.
#[must_use]
pub fn state_of_parent(directory: &Directory, (mode, id): (Mode, Id), now: UnixSeconds) -> Option<Reason> {
    match directory.credential(mode, id.get()) {
        Lookup::Found(parent) => credential_in_force(parent, now).err(),
        Lookup::Absent => Some(Reason::BadCredential),
        Lookup::Damaged => None,
    }
}

/// Step 5 for a parent.
pub(super) fn in_force(parent: Option<&HotCredential>, now: UnixSeconds) -> Result<(), Reason> {
    parent.map_or(Ok(()), |parent| credential_in_force(parent, now))
}

/// Step 6 for a parent.
pub(super) fn address_allowed(parent: Option<&HotCredential>, asker: &Asker<'_>) -> Result<(), Reason> {
    parent.map_or(Ok(()), |parent| super::address_allowed(parent, asker))
}

/// Step 7 for a parent: the token acts as nobody that its parent could not act as.
pub(super) fn may_act_as(parent: Option<&HotCredential>, agent: u64) -> Result<(), Reason> {
    parent.map_or(Ok(()), |parent| acting_agent(parent, Some(agent)).map(drop))
}

impl<'d> Inquiry<'d, '_> {
    /// Who presents the credential, for a token to be made from it: steps 3, 4, 5 and 7. Whoever asks for the token is no
    /// client of a web server, so that there is no address to judge (step 6); the token's own uses are judged by it.
    ///
    /// # Errors
    /// What a question would get.
    pub fn prove(&mut self, agent: Option<u64>) -> Result<Identity<'d>, Verdict<'d>> {
        let proven = self.authenticate(agent, Addresses::NotKnown);
        self.known = Some(proven);
        proven.map(|known| known.identity()).map_err(Verdict::from)
    }
}
