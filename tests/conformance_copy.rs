//! `tests/conformance` is a copy, so that the tests run anywhere; where the original lies beside the repository the two
//! are the same to the byte.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn the_conformance_files_are_the_originals_byte_for_byte() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let original = root.join("../shared/conformance");
    let copy = files(&root.join("tests/conformance"));
    assert!(copy.len() >= 3, "world, decisions and tags are there");
    if !original.is_dir() {
        // Not by eprintln, whose output the test harness keeps to itself when a test passes.
        let mut stderr = std::io::stderr();
        writeln!(
            stderr,
            "SKIPPED: comparing tests/conformance with its original, because {} is not there",
            original.display()
        )
        .unwrap();
        return;
    }
    let original = files(&original);
    assert_eq!(copy.keys().collect::<Vec<_>>(), original.keys().collect::<Vec<_>>(), "the same files");
    for (name, bytes) in &original {
        assert!(copy[name] == *bytes, "tests/conformance/{name} differs from its original");
    }
}
