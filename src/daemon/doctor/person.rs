//! What a user may do with a file, by owner, group and mode. Access control lists are not looked at.

use std::ffi::CString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// To pass through a directory.
pub(super) const PASS: u32 = 0o1;
/// To connect to a socket (unix(7)).
pub(super) const WRITE: u32 = 0o2;

/// A user with all of its groups, as a process has that is started now.
pub(super) struct Person {
    pub(super) name: String,
    uid: u32,
    gids: Vec<u32>,
}

impl Person {
    /// `None` when the host knows no such user.
    pub(super) fn find(name: &str) -> Option<Self> {
        let user = User::from_name(name).ok().flatten()?;
        let groups = CString::new(name).ok().and_then(|name| getgrouplist(&name, user.gid).ok());
        let gids = groups.unwrap_or_else(|| vec![user.gid]).into_iter().map(Gid::as_raw).collect();
        Some(Self { name: name.to_string(), uid: user.uid.as_raw(), gids })
    }

    /// Whether the mode of something of `uid` and `gid` lets this user do what `wanted` says.
    pub(super) fn may(&self, wanted: u32, (uid, gid, mode): (u32, u32, u32)) -> bool {
        // Only the first class that applies counts (path_resolution(7)).
        let class = if self.uid == uid {
            mode >> 6
        } else if self.gids.contains(&gid) {
            mode >> 3
        } else {
            mode
        };
        self.uid == 0 || class & wanted == wanted
    }

    pub(super) fn is_in(&self, gid: u32) -> bool {
        self.gids.contains(&gid)
    }

    /// The first directory on the way to what is in `directory` that this user can't pass.
    pub(super) fn stopped_at(&self, directory: &Path) -> Option<PathBuf> {
        let path = directory.canonicalize().unwrap_or_else(|_| directory.to_path_buf());
        let mut ways: Vec<&Path> = path.ancestors().collect();
        ways.reverse();
        let closed = |way: &&&Path| std::fs::metadata(way).is_ok_and(|found| !self.may(PASS, rights(&found)));
        ways.iter().find(closed).map(|way| way.to_path_buf())
    }
}

/// Owner, group and mode.
pub(super) fn rights(metadata: &Metadata) -> (u32, u32, u32) {
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

/// `keyward:keyward, mode 660`
pub(super) fn shown(metadata: &Metadata) -> String {
    let (uid, gid, mode) = rights(metadata);
    format!("{}:{}, mode {mode:03o}", user_name(uid), group_name(gid))
}

pub(super) fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

pub(super) fn group_name(gid: u32) -> String {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_class_that_applies_counts() {
        let person = Person { name: "web".into(), uid: 33, gids: vec![33, 900] };
        let root = Person { name: "root".into(), uid: 0, gids: vec![0] };
        let table = [
            (WRITE, (900, 900, 0o660), true),
            (WRITE, (900, 901, 0o660), false),
            (WRITE, (900, 901, 0o662), true),
            (WRITE, (900, 900, 0o602), false),
            (WRITE, (33, 900, 0o060), false),
            (WRITE, (33, 901, 0o600), true),
            (PASS, (900, 901, 0o755), true),
            (PASS, (900, 900, 0o700), false),
        ];
        for (wanted, rights, allowed) in table {
            assert_eq!(person.may(wanted, rights), allowed, "{rights:?}");
            assert!(root.may(wanted, rights));
        }
    }
}
