//! Fills a daemon with a [`World`].

use std::time::{Duration, Instant};

use keyward_proto::admin::{AdminReply, AdminRequest, Apply, Kind, RefusalKind, Refused, RefusedPatch, StatusReport};
use keyward_proto::client::{AdminClient, ApplyOutcome, ClientError};

use super::world::World;

/// Agents and endpoints in one commit: few enough that neither side holds much at once, many enough that commits cost little beside
/// their records.
const COMMIT_RECORDS: usize = 10_000;

/// Why a daemon was not filled.
#[derive(Debug)]
pub enum LoadError {
    /// It holds records that are not the world's.
    NotEmpty {
        /// How many.
        records: u64,
    },
    /// It refused a part; what was committed before stands.
    Refused(Refused),
    /// There was no answer.
    Client(ClientError),
    /// The answer does not fit the question.
    OtherReply,
}

impl From<ClientError> for LoadError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Records committed.
    pub records: u64,
    /// Records in all.
    pub of: u64,
    /// Since the beginning.
    pub elapsed: Duration,
}

impl Progress {
    /// Records committed each second so far.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate; ten million records are far below 2^53")]
    pub fn per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Refuses a daemon that is in use: a world's codes are known to whoever has its file.
///
/// # Errors
/// [`LoadError::NotEmpty`], or there was no answer.
pub fn expect_empty(client: &mut AdminClient) -> Result<(), LoadError> {
    let AdminReply::Status(status) = client.call(&AdminRequest::Status)? else {
        return Err(LoadError::OtherReply);
    };
    let StatusReport { agents, endpoints, keys, tokens, sessions, .. } = status;
    match agents + endpoints + keys + tokens + sessions {
        0 => Ok(()),
        records => Err(LoadError::NotEmpty { records }),
    }
}

/// Commits the world part by part; `told` hears of each.
///
/// # Errors
/// It stopped there; what was committed before stands.
pub fn load(world: &World, client: &mut AdminClient, mut told: impl FnMut(Progress)) -> Result<Progress, LoadError> {
    let sizes = world.sizes();
    let began = Instant::now();
    let mut progress =
        Progress { records: 0, of: sizes.agents + sizes.endpoints + sizes.keys, elapsed: Duration::ZERO };
    let mut tell = |records| {
        progress.records += records;
        progress.elapsed = began.elapsed();
        told(progress);
    };
    for part in world.agents_and_endpoints(COMMIT_RECORDS) {
        let records = part.len() as u64;
        let sections = vec![Kind::Agent, Kind::Endpoint];
        let apply = Apply { parts: client.upload(part)?, sections, prune: false, dry_run: false };
        if let ApplyOutcome::Refused(refused) = client.apply(&apply)? {
            return Err(LoadError::Refused(refused));
        }
        tell(records);
    }
    let mut refused = None;
    client.import(world.keys(), false, |part| {
        tell(part.imported.added);
        refused = refused.take().or(part.imported.refusals.into_iter().next());
    })?;
    match refused {
        Some(RefusedPatch { message, .. }) => {
            Err(LoadError::Refused(Refused { kind: RefusalKind::Invalid, place: None, message }))
        }
        None => Ok(progress),
    }
}
