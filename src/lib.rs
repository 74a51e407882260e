//! Keyward.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod tags;
