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
use std::future::{poll_fn, ready};
use std::sync::Arc;
use std::time::Instant;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::meters::{AskDoor, Notes};
use super::{Serving, convert};
use crate::model::{Reason, Verdict};
use crate::registry::Target;
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
    let door = Door { share: serving.meters.of(AskDoor::Http).share(), serving };
    let service = service_fn(move |request| ready(Ok::<_, Infallible>(door.answer(&request))));
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

impl Door {
    /// Answers one request whose head was read; its body is never waited for.
    fn answer<B: hyper::body::Body>(&self, request: &Request<B>) -> Reply {
        let mut reply = match request.uri().path() {
            "/auth/nginx" => self.auth(AuthDoor::Nginx, request),
            "/auth/forward" => self.auth(AuthDoor::Forward, request),
            "/me" => reading_only(request, || self.me(request)),
            "/healthz" => reading_only(request, || answers::health(self.serving.registry.is_writable())),
            "/metrics" => reading_only(request, || answers::metrics(self.serving.exposed())),
            _ => answers::not_found(),
        };
        if !request.body().is_end_stream() {
            // Nobody reads the body, so where the next request begins is unknown.
            answers::close_after(&mut reply);
        }
        reply
    }

    fn auth<B>(&self, door: AuthDoor, request: &Request<B>) -> Reply {
        let began = Instant::now();
        let asked = headers::auth(door, request.headers(), &self.serving.control.rules().session_cookie);
        let asked = asked.map(|asked| (asked.asker, Target::Endpoint { method: asked.method, path: asked.path }));
        self.judge(began, asked, |verdict| answers::auth(door, verdict))
    }

    fn me<B>(&self, request: &Request<B>) -> Reply {
        let began = Instant::now();
        let asker = headers::who(request.headers(), &self.serving.control.rules().session_cookie);
        self.judge(began, asker.map(|asker| (asker, Target::Nobody)), answers::me)
    }

    /// Answers and counts a question, or the refusal of its form.
    fn judge(
        &self,
        began: Instant,
        asked: Result<(Presented<'_>, Target<'_>), Reason>,
        answer: impl FnOnce(&Verdict<'_>) -> Reply,
    ) -> Reply {
        let mut notes = Notes::new(AskDoor::Http, &self.serving.meters.denials);
        let reply = match asked {
            Ok((asker, target)) => {
                // The state is taken after the head was read: promise 2.5.
                let view = self.serving.registry.view();
                let mut inquiry = view.inquire(asker.question());
                let verdict = view.answer(&mut inquiry, &target);
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
        reply
    }
}

fn reading_only<B>(request: &Request<B>, answer: impl FnOnce() -> Reply) -> Reply {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        answer()
    } else {
        answers::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This path can only be read: use GET.")
    }
}
