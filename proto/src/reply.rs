//! Verdicts as the daemon writes them, straight into their bytes: the format of `PROTOCOL.md` and nothing else.
//!
//! [`crate::codec`] writes the same with over twice the instructions, a number at a time; a test holds the two to the same
//! bytes. What is written of an agent and of an endpoint was encoded when their records were read.

use crate::frame::{LENGTH_BYTES, VERSION, put_length};
use crate::query::{BATCH_VERDICTS, BatchVerdictsRef, IdentityRef, VERDICT, VerdictRef};

/// Room for the numbers that a verdict begins with.
const HEAD_BYTES_MAX: usize = 64;
/// `None`, and `Some` in front of its value.
const NONE: [u8; 1] = [0];
const SOME: [u8; 1] = [1];

pub(crate) fn put_verdict(out: &mut Vec<u8>, request_id: u32, verdict: &VerdictRef<'_>) {
    let start = out.len();
    let mut head = Head::new(VERDICT, request_id);
    head.put(verdict.reason.to_be_bytes());
    head.put(verdict.status.to_be_bytes());
    head.put(verdict.retry_after.to_be_bytes());
    put_identity(out, head, verdict.identity.as_ref());
    match verdict.route {
        None => out.extend_from_slice(&NONE),
        Some(route) => {
            out.extend_from_slice(&SOME);
            out.extend_from_slice(route);
        }
    }
    put_length(out, start);
}

pub(crate) fn put_batch(out: &mut Vec<u8>, request_id: u32, batch: &BatchVerdictsRef<'_>) {
    let start = out.len();
    let mut head = Head::new(BATCH_VERDICTS, request_id);
    head.put(batch.reason.to_be_bytes());
    head.put(batch.status.to_be_bytes());
    put_identity(out, head, batch.identity.as_ref());
    out.extend_from_slice(&(batch.verdicts.len() as u64).to_be_bytes());
    for verdict in batch.verdicts {
        let [[r0, r1], [s0, s1]] = [verdict.reason.to_be_bytes(), verdict.status.to_be_bytes()];
        let [a0, a1, a2, a3] = verdict.retry_after.to_be_bytes();
        out.extend_from_slice(&[r0, r1, s0, s1, a0, a1, a2, a3]);
    }
    put_length(out, start);
}

/// Appends `head` and behind it who it is.
fn put_identity(out: &mut Vec<u8>, mut head: Head, identity: Option<&IdentityRef<'_>>) {
    let Some(identity) = identity else {
        head.put(NONE);
        return out.extend_from_slice(head.bytes());
    };
    head.put(SOME);
    // Variants are numbered in their order.
    head.put((identity.mode as u32).to_be_bytes());
    head.put(identity.credential_id.to_be_bytes());
    head.put((identity.code as u32).to_be_bytes());
    head.put_option(identity.expires_at);
    head.put_option(identity.app_id);
    head.put(identity.agent_id.to_be_bytes());
    out.extend_from_slice(head.bytes());
    out.extend_from_slice(identity.agent);
    out.push(u8::from(identity.switched));
}

/// The numbers that a frame begins with, put together before they are appended.
struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    used: usize,
}

impl Head {
    /// The length is not known yet.
    fn new(kind: u16, request_id: u32) -> Self {
        let mut head = Self { bytes: [0; HEAD_BYTES_MAX], used: LENGTH_BYTES };
        head.put(VERSION.to_be_bytes());
        head.put(kind.to_be_bytes());
        head.put(request_id.to_be_bytes());
        head
    }

    fn put<const BYTES: usize>(&mut self, bytes: [u8; BYTES]) {
        self.bytes[self.used..self.used + BYTES].copy_from_slice(&bytes);
        self.used += BYTES;
    }

    fn put_option(&mut self, number: Option<u64>) {
        match number {
            None => self.put(NONE),
            Some(number) => {
                self.put(SOME);
                self.put(number.to_be_bytes());
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}
