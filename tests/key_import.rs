//! `key import` and the hashes of other systems, through the real binary. The hashes were made with Python's hashlib,
//! bcrypt and argon2-cffi.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "a test")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use keyward::model::foreign::DigestKind;
use keyward::model::{HashKind, Id, Mode as ModelMode, Record, RecordName};
use keyward_proto::admin::{AdminReply, AdminRequest, Selector};
use keyward_proto::query::{Mode, QueryReply, Reason};
use raw::{Heard, Wire};
use serde_json::{Value, json};
use support::http::{Place, get};
use support::{Home, KEYWARD, wait_until};

const CODE: &str = "LEGACY-CODE-0001";
const WRONG: &str = "LEGACY-CODE-0002";
const BCRYPT_8: &str = "$2b$08$xqwVYTZ4d1uuanxz88tG3OnPkly12LKqLmhy/amIpVHT8F63jmQ7S";
const BCRYPT_10: &str = "$2b$10$D8OrJc02fFG/D5m/E11QzOizFoVmAwO1cODcuPlcoj04X60cgu/52";
/// Half a second or so.
const ARGON2_SLOW: &str =
    "$argon2id$v=19$m=131072,t=3,p=1$c2FsdHNhbHRzYWx0c2FsdA$a0/IErEJodBBXzBo0I7dTCnH+L9RBSDp+8zDVOqIcuU";

/// Id 42 is what the hashes of `id:code` were made of.
const HASHES: [(u64, &str, HashKind); 6] = [
    (
        10,
        "sha256:a48497fdbea54811c04069c8fa2d3cca364a3bc2e1acc88493b748176b33a298",
        HashKind::Digest(DigestKind::Sha256),
    ),
    (
        11,
        "sha512:GRwsRCl6+X4yvNC3dxkuSMuyPKBPmdl6NxpRSiX+Du++aNrTZT10b/9C3JWuN0pP71Lht6rOyF4+76PgalXzQw==",
        HashKind::Digest(DigestKind::Sha512),
    ),
    (42, "sha256-id-code:2xYlhDxAmBKsbK8U4MM0uAMGxbXNyf8krwwYGoZEPgA=", HashKind::Digest(DigestKind::Sha256IdCode)),
    (12, "$2b$04$wFMHFcuNEzcLR5dCwkDWMOQpmgSxDQsjSSvs56Q5N4ibGK1SSXor6", HashKind::Slow),
    (13, "$2y$05$iIlJv4v9z1txAe5b0ojO/ewpk8xZmE.qLIKAhNHaTFTH.UkU5eEh2", HashKind::Slow),
    (
        14,
        "$argon2id$v=19$m=256,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$+C+lOgPVSK/TuKyYfhFLBcy7yBUQNxnKuTyEQsN/+Cc",
        HashKind::Slow,
    ),
];

fn started(home: &Home) -> support::Daemon<'_> {
    let daemon = home.start();
    home.apply(&raw::world());
    daemon
}

/// Writes a file and imports it.
fn import(home: &Home, name: &str, text: &str, options: &[&str]) -> Output {
    let path = home.path().join(name);
    std::fs::write(&path, text).unwrap();
    home.run(&[&["--json", "key", "import", path.to_str().unwrap()], options].concat())
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Added, changed, unchanged, refused.
fn counts(output: &Output) -> [u64; 4] {
    let report = report(output);
    ["added", "changed", "unchanged", "refused"].map(|name| report[name].as_u64().unwrap())
}

fn csv_of_hashes() -> String {
    let lines = HASHES.map(|(id, hash, _)| format!("{id},\"{hash}\",4\n"));
    format!("id,hash,agent\n{}", lines.concat())
}

fn who(home: &Home, id: u64, code: &str) -> Reason {
    let credential = format!("key {id}:{code}");
    let verdict = home.query().who(raw::asker(&credential)).unwrap();
    Reason::from_number(verdict.reason).unwrap()
}

fn reason(heard: Heard<QueryReply>) -> (u32, Reason) {
    match heard {
        Heard::Reply(id, QueryReply::Verdict(verdict)) => (id, Reason::from_number(verdict.reason).unwrap()),
        Heard::Reply(id, _) => panic!("another reply to {id}"),
        Heard::End | Heard::Nothing => panic!("no reply"),
    }
}

fn asked(home: &Home) -> Wire {
    Wire::connect(&home.runtime().join("query.sock"))
}

/// What is stored of the keys of [`HASHES`], read past the daemon.
fn stored_kinds(home: &Home) -> Vec<HashKind> {
    let registry = home.registry(&json!({}));
    let kind = |id| {
        let name = RecordName::Credential(ModelMode::Key, Id::new(id).unwrap());
        match registry.show(&name).unwrap().unwrap().record {
            Record::Credential(credential) => credential.codes.current.kind(),
            _ => panic!("a key"),
        }
    };
    HASHES.iter().map(|(id, _, _)| kind(*id)).collect()
}

#[test]
fn every_kind_of_hash_proves_its_code_and_is_replaced_at_the_first_use() {
    let home = Home::new();
    let daemon = started(&home);
    let output = import(&home, "keys.csv", &csv_of_hashes(), &[]);
    assert_eq!((output.status.code(), counts(&output)), (Some(0), [6, 0, 0, 0]), "{}", said(&output));
    let shown = |id: u64| home.json(&["key", "show", &id.to_string()])["foreign_hash"].clone();
    assert_eq!([10, 42, 12, 14].map(shown), ["sha256", "sha256-id-code", "bcrypt", "argon2id"]);
    for (id, hash, _) in HASHES {
        assert_eq!(who(&home, id, WRONG), Reason::BadCredential, "{hash}");
    }
    daemon.stop();
    assert_eq!(stored_kinds(&home), HASHES.map(|(_, _, kind)| kind), "a wrong code changes nothing");
    let database = std::fs::read(home.database()).unwrap();
    let digest = [0xa4, 0x84, 0x97, 0xfd, 0xbe, 0xa5, 0x48, 0x11];
    assert!(!database.windows(digest.len()).any(|bytes| bytes == digest), "no bare digest is on the disk");

    let daemon = home.start();
    let http = Place::Unix(home.runtime().join("http.sock"));
    for (id, hash, _) in HASHES {
        // The HTTP door waits for a slow hash as the query door does.
        let header = format!("Authorization: key {id}:{CODE}");
        assert_eq!(http.ask(get("/me", &[&header])).status, 200, "{hash}");
        assert_eq!(who(&home, id, CODE), Reason::Ok, "{hash}");
        assert_eq!(who(&home, id, WRONG), Reason::BadCredential, "{hash}");
    }
    let log = home.log_text();
    daemon.stop();
    assert_eq!(stored_kinds(&home), [HashKind::Own; 6], "{log}");

    // The file again: what was proven by it is left as it is, and its code goes on.
    let daemon = home.start();
    assert_eq!(counts(&import(&home, "keys.csv", &csv_of_hashes(), &[])), [0, 0, 6, 0]);
    assert_eq!(who(&home, 12, CODE), Reason::Ok);
    // Another hash replaces the code at once.
    let other = format!("id,hash\n12,{BCRYPT_8}\n");
    assert_eq!(counts(&import(&home, "other.csv", &other, &[])), [0, 1, 0, 0]);
    assert_eq!(who(&home, 12, CODE), Reason::Ok);
    daemon.stop();
    let log = home.log_text();
    for secret in HASHES.iter().map(|(_, hash, _)| *hash).chain([CODE, WRONG, BCRYPT_8]) {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn lines_that_are_none_are_refused_by_number_and_leave_the_others() {
    let home = Home::new();
    let _daemon = started(&home);
    let csv = "\u{feff}id,code,hash,agent,tags,label\r\n\
               100,SECRETCODE100,,4,,\"quoted, with \"\"marks\"\"\"\r\n\
               101,short,,4,,\r\n\
               \r\n\
               102,,md5:5ecret5ecret5ecret5ecret,4,,\r\n\
               103,SECRETCODE103,,5,,\r\n\
               104,SECRETCODE104,,4\r\n\
               105,\"SECRETCODE105,,4,,\r\n\
               SECRETCODE106,106,,4,,\r\n\
               107,,$2b$15$wFMHFcuNEzcLR5dCwkDWMOQpmgSxDQsjSSvs56Q5N4ibGK1SSXor6,4,,\r\n\
               108,SECRETCODE108,sha256:00,4,,\r\n\
               109,4,,4,aB3defghijklmnopqrstuvwxyz,\r\n\
               3,SECRETCODE003,,4,,\r\n\
               110,SECRETCODE110,,4,tickets.*,\r\n\
               100,SECRETCODE200,,4,,";
    let refusals = [
        (3, "8 to 128 visible ASCII"),
        (5, "hash: it is no hash that is known"),
        (6, "names agent 5: there is no such agent"),
        (7, "4 cells, the header names 6"),
        (8, "a quoted cell does not end"),
        (9, "id: it is no whole number"),
        (10, "a bcrypt cost of 15 is not taken"),
        (11, "behind sha256: stand 64"),
        (12, ""),
        (15, "key 100 is listed before"),
    ];
    let output = import(&home, "keys.csv", csv, &[]);
    assert_eq!((output.status.code(), counts(&output)), (Some(2), [2, 1, 0, 10]), "{}", said(&output));
    let report = report(&output);
    let mut found: Vec<_> = report["refusals"].as_array().unwrap().clone();
    found.sort_by_key(|refusal| refusal["line"].as_u64());
    for (refusal, (line, why)) in found.iter().zip(refusals) {
        assert!(refusal["line"] == line && refusal["why"].as_str().unwrap().contains(why), "{refusal}");
        assert!(said(&output).contains(&format!("line {line}: ")), "{}", said(&output));
    }
    for secret in ["SECRET", "5ecret", "wFMHFcu", "aB3defgh"] {
        assert!(!said(&output).contains(secret) && !report.to_string().contains(secret), "{}", said(&output));
    }
    assert_eq!(home.json(&["key", "show", "100"])["label"], "quoted, with \"marks\"");
    assert_eq!(who(&home, 3, "SECRETCODE003"), Reason::Ok);
    assert_eq!(who(&home, 110, "SECRETCODE110"), Reason::Ok);

    let jsonl = "{\"id\": 120, \"code\": \"SECRETCODE120\", \"agent\": 4, \"rate\": null}\n\
                 {\"id\": 121, \"code\": 5, \"agent\": 4}\n\
                 [1]\n\
                 {\"id\": 122, \"colour\": \"SECRET\"}\n\
                 {\"id\": 123, \"code\": \"SECRETCODE123\", \"agent\": 4\n\
                 {\"id\": 124, \"hash\": \"sha256:a48497fdbea54811c04069c8fa2d3cca364a3bc2e1acc88493b748176b33a298\", \"agent\": 4}\n";
    let output = import(&home, "keys.jsonl", jsonl, &[]);
    assert_eq!((output.status.code(), counts(&output)), (Some(2), [2, 0, 0, 4]), "{}", said(&output));
    assert!(said(&output).contains("line 4: column") && !said(&output).contains("SECRET"), "{}", said(&output));
    assert_eq!(who(&home, 124, CODE), Reason::Ok);

    for (name, text, why) in [
        ("keys.txt", "id\n1\n", "its name does not say"),
        ("empty.csv", "", "it is empty"),
        ("none.csv", "1,SECRETCODE\n", "line 1: no header"),
        ("colour.csv", "id,colour\n", "`colour` is no column"),
    ] {
        let output = import(&home, name, text, &[]);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{name}");
        assert!(said(&output).contains(why) && !said(&output).contains("SECRET"), "{}", said(&output));
    }
    let output =
        home.run_with_stdin(&["key", "import", "-", "--format", "csv"], b"id,code,agent\n130,SECRETCODE130,4\n");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("1 imported (1 added") && printed.contains("in 1 part, to line 2"), "{printed}");
}

#[test]
fn a_dry_run_changes_nothing_and_an_import_may_begin_in_the_middle() {
    let home = Home::new();
    let _daemon = started(&home);
    let revision = || home.json(&["status"])["revision"].clone();
    let before = revision();
    assert_eq!(counts(&import(&home, "keys.csv", &csv_of_hashes(), &["--dry-run"])), [6, 0, 0, 0]);
    assert_eq!((revision(), who(&home, 10, CODE)), (before, Reason::BadCredential));
    // The header is line 1.
    assert_eq!(counts(&import(&home, "keys.csv", &csv_of_hashes(), &["--from-line", "6"])), [2, 0, 0, 0]);
    assert_eq!([who(&home, 12, CODE), who(&home, 13, CODE)], [Reason::BadCredential, Reason::Ok]);
}

#[test]
fn an_import_that_a_crash_cut_off_is_run_again_to_its_end() {
    const KEYS: u64 = 60_000;
    let home = Home::new();
    let daemon = started(&home);
    let lines: String = (100..100 + KEYS).map(|id| format!("{id},CODE{id:08},4\n")).collect();
    let path = home.path().join("keys.csv");
    std::fs::write(&path, format!("id,code,agent\n{lines}")).unwrap();
    let mut command = Command::new(KEYWARD);
    command.args(["--json", "key", "import", path.to_str().unwrap()]).env("KEYWARD_RUNTIME", home.runtime());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the first part is there", || who(&home, 100, "CODE00000100") == Reason::Ok);
    daemon.kill();
    let cut_off = child.wait_with_output().unwrap();
    assert_eq!(cut_off.status.code(), Some(4), "{}", said(&cut_off));
    assert!(said(&cut_off).contains("the import was cut off"), "{}", said(&cut_off));
    let (acknowledged, last_line) = (counts(&cut_off)[0], report(&cut_off)["last_line"].as_u64().unwrap());
    assert!(acknowledged == 0 || last_line == acknowledged + 1);

    let _daemon = home.start();
    let again = home.run(&["--json", "key", "import", path.to_str().unwrap()]);
    let [added, changed, unchanged, refused] = counts(&again);
    assert_eq!((again.status.code(), added + unchanged, changed + refused), (Some(0), KEYS, 0));
    assert!(unchanged >= acknowledged, "{unchanged} < {acknowledged}: what was acknowledged is there");
    assert_eq!(who(&home, 99 + KEYS, &format!("CODE{:08}", 99 + KEYS)), Reason::Ok);
}

#[test]
fn a_thousand_wrong_codes_for_a_slow_id_hold_nobody_else_up() {
    const CONNECTIONS: u32 = 50;
    const EACH: u32 = 20;
    let home = Home::new();
    let _daemon = started(&home);
    let file = format!("id,hash,agent\n50,{BCRYPT_8},4\n51,{BCRYPT_8},4\n");
    assert_eq!(counts(&import(&home, "keys.csv", &file, &[])), [2, 0, 0, 0]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut attackers: Vec<Wire> = (0..CONNECTIONS).map(|_| asked(&home)).collect();
        for (number, wire) in (0..).zip(&mut attackers) {
            let codes = (0..EACH).map(|nth| raw::who(nth, &format!("key 50:WRONG-CODE-{:04}", number * EACH + nth)));
            wire.send(&codes.collect::<Vec<_>>().concat());
        }
        // Another slow id finds room in the pool.
        assert_eq!(who(&home, 51, CODE), Reason::Ok);
        let over = &over;
        scope.spawn(move || {
            for wire in &mut attackers {
                for nth in 0..EACH {
                    let (id, reason) = reason(wire.query_reply());
                    assert_eq!(id, nth, "replies keep their order");
                    assert!([Reason::BadCredential, Reason::Unavailable].contains(&reason), "{reason:?}");
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        let mut answered = 0;
        let mut others = home.query();
        while !over.load(Ordering::Relaxed) {
            assert!(others.who(raw::asker(raw::KEY)).unwrap().is_allowed());
            answered += 1;
        }
        assert!(answered > 100, "{answered} questions about another key were answered meanwhile");
    });
    // Of the attacked one, too, the right code is the right one.
    assert_eq!(who(&home, 50, CODE), Reason::Ok);
    assert_eq!(who(&home, 50, WRONG), Reason::BadCredential);
}

#[test]
fn beyond_the_pool_a_slow_id_is_unavailable_and_never_wrong() {
    const IDS: std::ops::Range<u64> = 200..280;
    let home = Home::new();
    let _daemon = started(&home);
    let lines: String = IDS.map(|id| format!("{id},{BCRYPT_10},4\n")).collect();
    assert_eq!(counts(&import(&home, "keys.csv", &format!("id,hash,agent\n{lines}"), &[])), [80, 0, 0, 0]);
    let mut wires: Vec<Wire> = IDS.map(|_| asked(&home)).collect();
    for (id, wire) in IDS.zip(&mut wires) {
        wire.send(&raw::who(1, &format!("key {id}:{CODE}")));
    }
    let reasons: Vec<Reason> = wires.iter_mut().map(|wire| reason(wire.query_reply()).1).collect();
    assert!(reasons.iter().all(|reason| [Reason::Ok, Reason::Unavailable].contains(reason)), "{reasons:?}");
    assert!(reasons.contains(&Reason::Ok) && reasons.contains(&Reason::Unavailable), "{reasons:?}");
    for id in IDS {
        wait_until("its code is proven", || match who(&home, id, CODE) {
            Reason::Ok => true,
            Reason::Unavailable => false,
            other => panic!("{other:?}"),
        });
    }
}

#[test]
fn who_sends_wrong_codes_for_a_slow_id_does_not_keep_the_right_one_out() {
    let home = Home::new();
    let _daemon = started(&home);
    let file = format!("id,hash,agent\n62,{BCRYPT_10},4\n");
    assert_eq!(counts(&import(&home, "keys.csv", &file, &[])), [1, 0, 0, 0]);
    let mut wires: Vec<Wire> = (0..3).map(|_| asked(&home)).collect();
    for (number, wire) in wires.iter_mut().enumerate() {
        wire.send(&raw::who(1, &format!("key 62:{WRONG}-{number}")));
    }
    assert_eq!(who(&home, 62, CODE), Reason::Ok, "it has its turn");
    for wire in &mut wires {
        assert_eq!(reason(wire.query_reply()), (1, Reason::BadCredential));
    }
}

#[test]
fn what_is_revoked_while_its_code_is_tried_is_not_allowed() {
    let home = Home::new();
    let _daemon = started(&home);
    let file = format!("id,hash,agent\n60,\"{ARGON2_SLOW}\",4\n61,\"{ARGON2_SLOW}\",4\n");
    assert_eq!(counts(&import(&home, "keys.csv", &file, &[])), [2, 0, 0, 0]);
    let mut admin = home.admin();
    let mut wire = asked(&home);
    wire.send(&[raw::who(1, &format!("key 60:{CODE}")), raw::who(2, raw::KEY)].concat());
    // Meanwhile others are answered, on connections of their own.
    let began = Instant::now();
    assert_eq!(home.query().who(raw::asker(raw::KEY)).unwrap().reason, Reason::Ok.number());
    let answered_after = began.elapsed();
    let revoke = AdminRequest::Remove(Selector::Credential(Mode::Key, 60));
    assert!(matches!(admin.call(&revoke).unwrap(), AdminReply::Done(_)));
    let acknowledged_after = began.elapsed();
    // On a busy host it may not come to a trial in time.
    let (id, judged) = reason(wire.query_reply());
    assert!(id == 1 && [Reason::Revoked, Reason::Unavailable].contains(&judged), "{judged:?} in {:?}", began.elapsed());
    let tried_for = began.elapsed();
    assert_eq!(reason(wire.query_reply()), (2, Reason::Ok));
    assert!(answered_after < tried_for && acknowledged_after < tried_for);
    // Who asks for the same code meanwhile waits for the same trial.
    let mut wires = [asked(&home), asked(&home), asked(&home)];
    for wire in &mut wires {
        wire.send(&raw::who(1, &format!("key 61:{CODE}")));
    }
    for wire in &mut wires {
        assert_eq!(reason(wire.query_reply()), (1, Reason::Ok));
    }
}

#[test]
fn a_token_can_be_made_from_an_imported_key_before_its_first_question_which_replaces_the_hash() {
    let home = Home::new();
    let daemon = started(&home);
    assert!(import(&home, "keys.csv", &csv_of_hashes(), &[]).status.success());
    for (id, hash, _) in HASHES {
        let mint = |code: &str| {
            let from = format!("key {id}:{code}");
            home.run_with_stdin(&["token", "mint", "--from", "-", "--ttl", "15m"], from.as_bytes())
        };
        let wrong = mint(WRONG);
        assert!(said(&wrong).contains("bad_credential"), "{hash}: {}", said(&wrong));
        let right = mint(CODE);
        assert!(right.status.success(), "{hash}: {}", said(&right));
    }
    daemon.stop();
    assert_eq!(stored_kinds(&home), [HashKind::Own; 6]);
    let _daemon = home.start();
    assert!(home.json(&["key", "show", "12"]).get("foreign_hash").is_none());
}
