//! Backups in one directory, each named for the time when it was begun, of which the newest are kept.

use std::path::{Path, PathBuf};

use super::error::CliError;
use super::times::format_time;

const PREFIX: &str = "keyward-";
const SUFFIX: &str = ".backup";
/// What a backup that was killed leaves has its own name and this.
const PARTIAL: &str = ".partial-";
/// The daemon cuts a backup off after 15 minutes: what is not whole after an hour never will be.
const PARTIAL_SECONDS: u64 = 3600;

/// What [`prune`] did.
#[derive(Default)]
pub(super) struct Pruned {
    /// The files that are gone, oldest first.
    pub removed: Vec<PathBuf>,
    /// How many are named for a later time than the newest one. They are neither counted nor removed.
    pub later: usize,
}

/// The name of a backup that is begun now.
pub(super) fn file_in(directory: &Path, now: u64) -> PathBuf {
    directory.join(name(now))
}

/// RFC 3339 without its separators, so that names are in the order of time.
fn name(seconds: u64) -> String {
    format!("{PREFIX}{}{SUFFIX}", format_time(seconds).replace(['-', ':'], ""))
}

/// Removes, beside `newest`, which must be whole, all but the `keep` newest backups, itself included, and what killed
/// ones left long ago.
pub(super) fn prune(newest: &Path, keep: usize, now: u64) -> Result<Pruned, CliError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| CliError::Unremoved { file: path, cause }
    };
    let directory = newest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut names = Vec::new();
    for entry in directory.read_dir().map_err(failed(directory))? {
        // What is no text is none of ours.
        names.extend(entry.map_err(failed(directory))?.file_name().into_string().ok());
    }
    let own = newest.file_name().unwrap_or_default().to_string_lossy();
    let (doomed, later) = judge(names, &own, keep, &name(now.saturating_sub(PARTIAL_SECONDS)));
    let mut pruned = Pruned { later, ..Pruned::default() };
    for name in doomed {
        let path = directory.join(name);
        std::fs::remove_file(&path).map_err(failed(&path))?;
        pruned.removed.push(path);
    }
    Ok(pruned)
}

/// Of `names`: those to remove, and how many whole ones come after `newest`. A part from before `dead` is nobody's.
fn judge(names: Vec<String>, newest: &str, keep: usize, dead: &str) -> (Vec<String>, usize) {
    let (mut whole, parts): (Vec<_>, Vec<_>) =
        names.into_iter().filter(|name| is_ours(name)).partition(|n| is_whole(n));
    let all = whole.len();
    whole.retain(|name| name.as_str() <= newest);
    let later = all - whole.len();
    whole.sort_unstable();
    whole.truncate(whole.len().saturating_sub(keep));
    whole.extend(parts.into_iter().filter(|part| part.as_str() < dead));
    (whole, later)
}

/// `keyward-20261122T030405Z.backup`, or that with `.partial-PID` behind it.
fn is_ours(name: &str) -> bool {
    let Some((stamp, rest)) = name.strip_prefix(PREFIX).and_then(|name| name.split_once(SUFFIX)) else { return false };
    let part = rest.strip_prefix(PARTIAL).is_some_and(|pid| pid.parse::<u32>().is_ok());
    (rest.is_empty() || part) && is_stamp(stamp.as_bytes())
}

fn is_whole(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

fn is_stamp(stamp: &[u8]) -> bool {
    const FORM: &[u8] = b"00000000T000000Z";
    let fits = |byte: &u8, form: &u8| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    stamp.len() == FORM.len() && stamp.iter().zip(FORM).all(|(byte, form)| fits(byte, form))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_name_is_the_time_in_utc_and_names_sort_by_time() {
        assert_eq!(file_in(Path::new("/b"), NOW), Path::new("/b/keyward-20270115T080000Z.backup"));
        assert!(name(NOW) < name(NOW + 1) && name(NOW + DAY) < name(NOW + 400 * DAY));
    }

    #[test]
    fn only_what_is_named_so_is_a_backup_of_the_series() {
        for (name, ours) in [
            ("keyward-20270115T080000Z.backup", true),
            ("keyward-20270115T080000Z.backup.partial-7", true),
            ("keyward-20270115T080000Z.backup.partial-x", false),
            ("keyward-20270115T080000Z.backup.gz", false),
            ("keyward-20270115T080000Z", false),
            ("keyward-2027011508T0000Z.backup", false),
            ("keyward-20270115T08000Z.backup", false),
            ("keyward-before-upgrade.backup", false),
            ("keyward-.backup", false),
            ("mine-20270115T080000Z.backup", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }

    #[test]
    fn the_newest_are_kept_and_what_is_later_than_the_new_one_is_let_be() {
        let days = |days: &[u64]| days.iter().map(|day| name(NOW + day * DAY)).collect::<Vec<_>>();
        let others = ["keyward-before-upgrade.backup".to_owned(), "notes".to_owned()];
        for (there, newest, keep, removed, later) in [
            (&[3, 1, 2][..], 3, 2, &[1][..], 0),
            (&[3, 1, 2], 3, 1, &[1, 2], 0),
            (&[3, 1, 2], 3, 3, &[], 0),
            (&[3, 1, 2], 3, 9, &[], 0),
            // The clock was ahead when 8 and 9 were made.
            (&[8, 1, 9, 2], 2, 1, &[1], 2),
        ] {
            let names = [days(there), others.to_vec()].concat();
            assert_eq!(judge(names, &name(NOW + newest * DAY), keep, ""), (days(removed), later), "{there:?} {keep}");
        }
    }

    #[test]
    fn a_part_is_removed_when_nobody_can_be_writing_it_any_more() {
        let part = |time: u64| format!("{}.partial-7", name(time));
        let names = vec![part(NOW - 3601), part(NOW - 3599), part(NOW), name(NOW)];
        let (removed, _) = judge(names, &name(NOW), 1, &name(NOW - PARTIAL_SECONDS));
        assert_eq!(removed, [part(NOW - 3601)]);
    }
}
