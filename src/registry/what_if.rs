//! A change that is planned and tried out, and never made.

use super::Refusal;
use crate::decide::{Comparison, Uncompared, compare};
use crate::directory::Compiler;
use crate::model::{Edit, Record, RecordKey, RecordName, UnixSeconds};

/// The change that is asked about.
pub enum WhatIf {
    /// As [`super::Order::Set`].
    Set(Edit),
    /// As [`super::Order::Remove`].
    Remove(RecordName),
}

/// The state that a change was planned against, and the records that it would put. The writer makes one in a few
/// microseconds and goes on; to compare the two states is for another thread.
pub struct Preview {
    compiler: Compiler,
    records: Vec<Record>,
}

impl Preview {
    pub(super) fn new(compiler: &Compiler, records: &[Record]) -> Self {
        Self { compiler: compiler.clone(), records: records.to_vec() }
    }

    /// What credentials would gain and lose. Takes its time.
    ///
    /// # Errors
    /// The change is of endpoints, or what the answer rests on is damaged.
    pub fn compare(mut self, now: UnixSeconds) -> Result<Comparison, Refusal> {
        let before = self.compiler.directory().clone();
        let changed: Vec<RecordKey> = self.records.iter().map(Record::key).collect();
        self.compiler.apply(&self.records, before.revision());
        compare(&before, self.compiler.directory(), &changed, now).map_err(|uncompared| match uncompared {
            Uncompared::Endpoints => {
                let message = "what a change of an endpoint would come to is not told: ask about agents, keys, tokens \
                               and sessions; `apply --dry-run` tells how records would differ";
                Refusal::Invalid { index: None, message: message.to_string() }
            }
            Uncompared::Damaged(why) => Refusal::Unavailable(why),
        })
    }
}
