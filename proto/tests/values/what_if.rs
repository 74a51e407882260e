use keyward_proto::admin::{
    AdminReply, AdminRequest, AgentPatch, Consequences, Effect, FieldChange, FieldValue, Patch, Selector, SetText,
    WhatIf,
};
use keyward_proto::query::Mode;

use super::{Message, Vector, strings, vector};

fn endpoint(method: &str, path: &str) -> Selector {
    Selector::Endpoint { method: method.to_owned(), path: path.to_owned() }
}

pub(crate) fn requests() -> Vec<Vector> {
    let permissions = Some(SetText::Text("tickets.*".to_owned()));
    let patch = AgentPatch { id: Some(4), permissions, ..AgentPatch::default() };
    vec![
        vector(
            "what_if_set",
            "Agent 4 with permissions 'tickets.*'.",
            Message::Admin(AdminRequest::WhatIf(WhatIf::Set(Patch::Agent(patch)))),
        ),
        vector(
            "what_if_remove",
            "Key 3 revoked.",
            Message::Admin(AdminRequest::WhatIf(WhatIf::Remove(Selector::Credential(Mode::Key, 3)))),
        ),
    ]
}

pub(crate) fn replies() -> Vec<Vector> {
    let consequences = Consequences {
        changed: vec![FieldChange {
            record: Selector::Agent(4),
            field: "permissions".to_owned(),
            from: FieldValue::Text("*".to_owned()),
            to: FieldValue::Text("tickets.*".to_owned()),
        }],
        removed: vec![Selector::Agent(5)],
        compared: 5,
        not_compared: 1,
        affected: 4,
        effects: vec![Effect {
            credentials: vec![Selector::Credential(Mode::Key, 3), Selector::Credential(Mode::Session, 7)],
            credentials_total: 3,
            gained: vec![endpoint("GET", "/api/v2/tickets")],
            gained_total: 1,
            lost: vec![endpoint("GET", "/api/v2/people"), endpoint("POST", "/api/v2/people")],
            lost_total: 6,
        }],
        effects_total: 2,
        notes: strings(&["addresses are not compared"]),
    };
    vec![
        vector(
            "consequences",
            "Of agent 4: permissions '*' to 'tickets.*'; removed agent 5; 5 compared, 1 not, 4 affected; key 3 and session \
             7 of 3 credentials gain GET /api/v2/tickets, all 1, and lose GET and POST /api/v2/people of 6; 2 effects; \
             one note 'addresses are not compared'. (A real reply is of one change.)",
            Message::AdminReply(AdminReply::Consequences(consequences)),
        ),
        vector(
            "consequences_none",
            "Nothing would change.",
            Message::AdminReply(AdminReply::Consequences(Consequences::default())),
        ),
    ]
}
