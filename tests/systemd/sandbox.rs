//! What a daemon that was taken over could still do: tried by a program in its place, in the shipped unit's sandbox.

use std::collections::BTreeMap;

use crate::host::{Host, SERVICE};
use crate::machine::{Machine, text};
use crate::support::wait_until;

/// What `probe.py` tries, and must be refused.
const REFUSED: [(&str, Outside); 42] = [
    ("socket inet", Outside::Open),
    ("socket inet6", Outside::Open),
    ("socket netlink", Outside::Open),
    ("socket packet", Outside::Closed),
    ("write /etc", Outside::Open),
    ("write /usr", Outside::Open),
    ("write /var", Outside::Open),
    ("read /root", Outside::Open),
    ("read /home", Outside::Open),
    ("read /tmp", Outside::Open),
    ("read pepper", Outside::Closed),
    ("read shadow", Outside::Closed),
    ("read /proc of another user", Outside::Open),
    ("memory of another user's process", Outside::Closed),
    ("read kernel settings", Outside::Open),
    ("write kernel settings", Outside::Closed),
    ("write control groups", Outside::Closed),
    ("memory W+X", Outside::Open),
    ("memory W then X", Outside::Open),
    ("ptrace", Outside::Closed),
    ("mount", Outside::Closed),
    ("mount in a user namespace", Outside::Closed),
    ("user namespace", Outside::Closed),
    ("module", Outside::Closed),
    ("kexec", Outside::Closed),
    ("clock", Outside::Closed),
    ("host name", Outside::Closed),
    ("device node", Outside::Closed),
    ("raw device", Outside::Open),
    ("setuid file", Outside::Open),
    ("another user", Outside::Closed),
    ("real time", Outside::Closed),
    ("personality", Outside::Open),
    ("bpf", Outside::Closed),
    ("another program", Outside::Open),
    ("own program in own folder", Outside::Open),
    ("own program in /tmp", Outside::Open),
    ("own program in /var/tmp", Outside::Open),
    ("own program in /dev/shm", Outside::Closed),
    ("own program in /run/keyward", Outside::Closed),
    ("io_uring", Outside::Closed),
    ("keyring", Outside::Closed),
];
/// And what must work, or the probes would prove nothing.
const ALLOWED: &str = "write own folder";
/// How the system says no.
const REFUSALS: [&str; 5] = ["EPERM", "EACCES", "EROFS", "ENOENT", "EAFNOSUPPORT"];

/// What the same user gets without the sandbox.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outside {
    /// It works: that it is refused inside is the sandbox's doing.
    Open,
    /// It may be refused there, too: on this host, or to every user but root.
    Closed,
}

#[test]
fn in_the_units_sandbox_nothing_is_open_but_the_services_own_folder() {
    let Some(host) = Host::fresh() else { return };
    prepare(&host);
    let (outside, inside) = (probe_outside(&host), probe_inside(&host));
    assert_eq!(inside.len(), REFUSED.len() + 1, "{inside:?}");
    for (name, without) in REFUSED {
        assert!(REFUSALS.contains(&inside[name].as_str()), "{name}: {}", inside[name]);
        assert!(without == Outside::Closed || outside[name] == "done", "{name} outside: {}", outside[name]);
    }
    assert_eq!([&outside[ALLOWED], &inside[ALLOWED]], ["done"; 2]);
}

/// Things that only the sandbox keeps from the service's user.
fn prepare(host: &Machine) {
    host.put("/usr/lib/keyward-probe.py", include_str!("probe.py"), 0o644);
    host.shell(
        "mkdir -p --mode=0777 /etc/open /usr/open /var/open /root/open /home/other /var/lib/keyward/probe /var/tmp/probe
         chmod 0755 /root; chmod 0777 /etc/open /usr/open /var/open /var/tmp/probe
         chown keyward: /var/lib/keyward/probe
         for file in /root/open/file /home/other/file /tmp/other; do echo other >$file; chmod 0644 $file; done
         rm -f /dev/open; mknod -m 0666 /dev/open c 1 5",
    );
}
/// As the service's user in no sandbox.
fn probe_outside(host: &Machine) -> BTreeMap<String, String> {
    let output = host.run_as("keyward", &["bash", "-euc", &probe("/var/tmp/probe")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    outcomes(&text(&output.stdout))
}

/// As the service: the shipped unit with another program.
fn probe_inside(host: &Host) -> BTreeMap<String, String> {
    let program = probe("/var/lib/keyward/probe").replace('$', "$$");
    let programs = "ExecPaths=/usr/bin/bash /usr/bin/python3 /usr/bin/sleep";
    let lines = ["[Service]", "Type=exec", "Restart=no", "WatchdogSec=0", programs, "ExecStart="].join("\n");
    host.drop_in(SERVICE, &format!("{lines}\nExecStart=/bin/bash -euc '{program}'\n"));
    host.ok(&["systemctl", "start", SERVICE]);
    wait_until("the probes are done", || host.property(SERVICE, "ActiveState") != "active");
    let said = host.journal();
    assert_eq!(host.property(SERVICE, "Result"), "success", "{said}");
    outcomes(&said)
}

/// A line of shell: the probes, and beside them another process of theirs.
fn probe(folder: &str) -> String {
    format!("sleep 100 & /usr/bin/python3 /usr/lib/keyward-probe.py {folder} $!; kill $!")
}

fn outcomes(said: &str) -> BTreeMap<String, String> {
    let lines = said.lines().filter_map(|line| line.split_once(": "));
    let is_outcome = |outcome: &str| outcome == "done" || outcome.bytes().all(|b| b.is_ascii_uppercase());
    let lines = lines.filter(|(_, outcome)| is_outcome(outcome));
    lines.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect()
}
