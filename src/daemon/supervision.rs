//! What systemd is told (sd_notify(3)): ready when every Unix socket answers, alive while questions are answered, how it goes.
//!
//! The daemon knocks at its own doors for that, as its users do. It has a place there beside theirs, and what it asks is
//! neither counted nor logged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use keyward_proto::admin::{AdminReply, AdminRequest, StatusReport};
use keyward_proto::client::{AsyncQueryClient, ClientError};
use keyward_proto::frame::{self, ADMIN_FRAME_BYTES_MAX};
use keyward_proto::query::{Asker, Target};
use sd_notify::NotifyState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::StartError;

/// A door that has not answered after so long does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// A daemon at whose doors the whole host waits may need more than one try until it gets an answer itself.
const KNOCK_MAX: Duration = Duration::from_secs(60);
/// Between two knocks.
const KNOCK_PAUSE: Duration = Duration::from_millis(100);
/// Between two tries to get into a queue that is full (`EAGAIN` of connect(2)).
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// How often the status text is renewed.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// Questions within the watchdog's time, so that one that comes late is no death.
const PINGS: u32 = 4;
/// News that wait to be told.
const NEWS_MAX: usize = 16;
/// Nobody's: the highest id, a code that was never given. It is looked up, hashed and compared as any other.
const ASKED: &[u8] = b"key 9007199254740991:KEYWARDASKSWHETHERITLIVES";

/// What the service manager is told.
pub(super) enum News {
    Ready,
    Reloading,
    Reloaded,
    Stopping,
    Alive,
    Status(String),
}

/// Tells the service manager what there is to tell, in order, if there is one.
#[derive(Clone)]
pub(super) struct Teller {
    sender: Option<SyncSender<News>>,
    /// Between readiness and stop: a reload before would end with readiness, one behind take the stop back.
    is_ready: Arc<AtomicBool>,
}

impl Teller {
    /// On a thread of its own: a manager that does not listen must not hold up questions.
    pub(super) fn start() -> io::Result<Self> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Self { sender: None, is_ready: Arc::default() });
        }
        let (sender, news) = sync_channel(NEWS_MAX);
        std::thread::Builder::new().name("notifier".to_string()).spawn(move || {
            for news in news {
                pass_on(&news);
            }
        })?;
        Ok(Self { sender: Some(sender), is_ready: Arc::default() })
    }

    pub(super) const fn is_heard(&self) -> bool {
        self.sender.is_some()
    }

    /// What finds no room is dropped: the manager has not listened for long, and newer news come.
    pub(super) fn tell(&self, news: News) {
        let Some(sender) = &self.sender else { return };
        match news {
            News::Ready => self.is_ready.store(true, Ordering::SeqCst),
            News::Stopping => self.is_ready.store(false, Ordering::SeqCst),
            News::Reloading | News::Reloaded if !self.is_ready.load(Ordering::SeqCst) => return,
            News::Reloading | News::Reloaded | News::Alive | News::Status(_) => {}
        }
        let _ = sender.try_send(news);
    }
}

fn pass_on(news: &News) {
    let told = match news {
        News::Ready | News::Reloaded => sd_notify::notify(&[NotifyState::Ready]),
        News::Reloading => {
            NotifyState::monotonic_usec_now().and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]))
        }
        News::Stopping => {
            sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping: finishing what was received")])
        }
        News::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        News::Status(text) => sd_notify::notify(&[NotifyState::Status(text)]),
    };
    if let Err(error) = told {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// The sockets, by path.
pub(super) struct Doors {
    pub(super) query: PathBuf,
    pub(super) admin: PathBuf,
    pub(super) http: PathBuf,
}

/// Says that the daemon is ready once every door has answered, then until the stop how it goes, and that it lives.
///
/// # Errors
/// When a door does not answer; everything is stopped then.
pub(super) async fn attend(doors: Doors, teller: Teller, stop: CancellationToken) -> Result<(), StartError> {
    let knocked = tokio::select! {
        // What is asked then waits for the next daemon.
        () = stop.cancelled() => return Ok(()),
        knocked = knock(&doors) => knocked,
    };
    if let Err((door, why)) = knocked {
        stop.cancel();
        return Err(StartError::NoAnswer(door, why));
    }
    teller.tell(News::Ready);
    let watchdog = async {
        match sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
            Some(limit) => ping(&doors.query, limit / PINGS, &teller).await,
            None => std::future::pending().await,
        }
    };
    let status = async {
        let mut ticks = interval(STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            tell_status(&doors.admin, &teller).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = watchdog => Ok(()),
        () = status => Ok(()),
    }
}

/// Asks each door until it has answered.
async fn knock(doors: &Doors) -> Result<(), (PathBuf, String)> {
    let until = Instant::now() + KNOCK_MAX;
    loop {
        match knock_once(doors).await {
            Err(_) if Instant::now() < until => sleep(KNOCK_PAUSE).await,
            knocked => return knocked,
        }
    }
}

async fn knock_once(doors: &Doors) -> Result<(), (PathBuf, String)> {
    let named = |path: &Path, why: String| (path.to_path_buf(), why);
    ask(&mut None, &doors.query).await.map_err(|why| named(&doors.query, why))?;
    // A refusal in words is an answer.
    match timeout(ANSWER_MAX, ask_admin(&doors.admin)).await {
        Ok(asked) => asked.map(drop).map_err(|error| named(&doors.admin, error.to_string()))?,
        Err(late) => return Err(named(&doors.admin, late.to_string())),
    }
    match timeout(ANSWER_MAX, ask_http(&doors.http)).await {
        Ok(asked) => asked.map_err(|error| named(&doors.http, error.to_string())),
        Err(late) => Err(named(&doors.http, late.to_string())),
    }
}

/// Pings for as long as questions are answered. One that is not answered is said, and the watchdog's time runs on.
async fn ping(query: &Path, every: Duration, teller: &Teller) {
    let mut client = None;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ask(&mut client, query).await {
            Ok(()) => teller.tell(News::Alive),
            Err(why) => tracing::error!(%why, "the daemon does not answer its own question: no sign of life is given"),
        }
    }
}

/// Asks a question on a connection that is kept. Any verdict is an answer.
async fn ask(client: &mut Option<AsyncQueryClient>, path: &Path) -> Result<(), String> {
    let asked = async {
        let mut open = match client.take() {
            Some(open) => open,
            None => AsyncQueryClient::connect(path).await?,
        };
        let asker = Asker { credential: Some(ASKED), ..Asker::default() };
        open.check(asker, Target::Endpoint { method: b"GET", path: b"/" }).await?;
        *client = Some(open);
        Ok::<(), ClientError>(())
    };
    match timeout(ANSWER_MAX, asked).await {
        Ok(asked) => asked.map_err(|error| error.to_string()),
        Err(late) => Err(late.to_string()),
    }
}

/// Waits for room in the queue, as a blocking connect(2) does.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(FULL_PAUSE).await,
            connected => return connected,
        }
    }
}

/// Asks for the status. Not as a client does: told that this daemon stops, it would ask the next one, and wait for it.
async fn ask_admin(path: &Path) -> io::Result<AdminReply> {
    let mut request = Vec::new();
    AdminRequest::Status.put(&mut request, 1);
    let mut stream = connect(path).await?;
    stream.write_all(&request).await?;
    let mut received = Vec::new();
    while stream.read_buf(&mut received).await? > 0 {
        let frame = frame::split(&received, ADMIN_FRAME_BYTES_MAX).map_err(io::Error::other)?;
        if let Some((frame, _)) = frame {
            return AdminReply::decode(&frame).map_err(io::Error::other);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Any HTTP answer is one: with a full disk it is 503, and questions are answered.
async fn ask_http(path: &Path) -> io::Result<()> {
    const PREFIX: &[u8] = b"HTTP/1.1 ";
    let mut stream = connect(path).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: keyward\r\nConnection: close\r\n\r\n").await?;
    let mut answer = [0; PREFIX.len()];
    stream.read_exact(&mut answer).await?;
    if answer == PREFIX { Ok(()) } else { Err(io::Error::other("the answer is not HTTP")) }
}

async fn tell_status(admin: &Path, teller: &Teller) {
    if let Ok(Ok(AdminReply::Status(report))) = timeout(ANSWER_MAX, ask_admin(admin)).await {
        teller.tell(News::Status(status_text(&report)));
    }
}

fn status_text(report: &StatusReport) -> String {
    let credentials = report.keys + report.tokens + report.sessions;
    let rate = report.recent_questions * 1_000 / report.recent_millis.max(1);
    let mut text = format!(
        "{} credentials, {} sets, {} q/s",
        with_commas(credentials),
        with_commas(report.tag_sets),
        with_commas(rate)
    );
    match report.alarms.len() {
        0 => {}
        1 => text.push_str(", 1 alarm: see keyward status"),
        alarms => text.push_str(&format!(", {alarms} alarms: see keyward status")),
    }
    text
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place % 3 == first {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases =
            [(0, "0"), (12, "12"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_204_332, "1,204,332")];
        for (number, text) in cases {
            assert_eq!(with_commas(number), text);
        }
    }
}
