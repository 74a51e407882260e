//! The only place that writes to standard output.

use std::io::{self, Write};

use serde::Serialize;

use super::error::CliError;

/// Whether anybody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Go on.
    There,
    /// `keyward key list | head -1`: the pipe is closed, which is no error of ours.
    Gone,
}

/// Prints `text` as it is.
pub(super) fn print(text: &str) -> Result<Reader, CliError> {
    write_out(text).map_err(CliError::Output)
}

fn write_out(text: &str) -> io::Result<Reader> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(e) => Err(e),
    }
}

/// Prints what shows a new code: here a reader who is gone matters, since nobody can ever see the code again.
pub(super) fn print_new_code(text: &str) -> Result<(), CliError> {
    match write_out(text) {
        Ok(Reader::There) => Ok(()),
        Ok(Reader::Gone) => Err(CliError::CodeLost(io::ErrorKind::BrokenPipe.into())),
        Err(cause) => Err(CliError::CodeLost(cause)),
    }
}

/// One line of JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    let mut line =
        serde_json::to_string(value).expect("the forms hold strings, numbers and lists, and string keys only");
    line.push('\n');
    line
}

/// Prints one line of JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<Reader, CliError> {
    print(&json(value))
}
