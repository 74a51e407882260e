//! The configuration file: TOML, every field optional, unknown fields refused.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// Read when it exists and no other file was named.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/keyward/keyward.toml";
/// Where systemd's `StateDirectory=keyward` puts it.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/keyward";
/// Where systemd's `RuntimeDirectory=keyward` puts it.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/keyward";
/// The group of web workers that may ask; made by the package's sysusers file.
pub const DEFAULT_GROUP: &str = "keyward";
/// The cookie that carries a session, as `ID:CODE`.
pub const DEFAULT_SESSION_COOKIE: &str = "keyward_session";
/// A cookie's name is a word; browsers take some 4 KiB for name and value together.
pub const COOKIE_NAME_BYTES_MAX: usize = 64;
/// Starts, stops, alarms and changes; no line a question.
pub const DEFAULT_LOG: &str = "info";

/// Enough to see who is denied what, at most a few hundred lines a minute over all reasons.
pub const DEFAULT_LOG_DENIALS: u32 = 10;
/// A hundred lines a second for each reason is a log that nobody reads.
pub const LOG_DENIALS_MAX: u32 = 6_000;

/// A busy host's workers with room to spare; idle, these cost well under 200 MiB.
pub const DEFAULT_CONNECTIONS: usize = 16_384;
/// A million connections need some 10 GiB; nobody means more.
pub const CONNECTIONS_RANGE: RangeInclusive<usize> = 1..=1_000_000;
/// Left out, one user may hold three quarters of the connections, so that a runaway worker can't lock out the others.
const PER_UID_QUARTERS: usize = 3;
/// Left out, `connections_per_uid` for [`DEFAULT_CONNECTIONS`].
pub const DEFAULT_CONNECTIONS_PER_UID: usize = DEFAULT_CONNECTIONS / 4 * PER_UID_QUARTERS;

/// A local peer sends a frame in microseconds; one that needs longer is stuck, or holds memory on purpose.
pub const DEFAULT_FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// Long enough for any pool of kept connections, short enough that forgotten ones go.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// Open connections may finish for so long at a stop; well under systemd's 90 s.
pub const DEFAULT_STOP_DEADLINE: Duration = Duration::from_secs(10);
/// An expired token or session says `expired` for so long, and can be looked at; longer than a weekend with holidays.
pub const DEFAULT_KEEP_EXPIRED: Duration = Duration::from_secs(7 * 86_400);
/// Ten years; nobody means more.
pub const KEEP_EXPIRED_MAX: Duration = Duration::from_secs(3650 * 86_400);
/// Under a second honest peers are cut off on a busy host; over a day a deadline is none.
pub const DEADLINE_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// What happened a year ago can be looked up.
pub const DEFAULT_AUDIT_KEEP: Duration = Duration::from_secs(365 * 86_400);
/// A shorter time is a slip: records would be gone before anybody looked.
pub const AUDIT_KEEP_MIN: Duration = Duration::from_secs(3600);
/// Some three million changes by hand or by a backend; the database grows by no more than this.
pub const DEFAULT_AUDIT_MIB: u64 = 1024;
/// From one import's records to a disk's.
pub const AUDIT_MIB_RANGE: RangeInclusive<u64> = 1..=1024 * 1024;

/// One worker a core is best; far more than any host has cores is a slip.
pub const WORKERS_MAX: usize = 1_024;
/// A configuration is a page of text; a larger file is something else.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// `N` of a duration: years of days, and no product overflows.
const DURATION_NUMBER_MAX: u64 = 1_000_000_000;

/// What the daemon is told by its file and its flags.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Holds `keyward.redb` and, without a systemd credential, `pepper`.
    pub data: PathBuf,
    /// Holds the sockets.
    pub runtime: PathBuf,
    /// Group of `query.sock` and `http.sock`.
    pub group: String,
    /// Worker threads; 0 is one a core.
    #[serde(deserialize_with = "workers")]
    pub workers: usize,
    /// What is logged, as a `tracing` filter. The environment's `KEYWARD_LOG` goes before it.
    #[serde(deserialize_with = "log_filter")]
    pub log: String,
    /// Denied questions that are logged, for each reason, in a minute; of the others the number.
    #[serde(deserialize_with = "log_denials")]
    pub log_denials: u32,
    /// Tokens and sessions are removed so long after they have expired.
    #[serde(deserialize_with = "keeping")]
    pub keep_expired: Duration,
    /// Who else may use `admin.sock`.
    pub admin: Admin,
    /// The HTTP door.
    pub http: Http,
    /// Bounds on what peers can hold.
    pub limits: Limits,
    /// How long the audit is kept.
    pub audit: Audit,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from(DEFAULT_DATA_DIR),
            runtime: PathBuf::from(DEFAULT_RUNTIME_DIR),
            group: DEFAULT_GROUP.to_owned(),
            workers: 0,
            log: DEFAULT_LOG.to_owned(),
            log_denials: DEFAULT_LOG_DENIALS,
            keep_expired: DEFAULT_KEEP_EXPIRED,
            admin: Admin::default(),
            http: Http::default(),
            limits: Limits::default(),
            audit: Audit::default(),
        }
    }
}

/// How long the audit is kept: the oldest records beyond either are dropped, never the newest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Since the change.
    #[serde(deserialize_with = "keep")]
    pub keep: Duration,
    /// Of all records together, in MiB.
    #[serde(deserialize_with = "mebibytes")]
    pub max_mib: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { keep: DEFAULT_AUDIT_KEEP, max_mib: DEFAULT_AUDIT_MIB }
    }
}

/// Who may use `admin.sock` besides root and the daemon's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Users by id.
    pub uids: Vec<u32>,
    /// Groups by id.
    pub gids: Vec<u32>,
    /// Set: the socket is 0660 with this group. Not set: 0600.
    pub group: Option<String>,
}

/// The HTTP door, for proxies. `http.sock` is always there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// A loopback address to listen on as well, for proxies that can't dial Unix sockets.
    #[serde(deserialize_with = "loopback")]
    pub listen: Option<SocketAddr>,
    /// The cookie that carries a session where there is no `Authorization` header.
    #[serde(deserialize_with = "cookie_name")]
    pub session_cookie: String,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: None, session_cookie: DEFAULT_SESSION_COOKIE.to_owned() }
    }
}

/// Bounds on what peers can hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "LimitsForm")]
pub struct Limits {
    /// Open connections on the query socket; the HTTP door has a quarter as many of its own.
    pub connections: usize,
    /// Of these, by one user.
    pub connections_per_uid: usize,
    /// From the first byte of a frame, or of an HTTP request's head, to its last.
    pub frame_deadline: Duration,
    /// A connection that sends nothing for so long is closed.
    pub idle_timeout: Duration,
    /// At a stop, from the signal to the closing of what is still open.
    pub stop_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: DEFAULT_CONNECTIONS,
            connections_per_uid: DEFAULT_CONNECTIONS_PER_UID,
            frame_deadline: DEFAULT_FRAME_DEADLINE,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            stop_deadline: DEFAULT_STOP_DEADLINE,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsForm {
    #[serde(default, deserialize_with = "connections")]
    connections: Option<usize>,
    #[serde(default, deserialize_with = "connections")]
    connections_per_uid: Option<usize>,
    #[serde(default, deserialize_with = "deadline")]
    frame_deadline: Option<Duration>,
    #[serde(default, deserialize_with = "deadline")]
    idle_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "deadline")]
    stop_deadline: Option<Duration>,
}

impl TryFrom<LimitsForm> for Limits {
    type Error = String;

    fn try_from(form: LimitsForm) -> Result<Self, String> {
        let connections = form.connections.unwrap_or(DEFAULT_CONNECTIONS);
        let share = (connections * PER_UID_QUARTERS / 4).max(1);
        let connections_per_uid = form.connections_per_uid.unwrap_or(share);
        if connections_per_uid > connections {
            return Err(format!(
                "connections_per_uid ({connections_per_uid}) is over connections ({connections}); one user can't have \
                 more than all have"
            ));
        }
        Ok(Self {
            connections,
            connections_per_uid,
            frame_deadline: form.frame_deadline.unwrap_or(DEFAULT_FRAME_DEADLINE),
            idle_timeout: form.idle_timeout.unwrap_or(DEFAULT_IDLE_TIMEOUT),
            stop_deadline: form.stop_deadline.unwrap_or(DEFAULT_STOP_DEADLINE),
        })
    }
}

fn keep<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = parse_duration(&text).map_err(D::Error::custom)?;
    if duration < AUDIT_KEEP_MIN {
        return Err(D::Error::custom(format!("`{text}` is too short: nobody could read it in time; write 1h or more")));
    }
    Ok(duration)
}

fn mebibytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if !AUDIT_MIB_RANGE.contains(&number) {
        let (min, max) = (AUDIT_MIB_RANGE.start(), AUDIT_MIB_RANGE.end());
        return Err(D::Error::custom(format!("{number} MiB are out of range; write {min} to {max}")));
    }
    Ok(number)
}

fn workers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = usize::deserialize(deserializer)?;
    if number > WORKERS_MAX {
        return Err(D::Error::custom(format!(
            "{number} workers are too many; write 0 for one a core, or up to {WORKERS_MAX}"
        )));
    }
    Ok(number)
}

fn log_filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match parse_log_filter(&text) {
        Ok(_) => Ok(text),
        Err(why) => {
            Err(D::Error::custom(format!("`{text}` is no log filter: {why}; write a level such as info or debug")))
        }
    }
}

/// Reads a `tracing` filter. A word by itself that is no level would be taken for the name of a module, and nothing but that
/// be logged: it is refused.
///
/// # Errors
/// What it is that can't be read.
pub fn parse_log_filter(text: &str) -> Result<EnvFilter, String> {
    let is_word = |directive: &str| !directive.is_empty() && directive.bytes().all(|b| b.is_ascii_alphabetic());
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    match text.split(',').map(str::trim).find(|directive| is_word(directive) && !is_level(directive)) {
        Some(word) => Err(format!("{word} is no level (error, warn, info, debug, trace, off)")),
        None => EnvFilter::try_new(text).map_err(|error| error.to_string()),
    }
}

fn log_denials<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if number > LOG_DENIALS_MAX {
        return Err(D::Error::custom(format!(
            "{number} lines a minute for each reason are too many; write 0 for none, or up to {LOG_DENIALS_MAX}"
        )));
    }
    Ok(number)
}

fn keeping<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = parse_duration(&text).map_err(D::Error::custom)?;
    if duration > KEEP_EXPIRED_MAX {
        return Err(D::Error::custom(format!("`{text}` is out of range; write 0s to 3650d")));
    }
    Ok(duration)
}

/// Plain HTTP that carries credentials stays on this machine.
fn loopback<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        return Err(D::Error::custom(format!("`{text}` is no address and port; write 127.0.0.1:7979 or [::1]:7979")));
    };
    if !address.ip().is_loopback() {
        return Err(D::Error::custom(format!(
            "`{text}` is no loopback address, and credentials would cross the network unencrypted; write \
             127.0.0.1:7979 or [::1]:7979 and let a proxy on this host answer for the others"
        )));
    }
    Ok(Some(address))
}

fn cookie_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !(1..=COOKIE_NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(token) {
        return Err(D::Error::custom(format!(
            "`{name}` is no name for a cookie; write 1 to {COOKIE_NAME_BYTES_MAX} letters, digits, `_` or `-`"
        )));
    }
    Ok(name)
}

fn connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let number = usize::deserialize(deserializer)?;
    if !CONNECTIONS_RANGE.contains(&number) {
        let (min, max) = (CONNECTIONS_RANGE.start(), CONNECTIONS_RANGE.end());
        return Err(D::Error::custom(format!("{number} connections are out of range; write {min} to {max}")));
    }
    Ok(Some(number))
}

fn deadline<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = parse_duration(&text).map_err(D::Error::custom)?;
    if !DEADLINE_RANGE.contains(&duration) {
        return Err(D::Error::custom(format!("`{text}` is out of range; write 1s to 1d")));
    }
    Ok(Some(duration))
}

impl Config {
    /// Reads `path`; without one [`DEFAULT_CONFIG_FILE`] where it exists, else nothing but defaults.
    ///
    /// # Errors
    /// The file can't be read, or a line of it is refused.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_CONFIG_FILE));
        match read(file) {
            Ok(text) => Self::parse(&text).map_err(|refusal| ConfigError::Refused { file: file.to_owned(), refusal }),
            Err(e) if path.is_none() && e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(cause) => Err(ConfigError::Unreadable { file: file.to_owned(), cause }),
        }
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// The first line that is refused.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        toml::from_str(text).map_err(|e| Refusal::new(text, &e))
    }
}

/// Where a configuration comes from: so that it can be read again.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file that was named.
    pub file: Option<PathBuf>,
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--runtime`, or the environment's.
    pub runtime: Option<PathBuf>,
}

impl Source {
    /// Reads the configuration. Flags go before the file.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.file.as_deref())?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        if let Some(runtime) = &self.runtime {
            config.runtime.clone_from(runtime);
        }
        Ok(config)
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bounded = &mut io::Read::take(std::fs::File::open(file)?, CONFIG_FILE_BYTES_MAX + 1);
    io::Read::read_to_string(bounded, &mut text)?;
    if text.len() as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is over 1 MiB"));
    }
    Ok(text)
}

/// Where a configuration is refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// From 1.
    pub line: usize,
    /// The line, which names the key; a configuration holds no secret.
    pub text: String,
    /// In words.
    pub why: String,
}

impl Refusal {
    fn new(text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count();
        let quoted = text.lines().nth(line).unwrap_or_default().trim();
        Self { line: line + 1, text: quoted.to_owned(), why: error.message().replace('\n', "; ") }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}`: {}", self.line, self.text, self.why)
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file can't be read.
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// The file says something that is not understood.
    Refused {
        /// Which file.
        file: PathBuf,
        /// Which line, and why.
        refusal: Refusal,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, cause } => {
                write!(f, "configuration not read: {}: {cause}; name a readable file with --config", file.display())
            }
            Self::Refused { file, refusal } => {
                write!(f, "configuration refused: {}: {refusal}; correct the line", file.display())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError;

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a duration; write a whole number and s, m, h or d, like 30d")
    }
}

impl std::error::Error for DurationError {}

/// Reads `N(s|m|h|d)`, like `10s` or `30d`.
///
/// # Errors
/// `text` is anything else, or beyond a billion of its unit.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .ok_or(DurationError)?;
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DurationError);
    }
    let number: u64 = number.parse().map_err(|_| DurationError)?;
    if number > DURATION_NUMBER_MAX {
        return Err(DurationError);
    }
    Ok(Duration::from_secs(number * seconds))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
