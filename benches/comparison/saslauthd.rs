//! saslauthd with one user in a Berkeley database: the classic local daemon for "is this password right?". It takes one
//! request on each connection.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use keyward::bench::exchange::{Answer, Exchange, Reply, Requests};
use nix::unistd::Uid;

use crate::server::{Subject, connect, folder, must, on_server_core, program, start};

const USER: &str = "bench";
const PASSWORD: &str = "YWK2PGCS8CNW62SR8TBTBKWMY";
const REALM: &str = "bench";

struct Saslauthd {
    socket: PathBuf,
    requests: Requests,
}

/// Its database is at a fixed place under `/etc`, which only root can put another in the place of.
pub fn is_possible() -> bool {
    Uid::effective().is_root() && program("saslauthd").is_some() && program("saslpasswd2").is_some()
}

impl Exchange for Saslauthd {
    const ONE_REQUEST_A_CONNECTION: bool = true;

    fn open(&self) -> io::Result<File> {
        connect(&self.socket)
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }

    /// A length of two bytes, then `OK` or `NO` and words.
    fn reply(&self, input: &[u8], _number: usize) -> Reply {
        let Some((length, text)) = input.split_first_chunk() else { return Reply::Incomplete };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some(text) = text.get(..length) else { return Reply::Incomplete };
        let answer = if text.starts_with(b"OK") { Answer::Allowed } else { Answer::Unexpected };
        Reply::Whole { bytes: 2 + length, answer }
    }
}

/// In namespaces of its own: with an `/etc` that holds little but its database, and ended with all its processes.
pub fn subject(count: usize) -> Subject {
    let folder = folder();
    let (etc, mux) = (folder.path().join("etc"), folder.path().join("mux"));
    std::fs::create_dir(&etc).unwrap();
    std::fs::create_dir(&mux).unwrap();
    for file in ["passwd", "group"] {
        std::fs::copy(Path::new("/etc").join(file), etc.join(file)).unwrap();
    }
    let mut add = Command::new(program("saslpasswd2").expect("it was looked for"));
    add.args(["-p", "-c", "-u", REALM, "-f"]).arg(etc.join("sasldb2")).arg(USER);
    must(&mut add, PASSWORD.as_bytes());
    let mut command = on_server_core();
    command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]);
    command.arg("mount --bind \"$1\" /etc && \"$2\" -a sasldb -m \"$3\" && exec sleep infinity").arg("sh");
    command.arg(&etc).arg(program("saslauthd").expect("it was looked for")).arg(&mux);
    let socket = mux.join("mux");
    let server = start(&mut command, &socket);
    let mut requests = Requests::default();
    for _ in 0..count {
        requests.push(|out| {
            for text in [USER, PASSWORD, "bench", REALM] {
                out.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        });
    }
    Subject::new("saslauthd", Saslauthd { socket, requests }, None, (server, folder))
}
