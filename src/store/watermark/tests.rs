use super::error::NAMES_LISTED_MAX;
use super::*;

fn pepper() -> Pepper {
    Pepper::new(Zeroizing::new([7; 32]))
}

/// An empty database and its watermark; `at` is its head as if so many revisions had been committed.
fn made(directory: &Path) -> (Store, Watermark, impl Fn(u64) -> Head) {
    let (store, loaded) = Store::open(directory, &pepper(), &mut |_| {}).unwrap();
    let watermark = Watermark::make(directory, &pepper(), &loaded.head).unwrap();
    let at = move |revision| {
        let mut head = loaded.head.clone();
        head.row.revision = revision;
        head
    };
    (store, watermark, at)
}

fn key(id: u64) -> RecordKey {
    RecordKey::Credential(Mode::Key, Id::new(id).unwrap())
}

/// The first revision of which everything since is known.
fn complete_since(watermark: &Watermark, store: &Store) -> u64 {
    let since = watermark.mark.rings[Half::Lasting as usize].complete_since;
    let undone = |revision| watermark.undone_by(store, Some(Revision(revision))).unwrap();
    let is_complete = |revision| !undone(revision).incomplete.contains(&Half::Lasting);
    assert!(is_complete(since) && (since == 0 || !is_complete(since - 1)));
    since
}

#[test]
fn the_last_fates_are_kept_and_what_was_given_up_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut watermark, at) = made(directory.path());
    for revision in 1..=FATES_MAX {
        watermark.note(&at(revision), &[(key(revision), Fate::Ended)]).unwrap();
    }
    assert_eq!(complete_since(&watermark, &store), 0);
    for revision in FATES_MAX + 1..=FATES_MAX + 3 {
        watermark.note(&at(revision), &[(key(revision), Fate::Ended)]).unwrap();
    }
    // Those of the revisions 1 to 3 are gone.
    assert_eq!(complete_since(&watermark, &store), 3);
    let found = Watermark::find(directory.path(), &pepper()).unwrap().unwrap();
    assert_eq!((found.revision(), complete_since(&found, &store)), (Revision(FATES_MAX + 3), 3));
    let many: Vec<_> = (1..=2 * FATES_MAX).map(|id| (key(id), Fate::Disabled)).collect();
    watermark.note(&at(FATES_MAX + 4), &many).unwrap();
    assert_eq!(complete_since(&watermark, &store), FATES_MAX + 4, "more in one commit than are kept");
}

#[test]
fn a_fate_that_does_not_prove_itself_is_not_told_and_missed() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut watermark, at) = made(directory.path());
    for revision in 1..=3 {
        watermark.note(&at(revision), &[(key(revision), Fate::Ended)]).unwrap();
    }
    let read = |watermark: &Watermark, half, number| read_fate(&watermark.file, &watermark.key, half, number).is_some();
    watermark.file.write_all_at(&[9], fate_at(Half::Lasting, 1) + 15).unwrap();
    assert!(!read(&watermark, Half::Lasting, 1) && read(&watermark, Half::Lasting, 2));
    assert_eq!(watermark.undone_by(&store, Some(Revision(0))).unwrap().incomplete, [Half::Lasting]);
    // One half's is none of the other's.
    let mut sealed = [0; FATE_BYTES];
    watermark.file.read_exact_at(&mut sealed, fate_at(Half::Lasting, 2)).unwrap();
    watermark.file.write_all_at(&sealed, fate_at(Half::Passing, 2)).unwrap();
    assert!(!read(&watermark, Half::Passing, 2));
}

#[test]
fn fates_that_could_not_be_written_are_missed() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut watermark, at) = made(directory.path());
    watermark.reopen(false);
    assert!(watermark.note(&at(1), &[(key(1), Fate::Ended)]).is_err());
    watermark.reopen(true);
    watermark.note(&at(2), &[]).unwrap();
    assert_eq!(complete_since(&watermark, &store), 1);
}

fn set_back(taken: Result<(), WatermarkError>) -> Setback {
    let setback = match taken {
        Err(WatermarkError::SetBack { setback, .. }) => Some(*setback),
        Err(_) | Ok(()) => None,
    };
    setback.unwrap()
}

#[test]
fn an_older_state_is_refused_and_a_later_one_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut watermark, at) = made(directory.path());
    watermark.note(&at(5), &[]).unwrap();
    assert!(watermark.take_over(&store, &at(5)).is_ok());
    assert_eq!(complete_since(&watermark, &store), 0);
    let older = watermark.take_over(&store, &at(4));
    let setback = set_back(older);
    assert_eq!((setback.way, setback.found, setback.acknowledged), (Way::Older, Revision(4), Revision(5)));
    assert!(watermark.take_over(&store, &at(7)).is_ok());
    assert_eq!((watermark.revision(), complete_since(&watermark, &store)), (Revision(7), 7));
}

#[test]
fn a_long_list_ends_with_how_many_are_not_listed() {
    let names = (0..NAMES_LISTED_MAX + 2).map(|n| format!("key {n} (revoked)")).collect();
    let text = Undone { names, incomplete: Half::ALL.to_vec() }.to_string();
    assert!(text.ends_with("key 999 (revoked), and 2 more, and older ones that can't be listed any more"));
    let text = Undone { names: vec!["key 1 (revoked)".into()], incomplete: vec![Half::Passing] }.to_string();
    assert!(text.ends_with("key 1 (revoked), and older tokens and sessions that can't be listed any more"), "{text}");
}

#[test]
fn a_day_of_logouts_displaces_no_key_that_was_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut watermark, at) = made(directory.path());
    watermark.note(&at(1), &[(key(1), Fate::Ended)]).unwrap();
    let session = |id| (RecordKey::Credential(Mode::Session, Id::new(id).unwrap()), Fate::Ended);
    let logouts: Vec<_> = (1..=2 * FATES_MAX).map(session).collect();
    for (revision, logouts) in (2..).zip(logouts.chunks(1000)) {
        watermark.note(&at(revision), logouts).unwrap();
    }
    let found = Watermark::find(directory.path(), &pepper()).unwrap().unwrap();
    assert_eq!(complete_since(&found, &store), 0);
    let (_, revoked) = read_fate(&found.file, &found.key, Half::Lasting, 0).unwrap();
    assert_eq!(revoked, key(1));
    assert_eq!(found.undone_by(&store, Some(Revision(0))).unwrap().incomplete, [Half::Passing]);
}

/// A database with one audit record for each of `texts`, and its head.
fn told_of(store: &Store, head: &Head, texts: &[&str]) -> Head {
    texts.iter().fold(head.clone(), |head, text| {
        let mut transaction = store.begin(&head).unwrap();
        transaction.append_audit(UnixSeconds(1), text).unwrap();
        transaction.set_clock_back(UnixSeconds(1)).unwrap()
    })
}

#[test]
fn a_state_follows_from_the_last_one_if_its_audit_has_the_last_record() {
    let cases: [(&str, &[&str], bool); 7] = [
        ("the last one", &["a", "b"], true),
        ("of the same revision, another's", &["a", "x"], false),
        ("later", &["a", "b", "c"], true),
        ("later, another's", &["a", "x", "c"], false),
        ("another's from its beginning", &["x", "b", "c"], false),
        ("much later", &["a", "b", "c", "d"], true),
        ("much later, another's", &["a", "x", "c", "d"], false),
    ];
    for retention in [false, true] {
        for (case, texts, follows) in cases {
            let directory = tempfile::tempdir().unwrap();
            let (store, loaded) = Store::open(directory.path(), &pepper(), &mut |_| {}).unwrap();
            let mut watermark = Watermark::make(directory.path(), &pepper(), &loaded.head).unwrap();
            let last = tempfile::tempdir().unwrap();
            let (last, empty) = Store::open(last.path(), &pepper(), &mut |_| {}).unwrap();
            watermark.note(&told_of(&last, &empty.head, &["a", "b"]), &[]).unwrap();
            let mut head = told_of(&store, &loaded.head, texts);
            if retention {
                let mut transaction = store.begin(&head).unwrap();
                let keep = crate::store::Retention { age: std::time::Duration::ZERO, bytes: 0 };
                transaction.drop_old_audit(UnixSeconds(100), &keep).unwrap();
                head = transaction.commit(UnixSeconds(100)).unwrap();
            }
            // What was dropped can't be told; of four the third is the one before the oldest.
            let follows = follows || (retention && texts.len() == 4);
            let taken = watermark.take_over(&store, &head);
            assert_eq!(taken.is_ok(), follows, "{case}, retention {retention}: {taken:?}");
            if !follows {
                assert_eq!(set_back(taken).way, Way::Another);
            }
        }
    }
}
