//! Which threads go first where there are more than cores.

/// Added to a thread's nice value: it gets a fifteenth of what a question's thread gets where both want the same core, and
/// all of it where they don't (sched(7)).
const BACKGROUND_NICE: i32 = 12;

/// The calling thread, and those that it starts, stand back behind questions.
pub(super) fn stand_back() {
    if let Err(error) = rustix::process::nice(BACKGROUND_NICE) {
        tracing::debug!(%error, "changes and questions have the same priority");
    }
}
