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
    let since = watermark.mark.complete_since;
    let is_complete = |revision| watermark.undone_by(store, Revision(revision)).unwrap().complete;
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
    watermark.file.write_all_at(&[9], fate_at(1) + 15).unwrap();
    assert!(read_fate(&watermark.file, &watermark.key, 1).is_none());
    assert!(read_fate(&watermark.file, &watermark.key, 2).is_some());
    assert!(!watermark.undone_by(&store, Revision(0)).unwrap().complete);
}

#[test]
fn an_older_state_is_refused_and_a_later_one_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut watermark, at) = made(directory.path());
    watermark.note(&at(5), &[]).unwrap();
    assert!(watermark.take_over(&store, &at(5)).is_ok());
    assert_eq!(complete_since(&watermark, &store), 0);
    let older = watermark.take_over(&store, &at(4));
    assert!(matches!(older, Err(WatermarkError::Older { found: Revision(4), acknowledged: Revision(5), .. })));
    assert!(watermark.take_over(&store, &at(7)).is_ok());
    assert_eq!((watermark.revision(), complete_since(&watermark, &store)), (Revision(7), 7));
}

#[test]
fn a_long_list_ends_with_how_many_are_not_listed() {
    let names = (0..NAMES_LISTED_MAX + 2).map(|n| format!("key {n} (revoked)")).collect();
    let text = Undone { names, complete: false }.to_string();
    assert!(text.ends_with("key 999 (revoked), and 2 more, and older ones that can't be listed any more"));
}
