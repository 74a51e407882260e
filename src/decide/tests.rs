use std::sync::Arc;

use zeroize::Zeroizing;

use super::*;
use crate::directory::Compiler;
use crate::model::record::Label;
use crate::model::secret::hashes_made;
use crate::model::{Binding, Code, Codes, Credential, Endpoint, Id, Method, Modes, Record, Revision, Template};
use crate::tags::{Tag, TagSet};

const NOW: UnixSeconds = UnixSeconds(1000);
const CODE: &str = "YWK2PGCS8CNW62SR8TBTBKWMY";

/// Of these keys, 1 is as usual, 2 was revoked, 3 is disabled and 4 expired.
fn directory() -> Compiler {
    let pepper = Arc::new(Pepper::new(Zeroizing::new([7; 32])));
    let key = |id: u64| {
        let code = Code::parse(Mode::Key, CODE.as_bytes()).unwrap();
        Record::Credential(Credential {
            mode: Mode::Key,
            id: Id::new(id).unwrap(),
            label: Label::default(),
            binding: Binding::Superuser { default: None },
            tags: Arc::new(TagSet::everything()),
            codes: Codes { current: pepper.hash(Mode::Key, id, code.presented()), retiring: None },
            enabled: id != 3,
            revoked: id == 2,
            not_before: None,
            expires_at: (id == 4).then_some(NOW),
            allow_ip: None,
            app_id: None,
            rate: None,
            parent: None,
            foreign: None,
        })
    };
    let records: Vec<Record> = (1..=4).map(key).collect();
    let mut compiler = Compiler::new(pepper);
    compiler.apply(&records, Revision(1));
    compiler
}

#[test]
fn whether_an_id_exists_shows_neither_in_the_answer_nor_in_the_hashes_that_it_costs() {
    let compiler = directory();
    let ask = |credential: &str| {
        let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
        let before = hashes_made();
        let verdict = Inquiry::new(compiler.directory(), asker, NOW).decide(&Target::Nobody);
        let reason = match verdict {
            Verdict::Deny(reason) => Some(reason),
            Verdict::Allow(_) | Verdict::Unavailable => None,
        };
        (reason, hashes_made() - before)
    };
    let wrong = "WRONGWRONGWRONGWRONGWRONG";
    for id in ["key 1", "key 2", "key 3", "key 4", "key 5", "key 9007199254740991", "token 1", "session 1"] {
        assert_eq!(ask(&format!("{id}:{wrong}")), (Some(Reason::BadCredential), 1), "{id}");
    }
    // With the right code the state is told.
    let told = [("key 2", Reason::Revoked), ("key 3", Reason::Disabled), ("key 4", Reason::Expired)];
    for (id, reason) in told {
        assert_eq!(ask(&format!("{id}:{CODE}")), (Some(reason), 1), "{id}");
    }
}

#[test]
fn an_endpoint_that_was_sought_ahead_is_the_answer_to_the_same_target_only() {
    let mut compiler = directory();
    let endpoint = |path: &str, modes| {
        Record::Endpoint(Endpoint {
            method: Method::parse("GET").unwrap(),
            template: Template::parse(path).unwrap(),
            tags: vec![Tag::parse("a").unwrap()],
            modes,
            removed: false,
        })
    };
    let endpoints = [endpoint("/public", Modes::PUBLIC), endpoint("/secret", Modes::ALL)];
    compiler.apply(&endpoints, Revision(2));
    let target = |path: &'static [u8]| Target::Endpoint { method: b"GET", path };
    let mut inquiry = Inquiry::new(compiler.directory(), Asker::default(), NOW);
    inquiry.seek(&target(b"/public"));
    assert_eq!(inquiry.decide(&target(b"/secret")), Verdict::Deny(Reason::MissingCredential));
    assert!(matches!(inquiry.decide(&target(b"/public")), Verdict::Allow(_)));
    inquiry.seek(&target(b"/secret"));
    assert_eq!(inquiry.decide(&target(b"/secret")), Verdict::Deny(Reason::MissingCredential));
    inquiry.seek(&Target::Nobody);
    assert!(matches!(inquiry.decide(&target(b"/public")), Verdict::Allow(_)));
}
