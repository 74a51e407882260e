//! Reading the audit, waiting for it, and walking along it.

use std::time::Duration;

use keyward_proto::admin::{
    AUDIT_WAIT_SECONDS_MAX, AdminReply, Audit, AuditFault as WireFault, AuditPage as WirePage, AuditVerdict, Refused,
};

use super::{Desk, unavailable};
use crate::model::UnixSeconds;
use crate::registry::AuditCheck;

impl Desk {
    pub(super) async fn audit(&self, ask: Audit) -> Result<AdminReply, Refused> {
        let Audit { after, since, wait_seconds } = ask;
        if wait_seconds > 0 {
            let at_most = Duration::from_secs(wait_seconds.min(AUDIT_WAIT_SECONDS_MAX).into());
            // Whichever of the three it was, the page says what there is.
            tokio::select! {
                () = self.serving.registry.audit_beyond(after) => {}
                () = tokio::time::sleep(at_most) => {}
                () = self.stop.cancelled() => {}
            }
        }
        let page = self.blocking(move |registry| registry.audit(after, UnixSeconds(since))).await?;
        Ok(AdminReply::AuditPage(WirePage { lines: page.lines, last: page.last, more: page.more }))
    }

    /// Part by part, so that a stop is not held up by millions of records.
    pub(super) async fn verify_audit(&self) -> Result<AdminReply, Refused> {
        let mut check = self.blocking(|registry| registry.begin_audit_check()).await?;
        loop {
            let (walked, more) = self
                .blocking(move |registry| {
                    let mut check = check;
                    registry.check_audit(&mut check).map(|more| (check, more))
                })
                .await?;
            if !more {
                return Ok(AdminReply::AuditVerdict(verdict(walked)));
            }
            if self.stop.is_cancelled() {
                return Err(unavailable("the daemon is stopping: the audit was not checked to its end".to_string()));
            }
            check = walked;
        }
    }
}

fn verdict(check: AuditCheck) -> AuditVerdict {
    let fault = |fault: crate::registry::AuditFault| WireFault { number: fault.number, what: fault.what };
    AuditVerdict {
        first: check.first,
        last: check.last,
        hash: check.hash.map(|hash| hash.to_string()),
        records: check.records,
        faults: check.faults.into_iter().map(fault).collect(),
        fault_count: check.fault_count,
    }
}
