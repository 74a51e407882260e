//! What a change would come to: planned by the writer, compared on a thread that nobody else waits for.

use std::sync::Arc;

use keyward_proto::admin::{AdminReply, Consequences, Effect as WireEffect, Refused, Selector, WhatIf as WireWhatIf};

use super::{convert, invalid, refused, unavailable};
use crate::registry::{Comparison, Difference, Effect, Order, Origin, Outcome, Registry, WhatIf};

/// Answers without changing anything.
pub(super) async fn answer(
    registry: &Arc<Registry>,
    origin: Origin,
    what_if: WireWhatIf,
) -> Result<AdminReply, Refused> {
    let what_if = match what_if {
        WireWhatIf::Set(patch) => WhatIf::Set(convert::edit(patch, &mut convert::Sets::default()).map_err(invalid)?),
        WireWhatIf::Remove(selector) => WhatIf::Remove(convert::record_name(&selector).map_err(invalid)?),
    };
    let mut outcome = registry.order(Order::WhatIf(what_if), origin).await.map_err(|refusal| refused(refusal, &[]))?;
    let Some(preview) = outcome.preview.take() else {
        return Err(unavailable("the writer planned the change and made no preview of it".to_string()));
    };
    let now = registry.view().now();
    let compared = tokio::task::spawn_blocking(move || preview.compare(now)).await;
    let comparison = compared
        .map_err(|_| unavailable("comparing ended with a panic".to_string()))?
        .map_err(|refusal| refused(refusal, &[]))?;
    Ok(AdminReply::Consequences(consequences(outcome, comparison)))
}

fn consequences(outcome: Outcome, comparison: Comparison) -> Consequences {
    Consequences {
        changed: outcome.changed.into_iter().map(convert::field_change).collect(),
        removed: outcome.removed.iter().map(convert::selector).collect(),
        compared: comparison.compared,
        not_compared: comparison.not_compared,
        affected: comparison.affected,
        effects: comparison.effects.into_iter().map(effect).collect(),
        effects_total: comparison.effects_total,
        notes: comparison.notes,
    }
}

fn effect(effect: Effect) -> WireEffect {
    let credentials = effect.credentials.into_iter();
    WireEffect {
        credentials: credentials.map(|(mode, id)| Selector::Credential(convert::mode_to_wire(mode), id)).collect(),
        credentials_total: effect.credentials_total,
        gained_total: effect.gained.total,
        gained: endpoints(effect.gained),
        lost_total: effect.lost.total,
        lost: endpoints(effect.lost),
    }
}

fn endpoints(difference: Difference) -> Vec<Selector> {
    difference.listed.into_iter().map(|(method, path)| Selector::Endpoint { method, path }).collect()
}
