//! Bytes from a stranger: an error with the right number, or the one value that they spell; never a panic.
#![expect(clippy::unwrap_used, reason = "tests")]

mod schema;
mod values;

use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, CredentialName, CredentialPatch, FieldChange, FieldValue, Import, Imported,
    Patch, RefusedPatch, Report, RetiringPatch, Secret, Selector, SetText, Upload,
};
use keyward_proto::frame::{self, ADMIN_FRAME_BYTES_MAX, Frame, Header, QUERY_FRAME_BYTES_MAX, VERSION};
use keyward_proto::query::{
    Asker, Batch, BatchVerdicts, Check, CodeSlot, Identity, Mode, QueryReply, QueryRequest, Route, Target,
    TargetVerdict, Verdict, Who,
};
use keyward_proto::{ErrorCode, FrameError};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use schema::{Schema, Walk};
use values::{Message, Vector};

const HEADER_END: usize = 12;

fn parsed(frame: &[u8]) -> Frame<'_> {
    frame::parse(&frame[4..]).unwrap()
}

fn read<'f>(vector: &Vector, frame: &'f [u8]) -> Result<Message<'f>, FrameError> {
    vector.message.read_likewise(&parsed(frame))
}

fn code(result: &Result<Message<'_>, FrameError>) -> Option<ErrorCode> {
    result.as_ref().err().map(|error| error.code)
}

/// Every golden message, its frame, and where in the frame's body the lengths, switches and variant numbers are.
fn walked() -> Vec<(Vector, Vec<u8>, Walk)> {
    let schema = Schema::read(include_str!("../PROTOCOL.md"));
    let all = values::all().into_iter().map(|vector| {
        let frame = vector.message.frame(vector.request_id);
        let walk = schema.walk(parsed(&frame).header.kind, &frame[HEADER_END..]).unwrap();
        (vector, frame, walk)
    });
    all.collect()
}

fn with(frame: &[u8], offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = frame.to_vec();
    changed[HEADER_END + offset..][..bytes.len()].copy_from_slice(bytes);
    changed
}

#[test]
fn a_length_that_the_body_cannot_hold_is_refused_wherever_it_stands() {
    let mut tried = 0;
    for (vector, frame, walk) in walked() {
        for offset in walk.lengths {
            for length in [u64::MAX, i64::MAX as u64, 1 << 32, 1 << 20] {
                let changed = with(&frame, offset, &length.to_be_bytes());
                let found = code(&read(&vector, &changed));
                assert_eq!(found, Some(ErrorCode::MalformedBody), "{} at {offset}: {length}", vector.name);
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried}");
}

#[test]
fn a_switch_that_is_neither_0_nor_1_and_an_unknown_variant_are_refused_wherever_they_stand() {
    for (vector, frame, walk) in walked() {
        for (offset, value) in walk.switches.iter().flat_map(|offset| [2, 0x80, 0xff].map(|value| (*offset, value))) {
            let found = code(&read(&vector, &with(&frame, offset, &[value])));
            assert_eq!(found, Some(ErrorCode::MalformedBody), "{} at {offset}: {value}", vector.name);
        }
        for (offset, number) in walk.variants.iter().flat_map(|offset| [7, u32::MAX].map(|number| (*offset, number))) {
            let found = code(&read(&vector, &with(&frame, offset, &number.to_be_bytes())));
            assert_eq!(found, Some(ErrorCode::MalformedBody), "{} at {offset}: {number}", vector.name);
        }
    }
}

#[test]
fn a_byte_behind_the_body_is_refused_and_said_to_be_that() {
    for (vector, mut frame, _) in walked() {
        frame.push(0);
        assert_eq!(code(&read(&vector, &frame)), Some(ErrorCode::TrailingBytes), "{}", vector.name);
    }
}

#[test]
fn a_body_that_ends_too_early_is_refused_and_the_message_tells_nothing_of_it() {
    for (vector, frame, _) in walked() {
        for end in HEADER_END..frame.len() {
            let error = read(&vector, &frame[..end]).err().unwrap();
            assert_eq!(error.code, ErrorCode::MalformedBody, "{} cut at {end}", vector.name);
            assert_eq!(error.message, "the body is not of its type: it ends too early", "{}", vector.name);
        }
    }
}

#[test]
fn a_frame_that_is_not_whole_yet_waits_for_more() {
    for (vector, frame, _) in walked() {
        for end in 0..frame.len() {
            assert!(frame::split(&frame[..end], QUERY_FRAME_BYTES_MAX).unwrap().is_none(), "{} at {end}", vector.name);
        }
        let two = [frame.clone(), frame.clone()].concat();
        let (_, used) = frame::split(&two, QUERY_FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!(used, frame.len(), "{}", vector.name);
    }
}

#[test]
fn the_length_is_judged_alone_and_first() {
    let table = [
        (0, Some(ErrorCode::FrameTooShort)),
        (7, Some(ErrorCode::FrameTooShort)),
        (8, None),
        (QUERY_FRAME_BYTES_MAX, None),
        (QUERY_FRAME_BYTES_MAX + 1, Some(ErrorCode::FrameTooLarge)),
        (u32::MAX as usize, Some(ErrorCode::FrameTooLarge)),
    ];
    for (length, expected) in table {
        let prefix = u32::try_from(length).unwrap().to_be_bytes();
        match (frame::split(&prefix, QUERY_FRAME_BYTES_MAX), expected) {
            (Ok(None), None) => {}
            (Err(error), Some(expected)) => assert_eq!(error.code, expected, "{length}"),
            (found, _) => unreachable!("{length}: {:?}", found.map(|found| found.is_some())),
        }
    }
}

#[test]
fn version_comes_before_type_and_type_before_body() {
    let rubbish: &[u8] = &[0xff; 40];
    let table = [
        (0, 0xffff, ErrorCode::UnsupportedVersion),
        (2, 0x0101, ErrorCode::UnsupportedVersion),
        (u16::MAX, 0x0301, ErrorCode::UnsupportedVersion),
        (VERSION, 0xffff, ErrorCode::UnknownType),
        (VERSION, 0, ErrorCode::UnknownType),
    ];
    for (version, kind, expected) in table {
        let frame = Frame { header: Header { version, kind, request_id: 1 }, body: rubbish };
        for vector in values::all() {
            assert_eq!(code(&vector.message.read_likewise(&frame)), Some(expected), "{version} {kind:#06x}");
        }
    }
}

#[test]
fn no_socket_takes_a_message_of_another_family() {
    for (vector, frame, _) in walked() {
        for (other, _, _) in walked() {
            if std::mem::discriminant(&other.message) != std::mem::discriminant(&vector.message) {
                let found = code(&read(&other, &frame));
                assert_eq!(found, Some(ErrorCode::UnknownType), "{} as {}", vector.name, other.name);
            }
        }
    }
}

/// Lists whose items are as small on the wire, and so as large in memory beside it, as can be.
fn densest_lists(count: usize) -> Vec<Message<'static>> {
    let nobody = Patch::Agent(AgentPatch::default());
    let nothing = Patch::Credential(CredentialPatch::new(Mode::Key, None));
    let no_patch = RefusedPatch { index: 0, message: String::new() };
    let no_change = FieldChange {
        record: Selector::Agent(0),
        field: String::new(),
        from: FieldValue::Null,
        to: FieldValue::Hidden,
    };
    let verdict = TargetVerdict { reason: 0, status: 0, retry_after: 0 };
    let batch = |targets| Message::Query(QueryRequest::Batch(Batch { asker: Asker::default(), targets }));
    vec![
        Message::Admin(AdminRequest::Upload(Upload { number: 0, patches: vec![nobody; count] })),
        Message::Admin(AdminRequest::Import(Import { patches: vec![nothing.clone(); count], dry_run: false })),
        Message::Admin(AdminRequest::Upload(Upload { number: 0, patches: vec![nothing; count] })),
        Message::AdminReply(AdminReply::Imported(Imported { refusals: vec![no_patch; count], ..Imported::default() })),
        Message::AdminReply(AdminReply::Report(Report { changed: vec![no_change; count], ..Report::default() })),
        batch(vec![Target::Tags(Vec::new()); count]),
        batch(vec![Target::Tags(vec![&b""[..]; count])]),
        Message::QueryReply(QueryReply::Batch(BatchVerdicts {
            reason: 0,
            status: 200,
            identity: None,
            verdicts: vec![verdict; count],
        })),
    ]
}

#[test]
fn no_honest_message_is_refused_for_the_memory_it_takes() {
    // Just below each size at which the decoder's bound grows, the densest messages come closest to it.
    let sizes = |count| densest_lists(count).into_iter().map(|message| message.frame(1).len()).collect::<Vec<_>>();
    for (which, (one, two)) in sizes(1).into_iter().zip(sizes(2)).enumerate() {
        for bytes in [1 << 10, 64 << 10, 1 << 20] {
            let count = (bytes + HEADER_END - one) / (two - one) + 1;
            let message = densest_lists(count).swap_remove(which);
            let frame = message.frame(1);
            let read = message.read_likewise(&parsed(&frame));
            assert!(read == Ok(message), "list {which}: {count} items in {} bytes", frame.len());
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

type OwnedAsker = [Option<Vec<u8>>; 3];

fn asker() -> impl Strategy<Value = OwnedAsker> {
    [option::of(bytes()), option::of(bytes()), option::of(bytes())]
}

fn borrowed(asker: &OwnedAsker) -> Asker<'_> {
    let [credential, agent, address] = asker.each_ref().map(Option::as_deref);
    Asker { credential, agent, address }
}

fn targets() -> impl Strategy<Value = Vec<(bool, Vec<Vec<u8>>)>> {
    vec((any::<bool>(), vec(bytes(), 2..5)), 1..6)
}

fn target((endpoint, parts): &(bool, Vec<Vec<u8>>)) -> Target<'_> {
    if *endpoint {
        Target::Endpoint { method: &parts[0], path: &parts[1] }
    } else {
        Target::Tags(parts.iter().map(Vec::as_slice).collect())
    }
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(".{0,9}", 0..4)
}

prop_compose! {
    fn identity()(
        mode in prop::sample::select(vec![Mode::Key, Mode::Token, Mode::Session]),
        credential_id: u64,
        code in prop::sample::select(vec![CodeSlot::Current, CodeSlot::Retiring]),
        expires_at: Option<u64>,
        app_id: Option<u64>,
        agent_id: u64,
        agent_name in ".{0,20}",
        attributes in vec((".{0,9}", ".{0,9}"), 0..4),
        switched: bool,
    ) -> Identity {
        Identity { mode, credential_id, code, expires_at, app_id, agent_id, agent_name, attributes, switched }
    }
}

prop_compose! {
    fn verdict()(
        reason: u16,
        status: u16,
        retry_after: u32,
        identity in option::of(identity()),
        route in option::of((".{0,20}", texts()).prop_map(|(template, tags)| Route { template, tags })),
    ) -> Verdict {
        Verdict { reason, status, retry_after, identity, route }
    }
}

/// What a patch is made of: patches can't be printed, and proptest prints its values.
type PatchParts = (Texts, Secrets, [Option<bool>; 3], [Option<Option<u64>>; 4], [Option<u64>; 4]);
type Texts = (Option<String>, Option<String>, Option<Vec<String>>, Option<Option<Vec<String>>>);
type Secrets = [Option<Vec<u8>>; 2];

fn patch_parts() -> impl Strategy<Value = PatchParts> {
    let texts = (option::of(".{0,20}"), option::of(".{0,20}"), option::of(texts()), option::of(option::of(texts())));
    let secrets = [option::of(bytes()), option::of(bytes())];
    (texts, secrets, any::<[Option<bool>; 3]>(), any::<[Option<Option<u64>>; 4]>(), any::<[Option<u64>; 4]>())
}

fn patch(parts: PatchParts) -> Patch {
    let ((label, rate, tags, allow_ip), [code, hash], switches, clearable, [id, agent, parent, until]) = parts;
    let [superuser, enabled, revoked] = switches;
    let [default_agent, app_id, not_before, expires_at] = clearable;
    Patch::Credential(CredentialPatch {
        mode: Mode::Session,
        id,
        label,
        code: code.map(Secret::new),
        superuser,
        agent,
        default_agent,
        app_id,
        tags: tags.map(SetText::Items),
        enabled,
        revoked,
        not_before,
        expires_at,
        allow_ip,
        rate: rate.map(Some),
        parent: parent.map(|id| CredentialName { mode: Mode::Key, id }),
        hash: hash.clone().map(Secret::new),
        retiring: hash.zip(until).map(|(hash, until)| RetiringPatch { hash: Secret::new(hash), until }),
    })
}

fn comes_back(message: &Message<'_>, request_id: u32) -> bool {
    let bytes = message.frame(request_id);
    let (frame, used) = frame::split(&bytes, ADMIN_FRAME_BYTES_MAX).unwrap().unwrap();
    used == bytes.len()
        && frame.header == Header { request_id, ..frame.header }
        && message.read_likewise(&frame).is_ok_and(|read| read == *message)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        for bytes_max in [QUERY_FRAME_BYTES_MAX, ADMIN_FRAME_BYTES_MAX] {
            let _ = frame::split(&bytes, bytes_max);
        }
        let _ = frame::read_error(&bytes);
        for vector in values::all() {
            if let Ok(frame) = frame::parse(&bytes) {
                let _ = vector.message.read_likewise(&frame);
            }
            let kind = parsed(&vector.message.frame(0)).header.kind;
            let frame = Frame { header: Header { version: VERSION, kind, request_id: 0 }, body: &bytes };
            let _ = vector.message.read_likewise(&frame);
        }
    }

    /// One value, one spelling: what is read from damaged bytes, if anything, is what those bytes say.
    #[test]
    fn whatever_is_accepted_encodes_to_the_same_bytes(
        which in any::<prop::sample::Index>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let all = values::all();
        let vector = which.get(&all);
        let mut frame = vector.message.frame(vector.request_id);
        for (place, byte) in damage {
            let at = place.index(frame.len() - 8) + 8;
            frame[at] = byte;
        }
        let header = parsed(&frame).header;
        if let Ok(read) = read(vector, &frame) {
            let is_error = header.kind == frame::QUERY_ERROR || header.kind == frame::ADMIN_ERROR;
            prop_assert!(is_error || read.frame(header.request_id) == frame);
        }
    }

    #[test]
    fn every_question_comes_back_as_it_went(asker in asker(), targets in targets(), request_id: u32) {
        let asker = borrowed(&asker);
        let check = QueryRequest::Check(Check { asker, target: target(&targets[0]) });
        let batch = QueryRequest::Batch(Batch { asker, targets: targets.iter().map(target).collect() });
        for request in [check, batch, QueryRequest::Who(Who { asker })] {
            prop_assert!(comes_back(&Message::Query(request), request_id));
        }
    }

    #[test]
    fn every_verdict_comes_back_as_it_went(verdict in verdict(), request_id: u32) {
        prop_assert!(comes_back(&Message::QueryReply(QueryReply::Verdict(verdict)), request_id));
    }

    #[test]
    fn every_patch_comes_back_as_it_went(parts in vec(patch_parts(), 0..4), number: u32, request_id: u32) {
        let patches = parts.into_iter().map(patch).collect();
        let upload = AdminRequest::Upload(Upload { number, patches });
        prop_assert!(comes_back(&Message::Admin(upload), request_id));
    }
}
