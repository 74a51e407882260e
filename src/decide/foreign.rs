//! Step 4 for a hash that another system made. Digests are judged here; a slow hash is not, for that takes up to a second:
//! what is asked of it is told by [`Inquiry::wanted_proof`], and [`Inquiry::settle`] takes what came of it.

use super::{Inquiry, Stop};
use crate::directory::HotCredential;
use crate::model::foreign::Digest;
use crate::model::{Code, CodeHash, HashKind, Mode, Pepper, PresentedCredential, SlowHash};

/// What became of a [`WantedProof`] proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The code is the one that was hashed.
    Right,
    /// It is not.
    Wrong,
    /// Nobody had the time to try.
    Untried,
}

/// Names one code and the slow hash that it is tried against; both as keyed hashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProofKey([u8; 64]);

impl ProofKey {
    fn new(presented: &CodeHash, stored: &CodeHash) -> Self {
        let mut both = [0; 64];
        both[..32].copy_from_slice(presented.as_bytes());
        both[32..].copy_from_slice(stored.as_bytes());
        Self(both)
    }
}

/// A slow hash that a code is to be tried against before the question can be decided.
pub struct WantedProof {
    /// Whose.
    pub credential: (Mode, u64),
    /// What tells this proof from others.
    pub key: ProofKey,
    /// The hash.
    pub slow: SlowHash,
    /// The code.
    pub code: Code,
}

/// A code that proved right against another system's hash, and Keyward's own hash of it.
#[derive(Clone, Copy)]
pub struct Upgrade {
    /// Whose.
    pub mode: Mode,
    /// Its id.
    pub id: u64,
    /// What is stored, and proved it.
    pub proven: CodeHash,
    /// What is to take its place.
    pub own: CodeHash,
}

impl Inquiry<'_, '_> {
    /// What the last decision lacked: until it is settled, the verdict is `unavailable`.
    #[must_use]
    pub fn wanted_proof(&self) -> Option<WantedProof> {
        if !matches!(self.known, Some(Err(Stop::Unproven))) {
            return None;
        }
        let presented = self.presented.as_ref().ok()?;
        let PresentedCredential { mode, id, code } = presented.credential;
        let credential = presented.found_record()?;
        let key = ProofKey::new(&self.directory.pepper().hash(mode, id, code), &slow_fingerprint(credential)?);
        Some(WantedProof { credential: (mode, id), key, slow: credential.slow()?.clone(), code: code.to_code() })
    }

    /// Takes what became of the wanted proof, for the next decision.
    pub fn settle(&mut self, proof: Proof) {
        self.proof = Some(proof);
        self.known = None;
    }

    /// When the credential proved itself by another system's hash: what should be stored in its place.
    #[must_use]
    pub fn upgrade(&self) -> Option<Upgrade> {
        let Some(Ok(known)) = &self.known else { return None };
        let proven = known.credential.code_hash(known.code);
        if !proven.is_foreign() {
            return None;
        }
        let PresentedCredential { mode, id, code } = self.presented.as_ref().ok()?.credential;
        Some(Upgrade { mode, id, proven, own: self.directory.pepper().hash(mode, id, code) })
    }
}

/// The hash that names the credential's slow one; at most one of its codes has such a one.
fn slow_fingerprint(credential: &HotCredential) -> Option<CodeHash> {
    let retiring = credential.retiring().map(|retiring| retiring.hash);
    [Some(*credential.hash()), retiring].into_iter().flatten().find(|hash| hash.kind() == HashKind::Slow)
}

/// Whether the presented code is the one that another system made the stored hash of.
pub(super) fn proves(
    pepper: &Pepper,
    presented: &PresentedCredential<'_>,
    stored: &CodeHash,
    proof: Option<Proof>,
) -> Result<bool, Stop> {
    match (stored.kind(), proof) {
        (HashKind::Own, _) => Ok(false),
        (HashKind::Digest(kind), _) => {
            let digest = Digest::of(kind, presented.id, presented.code);
            Ok(pepper.hash_digest(presented.mode, presented.id, &digest) == *stored)
        }
        (HashKind::Slow, Some(Proof::Right)) => Ok(true),
        (HashKind::Slow, Some(Proof::Wrong)) => Ok(false),
        (HashKind::Slow, Some(Proof::Untried)) => Err(Stop::Fault),
        (HashKind::Slow, None) => Err(Stop::Unproven),
    }
}
