//! The golden frames in `vectors/`, the normative text in `PROTOCOL.md` and the types in `src/` agree.
//!
//! `KEYWARD_WRITE_VECTORS=1 cargo test -p keyward-proto --test golden` writes the frames anew, for a change of the
//! protocol that is meant; without it a difference fails.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod python;
mod schema;
mod values;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use keyward_proto::frame::{self, ADMIN_FRAME_BYTES_MAX};
use keyward_proto::query::{
    BatchVerdicts, BatchVerdictsRef, Identity, IdentityRef, QueryReply, Reason, Route, Verdict, VerdictRef,
};
use keyward_proto::{ErrorCode, admin, query};
use python::{has_python, run_python};
use schema::Schema;
use serde_json::{Value, json};
use values::{Message, Vector};

const WRITE: &str = "KEYWARD_WRITE_VECTORS";

fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn protocol_text() -> String {
    fs::read_to_string(package("PROTOCOL.md")).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn frame_of(vector: &Vector) -> Vec<u8> {
    vector.message.frame(vector.request_id)
}

fn kind_of(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[6], frame[7]])
}

fn named(name: &str) -> Vector {
    values::all().into_iter().find(|vector| vector.name == name).unwrap()
}

fn written(schema: &Schema) -> String {
    let vectors: Vec<Value> = values::all()
        .iter()
        .map(|vector| {
            let frame = frame_of(vector);
            json!({
                "name": vector.name,
                "message": schema.message(kind_of(&frame)),
                "type": format!("{:#06x}", kind_of(&frame)),
                "request_id": vector.request_id,
                "description": vector.description,
                "hex": hex(&frame),
            })
        })
        .collect();
    serde_json::to_string_pretty(&vectors).unwrap() + "\n"
}

fn committed() -> Vec<Value> {
    serde_json::from_str(&fs::read_to_string(package("vectors/frames.json")).unwrap()).unwrap()
}

#[test]
fn every_value_encodes_to_its_golden_frame_and_back() {
    let path = package("vectors/frames.json");
    let written = written(&Schema::read(&protocol_text()));
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &written).unwrap();
    }
    assert!(written == fs::read_to_string(&path).unwrap(), "a frame changed; if that is meant, set {WRITE}=1");

    for (vector, golden) in values::all().into_iter().zip(committed()) {
        let bytes = unhex(golden["hex"].as_str().unwrap());
        let (frame, used) = frame::split(&bytes, ADMIN_FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!((used, frame.header.request_id), (bytes.len(), vector.request_id), "{}", vector.name);
        assert!(vector.message.read_likewise(&frame) == Ok(vector.message), "{} decodes to another value", vector.name);
    }
}

#[test]
fn every_type_number_has_a_golden_frame() {
    let kinds: BTreeSet<u16> = values::all().iter().map(|vector| kind_of(&frame_of(vector))).collect();
    let all = [
        &[query::CHECK, query::BATCH, query::WHO, query::VERDICT, query::BATCH_VERDICTS, frame::QUERY_ERROR][..],
        &[admin::ADD, admin::SET, admin::REMOVE, admin::SHOW, admin::LIST, admin::EXPLAIN, admin::STATUS],
        &[admin::UPLOAD, admin::APPLY, admin::DONE, admin::PAGE, admin::EXPLANATION, admin::STATUS_REPORT],
        &[admin::RECEIVED, admin::REPORT, admin::REFUSED, frame::ADMIN_ERROR, admin::REACH],
        &[admin::IMPORT, admin::IMPORTED],
        &[admin::AUDIT, admin::VERIFY_AUDIT, admin::AUDIT_PAGE, admin::AUDIT_VERDICT],
        &[admin::BACKUP, admin::BACKUP_PART, admin::EXPORT, admin::EXPORT_PAGE],
        &[admin::WHAT_IF, admin::CONSEQUENCES],
        &[admin::ROTATE],
        &[admin::CLOSE_ALL, admin::MINT],
    ]
    .concat();
    assert_eq!(kinds, all.iter().copied().collect());
    assert_eq!(all.len(), kinds.len(), "a type number stands for two messages");
}

#[test]
fn no_other_type_number_is_a_message() {
    let known: BTreeSet<u16> = values::all().iter().map(|vector| kind_of(&frame_of(vector))).collect();
    for vector in [named("who"), named("verdict_ok"), named("status"), named("received")] {
        let mut bytes = frame_of(&vector);
        for kind in (0..=u16::MAX).filter(|kind| !known.contains(kind)) {
            bytes[6..8].copy_from_slice(&kind.to_be_bytes());
            let read = vector.message.read_likewise(&frame::parse(&bytes[4..]).unwrap());
            assert_eq!(read.err().map(|error| error.code), Some(ErrorCode::UnknownType), "{kind:#06x}");
        }
    }
}

#[test]
fn every_golden_frame_can_be_read_by_the_tables_of_the_text_alone() {
    let schema = Schema::read(&protocol_text());
    for vector in values::all() {
        let frame = frame_of(&vector);
        schema.walk(kind_of(&frame), &frame[12..]).unwrap_or_else(|why| panic!("{}: {why}", vector.name));
    }
}

#[test]
fn every_variant_and_both_forms_of_every_option_are_in_a_golden_frame() {
    let schema = Schema::read(&protocol_text());
    let mut seen = BTreeSet::new();
    for vector in values::all() {
        let frame = frame_of(&vector);
        seen.extend(schema.walk(kind_of(&frame), &frame[12..]).unwrap().choices);
    }
    let missing: Vec<_> = schema.choices().into_iter().filter(|choice| !seen.contains(choice)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_text_lists_every_type_reason_and_error_with_its_number() {
    let text = protocol_text();
    for vector in values::all() {
        let kind = kind_of(&frame_of(&vector));
        assert!(text.contains(&format!("| `{kind:#06x}` |")), "type {kind:#06x}");
    }
    for reason in Reason::ALL {
        assert!(text.contains(&format!("| {} | `{}` |", reason.number(), reason.name())), "{}", reason.name());
    }
    for code in (1..).map_while(ErrorCode::from_number) {
        assert!(text.contains(&format!("| {} | `{code:?}` |", code.number())), "{code:?}");
    }
}

/// The blocks of the text that begin with ` ```hex NAME `: bytes, two blanks, what they are.
fn worked_examples(text: &str) -> Vec<(String, Vec<u8>)> {
    let mut examples = Vec::new();
    for block in text.split("```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let lines = rest.split("```").next().unwrap().lines();
        let bytes: String = lines.flat_map(|line| line.split("  ").next()).collect();
        examples.push((name.to_owned(), unhex(&bytes.replace(' ', ""))));
    }
    examples
}

#[test]
fn the_worked_examples_in_the_text_are_golden_frames() {
    let examples = worked_examples(&protocol_text());
    let names: Vec<&str> = examples.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["check_endpoint", "verdict_ok", "query_error_connection"]);
    for (name, bytes) in &examples {
        assert_eq!(hex(bytes), hex(&frame_of(&named(name))), "{name}");
    }
}

/// A string and a list of items behind it, each of so many strings, as the daemon holds them.
fn packed<const STRINGS: usize>(first: &str, items: &[[&str; STRINGS]]) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_be_bytes(), text.as_bytes()].concat();
    let count = (items.len() as u64).to_be_bytes().to_vec();
    let strings = items.iter().flatten().map(|text| string(text));
    [string(first), count].into_iter().chain(strings).collect::<Vec<_>>().concat()
}

fn packed_agent(identity: Option<&Identity>) -> Vec<u8> {
    let packed_of = |identity: &Identity| {
        let pairs: Vec<_> = identity.attributes.iter().map(|(name, value)| [name.as_str(), value]).collect();
        packed(&identity.agent_name, &pairs)
    };
    identity.map(packed_of).unwrap_or_default()
}

fn identity_ref<'a>(identity: &'a Identity, agent: &'a [u8]) -> IdentityRef<'a> {
    let Identity { mode, credential_id, code, expires_at, app_id, agent_id, switched, .. } = *identity;
    IdentityRef { mode, credential_id, code, expires_at, app_id, agent_id, agent, switched }
}

fn put_verdict_ref(verdict: &Verdict, request_id: u32) -> Vec<u8> {
    let Verdict { reason, status, retry_after, ref identity, ref route } = *verdict;
    let agent = packed_agent(identity.as_ref());
    let packed_route = |Route { template, tags }: &Route| {
        let tags: Vec<_> = tags.iter().map(|tag| [tag.as_str()]).collect();
        packed(template, &tags)
    };
    let route = route.as_ref().map(packed_route);
    let identity = identity.as_ref().map(|identity| identity_ref(identity, &agent));
    let mut out = Vec::new();
    VerdictRef { reason, status, retry_after, identity, route: route.as_deref() }.put(&mut out, request_id);
    out
}

fn put_batch_ref(batch: &BatchVerdicts, request_id: u32) -> Vec<u8> {
    let BatchVerdicts { reason, status, ref identity, ref verdicts } = *batch;
    let agent = packed_agent(identity.as_ref());
    let identity = identity.as_ref().map(|identity| identity_ref(identity, &agent));
    let mut out = Vec::new();
    BatchVerdictsRef { reason, status, identity, verdicts }.put(&mut out, request_id);
    out
}

#[test]
fn borrowed_and_owned_verdicts_encode_to_the_same_bytes() {
    let mut compared = 0;
    for vector in values::all() {
        let borrowed = match &vector.message {
            Message::QueryReply(QueryReply::Verdict(verdict)) => put_verdict_ref(verdict, vector.request_id),
            Message::QueryReply(QueryReply::Batch(batch)) => put_batch_ref(batch, vector.request_id),
            Message::QueryReply(QueryReply::Error(_))
            | Message::Query(_)
            | Message::Admin(_)
            | Message::AdminReply(_) => {
                continue;
            }
        };
        assert_eq!(hex(&borrowed), hex(&frame_of(&vector)), "{}", vector.name);
        compared += 1;
    }
    assert!(compared >= 8, "{compared}");
}

#[test]
fn the_short_python_client_is_short_and_stands_in_the_text() {
    let client = fs::read_to_string(package("clients/ask.py")).unwrap();
    assert!(client.lines().count() <= 25);
    assert!(protocol_text().contains(&format!("```python\n{client}```\n")));
}

const PYTHON_CHECK: &str = r#"
import json, ask
golden = {vector["name"]: bytes.fromhex(vector["hex"]) for vector in json.load(open("vectors/frames.json"))}
question = ask.encode(7, b"key 2:YWK2PGCS8CNW62SR8TBTBKWMY", b"GET", b"/api/v2/tickets?page=2", b"4")
assert question == golden["check_endpoint"], question.hex()
for name, verdict in {
    "verdict_ok": ("ok", 200, "4 Matthew"),
    "verdict_ok_who": ("ok", 200, "5 Zoë Ångström"),
    "verdict_ok_public": ("ok", 200, None),
    "verdict_bad_credential": ("bad_credential", 401, None),
    "verdict_rate_limited": ("rate_limited", 429, None),
    "verdict_unknown_reason": ("unknown", 200, "4 Matthew"),
}.items():
    assert ask.decode(golden[name][4:]) == verdict, name
for name in ("batch_verdicts", "query_error", "query_error_connection"):
    try: ask.decode(golden[name][4:])
    except OSError: continue
    raise AssertionError(name)
assert ask.REASONS == REASONS
"#;

const PYTHON_CLIENT_CHECK: &str = r#"
import json, keyward as kw
golden = {vector["name"]: bytes.fromhex(vector["hex"]) for vector in json.load(open("vectors/frames.json"))}
KEY, ODD = b"key 2:YWK2PGCS8CNW62SR8TBTBKWMY", "token 18:TKQ2PGCS8CNW62SR8TBTBKWMY"
targets = (kw.endpoint("GET", "/api/v2/me"), kw.tags("tickets.tickets.delete"), kw.tags())
for name, kind, body in (
    ("check_endpoint", kw.CHECK, kw._asker(KEY, "4", None) + kw.endpoint("GET", "/api/v2/tickets?page=2")),
    ("check_odd_bytes", kw.CHECK, kw._asker(b"\x00\xff", "", None) + kw.endpoint("", "/\udcff")),
    ("who", kw.WHO, kw._asker(ODD, "1", "2001:db8::1")),
    ("who_nobody", kw.WHO, kw._asker(None, None, None)),
    ("batch", kw.BATCH, kw._asker(KEY, "4", None) + (3).to_bytes(8, "big") + b"".join(targets)),
):
    frame = kw._frame(kind, int.from_bytes(golden[name][8:12], "big"), body)
    assert frame == golden[name], (name, frame.hex(), golden[name].hex())

def read(name, how):
    reader = kw._Reader(golden[name][12:])
    value = how(reader)
    reader.end()
    return value

verdict = read("verdict_ok", kw._Reader.verdict)
matthew = kw.Identity("key", 2, "current", None, None, 4, "Matthew", {"team": "support"}, True)
assert verdict == kw.Verdict("ok", 200, 0, matthew, "/api/v2/tickets", ("tickets.tickets.list",)) and verdict, verdict
zoe = read("verdict_ok_who", kw._Reader.verdict).identity
assert (zoe.mode, zoe.credential_id, zoe.code, zoe.expires_at) == ("token", 18, "retiring", 1893456000), zoe
assert (zoe.agent_id, zoe.agent_name) == (5, "Zoë Ångström"), zoe
public = read("verdict_ok_public", kw._Reader.verdict)
assert public and public.identity is None and public.template == "/{rest...}"
for name, reason, status, retry_after in (
    ("verdict_bad_credential", "bad_credential", 401, 0),
    ("verdict_rate_limited", "rate_limited", 429, 3),
    ("verdict_unknown_reason", "unknown_999", 403, 0),
):
    denied = read(name, kw._Reader.verdict)
    assert not denied and (denied.reason, denied.status, denied.retry_after) == (reason, status, retry_after), denied
batch = read("batch_verdicts", lambda reader: reader.batch(3))
assert [verdict.reason for verdict in batch] == ["ok", "tag_denied", "rate_limited"] and not batch
assert batch.identity == matthew
refused = read("batch_verdicts_refused", lambda reader: reader.batch(2))
assert [(verdict.reason, verdict.status) for verdict in refused] == [("bad_request", 400)] * 2 and not refused
assert not read("batch_verdicts_refused", lambda reader: reader.batch(0))
assert read("query_error", kw._Reader.error)[0] == 3

# A reply that is cut off anywhere, or goes on, is none.
for name, how in (("verdict_ok", kw._Reader.verdict), ("batch_verdicts", lambda reader: reader.batch(3))):
    whole = golden[name][12:]
    for body in [whole[:end] for end in range(len(whole))] + [whole + b"\0"]:
        reader = kw._Reader(body)
        try:
            how(reader)
            reader.end()
        except (ValueError, IndexError): continue
        raise AssertionError((name, len(body)))
try: read("batch_verdicts", lambda reader: reader.batch(2))
except ValueError: pass
else: raise AssertionError("three verdicts for two targets")
assert kw.REASONS == REASONS
"#;

const PYTHON_ADMIN_CHECK: &str = r#"
import json, keyward_admin as admin
golden = {vector["name"]: bytes.fromhex(vector["hex"]) for vector in json.load(open("vectors/frames.json"))}
for name, kind, body in (
    ("open_session", admin.ADD, admin.open_body(4, 1893456000)),
    ("close_session", admin.REMOVE, admin.close_body(7)),
    ("close_all", admin.CLOSE_ALL, admin.close_all_body(4)),
):
    assert (golden[name][6:8], golden[name][12:]) == (kind.to_bytes(2, "big"), body), name
assert admin.cookie(golden["done_new_session"][12:]) == "7:SZQ2PGCS8CNW62SR8TBTBKWMY"
for name in ("done_removed", "done_new_key"):
    try: admin.cookie(golden[name][12:])
    except (OSError, ValueError): continue
    raise AssertionError(name)
for name, text in (("refused_place", REFUSED), ("refused_unavailable", UNAVAILABLE)):
    assert str(admin.refusal(golden[name][12:])) == text, name
"#;

#[test]
fn the_python_admin_client_reads_and_writes_the_golden_frames() {
    if !has_python() {
        return;
    }
    let message = |name: &str| match named(name).message {
        Message::AdminReply(admin::AdminReply::Refused(refused)) => json!(refused.message),
        Message::Query(_) | Message::QueryReply(_) | Message::Admin(_) | Message::AdminReply(_) => panic!("{name}"),
    };
    let texts = format!("REFUSED, UNAVAILABLE = {}, {}", message("refused_place"), message("refused_unavailable"));
    run_python(&format!("{texts}\n{PYTHON_ADMIN_CHECK}"), &[]);
}

#[test]
fn the_python_clients_read_and_write_the_golden_frames() {
    if !has_python() {
        return;
    }
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    let reasons = serde_json::to_string(&reasons).unwrap();
    for check in [PYTHON_CHECK, PYTHON_CLIENT_CHECK] {
        run_python(&format!("REASONS = {reasons}\n{check}"), &[]);
    }
}
