//! The HTTP door: `/auth/nginx`, `/auth/forward`, `/me`, `/healthz`, `/metrics`, on `http.sock` and the loopback listener.
//!
//! | part | what is in it |
//! |---|---|
//! | here | a connection's life, and which path is what |
//! | `head` | which bytes are a request's head |
//! | `watch` | the stream under hyper: reads along, keeps the deadlines |
//! | `headers` | from headers to a question |
//! | `answers` | from a verdict to headers, or to the API's form |

mod answers;
mod head;
mod headers;
mod watch;

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http_body_util::{Empty, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::meters::{AskDoor, Notes};
use super::{Serving, convert};
use crate::model::{Reason, Verdict};
use crate::registry::{Settled, Target, WantedProof};
use answers::AuthDoor;
use head::HEAD_BYTES_MAX;
use headers::Presented;
use watch::Watched;

/// What a connection beyond the limits is told.
pub(super) const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";
/// Hyper's own bound on what it holds of a connection. [`watch`] refuses a longer head before this is reached; twice
/// as much, because requests behind the first may lie in the same buffer.
const BUFFER_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;

type Reply = Response<Full<Bytes>>;

/// Serves one connection until it is over.
pub(super) async fn serve<S>(stream: S, serving: Arc<Serving>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let watched = Watched::new(stream, serving.control.rules().deadlines, stop.clone());
    let door = Arc::new(Door { share: serving.meters.of(AskDoor::Http).share(), serving });
    let service = service_fn(move |request| match door.answer(&request, None) {
        Ok(reply) => Answering::Now(ready(Ok(reply))),
        Err(wanted) => Answering::Held(Box::pin(Arc::clone(&door).answer_when_settled(request, wanted))),
    });
    let mut connection = Builder::new()
        // Its own would begin with the silence between requests; `watch` knows when a head begins.
        .header_read_timeout(None)
        // Otherwise it looks for the end while an answer waits to be written, and drops the answer for it.
        .half_close(true)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(watched), service);
    let mut stopping = false;
    loop {
        stopping = tokio::select! {
            // What was received is answered before a stop is seen; then the stream says that it ends.
            biased;
            _ = poll_fn(|context| connection.poll_without_shutdown(context)) => break,
            () = stop.cancelled(), if !stopping => true,
        };
    }
    connection.into_parts().io.into_inner().close().await;
}

/// One connection's requests.
struct Door {
    serving: Arc<Serving>,
    /// Of the door's counts.
    share: usize,
}

/// An answer, or one that waits until a code was tried. Nearly none does, so that one is boxed.
enum Answering {
    Now(Ready<Result<Reply, Infallible>>),
    Held(Pin<Box<dyn Future<Output = Result<Reply, Infallible>> + Send>>),
}

impl Future for Answering {
    type Output = Result<Reply, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(ready) => Pin::new(ready).poll(context),
            Self::Held(held) => held.as_mut().poll(context),
        }
    }
}

impl Door {
    /// Answers one request once it is known what became of the proof that it wants.
    async fn answer_when_settled(
        self: Arc<Self>,
        request: Request<Incoming>,
        mut wanted: Box<WantedProof>,
    ) -> Result<Reply, Infallible> {
        let has_body = !request.body().is_end_stream();
        // Kept to the end, unread, as where nothing is waited for.
        let (head, _body) = request.into_parts();
        let request = Request::from_parts(head, Empty::<Bytes>::new());
        loop {
            let settled = self.serving.registry.settle(*wanted).await;
            match self.answer(&request, Some(settled)) {
                Ok(mut reply) => {
                    if has_body {
                        answers::close_after(&mut reply);
                    }
                    return Ok(reply);
                }
                // The stored hash is another one by now.
                Err(other) => wanted = other,
            }
        }
    }

    /// Answers one request whose head was read; its body is never waited for.
    ///
    /// # Errors
    /// What must be known first.
    fn answer<B: hyper::body::Body>(
        &self,
        request: &Request<B>,
        settled: Option<Settled>,
    ) -> Result<Reply, Box<WantedProof>> {
        let mut reply = match request.uri().path() {
            "/auth/nginx" => self.auth(AuthDoor::Nginx, request, settled)?,
            "/auth/forward" => self.auth(AuthDoor::Forward, request, settled)?,
            "/me" => reading_only(request, || self.me(request, settled))?,
            "/healthz" => reading_only(request, || Ok(answers::health(self.serving.registry.is_writable())))?,
            "/metrics" => reading_only(request, || Ok(answers::metrics(self.serving.exposed())))?,
            _ => answers::not_found(),
        };
        if !request.body().is_end_stream() {
            // Nobody reads the body, so where the next request begins is unknown.
            answers::close_after(&mut reply);
        }
        Ok(reply)
    }

    fn auth<B>(
        &self,
        door: AuthDoor,
        request: &Request<B>,
        settled: Option<Settled>,
    ) -> Result<Reply, Box<WantedProof>> {
        let began = Instant::now();
        let asked = headers::auth(door, request.headers(), &self.serving.control.rules().session_cookie);
        let asked = asked.map(|asked| (asked.asker, Target::Endpoint { method: asked.method, path: asked.path }));
        self.judge(began, asked, settled, |verdict| answers::auth(door, verdict))
    }

    fn me<B>(&self, request: &Request<B>, settled: Option<Settled>) -> Result<Reply, Box<WantedProof>> {
        let began = Instant::now();
        let asker = headers::who(request.headers(), &self.serving.control.rules().session_cookie);
        self.judge(began, asker.map(|asker| (asker, Target::Nobody)), settled, answers::me)
    }

    /// Answers and counts a question, or the refusal of its form; neither when the question wants a proof first.
    fn judge(
        &self,
        began: Instant,
        asked: Result<(Presented<'_>, Target<'_>), Reason>,
        settled: Option<Settled>,
        answer: impl FnOnce(&Verdict<'_>) -> Reply,
    ) -> Result<Reply, Box<WantedProof>> {
        let mut notes = Notes::new(AskDoor::Http, &self.serving.meters.denials);
        let reply = match asked {
            Ok((asker, target)) => {
                // The state is taken after the head was read: promise 2.5.
                let view = self.serving.registry.view().with(settled);
                let mut inquiry = view.inquire(asker.question());
                let verdict = view.answer(&mut inquiry, &target);
                if let Some(wanted) = view.take_wanted() {
                    return Err(wanted);
                }
                notes.note(convert::reason_number(&verdict), &mut inquiry, &target);
                answer(&verdict)
            }
            Err(refused) => {
                let verdict = Verdict::Deny(refused);
                notes.count(convert::reason_number(&verdict));
                answer(&verdict)
            }
        };
        self.serving.meters.of(AskDoor::Http).add(self.share, &notes, began.elapsed());
        Ok(reply)
    }
}

fn reading_only<B>(
    request: &Request<B>,
    answer: impl FnOnce() -> Result<Reply, Box<WantedProof>>,
) -> Result<Reply, Box<WantedProof>> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        answer()
    } else {
        Ok(answers::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This path can only be read: use GET."))
    }
}
