//! What it takes to show one change to all questions, the commit left out: `cargo bench --bench publish`.
//!
//! The compiler takes the changed record, its directory is cloned and takes the published one's place, which is dropped:
//! as the writer does it. Ids are drawn uniformly, so that what a change touches is seldom in the cache.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that can't go on ends")]

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use keyward::directory::Compiler;
use keyward::model::record::Label;
use keyward::model::{Binding, CodeHash, Codes, Credential, Id, Mode, Pepper, Record, Revision};
use keyward::tags::TagSet;
use zeroize::Zeroizing;

const CHANGES: u64 = 20_000;
const STRETCH: u64 = 4096;

fn main() {
    println!("{:>10} {:>10} {:>10} {:>10}", "keys", "p50 µs", "p90 µs", "p99 µs");
    let sets: Vec<Arc<TagSet>> =
        (0..1000).map(|n| Arc::new(TagSet::parse(&format!("group{n}.*, *.get")).unwrap())).collect();
    for keys in [1_000, 1_000_000, 10_000_000_u64] {
        let mut compiler = Compiler::new(Arc::new(Pepper::new(Zeroizing::new([7; 32]))));
        for first in (1..=keys).step_by(usize::try_from(STRETCH).unwrap()) {
            let ids = first..(first + STRETCH).min(keys + 1);
            compiler.load(&ids.map(|id| key(id, &sets, true)).collect::<Vec<_>>());
        }
        compiler.finish_load(Revision(1));
        let published = ArcSwap::from_pointee(compiler.directory().clone());
        let mut random = 1_u64;
        let mut times: Vec<f64> = (0..CHANGES)
            .map(|change| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let record = key(1 + (random >> 33) % keys, &sets, change % 2 == 0);
                let began = Instant::now();
                compiler.apply(std::slice::from_ref(&record), Revision(2 + change));
                published.store(Arc::new(compiler.directory().clone()));
                began.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let at = |per_cent: usize| times[times.len() * per_cent / 100];
        println!("{keys:>10} {:>10.1} {:>10.1} {:>10.1}", at(50), at(90), at(99));
    }
}

fn key(id: u64, sets: &[Arc<TagSet>], enabled: bool) -> Record {
    Record::Credential(Credential {
        mode: Mode::Key,
        id: Id::new(id).unwrap(),
        label: Label::default(),
        binding: Binding::Agent(Id::new(1 + id % 100_000).unwrap()),
        tags: Arc::clone(&sets[usize::try_from(id).unwrap() % sets.len()]),
        codes: Codes { current: CodeHash::from_bytes([9; 32]), retiring: None },
        enabled,
        revoked: false,
        not_before: None,
        expires_at: None,
        allow_ip: None,
        app_id: None,
    })
}
