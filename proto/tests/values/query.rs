use keyward_proto::ErrorCode;
use keyward_proto::query::{
    Asker, Batch, BatchVerdicts, Check, CodeSlot, Identity, Mode, QueryReply, QueryRequest, Reason, Route, Target,
    TargetVerdict, Verdict, Who,
};

use super::{Message, Vector, error, pairs, strings, vector};

const KEY: &[u8] = b"key 2:YWK2PGCS8CNW62SR8TBTBKWMY";
const SUPERUSER: Asker<'static> = Asker { credential: Some(KEY), agent: Some(b"4"), address: None };

fn check(asker: Asker<'static>, target: Target<'static>) -> Message<'static> {
    Message::Query(QueryRequest::Check(Check { asker, target }))
}

fn batch(asker: Asker<'static>, targets: Vec<Target<'static>>) -> Message<'static> {
    Message::Query(QueryRequest::Batch(Batch { asker, targets }))
}

fn who(asker: Asker<'static>) -> Message<'static> {
    Message::Query(QueryRequest::Who(Who { asker }))
}

pub(crate) fn requests() -> Vec<Vector> {
    let everything = Asker {
        credential: Some(b"token 18:TKQ2PGCS8CNW62SR8TBTBKWMY"),
        agent: Some(b"1"),
        address: Some(b"2001:db8::1"),
    };
    vec![
        vector(
            "check_endpoint",
            "The worked example: key 2 as agent 4 asks for GET /api/v2/tickets?page=2.",
            check(SUPERUSER, Target::Endpoint { method: b"GET", path: b"/api/v2/tickets?page=2" }),
        ),
        vector(
            "check_tags",
            "Credential 'token 18:TKQ2PGCS8CNW62SR8TBTBKWMY', agent '1', address '2001:db8::1'; \
             tags tickets.tickets.list and people.people.get.",
            check(everything, Target::Tags(vec![b"tickets.tickets.list", b"people.people.get"])),
        ),
        Vector {
            request_id: u32::MAX,
            ..vector(
                "check_odd_bytes",
                "Byte strings take any bytes: credential 00 ff, agent empty, method '', path '/' ff. \
                 Request id 4294967295. The verdict is bad_request.",
                check(
                    Asker { credential: Some(b"\x00\xff"), agent: Some(b""), address: None },
                    Target::Endpoint { method: b"", path: b"/\xff" },
                ),
            )
        },
        vector(
            "batch",
            "Key 2 as agent 4: GET /api/v2/me, the tag tickets.tickets.delete, an empty list of tags.",
            batch(
                SUPERUSER,
                vec![
                    Target::Endpoint { method: b"GET", path: b"/api/v2/me" },
                    Target::Tags(vec![b"tickets.tickets.delete"]),
                    Target::Tags(Vec::new()),
                ],
            ),
        ),
        vector("batch_empty", "No credential and no target; refused as a whole.", batch(Asker::default(), Vec::new())),
        vector(
            "who",
            "Credential 'token 18:TKQ2PGCS8CNW62SR8TBTBKWMY', agent '1', address '2001:db8::1'.",
            who(everything),
        ),
        vector("who_nobody", "No credential, no agent, no address.", who(Asker::default())),
    ]
}

fn denied(reason: Reason, status: u16) -> Verdict {
    Verdict { reason: reason.number(), status, retry_after: 0, identity: None, route: None }
}

fn matthew() -> Identity {
    Identity {
        mode: Mode::Key,
        credential_id: 2,
        code: CodeSlot::Current,
        expires_at: None,
        app_id: None,
        agent_id: 4,
        agent_name: "Matthew".to_owned(),
        attributes: pairs(&[("team", "support")]),
        switched: true,
    }
}

fn zoe() -> Identity {
    Identity {
        mode: Mode::Token,
        credential_id: 18,
        code: CodeSlot::Retiring,
        expires_at: Some(1_893_456_000),
        app_id: Some(9_007_199_254_740_991),
        agent_id: 5,
        agent_name: "Zoë Ångström".to_owned(),
        attributes: Vec::new(),
        switched: false,
    }
}

fn one(reason: Reason, status: u16, retry_after: u32) -> TargetVerdict {
    TargetVerdict { reason: reason.number(), status, retry_after }
}

fn verdict(verdict: Verdict) -> Message<'static> {
    Message::QueryReply(QueryReply::Verdict(verdict))
}

pub(crate) fn replies() -> Vec<Vector> {
    let mut replies = verdicts();
    replies.extend(batches());
    replies.extend([
        vector(
            "query_error",
            "An error that answers request 7: code 3.",
            Message::QueryReply(QueryReply::Error(error(ErrorCode::MalformedBody, "the body ends too early"))),
        ),
        Vector {
            request_id: 0,
            ..vector(
                "query_error_connection",
                "An error about the connection, request id 0: code 7.",
                Message::QueryReply(QueryReply::Error(error(ErrorCode::TooManyConnections, "no connection is left"))),
            )
        },
    ]);
    replies
}

fn verdicts() -> Vec<Vector> {
    vec![
        vector(
            "verdict_ok",
            "The worked example's reply: key 2, current code, agent 4 'Matthew', attribute team=support, switched; \
             template /api/v2/tickets, tag tickets.tickets.list.",
            verdict(Verdict {
                reason: 0,
                status: 200,
                retry_after: 0,
                identity: Some(matthew()),
                route: Some(Route { template: "/api/v2/tickets".to_owned(), tags: strings(&["tickets.tickets.list"]) }),
            }),
        ),
        vector(
            "verdict_ok_who",
            "An allow without a route: token 18, retiring code, expires_at 1893456000, app_id 9007199254740991, \
             agent 5 'Zoë Ångström' (UTF-8, 14 bytes), no attributes, not switched.",
            verdict(Verdict { reason: 0, status: 200, retry_after: 0, identity: Some(zoe()), route: None }),
        ),
        vector(
            "verdict_ok_public",
            "An allow without an identity: a public endpoint; template /{rest...}, tags open.a and open.b.",
            verdict(Verdict {
                reason: 0,
                status: 200,
                retry_after: 0,
                identity: None,
                route: Some(Route { template: "/{rest...}".to_owned(), tags: strings(&["open.a", "open.b"]) }),
            }),
        ),
        vector(
            "verdict_bad_credential",
            "A denial: reason 4, status 401.",
            verdict(denied(Reason::BadCredential, 401)),
        ),
        vector(
            "verdict_rate_limited",
            "Reason 20, status 429, retry after 3 seconds.",
            verdict(Verdict { retry_after: 3, ..denied(Reason::RateLimited, 429) }),
        ),
        vector(
            "verdict_unknown_reason",
            "A reason of a later version, 999 with status 200: a client must deny.",
            verdict(Verdict { reason: 999, status: 200, retry_after: 0, identity: Some(matthew()), route: None }),
        ),
    ]
}

fn batches() -> Vec<Vector> {
    vec![
        vector(
            "batch_verdicts",
            "Judged: the identity of verdict_ok; targets ok, tag_denied 403, rate_limited 429 with 1 second.",
            Message::QueryReply(QueryReply::Batch(BatchVerdicts {
                reason: 0,
                status: 200,
                identity: Some(matthew()),
                verdicts: vec![
                    one(Reason::Ok, 200, 0),
                    one(Reason::TagDenied, 403, 0),
                    one(Reason::RateLimited, 429, 1),
                ],
            })),
        ),
        vector(
            "batch_verdicts_refused",
            "Refused as a whole: reason 1, status 400, no verdicts.",
            Message::QueryReply(QueryReply::Batch(BatchVerdicts {
                reason: Reason::BadRequest.number(),
                status: 400,
                identity: None,
                verdicts: Vec::new(),
            })),
        ),
    ]
}
