//! What keys, tokens and sessions have in common on the command line.

use std::time::Duration;

use clap::Args;

use super::id;
use crate::config::parse_duration;

pub(super) const ROTATE_HELP: &str = "The id stays. The old code is accepted beside the new one until the grace is over; the verdict says which of the \
     two was presented, and `show` when and from where each was last used. Rotating again ends the old code at once.";

pub(super) const LIST_HELP: &str = "A use is an accepted code. One that was never used counts as unused for any time, however new it is. With both \
     options only what fits both is listed; with either, what is revoked is left out.";

/// Which of them to list.
#[derive(Args, Clone, Copy)]
pub struct CredentialList {
    /// Those of which no code was used for so long, like 90d, or ever
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub unused_for: Option<Duration>,
    /// Those that expire within so long, like 14d, and are not expired yet
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expiring_in: Option<Duration>,
}

/// `… rotate`
#[derive(Args)]
pub struct Rotate {
    /// Its id
    #[arg(value_parser = id)]
    pub id: u64,
    /// Accept the old code so long beside the new one: 365d at most, and no longer than the credential itself
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "24h")]
    #[arg(conflicts_with_all = ["now", "drop_old"])]
    pub grace: Duration,
    /// Make a new code and end the old one at once
    #[arg(long, conflicts_with = "drop_old")]
    pub now: bool,
    /// Make no new code: end the old one, which a rotation before has left, at once
    #[arg(long)]
    pub drop_old: bool,
    /// Read the new code from standard input, one line
    #[arg(long, conflicts_with = "drop_old")]
    pub code_stdin: bool,
}
