//! The vectors were made with Python's hashlib, bcrypt and argon2-cffi.

use super::*;
use crate::model::secret::PEPPER_BYTES;

const CODE: &str = "LEGACY-CODE-0001";
const ID: u64 = 42;

const DIGESTS: [&str; 12] = [
    "sha256:a48497fdbea54811c04069c8fa2d3cca364a3bc2e1acc88493b748176b33a298",
    "sha256:pISX/b6lSBHAQGnI+i08yjZKO8LhrMiEk7dIF2szopg=",
    "sha256:pISX_b6lSBHAQGnI-i08yjZKO8LhrMiEk7dIF2szopg",
    "sha256-id-code:DB1625843C409812AC6CAF14E0C334B80306C5B5CDC9FF24AF0C181A86443E00",
    "sha256-id-code:2xYlhDxAmBKsbK8U4MM0uAMGxbXNyf8krwwYGoZEPgA=",
    "sha256-id-code:2xYlhDxAmBKsbK8U4MM0uAMGxbXNyf8krwwYGoZEPgA",
    "sha512:191c2c44297af97e32bcd0b777192e48cbb23ca04f99d97a371a514a25fe0eefbe68dad3653d746fff42dc95ae374a4fef52e1b7aacec85e3eefa3e06a55f343",
    "sha512:GRwsRCl6+X4yvNC3dxkuSMuyPKBPmdl6NxpRSiX+Du++aNrTZT10b/9C3JWuN0pP71Lht6rOyF4+76PgalXzQw==",
    "sha512:GRwsRCl6-X4yvNC3dxkuSMuyPKBPmdl6NxpRSiX-Du--aNrTZT10b_9C3JWuN0pP71Lht6rOyF4-76PgalXzQw",
    "sha512-id-code:51eb8b102cc58d9c844b9e3d770be38588c9521537841729aecb96ce99d0cfc68d83a4f94ac7c39a49ebe4ff139f2d1b8dde95602cc97e5ac762d64a385e6149",
    "sha512-id-code:UeuLECzFjZyES549dwvjhYjJUhU3hBcprsuWzpnQz8aNg6T5SsfDmknr5P8Tny0bjd6VYCzJflrHYtZKOF5hSQ==",
    "sha512-id-code:UeuLECzFjZyES549dwvjhYjJUhU3hBcprsuWzpnQz8aNg6T5SsfDmknr5P8Tny0bjd6VYCzJflrHYtZKOF5hSQ",
];

const SLOW: [&str; 5] = [
    "$2b$04$wFMHFcuNEzcLR5dCwkDWMOQpmgSxDQsjSSvs56Q5N4ibGK1SSXor6",
    "$2a$04$4YMep9ueYvXQTXCoqVBoBOYt0Lx9BuT7/HA7aiEsWLAOKmvAaMK2K",
    "$2y$05$iIlJv4v9z1txAe5b0ojO/ewpk8xZmE.qLIKAhNHaTFTH.UkU5eEh2",
    "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$jvC+lChZDlQHU0yCqS6P3g",
    "$argon2id$v=19$m=256,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$+C+lOgPVSK/TuKyYfhFLBcy7yBUQNxnKuTyEQsN/+Cc",
];

fn pepper(byte: u8) -> Pepper {
    Pepper::new(Zeroizing::new([byte; PEPPER_BYTES]))
}

fn code(text: &str) -> PresentedCode<'_> {
    PresentedCode::parse(text.as_bytes()).unwrap()
}

fn given(text: &str) -> GivenHash {
    GivenHash::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn id(id: u64) -> Id {
    Id::new(id).unwrap()
}

#[test]
fn every_form_of_a_digest_is_that_of_its_code_and_of_no_other() {
    for text in DIGESTS {
        let GivenHash::Digest(digest) = given(text) else { panic!("{text}") };
        assert!(*digest == Digest::of(digest.kind, ID, code(CODE)), "{text}");
        assert!(*digest != Digest::of(digest.kind, ID, code("LEGACY-CODE-0002")), "{text}");
        assert_eq!(*digest == Digest::of(digest.kind, ID + 1, code(CODE)), !digest.kind.has_id(), "{text}");
    }
}

#[test]
fn a_slow_hash_proves_its_code_and_no_other() {
    for text in SLOW {
        let slow = SlowHash::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(slow.verify(code(CODE)), Some(true), "{text}");
        assert_eq!(slow.verify(code("LEGACY-CODE-0002")), Some(false), "{text}");
        assert_eq!(slow.verify(code("LEGACY-CODE-00011")), Some(false), "{text}");
    }
    // bcrypt itself looks at the first 72 bytes.
    let long = SlowHash::parse(b"$2b$04$SsciO7UqbFZvSzhC8v0yVOGdn8bzzF5ffpB964OowU5HxSeMVCAIK").ok().unwrap();
    assert_eq!(long.verify(code(&"L".repeat(100))), Some(true));
    assert_eq!(long.verify(code(&"L".repeat(71))), Some(false));
}

#[test]
fn what_is_stored_of_a_digest_is_keyed_with_pepper_kind_mode_and_id() {
    for text in DIGESTS {
        let stored = |byte, mode, number| given(text).stored(&pepper(byte), mode, id(number)).0;
        let first = stored(1, Mode::Key, ID);
        assert!(first == stored(1, Mode::Key, ID) && first.is_foreign());
        for other in [stored(2, Mode::Key, ID), stored(1, Mode::Token, ID), stored(1, Mode::Key, ID + 1)] {
            assert!(first.as_bytes() != other.as_bytes(), "{text}");
        }
        let GivenHash::Digest(digest) = given(text) else { panic!("{text}") };
        assert!(first.as_bytes() != &digest.bytes[..32], "{text}: the digest itself is not stored");
        assert!(first.as_bytes() != pepper(1).hash(Mode::Key, ID, code(CODE)).as_bytes());
    }
    // Every kind has a first byte of its own before the same id and bytes.
    let all = HashKind::ALL.map(|kind| *pepper(1).keyed(kind, Mode::Key, ID, CODE.as_bytes()).as_bytes());
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn what_an_export_writes_of_a_hash_is_the_same_hash_again() {
    for text in DIGESTS {
        let stored = given(text).stored(&pepper(1), Mode::Key, id(ID)).0;
        let exported = stored.expose_text().unwrap();
        assert!(given(str::from_utf8(&exported).unwrap()).stored(&pepper(1), Mode::Key, id(ID)).0 == stored);
    }
    for text in SLOW {
        let (fingerprint, slow) = given(text).stored(&pepper(1), Mode::Key, id(ID));
        assert!(fingerprint.kind() == HashKind::Slow && fingerprint.expose_text().is_none());
        assert_eq!(slow.unwrap().expose(), text);
    }
    for kind in HashKind::ALL {
        assert_eq!(HashKind::from_number(kind.number()), Some(kind));
    }
}

#[test]
fn what_is_no_hash_is_refused_with_what_would_be_one_and_without_the_text() {
    let salt = "c2FsdHNhbHQ";
    let hash = "jvC+lChZDlQHU0yCqS6P3g";
    let argon2 = |costs: &str| format!("$argon2id$v=19${costs}${salt}${hash}");
    let table = [
        (String::new(), "no hash that is known"),
        ("md5:0cc175b9c0f1b6a831c399e269772661".into(), "no hash that is known"),
        ("a48497fdbea54811c04069c8fa2d3cca364a3bc2e1acc88493b748176b33a298".into(), "no hash that is known"),
        ("SHA256:a48497fdbea54811c04069c8fa2d3cca364a3bc2e1acc88493b748176b33a298".into(), "no hash that is known"),
        (DIGESTS[0][..70].into(), "64 hexadecimal digits, or 32 bytes in base64"),
        (DIGESTS[0].replace('f', "g"), "64 hexadecimal digits"),
        (format!("{}=", DIGESTS[1]), "in base64"),
        (DIGESTS[1].replace('/', " "), "in base64"),
        (DIGESTS[1].replace("sha256", "sha512"), "128 hexadecimal digits"),
        ("keyward:00".into(), "an export has 64"),
        ("keyward-md5:00".into(), "an export has 64"),
        (SLOW[0].replace("$2b$", "$2x$"), "a bcrypt hash is"),
        (SLOW[0][..59].into(), "a bcrypt hash is"),
        (SLOW[0].replace("$04$", "$4$"), "a bcrypt hash is"),
        (SLOW[0].replace('w', "é"), "a bcrypt hash is"),
        (SLOW[0].replace("$04$", "$03$"), "a bcrypt cost of 3 is not taken"),
        (SLOW[0].replace("$04$", "$15$"), "a bcrypt cost of 15 is not taken"),
        ("$1$abcdefgh$0123456789abcdef012345".into(), "no hash that is known"),
        (argon2("m=64,t=1,p=1").replace("argon2id", "argon2i"), "is taken as $argon2id$"),
        (argon2("m=64,t=1,p=1").replace("v=19", "v=16"), "is taken as $argon2id$"),
        (argon2("m=64,t=1"), "is taken as $argon2id$"),
        (argon2("m=64,t=1,p=1,keyid=aaaa"), "is taken as $argon2id$"),
        (argon2("m=64,t=1,p=1") + "$x", "is taken as $argon2id$"),
        (argon2("m=4,t=1,p=1"), "is taken as $argon2id$"),
        (argon2("m=64,t=0,p=1"), "is taken as $argon2id$"),
        (argon2("m=+64,t=1,p=1"), "is taken as $argon2id$"),
        (argon2("m=99999999999,t=1,p=1"), "is taken as $argon2id$"),
        (argon2("m=64,t=1,p=1").replace(hash, "jvC+lChZ"), "is taken as $argon2id$"),
        (argon2("m=131073,t=1,p=1"), "m=131073,t=1,p=1 is not taken"),
        (argon2("m=131072,t=9,p=1"), "is not taken"),
        (argon2("m=8,t=4294967295,p=1"), "is not taken"),
        (argon2("m=4096,t=1,p=17"), "is not taken"),
        (format!("$argon2id${}", "x".repeat(300)), "no hash that is known"),
    ];
    for (text, why) in table {
        let error = GivenHash::parse(text.as_bytes()).map(drop).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
        for secret in [&text[..], salt, hash, "a48497"].into_iter().filter(|secret| !secret.is_empty()) {
            assert!(!error.contains(secret), "{text}: {error}");
        }
    }
}
