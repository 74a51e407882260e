//! The load generator: worlds of any size, and measured questions about them.
//!
//! It speaks to a daemon over its sockets as any client does and knows nothing of the daemon's inside.
//!
//! | part | what is in it |
//! |---|---|
//! | [`world`] | which agents, endpoints and keys there are, and what may be asked |
//! | [`load`] | filling a daemon with a world |

pub mod load;
pub mod world;
