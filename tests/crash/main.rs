//! Promise 2.5: after a crash at any instant every acknowledged change is there and the daemon starts without help.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

#[path = "../support/mod.rs"]
mod support;
mod system_calls;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, Apply, CredentialPatch, CredentialRecord, EndpointPatch, Kind, List, Patch,
    Record, Secret, Selector, SetText, StatusReport,
};
use keyward_proto::client::{AdminClient, ApplyOutcome, ClientError};
use keyward_proto::query::{Asker, Check, Mode, QueryReply, QueryRequest, Reason, Target};
use support::{Dice, Home, say};

/// Kills of one daemon that is written to.
const CYCLES: u64 = 100;
/// Tokens that each apply changes together.
const BATCH: u64 = 40;
/// Keys of the large apply.
const LARGE: u64 = 5_000;

fn agent_patch(id: u64) -> Patch {
    Patch::Agent(AgentPatch {
        id: Some(id),
        name: Some(format!("Agent {id}")),
        permissions: Some(SetText::Text("*".into())),
        ..AgentPatch::default()
    })
}

fn credential_patch(mode: Mode, id: Option<u64>, label: &str, code: &str) -> CredentialPatch {
    CredentialPatch {
        label: Some(label.into()),
        code: Some(Secret::new(code.as_bytes().to_vec())),
        agent: Some(1),
        ..CredentialPatch::new(mode, id)
    }
}

/// Agent 1 and the endpoint `GET /x`.
fn make_world(admin: &mut AdminClient) {
    let endpoint =
        EndpointPatch { method: "GET".into(), path: "/x".into(), tags: Some(vec!["x.get".into()]), modes: None };
    apply(admin, vec![agent_patch(1), Patch::Endpoint(endpoint)], None).unwrap();
}

/// One transaction; what `prune` names is pruned. `None` when the daemon died meanwhile.
fn apply(admin: &mut AdminClient, patches: Vec<Patch>, prune: Option<Kind>) -> Option<()> {
    let parts = alive(admin.upload(patches))?;
    let apply = Apply { parts, sections: prune.into_iter().collect(), prune: prune.is_some(), dry_run: false };
    match alive(admin.apply(&apply))? {
        ApplyOutcome::Report(_) => Some(()),
        ApplyOutcome::Refused(refused) => panic!("refused: {}", refused.message),
    }
}

/// What came back, unless the daemon died.
fn alive<T>(result: Result<T, ClientError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(ClientError::Closed | ClientError::Io(_) | ClientError::Connect { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn list(admin: &mut AdminClient, mode: Mode) -> Vec<CredentialRecord> {
    let (mut found, mut after) = (Vec::new(), Vec::new());
    loop {
        let request = AdminRequest::List(List::all(mode.into(), after));
        let AdminReply::Page(page) = admin.call(&request).unwrap() else {
            panic!("no page");
        };
        found.extend(page.records.into_iter().map(|record| match record {
            Record::Credential(credential) => credential,
            Record::Agent(_) | Record::Endpoint(_) => panic!("not a credential"),
        }));
        match page.next {
            Some(next) => after = next,
            None => return found,
        }
    }
}

fn status(admin: &mut AdminClient) -> StatusReport {
    let AdminReply::Status(status) = admin.call(&AdminRequest::Status).unwrap() else {
        panic!("no status");
    };
    status
}

/// The reasons that `GET /x` gets with each of these credentials.
fn reasons(home: &Home, credentials: &[String]) -> Vec<Reason> {
    let requests: Vec<QueryRequest<'_>> = credentials
        .iter()
        .map(|credential| {
            QueryRequest::Check(Check {
                asker: Asker { credential: Some(credential.as_bytes()), ..Asker::default() },
                target: Target::Endpoint { method: b"GET", path: b"/x" },
            })
        })
        .collect();
    let replies = home.query().check_all(&requests).unwrap();
    let reason = |reply| match reply {
        QueryReply::Verdict(verdict) => Reason::from_number(verdict.reason).unwrap(),
        QueryReply::Batch(_) | QueryReply::Error(_) => panic!("no verdict"),
    };
    replies.into_iter().map(reason).collect()
}

/// What one writer knows of the credentials of its mode.
struct Book {
    mode: Mode,
    known: BTreeMap<u64, Entry>,
    /// Sent, and not acknowledged.
    in_flight: Option<Intent>,
    made: u64,
    acknowledged: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    label: String,
    code: String,
    enabled: bool,
    revoked: bool,
}

enum Intent {
    Add(Entry),
    Change(u64, Entry),
}

impl Book {
    fn new(mode: Mode) -> Self {
        Self { mode, known: BTreeMap::new(), in_flight: None, made: 0, acknowledged: 0 }
    }

    /// Adds, switches and revokes until the daemon dies.
    fn write(&mut self, home: &Home, dice: &mut Dice) {
        let Ok(mut admin) = AdminClient::connect(&home.runtime().join("admin.sock")) else {
            return;
        };
        while self.step(&mut admin, dice).is_some() {
            self.acknowledged += 1;
        }
    }

    fn step(&mut self, admin: &mut AdminClient, dice: &mut Dice) -> Option<()> {
        let live: Vec<u64> = self.known.iter().filter(|(_, e)| !e.revoked).map(|(id, _)| *id).collect();
        let what = dice.below(4);
        if what < 2 || live.is_empty() {
            return self.add(admin);
        }
        let id = live[dice.place(live.len())];
        let mut entry = self.known[&id].clone();
        let request = if what == 2 {
            entry.enabled = !entry.enabled;
            let enabled = Some(entry.enabled);
            AdminRequest::Set(Patch::Credential(CredentialPatch {
                enabled,
                ..CredentialPatch::new(self.mode, Some(id))
            }))
        } else {
            entry.revoked = true;
            AdminRequest::Remove(Selector::Credential(self.mode, id))
        };
        self.in_flight = Some(Intent::Change(id, entry.clone()));
        self.done(alive(admin.call(&request))?);
        self.known.insert(id, entry);
        Some(())
    }

    fn add(&mut self, admin: &mut AdminClient) -> Option<()> {
        self.made += 1;
        let (label, code) = (format!("made {}", self.made), format!("CODE{:021}", self.made));
        let request = AdminRequest::Add(Patch::Credential(credential_patch(self.mode, None, &label, &code)));
        let entry = Entry { label, code, enabled: true, revoked: false };
        self.in_flight = Some(Intent::Add(entry.clone()));
        let record = self.done(alive(admin.call(&request))?);
        let Some(Record::Credential(record)) = record else {
            panic!("no record of what was added");
        };
        let highest = self.known.last_key_value().map_or(0, |(id, _)| *id);
        assert!(record.id > highest, "{} {} was given again: {highest} was reached", self.mode.name(), record.id);
        self.known.insert(record.id, entry);
        Some(())
    }

    /// The change was acknowledged.
    fn done(&mut self, reply: AdminReply) -> Option<Record> {
        self.in_flight = None;
        let AdminReply::Done(done) = reply else {
            panic!("a change was refused");
        };
        done.record
    }

    /// After a crash: what was acknowledged is there, what was not is there whole or not at all.
    fn verify(&mut self, home: &Home, admin: &mut AdminClient) {
        let listed = list(admin, self.mode);
        for record in &listed {
            let found = |code: &str| Entry {
                label: record.label.clone(),
                code: code.into(),
                enabled: record.enabled,
                revoked: record.revoked,
            };
            match (self.known.get(&record.id), &self.in_flight) {
                (Some(entry), Some(Intent::Change(id, changed))) if *id == record.id => {
                    let found = found(&entry.code);
                    assert!(found == *entry || found == *changed, "half a change: {found:?}, {entry:?}, {changed:?}");
                    self.known.insert(record.id, found);
                }
                (Some(entry), _) => assert_eq!(found(&entry.code), *entry, "{} {}", self.mode.name(), record.id),
                (None, Some(Intent::Add(entry))) => {
                    assert_eq!(found(&entry.code), *entry);
                    self.known.insert(record.id, entry.clone());
                }
                (None, _) => panic!("{} {} was never asked for", self.mode.name(), record.id),
            }
        }
        assert_eq!(listed.len(), self.known.len(), "an acknowledged {} is gone", self.mode.name());
        self.in_flight = None;
        let credential = |(id, entry): (&u64, &Entry)| format!("{} {id}:{}", self.mode.name(), entry.code);
        let credentials: Vec<String> = self.known.iter().map(credential).collect();
        for ((id, entry), reason) in self.known.iter().zip(reasons(home, &credentials)) {
            let expected = match (entry.revoked, entry.enabled) {
                (true, _) => Reason::Revoked,
                (false, false) => Reason::Disabled,
                (false, true) => Reason::Ok,
            };
            assert_eq!(reason, expected, "{} {id}", self.mode.name());
        }
    }
}

/// The writer of whole files: each changes the same tokens, adds one and ends the one that the file before added.
struct Files {
    acknowledged: u64,
    /// The file that was sent last.
    sent: u64,
}

impl Files {
    fn write(&mut self, home: &Home) {
        let Ok(mut admin) = AdminClient::connect(&home.runtime().join("admin.sock")) else {
            return;
        };
        loop {
            self.sent += 1;
            if apply(&mut admin, Self::file(self.sent), Some(Kind::Token)).is_none() {
                return;
            }
            self.acknowledged = self.sent;
        }
    }

    fn file(number: u64) -> Vec<Patch> {
        let label = format!("file {number}");
        let ids = (1..=BATCH).chain([BATCH + number]);
        ids.map(|id| Patch::Credential(credential_patch(Mode::Token, Some(id), &label, &Self::code(id, number))))
            .collect()
    }

    fn code(id: u64, number: u64) -> String {
        format!("TOKEN{id:010}{number:010}")
    }

    /// Every token is of one file: the last acknowledged one or, if it got through, the one that was sent last.
    fn verify(&mut self, home: &Home, admin: &mut AdminClient) {
        let listed = list(admin, Mode::Token);
        let Some(first) = listed.first() else {
            assert_eq!(self.acknowledged, 0, "every token is gone");
            self.sent = 0;
            return;
        };
        let number: u64 = first.label.strip_prefix("file ").unwrap().parse().unwrap();
        assert!(number == self.acknowledged || number == self.sent, "{number} after {}", self.acknowledged);
        self.acknowledged = number;
        // A number that was not applied is not known to be unused: the next file takes another.
        self.sent = self.sent.max(number);
        let live: Vec<&CredentialRecord> = listed.iter().filter(|record| !record.revoked).collect();
        let ids: Vec<u64> = live.iter().map(|record| record.id).collect();
        assert_eq!(ids, (1..=BATCH).chain([BATCH + number]).collect::<Vec<_>>(), "half of a file was applied");
        assert!(live.iter().all(|record| record.label == first.label), "half of a file was applied");
        let codes: Vec<String> = ids.iter().map(|id| format!("token {id}:{}", Self::code(*id, number))).collect();
        assert!(reasons(home, &codes).into_iter().all(|reason| reason == Reason::Ok));
    }
}

#[test]
fn every_acknowledged_change_outlives_a_hundred_kills_and_no_other_is_there_in_part() {
    let mut dice = Dice::roll("kills during writes");
    let home = Home::new();
    let daemon = home.start();
    make_world(&mut home.admin());
    daemon.kill();
    let mut books = [Book::new(Mode::Key), Book::new(Mode::Session)];
    let mut files = Files { acknowledged: 0, sent: 0 };
    let mut revision = 0;
    // What an earlier first start left behind says nothing to a database that is there.
    std::fs::write(home.data().join("keyward.redb.new"), "left behind").unwrap();
    for _ in 0..CYCLES {
        let daemon = home.start();
        let mut admin = home.admin();
        let status = status(&mut admin);
        assert!(status.alarms.is_empty() && status.writable, "{:?}", status.alarms);
        assert!(status.revision >= revision, "revision {} after {revision}", status.revision);
        revision = status.revision;
        books.iter_mut().for_each(|book| book.verify(&home, &mut admin));
        files.verify(&home, &mut admin);
        let instant = Duration::from_micros(dice.below(100_000));
        let mut seeds = [Dice::seeded(dice.below(u64::MAX)), Dice::seeded(dice.below(u64::MAX))];
        std::thread::scope(|scope| {
            for (book, dice) in books.iter_mut().zip(&mut seeds) {
                scope.spawn(|| book.write(&home, dice));
            }
            scope.spawn(|| files.write(&home));
            std::thread::sleep(instant);
            daemon.kill();
        });
    }
    let acknowledged: u64 = books.iter().map(|book| book.acknowledged).sum();
    say(&format!("{CYCLES} kills, {acknowledged} single changes and {} files acknowledged", files.acknowledged));
    assert!(acknowledged > CYCLES && files.acknowledged > 0, "hardly anything was written: {acknowledged}");
    let _daemon = home.start();
    let mut admin = home.admin();
    books.iter_mut().for_each(|book| book.verify(&home, &mut admin));
    files.verify(&home, &mut admin);
}

#[test]
fn an_upload_that_ends_without_its_apply_leaves_nothing() {
    let home = Home::new();
    let daemon = home.start();
    let mut admin = home.admin();
    make_world(&mut admin);
    let revision = status(&mut admin).revision;
    let patches = |count| (1..=count).map(large_key);
    let mut gone = home.admin();
    assert!(gone.upload(patches(9_000)).unwrap() >= 2);
    drop(gone);
    let mut interrupted = home.admin();
    interrupted.upload(patches(10)).unwrap();
    assert!(list(&mut admin, Mode::Key).is_empty());
    assert_eq!(status(&mut admin).revision, revision);
    // Another connection can't commit it.
    let apply = Apply { parts: 1, sections: Vec::new(), prune: false, dry_run: false };
    assert!(matches!(admin.apply(&apply).unwrap(), ApplyOutcome::Refused(_)));
    daemon.kill();
    let _daemon = home.start();
    let mut admin = home.admin();
    assert!(list(&mut admin, Mode::Key).is_empty());
    assert_eq!(status(&mut admin).revision, revision);
}

fn large_key(id: u64) -> Patch {
    Patch::Credential(credential_patch(Mode::Key, Some(id), "large", &format!("LARGE{id:020}")))
}

#[test]
fn an_apply_of_five_thousand_keys_that_is_killed_is_there_whole_or_not_at_all() {
    let mut dice = Dice::roll("kills during an apply");
    let patches = || (1..=LARGE).map(large_key).collect::<Vec<_>>();
    let mut took = None;
    let (mut whole, mut none) = (0, 0);
    for round in 0..8 {
        let home = Home::new();
        let daemon = home.start();
        let mut admin = home.admin();
        make_world(&mut admin);
        let parts = admin.upload(patches()).unwrap();
        let apply = Apply { parts, sections: vec![Kind::Key], prune: true, dry_run: false };
        let mut acknowledged = false;
        std::thread::scope(|scope| {
            let begun = Instant::now();
            let applying = scope.spawn(move || admin.apply(&apply).is_ok());
            if let Some(took) = took {
                // From the first moment to a little behind the usual last.
                std::thread::sleep(Duration::from_micros(dice.below(took * 11 / 10)));
                daemon.kill();
            }
            acknowledged = applying.join().unwrap();
            took.get_or_insert(u64::try_from(begun.elapsed().as_micros()).unwrap());
        });
        let _daemon = home.start();
        let found = list(&mut home.admin(), Mode::Key).len() as u64;
        assert!(found == LARGE || found == 0 && !acknowledged, "round {round}: {found}, acknowledged: {acknowledged}");
        let ids = [1, 2_500, LARGE];
        let codes: Vec<String> = ids.iter().map(|id| format!("key {id}:LARGE{id:020}")).collect();
        let expected = if found == 0 { Reason::BadCredential } else { Reason::Ok };
        assert_eq!(reasons(&home, &codes), [expected; 3]);
        if found == 0 { none += 1 } else { whole += 1 }
    }
    say(&format!("killed applies: {whole} whole, {none} not at all"));
}
