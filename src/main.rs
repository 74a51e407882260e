//! `keyward`: hands the command line to `cli`, the daemon's commands to `daemon`, and returns the exit status.

use std::io::Write;
use std::process::ExitCode;

use keyward::cli::{self, Exit, Restore, RestoredForm, Task};
use keyward::daemon;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(usage) => return print_usage(&usage),
    };
    let done = match cli::run(cli) {
        Ok(Task::Finished(exit)) => Ok(exit),
        Ok(Task::Serve(config)) => {
            daemon::serve(*config).map(|()| Exit::Done).map_err(|e| (e.to_string(), Exit::Fault))
        }
        Ok(Task::Quickstart) => daemon::quickstart().map(|()| Exit::Done).map_err(|e| (e.to_string(), Exit::Fault)),
        Ok(Task::Restore(task)) => restore(&task),
        Err(error) => Err((error.to_string(), error.exit())),
    };
    let exit = done.unwrap_or_else(|(message, exit)| {
        // Nobody can be told when standard error is closed; the exit status still says it.
        let _ = writeln!(std::io::stderr(), "keyward: {message}");
        exit
    });
    ExitCode::from(exit.status())
}

fn restore(task: &Restore) -> Result<Exit, (String, Exit)> {
    let restored = daemon::restore(&task.config.data, &task.file, task.accept_rollback)
        .map_err(|error| (error.to_string(), if error.is_refusal() { Exit::Refused } else { Exit::Fault }))?;
    let form = RestoredForm {
        database: &restored.database.to_string_lossy(),
        revision: restored.revision,
        committed_at: restored.committed_at,
        rows: restored.rows,
        rolled_back_from: restored.rolled_back_from,
        in_force_again: &restored.undone.names,
        list_is_complete: restored.undone.complete,
    };
    cli::tell_restored(&form, task.json).map(|()| Exit::Done).map_err(|error| (error.to_string(), error.exit()))
}

/// Help and version (status 0), or what is wrong with the usage (status 2). A closed pipe is no error.
fn print_usage(usage: &clap::Error) -> ExitCode {
    let _ = usage.print();
    ExitCode::from(if usage.use_stderr() { Exit::Refused.status() } else { Exit::Done.status() })
}
