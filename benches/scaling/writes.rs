//! Adding keys one at a time, against the disk's own rate, and by many callers at once.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyward::bench::world::Sizes;
use keyward_proto::admin::{AdminReply, AdminRequest, CredentialPatch, Patch};
use keyward_proto::client::AdminClient;
use keyward_proto::query::Mode;

use crate::Options;
use crate::keyward_server::loaded;
use crate::results::{Table, median};
use crate::support::{Home, say};

/// The numbers of keys that are compared, as far as the options go.
const KEYS: [u64; 2] = [1_000_000, 10_000_000];
/// As many as the admin socket has places for, but for a few.
const CALLERS: usize = 100;
/// What a small commit writes at least.
const BLOCK: [u8; 4096] = [7; 4096];

pub fn measure(options: &Options, targets: &mut Table) -> Table {
    let mut table = Table::new(&["keys", "fdatasync/s", "key add/s, 1 caller", "key add/s, 100 callers"]);
    for keys in KEYS.into_iter().filter(|keys| *keys <= options.keys) {
        say(&format!("{keys} keys: adding more"));
        let home = Home::new();
        let (_, daemon, _) = loaded(&home, Sizes::of_keys(keys));
        let (mut disk, mut one, mut many) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.repeats {
            disk.push(syncs_per_second(&home.data(), options.seconds));
            one.push(adds_per_second(&home, 1, options.seconds));
            many.push(adds_per_second(&home, CALLERS, options.seconds));
        }
        daemon.stop();
        let ratio = |ours: &[f64], theirs: &[f64]| median(ours.iter().zip(theirs).map(|(a, b)| a / b).collect());
        let needed = if keys == 1_000_000 { "≥ 0.25" } else { "≥ 0.15" };
        let words = format!("key add one at a time against fdatasync, {keys} keys");
        targets.row(&["12", &words, &format!("{:.2}", ratio(&one, &disk)), needed]);
        let words = format!("key add, {CALLERS} callers against one, {keys} keys");
        targets.row(&["12", &words, &format!("{:.1}", ratio(&many, &one)), "≥ 30 with 100 callers"]);
        let figure = |figures: Vec<f64>| format!("{:.0}", median(figures));
        table.row(&[&keys.to_string(), &figure(disk), &figure(one), &figure(many)]);
    }
    table
}

/// A block written in place and made durable, again and again.
pub fn syncs_per_second(folder: &Path, seconds: f64) -> f64 {
    let path = folder.join("sync");
    let mut file = File::create(&path).unwrap();
    file.write_all(&BLOCK).unwrap();
    file.sync_all().unwrap();
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_secs_f64(seconds) {
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&BLOCK).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}

fn adds_per_second(home: &Home, callers: usize, seconds: f64) -> f64 {
    let clients: Vec<AdminClient> = (0..callers).map(|_| home.admin()).collect();
    let added = AtomicU64::new(0);
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(seconds);
    std::thread::scope(|scope| {
        for mut client in clients {
            let added = &added;
            scope.spawn(move || {
                while Instant::now() < end {
                    let patch = CredentialPatch { agent: Some(1), ..CredentialPatch::new(Mode::Key, None) };
                    let reply = client.call(&AdminRequest::Add(Patch::Credential(patch))).unwrap();
                    assert!(matches!(reply, AdminReply::Done(_)));
                    added.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    added.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}
