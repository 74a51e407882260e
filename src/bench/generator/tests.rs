//! The generator against servers that stall, cut their replies or fail.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::exchange::Requests;
use super::*;

/// Bytes of a request and of its reply, which are the same.
const BYTES: usize = 100;

/// Requests of a hundred bytes that begin with their number; the reply must be the same bytes.
struct Echo {
    socket: PathBuf,
    requests: Requests,
}

impl Echo {
    fn new(socket: PathBuf, count: u32) -> Self {
        let mut requests = Requests::default();
        for number in 0..count {
            requests.push(|out| {
                out.extend(number.to_be_bytes());
                out.resize(out.len() + BYTES - 4, b'x');
            });
        }
        Self { socket, requests }
    }
}

impl Exchange for Echo {
    fn open(&self) -> io::Result<File> {
        Ok(File::from(OwnedFd::from(UnixStream::connect(&self.socket)?)))
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }

    fn reply(&self, input: &[u8], number: usize) -> Reply {
        let Some((got, _)) = input.split_at_checked(BYTES).and_then(|(reply, _)| reply.split_first_chunk()) else {
            return Reply::Incomplete;
        };
        match u32::from_be_bytes(*got) {
            u32::MAX => Reply::Whole { bytes: BYTES, answer: Answer::Unexpected },
            got if got as usize == number => Reply::Whole { bytes: BYTES, answer: Answer::Allowed },
            _ => Reply::Broken,
        }
    }
}

/// Runs a plan against a server whose every connection does `serve` in a thread.
fn against(
    plan: Plan,
    serve: impl Fn(UnixStream) + Send + Sync + Clone + 'static,
) -> (Result<Measured, RunError>, Echo) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), serve.clone());
            std::thread::spawn(move || serve(stream));
        }
    });
    let echo = Echo::new(socket, 50_000);
    (run(&echo, &plan, Some(process::this())), echo)
}

/// Sends back what it gets, in pieces of at most `piece` bytes.
fn echo(mut stream: UnixStream, piece: usize) {
    let mut buffer = vec![0; piece];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

fn plan(connections: usize, depth: usize, milliseconds: u64) -> Plan {
    let (warm_up, duration) = (Duration::from_millis(20), Duration::from_millis(milliseconds));
    Plan { connections, depth, warm_up, duration, rate: None, first: 0 }
}

#[test]
fn every_request_is_answered_and_counted_once() {
    for (connections, depth) in [(1, 1), (3, 1), (1, 16), (5, 16)] {
        let (measured, _) = against(plan(connections, depth, 50), |stream| echo(stream, 64 * 1024));
        let measured = measured.unwrap();
        let answers = measured.answers;
        assert!(answers.allowed > 0 && answers.total() == answers.allowed, "{answers:?}");
        assert_eq!(measured.latency.len(), answers.allowed);
        assert!(measured.latency.min() > 100, "no thread answers within a tenth of a microsecond");
        assert!(measured.elapsed >= Duration::from_millis(50));
        assert!(measured.server_cpu.unwrap() > Duration::ZERO && measured.client_cpu > Duration::ZERO);
    }
}

#[test]
fn replies_in_pieces_are_put_together() {
    let (measured, _) = against(plan(2, 8, 50), |stream| echo(stream, 7));
    assert!(measured.unwrap().answers.allowed > 0);
}

#[test]
fn more_than_a_socket_holds_is_written_when_there_is_room() {
    let (measured, _) = against(plan(2, 20_000, 200), |stream| echo(stream, 64 * 1024));
    assert!(measured.unwrap().answers.allowed >= 20_000);
}

#[test]
fn a_fixed_rate_is_kept() {
    let rate = Some(2_000.0);
    let (measured, _) = against(Plan { rate, ..plan(4, 1, 500) }, |stream| echo(stream, 4096));
    let measured = measured.unwrap();
    // However busy the host is, what was due was answered or is counted.
    let due = (measured.answers.total() + measured.unanswered) as f64 / measured.elapsed.as_secs_f64();
    assert!((due - 2_000.0).abs() < 100.0, "{due}");
}

/// Echoes, and once, when the generator is under way, does nothing for [`STALL`].
fn stall_once(mut stream: UnixStream, stalled: &AtomicBool) {
    let began = Instant::now();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if began.elapsed() > Duration::from_millis(100) && !stalled.swap(true, Ordering::Relaxed) {
            std::thread::sleep(STALL);
        }
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

const STALL: Duration = Duration::from_millis(200);

/// How many took so many milliseconds or longer.
fn as_late_as(measured: &Measured, milliseconds: u64) -> u64 {
    measured.latency.count_between(milliseconds * 1_000_000, LATENCY_NS_MAX)
}

#[test]
fn a_stall_counts_for_all_who_would_have_waited() {
    let stalled = std::sync::Arc::new(AtomicBool::new(false));
    let server = move |stream| stall_once(stream, &stalled);
    let rate = Some(1_000.0);
    let measured = against(Plan { rate, ..plan(1, 1, 600) }, server).0.unwrap();
    // 200 were due while the server stood still, spread evenly over its 200 ms. On a busy host more are late.
    assert!(as_late_as(&measured, 100) >= 80, "{}", as_late_as(&measured, 100));
    assert!(as_late_as(&measured, 150) >= 30, "{}", as_late_as(&measured, 150));
}

#[test]
fn what_a_server_never_answers_counts_with_the_time_it_waited() {
    let server = |mut stream: UnixStream| {
        let (began, mut buffer) = (Instant::now(), [0; 4096]);
        while began.elapsed() < Duration::from_millis(220) {
            let read = stream.read(&mut buffer).unwrap();
            stream.write_all(&buffer[..read]).unwrap();
        }
        std::thread::sleep(Duration::from_secs(1));
    };
    let rate = Some(1_000.0);
    let measured = against(Plan { rate, ..plan(1, 1, 400) }, server).0.unwrap();
    assert!(measured.unanswered >= 150, "{}", measured.unanswered);
    assert_eq!(measured.latency.len(), measured.answers.total() + measured.unanswered);
    assert!(as_late_as(&measured, 100) >= 60, "{}", as_late_as(&measured, 100));
}

#[test]
fn in_a_closed_loop_the_same_stall_is_one_slow_answer() {
    let stalled = std::sync::Arc::new(AtomicBool::new(false));
    let measured = against(plan(1, 1, 600), move |stream| stall_once(stream, &stalled)).0.unwrap();
    assert!((1..5).contains(&as_late_as(&measured, 150)), "{}", as_late_as(&measured, 150));
}

#[test]
fn due_times_do_not_move_with_what_is_late() {
    let start = Instant::now();
    let mut schedule = Schedule::new(start, 1_000.0, 4);
    for written in 0..1_000 {
        assert_eq!(schedule.due(), start + Duration::from_millis(4) * written);
        schedule.written += 1;
    }
}

#[test]
fn what_goes_wrong_is_told() {
    let (measured, _) = against(plan(2, 4, 50), |mut stream| {
        let _ = stream.write_all(&[0xff; 50 * BYTES]);
        echo(stream, 4096);
    });
    // More replies than requests.
    assert!(matches!(measured, Err(RunError::Broken)));
    for connections in [1, 2] {
        let (measured, _) = against(plan(connections, 1, 50), |mut stream| {
            let mut request = [0; BYTES];
            while stream.read_exact(&mut request).is_ok() {
                stream.write_all(&[0xff; BYTES]).unwrap();
            }
        });
        let answers = measured.unwrap().answers;
        assert!(answers.unexpected > 0 && answers.total() == answers.unexpected);
        let (measured, _) = against(plan(connections, 1, 50), drop);
        assert!(matches!(measured, Err(RunError::Closed)));
    }
    let (measured, echo) = against(plan(1, 1, 20), |stream| echo(stream, 4096));
    measured.unwrap();
    let gone = Echo { socket: PathBuf::from("/nowhere"), requests: echo.requests };
    assert!(matches!(run(&gone, &plan(1, 1, 20), None), Err(RunError::Open(_))));
}
