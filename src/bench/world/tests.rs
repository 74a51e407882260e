//! Worlds are what was asked for, and their answers what their tags say.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn world(sizes: Sizes) -> World {
    World::new([7; 16], sizes).unwrap_or_else(|e| unreachable!("{e}"))
}

#[test]
fn a_code_is_25_crockford_characters_and_each_key_has_its_own() {
    let world = world(Sizes::of_keys(1000));
    let codes: BTreeSet<_> = (1..=1000).map(|id| world.code(id)).collect();
    assert_eq!(codes.len(), 1000);
    assert!(codes.iter().flatten().all(|c| CROCKFORD.contains(c)));
    assert_eq!(world.code(1), World::new([7; 16], Sizes::of_keys(5)).unwrap().code(1));
    assert_ne!(world.code(1), World::new([8; 16], Sizes::of_keys(1000)).unwrap().code(1));
    for id in 1..=100 {
        let (right, wrong) = (world.code(id), world.wrong_code(id));
        assert_eq!(right[..CODE_BYTES - 1], wrong[..CODE_BYTES - 1]);
        assert_ne!(right, wrong);
    }
}

#[test]
fn a_world_has_as_many_of_everything_as_was_asked_for() {
    let sizes = Sizes { keys: 300, agents: 20, endpoints: 1003, sets: 50 };
    let world = world(sizes);
    let parts = world.agents_and_endpoints(64).inspect(|part| assert!(part.len() <= 64));
    let patches: Vec<Patch> = parts.flatten().chain(world.keys()).collect();
    assert_eq!(patches.len(), 300 + 20 + 1003);
    let mut endpoints = BTreeSet::new();
    let (mut sets, mut last_key) = (BTreeSet::new(), 0);
    for patch in patches {
        match patch {
            Patch::Agent(agent) => assert!((1..=20).contains(&agent.id.unwrap())),
            Patch::Endpoint(endpoint) => {
                assert!((1..=2).contains(&endpoint.tags.unwrap().len()));
                assert!(endpoints.insert((endpoint.method, endpoint.path)));
            }
            Patch::Credential(key) => {
                assert_eq!(key.id, Some(last_key + 1), "ids rise");
                last_key += 1;
                assert!((1..=20).contains(&key.agent.unwrap()));
                let Some(SetText::Text(set)) = key.tags else { unreachable!("each key has a set") };
                sets.insert(set);
            }
        }
    }
    assert_eq!((endpoints.len(), sets.len(), last_key), (1003, 50, 300));
}

#[test]
fn what_it_expects_is_what_the_tags_say() {
    for sizes in [
        Sizes { keys: 100, agents: 9, endpoints: 500, sets: 60 },
        Sizes { keys: 30, agents: 1, endpoints: 8, sets: 30 },
    ] {
        let world = world(sizes);
        let endpoints: Vec<EndpointPatch> = (0..sizes.endpoints).map(endpoint).collect();
        for id in 1..=sizes.keys {
            let set = crate::tags::TagSet::parse(&world.set_text_of(id)).unwrap();
            for pick in (0..40).map(|n| mix(id * 1000 + n)) {
                for ask in [world.allowed(id, pick), world.refused(id, pick)] {
                    let tags = endpoints.iter().find(|e| e.method == ask.method && fits(&e.path, &ask.path));
                    let tags: Vec<_> = tags.and_then(|e| e.tags.clone()).expect("it leads to an endpoint");
                    let tags: Vec<_> = tags.iter().map(|tag| crate::tags::Tag::parse(tag).unwrap()).collect();
                    let judged = set.judge(&tags.iter().map(crate::tags::Tag::as_ref).collect::<Vec<_>>());
                    let reason = match judged {
                        crate::tags::Outcome::Granted => Reason::Ok,
                        crate::tags::Outcome::Denied => Reason::TagDenied,
                        crate::tags::Outcome::NotGranted => Reason::TagNotGranted,
                    };
                    assert_eq!(reason, ask.expected, "key {id}: {} {}", ask.method, ask.path);
                }
            }
        }
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(t, p)| t.starts_with('{') || t == p)
}

#[test]
fn a_world_comes_back_from_its_file_which_only_its_owner_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("world.json");
    let written = world(Sizes::of_keys(10));
    written.write(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read = World::read(&path).unwrap();
    assert_eq!((read.code(3), read.sizes()), (written.code(3), written.sizes()));
    assert!(matches!(written.write(&path), Err(WorldError::File { what: "written", .. })));
}

#[test]
fn a_file_that_is_no_world_is_refused_without_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("world.json");
    let sizes = r#""sizes":{"keys":5,"agents":1,"endpoints":8,"sets":1}"#;
    for text in [
        String::new(),
        "{}".to_owned(),
        format!(r#"{{"keyward_bench_world":1,"seed":"5ecre7",{sizes},"more":1}}"#),
        format!(r#"{{"keyward_bench_world":2,"seed":"5ec2e7",{sizes}}}"#),
        format!(r#"{{"keyward_bench_world":1,"seed":"5ecre7",{sizes}}}"#),
        format!(r#"{{"keyward_bench_world":1,"seed":5ecre7,{sizes}}}"#),
    ] {
        std::fs::write(&path, &text).unwrap();
        let error = World::read(&path).err().map(|e| e.to_string()).expect("it is refused");
        assert!(error.contains("bench load") && !error.contains("5ec"), "{error}");
    }
    assert!(matches!(World::read(folder.path()), Err(WorldError::File { what: "read", .. })));
}

#[test]
fn sizes_out_of_range_are_refused() {
    let sizes = Sizes::of_keys(100);
    for (what, sizes) in [
        ("keys", Sizes::of_keys(0)),
        ("keys", Sizes::of_keys(10_000_001)),
        ("agents", Sizes { agents: 0, ..sizes }),
        ("agents", Sizes { agents: 101, ..sizes }),
        ("endpoints", Sizes { endpoints: 7, ..sizes }),
        ("sets", Sizes { sets: 101, ..sizes }),
    ] {
        let error = World::new([0; 16], sizes).err().expect("it is refused").to_string();
        assert!(error.contains(what), "{error}");
    }
}
