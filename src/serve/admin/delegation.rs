//! What a backend asks for at logouts, and to hand a part of its rights on.

use keyward_proto::admin::{AdminReply, CloseAll, CredentialName, CredentialPatch, Mint, Patch, Refused, Report};
use keyward_proto::query::Mode as WireMode;

use super::{Desk, convert, invalid, unavailable};
use crate::model::{Id, Mode, Verdict};
use crate::registry::{Lookup, Order, Settled, WantedProof};

/// Credentials that one order ends, at most: some tens of milliseconds' work, for which other changes wait.
const ENDED_TOGETHER: usize = 1024;

impl Desk {
    /// Ends all of an agent's sessions or tokens that were open when this was asked for.
    pub(super) async fn close_all(&self, close: &CloseAll) -> Result<Report, Refused> {
        let mode = convert::mode(close.mode);
        if mode == Mode::Key {
            return Err(invalid("keys are revoked one by one: give session or token".to_string()));
        }
        let no_agent = || invalid(format!("there is no agent {}", close.agent));
        let agent = Id::new(close.agent).ok_or_else(no_agent)?;
        // Millions may be walked: aside of the threads that answer questions.
        let open = match self.blocking(move |registry| Ok(registry.view().bound_to(mode, agent))).await? {
            Lookup::Found(open) => open,
            Lookup::Absent => return Err(no_agent()),
            Lookup::Damaged => {
                let why =
                    format!("rows are damaged: which {mode}s are agent {agent}'s can't be told; restore a backup");
                return Err(unavailable(why));
            }
        };
        let mut report = Report::default();
        for part in open.chunks(ENDED_TOGETHER) {
            let outcome = self.order(Order::End(part.to_vec())).await?;
            report.removed.extend(outcome.removed.iter().map(convert::selector));
        }
        Ok(report)
    }

    /// Makes a token from a credential that proves itself.
    pub(super) async fn mint(&self, mint: Mint) -> Result<AdminReply, Refused> {
        let mut settled = None;
        let patch = loop {
            match self.minted(&mint, settled.take()) {
                Ok(patch) => break patch,
                Err(Unminted::Refused(refused)) => return Err(refused),
                Err(Unminted::Wanting(wanted)) => settled = Some(self.serving.registry.settle(*wanted).await),
            }
        };
        let reply = self.add(Patch::Credential(patch)).await?;
        self.serving.registry.view().note_proof(mint.credential.expose(), mint.agent);
        Ok(reply)
    }

    /// The token that is to be added.
    fn minted(&self, mint: &Mint, settled: Option<Settled>) -> Result<CredentialPatch, Unminted> {
        let Mint { credential, agent, ttl, tags, app_id, label } = mint;
        if *ttl == 0 {
            let why = "ttl: the token would be expired at once: give a second or more".to_string();
            return Err(Unminted::Refused(invalid(why)));
        }
        let view = self.serving.registry.view().with(settled);
        let proven = view.prove(credential.expose(), *agent);
        if let Some(wanted) = view.take_wanted() {
            return Err(Unminted::Wanting(wanted));
        }
        let parent = proven.map_err(|verdict| Unminted::Refused(unproven(&verdict)))?;
        Ok(CredentialPatch {
            label: label.clone(),
            agent: Some(parent.agent.id),
            app_id: app_id.map(Some),
            tags: tags.clone(),
            expires_at: Some(Some(view.now().0.saturating_add(*ttl))),
            parent: Some(CredentialName { mode: convert::mode_to_wire(parent.mode), id: parent.credential_id }),
            ..CredentialPatch::new(WireMode::Token, None)
        })
    }
}

/// Why there is no token yet.
enum Unminted {
    Refused(Refused),
    /// Its code is to be tried against a slow hash first.
    Wanting(Box<WantedProof>),
}

fn unproven(verdict: &Verdict<'_>) -> Refused {
    match verdict {
        Verdict::Deny(reason) => {
            let reason = convert::reason(*reason).name();
            invalid(format!(
                "no token was made: a question with this credential, as this agent, gets {reason}; present one that may \
                 be used now"
            ))
        }
        Verdict::Unavailable | Verdict::Allow(_) => {
            let why = "no token was made: the code could not be tried now, or what the answer rests on is damaged; try \
                       again, and see status";
            unavailable(why.to_string())
        }
    }
}
