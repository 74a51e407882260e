//! `keyward`: hands the command line to `cli`, the daemon's commands to `daemon`, and returns the exit status.

use std::io::Write;
use std::process::ExitCode;

use keyward::cli::{self, DoctorTask, Exit, Restore, RestoredForm, Task};
use keyward::daemon::{self, Checkup, Health};
use keyward::escape::escape;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(usage) => return print_usage(&usage),
    };
    let serves = cli.serves();
    let done = match cli::run(cli) {
        Ok(Task::Finished(exit)) => Ok(exit),
        Ok(Task::Serve(config, source)) => {
            daemon::serve(*config, source).map(|()| Exit::Done).map_err(|e| (e.to_string(), Exit::Fault))
        }
        Ok(Task::Doctor(task)) => look(task),
        Ok(Task::Quickstart) => daemon::quickstart().map(|()| Exit::Done).map_err(|e| (e.to_string(), Exit::Fault)),
        Ok(Task::Restore(task)) => restore(&task),
        Err(error) => Err((error.to_string(), error.exit())),
    };
    let exit = done.unwrap_or_else(|(message, exit)| {
        // Nobody can be told when standard error is closed; the exit status still says it.
        let _ = writeln!(std::io::stderr(), "keyward: {}", escape(&message));
        if serves {
            daemon::end_refused_start(&message);
        }
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
        list_is_complete: restored.undone.incomplete.is_empty(),
    };
    cli::tell_restored(&form, task.json).map(|()| Exit::Done).map_err(|error| (error.to_string(), error.exit()))
}

/// `doctor`: a problem that was found is a fault.
fn look(task: DoctorTask) -> Result<Exit, (String, Exit)> {
    let DoctorTask { source, user, accept_clock, json } = task;
    let out = &mut std::io::stdout().lock();
    let looked = if accept_clock {
        daemon::accept_clock(&source, json, out).map(|()| Health::Fine)
    } else {
        daemon::doctor(&Checkup { source, user }, json, out)
    };
    match looked {
        Ok(Health::Fine) => Ok(Exit::Done),
        Ok(Health::Problem) => Ok(Exit::Fault),
        Err(error) => Err((error.to_string(), Exit::Fault)),
    }
}

fn print_usage(usage: &clap::Error) -> ExitCode {
    let _ = usage.print();
    ExitCode::from(if usage.use_stderr() { Exit::Refused.status() } else { Exit::Done.status() })
}
