//! Keyward.

pub mod route;
