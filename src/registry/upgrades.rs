//! Hands codes that proved right against another system's hash to the writer, once each. Never waited for.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::audit::Origin;
use super::plan::Order;
use super::writer::{Job, Ordered};
use crate::decide::Upgrade;
use crate::model::Mode;

/// Upgrades that the writer has at once: half a group of orders, so that no change waits long behind them. One that finds
/// no room comes again with the credential's next use.
const PENDING_MAX: usize = 512;
/// When the writer could not carry one out, it is left alone for so long: a full disk is not tried with every question.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// See the module's doc.
#[derive(Default)]
pub(super) struct Upgrades(Mutex<Desk>);

#[derive(Default)]
struct Desk {
    /// None where there is no writer.
    jobs: Option<Sender<Job>>,
    pending: HashMap<(Mode, u64), Instant>,
}

impl Upgrades {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on there is this writer, or none.
    pub(super) fn connect(&self, jobs: Option<Sender<Job>>) {
        self.desk().jobs = jobs;
    }

    /// Hands an upgrade over, unless the writer has it or there is no room.
    pub(super) fn offer(&self, upgrade: Upgrade) {
        let mut desk = self.desk();
        let credential = (upgrade.mode, upgrade.id);
        if desk.pending.get(&credential).is_some_and(|since| since.elapsed() < AGAIN_AFTER) {
            return;
        }
        if desk.pending.len() >= PENDING_MAX {
            desk.pending.retain(|_, since| since.elapsed() < AGAIN_AFTER);
        }
        if desk.pending.len() >= PENDING_MAX {
            return;
        }
        let Some(jobs) = &desk.jobs else { return };
        // Nobody waits for the outcome.
        let (reply, _) = oneshot::channel();
        let ordered = Ordered { order: Order::Upgrade(upgrade), origin: Origin::Daemon, reply };
        if jobs.send(Job::Order(Box::new(ordered))).is_ok() {
            desk.pending.insert(credential, Instant::now());
        }
    }

    /// Notes the records that are durable and visible now.
    pub(super) fn done(&self, credentials: impl Iterator<Item = (Mode, u64)>) {
        let mut desk = self.desk();
        for credential in credentials {
            desk.pending.remove(&credential);
        }
    }
}
