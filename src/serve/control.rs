//! What an operator may change while the doors are open.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use super::{Admins, ConnectionLimits, Deadlines};
use crate::model::UnixSeconds;

/// How the doors are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// On the query socket.
    pub connections: ConnectionLimits,
    /// On the HTTP door, its loopback listener included.
    pub http_connections: ConnectionLimits,
    /// Of connections made from now on.
    pub deadlines: Deadlines,
    /// On the admin socket.
    pub admins: Admins,
    /// The cookie that carries a session over HTTP.
    pub session_cookie: String,
    /// Denials that are logged, for each reason, in a minute.
    pub denials_logged: u32,
    /// From the stop's signal to the closing of what is still open.
    pub stop_deadline: Duration,
}

/// What came of a reload of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// When.
    pub at: UnixSeconds,
    /// Why the configuration before stays in force; `None` when the new one is.
    pub refused: Option<String>,
}

/// The rules in force, and what came of changing them.
pub struct Control {
    rules: ArcSwap<Rules>,
    last_reload: Mutex<Option<Reload>>,
    reloads: [AtomicU64; 2],
}

impl Control {
    /// Begins with these rules.
    #[must_use]
    pub fn new(rules: Rules) -> Arc<Self> {
        Arc::new(Self {
            rules: ArcSwap::from_pointee(rules),
            last_reload: Mutex::default(),
            reloads: [const { AtomicU64::new(0) }; 2],
        })
    }

    pub(super) fn rules(&self) -> Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// From now on these rules are in force. Connections stay as they are.
    pub fn replace(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// Notes what came of a reload, for `status` and `/metrics`.
    pub fn note_reload(&self, reload: Reload) {
        let count = &self.reloads[usize::from(reload.refused.is_some())];
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(reload);
        // Last: whoever sees the count go up finds what came of it.
        count.fetch_add(1, Ordering::Release);
    }

    pub(super) fn last_reload(&self) -> Option<Reload> {
        self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reloads by outcome.
    pub(super) fn reloads(&self) -> [(&'static str, u64); 2] {
        let [done, refused] = &self.reloads;
        [("done", done.load(Ordering::Acquire)), ("refused", refused.load(Ordering::Acquire))]
    }
}
