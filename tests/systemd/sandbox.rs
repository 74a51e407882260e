//! What a daemon that was taken over could still do: tried by a program in its place, in the shipped unit's sandbox.

use std::collections::BTreeMap;

use crate::host::{Host, SERVICE};
use crate::machine::Machine;
use crate::support::wait_until;

/// Each name is tried by `probe.py`. What is open to a user who is in no sandbox shows that the probe itself works; the rest
/// is refused to any user, and must be here.
const REFUSED: [(&str, Outside); 35] = [
    ("socket inet", Outside::Open),
    ("socket inet6", Outside::Open),
    ("socket netlink", Outside::Open),
    ("socket packet", Outside::Refused),
    ("write /etc", Outside::Open),
    ("write /usr", Outside::Open),
    ("write /var", Outside::Open),
    ("read /root", Outside::Open),
    ("read /home", Outside::Open),
    ("read /tmp", Outside::Open),
    ("read pepper", Outside::Refused),
    ("read shadow", Outside::Refused),
    ("read /proc of another user", Outside::Open),
    ("read kernel settings", Outside::Open),
    ("write kernel settings", Outside::Refused),
    ("write control groups", Outside::Refused),
    ("memory W+X", Outside::Open),
    ("memory W then X", Outside::Open),
    ("ptrace", Outside::Open),
    ("memory of another process", Outside::Open),
    ("mount", Outside::Refused),
    ("mount in a user namespace", Outside::Open),
    ("user namespace", Outside::Open),
    ("module", Outside::Refused),
    ("kexec", Outside::Refused),
    ("clock", Outside::Refused),
    ("host name", Outside::Refused),
    ("device node", Outside::Refused),
    ("raw device", Outside::Open),
    ("setuid file", Outside::Open),
    ("another user", Outside::Refused),
    ("real time", Outside::Refused),
    ("personality", Outside::Open),
    ("bpf", Outside::Refused),
    ("keyring", Outside::Open),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outside {
    Open,
    Refused,
}

#[test]
fn in_the_units_sandbox_nothing_is_open_but_its_own_folders() {
    let Some(host) = Host::fresh() else { return };
    prepare(&host);
    let outside = outcomes(&probe_outside(&host));
    let inside = outcomes(&probe_inside(&host));
    panic!("{outside:#?}\n{inside:#?}");
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
fn probe_outside(host: &Machine) -> String {
    let line = "sleep 100 & /usr/bin/python3 /usr/lib/keyward-probe.py /var/tmp/probe $!; kill $!";
    let output = host.run_as("keyward", &["bash", "-euc", line]);
    crate::machine::text(&output.stdout) + &crate::machine::text(&output.stderr)
}

/// As the service: the shipped unit with another program.
fn probe_inside(host: &Host) -> String {
    let program = "sleep 100 & exec /usr/bin/python3 /usr/lib/keyward-probe.py /var/lib/keyward/probe $!";
    host.drop_in(
        SERVICE,
        &format!(
            "[Service]\nType=exec\nRestart=no\nWatchdogSec=0\nExecStart=\n\
             ExecStart=/bin/bash -euc '{}'\n",
            program.replace('$', "$$")
        ),
    );
    host.ok(&["systemctl", "start", SERVICE]);
    wait_until("the probes are done", || host.property(SERVICE, "ActiveState") != "active");
    host.journal()
}

fn outcomes(text: &str) -> BTreeMap<String, String> {
    println!("{text}");
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect()
}
