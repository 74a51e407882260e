//! `token mint`, and the end of one token or session, or of all of an agent's.

use keyward_proto::admin::{AdminReply, AdminRequest, CloseAll, Mint, Report, Secret, Selector};
use keyward_proto::query::Mode;

use super::args::{OneOrAgents, TokenMint};
use super::error::{CliError, Exit};
use super::forms::ReportForm;
use super::output::{print, print_json};
use super::{Context, input};

/// `token mint`
pub(super) fn mint(context: &Context, args: TokenMint) -> Result<Exit, CliError> {
    let mut credential = input::credential(&args.from)?;
    context.change(&AdminRequest::Mint(Mint {
        credential: Secret::new(std::mem::take(&mut *credential)),
        agent: args.agent,
        ttl: args.ttl.as_secs(),
        tags: args.tags.as_deref().map(input::set).transpose()?,
        app_id: args.app,
        label: args.label,
    }))
}

/// `token revoke`, `session close`
pub(super) fn end(context: &Context, mode: Mode, which: &OneOrAgents) -> Result<Exit, CliError> {
    match (which.id, which.agent) {
        (Some(id), _) => context.remove(Selector::Credential(mode, id)),
        (None, Some(agent)) => end_all(context, mode, agent),
        (None, None) => Err(CliError::Input("nothing to end: give an id, or --agent".to_owned())),
    }
}

fn end_all(context: &Context, mode: Mode, agent: u64) -> Result<Exit, CliError> {
    let AdminReply::Report(report) = context.call(&AdminRequest::CloseAll(CloseAll { mode, agent }))? else {
        return Err(CliError::OtherReply);
    };
    if context.json {
        print_json(&ReportForm::new(&report))?;
    } else {
        print(&ended_words(mode, agent, &report))?;
    }
    Ok(Exit::Done)
}

fn ended_words(mode: Mode, agent: u64, report: &Report) -> String {
    let (done, kind) = match mode {
        Mode::Session => ("closed", "session"),
        Mode::Key | Mode::Token => ("revoked", mode.name()),
    };
    match report.removed.len() {
        1 => format!("{done}: 1 {kind} of agent {agent}\n"),
        count => format!("{done}: {count} {kind}s of agent {agent}\n"),
    }
}
