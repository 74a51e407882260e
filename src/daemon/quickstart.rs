//! `keyward quickstart`: the daemon on a temporary directory, a small world, real questions over the real socket.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, Apply, CredentialPatch, EndpointPatch, Kind, Patch, Secret, Selector, SetText,
};
use keyward_proto::client::{AdminClient, QueryClient};
use keyward_proto::query::{Asker, Mode, Reason, Target, Verdict};

use super::{ADMIN_SOCKET, Daemon, QUERY_SOCKET, StartError};
use crate::config::Config;

/// The API documentation's own example.
const SUPERUSER_KEY: &str = "key 2:YWK2PGCS8CNW62SR8TBTBKWMY";
const MATTHEWS_KEY: &str = "key 3:3A7QXW9ZK2M4N6P8R0S1T5V7Y";

/// Runs the tour and serves on until Ctrl-C. The directory goes with it.
///
/// # Errors
/// See [`StartError`].
pub fn quickstart() -> Result<(), StartError> {
    let directory = temporary_directory().map_err(|e| StartError::System("make a temporary directory", e))?;
    let config = Config {
        data: directory.join("data"),
        runtime: directory.join("run"),
        log: "warn,keyward::daemon=error".to_string(),
        ..Config::default()
    };
    let runtime = config.runtime.clone();
    let outcome = Daemon::prepare(config, None).and_then(|daemon| {
        daemon.run(move |stop| {
            let told = tour(&runtime, &mut io::stdout().lock());
            if told.is_err() {
                stop.cancel();
            }
            told
        })
    });
    let removed = std::fs::remove_dir_all(&directory);
    outcome?;
    removed.map_err(|error| StartError::System("remove the temporary directory", error))
}

fn temporary_directory() -> io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("keyward-quickstart-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

/// Loads the world, asks, revokes, asks again, and says what to try.
fn tour(runtime: &Path, out: &mut impl Write) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let mut admin = AdminClient::connect(&runtime.join(ADMIN_SOCKET)).map_err(|e| words(&e))?;
    let mut query = QueryClient::connect(&runtime.join(QUERY_SOCKET)).map_err(|e| words(&e))?;
    let mut say = |line: &str| writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| e.to_string());
    let world = world();
    let (agents, endpoints, keys) = count(&world);
    let parts = admin.upload(world).map_err(|e| words(&e))?;
    let apply = Apply { parts, sections: vec![Kind::Agent, Kind::Endpoint, Kind::Key], prune: false, dry_run: false };
    admin.apply(&apply).map_err(|e| words(&e))?;
    say(&format!("Keyward is running in {}", runtime.display()))?;
    say(&format!("It holds {agents} agents, {endpoints} endpoints and {keys} keys. Asking over its socket:\n"))?;
    for (credential, agent, method, path, note) in QUESTIONS {
        let verdict = ask(&mut query, credential, *agent, method, path)?;
        say(&shown(credential, *agent, method, path, &verdict, note))?;
    }
    say("\nRevoking key 3, then the same question again:\n")?;
    let revoke = AdminRequest::Remove(Selector::Credential(Mode::Key, 3));
    let AdminReply::Done(_) = admin.call(&revoke).map_err(|e| words(&e))? else {
        return Err("the key was not revoked".to_string());
    };
    let verdict = ask(&mut query, MATTHEWS_KEY, None, "GET", "/api/v2/tickets")?;
    say(&shown(MATTHEWS_KEY, None, "GET", "/api/v2/tickets", &verdict, "revoked means revoked"))?;
    let commands = commands(runtime);
    say(&format!("\nTry, in another terminal:\n\n{commands}\nCtrl-C stops it and removes everything."))
}

type Question = (&'static str, Option<&'static str>, &'static str, &'static str, &'static str);

const QUESTIONS: &[Question] = &[
    (SUPERUSER_KEY, None, "GET", "/api/v2/me", "the documented call: the key's default agent"),
    (SUPERUSER_KEY, Some("4"), "GET", "/api/v2/me", "the same, acting as agent 4"),
    (MATTHEWS_KEY, None, "GET", "/api/v2/tickets", "bound to agent 4"),
    (MATTHEWS_KEY, None, "DELETE", "/api/v2/tickets/9", "agent 4 may not delete"),
    ("key 2:WRONGWRONGWRONGWRONGWRONG", None, "GET", "/api/v2/me", "a wrong code"),
];

fn ask(
    query: &mut QueryClient,
    credential: &str,
    agent: Option<&str>,
    method: &str,
    path: &str,
) -> Result<Verdict, String> {
    let asker = Asker { credential: Some(credential.as_bytes()), agent: agent.map(str::as_bytes), address: None };
    let target = Target::Endpoint { method: method.as_bytes(), path: path.as_bytes() };
    query.check(asker, target).map_err(|error| error.to_string())
}

fn shown(credential: &str, agent: Option<&str>, method: &str, path: &str, verdict: &Verdict, note: &str) -> String {
    let reason = Reason::from_number(verdict.reason).map_or("unknown", Reason::name);
    let who = match &verdict.identity {
        Some(identity) => format!(" as agent {} ({})", identity.agent_id, identity.agent_name),
        None => String::new(),
    };
    let agent = agent.map_or(String::new(), |agent| format!(", agent {agent}"));
    // The codes of this world are in the documentation; a real one is never printed again.
    format!("  {method} {path}  [{credential}{agent}]\n    {} {reason}{who}   ({note})", verdict.status)
}

fn commands(runtime: &Path) -> String {
    let program = std::env::current_exe().map_or_else(|_| "keyward".to_string(), |path| path.display().to_string());
    let lines = [
        format!("check --credential '{SUPERUSER_KEY}' GET /api/v2/tickets/9"),
        "explain --key 3 DELETE /api/v2/tickets/9".to_string(),
        "key add 'my first key' --agent 4 --tags 'tickets.*, -*.delete'".to_string(),
        "key list".to_string(),
        "endpoint list".to_string(),
        "status".to_string(),
    ];
    let mut text = format!("  export KEYWARD_RUNTIME={}\n", runtime.display());
    for line in lines {
        text.push_str(&format!("  {program} {line}\n"));
    }
    text
}

fn world() -> Vec<Patch> {
    let agent = |id, name: &str, permissions: &str| {
        Patch::Agent(AgentPatch {
            id: Some(id),
            name: Some(name.to_string()),
            permissions: Some(SetText::Text(permissions.to_string())),
            ..AgentPatch::default()
        })
    };
    let endpoint = |(method, path, tag): &(&str, &str, &str)| {
        Patch::Endpoint(EndpointPatch {
            method: (*method).to_string(),
            path: (*path).to_string(),
            tags: Some(vec![(*tag).to_string()]),
            modes: None,
        })
    };
    let mut patches = vec![agent(1, "Admin", "*"), agent(4, "Matthew", "tickets.*, me.*, -*.delete")];
    patches.extend(ENDPOINTS.iter().map(endpoint));
    patches.push(Patch::Credential(CredentialPatch {
        label: Some("superuser, as in the API docs".to_string()),
        code: code(SUPERUSER_KEY),
        superuser: Some(true),
        default_agent: Some(Some(1)),
        ..CredentialPatch::new(Mode::Key, Some(2))
    }));
    patches.push(Patch::Credential(CredentialPatch {
        label: Some("Matthew's".to_string()),
        code: code(MATTHEWS_KEY),
        agent: Some(4),
        ..CredentialPatch::new(Mode::Key, Some(3))
    }));
    patches
}

const ENDPOINTS: &[(&str, &str, &str)] = &[
    ("GET", "/api/v2/me", "me.me.get"),
    ("GET", "/api/v2/tickets", "tickets.tickets.list"),
    ("POST", "/api/v2/tickets", "tickets.tickets.post"),
    ("GET", "/api/v2/tickets/{id}", "tickets.tickets.get"),
    ("DELETE", "/api/v2/tickets/{id}", "tickets.tickets.delete"),
];

fn code(credential: &str) -> Option<Secret> {
    credential.split_once(':').map(|(_, code)| Secret::new(code.as_bytes().to_vec()))
}

fn count(patches: &[Patch]) -> (usize, usize, usize) {
    patches.iter().fold((0, 0, 0), |(agents, endpoints, keys), patch| match patch {
        Patch::Agent(_) => (agents + 1, endpoints, keys),
        Patch::Endpoint(_) => (agents, endpoints + 1, keys),
        Patch::Credential(_) => (agents, endpoints, keys + 1),
    })
}
