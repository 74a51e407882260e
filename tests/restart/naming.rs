//! Which descriptor is which, and what is refused.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use keyward_proto::query::Asker;

use crate::passed::{Named, Sockets, binary, command, start};
use crate::support::http::{Place, get};
use crate::support::{Daemon, Home};

fn every_door_answers(home: &Home) {
    home.query().who(Asker::default()).unwrap();
    home.json(&["status"]);
    let http = Place::Unix(home.runtime().join("http.sock"));
    assert_eq!(http.ask(get("/healthz", &[])).status, 200);
}

fn is_there(home: &Home) -> [bool; 3] {
    ["query.sock", "admin.sock", "http.sock"].map(|name| home.runtime().join(name).exists())
}

#[test]
fn sockets_are_told_apart_by_their_names_in_every_order_and_stay_when_the_daemon_goes() {
    let home = Home::new();
    let sockets = Sockets::bind(&home);
    let doors = [Sockets::query, Sockets::admin, Sockets::http, Sockets::loopback];
    let mut orders: Vec<[usize; 4]> = (0..256).map(|n| [n % 4, n / 4 % 4, n / 16 % 4, n / 64]).collect();
    orders.retain(|order| (0..4).all(|door| order.contains(&door)));
    assert_eq!(orders.len(), 24);
    for order in orders {
        let daemon = start(&home, &binary(), order.map(|door| doors[door](&sockets)).into());
        every_door_answers(&home);
        let loopback = Place::Tcp(([127, 0, 0, 1], sockets.port).into());
        assert_eq!(loopback.ask(get("/healthz", &[])).status, 200, "{order:?}");
        daemon.stop();
        assert_eq!(is_there(&home), [true; 3], "what was passed is not the daemon's to remove");
    }
}

#[test]
fn a_door_that_was_not_passed_is_bound_and_removed_by_the_daemon() {
    let doors = [Sockets::query, Sockets::admin, Sockets::http];
    for (place, door) in doors.into_iter().enumerate() {
        let home = Home::new();
        let sockets = Sockets::bind(&home);
        let passed = door(&sockets);
        // The others' files are stale now, as after a crash.
        drop(sockets);
        let daemon = start(&home, &binary(), vec![passed]);
        every_door_answers(&home);
        daemon.stop();
        assert_eq!(is_there(&home), [0, 1, 2].map(|number| number == place));
    }
}

#[test]
fn descriptors_for_another_process_are_ignored() {
    let home = Home::new();
    let elsewhere = Sockets::bind_in(&home.path().join("elsewhere"));
    let others = |command: &mut Command| {
        command.env("LISTEN_PID", "1");
    };
    let child = command(&home, &binary(), elsewhere.all(), others).spawn().unwrap();
    let mut daemon = Daemon { home: &home, child };
    daemon.wait_ready();
    every_door_answers(&home);
    // Nobody looks at those: who connects waits.
    let mut waits = UnixStream::connect(home.path().join("elsewhere/query.sock")).unwrap();
    waits.set_nonblocking(true).unwrap();
    std::io::Write::write_all(&mut waits, &[0; 4]).unwrap();
    daemon.stop();
    let read = std::io::Read::read(&mut waits, &mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(std::io::ErrorKind::WouldBlock));
}

#[test]
fn what_cannot_be_served_is_refused_with_what_to_do() {
    let home = Home::new();
    let sockets = Sockets::bind(&home);
    let spare = Sockets::bind_in(&home.path().join("spare"));
    let file = || OwnedFd::from(File::open("/dev/null").unwrap());
    let datagrams = || OwnedFd::from(UnixDatagram::unbound().unwrap());
    let connected = || OwnedFd::from(UnixStream::pair().unwrap().0);
    let connected_tcp = || OwnedFd::from(TcpStream::connect(("127.0.0.1", sockets.port)).unwrap());
    let tcp = || sockets.loopback().1;
    let open = || OwnedFd::from(TcpListener::bind("0.0.0.0:0").unwrap());
    let names = |names: &'static str| {
        move |command: &mut Command| {
            command.env("LISTEN_FDNAMES", names);
        }
    };
    type Adjust = Box<dyn FnOnce(&mut Command)>;
    let as_named = || -> Adjust { Box::new(|_| {}) };
    let table: [(&str, Vec<Named>, Adjust, &str); 15] = [
        ("no name", sockets.all(), Box::new(names("")), "4 sockets were passed with 0 names"),
        ("a name too few", sockets.all(), Box::new(names("query:admin:http")), "with 3 names"),
        ("a name too many", vec![sockets.query()], Box::new(names("query:admin")), "with 2 names"),
        (
            "no names at all",
            sockets.all(),
            Box::new(|command| {
                command.env_remove("LISTEN_FDNAMES");
            }),
            "FileDescriptorName=query, admin or http",
        ),
        ("the unit's own name", vec![("keyward-query.socket", sockets.query().1)], as_named(), "which no door has"),
        ("unknown beside known", vec![sockets.query(), ("unknown", file())], as_named(), "which no door has"),
        ("query twice", vec![sockets.query(), spare.query()], as_named(), "two sockets of one kind"),
        ("http twice", vec![sockets.http(), spare.http()], as_named(), "two sockets of one kind"),
        ("tcp twice", vec![sockets.loopback(), spare.loopback()], as_named(), "two sockets of one kind"),
        ("a file", vec![("query", file())], as_named(), "\"query\" can't be served"),
        ("datagrams", vec![("admin", datagrams())], as_named(), "\"admin\" can't be served"),
        ("a connection", vec![("query", connected())], as_named(), "it does not listen"),
        ("a connection over tcp", vec![("http", connected_tcp())], as_named(), "it does not listen"),
        ("tcp as query", vec![("query", tcp())], as_named(), "\"query\" can't be served"),
        ("reachable from outside", vec![("http", open())], as_named(), "which other hosts can reach"),
    ];
    for (what, passed, adjust, words) in table {
        let output = home.refused(command(&home, &binary(), passed, adjust));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(4) && said.contains(words), "{what}: {}: {said}", output.status);
        assert!(!home.database().exists(), "{what}: refused before anything was made");
    }
    assert_eq!(is_there(&home), [true; 3]);
}
