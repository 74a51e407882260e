//! Keyward, a local auth daemon: *who is this, and may they call this endpoint?*
//!
//! One idea: state moves only by a [`model::Change`], and a question is answered only by [`decide::decide`]. Every
//! writer ends in the one writer of [`registry`]; every door ends in the same pure decision. Answers come from memory
//! ([`directory`]); the database ([`store`]) is the log of truth.
//!
//! One query through two files: [`serve`]'s `query.rs` reads frames from the socket, takes the published state, and
//! hands each question to [`decide`], which is section 2.4 of the contract as a checklist.
//!
//! | module | may use (ours) |
//! |---|---|
//! | [`tags`], [`route`], [`chain`] | – |
//! | [`model`] | tags, route |
//! | [`directory`] | tags, route, model |
//! | [`decide`] | tags, route, model, directory |
//! | [`store`] | model, tags, chain |
//! | [`registry`] | model, tags, route, directory, decide, store, chain |
//! | [`serve`] | registry, model, tags, proto |
//! | [`config`] | – |
//! | [`daemon`] | all of the above |
//! | [`bench`](mod@bench) | proto |
//! | [`cli`] | proto, config, tags, route, chain, bench |
//!
//! `tests/layers.rs` reads the sources and fails on an edge outside this table; the README has the table with what each
//! layer must not know.

pub mod bench;
pub mod chain;
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
