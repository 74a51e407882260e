//! The HTTP door: `/auth/nginx`, `/auth/forward`, `/me`, `/healthz`, `/metrics`, on `http.sock` and the loopback listener.
//!
//! | part | what is in it |
//! |---|---|
//! | here | a connection's life, and which path is what |
//! | `head` | a request's head, from its bytes |
//! | `headers` | from headers to a question |
//! | `answers` | from a verdict to headers, or to the API's form |

mod answers;
pub mod head;
mod headers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Filled, Socket, WRITE_BYTES_MAX};
use super::meters::{AskDoor, Notes};
use super::{Serving, convert};
use crate::model::{Reason, Verdict};
use crate::registry::{Settled, Target, WantedProof};
use answers::{Answer, AuthDoor, Clock};
use head::{Afterwards, HEAD_BYTES_MAX, Head, Refusal};
use headers::{Named, Presented};

/// What a connection beyond the limits is told.
pub(super) const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";
/// Of a body that nobody reads, so much is taken before the connection is closed, so that the client sees the answer
/// and not a reset.
const LINGER_BYTES_MAX: u64 = 64 * 1024;
/// And for so long.
const LINGER: Duration = Duration::from_secs(1);

/// Who has just connected is about to ask, and can't know that a stop came between: it is waited for, for so long after
/// the connection was made. A proxy that opens a connection for a request counts it as failed when it ends without an answer,
/// while of one that it kept it knows that it may have ended.
const FIRST_REQUEST: Duration = Duration::from_millis(100);

/// Serves one connection until it is over.
pub(super) async fn serve<S: Socket>(stream: S, serving: Arc<Serving>, stop: CancellationToken) {
    let deadlines = serving.control.rules().deadlines;
    let mut connection = Connection::new(stream, HEAD_BYTES_MAX, deadlines, stop);
    let door = Door { share: serving.meters.of(AskDoor::Http).share(), serving };
    if door.converse(&mut connection).await == End::MoreMayCome {
        let mut stream = connection.into_stream();
        let _ = timeout(LINGER, async {
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
        })
        .await;
    }
}

/// What follows when all is answered that can be.
enum Next {
    /// The rest of a head, or another one, must come first.
    Fill,
    /// What was gathered is enough for one write.
    Again,
    /// It must be known first what becomes of this proof.
    Settle(Box<WantedProof>),
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client knows, or is gone.
    AtOnce,
    /// The client may still be sending what nobody will read.
    MoreMayCome,
}

/// One connection's requests.
struct Door {
    serving: Arc<Serving>,
    /// Of the door's counts.
    share: usize,
}

impl Door {
    async fn converse<S: Socket>(&self, connection: &mut Connection<S>) -> End {
        let mut first_until = Some(tokio::time::Instant::now() + FIRST_REQUEST);
        let mut clock = Clock::default();
        let mut settled = None;
        // Of an unfinished head: what was looked at.
        let mut seen = 0;
        loop {
            let filled = connection.fill().await;
            let is_last = matches!(filled, Filled::Last);
            match filled {
                Filled::More | Filled::Last => {}
                Filled::Late => return refuse(connection, Refusal::TooSlow).await,
                Filled::Over => return End::AtOnce,
            }
            if let (Filled::Last, Some(until)) = (&filled, first_until.take()) {
                connection.await_first(until).await;
            }
            loop {
                let outcome = connection.answer(|input, out| {
                    // A head that comes byte by byte is looked at once a line.
                    if input.len() <= HEAD_BYTES_MAX && memchr::memchr(b'\n', &input[seen..]).is_none() {
                        seen = input.len();
                        return Ok((0, Next::Fill));
                    }
                    let (used, next) = self.answer_all((input, is_last), out, clock.date(), settled.take())?;
                    seen = if matches!(next, Next::Fill) { input.len() - used } else { 0 };
                    Ok((used, next))
                });
                if connection.flush().await.is_err() {
                    return End::AtOnce;
                }
                match outcome {
                    Ok(Next::Fill) => break,
                    Ok(Next::Again) => {}
                    Ok(Next::Settle(wanted)) => {
                        // Answers keep their order, so this connection waits; then the question is asked anew.
                        settled = Some(self.serving.registry.settle(*wanted).await);
                        connection.restart_deadlines();
                    }
                    Err(end) => return end,
                }
            }
            if is_last {
                return End::AtOnce;
            }
        }
    }

    /// Answers every whole head of `input`, behind which nothing comes if it `is_last`, in `out`. Returns the bytes used, and
    /// what is next.
    ///
    /// # Errors
    /// When the connection ends; everything before is answered.
    fn answer_all(
        &self,
        (input, is_last): (&[u8], bool),
        out: &mut Vec<u8>,
        date: &str,
        mut settled: Option<Settled>,
    ) -> Result<(usize, Next), End> {
        let rules = self.serving.control.rules();
        let mut used = 0;
        while out.len() < WRITE_BYTES_MAX {
            let mut named = Named::new(&rules.session_cookie);
            let (head, bytes) = match head::read(&input[used..], |name, value| named.take(name, value)) {
                Ok(Some(read)) => read,
                Ok(None) => return Ok((used, Next::Fill)),
                Err(refusal) => {
                    out.extend_from_slice(refusal.answer());
                    return Err(End::MoreMayCome);
                }
            };
            // At a stop the last one says so.
            let ends = is_last && used + bytes == input.len();
            let afterwards = if ends { Afterwards::Closed } else { head.afterwards };
            let answer = Answer { out, date, afterwards, without_body: head.method == b"HEAD" };
            if let Err(wanted) = self.answer(&head, &named, settled.take(), answer) {
                return Ok((used, Next::Settle(wanted)));
            }
            used += bytes;
            if head.has_body {
                // Nobody reads the body, so where the next request begins is unknown.
                return Err(End::MoreMayCome);
            }
            if afterwards == Afterwards::Closed {
                return Err(End::AtOnce);
            }
        }
        Ok((used, Next::Again))
    }

    /// Answers one request whose head was read; its body is never waited for.
    ///
    /// # Errors
    /// What must be known first; nothing is answered then.
    fn answer(
        &self,
        head: &Head<'_>,
        named: &Named<'_>,
        settled: Option<Settled>,
        answer: Answer<'_>,
    ) -> Result<(), Box<WantedProof>> {
        let reads = matches!(head.method, b"GET" | b"HEAD");
        match head.path {
            b"/auth/nginx" => return self.auth(AuthDoor::Nginx, named, settled, answer),
            b"/auth/forward" => return self.auth(AuthDoor::Forward, named, settled, answer),
            b"/me" if reads => return self.me(named, settled, answer),
            b"/healthz" if reads => answer.health(self.serving.registry.is_writable()),
            b"/metrics" if reads => answer.metrics(&self.serving.exposed()),
            b"/me" | b"/healthz" | b"/metrics" => answer.method_not_allowed(),
            _ => answer.not_found(),
        }
        Ok(())
    }

    fn auth(
        &self,
        door: AuthDoor,
        named: &Named<'_>,
        settled: Option<Settled>,
        answer: Answer<'_>,
    ) -> Result<(), Box<WantedProof>> {
        let began = Instant::now();
        let asked = headers::auth(door, named);
        let asked = asked.map(|asked| (asked.asker, Target::Endpoint { method: asked.method, path: asked.path }));
        self.judge(began, asked, settled, |verdict| answer.auth(door, verdict))
    }

    fn me(&self, named: &Named<'_>, settled: Option<Settled>, answer: Answer<'_>) -> Result<(), Box<WantedProof>> {
        let began = Instant::now();
        let asker = headers::who(named);
        self.judge(began, asker.map(|asker| (asker, Target::Nobody)), settled, |verdict| answer.me(verdict))
    }

    /// Answers and counts a question, or the refusal of its form; neither when the question wants a proof first.
    fn judge(
        &self,
        began: Instant,
        asked: Result<(Presented<'_>, Target<'_>), Reason>,
        settled: Option<Settled>,
        answer: impl FnOnce(&Verdict<'_>),
    ) -> Result<(), Box<WantedProof>> {
        let mut notes = Notes::new(AskDoor::Http, &self.serving.meters.denials);
        match asked {
            Ok((asker, target)) => {
                // The state is taken after the head was read: promise 2.5.
                let view = self.serving.registry.view().with(settled);
                let mut inquiry = view.inquire(asker.question());
                view.fetch_credential(&inquiry);
                let verdict = view.answer(&mut inquiry, &target);
                if let Some(wanted) = view.take_wanted() {
                    return Err(wanted);
                }
                notes.note(convert::reason_number(&verdict), &mut inquiry, &target);
                answer(&verdict);
            }
            Err(refused) => {
                let verdict = Verdict::Deny(refused);
                notes.count(convert::reason_number(&verdict));
                answer(&verdict);
            }
        }
        self.serving.meters.of(AskDoor::Http).add(self.share, &notes, began.elapsed());
        Ok(())
    }
}

async fn refuse<S: Socket>(connection: &mut Connection<S>, refusal: Refusal) -> End {
    connection.output().extend_from_slice(refusal.answer());
    match connection.flush().await {
        Ok(()) => End::MoreMayCome,
        Err(_) => End::AtOnce,
    }
}
