//! The pepper: a systemd credential, or a 0600 file made at first start. Never in the database, never in a backup.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::DEFAULT_DATA_DIR;
use crate::model::Pepper;
use crate::model::secret::PEPPER_BYTES;
use crate::registry::DATABASE_FILE;

/// Its name, as a file in the data directory and as a systemd credential.
pub(super) const PEPPER_FILE: &str = "pepper";
/// The name it has until it is durable.
const NEW_FILE: &str = "pepper.new";
/// Where systemd puts credentials (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";
/// 64 hexadecimal digits, a line end, and room to see that there is more.
const FILE_BYTES_MAX: u64 = 80;
const OTHERS: u32 = 0o077;
/// Where the package keeps it, out of reach of the daemon's user; the unit passes it on.
pub(super) const INSTALLED_FILE: &str = "/etc/keyward/pepper";
/// What the unit passes as the credential when its file is missing (`SetCredential=pepper:none`).
const NO_CREDENTIAL: &[u8] = b"none";

/// Why the pepper can't be used. Says nothing of its content.
#[derive(Debug)]
pub enum PepperError {
    /// It can't be read or made.
    Io(PathBuf, io::Error),
    /// Others than the owner may read it.
    NotPrivate(PathBuf, u32),
    /// It is not 64 hexadecimal digits.
    Form(PathBuf),
    /// The unit passes a credential, but the file that it is to come from is missing.
    NoCredential,
    /// There is a database but no pepper.
    Missing(PathBuf),
    /// There is a backup but no pepper.
    MissingForBackup(PathBuf),
}

impl fmt::Display for PepperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(
                f,
                "cannot read or make the pepper {}: {error}; check that it belongs to the daemon's user",
                path.display()
            ),
            Self::NotPrivate(path, mode) => write!(
                f,
                "the pepper {} is open to others (mode {mode:03o}): it must be 600; run: chmod 600 {}",
                path.display(),
                path.display()
            ),
            Self::Form(path) => write!(
                f,
                "the pepper {} is not 64 hexadecimal digits; put back the one that belongs to the database",
                path.display()
            ),
            Self::NoCredential => f.write_str(
                "the service manager had no pepper to pass on: the file that LoadCredential=pepper: names in the unit, as \
                 /etc/keyward/pepper, is missing; put back the one that belongs to the database (it is not in backups), \
                 or, where there is no database yet, make one of 64 hexadecimal digits",
            ),
            Self::Missing(path) => write!(
                f,
                "there is a database but no pepper {}: without it no code can match; put back the one that belongs to \
                 the database (it is not in backups)",
                path.display()
            ),
            Self::MissingForBackup(path) => write!(
                f,
                "there is no pepper {}: without it the backup can't be verified; put the one there that belongs to it (it \
                 is not in backups)",
                path.display()
            ),
        }
    }
}

impl std::error::Error for PepperError {}

/// The systemd credential if there is one, else the file in `data`, which is made if there is no database yet.
pub(super) fn load_or_make(data: &Path) -> Result<Pepper, PepperError> {
    if let Some(pepper) = load_existing(data)? {
        return Ok(pepper);
    }
    let path = data.join(PEPPER_FILE);
    if data.join(DATABASE_FILE).exists() {
        return Err(PepperError::Missing(path));
    }
    make(data, &path).map_err(|error| PepperError::Io(path.clone(), error))?;
    load(&path, Some(OTHERS))
}

/// The systemd credential if there is one, else the file in `data`; `None` when there is neither.
pub(super) fn load_existing(data: &Path) -> Result<Option<Pepper>, PepperError> {
    if let Some(credential) = credential() {
        return load(&credential, None).map(Some);
    }
    load_if_there(&data.join(PEPPER_FILE))
}

/// The same for commands that root runs beside a service that doesn't run, or can't: of the service's own directory also the
/// package's pepper.
pub(super) fn load_installed(data: &Path) -> Result<Option<Pepper>, PepperError> {
    match load_existing(data)? {
        None if data == Path::new(DEFAULT_DATA_DIR) => load_if_there(Path::new(INSTALLED_FILE)),
        found => Ok(found),
    }
}

fn load_if_there(path: &Path) -> Result<Option<Pepper>, PepperError> {
    match path.try_exists() {
        Ok(true) => load(path, Some(OTHERS)).map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(PepperError::Io(path.to_path_buf(), error)),
    }
}

/// The same for a backup, which another pepper than its own would not fit: none is made.
pub(super) fn load_for_backup(data: &Path) -> Result<Pepper, PepperError> {
    load_installed(data)?.ok_or_else(|| PepperError::MissingForBackup(data.join(PEPPER_FILE)))
}

fn credential() -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os(CREDENTIALS_VARIABLE)?).join(PEPPER_FILE);
    path.exists().then_some(path)
}

/// Reads it. systemd guards its credentials itself; a file of ours must be closed to `others`.
fn load(path: &Path, others: Option<u32>) -> Result<Pepper, PepperError> {
    let io = |error| PepperError::Io(path.to_path_buf(), error);
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.mode();
    if others.is_some_and(|others| mode & others != 0) {
        return Err(PepperError::NotPrivate(path.to_path_buf(), mode & 0o777));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(FILE_BYTES_MAX).unwrap_or(0)));
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(io)?;
    if *text == NO_CREDENTIAL {
        return Err(PepperError::NoCredential);
    }
    parse(&text).map(Pepper::new).ok_or_else(|| PepperError::Form(path.to_path_buf()))
}

fn parse(text: &[u8]) -> Option<Zeroizing<[u8; PEPPER_BYTES]>> {
    let digits = text.trim_ascii_end();
    if digits.len() != PEPPER_BYTES * 2 {
        return None;
    }
    let mut pepper = Zeroizing::new([0; PEPPER_BYTES]);
    for (byte, pair) in pepper.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(pepper)
}

/// Makes a new one, durable before it has its name, and never over one that is there.
fn make(data: &Path, path: &Path) -> io::Result<()> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut random = Zeroizing::new([0; PEPPER_BYTES]);
    getrandom::fill(random.as_mut_slice()).map_err(io::Error::other)?;
    let mut text = Zeroizing::new(Vec::with_capacity(PEPPER_BYTES * 2 + 1));
    for byte in random.iter() {
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text.push(b'\n');
    let new = data.join(NEW_FILE);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pepper_is_sixty_four_hexadecimal_digits() {
        let digits = "00ff".repeat(16);
        assert_eq!(parse(digits.as_bytes()).as_deref().map(|p| &p[..2]), Some([0, 255].as_slice()));
        assert!(parse(format!("{digits}\n").as_bytes()).is_some());
        assert!(parse(digits.to_uppercase().as_bytes()).is_some());
        for bad in ["", "00ff", &format!("{digits}0"), &format!(" {digits}"), &"zz".repeat(32)] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
