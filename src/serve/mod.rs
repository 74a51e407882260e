//! The doors: listeners, who may connect, how many, and the orderly stop.
//!
//! | part | what is in it |
//! |---|---|
//! | here | accepting: limits, classes of errors, peer identity |
//! | [`listen`] | making sockets |
//! | `gate` | how many connections there may be |
//! | `control` | the rules that may change while the doors are open |
//! | `connection` | one connection: buffers and deadlines |
//! | `query` | `query.sock`: HOT PATH 1/2 |
//! | `admin` | `admin.sock` |
//! | `http` | `http.sock` and the loopback listener |
//! | `meters` | what the doors count and log of it; `/metrics` |
//! | `convert` | between wire and model |

mod admin;
mod connection;
mod control;
mod convert;
mod gate;
pub mod http;
pub mod listen;
mod meters;
pub mod query;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

pub use connection::Deadlines;
pub use control::{Control, Reload, Rules};
pub use gate::ConnectionLimits;
use gate::{Cause, Gate, Place, Refused, TCP_PEERS};
use keyward_proto::frame::{ADMIN_ERROR, ErrorCode, FrameError, QUERY_ERROR, put_error};
pub use meters::{AskDoor, DenialLog, Notes};
use meters::{Exposition, MARK_INTERVAL, Meters, Suppressed, exposed};
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
/// Who may use the admin socket, beside root and the daemon's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admins {
    /// Users.
    pub uids: Vec<u32>,
    /// Groups.
    pub gids: Vec<u32>,
    /// Set when user ids are mapped (user_namespaces(7)) so that users can't be told apart: nobody is let in.
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

/// What all connections share.
pub(crate) struct Serving {
    registry: Arc<Registry>,
    control: Arc<Control>,
    /// By [`Door`].
    gates: [Arc<Gate>; 3],
    meters: Meters,
    started_at: UnixSeconds,
}

impl Serving {
    fn new(registry: Arc<Registry>, control: Arc<Control>) -> Self {
        let started_at = registry.view().now();
        let serving = Self { registry, control, gates: Default::default(), meters: Meters::default(), started_at };
        serving.refill_log();
        serving
    }

    /// Begins another minute of what is logged in samples.
    fn refill_log(&self) {
        self.meters.denials.refill(self.control.rules().denials_logged);
        self.gates.iter().for_each(|gate| gate.refill());
    }

    fn gate(&self, door: Door) -> &Arc<Gate> {
        &self.gates[door as usize]
    }

    fn open(&self, door: Door) -> u64 {
        self.gate(door).open() as u64
    }

    fn refused_connections(&self) -> u64 {
        self.gates.iter().flat_map(|gate| Cause::ALL.map(|cause| gate.refused(cause))).sum()
    }

    /// The text of `/metrics`.
    fn exposed(&self) -> String {
        let by_cause = |door: Door| Cause::ALL.map(|cause| (door.name(), cause.name(), self.gate(door).refused(cause)));
        let exposition = Exposition {
            summary: self.registry.summary(),
            started_at: self.started_at.0,
            connections: Door::ALL.map(|door| (door.name(), self.open(door))).into(),
            refused: Door::ALL.into_iter().flat_map(by_cause).collect(),
            reloads: self.control.reloads(),
        };
        exposed(exposition, &self.meters)
    }
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

/// Serves until `stop` is cancelled, then finishes what was received.
///
/// # Errors
/// When accepting fails for good.
pub async fn serve(
    registry: Arc<Registry>,
    doors: Doors,
    control: Arc<Control>,
    stop: CancellationToken,
) -> io::Result<()> {
    let serving = Arc::new(Serving::new(registry, control));
    let tasks = TaskTracker::new();
    // Connections end only when no door accepts any more: otherwise one who is told to connect again could meet this
    // daemon again, and its second try would be lost, too.
    let closing = CancellationToken::new();
    let unix = |door| {
        let (serving, tasks, closing) = (&serving, &tasks, &closing);
        move |(stream, _)| admit(door, stream, serving, tasks, closing)
    };
    let housekeeping = tokio::spawn(keep_house(Arc::clone(&serving), stop.clone()));
    // One door that fails for good closes the others: the supervisor must see it.
    let outcome = tokio::try_join!(
        accept(Door::Query, async || doors.query.accept().await, unix(Door::Query), &stop),
        accept(Door::Admin, async || doors.admin.accept().await, unix(Door::Admin), &stop),
        accept(Door::Http, async || doors.http.accept().await, unix(Door::Http), &stop),
        async {
            let Some(listener) = &doors.http_loopback else { return Ok(()) };
            let admit = |(stream, _)| admit_loopback(stream, &serving, &tasks, &closing);
            accept(Door::Http, async || listener.accept().await, admit, &stop).await
        },
    );
    stop.cancel();
    drop(doors);
    closing.cancel();
    tasks.close();
    let stop_deadline = serving.control.rules().stop_deadline;
    if tokio::time::timeout(stop_deadline, tasks.wait()).await.is_err() {
        tracing::warn!(open = tasks.len(), "connections were cut off at the stop's deadline");
    }
    if let Ok(mut told) = housekeeping.await {
        told.tell(&serving);
    }
    outcome.map(drop)
}

/// Until the stop: marks the count of questions, and begins a new minute of the log's samples.
async fn keep_house(serving: Arc<Serving>, stop: CancellationToken) -> Told {
    /// Marks in a minute.
    const MARKS: u64 = 60 / MARK_INTERVAL.as_secs();
    let mut told = Told::default();
    let mut marks = 0;
    let mut interval = tokio::time::interval(MARK_INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = stop.cancelled() => return told,
        }
        serving.meters.mark();
        let wanted = serving.control.rules().denials_logged;
        if marks % MARKS == 0 || wanted != told.lines {
            told.tell(&serving);
            told.lines = wanted;
            serving.refill_log();
        }
        marks += 1;
    }
}

/// What the log has said of the events that it did not say one by one.
#[derive(Default)]
struct Told {
    /// Denials that were to be logged, for each reason, in the minute that ends.
    lines: u32,
    denials: [Suppressed; keyward_proto::query::Reason::ALL.len()],
    refusals: [[Suppressed; Cause::ALL.len()]; 3],
}

impl Told {
    fn tell(&mut self, serving: &Serving) {
        let (denials, totals) = (&serving.meters.denials, serving.meters.verdicts_by_reason());
        denials.tell_suppressed(&totals, &mut self.denials, self.lines > 0);
        for (door, told) in Door::ALL.into_iter().zip(&mut self.refusals) {
            serving.gate(door).tell_suppressed(door.name(), told);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Door {
    Query,
    Admin,
    Http,
}

impl Door {
    const ALL: [Self; 3] = [Self::Query, Self::Admin, Self::Http];

    const fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Admin => "admin",
            Self::Http => "http",
        }
    }

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
                tracing::error!(door = door.name(), %error, "no connection can be accepted; trying again shortly");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            AcceptError::Fatal => {
                tracing::error!(door = door.name(), %error, "accepting failed for good");
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
    let Judged { place, peer } = match judge_peer(door, &stream, serving) {
        Ok(judged) => judged,
        Err(refused) => {
            note_refused(door, &refused, serving);
            // A fresh socket has room for one small message, and tokio doesn't know yet that it has; where the write fails,
            // closing says it too.
            let refusal = door.refusal(&refused.error);
            let _ = stream.into_std().and_then(|mut stream| stream.write_all(&refusal));
            return;
        }
    };
    tracing::debug!(door = door.name(), uid = peer.uid, "connected");
    // A token of its own: a shared one's lock would be taken by every connection at every read.
    let (serving, stop) = (Arc::clone(serving), stop.child_token());
    let is_own = place.is_none();
    // Each its own task: one for all would take the room of the largest for every connection.
    match door {
        Door::Query => drop(tasks.spawn(keeping(place, query::serve(stream, serving, !is_own, stop)))),
        Door::Admin => drop(tasks.spawn(keeping(place, admin::serve(stream, serving, Origin::Peer(peer), stop)))),
        Door::Http => drop(tasks.spawn(keeping(place, http::serve(stream, serving, stop)))),
    }
}

/// Serves, and gives the place back behind it.
async fn keeping(place: Option<Place>, serving: impl Future<Output = ()>) {
    serving.await;
    drop(place);
}

/// The same for a peer that came over the loopback interface, where nobody has an identity.
fn admit_loopback(stream: TcpStream, serving: &Arc<Serving>, tasks: &TaskTracker, stop: &CancellationToken) {
    let limits = serving.control.rules().http_connections;
    let place = match serving.gate(Door::Http).enter(TCP_PEERS, limits) {
        Ok(place) => place,
        Err(refused) => {
            note_refused(Door::Http, &refused, serving);
            let _ = stream.try_write(&Door::Http.refusal(&refused.error));
            return;
        }
    };
    // Answers are small and whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    // A token of its own: a shared one's lock would be taken by every connection at every read.
    let (serving, stop) = (Arc::clone(serving), stop.child_token());
    tasks.spawn(async move {
        let _place = place;
        http::serve(stream, serving, stop).await;
    });
}

/// Counts a refused connection and logs it, unless there were many in this minute.
fn note_refused(door: Door, refused: &Refused, serving: &Serving) {
    if serving.gate(door).note_refused(refused.cause) {
        tracing::warn!(door = door.name(), reason = %refused.error.message, "a connection was refused");
    }
}

/// A peer that may connect.
struct Judged {
    /// None for the daemon itself, which asks whether it is well: it needs none of the users' places.
    place: Option<Place>,
    peer: Peer,
}

/// Identity comes from the socket, once, here (`SO_PEERCRED`, unix(7)).
fn judge_peer(door: Door, stream: &UnixStream, serving: &Serving) -> Result<Judged, Refused> {
    let not_permitted =
        |why| Refused { cause: Cause::NotPermitted, error: FrameError::new(ErrorCode::NotPermitted, why) };
    let peer =
        stream.peer_cred().map_err(|error| not_permitted(format!("the peer's identity could not be read: {error}")))?;
    let rules = serving.control.rules();
    let limits = match door {
        Door::Query => rules.connections,
        Door::Http => rules.http_connections,
        Door::Admin if !rules.admins.allow(peer.uid(), peer.gid()) => {
            return Err(not_permitted(why_no_admin(&rules.admins, peer.uid())));
        }
        Door::Admin => ConnectionLimits { total: ADMIN_CONNECTIONS_MAX, per_uid: ADMIN_CONNECTIONS_MAX },
    };
    let is_own = peer.pid().is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
    let place = if is_own { None } else { Some(serving.gate(door).enter(peer.uid(), limits)?) };
    Ok(Judged { place, peer: Peer { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() } })
}

fn why_no_admin(admins: &Admins, uid: u32) -> String {
    if admins.ids_are_mapped {
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
