//! Each socket starts the service; each is open to those for whom it is meant.

use crate::host::{ADMIN, HTTP, Host, KEY, QUERY, SERVICE};
use crate::machine::text;

/// A socket of the service, and how somebody asks at it.
#[derive(Clone, Copy, Debug)]
enum Door {
    Query,
    Admin,
    Http,
}

/// What comes of asking.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    /// The system lets nobody of that kind connect (EACCES).
    Closed,
    /// The daemon looked at who connected, and refused.
    TurnedAway,
}

use Door::{Admin, Http, Query};
use Outcome::{Answered, Closed, TurnedAway};

impl Door {
    fn ask(self, host: &Host, user: &str) -> Outcome {
        let output = match self {
            Query => host.run_as(user, &["keyward", "check", "--credential", KEY, "GET", "/api/v2/tickets"]),
            Admin => host.run_as(user, &["keyward", "status"]),
            Http => host.run_as(user, &["python3", "-c", include_str!("door.py"), HTTP]),
        };
        let (answer, error) = (text(&output.stdout), text(&output.stderr));
        if output.status.success() {
            let expected = match self {
                Query => "ok",
                Admin => "credentials",
                Http => "200 OK",
            };
            assert!(answer.contains(expected), "{self:?}: {answer}");
            Answered
        } else if error.contains("Permission denied") {
            Closed
        } else {
            assert!(error.contains("refused to serve"), "{self:?} for {user}: {answer}{error}");
            TurnedAway
        }
    }
}

#[test]
fn a_first_connection_to_each_socket_starts_the_service_and_is_answered() {
    let Some(host) = Host::running() else { return };
    for door in [Query, Admin, Http] {
        host.ok(&["systemctl", "stop", SERVICE]);
        assert_eq!(host.property(SERVICE, "ActiveState"), "inactive");
        assert_eq!(door.ask(&host, "root"), Answered);
        assert_eq!(host.property(SERVICE, "ActiveState"), "active", "{door:?}");
    }
}

#[test]
fn each_socket_is_open_to_those_for_whom_it_is_meant_and_to_nobody_else() {
    let Some(host) = Host::running() else { return };
    let cases = [
        ("root", [(Query, Answered), (Admin, Answered), (Http, Answered)]),
        ("keyward", [(Query, Answered), (Admin, Answered), (Http, Answered)]),
        // A web worker, in the group.
        ("www-data", [(Query, Answered), (Admin, Closed), (Http, Answered)]),
        ("stranger", [(Query, Closed), (Admin, Closed), (Http, Closed)]),
    ];
    for (user, doors) in cases {
        for (door, expected) in doors {
            assert_eq!(door.ask(&host, user), expected, "{door:?} for {user}");
        }
    }
}

#[test]
fn whom_a_wrong_mode_lets_connect_to_the_admin_socket_the_daemon_turns_away() {
    let Some(host) = Host::running() else { return };
    host.shell(&format!("chmod 0666 {ADMIN}"));
    let cases = [("root", Answered), ("keyward", Answered), ("www-data", TurnedAway), ("stranger", TurnedAway)];
    for (user, expected) in cases {
        assert_eq!(Admin.ask(&host, user), expected, "{user}");
    }
}

#[test]
fn the_sockets_stay_when_the_service_stops_and_go_with_their_own_units() {
    let Some(host) = Host::running() else { return };
    host.ok(&["systemctl", "stop", SERVICE]);
    for socket in [QUERY, ADMIN, HTTP] {
        assert!(host.path(socket).exists(), "{socket}");
    }
    host.shell("systemctl stop keyward-{query,admin,http}.socket");
    for socket in [QUERY, ADMIN, HTTP] {
        assert!(!host.path(socket).exists(), "{socket}");
    }
}

#[test]
fn a_loopback_address_of_the_socket_unit_is_served_though_the_service_has_no_network() {
    let Some(host) = Host::running() else { return };
    host.drop_in("keyward-http.socket", "[Socket]\nListenStream=127.0.0.1:7979\n");
    host.shell("systemctl stop keyward.service; systemctl restart keyward-http.socket");
    let ask = "exec 3<>/dev/tcp/127.0.0.1/7979; printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3; head -n 1 <&3";
    assert!(host.shell(ask).contains("200 OK"), "{}", host.journal());
    assert_eq!(Http.ask(&host, "www-data"), Answered);
}
