//! The log: one line an event on standard error, whatever an attacker put into it.
//!
//! Under systemd each line begins with its level as `<N>` (sd-daemon(3)), and the journal adds time and unit. The journal's
//! own protocol would keep the fields apart, but `journalctl` shows the message only, and so "a connection was refused"
//! without the reason; a second socket and package are not worth that.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use super::StartError;
use crate::escape::escape;

/// The environment's filter for the log goes before the configuration's.
const LOG_VARIABLE: &str = "KEYWARD_LOG";
/// Set by systemd for a service whose standard error is the journal: that stream's device and inode (systemd.exec(5)).
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// The running log, whose filter can be changed.
pub(super) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// Starts it, for the whole process.
    pub(super) fn start(filter: &str) -> Result<Self, StartError> {
        let (filter, handle) = reload::Layer::new(parse(filter).map_err(StartError::LogFilter)?);
        let lines = OneLine { for_journal: is_journal() };
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(io::stderr).event_format(lines);
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        subscriber.try_init().map_err(|error| StartError::System("start the log", io::Error::other(error)))?;
        Ok(Self { filter: handle })
    }

    /// From now on this filter holds.
    pub(super) fn replace(&self, filter: EnvFilter) {
        // Failing means that the process ends.
        let _ = self.filter.reload(filter);
    }
}

/// The filter in force: the environment's, or this one.
pub(super) fn parse(configured: &str) -> Result<EnvFilter, String> {
    let filter = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| configured.to_string());
    crate::config::parse_log_filter(&filter)
}

fn is_journal() -> bool {
    let Ok(stat) = fstat(io::stderr().as_fd()) else { return false };
    std::env::var(JOURNAL_VARIABLE).is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// An event as one line of visible characters.
struct OneLine {
    for_journal: bool,
}

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        if self.for_journal {
            write!(out, "<{}>", journal_level(metadata.level()))?;
        } else {
            SystemTime.format_time(&mut out)?;
            write!(out, " {:>5} ", metadata.level())?;
        }
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        writeln!(out, "{}: {}", metadata.target(), escape(&text))
    }
}

/// syslog(3)
fn journal_level(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
