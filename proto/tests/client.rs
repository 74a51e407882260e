//! The clients against a daemon that misbehaves as daemons do: it restarts, refuses, mixes up, floods and stays silent.
#![expect(clippy::unwrap_used, reason = "tests")]

mod daemon;

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use daemon::{Daemon, Part, answers, dies, part, turns_away};
use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, Apply, CloseAll, CredentialPatch, Done, EndpointPatch, Import, Imported,
    Kind, List, Mint, Page, Patch, RefusalKind, Refused, Report, Secret, Selector, Upload,
};
use keyward_proto::client::{AdminClient, ApplyOutcome, ClientError, QueryClient};
use keyward_proto::frame::{self, ADMIN_ERROR, ADMIN_FRAME_BYTES_MAX, QUERY_ERROR, QUERY_FRAME_BYTES_MAX, VERSION};
use keyward_proto::query::{
    Asker, BatchVerdicts, Check, Mode, QueryReply, QueryRequest, Reason, Target, TargetVerdict, Verdict, Who,
};
use keyward_proto::{ErrorCode, FrameError};
use socket2::{Domain, SockAddr, Socket, Type};

const KEY: Asker<'static> = Asker { credential: Some(b"key 2:YWK2PGCS8CNW62SR8TBTBKWMY"), agent: None, address: None };
const TICKETS: Target<'static> = Target::Endpoint { method: b"GET", path: b"/api/v2/tickets" };

fn verdict(reason: Reason, status: u16) -> Verdict {
    Verdict { reason: reason.number(), status, retry_after: 0, identity: None, route: None }
}

fn allow() -> QueryReply {
    QueryReply::Verdict(verdict(Reason::Ok, 200))
}

fn connect(daemon: &Daemon) -> QueryClient {
    QueryClient::connect(&daemon.path).unwrap()
}

fn connect_admin(daemon: &Daemon) -> AdminClient {
    AdminClient::connect(&daemon.path).unwrap()
}

#[test]
fn each_kind_of_question_gets_its_verdict_on_one_connection() {
    let denied = TargetVerdict { reason: Reason::TagDenied.number(), status: 403, retry_after: 0 };
    let batch = BatchVerdicts { reason: 0, status: 200, identity: None, verdicts: vec![denied; 2] };
    let replies = [allow(), QueryReply::Verdict(verdict(Reason::Expired, 401)), QueryReply::Batch(batch.clone())];
    let daemon = Daemon::playing(vec![part(move |mut peer| {
        for (expected, reply) in [0x0101, 0x0103, 0x0102].into_iter().zip(replies) {
            let (kind, id, _) = peer.request();
            assert_eq!(kind, expected);
            peer.reply(id, &reply);
        }
        peer.wait_for_end();
    })]);
    let mut client = connect(&daemon);
    assert!(client.check(KEY, TICKETS).unwrap().is_allowed());
    assert_eq!(client.who(KEY).unwrap(), verdict(Reason::Expired, 401));
    assert_eq!(client.batch(KEY, &[TICKETS, TICKETS]).unwrap(), batch);
    drop(client);
    daemon.end();
}

#[test]
fn a_question_is_asked_once_more_when_the_daemon_was_restarted_and_no_third_time() {
    let daemon = Daemon::playing(vec![dies(), answers(allow())]);
    assert!(connect(&daemon).check(KEY, TICKETS).unwrap().is_allowed());
    daemon.end();
    let daemon = Daemon::playing(vec![dies(), dies()]);
    assert!(matches!(connect(&daemon).check(KEY, TICKETS), Err(ClientError::Closed)));
    daemon.end();
}

#[test]
fn a_question_to_a_stopping_daemon_is_asked_once_more() {
    let daemon = Daemon::playing(vec![turns_away(QUERY_ERROR, ErrorCode::Stopping), answers(allow())]);
    assert!(connect(&daemon).check(KEY, TICKETS).unwrap().is_allowed());
    daemon.end();
}

#[test]
fn a_client_that_is_turned_away_learns_why_and_does_not_come_back() {
    for code in [ErrorCode::NotPermitted, ErrorCode::TooManyConnections] {
        let daemon = Daemon::playing(vec![turns_away(QUERY_ERROR, code)]);
        let mut client = connect(&daemon);
        thread::sleep(Duration::from_millis(20));
        let error = client.check(KEY, TICKETS).unwrap_err();
        assert!(matches!(&error, ClientError::Refused(error) if error.code == code), "{error}");
        daemon.end();
    }
}

fn new_key() -> AdminRequest {
    AdminRequest::Add(Patch::Credential(CredentialPatch::new(Mode::Key, None)))
}

#[test]
fn a_change_whose_reply_was_lost_is_not_sent_twice_and_the_next_call_opens_a_new_connection() {
    let changes = [
        new_key(),
        AdminRequest::Set(Patch::Agent(AgentPatch::default())),
        AdminRequest::Remove(Selector::Agent(1)),
        AdminRequest::Upload(Upload { number: 0, patches: Vec::new() }),
        AdminRequest::Apply(Apply { parts: 0, sections: Vec::new(), prune: false, dry_run: false }),
        AdminRequest::Import(Import { patches: Vec::new(), dry_run: false }),
        AdminRequest::CloseAll(CloseAll { mode: Mode::Session, agent: 4 }),
        AdminRequest::Mint(Mint {
            credential: Secret::new(b"key 2:YWK2PGCS8CNW62SR8TBTBKWMY".to_vec()),
            agent: None,
            ttl: 900,
            tags: None,
            app_id: None,
            label: None,
        }),
    ];
    let daemon = Daemon::playing((0..changes.len()).map(|_| dies()).collect());
    let mut client = connect_admin(&daemon);
    for change in &changes {
        let error = client.call(change).err().unwrap();
        assert!(matches!(error, ClientError::Closed), "{error}");
        assert!(error.to_string().contains("may or may not have been made"));
    }
    daemon.end();
}

fn done() -> AdminReply {
    AdminReply::Done(Done { record: None, credential: None })
}

/// Answers one request; `then` is told when the connection has ended.
fn answers_and_ends(reply: AdminReply, then: mpsc::Sender<()>) -> Part {
    part(move |mut peer| {
        let (id, _) = peer.admin_request();
        peer.admin_reply(id, &reply);
        drop(peer);
        then.send(()).unwrap();
    })
}

#[test]
fn a_change_that_was_certainly_not_carried_out_is_sent_once_more() {
    // The daemon says that it is stopping, before or behind the request.
    let stops_behind = part(|mut peer| {
        peer.admin_request();
        let mut out = Vec::new();
        frame::put_error(&mut out, ADMIN_ERROR, 0, &FrameError::new(ErrorCode::Stopping, "go away"));
        peer.stream.write_all(&out).unwrap();
    });
    for stopping in [turns_away(ADMIN_ERROR, ErrorCode::Stopping), stops_behind] {
        let daemon = Daemon::playing(vec![stopping, admin_answers(done())]);
        assert!(matches!(connect_admin(&daemon).call(&new_key()), Ok(AdminReply::Done(_))));
        daemon.end();
    }
    // The connection ended without a word while nothing was asked, as with a daemon that was killed.
    let (ended, wait) = mpsc::channel();
    let daemon = Daemon::playing(vec![answers_and_ends(done(), ended), admin_answers(done())]);
    let mut client = connect_admin(&daemon);
    assert!(matches!(client.call(&new_key()), Ok(AdminReply::Done(_))));
    wait.recv().unwrap();
    assert!(matches!(client.call(&new_key()), Ok(AdminReply::Done(_))));
    daemon.end();
}

#[test]
fn what_rests_on_an_upload_is_not_sent_on_another_connection() {
    let apply = Apply { parts: 1, sections: Vec::new(), prune: false, dry_run: false };
    let resting = [AdminRequest::Upload(Upload { number: 1, patches: Vec::new() }), AdminRequest::Apply(apply)];
    for request in resting {
        let daemon = Daemon::playing(vec![turns_away(ADMIN_ERROR, ErrorCode::Stopping)]);
        let error = connect_admin(&daemon).call(&request).err().unwrap();
        assert!(matches!(&error, ClientError::Refused(error) if error.code == ErrorCode::Stopping), "{error}");
        daemon.end();
    }
}

#[test]
fn an_import_that_begins_on_a_connection_that_has_ended_opens_a_new_one() {
    let (ended, wait) = mpsc::channel();
    let imported = AdminReply::Imported(Imported { added: 1, ..Imported::default() });
    let daemon = Daemon::playing(vec![answers_and_ends(done(), ended), admin_answers(imported)]);
    let mut client = connect_admin(&daemon);
    assert!(matches!(client.call(&new_key()), Ok(AdminReply::Done(_))));
    wait.recv().unwrap();
    let mut told = 0;
    client.import([Patch::Credential(CredentialPatch::new(Mode::Key, Some(1)))], false, |_| told += 1).unwrap();
    assert_eq!(told, 1);
    daemon.end();
}

fn admin_answers(reply: AdminReply) -> Part {
    part(move |mut peer| {
        let (id, _) = peer.admin_request();
        peer.admin_reply(id, &reply);
    })
}

#[test]
fn a_reading_is_sent_once_more_when_the_daemon_was_restarted() {
    let daemon = Daemon::playing(vec![
        dies(),
        part(|mut peer| {
            let (id, _) = peer.admin_request();
            peer.admin_reply(id, &AdminReply::Page(Page { records: Vec::new(), next: None }));
        }),
    ]);
    let list = AdminRequest::List(List::all(Kind::Key, Vec::new()));
    assert!(matches!(connect_admin(&daemon).call(&list), Ok(AdminReply::Page(_))));
    daemon.end();
}

#[test]
fn a_reply_to_another_request_is_an_error_and_ends_the_connection() {
    let daemon = Daemon::playing(vec![
        part(|mut peer| {
            let (_, id, _) = peer.request();
            peer.reply(id + 1, &allow());
            peer.wait_for_end();
        }),
        answers(QueryReply::Verdict(verdict(Reason::Revoked, 401))),
    ]);
    let mut client = connect(&daemon);
    assert!(matches!(client.check(KEY, TICKETS), Err(ClientError::UnexpectedReply { .. })));
    assert_eq!(client.check(KEY, TICKETS).unwrap(), verdict(Reason::Revoked, 401));
    daemon.end();
}

#[test]
fn a_reply_of_another_type_or_another_number_of_verdicts_is_an_error() {
    let short = BatchVerdicts { reason: 0, status: 200, identity: None, verdicts: Vec::new() };
    let one = TargetVerdict { reason: 0, status: 200, retry_after: 0 };
    let batch = QueryReply::Batch(BatchVerdicts { verdicts: vec![one], ..short });
    let daemon = Daemon::playing(vec![part(move |mut peer| {
        for reply in [batch.clone(), batch] {
            let (_, id, _) = peer.request();
            peer.reply(id, &reply);
        }
    })]);
    let mut client = connect(&daemon);
    assert!(matches!(client.check(KEY, TICKETS), Err(ClientError::UnexpectedReply { .. })));
    assert!(matches!(client.batch(KEY, &[TICKETS, TICKETS]), Err(ClientError::UnexpectedReply { .. })));
    daemon.end();
}

#[test]
fn a_reply_that_cannot_be_read_is_a_protocol_error() {
    let too_large = u32::try_from(QUERY_FRAME_BYTES_MAX + 1).unwrap().to_be_bytes().to_vec();
    let newer = [&[0, 0, 0, 8, 0, 2, 2, 1][..], &1_u32.to_be_bytes()].concat();
    let admin = [&[0, 0, 0, 8, 0, 1, 4, 1][..], &1_u32.to_be_bytes()].concat();
    let table = [
        (too_large, ErrorCode::FrameTooLarge),
        (vec![0, 0, 0, 0], ErrorCode::FrameTooShort),
        (newer, ErrorCode::UnsupportedVersion),
        (admin, ErrorCode::UnknownType),
    ];
    for (bytes, code) in table {
        let daemon = Daemon::playing(vec![part(move |mut peer| {
            peer.request();
            peer.stream.write_all(&bytes).unwrap();
        })]);
        let error = connect(&daemon).check(KEY, TICKETS).unwrap_err();
        assert!(matches!(&error, ClientError::Protocol(error) if error.code == code), "{error}");
        daemon.end();
    }
}

#[test]
fn a_silent_daemon_runs_into_the_timeout_and_its_late_reply_is_never_read() {
    let daemon = Daemon::playing(vec![
        part(|mut peer| {
            peer.request();
            peer.wait_for_end();
        }),
        answers(allow()),
    ]);
    let mut client = connect(&daemon);
    client.set_timeout(Some(Duration::from_millis(50))).unwrap();
    let error = client.check(KEY, TICKETS).unwrap_err();
    assert!(error.to_string().starts_with("the daemon did not answer in time"), "{error}");
    client.set_timeout(None).unwrap();
    assert!(client.check(KEY, TICKETS).unwrap().is_allowed());
    daemon.end();
}

#[test]
fn the_timeout_holds_for_connecting_anew_too() {
    let daemon = Daemon::playing(vec![dies()]);
    let mut client = connect(&daemon);
    client.set_timeout(Some(Duration::from_millis(50))).unwrap();
    // In its place one that accepts nobody: a single connection may wait, and the client's own does not fit any more.
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let full = daemon.path.with_extension("full");
    let address = SockAddr::unix(&full).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    std::fs::rename(&full, &daemon.path).unwrap();
    let waiting = UnixStream::connect(&daemon.path).unwrap();
    let error = client.check(KEY, TICKETS).unwrap_err();
    assert!(matches!(&error, ClientError::Connect { source, .. } if source.kind() == ErrorKind::WouldBlock), "{error}");
    assert!(error.to_string().ends_with("too many connections wait for it already: try again, or look at its log"));
    drop(waiting);
    daemon.end();
}

#[test]
fn a_request_over_the_maximum_is_not_sent() {
    let daemon = Daemon::playing(vec![part(|mut peer| peer.wait_for_end())]);
    let mut client = connect(&daemon);
    let path = vec![b'/'; QUERY_FRAME_BYTES_MAX];
    let error = client.check(KEY, Target::Endpoint { method: b"GET", path: &path }).unwrap_err();
    assert!(matches!(error, ClientError::RequestTooLarge { .. }));
    drop(client);
    daemon.end();
}

#[test]
fn pipelined_replies_are_matched_by_their_request_ids() {
    let daemon = Daemon::playing(vec![part(|mut peer| {
        let ids: Vec<u32> = (0..3).map(|_| peer.request().1).collect();
        peer.reply(ids[2], &QueryReply::Error(FrameError::new(ErrorCode::MalformedBody, "third")));
        peer.reply(ids[1], &QueryReply::Verdict(verdict(Reason::NoRoute, 403)));
        peer.reply(ids[0], &allow());
        let ids: Vec<u32> = (0..2).map(|_| peer.request().1).collect();
        peer.reply(ids[0], &allow());
        peer.reply(ids[0], &allow());
    })]);
    let mut client = connect(&daemon);
    let ask = || QueryRequest::Check(Check { asker: KEY, target: TICKETS });
    let replies = client.check_all(&[ask(), QueryRequest::Who(Who { asker: KEY }), ask()]).unwrap();
    assert_eq!(replies[..2], [allow(), QueryReply::Verdict(verdict(Reason::NoRoute, 403))]);
    assert!(matches!(&replies[2], QueryReply::Error(error) if error.message == "third"));
    assert!(matches!(client.check_all(&[ask(), ask()]), Err(ClientError::UnexpectedReply { .. })));
    assert_eq!(client.check_all(&[]).unwrap(), []);
    daemon.end();
}

#[test]
fn thousands_of_pipelined_questions_with_large_replies_do_not_block_either_side() {
    const QUESTIONS: u16 = 3_000;
    let daemon = Daemon::playing(vec![part(|mut peer| {
        for number in 0..QUESTIONS {
            let (_, id, _) = peer.request();
            let route = Some(keyward_proto::query::Route { template: "/".repeat(8_000), tags: Vec::new() });
            let verdict = Verdict { reason: 0, status: number, retry_after: 0, identity: None, route };
            peer.reply(id, &QueryReply::Verdict(verdict));
        }
    })]);
    let requests: Vec<QueryRequest<'_>> =
        (0..QUESTIONS).map(|_| QueryRequest::Check(Check { asker: KEY, target: TICKETS })).collect();
    let replies = connect(&daemon).check_all(&requests).unwrap();
    assert_eq!(replies.len(), requests.len());
    for (number, reply) in replies.iter().enumerate() {
        assert!(matches!(reply, QueryReply::Verdict(verdict) if usize::from(verdict.status) == number), "{number}");
    }
    daemon.end();
}

#[test]
fn an_error_frame_on_the_admin_socket_is_an_error_and_a_refusal_is_a_reply() {
    let refused = Refused { kind: RefusalKind::Invalid, place: None, message: "no such agent".to_owned() };
    let expected = refused.clone();
    let daemon = Daemon::playing(vec![
        part(|mut peer| {
            let (id, _) = peer.admin_request();
            peer.admin_reply(id, &AdminReply::Error(FrameError::new(ErrorCode::UnknownType, "later")));
        }),
        part(move |mut peer| {
            let (id, _) = peer.admin_request();
            peer.admin_reply(id, &AdminReply::Refused(refused));
            let (id, _) = peer.admin_request();
            peer.admin_reply(id, &AdminReply::Done(Done { record: None, credential: None }));
        }),
    ]);
    let mut client = connect_admin(&daemon);
    assert!(matches!(client.call(&new_key()), Err(ClientError::Refused(error)) if error.message == "later"));
    assert!(client.call(&new_key()).unwrap() == AdminReply::Refused(expected));
    assert!(matches!(client.call(&new_key()), Ok(AdminReply::Done(_))));
    daemon.end();
}

#[test]
fn a_client_without_permission_for_the_admin_socket_learns_that() {
    let daemon = Daemon::playing(vec![turns_away(ADMIN_ERROR, ErrorCode::NotPermitted)]);
    let error = connect_admin(&daemon).call(&AdminRequest::Status).err().unwrap();
    assert_eq!(
        error.to_string(),
        "the daemon refused to serve: go away; run it as a user whom the daemon's configuration lists"
    );
    daemon.end();
}

fn large_endpoint(number: usize) -> Patch {
    let path = format!("/{number}/{}", "x".repeat(if number.is_multiple_of(7) { 4_000 } else { 20 }));
    Patch::Endpoint(EndpointPatch { method: "GET".to_owned(), path, tags: None, modes: None })
}

#[test]
fn an_upload_goes_in_numbered_parts_well_below_the_maximum_and_an_apply_joins_its_report() {
    const PATCHES: usize = 20_000;
    let report = |number, more| Report {
        added: vec![Selector::Agent(number)],
        removed: vec![Selector::Agent(number + 10)],
        more,
        ..Report::default()
    };
    let daemon = Daemon::playing(vec![part(move |mut peer| {
        let (mut received, mut parts) = (0, 0);
        while received < PATCHES {
            let (kind, id, body) = peer.request();
            assert!(body.len() <= ADMIN_FRAME_BYTES_MAX / 8, "{}", body.len());
            let header = frame::Header { version: VERSION, kind, request_id: id };
            let request = AdminRequest::decode(&frame::Frame { header, body: &body }).unwrap();
            let AdminRequest::Upload(upload) = request else { unreachable!("only parts come here") };
            assert_eq!(upload.number, parts);
            assert!((1..=10_000).contains(&upload.patches.len()), "{}", upload.patches.len());
            for patch in upload.patches {
                assert!(patch == large_endpoint(received));
                received += 1;
            }
            peer.admin_reply(id, &AdminReply::Received(parts));
            parts += 1;
        }
        let (id, request) = peer.admin_request();
        assert!(matches!(request, AdminRequest::Apply(apply) if apply.parts == parts && parts > 3));
        for (number, more) in [(1, true), (2, true), (3, false)] {
            peer.admin_reply(id, &AdminReply::Report(report(number, more)));
        }
    })]);
    let mut client = connect_admin(&daemon);
    let parts = client.upload((0..PATCHES).map(large_endpoint)).unwrap();
    let apply = Apply { parts, sections: vec![Kind::Endpoint], prune: false, dry_run: false };
    let Ok(ApplyOutcome::Report(joined)) = client.apply(&apply) else { unreachable!("it was reported") };
    assert_eq!(joined.added, [1, 2, 3].map(Selector::Agent));
    assert_eq!(joined.removed, [11, 12, 13].map(Selector::Agent));
    assert!(!joined.more);
    daemon.end();
}

#[test]
fn an_import_keeps_two_parts_in_flight_and_tells_of_each_where_it_began() {
    const PATCHES: u64 = 50_000;
    let daemon = Daemon::playing(vec![part(|mut peer| {
        let mut waiting = std::collections::VecDeque::new();
        let mut received = 0;
        while received < PATCHES || !waiting.is_empty() {
            // Not answered before another has come, or nothing is left to come.
            if waiting.len() < 2 && received < PATCHES {
                let (id, AdminRequest::Import(import)) = peer.admin_request() else { unreachable!("an import") };
                assert!(import.dry_run);
                received += import.patches.len() as u64;
                waiting.push_back((id, import.patches.len() as u64));
                continue;
            }
            let (id, added) = waiting.pop_front().unwrap();
            peer.admin_reply(id, &AdminReply::Imported(Imported { added, ..Imported::default() }));
        }
        peer.wait_for_end();
    })]);
    let mut client = connect_admin(&daemon);
    let patches = (0..PATCHES).map(|id| Patch::Credential(CredentialPatch::new(Mode::Key, Some(id))));
    let mut told = 0;
    client
        .import(patches, true, |part| {
            assert_eq!((part.first, part.imported.added), (told, part.patches));
            told += part.patches;
        })
        .unwrap();
    assert_eq!(told, PATCHES);
    client.import([], false, |_| unreachable!("there is no part")).unwrap();
    drop(client);
    daemon.end();
}

#[test]
fn an_import_ends_at_a_part_that_is_not_taken() {
    let refused = Refused { kind: RefusalKind::Unavailable, place: None, message: "no".to_owned() };
    let expected = refused.clone();
    let daemon = Daemon::playing(vec![part(move |mut peer| {
        let (id, _) = peer.admin_request();
        peer.admin_reply(id, &AdminReply::Refused(refused));
    })]);
    let key = Patch::Credential(CredentialPatch::new(Mode::Key, Some(1)));
    let error = connect_admin(&daemon).import([key], false, |_| unreachable!("nothing was committed")).unwrap_err();
    assert!(matches!(&error, ClientError::UploadRefused(found) if *found == expected), "{error}");
    daemon.end();
}

#[test]
fn nothing_to_upload_is_no_part_and_a_refused_part_or_apply_says_so() {
    let refused = Refused { kind: RefusalKind::Invalid, place: Some((Kind::Endpoint, 0)), message: "no".to_owned() };
    let expected = refused.clone();
    let daemon = Daemon::playing(vec![part(move |mut peer| {
        for _ in 0..2 {
            let (id, _) = peer.admin_request();
            peer.admin_reply(id, &AdminReply::Refused(refused.clone()));
        }
    })]);
    let mut client = connect_admin(&daemon);
    assert_eq!(client.upload([]).unwrap(), 0);
    let error = client.upload([large_endpoint(1)]).unwrap_err();
    assert!(matches!(&error, ClientError::UploadRefused(found) if *found == expected), "{error}");
    let apply = Apply { parts: 0, sections: Vec::new(), prune: false, dry_run: false };
    assert_eq!(client.apply(&apply).unwrap(), ApplyOutcome::Refused(expected));
    daemon.end();
}

#[test]
fn a_daemon_that_is_not_there_is_named_with_what_to_do() {
    let error = QueryClient::connect(Path::new("/nonexistent/query.sock")).err().unwrap();
    assert_eq!(
        error.to_string(),
        "cannot reach the daemon at /nonexistent/query.sock: No such file or directory (os error 2); \
         start the daemon, or name its runtime directory"
    );
}

#[cfg(feature = "tokio")]
mod asynchronous {
    use keyward_proto::client::AsyncQueryClient;

    use super::*;

    async fn connect(daemon: &Daemon) -> AsyncQueryClient {
        AsyncQueryClient::connect(&daemon.path).await.unwrap()
    }

    #[tokio::test]
    async fn each_kind_of_question_gets_its_verdict() {
        let batch = BatchVerdicts { reason: 1, status: 400, identity: None, verdicts: Vec::new() };
        let replies = [allow(), allow(), QueryReply::Batch(batch.clone())];
        let daemon = Daemon::playing(vec![part(move |mut peer| {
            for (expected, reply) in [0x0101, 0x0103, 0x0102].into_iter().zip(replies) {
                let (kind, id, _) = peer.request();
                assert_eq!(kind, expected);
                peer.reply(id, &reply);
            }
        })]);
        let mut client = connect(&daemon).await;
        assert!(client.check(KEY, TICKETS).await.unwrap().is_allowed());
        assert!(client.who(KEY).await.unwrap().is_allowed());
        assert_eq!(client.batch(KEY, &[]).await.unwrap(), batch);
        daemon.end();
    }

    #[tokio::test]
    async fn a_question_is_asked_once_more_when_the_daemon_was_restarted() {
        let stopping = turns_away(QUERY_ERROR, ErrorCode::Stopping);
        let daemon = Daemon::playing(vec![dies(), answers(allow()), stopping, answers(allow())]);
        for _ in 0..2 {
            assert!(connect(&daemon).await.check(KEY, TICKETS).await.unwrap().is_allowed());
        }
        daemon.end();
    }

    #[tokio::test]
    async fn a_call_that_was_dropped_leaves_no_reply_for_the_next_one() {
        let daemon = Daemon::playing(vec![
            part(|mut peer| {
                peer.request();
                peer.wait_for_end();
            }),
            answers(allow()),
        ]);
        let mut client = connect(&daemon).await;
        tokio::select! {
            biased;
            _ = client.check(KEY, TICKETS) => unreachable!("nobody replies"),
            () = tokio::task::yield_now() => {}
        }
        assert!(client.check(KEY, TICKETS).await.unwrap().is_allowed());
        daemon.end();
    }

    #[tokio::test]
    async fn a_reply_to_another_request_or_over_the_maximum_is_an_error() {
        let daemon = Daemon::playing(vec![
            part(|mut peer| {
                let (_, id, _) = peer.request();
                peer.reply(id + 1, &allow());
            }),
            part(|mut peer| {
                peer.request();
                peer.stream.write_all(&[0x7f, 0xff, 0xff, 0xff]).unwrap();
            }),
        ]);
        let mut client = connect(&daemon).await;
        assert!(matches!(client.check(KEY, TICKETS).await, Err(ClientError::UnexpectedReply { .. })));
        let error = client.check(KEY, TICKETS).await.unwrap_err();
        assert!(matches!(&error, ClientError::Protocol(error) if error.code == ErrorCode::FrameTooLarge), "{error}");
        daemon.end();
    }
}
