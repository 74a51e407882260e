//! Keyward.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod decide;
pub mod directory;
pub mod model;
pub mod registry;
pub mod route;
pub mod serve;
pub mod store;
pub mod tags;
