//! The streaming import on the real socket: parts that stand by themselves, patches that do, too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "a test")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, CredentialPatch, Import, Imported, Patch, Secret, Selector, SetText,
};
use keyward_proto::client::ImportedPart;
use keyward_proto::query::{Asker, Mode, Reason};
use raw::{Heard, Wire};
use support::Home;

/// More than two parts hold.
const MANY: u64 = 20_000;

fn key(id: u64) -> CredentialPatch {
    CredentialPatch {
        agent: Some(4),
        code: Some(Secret::new(code(id).into_bytes())),
        ..CredentialPatch::new(Mode::Key, Some(id))
    }
}

fn code(id: u64) -> String {
    format!("CODE{id:08}")
}

fn started(home: &Home) -> support::Daemon<'_> {
    let daemon = home.start();
    home.apply(&raw::world());
    daemon
}

/// What one part came to.
fn import(home: &Home, patches: Vec<Patch>, dry_run: bool) -> Imported {
    let mut parts: Vec<ImportedPart> = Vec::new();
    home.admin().import(patches, dry_run, |part| parts.push(part)).unwrap();
    assert_eq!(parts.len(), 1);
    parts.swap_remove(0).imported
}

fn counts(imported: &Imported) -> [u64; 4] {
    [imported.added, imported.changed, imported.unchanged, imported.refused]
}

fn is_known(home: &Home, id: u64) -> bool {
    let credential = format!("key {id}:{}", code(id));
    let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
    let verdict = home.query().who(asker).unwrap();
    assert!(verdict.is_allowed() || verdict.reason == Reason::BadCredential.number());
    verdict.is_allowed()
}

#[test]
fn a_patch_that_is_refused_leaves_the_others_of_its_part_standing() {
    let home = Home::new();
    let _daemon = started(&home);
    home.json(&["key", "add", "gone", "--id", "9", "--agent", "4"]);
    home.json(&["key", "revoke", "9"]);
    let table = [
        (key(10), ""),
        (CredentialPatch { agent: Some(5), ..key(11) }, "key 11 names agent 5: there is no such agent"),
        (CredentialPatch { code: None, ..key(12) }, "key 12: it is new and needs a code"),
        (CredentialPatch { id: None, ..key(13) }, "it needs an id"),
        (CredentialPatch { tags: Some(SetText::Text("tick*".into())), ..key(14) }, "whole segments"),
        (key(9), "key 9 is revoked, for ever"),
        (CredentialPatch { label: Some("a".repeat(257)), ..key(15) }, "label: it has 257 bytes"),
        (CredentialPatch { superuser: Some(true), ..key(16) }, "a superuser key is bound to no agent"),
        (CredentialPatch { mode: Mode::Token, ..key(10) }, ""),
        (CredentialPatch { tags: Some(SetText::Text("tickets.*".into())), ..key(10) }, ""),
        (CredentialPatch { tags: Some(SetText::Items(vec!["tickets.*".into()])), ..key(10) }, ""),
        // Not there when it is judged, so its revocation needs no agent.
        (CredentialPatch { revoked: Some(true), agent: Some(5), ..key(17) }, ""),
    ];
    let mut patches: Vec<Patch> = table.iter().map(|(patch, _)| Patch::Credential(patch.clone())).collect();
    patches.push(Patch::Agent(AgentPatch { id: Some(5), ..AgentPatch::default() }));
    let imported = import(&home, patches, false);
    let expected = table.iter().map(|(_, why)| *why).chain(["agents and endpoints go with apply"]);
    let expected: Vec<(u64, &str)> = (0..).zip(expected).filter(|(_, why)| !why.is_empty()).collect();
    let found: Vec<_> = imported.refusals.iter().map(|refusal| (refusal.index, &refusal.message)).collect();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((index, message), (expected_index, why)) in found.iter().zip(&expected) {
        assert!(index == expected_index && message.contains(why), "{index}: {message}");
    }
    // The key with its later tags, and the token; the tombstone.
    assert_eq!(counts(&imported), [3, 1, 1, 8]);
    assert_eq!(home.json(&["key", "show", "10"])["tags"], "tickets.*");
    assert_eq!(home.json(&["key", "show", "17"])["state"], "revoked");
    assert!(is_known(&home, 10) && !is_known(&home, 11));
}

#[test]
fn many_parts_are_there_after_a_crash_and_sent_again_they_change_nothing() {
    let home = Home::new();
    let daemon = started(&home);
    let keys = || (100..100 + MANY).map(|id| Patch::Credential(key(id)));
    let mut parts = Vec::new();
    home.admin().import(keys(), false, |part| parts.push(part)).unwrap();
    assert!(parts.len() > 2, "{}", parts.len());
    let mut first = 0;
    for part in &parts {
        assert_eq!((part.first, counts(&part.imported)), (first, [part.patches, 0, 0, 0]));
        first += part.patches;
    }
    assert_eq!(first, MANY);
    daemon.kill();
    let daemon = home.start();
    assert!(is_known(&home, 100) && is_known(&home, 99 + MANY) && !is_known(&home, 100 + MANY));
    let mut unchanged = 0;
    home.admin().import(keys(), false, |part| unchanged += part.imported.unchanged).unwrap();
    assert_eq!(unchanged, MANY);
    daemon.stop();
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let home = Home::new();
    let _daemon = started(&home);
    let three = CredentialPatch { label: Some("another".into()), ..CredentialPatch::new(Mode::Key, Some(3)) };
    let patches = vec![Patch::Credential(key(10)), Patch::Credential(three)];
    assert_eq!(counts(&import(&home, patches, true)), [1, 1, 0, 0]);
    assert!(!is_known(&home, 10));
    assert_eq!(home.json(&["key", "show", "3"])["label"], "");
}

#[test]
fn parts_and_other_requests_on_one_connection_are_answered_in_order() {
    let home = Home::new();
    let daemon = started(&home);
    let mut wire = Wire::connect(&home.runtime().join("admin.sock"));
    let part = |ids: std::ops::Range<u64>| {
        AdminRequest::Import(Import { patches: ids.map(|id| Patch::Credential(key(id))).collect(), dry_run: false })
    };
    let show = |id| AdminRequest::Show(Selector::Credential(Mode::Key, id));
    let malformed = raw::frame(1, keyward_proto::admin::IMPORT, 5, &[0xff]);
    let mut bytes = Vec::new();
    for (request_id, request) in
        (1..).zip([part(1_000..5_000), part(5_000..9_000), show(8_999), part(9_000..9_001), part(9_001..9_002)])
    {
        if request_id == 5 {
            bytes.extend_from_slice(&malformed);
        }
        request.put(&mut bytes, request_id);
    }
    wire.send(&bytes);
    let imported = |heard| match heard {
        Heard::Reply(id, AdminReply::Imported(imported)) => (id, imported.added),
        Heard::Reply(id, _) => panic!("another reply to {id}"),
        Heard::End | Heard::Nothing => panic!("no reply"),
    };
    assert_eq!(imported(wire.admin_reply()), (1, 4_000));
    assert_eq!(imported(wire.admin_reply()), (2, 4_000));
    assert!(matches!(wire.admin_reply(), Heard::Reply(3, AdminReply::Done(_))));
    assert_eq!(imported(wire.admin_reply()), (4, 1));
    assert!(matches!(wire.admin_reply(), Heard::Reply(5, AdminReply::Error(_))));
    assert_eq!(imported(wire.admin_reply()), (5, 1));
    // A part that a stop meets is answered, and stands.
    let mut bytes = Vec::new();
    part(20_000..28_000).put(&mut bytes, 6);
    wire.send(&bytes);
    std::thread::sleep(std::time::Duration::from_millis(20));
    daemon.stop();
    assert_eq!(imported(wire.admin_reply()), (6, 8_000));
    let _daemon = home.start();
    assert!(is_known(&home, 27_999));
}
