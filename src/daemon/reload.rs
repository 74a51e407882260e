//! SIGHUP: the configuration is read again, and is in force whole or not at all.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};

use super::affordable_connections;
use super::log::Log;
use super::supervision::{News, Teller};
use crate::config::{Config, Source};
use crate::model::UnixSeconds;
use crate::registry::{Registry, Retention};
use crate::serve::{Admins, Control, Deadlines, Reload, Rules};

const MEBIBYTE: u64 = 1024 * 1024;

/// What a reload needs.
pub(super) struct Reloader {
    pub(super) source: Source,
    /// What is in force.
    pub(super) config: Config,
    pub(super) log: Log,
    pub(super) ids_are_mapped: bool,
    pub(super) registry: Weak<Registry>,
    pub(super) teller: Teller,
}

/// What a configuration makes of the doors.
pub(super) fn rules(config: &Config, ids_are_mapped: bool) -> Rules {
    let (connections, http_connections) = affordable_connections(config);
    Rules {
        connections,
        http_connections,
        deadlines: Deadlines { frame: config.limits.frame_deadline, idle: config.limits.idle_timeout },
        admins: Admins { uids: config.admin.uids.clone(), gids: config.admin.gids.clone(), ids_are_mapped },
        session_cookie: config.http.session_cookie.clone(),
        denials_logged: config.log_denials,
        stop_deadline: config.limits.stop_deadline,
    }
}

/// How long a configuration wants the audit kept.
pub(super) const fn retention(config: &Config) -> Retention {
    Retention { age: config.audit.keep, bytes: config.audit.max_mib * MEBIBYTE }
}

/// SIGHUP waits from here on until [`on_signal`] is there to take it: a reload that comes while the database is being read
/// must not end the process.
pub(super) fn hold_signal() -> io::Result<()> {
    Ok(hang_up().thread_block()?)
}

fn hang_up() -> SigSet {
    SigSet::from_iter([Signal::SIGHUP])
}

/// Reloads at every SIGHUP. To be called within the runtime, before anybody can send one.
pub(super) fn on_signal(mut reloader: Reloader, control: Arc<Control>) -> io::Result<()> {
    let mut signals = signal(SignalKind::hangup())?;
    // One that waited comes now. Threads that were made before go on without.
    hang_up().thread_unblock()?;
    let teller = reloader.teller.clone();
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            teller.tell(News::Reloading);
            // Reading a file may wait for a disk; nobody's question does.
            let done = tokio::task::spawn_blocking({
                let control = Arc::clone(&control);
                move || {
                    let refused = reloader.reload(&control).err();
                    (reloader, refused)
                }
            });
            let done = done.await;
            teller.tell(News::Reloaded);
            let Ok((again, refused)) = done else { return };
            reloader = again;
            if let Some(why) = &refused {
                tracing::error!(%why, "the configuration was not reloaded: the one before stays in force");
            }
            let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            control.note_reload(Reload { at: UnixSeconds(at), refused });
        }
    });
    Ok(())
}

impl Reloader {
    /// # Errors
    /// Why nothing was changed.
    fn reload(&mut self, control: &Control) -> Result<(), String> {
        let config = self.source.load().map_err(|error| error.to_string())?;
        let fixed = changed_for_a_restart(&self.config, &config);
        if !fixed.is_empty() {
            return Err(format!(
                "{} can only change with a restart; restart keyward, or take the change back and reload again",
                fixed.join(", ")
            ));
        }
        let filter = super::log::parse(&config.log).map_err(|why| format!("the log filter can't be read: {why}"))?;
        // From here on nothing fails.
        let rules = rules(&config, self.ids_are_mapped);
        control.replace(rules);
        self.log.replace(filter);
        if let Some(registry) = self.registry.upgrade() {
            registry.set_retention(retention(&config));
        }
        tracing::info!(changed = %changed(&self.config, &config), "the configuration was reloaded");
        self.config = config;
        Ok(())
    }
}

/// Keys that differ and are read at the start only.
fn changed_for_a_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let keys = [
        ("data", old.data != new.data),
        ("runtime", old.runtime != new.runtime),
        ("group", old.group != new.group),
        ("workers", old.workers != new.workers),
        ("keep_expired", old.keep_expired != new.keep_expired),
        ("admin.group", old.admin.group != new.admin.group),
        ("http.listen", old.http.listen != new.http.listen),
    ];
    keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

/// Keys that differ, for the log.
fn changed(old: &Config, new: &Config) -> String {
    let keys = [
        ("log", old.log != new.log),
        ("log_denials", old.log_denials != new.log_denials),
        ("admin", old.admin != new.admin),
        ("http.session_cookie", old.http.session_cookie != new.http.session_cookie),
        ("limits", old.limits != new.limits),
        ("audit", old.audit != new.audit),
    ];
    let mut text = String::new();
    for (key, _) in keys.iter().filter(|(_, differs)| *differs) {
        let gap = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{gap}{key}");
    }
    if text.is_empty() { "nothing".to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_either_live_or_needs_a_restart() {
        let old = Config::default();
        let live = [
            "log='debug'",
            "log_denials=1",
            "admin.uids=[1]",
            "http.session_cookie='s'",
            "limits.connections=9",
            "audit.max_mib=9",
        ];
        let fixed = [
            "data='/d'",
            "runtime='/r'",
            "group='g'",
            "workers=2",
            "keep_expired='1d'",
            "admin.group='g'",
            "http.listen='[::1]:1'",
        ];
        for text in live {
            let new = Config::parse(text).expect("the table's lines are sound");
            assert_eq!(changed_for_a_restart(&old, &new), Vec::<&str>::new(), "{text}");
            assert_ne!(changed(&old, &new), "nothing", "{text}");
        }
        for text in fixed {
            let new = Config::parse(text).expect("the table's lines are sound");
            let key = text.split('=').next().unwrap_or_default();
            assert_eq!(changed_for_a_restart(&old, &new), [key], "{text}");
        }
    }
}
