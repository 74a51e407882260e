//! Whether somebody else could have put the socket there that a code would be handed to.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::Uid;

use super::error::CliError;
use super::tables::escape;

const OTHERS_WRITE: u32 = 0o002;
/// In such a directory nobody renames or removes what is another's.
const STICKY: u32 = 0o1000;

/// Refuses a socket that is reached through a directory where everybody may put things, as `/tmp`, unless what lies there
/// is root's or this user's: where a daemon has stopped, the place may be anybody's by now. What root or a daemon's own
/// user closed to others, as `/run/keyward`, is taken.
pub(super) fn refuse_planted(socket: &Path) -> Result<(), CliError> {
    // As it was written, for the links in it, and as it is when they were followed.
    let ways = [std::path::absolute(socket), fs::canonicalize(socket)];
    // What is not there, or closed to this user, the connection stumbles over.
    for way in ways.into_iter().flatten() {
        for (entry, parent) in way.ancestors().zip(way.ancestors().skip(1)) {
            let (Ok(found), Ok(above)) = (fs::symlink_metadata(entry), fs::metadata(parent)) else { continue };
            let is_open = above.mode() & OTHERS_WRITE != 0;
            let is_kept = above.mode() & STICKY != 0 && is_trusted(above.uid()) && is_trusted(found.uid());
            if is_open && !is_kept {
                return Err(CliError::Input(format!(
                    "nothing was sent: anybody may have put {} there (user {} did), and would get every code of this \
                     command; name the daemon's own runtime directory with --runtime, or run this as the daemon's user",
                    escape(&entry.to_string_lossy()),
                    found.uid()
                )));
            }
        }
    }
    Ok(())
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == Uid::effective().as_raw()
}
