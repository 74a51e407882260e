//! PostgreSQL: a prepared SELECT by id over the extended protocol, as an application with its own table of keys asks.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keyward::bench::exchange::{Answer, Exchange, Reply, Requests};
use keyward::bench::picks::Picks;
use nix::unistd::{Uid, User, chown};

use crate::server::{Subject, connect, folder, must, on_server_core, read_exactly, start};

/// The user that the server runs as; it refuses root.
const OWNER: &str = "postgres";
/// Type of a `bigint` (pg_type).
const BIGINT: u32 = 20;
const STATEMENT: &str = "SELECT value FROM credentials WHERE id = $1";

struct Postgres {
    socket: PathBuf,
    requests: Requests,
}

/// Where Debian puts the newest one's programs.
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let newest = versions.max_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()))?;
    let programs = newest.join("bin");
    programs.join("initdb").is_file().then_some(programs)
}

pub fn version() -> Option<String> {
    let text = must(Command::new(programs()?.join("postgres")).arg("--version"), b"");
    text.split(' ').nth(2).map(|version| version.trim().to_owned())
}

fn message(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
}

/// Bind to the prepared statement with the id as eight bytes, execute, sync.
fn select(id: u64, out: &mut Vec<u8>) {
    let mut bind = b"\0s\0".to_vec();
    bind.extend([0, 1, 0, 1, 0, 1, 0, 0, 0, 8]);
    bind.extend(id.to_be_bytes());
    bind.extend([0, 1, 0, 1]);
    message(b'B', &bind, out);
    message(b'E', &[0, 0, 0, 0, 0], out);
    message(b'S', &[], out);
}

/// The first message: its kind, and its bytes in all.
fn head(input: &[u8]) -> Option<(u8, usize)> {
    let (kind, rest) = input.split_first()?;
    Some((*kind, 1 + u32::from_be_bytes(*rest.first_chunk()?) as usize))
}

impl Exchange for Postgres {
    fn open(&self) -> io::Result<File> {
        let mut stream = connect(&self.socket)?;
        let parameters = [&3_u32.to_be_bytes()[2..], &[0, 0], b"user\0postgres\0database\0postgres\0\0"].concat();
        let mut out = u32::try_from(parameters.len() + 4).unwrap().to_be_bytes().to_vec();
        out.extend(parameters);
        let parse = [b"s\0", STATEMENT.as_bytes(), b"\0", &[0, 1], &BIGINT.to_be_bytes()].concat();
        message(b'P', &parse, &mut out);
        message(b'S', &[], &mut out);
        stream.write_all(&out)?;
        // One "ready" after the start-up, one after the statement was prepared.
        for _ in 0..2 {
            until_ready(&mut stream)?;
        }
        Ok(stream)
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Everything up to "ready", with one row in it.
    fn reply(&self, input: &[u8], _number: usize) -> Reply {
        let (mut at, mut rows) = (0, 0);
        while let Some((kind, bytes)) = head(&input[at..]) {
            at += bytes;
            if at > input.len() {
                break;
            }
            rows += usize::from(kind == b'D');
            if kind == b'Z' {
                let answer = if rows == 1 { Answer::Allowed } else { Answer::Unexpected };
                return Reply::Whole { bytes: at, answer };
            }
        }
        Reply::Incomplete
    }
}

fn until_ready(stream: &mut File) -> io::Result<()> {
    loop {
        let (kind, bytes) = head(&read_exactly(stream, 5)?).expect("five bytes are a head");
        let body = read_exactly(stream, bytes - 5)?;
        match kind {
            b'Z' => return Ok(()),
            b'E' => return Err(io::Error::other(String::from_utf8_lossy(&body).into_owned())),
            _ => {}
        }
    }
}

/// Under another user where this one is root.
fn as_owner(command: &mut Command) -> &mut Command {
    if Uid::effective().is_root() {
        command.args(["setpriv", "--reuid", OWNER, "--regid", OWNER, "--init-groups"]);
    }
    command
}

pub fn subject(keys: u64, count: usize) -> Subject {
    let programs = programs().expect("it was looked for");
    let folder = folder();
    if let (true, Ok(Some(owner))) = (Uid::effective().is_root(), User::from_name(OWNER)) {
        chown(folder.path(), Some(owner.uid), Some(owner.gid)).unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let data = folder.path().join("data");
    let mut initdb = on_server_core();
    as_owner(&mut initdb).arg(programs.join("initdb")).args(["--auth", "trust", "--username", "postgres", "--no-sync"]);
    must(initdb.arg("--pgdata").arg(&data).current_dir("/"), b"");
    let socket = folder.path().join(".s.PGSQL.5432");
    let mut command = on_server_core();
    as_owner(&mut command).arg(programs.join("postgres")).arg("-D").arg(&data);
    command.args(["-c", "listen_addresses=", "-c", "shared_buffers=512MB", "-c", "fsync=off"]);
    command.arg("-c").arg(format!("unix_socket_directories={}", folder.path().display())).current_dir("/");
    let server = start(&mut command, &socket);
    fill(&programs, folder.path(), keys);
    let mut requests = Requests::default();
    let mut picks = Picks::uniform(keys, 1);
    for _ in 0..count {
        requests.push(|out| select(picks.pick(), out));
    }
    Subject::new("PostgreSQL", Postgres { socket, requests }, None, (server, folder))
}

fn fill(programs: &Path, host: &Path, keys: u64) {
    let sql = format!(
        "CREATE TABLE credentials (id bigint PRIMARY KEY, value char(64) NOT NULL);
         INSERT INTO credentials SELECT id, lpad(id::text, 64, '0') FROM generate_series(1, {keys}) AS id;
         VACUUM ANALYZE credentials;"
    );
    // The socket takes connections before the server answers them.
    crate::support::wait_until("PostgreSQL is ready", || {
        Command::new(programs.join("pg_isready")).arg("-q").arg("-h").arg(host).status().is_ok_and(|s| s.success())
    });
    let mut psql = Command::new(programs.join("psql"));
    psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"]).arg(host);
    must(&mut psql, sql.as_bytes());
}
