//! What questions are answered from: the published state, the clock, and the book of uses. Knows no disk.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use super::clock::Clock;
use super::proofs::{Proofs, Settled};
use super::upgrades::Upgrades;
use super::uses::UseBook;
use crate::decide::{Asker, Explanation, Granted, Inquiry, Proof, ReachPage, Stop, Target, Unreached, WantedProof};
use crate::directory::{Directory, Lookup};
use crate::model::{Id, Identity, Kind, Mode, Reason, Ticks, UnixSeconds, Verdict};

/// What the writer publishes.
struct Published {
    directory: Directory,
    counts: Counts,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Endpoints that match something.
    pub endpoints: u64,
    /// Rows of keys, revoked ones too.
    pub keys: u64,
    /// Rows of tokens.
    pub tokens: u64,
    /// Rows of sessions.
    pub sessions: u64,
    /// Distinct tag sets.
    pub tag_sets: u64,
}

/// The readers' side of a registry.
pub struct Reading {
    published: ArcSwap<Published>,
    pub(super) clock: Clock,
    pub(super) uses: UseBook,
    pub(super) proofs: Arc<Proofs>,
    pub(super) upgrades: Upgrades,
    /// Where the clock of the rates begins.
    began: Instant,
}

impl Reading {
    /// Answers from `directory` until another one is published.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        Self {
            published: ArcSwap::from_pointee(Published { directory, counts: Counts::default() }),
            clock: Clock::new(UnixSeconds(0)),
            uses: UseBook::new(),
            proofs: Arc::default(),
            upgrades: Upgrades::default(),
            began: Instant::now(),
        }
    }

    /// Every view that is taken from now on shows `directory`.
    pub fn publish(&self, directory: Directory, counts: Counts) {
        self.published.store(Arc::new(Published { directory, counts }));
    }

    /// The state as published now, for the questions of one read of a socket.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View {
            reading: self,
            published: self.published.load(),
            now: self.clock.now(),
            ticks: Cell::new(None),
            settled: None,
            wanted: Cell::new(None),
        }
    }

    /// The state as published now, to be kept for a while.
    pub(super) fn state(&self) -> Directory {
        self.published.load().directory.clone()
    }
}

/// One published state at one time.
pub struct View<'r> {
    reading: &'r Reading,
    published: Guard<Arc<Published>>,
    now: UnixSeconds,
    /// The same moment finer, once a credential with a rate was allowed something.
    ticks: Cell<Option<Ticks>>,
    /// What became of the proof that the first question of a read wanted.
    settled: Option<Settled>,
    /// What the last question wanted and nobody knows.
    wanted: Cell<Option<Box<WantedProof>>>,
}

impl View<'_> {
    /// The state itself.
    pub(super) fn directory(&self) -> &Directory {
        &self.published.directory
    }

    /// How much there is.
    pub(super) fn counts(&self) -> Counts {
        self.published.counts
    }

    /// The time that its questions are judged at.
    #[must_use]
    pub const fn now(&self) -> UnixSeconds {
        self.now
    }

    /// The same, with what became of a proof.
    #[must_use]
    pub fn with(mut self, settled: Option<Settled>) -> Self {
        self.settled = settled;
        self
    }

    /// What the last question that was answered needs to be known first; until then it is answered `unavailable`. To be
    /// handed to [`super::Registry::settle`], and the question asked again of a view that has the outcome.
    #[must_use]
    pub fn take_wanted(&self) -> Option<Box<WantedProof>> {
        self.wanted.take()
    }

    /// Whether there is such a thing.
    #[must_use]
    pub fn wants_proof(&self) -> bool {
        let wanted = self.wanted.take();
        let wants = wanted.is_some();
        self.wanted.set(wanted);
        wants
    }

    /// Begins a question, for [`View::answer`]. What the look-up of the credential reads first, and the note of its use,
    /// is on its way from memory then; see [`Directory::fetch_place`].
    #[must_use]
    pub fn inquire<'v, 'a>(&'v self, asker: Asker<'a>) -> Inquiry<'v, 'a> {
        let inquiry = Inquiry::new(&self.published.directory, asker, self.now);
        if let Some((mode, id)) = inquiry.presented() {
            self.published.directory.fetch_place(mode, id);
            self.reading.uses.fetch_place(mode, id);
        }
        inquiry
    }

    /// Sets on its way from memory what they read then.
    pub fn fetch_credential(&self, inquiry: &Inquiry<'_, '_>) {
        if let Some((mode, id)) = inquiry.presented() {
            self.published.directory.fetch_credential(mode, id);
            self.reading.uses.fetch(mode, id);
        }
    }

    /// Answers a question that was begun and notes the use of an accepted code.
    pub fn answer<'v>(&'v self, inquiry: &mut Inquiry<'v, '_>, target: &Target<'_>) -> Verdict<'v> {
        match self.judge(inquiry, target) {
            Ok(granted) => {
                let terms = inquiry.terms(granted);
                if let Some(identity) = &terms.identity {
                    self.note_use(inquiry, identity);
                }
                Verdict::Allow(terms)
            }
            Err(stop) => stop.into(),
        }
    }

    fn recall(&self, wanted: &WantedProof) -> Option<Proof> {
        match &self.settled {
            Some(settled) if settled.key == wanted.key => Some(settled.proof),
            Some(_) | None => self.reading.proofs.recall(&wanted.key),
        }
    }

    /// Answers one question and notes the use of an accepted code.
    pub fn check(&self, asker: &Asker<'_>, target: &Target<'_>) -> Verdict<'_> {
        self.answer(&mut self.inquire(*asker), target)
    }

    /// Answers the targets of a batch from this one state, in order: a yes, or what there is instead. Who it is, when a
    /// target that needs a credential was allowed. Ends early when it [wants a proof](View::wants_proof).
    pub fn check_all<'v, 't>(
        &'v self,
        asker: Asker<'_>,
        targets: impl Iterator<Item = Target<'t>>,
        mut each: impl FnMut(Result<(), Stop>),
    ) -> Option<Identity<'v>> {
        let mut inquiry = self.inquire(asker);
        let mut identified = false;
        for target in targets {
            let judged = self.judge(&mut inquiry, &target);
            if matches!(judged, Err(Stop::Unproven)) && self.wants_proof() {
                return None;
            }
            identified |= judged.is_ok_and(|granted| granted.identified);
            each(judged.map(drop));
        }
        let identity = if identified { inquiry.identity() } else { None };
        if let Some(identity) = &identity {
            self.note_use(&inquiry, identity);
        }
        identity
    }

    /// Decides one target. An allow takes one from the credential's rate, and is none when nothing is left (step 12). Who
    /// it is, is no such target.
    fn judge<'v>(&'v self, inquiry: &mut Inquiry<'v, '_>, target: &Target<'_>) -> Result<Granted<'v>, Stop> {
        let judged = self.decide(inquiry, target);
        if matches!(judged, Err(Stop::Unproven)) && self.wants_proof() {
            return judged;
        }
        let granted = judged?;
        if granted.identified
            && !matches!(target, Target::Nobody)
            && let Some(bucket) = inquiry.bucket()
            && let Err(wait) = bucket.take(self.ticks())
        {
            return Err(Reason::RateLimited(wait).into());
        }
        Ok(granted)
    }

    /// One moment for all questions of this view.
    fn ticks(&self) -> Ticks {
        let read = || {
            let nanos = self.reading.began.elapsed().as_nanos();
            Ticks(u64::try_from(nanos).expect("a daemon runs for less than five hundred years"))
        };
        let ticks = self.ticks.get().unwrap_or_else(read);
        self.ticks.set(Some(ticks));
        ticks
    }

    /// Decides, by what is known of a code that is judged slowly. What isn't known is [wanted](View::take_wanted).
    fn decide<'v>(&'v self, inquiry: &mut Inquiry<'v, '_>, target: &Target<'_>) -> Result<Granted<'v>, Stop> {
        let judged = inquiry.judge(target);
        if matches!(judged, Err(Stop::Unproven)) && self.settled_for(inquiry) { inquiry.judge(target) } else { judged }
    }

    /// Gives the inquiry what is known of the proof that it wants; where nothing is, that is wanted of the view.
    fn settled_for(&self, inquiry: &mut Inquiry<'_, '_>) -> bool {
        let Some(wanted) = inquiry.wanted_proof() else { return false };
        let Some(proof) = self.recall(&wanted) else {
            self.wanted.set(Some(Box::new(wanted)));
            return false;
        };
        inquiry.settle(proof);
        true
    }

    fn note_use(&self, inquiry: &Inquiry<'_, '_>, identity: &Identity<'_>) {
        self.reading.uses.note(identity, self.now, inquiry.asker().address);
        if let Some(upgrade) = inquiry.upgrade() {
            self.reading.upgrades.offer(upgrade);
        }
    }

    /// Who presents this credential, for a token to be made from it; see [`Inquiry::prove`]. It may [want a
    /// proof](View::take_wanted), as a question may.
    ///
    /// # Errors
    /// The verdict that a question would get.
    pub fn prove<'v>(&'v self, header: &[u8], agent: Option<u64>) -> Result<Identity<'v>, Verdict<'v>> {
        self.prove_with(&mut self.inquire(Asker { credential: Some(header), ..Asker::default() }), agent)
    }

    /// Notes that a token was made from a credential: one that only makes tokens is in use.
    pub fn note_proof(&self, header: &[u8], agent: Option<u64>) {
        let mut inquiry = self.inquire(Asker { credential: Some(header), ..Asker::default() });
        if let Ok(identity) = self.prove_with(&mut inquiry, agent) {
            self.note_use(&inquiry, &identity);
        }
    }

    fn prove_with<'v>(
        &'v self,
        inquiry: &mut Inquiry<'v, '_>,
        agent: Option<u64>,
    ) -> Result<Identity<'v>, Verdict<'v>> {
        let proven = inquiry.prove(agent);
        if self.settled_for(inquiry) { inquiry.prove(agent) } else { proven }
    }

    /// What a token in force gets for its parent's state; see [`crate::decide::state_of_parent`].
    #[must_use]
    pub fn state_of_parent(&self, parent: (Mode, Id)) -> Option<Reason> {
        crate::decide::state_of_parent(&self.published.directory, parent, self.now)
    }

    /// The agent's credentials of a mode that are not revoked; [`Lookup::Absent`] when there is no such agent.
    #[must_use]
    pub fn bound_to(&self, mode: Mode, agent: Id) -> Lookup<Vec<(Mode, Id)>> {
        let directory = &self.published.directory;
        match directory.agent(agent.get()) {
            Lookup::Absent => return Lookup::Absent,
            Lookup::Damaged => return Lookup::Damaged,
            Lookup::Found(_) if directory.is_damaged(Kind::Credential(mode)) => return Lookup::Damaged,
            Lookup::Found(_) => {}
        }
        let mut bound: Vec<(Mode, Id)> = directory
            .credentials_naming(agent)
            .filter(|(of, _)| *of == mode)
            .filter_map(|(mode, id)| Some((mode, Id::new(id)?)))
            .collect();
        bound.sort_unstable();
        Lookup::Found(bound)
    }

    /// Explains what a credential with its right code would get; notes no use.
    pub fn explain(&self, credential: (Mode, u64), asker: &Asker<'_>, line: (&[u8], &[u8])) -> Explanation<'_> {
        crate::decide::explain(&self.published.directory, credential, asker, line, self.now)
    }

    /// What a credential with its right code could reach as `agent`, one page; notes no use.
    ///
    /// # Errors
    /// See [`Unreached`].
    pub fn reach(
        &self,
        credential: (Mode, u64),
        agent: Option<&[u8]>,
        page: (&[u8], usize),
    ) -> Result<ReachPage<'_>, Unreached> {
        crate::decide::reach(&self.published.directory, credential, agent, self.now, page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Compiler;
    use crate::model::Pepper;

    #[test]
    fn all_questions_of_a_view_are_of_one_moment() {
        let compiler = Compiler::new(Arc::new(Pepper::new([1; 32].into())));
        let reading = Reading::new(compiler.directory().clone());
        let view = reading.view();
        let first = view.ticks();
        while reading.view().ticks() == first {}
        assert_eq!(view.ticks(), first);
    }
}
