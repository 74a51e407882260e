//! The doors: listeners, who may connect, how many, and the orderly stop.
//!
//! | part | what is in it |
//! |---|---|
//! | here | accepting: limits, classes of errors, peer identity |
//! | [`listen`] | making sockets |
//! | `connection` | one framed connection: buffers and deadlines |
//! | `query` | `query.sock`: HOT PATH 1/2 |
//! | `admin` | `admin.sock` |
//! | `http` | `http.sock` and the loopback listener |
//! | `convert` | between wire and model |

mod admin;
mod connection;
mod convert;
mod http;
pub mod listen;
pub mod query;

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use connection::Deadlines;
use keyward_proto::frame::{ADMIN_ERROR, ErrorCode, FrameError, QUERY_ERROR, put_error};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, getgrouplist};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::UnixSeconds;
use crate::registry::{Origin, Peer, Registry};

/// Connections on the admin socket. They are not taken from the query socket's, so that an operator gets in however
/// full that is. A hundred programs that change things at once share their commits, and leave room for people.
pub const ADMIN_CONNECTIONS_MAX: usize = 128;
/// How long accepting pauses when the system is out of descriptors or memory: trying again at once would spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// TCP peers have no user id and count as one user; this id, `(uid_t) -1`, is nobody's.
const TCP_PEERS: u32 = u32::MAX;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In total.
    pub total: usize,
    /// By one user.
    pub per_uid: usize,
}

/// Who may use the admin socket, beside root and the daemon's own user.
#[derive(Clone, Debug, Default)]
pub struct Admins {
    /// Users.
    pub uids: Vec<u32>,
    /// Groups.
    pub gids: Vec<u32>,
    /// Set when user ids are mapped (`/proc/self/uid_map` is not the full range): a peer's id can't be told, so nobody
    /// is let in.
    pub ids_are_mapped: bool,
}

impl Admins {
    /// Whether a peer may use the admin socket.
    fn allow(&self, uid: u32, gid: u32) -> bool {
        if self.ids_are_mapped {
            return false;
        }
        uid == 0
            || uid == Uid::effective().as_raw()
            || self.uids.contains(&uid)
            || self.gids.contains(&gid)
            || (!self.gids.is_empty() && groups_of(uid, gid).iter().any(|gid| self.gids.contains(gid)))
    }
}

/// A user's supplementary groups; none when the user is not known.
fn groups_of(uid: u32, gid: u32) -> Vec<u32> {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
        return Vec::new();
    };
    let Ok(name) = std::ffi::CString::new(user.name) else {
        return Vec::new();
    };
    let groups = getgrouplist(&name, Gid::from_raw(gid)).unwrap_or_default();
    groups.into_iter().map(Gid::as_raw).collect()
}

/// Counts connections, in total and by user.
pub(crate) struct Gate {
    limits: ConnectionLimits,
    open: Mutex<HashMap<u32, usize>>,
}

/// One connection's place; given back when dropped.
struct Place {
    gate: Arc<Gate>,
    uid: u32,
}

impl Gate {
    fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> usize {
        self.counts().values().sum()
    }

    /// A place for one more connection of `uid`.
    fn enter(self: &Arc<Self>, uid: u32) -> Result<Place, FrameError> {
        let mut counts = self.counts();
        let total: usize = counts.values().sum();
        let own = counts.entry(uid).or_default();
        let ConnectionLimits { total: total_max, per_uid: own_max } = self.limits;
        let why = if total >= total_max {
            format!("all {total_max} connections are taken; raise limits.connections, or close idle ones")
        } else if *own >= own_max && uid == TCP_PEERS {
            format!("TCP peers have {own_max} connections open; raise limits.connections_per_uid, or close idle ones")
        } else if *own >= own_max {
            format!("user {uid} has {own_max} connections open; raise limits.connections_per_uid, or close idle ones")
        } else {
            *own += 1;
            return Ok(Place { gate: Arc::clone(self), uid });
        };
        Err(FrameError::new(ErrorCode::TooManyConnections, why))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.gate.counts();
        if let Some(own) = counts.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

/// What all connections share.
pub(crate) struct Serving {
    registry: Arc<Registry>,
    deadlines: Deadlines,
    admins: Admins,
    query_gate: Arc<Gate>,
    admin_gate: Arc<Gate>,
    http_gate: Arc<Gate>,
    http: Arc<http::Door>,
    started_at: UnixSeconds,
}

/// The listeners.
pub struct Doors {
    /// `query.sock`
    pub query: UnixListener,
    /// `admin.sock`
    pub admin: UnixListener,
    /// `http.sock`
    pub http: UnixListener,
    /// The HTTP door for proxies that can't dial a Unix socket.
    pub http_loopback: Option<TcpListener>,
}

/// How the doors are kept.
pub struct Rules {
    /// On the query socket.
    pub connections: ConnectionLimits,
    /// On the HTTP door, its loopback listener included.
    pub http_connections: ConnectionLimits,
    /// On all.
    pub deadlines: Deadlines,
    /// On the admin socket.
    pub admins: Admins,
    /// The cookie that carries a session over HTTP.
    pub session_cookie: String,
    /// From the stop's signal to the closing of what is still open.
    pub stop_deadline: Duration,
}

/// Serves until `stop` is cancelled, then finishes what was received.
///
/// # Errors
/// When accepting fails for good.
pub async fn serve(registry: Arc<Registry>, doors: Doors, rules: Rules, stop: CancellationToken) -> io::Result<()> {
    let started_at = registry.view().now();
    let admin_limits = ConnectionLimits { total: ADMIN_CONNECTIONS_MAX, per_uid: ADMIN_CONNECTIONS_MAX };
    let serving = Arc::new(Serving {
        started_at,
        http: Arc::new(http::Door::new(Arc::clone(&registry), rules.session_cookie)),
        registry,
        deadlines: rules.deadlines,
        admins: rules.admins,
        query_gate: Gate::new(rules.connections),
        admin_gate: Gate::new(admin_limits),
        http_gate: Gate::new(rules.http_connections),
    });
    let tasks = TaskTracker::new();
    let unix = |door| {
        let (serving, tasks, stop) = (&serving, &tasks, &stop);
        move |(stream, _)| admit(door, stream, serving, tasks, stop)
    };
    // One door that fails for good closes the others: the supervisor must see it.
    let outcome = tokio::try_join!(
        accept(Door::Query, async || doors.query.accept().await, unix(Door::Query), &stop),
        accept(Door::Admin, async || doors.admin.accept().await, unix(Door::Admin), &stop),
        accept(Door::Http, async || doors.http.accept().await, unix(Door::Http), &stop),
        async {
            let Some(listener) = &doors.http_loopback else { return Ok(()) };
            let admit = |(stream, _)| admit_loopback(stream, &serving, &tasks, &stop);
            accept(Door::Http, async || listener.accept().await, admit, &stop).await
        },
    );
    stop.cancel();
    drop(doors);
    tasks.close();
    if tokio::time::timeout(rules.stop_deadline, tasks.wait()).await.is_err() {
        tracing::warn!(open = tasks.len(), "connections were cut off at the stop's deadline");
    }
    outcome.map(drop)
}

#[derive(Clone, Copy, Debug)]
enum Door {
    Query,
    Admin,
    Http,
}

impl Door {
    /// What a refused connection is sent, in the door's own language.
    fn refusal(self, error: &FrameError) -> Vec<u8> {
        let mut message = Vec::new();
        match self {
            Self::Query => put_error(&mut message, QUERY_ERROR, 0, error),
            Self::Admin => put_error(&mut message, ADMIN_ERROR, 0, error),
            Self::Http => message.extend_from_slice(http::BUSY),
        }
        message
    }
}

async fn accept<C>(
    door: Door,
    mut next: impl AsyncFnMut() -> io::Result<C>,
    admit: impl Fn(C),
    stop: &CancellationToken,
) -> io::Result<()> {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            accepted = next() => accepted,
        };
        let error = match accepted {
            Ok(connection) => {
                admit(connection);
                continue;
            }
            Err(error) => error,
        };
        match AcceptError::of(&error) {
            AcceptError::Retry => {}
            AcceptError::Exhausted => {
                tracing::error!(?door, %error, "no connection can be accepted; trying again shortly");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            AcceptError::Fatal => {
                tracing::error!(?door, %error, "accepting failed for good");
                stop.cancel();
                return Err(error);
            }
        }
    }
}

/// What to do when accepting fails (accept(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptError {
    /// The connection is gone, or a signal came: go on.
    Retry,
    /// Out of descriptors or memory: pause, then go on.
    Exhausted,
    /// The listener itself is broken.
    Fatal,
}

impl AcceptError {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EINTR | Errno::EAGAIN | Errno::ECONNABORTED | Errno::EPROTO | Errno::EPERM) => Self::Retry,
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => Self::Exhausted,
            Some(_) | None => Self::Fatal,
        }
    }
}

/// Judges the peer and hands the connection to its door, or says why not and closes.
fn admit(door: Door, stream: UnixStream, serving: &Arc<Serving>, tasks: &TaskTracker, stop: &CancellationToken) {
    let (place, origin) = match judge_peer(door, &stream, serving) {
        Ok(judged) => judged,
        Err(error) => {
            tracing::warn!(?door, reason = %error.message, "a connection was refused");
            // A fresh socket has room for one small message, and tokio doesn't know yet that it has; where the write fails,
            // closing says it too.
            let refusal = door.refusal(&error);
            let _ = stream.into_std().and_then(|mut stream| stream.write_all(&refusal));
            return;
        }
    };
    tracing::debug!(?door, uid = place.uid, "connected");
    // A token of its own: a shared one's lock would be taken by every connection at every read.
    let (serving, stop) = (Arc::clone(serving), stop.child_token());
    tasks.spawn(async move {
        let _place = place;
        match door {
            Door::Query => query::serve(stream, Arc::clone(&serving.registry), serving.deadlines, stop).await,
            Door::Admin => admin::serve(stream, serving, origin, stop).await,
            Door::Http => http::serve(stream, Arc::clone(&serving.http), serving.deadlines, stop).await,
        }
    });
}

/// The same for a peer that came over the loopback interface, where nobody has an identity.
fn admit_loopback(stream: TcpStream, serving: &Arc<Serving>, tasks: &TaskTracker, stop: &CancellationToken) {
    let place = match serving.http_gate.enter(TCP_PEERS) {
        Ok(place) => place,
        Err(error) => {
            tracing::warn!(door = ?Door::Http, reason = %error.message, "a connection was refused");
            let _ = stream.try_write(&Door::Http.refusal(&error));
            return;
        }
    };
    // Answers are small and whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    // A token of its own: a shared one's lock would be taken by every connection at every read.
    let (serving, stop) = (Arc::clone(serving), stop.child_token());
    tasks.spawn(async move {
        let _place = place;
        http::serve(stream, Arc::clone(&serving.http), serving.deadlines, stop).await;
    });
}

/// Identity comes from the socket, once, here (`SO_PEERCRED`, unix(7)).
fn judge_peer(door: Door, stream: &UnixStream, serving: &Serving) -> Result<(Place, Origin), FrameError> {
    let peer = stream.peer_cred().map_err(|error| {
        FrameError::new(ErrorCode::NotPermitted, format!("the peer's identity could not be read: {error}"))
    })?;
    let place = match door {
        Door::Query => serving.query_gate.enter(peer.uid()),
        Door::Http => serving.http_gate.enter(peer.uid()),
        Door::Admin => {
            if !serving.admins.allow(peer.uid(), peer.gid()) {
                return Err(FrameError::new(ErrorCode::NotPermitted, not_permitted(serving, peer.uid())));
            }
            serving.admin_gate.enter(peer.uid())
        }
    }?;
    let origin = Origin::Peer(Peer { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() });
    Ok((place, origin))
}

fn not_permitted(serving: &Serving, uid: u32) -> String {
    if serving.admins.ids_are_mapped {
        return "user ids are mapped in the daemon's namespace, so nobody can be told apart: run it without \
                PrivateUsers= or outside the user namespace"
            .to_string();
    }
    format!("user {uid} may not use the admin socket: only root, the daemon's user, and admin.uids and admin.gids may")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_have_three_classes() {
        let table = [
            (Errno::ECONNABORTED, AcceptError::Retry),
            (Errno::EINTR, AcceptError::Retry),
            (Errno::EMFILE, AcceptError::Exhausted),
            (Errno::ENFILE, AcceptError::Exhausted),
            (Errno::ENOBUFS, AcceptError::Exhausted),
            (Errno::ENOMEM, AcceptError::Exhausted),
            (Errno::EBADF, AcceptError::Fatal),
            (Errno::EINVAL, AcceptError::Fatal),
            (Errno::ENOTSOCK, AcceptError::Fatal),
        ];
        for (errno, class) in table {
            assert_eq!(AcceptError::of(&io::Error::from(errno)), class, "{errno}");
        }
    }

    #[test]
    fn a_gate_counts_in_total_and_by_user_and_gives_places_back() {
        let gate = Gate::new(ConnectionLimits { total: 3, per_uid: 2 });
        let first = gate.enter(1).ok();
        let second = gate.enter(1).ok();
        assert!(first.is_some() && second.is_some());
        assert!(gate.enter(1).is_err(), "one user has all of its places");
        let third = gate.enter(2).ok();
        assert!(third.is_some());
        assert!(gate.enter(2).is_err(), "all places are taken");
        drop(second);
        assert_eq!(gate.open(), 2);
        assert!(gate.enter(2).is_ok());
    }

    #[test]
    fn the_admin_door_knows_root_itself_and_the_listed() {
        let own = Uid::effective().as_raw();
        let admins = Admins { uids: vec![4001], gids: vec![4002], ids_are_mapped: false };
        let table = [(0, 0, true), (own, 9, true), (4001, 9, true), (4003, 4002, true), (4003, 4004, false)];
        for (uid, gid, allowed) in table {
            assert_eq!(admins.allow(uid, gid), allowed, "uid {uid} gid {gid}");
        }
        let mapped = Admins { ids_are_mapped: true, ..admins };
        assert!(!mapped.allow(0, 0), "behind a mapping nobody can be told apart");
    }
}
