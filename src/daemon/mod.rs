//! From a configuration to a daemon that serves: directories, locks, pepper, database, sockets, signals.

mod activation;
mod doctor;
mod files;
mod log;
mod pepper;
mod process;
mod quickstart;
mod reload;
mod restore;
mod supervision;

use std::fmt;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use doctor::{Checkup, Health, accept_clock, doctor};
use nix::unistd::Group;
pub use quickstart::quickstart;
pub use restore::{RestoreFailure, Restored, restore};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Source};
use crate::registry::{OpenError, Registry};
use crate::serve::listen::{Access, BindError, bind, bind_loopback};
use crate::serve::{ADMIN_CONNECTIONS_MAX, ConnectionLimits, Control, Doors};
use activation::{ActivationError, Passed};
use files::{DirectoryError, DirectoryLock};
use log::Log;
use pepper::PepperError;
use reload::Reloader;
use supervision::{News, Teller};

/// The query socket's name in the runtime directory.
pub const QUERY_SOCKET: &str = "query.sock";
/// The admin socket's name in the runtime directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// The HTTP door's name in the runtime directory.
pub const HTTP_SOCKET: &str = "http.sock";
/// Descriptors that are no client's: listeners, database, log, runtime.
const DESCRIPTORS_RESERVED: usize = 64;
/// And those of the admin socket.
const RESERVED: usize = DESCRIPTORS_RESERVED + ADMIN_CONNECTIONS_MAX;
/// Connections that were cut off give the registry back within microseconds; a read of a stuck disk may never end.
const THREADS_END_MAX: Duration = Duration::from_secs(5);

/// Whoever waits at the sockets has systemd start the daemon again at once when it refuses; after twenty such starts within
/// two seconds systemd would give the sockets up (systemd.socket(5), `TriggerLimitBurst=`).
const REFUSED_START_PAUSE: Duration = Duration::from_secs(1);

/// A proxy keeps a few connections a worker and asks on them: the HTTP door has a quarter of the query socket's places.
const HTTP_SHARE: usize = 4;

/// Why the daemon does not run. Each says what failed, why, and what to do.
#[derive(Debug)]
pub enum StartError {
    /// A directory can't be used.
    Directory(DirectoryError),
    /// The pepper can't be used.
    Pepper(PepperError),
    /// The database can't be used.
    Database(OpenError),
    /// A socket can't be made.
    Socket(BindError),
    /// A socket that was passed can't be served.
    Activation(ActivationError),
    /// The unit maps user ids, so that peers can't be told apart.
    IdsAreMapped,
    /// A door does not answer the daemon itself.
    NoAnswer(PathBuf, String),
    /// `admin.group` names no group.
    UnknownGroup(String),
    /// The configuration can't be used.
    Config(ConfigError),
    /// The log filter is none.
    LogFilter(String),
    /// The system refused something else.
    System(&'static str, io::Error),
    /// The tour of `quickstart` did not come to its end.
    Tour(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(error) => error.fmt(f),
            Self::Pepper(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
            Self::Socket(error) => error.fmt(f),
            Self::Activation(error) => error.fmt(f),
            Self::IdsAreMapped => f.write_str(
                "user ids are mapped in the daemon's namespace (PrivateUsers=yes), so that peers can't be told apart and \
                 the admin socket would refuse everybody; set PrivateUsers=no in the unit",
            ),
            Self::NoAnswer(path, why) => write!(
                f,
                "the daemon does not get an answer at its own socket {}: {why}; if somebody removed the socket: systemctl \
                 stop keyward keyward-{{query,admin,http}}.socket && systemctl start keyward; else see that the unit's \
                 sandbox does not hide its directory",
                path.display()
            ),
            Self::UnknownGroup(name) => write!(
                f,
                "admin.group names {name:?}: there is no such group on this host; make it (groupadd --system {name}) \
                 or leave admin.group out"
            ),
            Self::Config(error) => error.fmt(f),
            Self::LogFilter(why) => {
                write!(f, "the log filter can't be read: {why}; give a level such as info or debug")
            }
            Self::System(what, error) => write!(f, "cannot {what}: {error}"),
            Self::Tour(why) => write!(f, "the tour stopped: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Serves until SIGTERM or SIGINT, then stops in order. SIGHUP reads the configuration again, from `source`.
///
/// # Errors
/// See [`StartError`].
pub fn serve(config: Config, source: Source) -> Result<(), StartError> {
    Daemon::prepare(config, Some(source))?.run(|_| Ok(()))
}

/// To be called at the end of a `serve` that failed: tells the service manager why, and lets a second pass.
pub fn end_refused_start(why: &str) {
    if process::is_unit() {
        // Whoever asks for the unit's status finds the reason there, however much was logged since.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(&crate::escape::escape(why))]);
        std::thread::sleep(REFUSED_START_PAUSE);
    }
}

/// A daemon whose sockets are bound.
struct Daemon {
    runtime: Runtime,
    registry: Arc<Registry>,
    doors: Doors,
    control: Arc<Control>,
    stop: CancellationToken,
    teller: Teller,
    /// The sockets that were bound here, to be removed at the stop.
    own_sockets: Vec<PathBuf>,
    _locks: [DirectoryLock; 2],
}

impl Daemon {
    /// Without a source there are no reloads, and a hang-up ends the process.
    fn prepare(config: Config, source: Option<Source>) -> Result<Self, StartError> {
        let log = Log::start(&config.log)?;
        let no_signals = |error| StartError::System("listen for signals", error);
        if source.is_some() {
            reload::hold_signal().map_err(no_signals)?;
        }
        let ids_are_mapped = process::ids_are_mapped();
        if ids_are_mapped && process::is_unit() {
            return Err(StartError::IdsAreMapped);
        }
        let passed = if source.is_some() { activation::take() } else { Ok(Passed::default()) };
        let passed = passed.map_err(StartError::Activation)?;
        if let (Some(_), Some(address)) = (config.http.listen, passed.loopback_address()) {
            return Err(StartError::Activation(ActivationError::BothLoopback(address)));
        }
        process::harden().map_err(|error| StartError::System("protect the process's memory", error))?;
        let control = Control::new(reload::rules(&config, ids_are_mapped));
        files::data_directory(&config.data).map_err(StartError::Directory)?;
        files::runtime_directory(&config.runtime).map_err(StartError::Directory)?;
        let locks = [
            DirectoryLock::take(&config.data).map_err(StartError::Directory)?,
            DirectoryLock::take(&config.runtime).map_err(StartError::Directory)?,
        ];
        let pepper = pepper::load_or_make(&config.data).map_err(StartError::Pepper)?;
        let mut registry = Registry::open(&config.data, pepper, Box::new(|_| {})).map_err(StartError::Database)?;
        registry.set_retention(reload::retention(&config));
        registry
            .sweep_expired(config.keep_expired)
            .map_err(|error| StartError::System("start the thread that removes expired sessions", error))?;
        let registry = Arc::new(registry);
        let runtime = runtime(config.workers)?;
        let stop = CancellationToken::new();
        let teller = Teller::start().map_err(|error| StartError::System("start a thread", error))?;
        let (doors, own_sockets) = {
            // Tokio registers signals and listeners with the runtime they are made in.
            let _inside = runtime.enter();
            // Before anybody can connect: from then on every stop is an orderly one.
            stop_on_signals(&stop, &teller).map_err(no_signals)?;
            let opened = open_doors(&config, passed)?;
            if let Some(source) = source {
                let registry = Arc::downgrade(&registry);
                let reloader = Reloader { source, config, log, ids_are_mapped, registry, teller: teller.clone() };
                reload::on_signal(reloader, Arc::clone(&control)).map_err(no_signals)?;
            }
            opened
        };
        if ids_are_mapped {
            tracing::warn!("user ids are mapped (/proc/self/uid_map): the admin socket will refuse everybody");
        }
        Ok(Self { runtime, registry, doors, control, stop, teller, own_sockets, _locks: locks })
    }

    /// Serves until a signal comes; `beside` runs on a thread of its own meanwhile.
    fn run(
        self,
        beside: impl FnOnce(CancellationToken) -> Result<(), String> + Send + 'static,
    ) -> Result<(), StartError> {
        let Self { runtime, registry, doors, control, stop, teller, own_sockets, _locks } = self;
        let paths = door_paths(&doors)?;
        let outcome = runtime.block_on(async {
            tracing::info!(
                version = env!("CARGO_PKG_VERSION"),
                query = %paths.query.display(),
                admin = %paths.admin.display(),
                http = %paths.http.display(),
                http_loopback = doors.http_loopback.as_ref().and_then(|l| l.local_addr().ok()).map(tracing::field::display),
                "ready"
            );
            let beside = tokio::task::spawn_blocking({
                let stop = stop.clone();
                move || beside(stop)
            });
            let attended =
                teller.is_heard().then(|| tokio::spawn(supervision::attend(paths, teller, stop.clone())));
            let served = crate::serve::serve(Arc::clone(&registry), doors, control, stop.clone()).await;
            served.map_err(|error| StartError::System("accept connections", error))?;
            if let Some(attended) = attended {
                attended.await.map_err(|error| StartError::System("tell the service manager", error.into()))??;
            }
            match beside.await {
                Ok(outcome) => outcome.map_err(StartError::Tour),
                Err(_) => Err(StartError::Tour("it ended with a panic".to_string())),
            }
        });
        for socket in &own_sockets {
            // Left behind it is stale, and the next start clears it.
            let _ = std::fs::remove_file(socket);
        }
        // Connections that were cut off at the stop's deadline hold the registry until their threads have ended.
        runtime.shutdown_timeout(THREADS_END_MAX);
        // The last one: the writer stores the last uses and ends.
        drop(registry);
        tracing::info!("stopped");
        outcome
    }
}

/// The doors, and the paths of those that were not passed. To be called within the runtime.
fn open_doors(config: &Config, passed: Passed) -> Result<(Doors, Vec<PathBuf>), StartError> {
    let askers = query_access(&config.group, &passed);
    let admins = admin_group(config.admin.group.as_deref())?.map_or(Access::Owner, Access::Group);
    let mut own_sockets = Vec::new();
    let mut open = |passed: Option<StdListener>, name: &str, access| {
        let Some(listener) = passed else {
            let path = config.runtime.join(name);
            let listener = bind(&path, access).map_err(StartError::Socket)?;
            own_sockets.push(path);
            return Ok(listener);
        };
        UnixListener::from_std(listener).map_err(|error| StartError::System("serve a socket that was passed", error))
    };
    let doors = Doors {
        query: open(passed.query, QUERY_SOCKET, askers)?,
        admin: open(passed.admin, ADMIN_SOCKET, admins)?,
        http: open(passed.http, HTTP_SOCKET, askers)?,
        http_loopback: match passed.http_loopback {
            Some(listener) => Some(
                TcpListener::from_std(listener)
                    .map_err(|error| StartError::System("serve a socket that was passed", error))?,
            ),
            None => config.http.listen.map(bind_loopback).transpose().map_err(StartError::Socket)?,
        },
    };
    Ok((doors, own_sockets))
}

/// Where the doors are, also those that were passed.
fn door_paths(doors: &Doors) -> Result<supervision::Doors, StartError> {
    let path = |listener: &UnixListener| {
        let address = listener.local_addr().map_err(|error| StartError::System("read a socket's address", error))?;
        // An abstract address has none; who may connect there is not limited by the file system.
        let path = address.as_pathname().map(Path::to_path_buf);
        path.ok_or_else(|| {
            let no_path = io::Error::other("it is no path; name one in ListenStream=");
            StartError::System("serve a socket that was passed", no_path)
        })
    };
    Ok(supervision::Doors { query: path(&doors.query)?, admin: path(&doors.admin)?, http: path(&doors.http)? })
}

fn runtime(workers: usize) -> Result<Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.enable_all().thread_name("keyward").build().map_err(|e| StartError::System("start threads", e))
}

/// The configured connections, or as many as the system's limit on descriptors leaves: on the query socket, and on the
/// HTTP door.
fn affordable_connections(config: &Config) -> (ConnectionLimits, ConnectionLimits) {
    let wanted = config.limits.connections;
    let descriptors = process::raise_descriptor_limit(descriptors_wanted(config));
    let affordable = descriptors.saturating_sub(RESERVED) / (HTTP_SHARE + 1) * HTTP_SHARE;
    let total = wanted.min(affordable.max(1));
    if total < wanted {
        tracing::warn!(
            wanted,
            total,
            "fewer connections than configured: raise the limit on open files (LimitNOFILE=)"
        );
    }
    let limits = |total| ConnectionLimits { total, per_uid: config.limits.connections_per_uid.min(total) };
    (limits(total), limits(http_share(total)))
}

/// What the configured connections need.
fn descriptors_wanted(config: &Config) -> usize {
    let connections = config.limits.connections;
    connections + http_share(connections) + RESERVED
}

fn http_share(connections: usize) -> usize {
    connections.div_ceil(HTTP_SHARE)
}

/// The group's, or nobody's but the owner's where the host has no such group.
fn query_access(group: &str, passed: &Passed) -> Access {
    match Group::from_name(group) {
        Ok(Some(group)) => Access::Group(group.gid.as_raw()),
        Ok(None) | Err(_) if passed.query.is_some() && passed.http.is_some() => Access::Owner,
        Ok(None) | Err(_) => {
            tracing::warn!(
                group,
                "there is no such group: query.sock and http.sock are open to the daemon's user only"
            );
            Access::Owner
        }
    }
}

/// The group that may reach the admin socket, by id; whom it serves is said by `admin.uids` and `admin.gids`.
fn admin_group(group: Option<&str>) -> Result<Option<u32>, StartError> {
    let Some(name) = group else {
        return Ok(None);
    };
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        Ok(None) | Err(_) => Err(StartError::UnknownGroup(name.to_string())),
    }
}

fn stop_on_signals(stop: &CancellationToken, teller: &Teller) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, stop, teller) = (signal(kind)?, stop.clone(), teller.clone());
        tokio::spawn(async move {
            signals.recv().await;
            tracing::info!("stopping: finishing what was received");
            teller.tell(News::Stopping);
            stop.cancel();
        });
    }
    Ok(())
}
