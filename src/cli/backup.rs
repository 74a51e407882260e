//! `backup`: what the daemon sends, into a file of the caller's.

use serde::Serialize;

use super::Context;
use super::args::Backup;
use super::error::{CliError, Exit};
use super::new_file::Sink;
use super::output::{print, print_json};
use super::tables::escape;
use super::times::format_time;

#[derive(Serialize)]
struct BackupForm<'a> {
    file: &'a str,
    bytes: u64,
}

/// `backup FILE`
pub(super) fn backup(context: &Context, args: &Backup) -> Result<Exit, CliError> {
    let mut client = context.admin()?;
    let mut sink = Sink::open(&args.file, true)?;
    client.backup(|bytes| sink.write(bytes))?;
    let to_stdout = matches!(sink, Sink::Stdout(_));
    let bytes = sink.finish()?;
    let file = args.file.to_string_lossy();
    if to_stdout {
        return Ok(Exit::Done);
    }
    if context.json {
        print_json(&BackupForm { file: &file, bytes })?;
    } else {
        print(&format!(
            "{}: {bytes} bytes; without the pepper it is of no use, so keep a copy of that elsewhere\n",
            escape(&file)
        ))?;
    }
    Ok(Exit::Done)
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
