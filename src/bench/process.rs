//! What a process uses, and on which core it runs.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The process that listens at the other end of a Unix socket.
///
/// # Errors
/// The system does not tell.
pub fn peer(socket: &impl AsFd) -> io::Result<Pid> {
    Ok(Pid::from_raw(getsockopt(socket, PeerCredentials)?.pid()))
}

/// This process.
#[must_use]
pub fn this() -> Pid {
    Pid::this()
}

/// Time on a core of all threads that a process has and had: its own clock (clock_getcpuclockid(3)), which counts
/// nanoseconds, where `/proc/PID/stat` counts hundredths of a second and `/proc/PID/task` forgets threads that ended.
///
/// # Errors
/// There is no such process.
pub fn cpu_time(pid: Pid) -> io::Result<Duration> {
    Ok(Duration::from(clock_gettime(clock_getcpuclockid(pid)?)?))
}

/// Resident memory in bytes, as `/proc/PID/status` tells it (proc(5)).
///
/// # Errors
/// As [`cpu_time`].
pub fn resident_bytes(pid: Pid) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let kibibytes: Option<u64> = kibibytes.and_then(|number| number.trim().parse().ok());
    kibibytes.map(|number| number * 1024).ok_or_else(|| io::Error::other("/proc does not tell resident memory"))
}

fn threads(pid: Pid) -> io::Result<Vec<Pid>> {
    let names = std::fs::read_dir(format!("/proc/{pid}/task"))?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<_> = names.collect::<io::Result<_>>()?;
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok().map(Pid::from_raw)).collect())
}

/// Threads held on one core, and let go when dropped.
pub struct Pinned(Vec<(Pid, CpuSet)>);

impl Pinned {
    /// All threads of a process.
    ///
    /// # Errors
    /// There is no such core, or the process is another user's.
    pub fn process(pid: Pid, core: usize) -> io::Result<Self> {
        let mut pinned = Self(Vec::new());
        for thread in threads(pid)? {
            pinned.pin(thread, core)?;
        }
        Ok(pinned)
    }

    /// The thread that calls.
    ///
    /// # Errors
    /// There is no such core.
    pub fn this_thread(core: usize) -> io::Result<Self> {
        let mut pinned = Self(Vec::new());
        pinned.pin(Pid::from_raw(0), core)?;
        Ok(pinned)
    }

    fn pin(&mut self, thread: Pid, core: usize) -> io::Result<()> {
        let before = sched_getaffinity(thread)?;
        let mut cores = CpuSet::new();
        cores.set(core)?;
        sched_setaffinity(thread, &cores)?;
        self.0.push((thread, before));
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for (thread, before) in &self.0 {
            // It may have ended since.
            let _ = sched_setaffinity(*thread, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_runs_on_its_core_until_it_is_let_go() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let core = (0..CpuSet::count()).rfind(|core| before.is_set(*core).unwrap()).unwrap();
        let pinned = Pinned::this_thread(core).unwrap();
        assert_eq!(nix::sched::sched_getcpu().unwrap(), core);
        drop(pinned);
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
        assert!(Pinned::this_thread(CpuSet::count() - 1).is_err(), "nobody has so many cores");
    }

    #[test]
    fn time_of_threads_that_ended_still_counts() {
        let before = cpu_time(this()).unwrap();
        let busy = || {
            let began = std::time::Instant::now();
            while began.elapsed() < Duration::from_millis(50) {}
        };
        std::thread::spawn(busy).join().unwrap();
        assert!(cpu_time(this()).unwrap() > before + Duration::from_millis(1));
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        assert!(cpu_time(this()).unwrap() > Duration::ZERO);
        assert!(resident_bytes(this()).unwrap() > 1024 * 1024);
        // pid_max(5) is 2^22 at most.
        assert!(cpu_time(Pid::from_raw(1 << 22)).is_err() && resident_bytes(Pid::from_raw(1 << 22)).is_err());
    }

    #[test]
    fn the_peer_of_a_socket_pair_is_this_process() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(peer(&one).unwrap(), this());
    }
}
