//! Placeholder: the daemon is written on another branch.

use std::fmt;

use crate::config::Config;

/// Placeholder.
#[derive(Debug)]
pub struct StartError;

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this build holds no daemon")
    }
}

/// Placeholder.
///
/// # Errors
/// Always.
pub fn serve(_: Config) -> Result<(), StartError> {
    Err(StartError)
}

/// Placeholder.
///
/// # Errors
/// Always.
pub fn quickstart() -> Result<(), StartError> {
    Err(StartError)
}
