//! Why a database can't be taken for the last state, and what it would undo.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::model::{Mode, RecordKey, Revision};

/// Names that a sentence lists before it only counts.
pub(super) const NAMES_LISTED_MAX: usize = 1000;

/// Why a database can't be taken for the last state. Each says what to do.
#[derive(Debug)]
pub enum WatermarkError {
    /// It can't be read or made.
    Io(PathBuf, io::Error),
    /// It does not prove itself.
    Damaged(PathBuf),
    /// The database is not the last state, and does not follow from it.
    SetBack {
        /// The database.
        database: PathBuf,
        /// The watermark.
        watermark: PathBuf,
        /// What it would mean to go on from it.
        setback: Box<Setback>,
    },
    /// There is no database.
    NoDatabase {
        /// Where it should be.
        database: PathBuf,
        /// The last acknowledged revision.
        acknowledged: Revision,
        /// The watermark.
        watermark: PathBuf,
    },
}

impl fmt::Display for WatermarkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(
                f,
                "cannot use the watermark {}: {error}; check that it belongs to the daemon's user",
                path.display()
            ),
            Self::Damaged(path) => write!(
                f,
                "the watermark {} is damaged, or of another pepper: whether the database is the last state can't be \
                 told; if it is, remove the watermark and start again",
                path.display()
            ),
            Self::SetBack { database, watermark, setback } => {
                let Setback { way, found, acknowledged, undone } = &**setback;
                let (database, watermark) = (database.display(), watermark.display());
                match way {
                    Way::Older => write!(
                        f,
                        "the database {database} is not the last state: it has revision {}, and {} was acknowledged; put \
                         the last one back, or restore the newest backup; to go on from this one and lose what came \
                         after, remove {watermark}; then {undone}",
                        found.0, acknowledged.0
                    ),
                    Way::Another => write!(
                        f,
                        "the database {database} is not a continuation of the last state: it has revision {}, but its \
                         audit has not the change that was acknowledged as revision {}; put the last one back, or restore \
                         a backup of it; to go on from this one and lose what the last one had, remove {watermark}; then \
                         {undone}",
                        found.0, acknowledged.0
                    ),
                }
            }
            Self::NoDatabase { database, acknowledged, watermark } => write!(
                f,
                "there is no database {}, and revision {} of it was acknowledged; put it back, or restore a backup; to \
                 begin with an empty one, remove {}",
                database.display(),
                acknowledged.0,
                watermark.display()
            ),
        }
    }
}

impl std::error::Error for WatermarkError {}

/// What has fates of its own, so that many of the one displace none of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Agents and keys.
    Lasting,
    /// Tokens and sessions, which end all the time.
    Passing,
}

impl Half {
    /// Both, in the file's order.
    pub(super) const ALL: [Self; 2] = [Self::Lasting, Self::Passing];

    /// Endpoints are not noted: whoever calls one must have a credential.
    pub(super) const fn of(key: &RecordKey) -> Option<Self> {
        match key {
            RecordKey::Agent(_) | RecordKey::Credential(Mode::Key, _) => Some(Self::Lasting),
            RecordKey::Credential(Mode::Token | Mode::Session, _) => Some(Self::Passing),
            RecordKey::Endpoint(..) => None,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Lasting => "agents and keys",
            Self::Passing => "tokens and sessions",
        }
    }
}

/// How a state stands to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is an earlier one.
    Older,
    /// Its revision is not lower, but it is another history's: the last one's changes are not in it.
    Another,
}

/// What it would mean to go on from a state that is not the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setback {
    /// How it stands to the last one.
    pub way: Way,
    /// Its revision.
    pub found: Revision,
    /// The last acknowledged one.
    pub acknowledged: Revision,
    /// What would be in force again.
    pub undone: Undone,
}

/// What would be in force again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// A few words each: `key 5 (revoked)`.
    pub names: Vec<String>,
    /// Of what there may be others.
    pub incomplete: Vec<Half>,
}

impl Undone {
    /// Nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { names: Vec::new(), incomplete: Half::ALL.to_vec() }
    }
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNLISTED: &str = "can't be listed any more";
        f.write_str("in force again would be: ")?;
        if self.names.is_empty() {
            return match self.incomplete[..] {
                [] => f.write_str("nothing"),
                [half] => write!(f, "{} that {UNLISTED}", half.words()),
                _ => write!(f, "what {UNLISTED}"),
            };
        }
        let listed = &self.names[..self.names.len().min(NAMES_LISTED_MAX)];
        f.write_str(&listed.join(", "))?;
        if self.names.len() > listed.len() {
            write!(f, ", and {} more", self.names.len() - listed.len())?;
        }
        match self.incomplete[..] {
            [] => Ok(()),
            [half] => write!(f, ", and older {} that {UNLISTED}", half.words()),
            _ => write!(f, ", and older ones that {UNLISTED}"),
        }
    }
}
