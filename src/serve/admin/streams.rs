//! Replies of many frames that are made while they are sent, of one state of the database: backups and
//! exports.
//!
//! That state's pages can't be used again while it is read, so it is never kept for long: a client takes each frame
//! within the deadline of all replies, and the whole within [`STREAM_MAX`].

use std::io;
use std::time::{Duration, Instant};

use keyward_proto::admin::{
    AdminReply, BackupPart as WirePart, Export as WireExport, ExportPage, PAGE_RECORDS_MAX, Refused,
};

use super::{Desk, is_shown, unavailable};
use crate::model::LastUses;
use crate::registry::{Backup, Export, Listed, Registry, StoreFault};
use crate::serve::connection::Connection;
use crate::serve::convert;

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
        let make = |registry: &Registry, backup: &mut Backup| {
            let part = registry.next_backup_part(backup, PART_BYTES)?;
            let last = part.last;
            Ok((AdminReply::BackupPart(WirePart { bytes: part.bytes, last }), last))
        };
        self.stream(Registry::begin_backup, make, request_id, connection).await
    }

    /// Sends an export.
    ///
    /// # Errors
    /// As [`Desk::backup`].
    pub(super) async fn export(
        &self,
        request: WireExport,
        request_id: u32,
        connection: &mut Connection,
    ) -> io::Result<()> {
        let make = move |registry: &Registry, export: &mut Export| {
            let part = registry.next_export_part(export, PAGE_RECORDS_MAX)?;
            let now = registry.view().now();
            let shown = part.records.into_iter().filter_map(|record| {
                let listed = Listed { record, uses: LastUses::default() };
                is_shown(&listed).then(|| convert::exported(&listed, now, request.with_hashes))
            });
            Ok((AdminReply::ExportPage(ExportPage { records: shown.collect(), last: part.last }), part.last))
        };
        self.stream(Registry::begin_export, make, request_id, connection).await
    }

    /// Sends what `make` makes of the state that `begin` takes hold of, until the last frame.
    async fn stream<S: Send + 'static>(
        &self,
        begin: impl FnOnce(&Registry) -> Result<S, StoreFault> + Send + 'static,
        make: impl Fn(&Registry, &mut S) -> Result<(AdminReply, bool), StoreFault> + Copy + Send + 'static,
        request_id: u32,
        connection: &mut Connection,
    ) -> io::Result<()> {
        let began = Instant::now();
        let mut state = match self.blocking(begin).await {
            Ok(state) => state,
            Err(refused) => {
                AdminReply::Refused(refused).put(connection.output(), request_id);
                return Ok(());
            }
        };
        loop {
            let making = Instant::now();
            let made = match self.expect_time(began) {
                Ok(()) => self.blocking(move |registry| make(registry, &mut state).map(|made| (state, made))).await,
                Err(refused) => Err(refused),
            };
            let (kept, (reply, last)) = match made {
                Ok(made) => made,
                Err(refused) => {
                    AdminReply::Refused(refused).put(connection.output(), request_id);
                    return Ok(());
                }
            };
            state = kept;
            let made_in = making.elapsed();
            reply.put(connection.output(), request_id);
            connection.flush().await?;
            if last {
                tracing::info!(milliseconds = began.elapsed().as_millis(), "a whole state was sent");
                return Ok(());
            }
            // At most half of a core's time, so that questions don't wait for it.
            tokio::time::sleep(made_in).await;
        }
    }

    /// Whether there is time for another part.
    fn expect_time(&self, began: Instant) -> Result<(), Refused> {
        if self.stop.is_cancelled() {
            return Err(unavailable("the daemon is stopping: begin again when it runs".to_string()));
        }
        if began.elapsed() > STREAM_MAX {
            let minutes = STREAM_MAX.as_secs() / 60;
            return Err(unavailable(format!(
                "it took longer than {minutes} minutes: write to a faster disk, and copy it from there"
            )));
        }
        Ok(())
    }
}
