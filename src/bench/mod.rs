//! The load generator: worlds of any size, and measured questions about them.
//!
//! It speaks to a daemon over its sockets as any client does and knows nothing of the daemon's inside.
//!
//! | part | what is in it |
//! |---|---|
//! | [`world`] | which agents, endpoints and keys there are, and what may be asked |
//! | [`load`] | filling a daemon with a world |
//! | [`picks`] | which ids are asked for |
//! | [`exchange`] | requests made beforehand, and how replies are read |
//! | [`questions`] | the exchange with a daemon's query socket |
//! | [`generator`] | asking and measuring |
//! | [`process`] | what a process uses, and on which core it runs |

pub mod exchange;
pub mod generator;
pub mod load;
pub mod picks;
pub mod process;
pub mod questions;
pub mod world;
