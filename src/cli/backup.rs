//! `backup`: what the daemon sends, into a file of the caller's.

use std::borrow::Cow;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::Context;
use super::args::Backup;
use super::error::{CliError, Exit};
use super::new_file::Sink;
use super::output::{print, print_json};
use super::series::{self, Pruned};
use super::tables::escape;
use super::times::{self, format_time};

#[derive(Serialize)]
struct BackupForm<'a> {
    file: &'a str,
    bytes: u64,
    removed: Vec<Cow<'a, str>>,
}

/// `backup FILE`, `backup --into DIR`
pub(super) fn backup(context: &Context, args: &Backup) -> Result<Exit, CliError> {
    let now = times::now();
    let file = match (&args.file, &args.into) {
        (Some(file), _) => file.clone(),
        (None, into) => series::file_in(into.as_deref().expect("one of the two is required"), now),
    };
    let mut client = context.admin()?;
    let mut sink = Sink::open(&file, true)?;
    client.backup(|bytes| sink.write(bytes))?;
    let to_stdout = matches!(sink, Sink::Stdout(_));
    let bytes = sink.finish()?;
    if to_stdout {
        return Ok(Exit::Done);
    }
    let pruned = args.keep.map(|keep| series::prune(&file, usize::from(keep), now)).transpose();
    // The backup is there, whatever became of the others.
    tell(context, &file, bytes, pruned.as_ref().ok().and_then(Option::as_ref))?;
    pruned.map(|_| Exit::Done)
}

fn tell(context: &Context, file: &Path, bytes: u64, pruned: Option<&Pruned>) -> Result<(), CliError> {
    let (removed, later) = pruned.map_or((&[][..], 0), |pruned| (&pruned.removed[..], pruned.later));
    let removed = removed.iter().map(|path| path.to_string_lossy());
    let file = file.to_string_lossy();
    if later > 0 {
        // The backup is made all the same; standard error may be closed.
        let _ = writeln!(
            std::io::stderr(),
            "keyward: backups named for a later time than now: {later}; was the clock ahead? they are kept and not \
             counted, remove them by hand"
        );
    }
    if context.json {
        return print_json(&BackupForm { file: &file, bytes, removed: removed.collect() }).map(drop);
    }
    let mut text = format!(
        "{}: {bytes} bytes; without the pepper it is of no use, so keep a copy of that elsewhere\n",
        escape(&file)
    );
    for path in removed {
        text.push_str(&format!("{}: removed\n", escape(&path)));
    }
    print(&text).map(drop)
}

/// What a restore came to.
#[derive(Serialize)]
pub struct RestoredForm<'a> {
    /// The database.
    pub database: &'a str,
    /// Its revision.
    pub revision: u64,
    /// When that was committed, in unix seconds.
    pub committed_at: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// The last acknowledged revision, if that is not in it.
    pub rolled_back_from: Option<u64>,
    /// What was revoked, removed, disabled or given another code since, and is in force again.
    pub in_force_again: &'a [String],
    /// That list has all of it.
    pub list_is_complete: bool,
}

/// Tells of a restore, which `main` has had carried out.
///
/// # Errors
/// Standard output takes no more.
pub fn tell_restored(form: &RestoredForm<'_>, json: bool) -> Result<(), CliError> {
    if json {
        return print_json(form).map(drop);
    }
    let mut text = format!(
        "{}: revision {} of {}, {} rows, all verified\n",
        escape(form.database),
        form.revision,
        format_time(form.committed_at),
        form.rows
    );
    if let Some(acknowledged) = form.rolled_back_from {
        let what = if acknowledged > form.revision { "and are undone" } else { "in another history, which is left" };
        text.push_str(&format!("revisions up to {acknowledged} were acknowledged {what}\n"));
    }
    for name in form.in_force_again {
        text.push_str(&format!("in force again: {name}\n"));
    }
    if !form.list_is_complete {
        text.push_str("and what can't be listed any more\n");
    }
    print(&text).map(drop)
}
