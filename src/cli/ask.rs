//! Questions: `check`, `explain` and, offline, `tags test`.

use std::os::unix::ffi::OsStrExt;

use keyward_proto::admin::{self, AdminReply, AdminRequest, SetText};
use keyward_proto::query::{Asker, Mode, Reason, Target, Verdict};
use serde::Serialize;

use super::args::{Check, CredentialId, Explain, TagsTest};
use super::error::{CliError, Exit};
use super::forms::{ExplanationForm, VerdictForm};
use super::output::{print, print_json};
use super::tables::escape;
use super::{Context, input, records, reminded};
use crate::tags::{Outcome, Tag, TagSet};

/// Tags of one endpoint or question, the contract's bound.
const TAGS_MAX: usize = 16;
/// `check`: asks and prints the verdict.
pub(super) fn check(context: &Context, args: &Check) -> Result<Exit, CliError> {
    let credential = match &args.credential {
        Some(typed) => Some(input::credential(typed)?),
        None => None,
    };
    let asker = Asker {
        credential: credential.as_ref().map(|bytes| bytes.as_slice()),
        agent: args.agent.as_ref().map(|typed| typed.as_bytes()),
        address: args.ip.as_ref().map(|typed| typed.as_bytes()),
    };
    let verdict = ask(context, args, asker)?;
    if context.json {
        print_json(&VerdictForm::new(&verdict))?;
    } else {
        print(&records::verdict(&verdict))?;
    }
    Ok(verdict_exit(&verdict))
}

fn ask(context: &Context, args: &Check, asker: Asker<'_>) -> Result<Verdict, CliError> {
    let mut client = context.query()?;
    let verdict = reminded(|| {
        if let (Some(method), Some(path)) = (&args.method, &args.path) {
            return client.check(asker, Target::Endpoint { method: method.as_bytes(), path: path.as_bytes() });
        }
        if args.tags.is_empty() {
            return client.who(asker);
        }
        client.check(asker, Target::Tags(args.tags.iter().map(|tag| tag.as_bytes()).collect()))
    });
    Ok(verdict?)
}

fn verdict_exit(verdict: &Verdict) -> Exit {
    if verdict.is_allowed() {
        Exit::Done
    } else if verdict.reason == Reason::Unavailable.number() {
        Exit::Fault
    } else {
        Exit::Denied
    }
}

/// `explain`: prints every step. A denial explained is a command done.
pub(super) fn explain(context: &Context, args: Explain) -> Result<Exit, CliError> {
    let (mode, id) = named(&args.credential)?;
    let request = AdminRequest::Explain(admin::Explain {
        mode,
        id,
        agent: args.agent.map(|typed| typed.as_bytes().to_vec()),
        address: args.ip.map(|typed| typed.as_bytes().to_vec()),
        method: args.method.as_bytes().to_vec(),
        path: args.path.as_bytes().to_vec(),
    });
    let AdminReply::Explanation(explanation) = context.call(&request)? else {
        return Err(CliError::OtherReply);
    };
    if context.json {
        print_json(&ExplanationForm::new(&explanation))?;
    } else {
        print(&records::explanation(&explanation))?;
    }
    Ok(match verdict_exit(&explanation.verdict) {
        Exit::Fault => Exit::Fault,
        Exit::Done | Exit::Denied | Exit::Refused | Exit::Unreachable => Exit::Done,
    })
}

fn named(credential: &CredentialId) -> Result<(Mode, u64), CliError> {
    match (credential.key, credential.token, credential.session) {
        (Some(id), _, _) => Ok((Mode::Key, id)),
        (_, Some(id), _) => Ok((Mode::Token, id)),
        (_, _, Some(id)) => Ok((Mode::Session, id)),
        (None, None, None) => Err(CliError::Input("no credential named; give --key, --token or --session".to_owned())),
    }
}

#[derive(Serialize)]
struct OutcomeForm<'a> {
    outcome: &'static str,
    pattern: Option<&'a str>,
}

/// `tags test`: which pattern decides.
pub(super) fn tags_test(context: &Context, args: &TagsTest) -> Result<Exit, CliError> {
    let set = compile(&args.set)?;
    if args.tags.len() > TAGS_MAX {
        let count = args.tags.len();
        return Err(CliError::Input(format!("tags refused: {count} are over an endpoint's {TAGS_MAX}; give fewer")));
    }
    let tags = args.tags.iter().map(|text| {
        Tag::parse(text).map_err(|e| CliError::Input(format!("tag refused: `{text}`: {e}; write it like tickets.list")))
    });
    let tags: Vec<Tag> = tags.collect::<Result<_, _>>()?;
    let borrowed: Vec<_> = tags.iter().map(Tag::as_ref).collect();
    let (outcome, pattern) = set.deciding(&borrowed);
    let pattern = pattern.map(ToString::to_string);
    let (word, exit) = match outcome {
        Outcome::Granted => (Reason::Ok.name(), Exit::Done),
        Outcome::Denied => (Reason::TagDenied.name(), Exit::Denied),
        Outcome::NotGranted => (Reason::TagNotGranted.name(), Exit::Denied),
    };
    if context.json {
        print_json(&OutcomeForm { outcome: word, pattern: pattern.as_deref() })?;
    } else {
        let decided = pattern.map_or_else(|| "no pattern covers it".to_owned(), |p| format!("by {}", escape(&p)));
        print(&format!("{word}: {decided}\n"))?;
    }
    Ok(exit)
}

fn compile(text: &str) -> Result<TagSet, CliError> {
    let set = match input::set(text)? {
        SetText::Text(text) => TagSet::parse(&text),
        SetText::Items(items) => TagSet::from_items(items.iter().map(String::as_str)),
    };
    set.map_err(|e| CliError::Input(format!("tag set refused: {e}")))
}
