//! Small worlds and questions in which much meets: few ids, few words, times around now.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::naive::{Agent, Ask, Credential, Endpoint, Record, Target, World};

/// Around it lie the times of a world.
pub(crate) const NOW: u64 = 1000;

/// Agent 5 is never there.
const AGENTS: [u64; 5] = [1, 2, 3, 300, 5];
const SPARSE: u64 = (1 << 53) - 1;
const BLOCKS: [&str; 5] = ["10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "0.0.0.0/0", "::1"];

fn tag() -> impl Strategy<Value = String> {
    let segment = || select(vec!["a", "b", "c"]);
    prop::collection::vec(segment(), 1..4).prop_map(|segments| segments.join("."))
}

fn set() -> impl Strategy<Value = Vec<String>> {
    let segment = || select(vec!["a", "b", "c", "*", "*"]);
    let pattern = (prop::bool::weighted(0.2), prop::collection::vec(segment(), 1..4))
        .prop_map(|(denies, segments)| format!("{}{}", if denies { "-" } else { "" }, segments.join(".")));
    let listed = (prop::collection::vec(pattern, 0..4), tag()).prop_map(|(mut patterns, allowing)| {
        patterns.push(allowing);
        patterns
    });
    prop_oneof![3 => Just(vec!["*".to_string()]), 2 => listed]
}

fn time() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![5 => Just(None), 1 => (NOW - 1..=NOW + 5).prop_map(Some)]
}

fn agent() -> impl Strategy<Value = Record> {
    let attributes = select(vec![vec![], vec![("team".to_string(), "blue".to_string())]]);
    let states = (prop::bool::weighted(0.9), prop::bool::weighted(0.1));
    (select(AGENTS[..4].to_vec()), 0..100_u32, set(), states, attributes).prop_map(
        |(id, name, permissions, (enabled, removed), attributes)| {
            Record::Agent(Agent { id, name: format!("Ada {name}"), permissions, enabled, removed, attributes })
        },
    )
}

/// Most credentials name one of these, so there is one to begin with.
fn live_agent(id: u64) -> impl Strategy<Value = Record> {
    agent().prop_map(move |record| match record {
        Record::Agent(agent) => Record::Agent(Agent { id, enabled: true, removed: false, ..agent }),
        Record::Endpoint(_) | Record::Credential(_) => record,
    })
}

fn template() -> impl Strategy<Value = &'static str> {
    select(vec![
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/a/{x}",
        "/a/{y}",
        "/a/b{x}",
        "/a/{x}c",
        "/a/b{x}c",
        "/a/{rest...}",
        "/{x}/b",
        "/{x}/{y}",
        "/{x}/{y}/",
        "/{all...}",
    ])
}

fn endpoint() -> impl Strategy<Value = Record> {
    let some_modes = prop::sample::subsequence(vec!["key", "token", "session"], 1..=3);
    let modes = prop_oneof![2 => Just(vec!["public"]), 5 => some_modes, 5 => Just(vec!["key", "token", "session"])];
    let method = select(vec!["GET", "GET", "GET", "HEAD", "POST"]);
    (method, template(), prop::collection::vec(tag(), 1..3), modes, prop::bool::weighted(0.1)).prop_map(
        |(method, template, tags, modes, removed)| {
            let (method, template) = (method.to_string(), template.to_string());
            Record::Endpoint(Endpoint { method, template, tags, modes, removed })
        },
    )
}

/// The codes that a credential may have, or a question may try.
pub(crate) fn code(mode: &str, id: u64, number: usize) -> String {
    format!("{mode}-{id}-code-{number}")
}

fn credential() -> impl Strategy<Value = Record> {
    let named = (select(vec!["key", "key", "token", "session"]), select(vec![1, 2, 256, SPARSE]));
    let agents = || prop_oneof![30 => select(AGENTS[..4].to_vec()), 1 => Just(AGENTS[4])];
    let binding = (any::<bool>(), prop::option::weighted(0.6, agents()), agents());
    let codes = (0..4_usize, prop::option::weighted(0.6, (0..4_usize, NOW - 1..=NOW + 5)));
    let states = (prop::bool::weighted(0.95), prop::bool::weighted(0.05), time(), time());
    let blocks = prop::collection::vec(select(BLOCKS.to_vec()), 1..4);
    // Some are not there, and some have a parent themselves.
    let parent = (select(vec!["key", "key", "session", "token"]), select(vec![1, 2, 256]));
    let rest = (prop::option::weighted(0.2, blocks), prop::option::weighted(0.5, 0..3_u64));
    (named, binding, codes, states, set(), rest, prop::option::weighted(0.5, parent)).prop_map(
        |((mode, id), (superuser, default, bound), (current, retiring), states, tags, (allow_ip, app_id), parent)| {
            let (enabled, revoked, not_before, expires_at) = states;
            let superuser = superuser && mode == "key";
            Record::Credential(Credential {
                mode,
                id,
                superuser,
                agent: if superuser { default } else { Some(bound) },
                tags,
                code: code(mode, id, current),
                retiring: retiring.map(|(number, until)| (code(mode, id, number), until)),
                enabled,
                revoked,
                // Most that have one are past it.
                not_before: not_before.map(|at| at - 4),
                expires_at,
                allow_ip,
                app_id: app_id.filter(|_| mode == "token"),
                parent: parent.filter(|_| mode == "token"),
            })
        },
    )
}

/// What is written, one change after the other. A change names no record twice.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Vec<Record>>> {
    let record = prop_oneof![3 => agent(), 4 => endpoint(), 4 => credential()];
    let change = prop::collection::vec(record, 1..16).prop_map(|mut records: Vec<Record>| {
        let mut seen = Vec::new();
        records.retain(|record| {
            let new = !seen.contains(&record.name());
            seen.push(record.name());
            new
        });
        records
    });
    let first = AGENTS[..4].iter().map(|id| live_agent(*id)).collect::<Vec<_>>();
    (first, prop::collection::vec(change, 1..6)).prop_map(|(first, mut changes)| {
        changes.insert(0, first);
        changes
    })
}

/// How a credential's header is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    Plain,
    OtherCase,
    OtherMode,
    OtherId,
    /// Broken by this.
    Broken(usize),
}

#[derive(Clone, Debug)]
enum Code {
    Current,
    Retiring,
    Numbered(usize),
}

/// A question as far as it can be made without its world.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    credential: Index,
    code: Code,
    form: Form,
    agent: Option<Vec<u8>>,
    /// Names the credential's own agent.
    own_agent: bool,
    address: Option<Vec<u8>>,
    pub(crate) targets: Vec<Target>,
    pub(crate) now: u64,
}

impl Question {
    /// Whose credential it presents, or says it does.
    pub(crate) fn credential<'w>(&self, world: &'w World) -> Option<&'w Credential> {
        (!world.credentials.is_empty()).then(|| self.credential.get(&world.credentials))
    }

    pub(crate) fn ask(&self, world: &World) -> Ask {
        let agent = match self.credential(world) {
            Some(Credential { agent: Some(own), .. }) if self.own_agent => Some(own.to_string().into_bytes()),
            Some(_) | None => self.agent.clone(),
        };
        Ask { credential: self.header(world), agent, address: self.address.clone() }
    }

    fn header(&self, world: &World) -> Option<Vec<u8>> {
        let known = self.credential(world)?;
        let (mode, id) = (known.mode, known.id);
        let code = match (&self.code, &known.retiring) {
            (Code::Retiring, Some((retiring, _))) => retiring.clone(),
            (Code::Current | Code::Retiring, _) => known.code.clone(),
            (Code::Numbered(number), _) => code(mode, id, *number),
        };
        let header = match self.form {
            Form::Plain => format!("{mode} {id}:{code}"),
            Form::OtherCase => format!("{}   {id}:{code}", mode.to_uppercase()),
            Form::OtherMode => format!("{} {id}:{code}", if mode == "token" { "key" } else { "token" }),
            Form::OtherId => format!("{mode} {}:{code}", id + 1),
            Form::Broken(0) => return None,
            Form::Broken(kind) => broken(kind, mode, id, &code),
        };
        Some(header.into_bytes())
    }
}

fn broken(kind: usize, mode: &str, id: u64, code: &str) -> String {
    match kind {
        1 => String::new(),
        2 => format!("{mode} 0{id}:{code}"),
        3 => format!("{mode} +{id}:{code}"),
        4 => format!("{mode} {id}:short"),
        5 => format!("{mode} {id}:{code} "),
        6 => format!(" {mode} {id}:{code}"),
        7 => format!("{mode}\t{id}:{code}"),
        8 => format!("bearer {id}:{code}"),
        9 => format!("{mode} {id}"),
        10 => format!("{mode} {id}:{code}é"),
        11 => format!("{mode} {}:{code}", u128::from(u64::MAX) + 1),
        12 => format!("{mode} {id}:{}", "A".repeat(129)),
        _ => format!("{mode} {id}:a:{code}"),
    }
}

fn agent_header() -> impl Strategy<Value = Option<Vec<u8>>> {
    let ids = AGENTS.map(|id| id.to_string()).to_vec();
    let odd = vec!["", "01", "+1", "-1", "x", "1 ", "18446744073709551616", "18446744073709551615", "0", "١"];
    prop_oneof![
        30 => Just(None),
        10 => select(ids).prop_map(|text| Some(text.into_bytes())),
        1 => select(odd).prop_map(|text| Some(text.as_bytes().to_vec())),
    ]
}

fn address() -> impl Strategy<Value = Option<Vec<u8>>> {
    let known = vec!["10.1.2.3", "10.1.255.255", "::ffff:10.1.2.3", "192.0.2.7", "2001:db8::7", "::1"];
    let odd = vec!["10.2.0.0", "192.0.2.8", "2001:db9::", "::", "", "10.1.2", "10.1.2.3:80", "unix:", " ::1"];
    prop_oneof![
        1 => Just(None),
        4 => select(known).prop_map(|text| Some(text.as_bytes().to_vec())),
        1 => select(odd).prop_map(|text| Some(text.as_bytes().to_vec())),
    ]
}

fn request_line() -> impl Strategy<Value = Target> {
    let methods = vec!["GET", "GET", "GET", "GET", "HEAD", "HEAD", "POST", "PUT"];
    let odd_methods =
        vec!["get", "", "-A", "G1", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF"];
    let words = || select(vec!["a", "b", "bc", "bxc", "xc", "x", "%61", "%62c"]);
    let tail = select(vec!["", "", "", "/", "?x=/../y", "#%"]);
    let path =
        (prop::collection::vec(words(), 1..4), tail).prop_map(|(words, tail)| format!("/{}{tail}", words.join("/")));
    let odd = vec![
        "", "a", "//", "/a//b", "/a/../b", "/a/%2e", "/a%2fb", "/%", "/%zz", "/a;b", "/a\\b", "/%2561", "/%ff", "/?",
    ];
    let long = select(vec![8191, 8192]).prop_map(|bytes| format!("/{}?{}", "a".repeat(bytes), "b".repeat(9000)));
    let paths = prop_oneof![
        20 => path,
        3 => Just("/a".to_string()),
        3 => Just("/".to_string()),
        3 => select(odd).prop_map(str::to_string),
        1 => long,
    ];
    (prop_oneof![15 => select(methods), 1 => select(odd_methods)], paths)
        .prop_map(|(method, path)| Target::Endpoint(method.as_bytes().to_vec(), path.into_bytes()))
}

fn asked_tags() -> impl Strategy<Value = Target> {
    let exact = vec![vec!["a"; 16].join("."), vec!["a"; 17].join("."), "a".repeat(128), "a".repeat(129)];
    let odd = select(vec!["", "A", "a..b", "*", "-a", "a.", ".a", "a b", "é", "a_b-c", "_a", "a.-b", "a.*"]);
    let one = move || prop_oneof![40 => tag(), 1 => select(exact.clone()), 1 => odd.clone().prop_map(str::to_string)];
    let count = prop_oneof![12 => 1..4_usize, 1 => 0..1_usize, 1 => 15..18_usize];
    count
        .prop_flat_map(move |count| prop::collection::vec(one(), count))
        .prop_map(|tags| Target::Tags(tags.into_iter().map(String::into_bytes).collect()))
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![1 => Just(Target::Nobody), 5 => request_line(), 3 => asked_tags()]
}

pub(crate) fn question() -> impl Strategy<Value = Question> {
    let form = prop_oneof![
        30 => Just(Form::Plain),
        2 => Just(Form::OtherCase),
        1 => Just(Form::OtherMode),
        1 => Just(Form::OtherId),
        4 => (0..14_usize).prop_map(Form::Broken),
    ];
    let code = prop_oneof![
        8 => Just(Code::Current),
        4 => Just(Code::Retiring),
        1 => (0..5_usize).prop_map(Code::Numbered),
    ];
    let agent = (agent_header(), prop::bool::weighted(0.2));
    let targets = prop::collection::vec(target(), 1..5);
    (any::<Index>(), code, form, agent, address(), targets, NOW - 1..=NOW + 1).prop_map(
        |(credential, code, form, (agent, own_agent), address, targets, now)| Question {
            credential,
            code,
            form,
            agent,
            own_agent,
            address,
            targets,
            now,
        },
    )
}
