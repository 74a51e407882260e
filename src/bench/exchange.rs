//! What a server is asked, made before anything is measured, and how its replies are read.

use std::fs::File;
use std::io;
use std::ops::Range;

/// Requests one behind the other, so that those of one write are one piece of memory.
#[derive(Default)]
pub struct Requests {
    bytes: Vec<u8>,
    /// Where each begins, and behind the last where it ends.
    bounds: Vec<usize>,
}

impl Requests {
    /// Appends what `put` appends as one request.
    pub fn push(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if self.bounds.is_empty() {
            self.bounds.push(0);
        }
        put(&mut self.bytes);
        self.bounds.push(self.bytes.len());
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of some of them.
    pub(super) fn bytes(&self, numbers: &Range<usize>) -> &[u8] {
        &self.bytes[self.bounds[numbers.start]..self.bounds[numbers.end]]
    }
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A yes, or the value that was asked for.
    Allowed,
    /// A no to the right code.
    Refused,
    /// A no to a wrong code or an unknown id.
    BadCredential,
    /// Not the answer that this request must get.
    Unexpected,
}

/// What lies at the head of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The reply is not whole yet.
    Incomplete,
    /// A reply.
    Whole {
        /// How many bytes it takes.
        bytes: usize,
        /// What it says.
        answer: Answer,
    },
    /// No reply to the request: the stream can't be followed.
    Broken,
}

/// One kind of server, and the requests made for it.
pub trait Exchange {
    /// Whether the server takes one request on each connection.
    const ONE_REQUEST_A_CONNECTION: bool = false;

    /// A new connection that requests may be written to.
    ///
    /// # Errors
    /// The server can't be reached, or refuses.
    fn open(&self) -> io::Result<File>;

    /// The requests.
    fn requests(&self) -> &Requests;

    /// Reads the reply to request `number` at the head of `input`.
    fn reply(&self, input: &[u8], number: usize) -> Reply;
}
