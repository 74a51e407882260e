use super::*;

#[test]
fn the_example_file_says_the_defaults() {
    let example = include_str!("../../examples/keyward.toml");
    assert_eq!(Config::parse(example), Ok(Config::default()));
    for key in [
        "data",
        "runtime",
        "group",
        "workers",
        "log",
        "log_denials",
        "keep_expired",
        "uids",
        "gids",
        "connections",
        "connections_per_uid",
    ] {
        assert!(example.contains(&format!("\n{key} = ")), "{key} is shown");
    }
    for key in [
        "frame_deadline",
        "idle_timeout",
        "stop_deadline",
        "[admin]",
        "[limits]",
        "# group = ",
        "[http]",
        "# listen = ",
        "session_cookie",
        "[audit]",
        "keep",
        "max_mib",
    ] {
        assert!(example.contains(&format!("\n{key}")), "{key} is shown");
    }
}

#[test]
fn an_empty_file_says_the_defaults() {
    assert_eq!(Config::parse(""), Ok(Config::default()));
    assert_eq!(Config::parse("[admin]\n[http]\n[limits]\n"), Ok(Config::default()));
    assert_eq!(Config::default().limits.connections_per_uid, 12_288);
}

#[test]
fn every_field_is_read() {
    let text = "data='/d'\nruntime='/r'\ngroup='web'\nworkers=3\nlog='debug'\nlog_denials=0\nkeep_expired='0s'\n\
                [admin]\nuids=[1000]\ngids=[5,6]\ngroup='ops'\n\
                [http]\nlisten='[::1]:80'\nsession_cookie='sid'\n\
                [limits]\nconnections=100\nconnections_per_uid=7\nframe_deadline='1s'\nidle_timeout='2m'\nstop_deadline='1h'\n\
                [audit]\nkeep='2h'\nmax_mib=5";
    let read = Config::parse(text).unwrap();
    let wanted = Config {
        data: "/d".into(),
        runtime: "/r".into(),
        group: "web".into(),
        workers: 3,
        log: "debug".into(),
        log_denials: 0,
        keep_expired: Duration::ZERO,
        admin: Admin { uids: vec![1000], gids: vec![5, 6], group: Some("ops".into()) },
        http: Http { listen: Some("[::1]:80".parse().unwrap()), session_cookie: "sid".into() },
        limits: Limits {
            connections: 100,
            connections_per_uid: 7,
            frame_deadline: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(120),
            stop_deadline: Duration::from_secs(3600),
        },
        audit: Audit { keep: Duration::from_secs(7200), max_mib: 5 },
    };
    assert_eq!(read, wanted);
}

#[test]
fn one_users_share_follows_the_connections_when_it_is_left_out() {
    for (connections, share) in [(1, 1), (2, 1), (100, 75), (1_000_000, 750_000)] {
        let read = Config::parse(&format!("[limits]\nconnections = {connections}")).unwrap();
        assert_eq!(read.limits.connections_per_uid, share);
    }
}

#[test]
fn what_is_refused_names_its_line_and_why() {
    for (text, line, quoted, why) in [
        ("colour = 1", 1, "colour = 1", "unknown field `colour`"),
        (
            "data = '/d'\n\n[limits]\n  conections = 5 # slip\n",
            4,
            "conections = 5 # slip",
            "unknown field `conections`",
        ),
        ("workers = 'two'", 1, "workers = 'two'", "invalid type: string \"two\", expected usize"),
        ("workers = -1", 1, "workers = -1", "invalid value: integer `-1`, expected usize"),
        ("workers = 2000", 1, "workers = 2000", "2000 workers are too many"),
        ("log = ']['", 1, "log = ']['", "is no log filter"),
        ("log = 'info,loud'", 1, "log = 'info,loud'", "loud is no level"),
        ("log_denials = 6001", 1, "log_denials = 6001", "too many"),
        ("data = 1", 1, "data = 1", "invalid type: integer `1`"),
        ("keep_expired = '3651d'", 1, "keep_expired = '3651d'", "write 0s to 3650d"),
        ("keep_expired = '7'", 1, "keep_expired = '7'", "not a duration"),
        ("log = 'info'\nlog = 'debug'", 2, "log = 'debug'", "duplicate key"),
        ("[limits]\nconnections = 0", 2, "connections = 0", "0 connections are out of range; write 1 to 1000000"),
        ("[limits]\nconnections = 1000001", 2, "connections = 1000001", "out of range"),
        (
            "[limits]\nconnections_per_uid = 20000",
            1,
            "[limits]",
            "connections_per_uid (20000) is over connections (16384)",
        ),
        ("[limits]\nframe_deadline = 10", 2, "frame_deadline = 10", "invalid type: integer `10`"),
        ("[limits]\nframe_deadline = '0s'", 2, "frame_deadline = '0s'", "out of range"),
        ("[limits]\nidle_timeout = '2d'", 2, "idle_timeout = '2d'", "out of range"),
        ("[limits]\nstop_deadline = '10'", 2, "stop_deadline = '10'", "not a duration"),
        ("[admin]\nuids = [-1]", 2, "uids = [-1]", "expected u32"),
        ("[admin]\nuids = ['root']", 2, "uids = ['root']", "expected u32"),
        ("[http]\nlisten = '0.0.0.0:7979'", 2, "listen = '0.0.0.0:7979'", "no loopback address"),
        ("[http]\nlisten = '[::]:7979'", 2, "listen = '[::]:7979'", "no loopback address"),
        ("[http]\nlisten = '192.168.1.2:7979'", 2, "listen = '192.168.1.2:7979'", "no loopback address"),
        ("[http]\nlisten = '127.0.0.1'", 2, "listen = '127.0.0.1'", "no address and port"),
        ("[http]\nlisten = 'localhost:7979'", 2, "listen = 'localhost:7979'", "no address and port"),
        ("[http]\nsession_cookie = 'a b'", 2, "session_cookie = 'a b'", "no name for a cookie"),
        ("[http]\nsession_cookie = ''", 2, "session_cookie = ''", "no name for a cookie"),
        ("[audit]\nkeep = '59m'", 2, "keep = '59m'", "too short"),
        ("[audit]\nmax_mib = 0", 2, "max_mib = 0", "0 MiB are out of range; write 1 to 1048576"),
        ("data = ", 1, "data =", "string values must be quoted"),
    ] {
        let refusal = Config::parse(text).unwrap_err();
        assert_eq!((refusal.line, refusal.text.as_str()), (line, quoted), "{text}: {refusal}");
        assert!(refusal.why.contains(why), "{text}: {refusal}");
    }
}

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let error = Config::load(Some(Path::new("/nonexistent/keyward.toml"))).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/keyward.toml") && error.contains("--config"), "{error}");
}

#[test]
fn durations_are_a_number_and_a_unit() {
    for (text, seconds) in [("0s", 0), ("90s", 90), ("5m", 300), ("24h", 86_400), ("30d", 2_592_000), ("007s", 7)] {
        assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in [
        "",
        "s",
        "10",
        "10 s",
        " 10s",
        "-1s",
        "+1s",
        "1.5h",
        "1h30m",
        "10S",
        "1w",
        "1_0s",
        "1000000001s",
        "99999999999999999999d",
    ] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}
