//! What a change would come to: `--dry-run` of changes of agents and keys, and what `agent disable` says.

use std::fmt::Write as _;
use std::mem::swap;

use keyward_proto::admin::{AdminReply, AdminRequest, Consequences, Effect, Selector, WhatIf};
use serde::Serialize;

use super::change::switched_agent;
use super::error::{CliError, Exit};
use super::forms::{ChangeForm, RecordForm, ReferenceForm};
use super::output::{print, print_json};
use super::tables::escape;
use super::{Context, records};

/// Credentials that a line for people names.
const NAMES_SHOWN_MAX: usize = 10;

/// Prints what the change would come to; nothing is changed.
pub(super) fn tell(context: &Context, what_if: WhatIf) -> Result<Exit, CliError> {
    let told = ask(context, what_if)?;
    if context.json {
        print_json(&DryRunForm::new(&told))?;
    } else {
        print(&dry_run_text(&told))?;
    }
    Ok(Exit::Done)
}

fn ask(context: &Context, what_if: WhatIf) -> Result<Consequences, CliError> {
    let AdminReply::Consequences(told) = context.call(&AdminRequest::WhatIf(what_if))? else {
        return Err(CliError::OtherReply);
    };
    Ok(told)
}

/// Disables the agent, at once, and prints what no longer works: what enabling it again would give back.
pub(super) fn disable_agent(context: &Context, id: u64) -> Result<Exit, CliError> {
    let done = context.done(&AdminRequest::Set(switched_agent(id, false)))?;
    let record = done.record.as_ref().ok_or(CliError::OtherReply)?;
    let told = ask(context, WhatIf::Set(switched_agent(id, true))).map(backwards);
    if context.json {
        let effects = told.as_ref().ok().map(EffectsForm::new);
        print_json(&DisabledForm { record: RecordForm::new(record, None), effects })?;
    } else {
        let effects = match &told {
            Ok(told) if told.affected == 0 => format!("no credential loses an endpoint\n{}", notes_text(told)),
            Ok(told) => format!("what no longer works:\n{}{}", effects_text(told), notes_text(told)),
            // The change itself was made.
            Err(error) => format!("what no longer works can't be told: {error}\n"),
        };
        print(&format!("{}\n{effects}", records::show(record)))?;
    }
    Ok(Exit::Done)
}

/// The consequences of undoing a change, as those of the change.
fn backwards(mut told: Consequences) -> Consequences {
    for effect in &mut told.effects {
        swap(&mut effect.gained, &mut effect.lost);
        swap(&mut effect.gained_total, &mut effect.lost_total);
    }
    told
}

fn dry_run_text(told: &Consequences) -> String {
    let mut text = String::new();
    told.changed.iter().for_each(|change| line(&mut text, &records::changed(change)));
    told.removed.iter().for_each(|record| line(&mut text, &format!("- {}", records::name(record))));
    text.push_str(&effects_text(told));
    text.push_str(&notes_text(told));
    let Consequences { compared, affected, .. } = told;
    let counts = if told.changed.is_empty() && told.removed.is_empty() {
        "it is so already".to_owned()
    } else {
        format!("of {} compared, {affected} would gain or lose endpoints", credentials(*compared))
    };
    line(&mut text, &format!("dry run, nothing was changed: {counts}"));
    text
}

fn line(text: &mut String, words: &str) {
    text.push_str(&escape(words));
    text.push('\n');
}

fn credentials(count: u64) -> String {
    if count == 1 { "1 credential".to_owned() } else { format!("{count} credentials") }
}

fn effects_text(told: &Consequences) -> String {
    let mut text = String::new();
    for effect in &told.effects {
        line(&mut text, &format!("{}: {} gained, {} lost", who(effect), effect.gained_total, effect.lost_total));
        endpoints(&mut text, '+', &effect.gained, effect.gained_total);
        endpoints(&mut text, '-', &effect.lost, effect.lost_total);
    }
    let listed: u64 = told.effects.iter().map(|effect| effect.credentials_total).sum();
    match told.effects_total.saturating_sub(told.effects.len() as u64) {
        0 => {}
        more => {
            let others = credentials(told.affected.saturating_sub(listed));
            line(&mut text, &format!("and {others} more, which gain or lose in {more} other ways"));
        }
    }
    text
}

/// `key 3, key 5 and 12 more`
fn who(effect: &Effect) -> String {
    let names: Vec<String> = effect.credentials.iter().take(NAMES_SHOWN_MAX).map(records::name).collect();
    let mut who = names.join(", ");
    let more = effect.credentials_total.saturating_sub(names.len() as u64);
    if more > 0 {
        write!(who, " and {more} more").expect("a String takes any text");
    }
    who
}

fn endpoints(text: &mut String, sign: char, listed: &[Selector], total: u64) {
    listed.iter().for_each(|endpoint| line(text, &format!("  {sign} {}", bare_name(endpoint))));
    let more = total.saturating_sub(listed.len() as u64);
    if more > 0 {
        line(text, &format!("  {sign} and {more} more"));
    }
}

/// `key 3`, `GET /path`.
fn bare_name(selector: &Selector) -> String {
    match selector {
        Selector::Agent(_) | Selector::Credential(..) => records::name(selector),
        Selector::Endpoint { method, path } => format!("{method} {path}"),
    }
}

fn notes_text(told: &Consequences) -> String {
    let mut text = String::new();
    told.notes.iter().for_each(|note| line(&mut text, &format!("note: {note}")));
    if told.not_compared > 0 {
        let words =
            format!("note: {} more were not compared: too many tag sets differ", credentials(told.not_compared));
        line(&mut text, &words);
    }
    text
}

#[derive(Serialize)]
struct DryRunForm<'a> {
    dry_run: bool,
    changed: Vec<ChangeForm<'a>>,
    removed: Vec<ReferenceForm<'a>>,
    #[serde(flatten)]
    effects: EffectsForm<'a>,
}

impl<'a> DryRunForm<'a> {
    fn new(told: &'a Consequences) -> Self {
        Self {
            dry_run: true,
            changed: told.changed.iter().map(ChangeForm::new).collect(),
            removed: told.removed.iter().map(ReferenceForm::new).collect(),
            effects: EffectsForm::new(told),
        }
    }
}

/// The record as `show` prints it, and what no longer works, unless that can't be told.
#[derive(Serialize)]
struct DisabledForm<'a> {
    #[serde(flatten)]
    record: RecordForm<'a>,
    #[serde(flatten)]
    effects: Option<EffectsForm<'a>>,
}

#[derive(Serialize)]
struct EffectsForm<'a> {
    effects: Vec<EffectForm>,
    effects_total: u64,
    compared: u64,
    not_compared: u64,
    affected: u64,
    notes: &'a [String],
}

impl<'a> EffectsForm<'a> {
    fn new(told: &'a Consequences) -> Self {
        Self {
            effects: told.effects.iter().map(EffectForm::new).collect(),
            effects_total: told.effects_total,
            compared: told.compared,
            not_compared: told.not_compared,
            affected: told.affected,
            notes: &told.notes,
        }
    }
}

#[derive(Serialize)]
struct EffectForm {
    credentials: Vec<String>,
    credentials_total: u64,
    gained: Vec<String>,
    gained_total: u64,
    lost: Vec<String>,
    lost_total: u64,
}

impl EffectForm {
    fn new(effect: &Effect) -> Self {
        let names = |selectors: &[Selector]| selectors.iter().map(bare_name).collect();
        Self {
            credentials: names(&effect.credentials),
            credentials_total: effect.credentials_total,
            gained: names(&effect.gained),
            gained_total: effect.gained_total,
            lost: names(&effect.lost),
            lost_total: effect.lost_total,
        }
    }
}
