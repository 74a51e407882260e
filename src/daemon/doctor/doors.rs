//! Runtime directory, sockets, who may connect, and how many.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use keyward_proto::admin::{AdminReply, AdminRequest, StatusReport};
use keyward_proto::client::{AdminClient, ClientError};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Group;

use super::Findings;
use super::person::{Person, WRITE, group_name, shown, user_name};
use crate::config::Config;
use crate::daemon::files::judge_writers;
use crate::daemon::{ADMIN_SOCKET, HTTP_SOCKET, QUERY_SOCKET, descriptors_wanted, process};

/// Sockets that systemd holds are not made anew by a restart of the daemon alone.
const RENEW_SOCKETS: &str = "restart keyward; under systemd: systemctl stop keyward keyward-{query,admin,http}.socket && systemctl start keyward";
const SOCKETS: [&str; 3] = [QUERY_SOCKET, ADMIN_SOCKET, HTTP_SOCKET];
/// A daemon that has not answered after so long is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const OTHERS: u32 = 0o007;

/// A daemon that was met.
pub(super) struct Met {
    /// What it says of itself; `None` when it didn't.
    pub(super) status: Option<StatusReport>,
}

/// What stands under a socket's name.
enum Socket {
    Absent,
    /// Somebody listens; with that process's id.
    Listening(Metadata, Option<i32>),
    /// Nobody listens.
    Stale,
    /// No socket.
    Other,
    /// It can't be told.
    Unseen(io::Error),
}

impl Socket {
    fn at(path: &Path) -> Self {
        let metadata = match std::fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Absent,
            Err(error) => return Self::Unseen(error),
        };
        if !metadata.file_type().is_socket() {
            return Self::Other;
        }
        match UnixStream::connect(path) {
            Ok(stream) => {
                let pid = getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid());
                Self::Listening(metadata, pid)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Self::Stale,
            Err(error) => Self::Unseen(error),
        }
    }
}

/// Looks at the doors. The daemon that listens, if one does.
pub(super) fn look(config: &Config, findings: &mut Findings) -> Option<Met> {
    look_at_directory(&config.runtime, findings);
    look_at_group(config, findings);
    let sockets = SOCKETS.map(|name| (name, Socket::at(&config.runtime.join(name))));
    let pid = sockets.iter().find_map(|(_, socket)| match socket {
        Socket::Listening(_, pid) => Some(*pid),
        Socket::Absent | Socket::Stale | Socket::Other | Socket::Unseen(_) => None,
    });
    let met = pid.and_then(|_| ask(config, findings));
    if pid.is_none() {
        let what = format!("none listens in {}", config.runtime.display());
        findings.warning("daemon", what, "start it: systemctl start keyward");
    }
    for (name, socket) in &sockets {
        look_at_socket(name, socket, met.is_some(), config, findings);
    }
    look_at_limits(config, pid.flatten(), findings);
    met
}

fn look_at_directory(path: &Path, findings: &mut Findings) {
    const CHECK: &str = "runtime directory";
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("{} is not there", path.display());
            findings.warning(CHECK, what, "start keyward, which makes it, or name another with --runtime");
        }
        Err(error) => findings.unseen(CHECK, path, &error),
        Ok(found) if !found.is_dir() => {
            let what = format!("{} is no directory", path.display());
            findings.problem(CHECK, what, "move it away, or name another with --runtime");
        }
        Ok(found) => match judge_writers(path, &found) {
            Ok(()) => findings.ok(CHECK, format!("{} ({})", path.display(), shown(&found))),
            Err(error) => findings.problem_of(CHECK, &error),
        },
    }
}

fn look_at_group(config: &Config, findings: &mut Findings) {
    let group = &config.group;
    if let Ok(Some(_)) = Group::from_name(group) {
        findings.ok("group", format!("{group} is there"));
    } else {
        let what = format!("there is no group {group}, so that only the daemon's own user may ask");
        let remedy = format!("groupadd --system {group}, add web workers to it, and restart keyward");
        findings.warning("group", what, remedy);
    }
    if let Some(admins) = &config.admin.group
        && !matches!(Group::from_name(admins), Ok(Some(_)))
    {
        let what = format!("admin.group names {admins}, which the host does not have, so that keyward can't start");
        findings.problem("group", what, format!("groupadd --system {admins}, or leave admin.group out"));
    }
}

/// What the daemon says of itself.
fn ask(config: &Config, findings: &mut Findings) -> Option<Met> {
    let asked = AdminClient::connect(&config.runtime.join(ADMIN_SOCKET)).and_then(|mut client| {
        client.set_timeout(Some(ANSWER_MAX))?;
        client.call(&AdminRequest::Status)
    });
    match asked {
        Ok(AdminReply::Status(status)) => {
            findings.ok("daemon", format!("runs, process {}, version {}", status.pid, status.version));
            Some(Met { status: Some(status) })
        }
        Ok(_) => {
            findings.warning("daemon", "runs, but gave another answer than its state", "install one version of both");
            Some(Met { status: None })
        }
        Err(ClientError::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            let what = format!("none answers within {} s, although the socket takes connections", ANSWER_MAX.as_secs());
            let remedy = "journalctl -u keyward says why: systemd holds the sockets of a daemon that can't start, too";
            findings.problem("daemon", what, remedy);
            None
        }
        Err(error) => {
            let what = format!("runs, but does not tell its state: {error}");
            findings.warning("daemon", what, "run keyward doctor as root; if that does not help, restart keyward");
            Some(Met { status: None })
        }
    }
}

fn look_at_socket(check: &'static str, socket: &Socket, runs: bool, config: &Config, findings: &mut Findings) {
    let path = config.runtime.join(check);
    let path = path.display();
    match socket {
        Socket::Absent if runs => {
            let what = format!("{path} is not there although the daemon runs: somebody removed it");
            findings.problem(check, what, RENEW_SOCKETS);
        }
        Socket::Absent => findings.ok(check, "not there, as no daemon runs"),
        Socket::Stale if runs => {
            findings.problem(check, format!("nobody listens on {path} although the daemon runs"), "restart keyward");
        }
        Socket::Stale => {
            let what = format!("{path} was left by a daemon that did not stop in order");
            findings.warning(check, what, "none needed: the next start clears it");
        }
        Socket::Other => {
            findings.problem(check, format!("{path} is no socket, so that keyward can't start"), "move it away");
        }
        Socket::Unseen(error) => {
            let what = format!("{path} can't be tried: {error}");
            findings.warning(check, what, "run keyward doctor as root");
        }
        Socket::Listening(found, _) => look_at_mode(check, found, config, findings),
    }
}

fn look_at_mode(check: &'static str, found: &Metadata, config: &Config, findings: &mut Findings) {
    let mode = found.mode() & 0o777;
    let group = if check == ADMIN_SOCKET { config.admin.group.as_ref() } else { Some(&config.group) };
    let wanted = group.and_then(|name| Group::from_name(name).ok().flatten());
    let what = format!("listening ({})", shown(found));
    if mode & OTHERS != 0 {
        findings.problem(
            check,
            format!("{what}: open to everybody"),
            "restart keyward, and let nothing change its mode",
        );
        return;
    }
    match wanted {
        Some(group) if found.gid() != group.gid.as_raw() || mode & 0o060 != 0o060 => {
            let what = format!("{what}: not open to the group {}, which the host has", group.name);
            findings.warning(check, what, "restart keyward: the group may have been made after its start");
        }
        Some(_) | None => findings.ok(check, what),
    }
}

/// Whether a user may ask.
pub(super) fn look_for(name: &str, config: &Config, findings: &mut Findings) {
    const CHECK: &str = "user";
    let Some(person) = Person::find(name) else {
        findings.problem(
            CHECK,
            format!("there is no user {name} on this host"),
            "name the user that the web server runs as",
        );
        return;
    };
    if let Some(closed) = person.stopped_at(&config.runtime) {
        let what = format!("{name} can't connect: it may not pass through {}", closed.display());
        findings.problem(CHECK, what, format!("chmod o+x {}", closed.display()));
        return;
    }
    for socket in [QUERY_SOCKET, HTTP_SOCKET] {
        let path = config.runtime.join(socket);
        match std::fs::symlink_metadata(&path) {
            Ok(found) => look_for_at(&person, socket, &found, findings),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = format!("{name} can't connect to {socket}: it is not there");
                findings.problem(CHECK, what, "start it: systemctl start keyward");
                return;
            }
            Err(error) => findings.unseen(CHECK, &path, &error),
        }
    }
}

fn look_for_at(person: &Person, socket: &str, found: &Metadata, findings: &mut Findings) {
    const CHECK: &str = "user";
    let (name, group) = (&person.name, group_name(found.gid()));
    if person.may(WRITE, super::person::rights(found)) {
        findings.ok(CHECK, format!("{name} may ask on {socket} (a process that was started before it might not)"));
    } else if found.mode() & 0o020 == 0 {
        let what = format!("{name} can't connect to {socket}: it is open to {} only", user_name(found.uid()));
        findings.problem(CHECK, what, "see the finding about the group, and restart keyward");
    } else if person.is_in(found.gid()) {
        let what = format!("{name} can't connect to {socket}: its mode is {:03o}", found.mode() & 0o777);
        findings.problem(CHECK, what, "restart keyward, and let nothing change its mode");
    } else {
        let what = format!("{name} can't connect to {socket}: it is not in the group {group}");
        findings.problem(CHECK, what, format!("adduser {name} {group}, then restart {name}'s service"));
    }
}

/// Descriptors of the running daemon, or of one that would be started here.
fn look_at_limits(config: &Config, pid: Option<i32>, findings: &mut Findings) {
    const CHECK: &str = "limits";
    let wanted = descriptors_wanted(config);
    let (whose, limit) = match pid.and_then(limit_of) {
        Some(limit) => ("the daemon", limit),
        None => ("a daemon started from here", process::descriptor_limit()),
    };
    let what = format!("{whose} may open {limit} files, {} connections need {wanted}", config.limits.connections);
    if limit >= wanted {
        findings.ok(CHECK, what);
    } else {
        let remedy = "raise LimitNOFILE= in the unit, or lower limits.connections: those beyond are refused";
        findings.warning(CHECK, what, remedy);
    }
}

/// `Max open files` of a process, the soft limit (proc(5)).
fn limit_of(pid: i32) -> Option<usize> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
