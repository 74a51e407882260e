//! Keyward itself, with one worker.

use keyward::bench::load;
use keyward::bench::picks::Picks;
use keyward::bench::process::Pinned;
use keyward::bench::questions::{Mix, Questions};
use keyward::bench::world::{Sizes as WorldSizes, World};
use keyward_proto::client::QueryClient;
use keyward_proto::query::{Asker, Check, QueryReply, QueryRequest, Target};
use nix::unistd::Pid;

use crate::server::{Subject, server_core};
use crate::support::{Daemon, Home};

/// Questions whose sizes are averaged.
const SAMPLE: u64 = 1_000;

/// A daemon that holds a world.
pub struct Keyward<'h> {
    pub world: World,
    _pinned: Pinned,
    daemon: Daemon<'h>,
}

/// Bytes of a frame.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub request: usize,
    pub reply: usize,
}

/// Starts a daemon on all cores and fills it; with it the seconds that its keys took.
pub fn loaded(home: &Home, sizes: WorldSizes) -> (World, Daemon<'_>, f64) {
    let keys = sizes.keys;
    let daemon = home.start();
    let world = World::new(*b"keyward compares", sizes).unwrap();
    let mut others_took = 0.0;
    let others = world.sizes().agents + world.sizes().endpoints;
    let done = load::load(&world, &mut home.admin(), |progress| {
        if progress.records == others {
            others_took = progress.elapsed.as_secs_f64();
        }
    });
    let seconds = done.unwrap_or_else(|e| panic!("{e:?}")).elapsed.as_secs_f64();
    crate::say(&format!("Keyward holds {keys} keys, {others} agents and endpoints after {seconds:.1} s"));
    (world, daemon, seconds - others_took)
}

impl<'h> Keyward<'h> {
    /// A daemon that is filled first.
    pub fn start(home: &'h Home, sizes: WorldSizes) -> Self {
        let (world, daemon, _) = loaded(home, sizes);
        daemon.stop();
        Self::serving(home, world)
    }

    /// A daemon on directories that hold the world already.
    pub fn serving(home: &'h Home, world: World) -> Self {
        Self::serving_with(home, world, "workers = 1\nlog = \"warn\"\n")
    }

    /// The same with another configuration.
    pub fn serving_with(home: &'h Home, world: World, config: &str) -> Self {
        let config = home.config(config);
        let daemon = home.start_with(|command| {
            // As the unit runs it.
            command.arg("--config").arg(&config).env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
        });
        let pinned = Pinned::process(Pid::from_raw(daemon.pid()), server_core()).unwrap();
        Self { world, _pinned: pinned, daemon }
    }

    pub fn home(&self) -> &Home {
        self.daemon.home
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.daemon.pid())
    }

    /// The means of what is asked and answered.
    pub fn frame_sizes(&self) -> Sizes {
        let mut client = QueryClient::connect(&self.home().runtime().join("query.sock")).unwrap();
        let mut picks = Picks::uniform(self.world.sizes().keys, 2);
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for pick in 0..SAMPLE {
            let id = picks.pick();
            let ask = self.world.allowed(id, pick);
            let credential = self.credential(id);
            let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
            let target = Target::Endpoint { method: ask.method.as_bytes(), path: ask.path.as_bytes() };
            QueryRequest::Check(Check { asker, target: target.clone() }).put(&mut requests, 0);
            let verdict = client.check(asker, target).unwrap();
            assert!(verdict.is_allowed(), "{verdict:?}");
            QueryReply::Verdict(verdict).put(&mut replies, 0);
        }
        let mean = |bytes: Vec<u8>| bytes.len() / usize::try_from(SAMPLE).unwrap();
        Sizes { request: mean(requests), reply: mean(replies) }
    }

    /// As it stands in an `Authorization` header.
    pub fn credential(&self, id: u64) -> String {
        format!("key {id}:{}", str::from_utf8(&self.world.code(id)).unwrap())
    }

    pub fn subject(&self, count: usize) -> Subject {
        self.subject_of(Mix::ALLOWED, count)
    }

    pub fn subject_of(&self, mix: Mix, count: usize) -> Subject {
        let socket = self.home().runtime().join("query.sock");
        let picks = Picks::uniform(self.world.sizes().keys, 1);
        let questions = Questions::new(&socket, &self.world, mix, picks, u32::try_from(count).unwrap());
        Subject::new("Keyward", questions, Some(self.pid()), ())
    }
}
