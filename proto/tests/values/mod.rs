//! The messages behind the golden frames: every type at least once, every optional field both given and not.

#![allow(dead_code, reason = "each test target uses its part")]

mod admin;
mod query;
mod what_if;

use keyward_proto::admin::{AdminReply, AdminRequest};
use keyward_proto::frame::Frame;
use keyward_proto::query::{QueryReply, QueryRequest};
use keyward_proto::{ErrorCode, FrameError};

/// A value of one of the four enums.
#[derive(PartialEq)]
pub(crate) enum Message<'a> {
    Query(QueryRequest<'a>),
    QueryReply(QueryReply),
    Admin(AdminRequest),
    AdminReply(AdminReply),
}

impl Message<'_> {
    pub(crate) fn frame(&self, request_id: u32) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Query(message) => message.put(&mut out, request_id),
            Self::QueryReply(message) => message.put(&mut out, request_id),
            Self::Admin(message) => message.put(&mut out, request_id),
            Self::AdminReply(message) => message.put(&mut out, request_id),
        }
        out
    }

    /// What a receiver of this one of the enums reads from `frame`.
    pub(crate) fn read_likewise<'f>(&self, frame: &Frame<'f>) -> Result<Message<'f>, FrameError> {
        match self {
            Self::Query(_) => QueryRequest::decode(frame).map(Message::Query),
            Self::QueryReply(_) => QueryReply::decode(frame).map(Message::QueryReply),
            Self::Admin(_) => AdminRequest::decode(frame).map(Message::Admin),
            Self::AdminReply(_) => AdminReply::decode(frame).map(Message::AdminReply),
        }
    }
}

pub(crate) struct Vector {
    pub name: &'static str,
    pub request_id: u32,
    /// Every value in it that is not absent, empty, 0 or false.
    pub description: &'static str,
    pub message: Message<'static>,
}

fn vector(name: &'static str, description: &'static str, message: Message<'static>) -> Vector {
    Vector { name, request_id: 7, description, message }
}

pub(crate) fn all() -> Vec<Vector> {
    let mut all = query::requests();
    all.extend(query::replies());
    all.extend(admin::requests());
    all.extend(admin::replies());
    all.extend(what_if::requests());
    all.extend(what_if::replies());
    all
}

fn error(code: ErrorCode, message: &str) -> FrameError {
    FrameError::new(code, message)
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn pairs(items: &[(&str, &str)]) -> Vec<(String, String)> {
    items.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
