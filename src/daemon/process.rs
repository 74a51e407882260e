//! What the process asks of the system for itself.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

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

/// Whether user ids are mapped: anything but the one full range (user_namespaces(7)). Where it can't be read they may
/// be.
pub(super) fn ids_are_mapped() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| !is_full_map(&map))
}

fn is_full_map(map: &str) -> bool {
    let mut lines = map.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    lines.next().is_some_and(|fields| fields == ["0", "0", "4294967295"]) && lines.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_full_range_leaves_ids_as_they_are() {
        assert!(is_full_map("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 0 65536\n", "0 0 4294967295\n1 1 1\n", "0 100000 65536\n"] {
            assert!(!is_full_map(map), "{map:?}");
        }
    }
}
