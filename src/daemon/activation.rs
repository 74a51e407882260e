//! Listening sockets that the service manager made and keeps, and passes to each daemon (sd_listen_fds(3)). They are told
//! apart by name, for their order varies.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

/// Names of the descriptors, as `FileDescriptorName=` gives them, separated by colons.
const NAMES_VARIABLE: &str = "LISTEN_FDNAMES";
const QUERY: &str = "query";
const ADMIN: &str = "admin";
const HTTP: &str = "http";

/// Why a socket that was passed can't be served. Each says what to do.
#[derive(Debug)]
pub enum ActivationError {
    /// There are not as many names as descriptors.
    Names {
        /// Names.
        names: usize,
        /// Descriptors.
        descriptors: usize,
    },
    /// No door has this name.
    UnknownName(String),
    /// A door has one such socket already.
    Doubled(&'static str),
    /// It is no listening stream socket.
    NotListening(&'static str, io::Error),
    /// Its address can be reached from other hosts.
    NotLoopback(SocketAddr),
    /// The configuration asks for a loopback listener, too.
    BothLoopback(SocketAddr),
}

impl fmt::Display for ActivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names { names, descriptors } => write!(
                f,
                "{descriptors} sockets were passed with {names} names ({NAMES_VARIABLE}): they can't be told apart; give \
                 each socket unit FileDescriptorName={QUERY}, {ADMIN} or {HTTP}"
            ),
            Self::UnknownName(name) => write!(
                f,
                "a socket was passed under the name {name:?}, which no door has; give its socket unit \
                 FileDescriptorName={QUERY}, {ADMIN} or {HTTP}"
            ),
            Self::Doubled(name) => write!(
                f,
                "two sockets of one kind were passed under the name {name:?}; leave one ListenStream= out ({HTTP} may \
                 have a path and a loopback address)"
            ),
            Self::NotListening(name, error) => write!(
                f,
                "the socket that was passed under the name {name:?} can't be served: {error}; its socket unit needs \
                 ListenStream= with a path ({HTTP}: or a loopback address) and Accept=no"
            ),
            Self::NotLoopback(address) => write!(
                f,
                "the socket that was passed under the name {HTTP:?} listens on {address}, which other hosts can reach; \
                 name a loopback address as 127.0.0.1 in ListenStream="
            ),
            Self::BothLoopback(address) => write!(
                f,
                "http.listen is set, and a socket that listens on {address} was passed; leave one of them out"
            ),
        }
    }
}

impl std::error::Error for ActivationError {}

/// What was passed; a door that is `None` is for the daemon to bind.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) query: Option<UnixListener>,
    pub(super) admin: Option<UnixListener>,
    pub(super) http: Option<UnixListener>,
    pub(super) http_loopback: Option<TcpListener>,
}

/// Takes what was passed to this process, once.
pub(super) fn take() -> Result<Passed, ActivationError> {
    let mut descriptors = ListenFd::from_env();
    let names = if descriptors.len() == 0 { String::new() } else { std::env::var(NAMES_VARIABLE).unwrap_or_default() };
    let names: Vec<&str> = names.split(':').filter(|name| !name.is_empty()).collect();
    if names.len() != descriptors.len() {
        return Err(ActivationError::Names { names: names.len(), descriptors: descriptors.len() });
    }
    let mut passed = Passed::default();
    for (index, name) in names.into_iter().enumerate() {
        match name {
            QUERY => put(&mut passed.query, QUERY, unix(&mut descriptors, index))?,
            ADMIN => put(&mut passed.admin, ADMIN, unix(&mut descriptors, index))?,
            HTTP => match unix(&mut descriptors, index) {
                Ok(listener) => put(&mut passed.http, HTTP, Ok(listener))?,
                Err(_) => put(&mut passed.http_loopback, HTTP, tcp(&mut descriptors, index))?,
            },
            unknown => return Err(ActivationError::UnknownName(unknown.to_string())),
        }
    }
    if let Some(address) = passed.loopback_address().filter(|address| !address.ip().is_loopback()) {
        return Err(ActivationError::NotLoopback(address));
    }
    Ok(passed)
}

impl Passed {
    pub(super) fn loopback_address(&self) -> Option<SocketAddr> {
        self.http_loopback.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

fn put<L: AsFd>(place: &mut Option<L>, name: &'static str, listener: io::Result<L>) -> Result<(), ActivationError> {
    let not_listening = |error| ActivationError::NotListening(name, error);
    let listener = listener.map_err(not_listening)?;
    if !getsockopt(&listener, AcceptConn).map_err(|errno| not_listening(errno.into()))? {
        return Err(not_listening(io::Error::other("it does not listen")));
    }
    if place.replace(listener).is_some() {
        return Err(ActivationError::Doubled(name));
    }
    Ok(())
}

fn unix(descriptors: &mut ListenFd, index: usize) -> io::Result<UnixListener> {
    let listener = descriptors.take_unix_listener(index)?.ok_or_else(|| io::Error::other("it was taken"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn tcp(descriptors: &mut ListenFd, index: usize) -> io::Result<TcpListener> {
    let listener = descriptors.take_tcp_listener(index)?.ok_or_else(|| io::Error::other("it was taken"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
