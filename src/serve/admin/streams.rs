//! Replies of many frames that are made while they are sent, of one state of the database: backups.
//!
//! That state's pages can't be used again while it is read, so it is never kept for long: a client takes each frame
//! within the deadline of all replies, and the whole within [`STREAM_MAX`].

use std::io;
use std::time::{Duration, Instant};

use keyward_proto::admin::{AdminReply, BackupPart};

use super::{Desk, unavailable};
use crate::registry::Backup;
use crate::serve::connection::Connection;

/// A part of a backup: some thousand rows, a millisecond's work or two, after which questions have their turn.
const PART_BYTES: usize = 256 * 1024;
/// Two gigabytes of ten million keys take a slow disk a minute or two.
const STREAM_MAX: Duration = Duration::from_secs(15 * 60);

impl Desk {
    /// Sends a backup.
    ///
    /// # Errors
    /// When the peer is gone or does not take it in time: the connection is over.
    pub(super) async fn backup(&self, request_id: u32, connection: &mut Connection) -> io::Result<()> {
        let began = Instant::now();
        let mut backup = match self.blocking(|registry| registry.begin_backup()).await {
            Ok(backup) => backup,
            Err(refused) => {
                AdminReply::Refused(refused).put(connection.output(), request_id);
                return Ok(());
            }
        };
        let revision = backup.revision().0;
        loop {
            let making = Instant::now();
            let (made, part) = match self.next_part(backup, began).await {
                Ok(made) => made,
                Err(refused) => {
                    AdminReply::Refused(refused).put(connection.output(), request_id);
                    return Ok(());
                }
            };
            backup = made;
            let (made_in, last) = (making.elapsed(), part.last);
            AdminReply::BackupPart(part).put(connection.output(), request_id);
            connection.flush().await?;
            if last {
                tracing::info!(revision, milliseconds = began.elapsed().as_millis(), "backed up");
                return Ok(());
            }
            // At most half of a core's time, so that questions don't wait for it.
            tokio::time::sleep(made_in).await;
        }
    }

    async fn next_part(
        &self,
        mut backup: Backup,
        began: Instant,
    ) -> Result<(Backup, BackupPart), keyward_proto::admin::Refused> {
        if self.stop.is_cancelled() {
            return Err(unavailable("the daemon is stopping: take the backup again when it runs".to_string()));
        }
        if began.elapsed() > STREAM_MAX {
            let minutes = STREAM_MAX.as_secs() / 60;
            return Err(unavailable(format!(
                "the backup took longer than {minutes} minutes: write it to a faster disk, and copy it from there"
            )));
        }
        self.blocking(move |registry| {
            let part = registry.next_backup_part(&mut backup, PART_BYTES)?;
            Ok((backup, BackupPart { bytes: part.bytes, last: part.last }))
        })
        .await
    }
}
