//! One thread that asks on many connections at once and measures how long the answers take.
//!
//! Each connection writes `depth` requests at once, waits for all their replies, and begins again. In a *closed loop* it
//! begins at once. At a *fixed rate* requests are due at times that the server's slowness does not move: what is late is
//! sent as soon as a connection is free, and its latency counts from when it was due (else a server that stalls would keep
//! the generator from asking just then, and the stall would count once instead of for all who would have waited).

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;

use super::exchange::{Answer, Exchange, Reply};
use super::process;

/// Latencies are kept to three digits, up to this; a longer one counts as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
const LATENCY_DIGITS: u8 = 3;
/// A server that answers nothing for so long never will.
const PATIENCE: Duration = Duration::from_secs(10);
/// Events taken at once: those of a busy loop's connections.
const EVENTS_MAX: usize = 256;
/// Replies to one write of the usual depths fit.
const INPUT_BYTES: usize = 16 * 1024;
/// No reply is larger than a frame on the query socket.
const INPUT_BYTES_MAX: usize = 1024 * 1024;
/// Nearer to the next due time than this, the generator spins: epoll counts in milliseconds.
const SPIN: Duration = Duration::from_millis(2);
/// Less than [`SPIN`], and often enough to see that the time is over.
const WAIT_MS: u8 = 1;

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections, at least 1.
    pub connections: usize,
    /// Requests in one write, at least 1 and at most as many as there are.
    pub depth: usize,
    /// Asked before the measuring begins.
    pub warm_up: Duration,
    /// Measured.
    pub duration: Duration,
    /// Requests a second; without it a closed loop.
    pub rate: Option<f64>,
    /// The request to begin with.
    pub first: usize,
}

/// How many replies said what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// [`Answer::Allowed`]
    pub allowed: u64,
    /// [`Answer::Refused`]
    pub refused: u64,
    /// [`Answer::BadCredential`]
    pub bad_credential: u64,
    /// [`Answer::Unexpected`]
    pub unexpected: u64,
}

impl Answers {
    fn count(&mut self, answer: Answer) {
        let place = match answer {
            Answer::Allowed => &mut self.allowed,
            Answer::Refused => &mut self.refused,
            Answer::BadCredential => &mut self.bad_credential,
            Answer::Unexpected => &mut self.unexpected,
        };
        *place += 1;
    }

    /// All together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.allowed + self.refused + self.bad_credential + self.unexpected
    }
}

/// What came of it.
pub struct Measured {
    /// How long was measured.
    pub elapsed: Duration,
    /// The replies of that time.
    pub answers: Answers,
    /// At a fixed rate, requests that were due and not answered at the end.
    pub unanswered: u64,
    /// The replies' latencies in nanoseconds, from the write or, at a fixed rate, from the due time. What was due and not
    /// answered counts with the time that it had waited.
    pub latency: Histogram<u64>,
    /// Time on a core, of the server.
    pub server_cpu: Option<Duration>,
    /// Time on a core, of this process.
    pub client_cpu: Duration,
    /// The request to begin with next time.
    pub next: usize,
}

impl Measured {
    /// Requests answered each second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub fn per_second(&self) -> f64 {
        self.answers.total() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Why nothing was measured.
#[derive(Debug)]
pub enum RunError {
    /// A connection could not be opened.
    Open(io::Error),
    /// A connection failed.
    Io(io::Error),
    /// The server closed a connection.
    Closed,
    /// The server's reply does not fit the request.
    Broken,
    /// It answered nothing for a long time.
    Silent,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(cause) => write!(f, "nothing measured: no connection: {cause}; is the server running?"),
            Self::Io(cause) => write!(f, "nothing measured: a connection failed: {cause}; see the server's log"),
            Self::Closed => f.write_str("nothing measured: the server closed a connection; see its log and limits"),
            Self::Broken => f.write_str("nothing measured: a reply does not fit its request; is it the right server?"),
            Self::Silent => {
                write!(f, "nothing measured: no answer for {} s; is the server stuck?", PATIENCE.as_secs())
            }
        }
    }
}

impl std::error::Error for RunError {}

/// When requests are due at a fixed rate.
struct Schedule {
    start: Instant,
    /// Between two writes.
    gap: Duration,
    written: u32,
}

impl Schedule {
    fn new(start: Instant, rate: f64, depth: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "depths are small")]
        let gap = Duration::from_secs_f64(depth as f64 / rate);
        Self { start, gap, written: 0 }
    }

    /// When the next write is due, however late it will be made.
    fn due(&self) -> Instant {
        self.start + self.gap * self.written
    }
}

struct Connection {
    stream: File,
    /// Requests written whose replies are awaited.
    waiting: Range<usize>,
    /// Where their latency counts from.
    since: Instant,
    /// Bytes of them that the socket has not taken yet.
    unwritten: usize,
    input: Vec<u8>,
    filled: usize,
}

/// What the replies of one read came to.
enum Progress {
    /// More are awaited.
    Waiting,
    /// All are there.
    Done,
}

struct Driver<'a, E> {
    exchange: &'a E,
    plan: Plan,
    /// One connection with one request at a time: it just reads, as such a client does, instead of waiting first.
    blocks: bool,
    epoll: Epoll,
    connections: Vec<Connection>,
    /// At a fixed rate: those with nothing to do.
    free: Vec<usize>,
    schedule: Option<Schedule>,
    next: usize,
    answers: Answers,
    latency: Histogram<u64>,
}

/// Asks as planned. `server` is the process whose time is told.
///
/// # Errors
/// See [`RunError`]. Answers that are not the expected ones are no error here: look at [`Measured::answers`].
pub fn run<E: Exchange>(exchange: &E, plan: &Plan, server: Option<Pid>) -> Result<Measured, RunError> {
    let mut driver = Driver::new(exchange, *plan)?;
    driver.begin(plan)?;
    driver.ask_until(Instant::now() + plan.warm_up)?;
    // A wrong answer counts in the warm-up, too.
    driver.answers = Answers { unexpected: driver.answers.unexpected, ..Answers::default() };
    driver.latency.reset();
    let used = |pid| process::cpu_time(pid).map_err(RunError::Io);
    let (server_before, client_before) = (server.map(used).transpose()?, used(process::this())?);
    let began = Instant::now();
    driver.ask_until(began + plan.duration)?;
    let elapsed = began.elapsed();
    let unanswered = driver.count_unanswered(began + elapsed);
    let server_after = server.map(used).transpose()?;
    Ok(Measured {
        elapsed,
        answers: driver.answers,
        unanswered,
        latency: driver.latency,
        server_cpu: server_after.zip(server_before).map(|(after, before)| after.saturating_sub(before)),
        client_cpu: used(process::this())?.saturating_sub(client_before),
        next: driver.next,
    })
}

impl<'a, E: Exchange> Driver<'a, E> {
    fn new(exchange: &'a E, plan: Plan) -> Result<Self, RunError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| RunError::Io(e.into()))?;
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS).expect("the bounds are in order");
        let mut driver = Self {
            exchange,
            plan,
            blocks: plan.connections == 1 && plan.depth == 1 && plan.rate.is_none(),
            epoll,
            connections: Vec::with_capacity(plan.connections),
            free: Vec::with_capacity(plan.connections),
            schedule: None,
            next: plan.first,
            answers: Answers::default(),
            latency,
        };
        for slot in 0..plan.connections {
            let stream = driver.open(slot)?;
            let input = vec![0; INPUT_BYTES];
            let since = Instant::now();
            driver.connections.push(Connection { stream, waiting: 0..0, since, unwritten: 0, input, filled: 0 });
        }
        Ok(driver)
    }

    fn open(&self, slot: usize) -> Result<File, RunError> {
        let stream = self.exchange.open().map_err(RunError::Open)?;
        self.set_up(&stream, slot).map_err(|e| RunError::Open(e.into()))?;
        Ok(stream)
    }

    fn set_up(&self, stream: &File, slot: usize) -> nix::Result<()> {
        if self.blocks {
            let patience = TimeVal::seconds(PATIENCE.as_secs().cast_signed());
            return setsockopt(stream, ReceiveTimeout, &patience);
        }
        fcntl(stream, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        self.epoll.add(stream, EpollEvent::new(EpollFlags::EPOLLIN, slot as u64))
    }

    fn begin(&mut self, plan: &Plan) -> Result<(), RunError> {
        if let Some(rate) = plan.rate {
            self.schedule = Some(Schedule::new(Instant::now(), rate, plan.depth));
            self.free.extend(0..plan.connections);
            return Ok(());
        }
        (0..plan.connections).try_for_each(|slot| self.write(slot, Instant::now()))
    }

    fn ask_until(&mut self, end: Instant) -> Result<(), RunError> {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let mut heard = Instant::now();
        loop {
            self.write_what_is_due()?;
            let ready = self.wait(&mut events)?;
            let now = Instant::now();
            for event in &events[..ready] {
                let slot = usize::try_from(event.data()).expect("a slot was given");
                self.serve(slot, event.events())?;
            }
            let nothing_awaited = self.free.len() == self.connections.len();
            if ready > 0 || nothing_awaited {
                heard = now;
            }
            if now >= end {
                return Ok(());
            }
            if now > heard + PATIENCE {
                return Err(RunError::Silent);
            }
        }
    }

    fn wait(&self, events: &mut [EpollEvent]) -> Result<usize, RunError> {
        if self.blocks {
            events[0] = EpollEvent::new(EpollFlags::EPOLLIN, 0);
            return Ok(1);
        }
        let spins = self
            .schedule
            .as_ref()
            .is_some_and(|schedule| !self.free.is_empty() && schedule.due() < Instant::now() + SPIN);
        let timeout = if spins { EpollTimeout::ZERO } else { EpollTimeout::from(WAIT_MS) };
        match self.epoll.wait(events, timeout) {
            Ok(ready) => Ok(ready),
            Err(Errno::EINTR) => Ok(0),
            Err(error) => Err(RunError::Io(error.into())),
        }
    }

    fn write_what_is_due(&mut self) -> Result<(), RunError> {
        while let (Some(schedule), Some(slot)) = (&mut self.schedule, self.free.last().copied()) {
            let due = schedule.due();
            if due > Instant::now() {
                break;
            }
            schedule.written += 1;
            self.free.pop();
            self.write(slot, due)?;
        }
        Ok(())
    }

    /// At a fixed rate, what is still awaited at the end, and what should have been written by then.
    fn count_unanswered(&mut self, end: Instant) -> u64 {
        let Some(schedule) = &mut self.schedule else { return 0 };
        let mut unanswered = 0;
        let mut count = |since: Instant, requests: usize| {
            let waited = u64::try_from((end - since).as_nanos()).unwrap_or(LATENCY_NS_MAX);
            self.latency.saturating_record_n(waited, requests as u64);
            unanswered += requests as u64;
        };
        for connection in self.connections.iter().filter(|connection| !connection.waiting.is_empty()) {
            count(connection.since, connection.waiting.len());
        }
        while schedule.due() < end {
            count(schedule.due(), self.plan.depth);
            schedule.written += 1;
        }
        unanswered
    }

    /// Begins the next requests on a connection.
    fn write(&mut self, slot: usize, since: Instant) -> Result<(), RunError> {
        let count = self.exchange.requests().len();
        if self.next + self.plan.depth > count {
            self.next = 0;
        }
        let waiting = self.next..self.next + self.plan.depth;
        self.next = waiting.end;
        let connection = &mut self.connections[slot];
        connection.unwritten = self.exchange.requests().bytes(&waiting).len();
        connection.waiting = waiting;
        connection.since = since;
        self.write_on(slot)
    }

    /// Writes what the socket takes, and has epoll tell when it takes more.
    fn write_on(&mut self, slot: usize) -> Result<(), RunError> {
        let connection = &mut self.connections[slot];
        let bytes = self.exchange.requests().bytes(&connection.waiting);
        while connection.unwritten > 0 {
            match connection.stream.write(&bytes[bytes.len() - connection.unwritten..]) {
                Ok(written) => connection.unwritten -= written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.watch(slot, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(())
    }

    fn watch(&self, slot: usize, what: EpollFlags) -> Result<(), RunError> {
        let mut event = EpollEvent::new(what, slot as u64);
        self.epoll.modify(&self.connections[slot].stream, &mut event).map_err(|e| RunError::Io(e.into()))
    }

    fn serve(&mut self, slot: usize, events: EpollFlags) -> Result<(), RunError> {
        if events.contains(EpollFlags::EPOLLOUT) {
            self.write_on(slot)?;
            if self.connections[slot].unwritten == 0 {
                self.watch(slot, EpollFlags::EPOLLIN)?;
            }
        }
        if !events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return Ok(());
        }
        match self.read(slot)? {
            Progress::Waiting => Ok(()),
            Progress::Done => self.go_on(slot),
        }
    }

    /// After all replies: the next requests, or none until some are due.
    fn go_on(&mut self, slot: usize) -> Result<(), RunError> {
        let since = Instant::now();
        if E::ONE_REQUEST_A_CONNECTION {
            self.connections[slot].stream = self.open(slot)?;
        }
        if self.schedule.is_some() {
            self.free.push(slot);
            return Ok(());
        }
        self.write(slot, since)
    }

    fn read(&mut self, slot: usize) -> Result<Progress, RunError> {
        let connection = &mut self.connections[slot];
        let room = &mut connection.input[connection.filled..];
        match connection.stream.read(room) {
            Ok(0) => return Err(RunError::Closed),
            Ok(read) => connection.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.blocks => return Err(RunError::Silent),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(Progress::Waiting);
            }
            Err(error) => return Err(failure(error)),
        }
        let latency = connection.since.elapsed();
        let before = connection.waiting.start;
        take_replies(self.exchange, connection, &mut self.answers)?;
        let answered = (connection.waiting.start - before) as u64;
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX);
        if answered > 0 {
            self.latency.saturating_record_n(nanoseconds, answered);
        }
        Ok(if connection.waiting.is_empty() { Progress::Done } else { Progress::Waiting })
    }
}

/// Takes all whole replies off the input.
fn take_replies<E: Exchange>(exchange: &E, connection: &mut Connection, answers: &mut Answers) -> Result<(), RunError> {
    let mut used = 0;
    while !connection.waiting.is_empty() {
        match exchange.reply(&connection.input[used..connection.filled], connection.waiting.start) {
            Reply::Incomplete => break,
            Reply::Broken => return Err(RunError::Broken),
            Reply::Whole { bytes, answer } => {
                used += bytes;
                connection.waiting.start += 1;
                answers.count(answer);
            }
        }
    }
    connection.input.copy_within(used..connection.filled, 0);
    connection.filled -= used;
    if connection.waiting.is_empty() && connection.filled > 0 {
        return Err(RunError::Broken);
    }
    if connection.filled == connection.input.len() {
        if connection.filled >= INPUT_BYTES_MAX {
            return Err(RunError::Broken);
        }
        connection.input.resize(connection.filled * 2, 0);
    }
    Ok(())
}

fn failure(error: io::Error) -> RunError {
    if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
        RunError::Closed
    } else {
        RunError::Io(error)
    }
}

#[cfg(test)]
mod tests;
