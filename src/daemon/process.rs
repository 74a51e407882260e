//! What the process asks of the system for itself.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

/// User ids that a system has at least: 16 bits of them.
const SYSTEM_IDS: u64 = 65_536;

/// No core dump, no debugger of the same user, and no file open to others: codes and the pepper pass through memory.
pub(super) fn harden() -> io::Result<()> {
    umask(Mode::from_bits_truncate(0o077));
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    Ok(())
}

/// Raises the limit on open files to `wanted` if that is allowed. Returns what it then is.
pub(super) fn raise_descriptor_limit(wanted: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    let wanted = (wanted as u64).clamp(soft, hard.max(soft));
    let reached = if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    usize::try_from(reached).unwrap_or(usize::MAX)
}

/// To how many open files the limit can be raised.
pub(super) fn descriptor_limit() -> usize {
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    usize::try_from(hard).unwrap_or(usize::MAX)
}

/// Whether user ids are mapped so that users can't be told apart: fewer than a system of its own has
/// (user_namespaces(7)), as with `PrivateUsers=yes`, or nobody knows. In a container each user inside has an id, and those
/// outside share one that nobody inside has.
pub(super) fn ids_are_mapped() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| ids_in(&map) < SYSTEM_IDS)
}

/// How many ids a map has.
fn ids_in(map: &str) -> u64 {
    let counts = map.lines().map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok());
    counts.map(|count| count.unwrap_or(0)).fold(0, u64::saturating_add)
}

/// Whether systemd started this process (systemd.exec(5)).
pub(super) fn is_unit() -> bool {
    std::env::var_os("INVOCATION_ID").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_told_apart_on_a_host_and_in_a_container_and_not_with_private_users() {
        for map in ["         0          0 4294967295\n", "0 100000 65536\n", "0 1000 1\n1 100000 65536\n"] {
            assert!(ids_in(map) >= SYSTEM_IDS, "{map:?}");
        }
        for map in ["", "0 1000 1\n", "0 0 1\n997 997 1\n", "0 0 65535\n", "0 0 many\n", "0\n"] {
            assert!(ids_in(map) < SYSTEM_IDS, "{map:?}");
        }
    }
}
